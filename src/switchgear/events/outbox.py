"""The outbox: an event is a row in the producer's own transaction, and is published afterwards.

Either both the producer's writes and its events are committed, or neither. `Relay` (in
`switchgear.events.relay`) publishes what is committed and then deletes it.

Order per key is the order of the commits as far as one commit happened before the other. To keep
it between transactions that run at the same time, publish after the write that the event is about:
the row lock of that write then puts both the writes and the events in one order. `write` just
before the commit, which is how `tx.publish` of a service works, always has that property.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias, get_args, runtime_checkable

import msgspec

from switchgear.contract.codec import from_json, from_proto, to_json, to_proto
from switchgear.contract.event import EventContract, event_of, key_of
from switchgear.contract.message import Message
from switchgear.database.joined import joined, joined_sync
from switchgear.database.port import Database, Transaction
from switchgear.errors import BrokerError, DatabaseError, EventDeclarationError, InvalidMessage
from switchgear.events.brokers.port import RecordTooLarge
from switchgear.events.envelope import JSON, PROTOBUF, Envelope, Ids
from switchgear.events.shares import HOLDS
from switchgear.events.shares import STEP as SHARES
from switchgear.events.sql import write_many
from switchgear.events.structured import packed
from switchgear.model.context import Emits, current, trace_of

__all__ = [
    "STEPS",
    "Buffers",
    "InvalidEvent",
    "Mode",
    "Outbox",
    "Prepared",
    "UndeclaredEvent",
]

Mode: TypeAlias = Literal["binary", "structured"]

STEPS: Final = (
    """
    CREATE TABLE switchgear_outbox (
        id {serial}, topic TEXT NOT NULL, key TEXT, event TEXT NOT NULL, headers {blob} NOT NULL,
        data {blob} NOT NULL, created {real} NOT NULL);
    CREATE TABLE switchgear_relay (
        name TEXT PRIMARY KEY, holder TEXT NOT NULL, generation BIGINT NOT NULL,
        expires {real} NOT NULL);
    """,
    SHARES,
    HOLDS,
)
"""The outbox's tables; `Database.migrate("outbox", STEPS)` creates them."""

_INSERT: Final = (
    "INSERT INTO switchgear_outbox (topic, key, event, headers, data, created) "
    "VALUES (?, ?, ?, ?, ?, ?)"
)


class InvalidEvent(BrokerError):
    """An event cannot be published: its key is empty, or a value is not of the declared type.

    The character NUL in a key or another attribute is refused whatever the broker, because
    PostgreSQL takes none in a text: a row that no broker takes would hold up the whole outbox.
    """

    code = "SG605"


class UndeclaredEvent(BrokerError):
    """A handler or a service publishes an event that its declaration does not name."""

    code = "SG620"


class Prepared(NamedTuple):
    """An event, validated and encoded, as the row that `Outbox.write` inserts."""

    topic: str
    key: str | None
    event: str
    """The event's id."""
    headers: bytes
    data: bytes
    created: float


