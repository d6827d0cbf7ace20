"""The rows of the groups in PostgreSQL, and the beats that change them (see `group.py`).

Beats of one group run one after the other, under an advisory lock; commits do not wait for them.
Rows are locked in the order of the partitions, by both.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from switchgear.events.brokers import postgres_log as log
from switchgear.events.brokers.group import Beat, Lease, Member, plan
from switchgear.events.brokers.port import Partition

if TYPE_CHECKING:
    from switchgear.events.brokers.postgres_log import Connection

__all__ = ["PostgresLedger", "Work"]

T = TypeVar("T")

_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended('switchgear ' || $1, 0))"


class Work(Protocol):
    """Runs functions on a connection, each in a transaction; the broker is one."""

    async def within(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run `work` in a transaction. Raises `BrokerUnavailable`."""
        ...

    def learn(self, topics: Mapping[str, tuple[int, ...]]) -> None:
        """Take note of the partitions that topics have by now."""
        ...


class PostgresLedger:
    """The rows of one member's group."""

    def __init__(
        self,
        broker: Work,
        group: str,
        member: str,
        topics: Mapping[str, tuple[int, ...]],
        *,
        lease: float,
    ) -> None:
        self.member = member
        self._broker = broker
        self._group = group
        self._topics = topics
        self._lease = lease

    async def beat(self) -> Beat:
        """Renew the membership and its leases, and claim what is due."""
        found = await self._broker.within(self._beat)
        self._broker.learn(self._topics)
        return found

    async def commit(
        self, positions: Mapping[Partition, tuple[int, int, int]]
    ) -> Collection[Partition]:
        """Record positions, and return those that are another member's by now."""
        numbered = {part: partition for partition, (part, _, _) in positions.items()}

        async def work(connection: Connection) -> list[Partition]:
            rows = await connection.fetch(
                "WITH held AS (SELECT part FROM switchgear_log_lease WHERE grp = $1 "
                "AND member = $2 AND part = ANY($3) ORDER BY part FOR UPDATE) "
                "UPDATE switchgear_log_lease AS lease SET position = "
                "greatest(lease.position, new.position) "
                "FROM held JOIN unnest($3::bigint[], $4::bigint[], $5::bigint[]) "
                "AS new (part, generation, position) USING (part) WHERE lease.grp = $1 "
                "AND lease.part = held.part AND lease.generation = new.generation "
                "RETURNING lease.part",
                self._group,
                self.member,
                *map(list, zip(*positions.values(), strict=True)),
            )
            done = {row[0] for row in rows}
            return [partition for part, partition in numbered.items() if part not in done]

        return await self._broker.within(work)

    async def leave(self, parts: Collection[int] | None) -> None:
        """Give up the leases on `parts`; with None, all of them and the membership too."""

        async def work(connection: Connection) -> None:
            await connection.execute(_LOCK, self._group)
            await connection.execute(
                "UPDATE switchgear_log_lease SET member = NULL, expires = 0 "
                "WHERE grp = $1 AND member = $2 AND (part = ANY($3) OR $3 IS NULL)",
                self._group,
                self.member,
                None if parts is None else list(parts),
            )
            if parts is None:
                await connection.execute(
                    "DELETE FROM switchgear_log_member WHERE grp = $1 AND id = $2",
                    self._group,
                    self.member,
                )
            await self._touch(connection, moved=True)

        await self._broker.within(work)

    async def _beat(self, connection: Connection) -> Beat:
        await connection.execute(_LOCK, self._group)
        # a topic may have got more partitions
        self._topics = await log.parts_of(connection, list(self._topics))
        now: float = await connection.fetchval(f"SELECT {log.NOW}")
        members = [
            Member(name, frozenset(json.loads(topics)), expires)
            for name, topics, expires in await connection.fetch(
                "SELECT id, topics, expires FROM switchgear_log_member WHERE grp = $1", self._group
            )
        ]
        leases = {
            part: Lease(*rest)
            for part, *rest in await connection.fetch(
                "SELECT part, member, generation, expires, position FROM switchgear_log_lease "
                "WHERE grp = $1",
                self._group,
            )
        }
        found = plan(members, leases, self.member, self._topics, now=now, lease=self._lease)
        await connection.execute(
            "INSERT INTO switchgear_log_member (grp, id, topics, expires) VALUES ($1, $2, $3, $4) "
            "ON CONFLICT (grp, id) DO UPDATE "
            "SET topics = excluded.topics, expires = excluded.expires",
            self._group,
            self.member,
            json.dumps(sorted(self._topics)),
            now + self._lease,
        )
        if found.gone:
            await connection.execute(
                "DELETE FROM switchgear_log_member WHERE grp = $1 AND id = ANY($2)",
                self._group,
                list(found.gone),
            )
        # a group holds back what it has not read, also where nobody has claimed the partition yet
        fresh = {
            part: Lease(None, 0, 0.0, 0)
            for parts in self._topics.values()
            for part in parts
            if part not in leases
        }
        rows = sorted((fresh | dict(found.leases)).items())
        await connection.executemany(
            "INSERT INTO switchgear_log_lease (grp, part, member, generation, expires, position) "
            "VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (grp, part) DO UPDATE SET member = "
            "excluded.member, generation = excluded.generation, expires = excluded.expires",
            [(self._group, part, *lease) for part, lease in rows],
        )
        return found.beat(await self._touch(connection, moved=found.moved))

    async def _touch(self, connection: Connection, *, moved: bool) -> int:
        epoch: int = await connection.fetchval(
            f"INSERT INTO switchgear_log_group AS grp (name, epoch, seen) "  # noqa: S608
            f"VALUES ($1, 1, {log.NOW}) "
            "ON CONFLICT (name) DO UPDATE SET epoch = grp.epoch + $2, seen = excluded.seen "
            "RETURNING epoch",
            self._group,
            int(moved),
        )
        return epoch
