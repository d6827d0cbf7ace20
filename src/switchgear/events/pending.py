"""The rows of an outbox as a relay sees them: read in order, then deleted."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from switchgear.database.port import Database, Row, Value
from switchgear.events.floor import Floor
from switchgear.events.refused import Refused
from switchgear.events.shares import PARTS
from switchgear.events.sql import marks, now

__all__ = ["Backlog", "Pending"]

# hashtext is one function in one server, and only relays that run on it at the same time need agree
_PART: Final = (
    f"(CASE WHEN key IS NULL THEN id ELSE hashtext(key) END & {PARTS['postgres'] - 1}) "
    "= ANY(CAST(? AS BIGINT[]))"
)
# its flush to disk is not waited for: a server that crashes before it has the rows again, and they
# are published again, in order and with the same ids, as after a crash of the relay
_DELETE: Final = (
    "DELETE FROM switchgear_outbox USING (SELECT set_config('synchronous_commit', 'off', true)) "
    "AS soon WHERE id = ANY(CAST(? AS BIGINT[]))"
)
_HOLDERS: Final = (
    "SELECT virtualtransaction FROM pg_locks WHERE locktype = 'relation' AND granted "
    "AND relation = CAST('switchgear_outbox' AS regclass) AND mode = 'RowExclusiveLock' "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
# without a bound it would pass over all that is deleted and in the index still
_LAST: Final = "SELECT max(id) FROM switchgear_outbox WHERE id >= ?"
_LONG: Final = 0.25
"""Seconds of counting that are many."""
_MANY: Final = 100_000
"""Events that are many: fewer are counted again, since then it was the machine that took long."""
_TIMES: Final = 10


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits in an outbox."""

    events: int
    oldest: float | None
    """Age in seconds of the oldest; None if there is none."""


class Pending:
    """The rows of one outbox. Reads begin at a `Floor`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._postgres = database.dialect == "postgres"
        self._floor = Floor()
        self._ended = False
        self._counted: Backlog | None = None
        self._counted_until = 0.0

    async def any(self) -> bool:
        """Tell whether events wait, whoever's they are."""
        async with self._database.reading() as tx:
            return bool(await tx.run("SELECT 1 FROM switchgear_outbox ORDER BY id LIMIT 1"))

    async def read(
        self,
        parts: Sequence[int] | None,
        limit: int,
        refused: Refused,
        held: Collection[str] = (),
    ) -> Sequence[Row]:
        """Return the first rows of some parts of the keys, None of all, in order.

        A row is id, topic, key, headers and data. Those that are held back are passed over: by
        their key, or by their topic.
        """
        began = time.monotonic()
        start = self._floor.begin(began)
        wanted: list[str] = ["id >= ?"]
        args: list[Value] = [start]
        if self._postgres and parts is not None:
            wanted.append(_PART)
            args.append(list(parts))
        if refused.keys:
            wanted.append(f"(key IS NULL OR key NOT IN ({marks(len(refused.keys))}))")
            args += refused.keys
        if refused.rows:
            wanted.append(f"id NOT IN ({marks(len(refused.rows))})")
            args += refused.rows
        topics = refused.topics.union(held)
        if topics:
            wanted.append(f"topic NOT IN ({marks(len(topics))})")
            args += topics
        sql = (
            "SELECT id, topic, key, headers, data FROM switchgear_outbox "  # noqa: S608  marks
            f"WHERE {' AND '.join(wanted)} ORDER BY id LIMIT ?"
        )
        async with self._database.reading() as tx:
            rows = await tx.run(sql, *args, limit)
        now = time.monotonic()
        self._floor.took(start, now - began, now)
        self._ended = len(rows) < limit
        if not rows:
            self._floor.done(None)
            await self._raise_floor()
        return rows

    async def delete(self, rows: Sequence[Row], *, gaps: bool) -> None:
        """Delete what was read last, and is published now; with `gaps`, not all in between is."""
        first, last = rows[0][0], rows[-1][0]
        if self._postgres:
            await self._database.alone(_DELETE, [row[0] for row in rows])
        elif gaps:
            sql = "DELETE FROM switchgear_outbox WHERE id IN (SELECT value FROM json_each(?))"
            await self._database.alone(sql, json.dumps([row[0] for row in rows]))
        else:
            # serials are in the order of the commits here: nothing unread is in between
            sql = "DELETE FROM switchgear_outbox WHERE id BETWEEN ? AND ?"
            await self._database.alone(sql, first, last)
        self._floor.done(last)
        if self._ended:
            self._floor.done(None)
        await self._raise_floor()

    def front(self) -> None:
        """Read from the front again: what is there may have become ours."""
        self._floor.front()

    async def backlog(self) -> Backlog:
        """Return how many events wait, and since when.

        Millions take a while to be counted, and health is asked for every few seconds: what took
        long is told again for ten times as long.
        """
        began = time.monotonic()
        if self._counted is not None and began < self._counted_until:
            return self._counted
        async with self._database.reading() as tx:
            [(count, oldest)] = await tx.run(
                f"SELECT count(*), {now(tx.dialect)} - min(created) FROM switchgear_outbox"  # noqa: S608  constant
            )
        took = time.monotonic() - began
        self._counted = Backlog(count, None if oldest is None else max(0.0, oldest))
        many = took > _LONG and count > _MANY
        self._counted_until = began + (_TIMES * took if many else 0.0)
        return self._counted

    async def topics(self) -> Mapping[str, Backlog]:
        """Return what waits of each topic, the one that has waited for longest first."""
        async with self._database.reading() as tx:
            rows = await tx.run(
                f"SELECT topic, count(*), {now(tx.dialect)} - min(created) FROM switchgear_outbox "  # noqa: S608  constant
                "GROUP BY topic ORDER BY min(created), topic"
            )
        return {topic: Backlog(count, max(0.0, oldest)) for topic, count, oldest in rows}

    async def _raise_floor(self) -> None:
        if not self._floor.wants_holders(time.monotonic()):
            return
        last = 0
        async with self._database.reading() as tx:
            if self._floor.wants_last:
                last = (await tx.run(_LAST, self._floor.serial))[0][0] or 0
            # on SQLite nobody: there is one writer, and what it has written is visible at once
            holders = await tx.run(_HOLDERS) if self._postgres else ()
        self._floor.held_by({row[0] for row in holders}, time.monotonic(), last=last)
