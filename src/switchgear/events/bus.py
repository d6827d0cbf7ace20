"""The bus of one service: what it publishes and what it reacts to.

    bus = Bus(broker, database, source="orders")

    @bus.on(PaymentTaken, name="mark-paid", on_failure="park_key")
    async def mark_paid(event: PaymentTaken, tx: HandlerTransaction) -> None: ...

    async with database.transaction() as tx:
        await tx.execute(...)
        await bus.publish(tx, OrderPlaced(order_id=...))   # the same commit

Source and name together are the consumer's identity: the group on the broker and the owner of the
rows in the inbox. Several events of one topic under one name share the group, and so their order.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeVar

from switchgear.contract.message import Message
from switchgear.database.port import Database, Transaction
from switchgear.events.brokers.port import Broker

__all__ = ["Bus", "Health", "SubscriptionHealth"]

M = TypeVar("M", bound=Message)
OnFailure = Literal["block_key", "park_key", "skip"]
# (event) or (event, tx); Any: the transaction's type is what `wrap` returns
Handler = Callable[..., Awaitable[None]]


@dataclass(frozen=True, slots=True)
class SubscriptionHealth:
    """One subscription."""

    lag: int
    """Events published and not yet done; those parked are not counted."""
    oldest: float | None
    """Age in seconds of the oldest of them; None if there is none."""
    parked: int
    """Events that wait for a person."""
    parked_keys: int
    blocked_keys: int
    """Keys of this process whose first event is being retried."""
    stuck: float | None
    """Seconds since the longest-running handler began; None if none runs."""


@dataclass(frozen=True, slots=True)
class Health:
    """What `Bus.health` reports."""

    subscriptions: Mapping[str, SubscriptionHealth] = field(default_factory=dict)
    unpublished: int = 0
    """Events in the outbox."""
    unpublished_age: float | None = None
    """Age in seconds of the oldest of them."""
    error: str | None = None
    """Why the relay cannot publish, while it cannot."""


class Bus:
    """Publishing and subscribing for one service, on one broker and one database."""

    # filled in by the commits that follow; the signatures stay

    def __init__(
        self,
        broker: Broker,
        database: Database,
        source: str,
        *,
        wrap: Callable[[Any], Any] | None = None,
    ) -> None: ...

    async def publish(self, tx: object, *events: Message, deadline: datetime | None = None) -> None:
        """Put events into the outbox, in the transaction `tx` (ours or the team's own)."""

    def publish_sync(
        self, connection: object, *events: Message, deadline: datetime | None = None
    ) -> None:
        """Do what `publish` does on a sqlite3 connection or a synchronous SQLAlchemy Session."""

    def prepare(self, event: Message, *, deadline: datetime | None = None) -> Any:
        """Validate and encode an event now, for a `flush` later in the same transaction."""

    async def flush(self, tx: Transaction, rows: Any) -> None:
        """Write what was prepared, in order, and wake the relay when `tx` has committed."""

    def on(
        self,
        event: type[M],
        *,
        name: str,
        on_failure: OnFailure,
        handler: Handler | None = None,
        attempts: int = 5,
        concurrency: int = 16,
    ) -> Any:
        """React to `event`; without `handler` it is a decorator."""

    async def start(self) -> None:
        """Create the library's tables, then start the relay and every subscription."""

    async def stop(self, within: float = 10.0) -> None:
        """Finish what runs, publish what is in the outbox, give leases back; at most `within` s."""

    async def health(self) -> Health:
        """Report lag, parked events and the outbox."""
        return Health()
