"""The bus of one service: what it publishes and what it reacts to.

    bus = Bus(broker, database, source="orders")

    @bus.on(PaymentTaken, name="mark-paid", on_failure="park_key")
    async def mark_paid(event: PaymentTaken, tx: HandlerTransaction) -> None: ...

    await bus.start()
    async with database.transaction() as tx:
        await tx.execute(...)
        await bus.publish(tx, OrderPlaced(order_id=...))   # the same commit

Source and name together are the consumer's identity: the group on the broker and the owner of the
rows in the inbox. Several events of one topic under one name share the group, and so their order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal, TypeVar, overload

from switchgear.contract.event import EventContract, event_of
from switchgear.contract.message import Message
from switchgear.database.port import Database, DatabaseUnavailable, Transaction
from switchgear.errors import EventDeclarationError
from switchgear.events.brokers.port import Broker, BrokerUnavailable
from switchgear.events.consumer import Consumer, Subscribed
from switchgear.events.handling import HandlerTransaction
from switchgear.events.inbox import KEEP, Inbox
from switchgear.events.inbox import STEPS as INBOX
from switchgear.events.lane import OnFailure, Settings
from switchgear.events.outbox import STEPS as OUTBOX
from switchgear.events.outbox import Mode, Outbox, Prepared
from switchgear.events.parked import STEPS as PARKED
from switchgear.events.parked import Parked
from switchgear.events.reaction import Handler, Reaction
from switchgear.events.relay import Relay
from switchgear.model.outcome import Unknown

__all__ = ["Bus", "Health", "SubscriptionHealth"]

_H = TypeVar("_H", bound=Handler)

_CLEAN_EVERY: Final = 60.0
_CLEAN_PAUSE: Final = 0.05


@dataclass(frozen=True, slots=True)
class SubscriptionHealth:
    """One subscription."""

    lag: int
    """Events published and not yet done; those moved to the database are not counted."""
    oldest: float | None
    """Age in seconds of the oldest of them; None if there is none."""
    parked: int
    """Events that wait for a person."""
    parked_keys: int
    blocked_keys: int
    """Keys of this process whose first event is being tried again."""
    stuck: float | None
    """Seconds since the longest-running handler began; None if none runs."""
    error: str | None
    """What keeps it from working, while something does."""
    broken: str | None = None
    """The part of it that nobody expected: a defect, and no reason to send the service work."""


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
    relay_broken: bool = False
    """Whether that is an error that nobody expected."""

    @property
    def broken(self) -> str | None:
        """What fails in a way that nobody expected, in any part; None if nothing does."""
        found = [f"{name}: {one.broken}" for name, one in self.subscriptions.items() if one.broken]
        return "; ".join(found + ([f"relay: {self.error}"] if self.relay_broken else [])) or None


@dataclass(slots=True)
class _Group:
    settings: Subscribed
    reactions: dict[str, Reaction]


class Bus:
    """Publishing and subscribing for one service, on one broker and one database.

    `source` is the service's name. `wrap` makes what handlers are given out of the
    `HandlerTransaction`. `format` encodes what is published, and `mode` is that of CloudEvents, as
    `Outbox` says; both modes are read. `lease` is how many seconds a member of a group, or a
    relay, may be silent before others take over its work. `keep` bounds the inbox; it has to be
    longer than the broker's retention, and is by default. `publishes` are the events that may be
    published outside of its handlers; None: any.
    """

    def __init__(
        self,
        broker: Broker,
        database: Database,
        source: str,
        *,
        wrap: Callable[[HandlerTransaction], Any] | None = None,
        format: Literal["json", "protobuf"] = "json",  # noqa: A002  the word that users expect
        mode: Mode = "binary",
        lease: float = 5.0,
        keep: timedelta | None = None,
        publishes: Sequence[type[Message]] | None = None,
    ) -> None:
        self.source = source
        self.broker = broker
        self.database = database
        self.outbox = Outbox(
            source,
            format=format,
            mode=mode,
            max_bytes=broker.capabilities.max_bytes,
            publishes=None if publishes is None else frozenset(event_of(e).type for e in publishes),
        )
        self.parked = Parked(database)
        self.relay = Relay(database, broker, lease=lease)
        self.outbox.on_commit(self.relay.wake)
        self._wrap = wrap
        self._lease = lease
        self._wanted = keep
        self._keep: float | None = None
        _keep(broker.capabilities.retention, keep)
        self._groups: dict[str, _Group] = {}
        self._consumers: dict[str, Consumer] = {}
        self._janitor: asyncio.Task[None] | None = None
        self._started = False

    async def publish(self, tx: object, *events: Message, deadline: datetime | None = None) -> None:
        """Put events into the outbox, in the transaction that is open on `tx`, in order.

        `tx` is a transaction of ours or the team's own, of any driver that `Outbox.publish` takes.
        """
        await self.outbox.publish(tx, *events, deadline=deadline)

    def publish_sync(
        self, connection: object, *events: Message, deadline: datetime | None = None
    ) -> None:
        """Do what `publish` does with a driver that does not await; see `Outbox.publish_sync`."""
        self.outbox.publish_sync(connection, *events, deadline=deadline)

    def prepare(self, event: Message, *, deadline: datetime | None = None) -> Prepared:
        """Validate and encode an event now, for a `flush` later in the same transaction."""
        return self.outbox.prepare(event, deadline=deadline)

    async def flush(self, tx: Transaction, rows: Sequence[Prepared]) -> None:
        """Write what was prepared, in order, and wake the relay when `tx` has committed."""
        await self.outbox.write(tx, rows)

    @overload
    def on(
        self,
        event: type[Message],
        *,
        name: str,
        on_failure: OnFailure,
        attempts: int = ...,
        backoff: float = ...,
        concurrency: int = ...,
        emits: Sequence[type[Message]] | None = ...,
    ) -> Callable[[_H], _H]: ...
    @overload
    def on(
        self,
        event: type[Message],
        *,
        name: str,
        on_failure: OnFailure,
        handler: _H,
        attempts: int = ...,
        backoff: float = ...,
        concurrency: int = ...,
        emits: Sequence[type[Message]] | None = ...,
    ) -> _H: ...
    def on(
        self,
        event: type[Message],
        *,
        name: str,
        on_failure: OnFailure,
        handler: _H | None = None,
        attempts: int = 8,
        backoff: float = 0.1,
        concurrency: int = 16,
        emits: Sequence[type[Message]] | None = None,
    ) -> _H | Callable[[_H], _H]:
        """React to `event` with `handler(event)` or `handler(event, tx)`; decorates without one.

        A handler that takes `tx` commits with the inbox: its writes take effect once. One that does
        not runs at least once. `on_failure` says what an event does that keeps failing: `block_key`
        tries it again for ever and only its key waits, `park_key` parks it and what follows of its
        key after `attempts`, `skip` parks it alone. `backoff` is the first pause in seconds.
        `emits` are the events that it may publish: another one is refused at the call.
        Raises `EventDeclarationError`.
        """
        contract = event_of(event)
        if self._started:
            raise EventDeclarationError(
                f"{self.source}.{name} is declared after the bus was started.",
                fix="Declare every reaction first, then start.",
            )
        settings = Settings(on_failure, attempts=attempts, backoff=backoff)
        group = _declared(self.source, name, contract, settings, concurrency)

        def register(function: _H) -> _H:
            self._register(group, Reaction.of(contract, function, group.consumer, emits))
            return function

        return register if handler is None else register(handler)

    @property
    def subscriptions(self) -> Mapping[str, Sequence[EventContract]]:
        """What is subscribed to, by the name of the consumer."""
        return {
            name: [reaction.contract for reaction in group.reactions.values()]
            for name, group in self._groups.items()
        }

    async def start(self) -> None:
        """Create the library's tables, then start the relay and every subscription.

        Raises `EventDeclarationError` if the inbox would forget before the broker does.
        """
        self._started = True
        await self.database.migrate("outbox", OUTBOX)
        if self._groups:
            await self.database.migrate("inbox", INBOX)
            await self.database.migrate("parked", PARKED)
            with suppress(BrokerUnavailable):  # away: nothing is forgotten before it has answered
                self._keep = await self._kept()
            self._janitor = asyncio.create_task(self._clean(), name=f"inbox {self.source}")
        await self.relay.start()
        for name, group in self._groups.items():
            self._consumers[name] = Consumer(
                group.settings,
                self.broker,
                self.database,
                group.reactions,
                outbox=self.outbox,
                wrap=self._wrap,
            )
            await self._consumers[name].start()

    async def stop(self, within: float = 10.0) -> None:
        """Finish what runs, publish what is in the outbox, give leases back.

        All of it takes at most `within` seconds; what is not done by then is done by whoever
        starts next. Broker and database stay open. Stopping twice is allowed.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + within
        if self._janitor is not None:
            self._janitor.cancel()
            await asyncio.gather(self._janitor, return_exceptions=True)
            self._janitor = None
        # handlers publish as they finish, so the relay stops after them
        await asyncio.gather(*(one.stop(within) for one in self._consumers.values()))
        self._consumers.clear()
        await self.relay.stop(max(0.0, until - loop.time()))

    async def health(self) -> Health:
        """Report lag, parked events and the outbox.

        Raises `BrokerUnavailable` or `DatabaseUnavailable` if they cannot be asked.
        """
        backlog = await self.relay.backlog()
        subscriptions = {}
        for name, consumer in self._consumers.items():
            lag = await self.broker.lag(name, consumer.settings.topics)
            parked, keys = await self.parked.count(name)
            subscriptions[name] = SubscriptionHealth(
                lag.events,
                lag.oldest,
                parked,
                keys,
                consumer.blocked(),
                consumer.stuck(),
                consumer.error,
                consumer.broken,
            )
        return Health(
            subscriptions,
            backlog.events,
            backlog.oldest,
            self.relay.error,
            relay_broken=self.relay.broken,
        )

    def _register(self, group: Subscribed, reaction: Reaction) -> None:
        contract = reaction.contract
        group = replace(group, lease=self._lease)
        found = self._groups.get(group.consumer)
        if found is None:
            self._groups[group.consumer] = _Group(group, {contract.type: reaction})
            return
        if contract.type in found.reactions:
            raise EventDeclarationError(
                f"{group.consumer} reacts to {contract.type} twice.",
                fix="Give one of the two another name, or do both in one handler.",
            )
        topics = [*found.settings.topics, *group.topics]
        if replace(found.settings, topics=group.topics) != group:
            raise EventDeclarationError(
                f"the reactions of {group.consumer} differ in their settings.",
                fix="They share one subscription: give all of them the same, or another name.",
            )
        found.settings = replace(found.settings, topics=tuple(dict.fromkeys(topics)))
        found.reactions[contract.type] = reaction

    async def _kept(self) -> float:
        """Return for how long the inbox remembers: for longer than the broker keeps the events."""
        topics = {topic for group in self._groups.values() for topic in group.settings.topics}
        return _keep(await self.broker.retention(sorted(topics)), self._wanted)

    async def _learn(self) -> float | None:
        """Ask the broker that was away at the start; None if the inbox must forget nothing."""
        try:
            return await self._kept()
        except EventDeclarationError as error:
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"{self.source}: nothing is deleted from the inbox", "exception": error}
            )
            return None

    async def _clean(self) -> None:
        """Delete inbox rows that are older than any event can be, a few at a time."""
        pause = _CLEAN_EVERY
        while True:
            await asyncio.sleep(pause)
            pause = _CLEAN_EVERY
            with suppress(DatabaseUnavailable, Unknown, BrokerUnavailable):
                if self._keep is None:
                    self._keep = await self._learn()
                if self._keep is None:
                    return
                if await Inbox.clean(self.database, keep=self._keep):
                    pause = _CLEAN_PAUSE


