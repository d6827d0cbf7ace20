"""The store of one consumer: the queues that its lanes move to its database, and work off.

It writes the table that `switchgear.events.parked` shows to people.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from switchgear.database.port import Reader, Row, Transaction
from switchgear.events.brokers.port import Partition
from switchgear.events.inbox import Inbox
from switchgear.events.incoming import Incoming
from switchgear.events.lane import Cause, State
from switchgear.events.sql import marks, now, write_many

__all__ = ["Head", "Store"]

_INSERT: Final = (
    "INSERT INTO switchgear_parked (consumer, topic, part, lane, key, event, type, headers, data, "
    "cause, state, attempts, error, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, {now}) "
    "ON CONFLICT (consumer, event) DO NOTHING"
)
_LANE: Final = "consumer = ? AND topic = ? AND part = ? AND lane = ?"
_HEADERS: Final = msgspec.json.Decoder(dict[str, str])


class Head(NamedTuple):
    """An event of a queue, and whether it waits for a person."""

    id: int
    held: bool
    event: Incoming


class Store:
    """The queues of one consumer. All of it runs in a transaction of the caller's."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._consumer = inbox.consumer

    async def append(
        self,
        tx: Transaction,
        lane: str,
        events: Sequence[Incoming],
        *,
        cause: Cause,
        hold: bool,
        attempts: int,
        error: str,
    ) -> None:
        """Put events at the end of a queue, in order; `cause` and what follows is of the first.

        An event that was handled, or is parked already, is left out: it was delivered again. What
        comes behind others shares their fate: it is ready if they were released meanwhile.
        """
        seen = await self._inbox.seen(tx, [event.identity for event in events])
        if cause is Cause.BEHIND:
            hold = await self._ends_held(tx, events[0].partition, lane)
        state = "held" if hold else "ready"
        rows = [
            (
                self._consumer,
                event.partition.topic,
                event.partition.number,
                lane,
                event.key,
                event.identity,
                event.type,
                msgspec.json.encode(event.headers),
                event.value,
                (cause if first else Cause.BEHIND).value,
                state,
                attempts if first else 0,
                error if first else "",
            )
            for first, event in zip([True] + [False] * len(events), events, strict=False)
            if event.identity not in seen
        ]
        await write_many(tx, _INSERT.format(now=now(tx.dialect)), rows)

    async def lanes(
        self, tx: Reader, topics: Sequence[str], parts: Sequence[int] | None = None
    ) -> dict[Partition, dict[str, State]]:
        """Return every queue by partition and lane, and whether it waits for a person.

        With `parts`, only those of partitions with these numbers.
        """
        among = "" if parts is None else f" AND part IN ({marks(len(parts))})"
        rows = await tx.run(
            "SELECT topic, part, lane, state FROM switchgear_parked WHERE id IN ("  # noqa: S608  marks
            "SELECT min(id) FROM switchgear_parked "
            f"WHERE consumer = ? AND topic IN ({marks(len(topics))}){among} "
            "GROUP BY topic, part, lane)",
            self._consumer,
            *topics,
            *(parts or ()),
        )
        found: dict[Partition, dict[str, State]] = {}
        for topic, number, lane, state in rows:
            lanes = found.setdefault(Partition(topic, number), {})
            lanes[lane] = State.HELD if state == "held" else State.DRAINING
        return found

    async def ready(
        self, tx: Reader, topics: Sequence[str], limit: int
    ) -> list[tuple[Partition, str]]:
        """Return partition and lane of queues that wait for no person, at most `limit`."""
        rows = await tx.run(
            "SELECT DISTINCT topic, part, lane FROM switchgear_parked "  # noqa: S608  marks
            f"WHERE consumer = ? AND state = 'ready' AND topic IN ({marks(len(topics))}) LIMIT ?",
            self._consumer,
            *topics,
            limit,
        )
        return [(Partition(topic, number), lane) for topic, number, lane in rows]

    async def acts(self, tx: Reader) -> int:
        """Return a number that grows with everything that people do to parked events."""
        rows = await tx.run("SELECT coalesce(max(id), 0) FROM switchgear_parked_audit")
        number: int = rows[0][0]
        return number

    async def heads(self, tx: Reader, partition: Partition, lane: str, limit: int) -> list[Head]:
        """Return the first events of a queue, in order."""
        rows = await tx.run(
            "SELECT id, state, key, event, type, headers, data FROM switchgear_parked "  # noqa: S608  constant
            f"WHERE {_LANE} ORDER BY id LIMIT ?",
            *self._place(partition, lane),
            limit,
        )
        return [_head(row, partition, lane) for row in rows]

    async def remove(self, tx: Transaction, head: Head) -> bool:
        """Take the first event off: it was handled. Tell whether it was still there."""
        rows = await tx.run(
            # by its identity too: a person may have put another in its place
            "DELETE FROM switchgear_parked WHERE id = ? AND event = ? RETURNING id",
            head.id,
            head.event.identity,
        )
        return bool(rows)

    async def failed(self, tx: Transaction, head: Head, error: str) -> None:
        """Take note of another failure of the first event."""
        await tx.run(
            "UPDATE switchgear_parked SET attempts = attempts + 1, error = ? "
            "WHERE id = ? AND event = ?",
            error,
            head.id,
            head.event.identity,
        )

    async def hold(
        self, tx: Transaction, partition: Partition, lane: str, cause: Cause
    ) -> Incoming | None:
        """Let a queue wait for a person, because of its first event, which is returned."""
        heads = await self.heads(tx, partition, lane, 1)
        if not heads:
            return None
        place = self._place(partition, lane)
        await tx.run(f"UPDATE switchgear_parked SET state = 'held' WHERE {_LANE}", *place)  # noqa: S608  constant
        await tx.run(
            "UPDATE switchgear_parked SET cause = ? WHERE id = ?", cause.value, heads[0].id
        )
        return heads[0].event

    async def _ends_held(self, tx: Transaction, partition: Partition, lane: str) -> bool:
        rows = await tx.run(
            f"SELECT state FROM switchgear_parked WHERE {_LANE} ORDER BY id DESC LIMIT 1",  # noqa: S608  constant
            *self._place(partition, lane),
        )
        return bool(rows) and rows[0][0] == "held"

    def _place(self, partition: Partition, lane: str) -> tuple[str, str, int, str]:
        return (self._consumer, partition.topic, partition.number, lane)


def _head(row: Row, partition: Partition, lane: str) -> Head:
    number, state, key, event, kind, headers, data = row
    found = Incoming(partition, key, event, kind, _HEADERS.decode(headers), bytes(data), lane)
    return Head(number, state == "held", found)
