"""The rows of the embedded log's groups, and the beats that change them (see `group.py`)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

from switchgear.database.port import DatabaseUnavailable
from switchgear.database.sqlite import Sqlite
from switchgear.events.brokers import sqlite_log as log
from switchgear.events.brokers.group import Beat, Lease, Member, plan
from switchgear.events.brokers.port import BrokerUnavailable, Partition
from switchgear.model.outcome import Unknown

__all__ = ["SqliteLedger", "beat", "leave"]

T = TypeVar("T")


class SqliteLedger:
    """The rows of one member's group."""

    def __init__(
        self,
        database: Sqlite,
        group: str,
        member: str,
        topics: Mapping[str, Sequence[int]],
        *,
        lease: float,
    ) -> None:
        self.member = member
        self._database = database
        self._group = group
        self._topics = topics
        self._lease = lease

    async def beat(self) -> Beat:
        """Renew the membership and its leases, and claim what is due."""

        def work(connection: sqlite3.Connection) -> Beat:
            # a topic may have got more partitions
            self._topics = {topic: log.parts_of(connection, topic) for topic in self._topics}
            return beat(connection, self._group, self.member, self._topics, self._lease)

        return await self._write(work)

    async def commit(
        self, positions: Mapping[Partition, tuple[int, int, int]]
    ) -> Collection[Partition]:
        """Record positions, and return those that are another member's by now."""

        def work(connection: sqlite3.Connection) -> list[Partition]:
            return [
                partition
                for partition, (part, generation, position) in positions.items()
                if not connection.execute(
                    "UPDATE lease SET position = max(position, ?) WHERE grp = ? AND part = ? "
                    "AND member = ? AND generation = ?",
                    (position, self._group, part, self.member, generation),
                ).rowcount
            ]

        return await self._write(work)

    async def leave(self, parts: Collection[int] | None) -> None:
        """Give up the leases on `parts`; with None, all of them and the membership too."""
        await self._write(lambda one: leave(one, self._group, self.member, parts))

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await self._database.write(work)
        except (DatabaseUnavailable, Unknown) as error:
            # repeating any of it is harmless, so it does not matter whether it was done
            raise BrokerUnavailable(str(error), cause=error) from error


def beat(
    connection: sqlite3.Connection,
    group: str,
    member: str,
    topics: Mapping[str, Sequence[int]],
    lease: float,
) -> Beat:
    """Carry out one beat inside the write transaction that is open."""
    now: float = connection.execute(f"SELECT {log.NOW}").fetchone()[0]
    members = [
        Member(name, frozenset(json.loads(text)), expires)
        for name, text, expires in connection.execute(
            "SELECT id, topics, expires FROM member WHERE grp = ?", (group,)
        )
    ]
    leases = {
        part: Lease(*rest)
        for part, *rest in connection.execute(
            "SELECT part, member, generation, expires, position FROM lease WHERE grp = ?", (group,)
        )
    }
    found = plan(members, leases, member, topics, now=now, lease=lease)
    connection.execute(
        "INSERT INTO member (grp, id, topics, expires) VALUES (?, ?, ?, ?) "
        "ON CONFLICT (grp, id) DO UPDATE SET topics = excluded.topics, expires = excluded.expires",
        (group, member, json.dumps(sorted(topics)), now + lease),
    )
    connection.executemany(
        "DELETE FROM member WHERE grp = ? AND id = ?", [(group, one) for one in found.gone]
    )
    connection.executemany(
        "INSERT INTO lease (grp, part, member, generation, expires, position) "
        "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (grp, part) DO UPDATE SET "
        "member = excluded.member, generation = excluded.generation, expires = excluded.expires",
        [(group, part, *row) for part, row in found.leases.items()],
    )
    # a group holds back what it has not read, also where nobody has claimed the partition yet
    connection.executemany(
        "INSERT OR IGNORE INTO lease (grp, part, generation, expires, position) "
        "VALUES (?, ?, 0, 0, 0)",
        [(group, part) for parts in topics.values() for part in parts if part not in leases],
    )
    return found.beat(_touch(connection, group, now, moved=found.moved))


def _touch(connection: sqlite3.Connection, group: str, now: float, *, moved: bool) -> int:
    row = connection.execute(
        "INSERT INTO grp (name, epoch, seen) VALUES (?, 1, ?) ON CONFLICT (name) "
        "DO UPDATE SET epoch = epoch + ?, seen = excluded.seen RETURNING epoch",
        (group, now, int(moved)),
    ).fetchone()
    return int(row[0])


def leave(
    connection: sqlite3.Connection, group: str, member: str, parts: Collection[int] | None
) -> None:
    """Give up the leases on `parts`; with None, all of them and the membership too."""
    if parts is None:
        connection.execute(
            "UPDATE lease SET member = NULL, expires = 0 WHERE grp = ? AND member = ?",
            (group, member),
        )
        connection.execute("DELETE FROM member WHERE grp = ? AND id = ?", (group, member))
    else:
        connection.executemany(
            "UPDATE lease SET member = NULL, expires = 0 WHERE grp = ? AND member = ? AND part = ?",
            [(group, member, part) for part in parts],
        )
    now: float = connection.execute(f"SELECT {log.NOW}").fetchone()[0]
    _touch(connection, group, now, moved=True)