def _declared(
    source: str, name: str, contract: EventContract, settings: Settings, concurrency: int
) -> Subscribed:
    consumer = f"{source}.{name}"
    if not name or any(letter.isspace() or letter == "/" for letter in consumer):
        raise EventDeclarationError(
            f"{consumer!r} cannot name a subscription.",
            fix="Give it a name without spaces and slashes, such as mark-paid.",
        )
    if settings.on_failure not in {"block_key", "park_key", "skip"}:
        raise EventDeclarationError(
            f"on_failure of {consumer} is {settings.on_failure!r}.",
            fix="Choose block_key, park_key or skip; there is no default.",
        )
    if settings.attempts < 1 or settings.backoff <= 0 or concurrency < 1:
        raise EventDeclarationError(
            f"attempts and concurrency of {consumer} are at least 1, and backoff is above 0.",
            fix="Correct the setting.",
        )
    return Subscribed(consumer, (contract.topic,), settings, concurrency)


def _keep(retention: float | None, keep: timedelta | None) -> float:
    retention = retention or 0.0
    if keep is None:
        return max(KEEP, retention + KEEP / 8)
    if keep.total_seconds() <= retention:
        raise EventDeclarationError(
            f"the inbox forgets after {keep}, and the broker keeps events for "
            f"{timedelta(seconds=retention)}: an event that comes again would take effect again.",
            fix="Keep the inbox for longer than the broker keeps events.",
        )
    return keep.total_seconds()
