"""Where the traces of a chain of events are, after the fact.

| place                      | holds                                       | for how long          |
| -------------------------- | ------------------------------------------- | --------------------- |
| the broker's log           | every event, with correlation and causation | the broker's bound    |
| a service's outbox         | events that are not published yet           | until they are        |
| a service's parked events  | events that wait, whole                     | until handled         |
| the audit of parked events | what people did with them, whole            | for ever              |
| a service's inbox          | which subscription has handled which event  | longer than the log   |

A log is searched by reading all of it: there is no index by correlation, which every publish would
pay for. An adapter that can be searched has `search`. Where it has not, because a queue gives up
what it shows, only what the databases hold is found: of an event that was handled that is a row of
an inbox, by its source and id.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol, runtime_checkable

import msgspec

from switchgear.database.port import Database, Dialect, Reader, Row
from switchgear.errors import InvalidMessage
from switchgear.events.brokers.port import Delivery
from switchgear.events.envelope import Envelope
from switchgear.events.sql import marks
from switchgear.events.structured import unpacked
from switchgear.events.timeline import Heard, State, Told

__all__ = ["MOST", "Found", "Searchable", "in_database", "in_log", "received"]

MOST: Final = 10_000
"""Records of one search."""
_HOLDS: Final[dict[Dialect, str]] = {
    "sqlite": "(instr(headers, ?) > 0 OR instr(data, ?) > 0)",
    "postgres": "(position(? in headers) > 0 OR position(? in data) > 0)",
}
_HEADERS: Final = msgspec.json.Decoder(dict[str, str])
_STATES: Final[Mapping[str, State]] = {"failed": "parked", "poison": "parked", "behind": "behind"}
_CHUNK: Final = 200


@runtime_checkable
class Searchable(Protocol):
    """A broker whose log can be read after the fact, by nobody's group."""

    async def search(self, text: bytes, topics: Sequence[str], limit: int) -> Sequence[Delivery]:
        """Return records with `text` in their headers or value, at most `limit`.

        Of `topics`, or of all that there are. Reads all that is kept. Raises `BrokerUnavailable`.
        """
        ...


class Found(NamedTuple):
    """What a database holds about a correlation."""

    told: list[Told]
    heard: list[Heard]


async def in_log(broker: Searchable, text: str, topics: Sequence[str]) -> list[Told]:
    """Return the events of the broker's log that have `text` as their correlation or id."""
    deliveries = await broker.search(text.encode(), topics, MOST)
    return _about(text, (_told(one.headers, one.value, one.partition.topic) for one in deliveries))


async def in_database(database: Database, text: str, tables: Collection[str]) -> Found:
    """Return what a service's database holds of `text`, its correlation or an event's id.

    `tables` are those of the library that the database has.
    """
    told: list[Told | None] = []
    heard: list[Heard] = []
    async with database.reading() as tx:
        if "switchgear_outbox" in tables:
            for headers, data, topic in await _holding(tx, "headers, data, topic", "outbox", text):
                told.append(_told(_headers(headers), bytes(data), topic, published=False))
        if "switchgear_parked" in tables:
            columns = "headers, data, topic, consumer, event, cause, state, attempts, error, at"
            for row in await _holding(tx, columns, "parked", text):
                told.append(_told(_headers(row[0]), bytes(row[1]), row[2]))
                heard.append(_waiting(row))
            columns = "headers, data, consumer, event, action, actor, reason, at"
            for row in await _holding(tx, columns, "parked_audit", text):
                told.append(_told(_headers(row[0]), bytes(row[1]), ""))
                heard += _acted(row)
    return Found(_about(text, told), heard)


async def received(database: Database, events: Sequence[str]) -> list[Heard]:
    """Return which subscriptions have handled which of `events`."""
    found: list[Heard] = []
    async with database.reading() as tx:
        for start in range(0, len(events), _CHUNK):
            chunk = events[start : start + _CHUNK]
            rows = await tx.run(
                "SELECT consumer, event, at FROM switchgear_inbox "  # noqa: S608  marks
                f"WHERE event IN ({marks(len(chunk))})",
                *chunk,
            )
            found += [Heard(consumer, event, "done", at) for consumer, event, at in rows]
    return found


async def _holding(tx: Reader, columns: str, table: str, text: str) -> list[Row]:
    return await tx.run(
        f"SELECT {columns} FROM switchgear_{table} WHERE {_HOLDS[tx.dialect]} "  # noqa: S608  constants
        "ORDER BY id LIMIT ?",
        text.encode(),
        text.encode(),
        MOST,
    )


def _waiting(row: Row) -> Heard:
    _, _, _, consumer, event, cause, state, attempts, error, at = row
    tried = f" (tried {attempts} times)" if attempts else ""
    found = _STATES.get(cause, "retrying") if state == "held" else "retrying"
    return Heard(consumer, event, found, at, f"{error}{tried}".strip())


def _acted(row: Row) -> Iterable[Heard]:
    _, _, consumer, event, action, actor, reason, at = row
    states: Mapping[str, State] = {"discard": "discarded", "edit": "replaced"}
    if action in states:
        yield Heard(consumer, event, states[action], at, f"by {actor}: {reason}")


def _told(
    headers: Mapping[str, str], data: bytes, topic: str, *, published: bool = True
) -> Told | None:
    """Read an event; None for what is none."""
    headers, data = unpacked(headers, data)
    try:
        one = Envelope.from_headers(headers, data, topic=topic)
    except InvalidMessage:
        return None
    return Told(
        f"{one.source}/{one.id}",
        one.id,
        one.type,
        one.source,
        one.partition_key,
        one.time,
        one.correlation or one.id,
        one.causation,
        published,
        headers.get("ce-replaces"),
    )


def _about(text: str, told: Iterable[Told | None]) -> list[Told]:
    """Keep the events that `text` is about, and not those that only mention it."""
    return [one for one in told if one and text in (one.correlation, one.id, one.identity)]


def _headers(data: bytes) -> Mapping[str, str]:
    try:
        return _HEADERS.decode(data)
    except msgspec.DecodeError:
        return {}