@runtime_checkable
class Hooked(Protocol):
    """A transaction that tells when it has been committed."""

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call `callback` once it has been committed, and never if it is not."""


@runtime_checkable
class Buffers(Protocol):
    """A transaction that keeps what is published until just before its commit."""

    def buffer(self, rows: Sequence[Prepared]) -> None:
        """Add rows to what `Outbox.write` will be given."""


class Outbox:
    """Writes events of one `source` (the service's name) into transactions.

    `format` is the encoding of the data. `mode` is that of CloudEvents: `binary` puts the
    attributes into headers, `structured` the whole event into one JSON document. `max_bytes`
    refuses a larger event at the call, and so does `room`, which says what a topic takes of an
    event with a key, where that is known; a `Bus` sets both to what its broker takes. `publishes`
    are the types of events that may be published outside of handlers of events; None: any.
    """

    def __init__(
        self,
        source: str,
        *,
        format: Literal["json", "protobuf"] = "json",  # noqa: A002  the word that users expect
        mode: Mode = "binary",
        max_bytes: int | None = None,
        room: Callable[[str, str | None], int | None] | None = None,
        publishes: frozenset[str] | None = None,
        ids: Callable[[], str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.source = source
        if mode not in get_args(Mode):
            raise EventDeclarationError(
                f"the mode of CloudEvents is {mode!r}.", fix="Choose binary or structured."
            )
        if format not in {"json", "protobuf"}:
            raise EventDeclarationError(
                f"the format of events is {format!r}.", fix="Choose json or protobuf."
            )
        self._binary = format == "protobuf"
        self._structured = mode == "structured"
        self._max_bytes = max_bytes
        self._room = room
        self._publishes = None if publishes is None else Emits(source, publishes)
        self._ids = ids or Ids(time.time_ns, random.SystemRandom().getrandbits)
        self._clock = clock
        self._wakes: list[Callable[[], None]] = []

    async def migrate(self, database: Database) -> None:
        """Create the outbox's tables in `database`, or bring them up to date."""
        await database.migrate("outbox", STEPS)

    def prepare(self, event: Message, *, deadline: datetime | None = None) -> Prepared:
        """Validate and encode `event` now, with the context of the work in progress.

        Events carry on the trace and the correlation; the id of the event or request being handled
        becomes their causation. A deadline is carried only if it is given here: a request's second
        does not bound what others do with the news. Raises `InvalidEvent`, `RecordTooLarge`, and
        `UndeclaredEvent` for what the handler at work, or the service, does not say it publishes.
        """
        contract = event_of(event)
        context = current()
        emits = context.emits or self._publishes
        if emits is not None and emits.types is not None and contract.type not in emits.types:
            raise _undeclared(contract, emits, in_handler=context.emits is not None)
        key = key_of(event)
        if contract.key is not None and getattr(event, contract.key) in {None, ""}:
            raise InvalidEvent(
                f"the key {contract.key} of this event is empty, so it has no place in any order.",
                where=contract.type,
                fix=f"Give {contract.key} a value.",
            )
        if deadline is not None and deadline.tzinfo is None:
            raise InvalidEvent(
                "the deadline has no time zone.", where=contract.type, fix="Use an aware datetime."
            )
        now = self._clock()
        identity = self._ids()
        traceparent, tracestate = trace_of(context)
        envelope = Envelope(
            id=identity,
            type=contract.type,
            source=self.source,
            topic=contract.topic,
            data=self._encode(event, contract.type),
            time=now,
            subject=key,
            partition_key=key,
            datacontenttype=PROTOBUF if self._binary else JSON,
            traceparent=traceparent,
            tracestate=tracestate,
            correlation=context.correlation or identity,
            causation=context.causation,
            deadline=deadline.timestamp() if deadline is not None else None,
        )
        found, data = envelope.headers(), envelope.data
        if wrong := [name for name, value in found.items() if "\0" in value]:
            has = f"key {contract.key}" if key and "\0" in key else f"attribute {wrong[0]}"
            raise InvalidEvent(
                f"the {has} of this event has the character NUL, which PostgreSQL does not take.",
                where=contract.type,
                fix="Use a value without it.",
            )
        if self._structured:
            found, data = packed(found, data)
        headers = msgspec.json.encode(found)
        size, most = len(headers) + len(data), self._most(contract.topic, key)
        if most is not None and size > most:
            raise RecordTooLarge(contract.topic, size, most)
        return Prepared(contract.topic, key, identity, headers, data, now)

    async def publish(
        self, connection: object, *events: Message, deadline: datetime | None = None
    ) -> None:
        """Put `events` into the transaction that is open on `connection`, in order.

        Takes a `Transaction` of ours, a connection of asyncpg, psycopg or aiosqlite, SQLAlchemy's
        AsyncSession or AsyncConnection, and what `publish_sync` takes. Nothing is published unless
        that transaction commits.
        """
        rows = [self.prepare(event, deadline=deadline) for event in events]
        if isinstance(connection, Buffers):
            connection.buffer(rows)
        elif joined_sync(connection) is not None:
            self._write_sync(connection, rows)
        else:
            await self.write(joined(connection), rows)

    def publish_sync(
        self, connection: object, *events: Message, deadline: datetime | None = None
    ) -> None:
        """Do what `publish` does, at once, with a driver that does not await.

        Takes a connection of sqlite3 or psycopg, a Session or Connection of SQLAlchemy, and
        Django's `connection` inside `transaction.atomic`.

        Raises `DatabaseError` for a connection that has to be awaited.
        """
        self._write_sync(connection, [self.prepare(event, deadline=deadline) for event in events])

    async def write(self, tx: Transaction, rows: Sequence[Prepared]) -> None:
        """Write what was prepared, in order; once `tx` has committed, the relay is woken."""
        if not rows:
            return
        await write_many(tx, _INSERT, rows)
        tx.after_commit(self.wake)

    def on_commit(self, wake: Callable[[], None]) -> None:
        """Call `wake` after each commit with events that this process is told of; any thread."""
        self._wakes.append(wake)

    def wake(self) -> None:
        """Tell that a transaction with events has committed. Polling notices it otherwise."""
        for wake in self._wakes:
            wake()

    def _most(self, topic: str, key: str | None) -> int | None:
        """Return how many bytes an event may have."""
        room = None if self._room is None else self._room(topic, key)
        return min((one for one in (self._max_bytes, room) if one is not None), default=None)

    def _encode(self, event: Message, where: str) -> bytes:
        # a constructor trusts its arguments, so what would not be readable is found by reading it
        try:
            if self._binary:
                data = to_proto(event)
                from_proto(type(event), data)
            else:
                data = to_json(event)
                from_json(type(event), data, open_names=True)
        except InvalidMessage as error:
            at = f" at {error.pointer}" if error.pointer else ""
            raise InvalidEvent(
                f"a value{at} is not of the declared type: {error.what}", where=where
            ) from error
        return data

    def _write_sync(self, connection: object, rows: Sequence[Prepared]) -> None:
        tx = joined_sync(connection)
        if tx is None:
            raise DatabaseError(
                f"{type(connection).__qualname__} cannot be used without awaiting.",
                fix="Use `await outbox.publish(...)`.",
            )
        for row in rows:
            tx.run(_INSERT, *row)
        if rows and isinstance(tx, Hooked):
            tx.after_commit(self.wake)


def _undeclared(contract: EventContract, emits: Emits, *, in_handler: bool) -> UndeclaredEvent:
    declared = ", ".join(sorted(emits.types or ())) or "nothing"
    name = contract.message.__name__
    return UndeclaredEvent(
        f"it publishes {contract.type}, and says that it publishes {declared}.",
        where=emits.by,
        fix=f"Add {name} to its emits=[...], or do not publish it there."
        if in_handler
        else f"Add it: app.publishes({name}).",
    )
