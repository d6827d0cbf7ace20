"""Consumer groups of the embedded log: who owns which partition, and until when.

The rules, all of them applied inside one write transaction (`beat`), by the database's clock:

- A member is alive until `expires`. Each beat moves that ahead by the lease; a member that has
  expired is removed by whoever beats next.
- The partitions of a topic are shared out evenly over the living members that read it. A member
  claims free partitions up to its share. Free is: nobody's, or its owner's lease has expired.
- Each claim raises the partition's generation. A commit names the generation under which it
  claimed: after a later claim it changes nothing, and the late owner is told (`LeaseLost`).
- A member with more than its share is asked to give the excess up. It keeps those leases until it
  releases them, so a handler that runs is never torn out of a living member's hands.
- Whatever changes what others may claim raises the group's epoch. Members see the epoch with every
  look at the log, and beat at once when it has moved.
"""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from switchgear.database.port import DatabaseUnavailable
from switchgear.database.sqlite import Sqlite
from switchgear.events.brokers import sqlite_log as log
from switchgear.events.brokers.port import (
    BrokerUnavailable,
    Delivery,
    LeaseLost,
    Partition,
    Polled,
)
from switchgear.model.outcome import Unknown

__all__ = ["Beat", "SqliteSubscription", "View", "beat", "leave"]

T = TypeVar("T")

_UNSETTLED: Final = 0.1
_PHASE: Final = random.random()  # noqa: S311  processes beat at different moments
_CERTAIN: Final = 0.8
"""The part of a lease during which its owner acts on it without asking again."""


@dataclass(frozen=True, slots=True)
class Beat:
    """What one beat found."""

    owned: Mapping[Partition, tuple[int, int, int]]
    """Id of the partition, generation, committed position."""
    excess: frozenset[Partition]
    settled: bool
    """Every topic's share is owned; otherwise another member has yet to release something."""
    epoch: int


def beat(
    connection: sqlite3.Connection,
    group: str,
    member: str,
    topics: Mapping[str, Sequence[int]],
    lease: float,
) -> Beat:
    """Renew the membership and its leases, and claim what is due. See the rules above."""
    now: float = connection.execute(f"SELECT {log.NOW}").fetchone()[0]
    known = connection.execute(
        "UPDATE member SET expires = ?, topics = ? WHERE grp = ? AND id = ?",
        (now + lease, json.dumps(sorted(topics)), group, member),
    ).rowcount
    if not known:
        connection.execute(
            "INSERT INTO member (grp, id, topics, expires) VALUES (?, ?, ?, ?)",
            (group, member, json.dumps(sorted(topics)), now + lease),
        )
    gone = connection.execute(
        "DELETE FROM member WHERE grp = ? AND expires < ?", (group, now)
    ).rowcount
    epoch = _touch(connection, group, now, moved=bool(gone or not known))
    connection.execute(
        "UPDATE lease SET expires = ? WHERE grp = ? AND member = ?", (now + lease, group, member)
    )
    readers = [
        (name, frozenset(json.loads(text)))
        for name, text in connection.execute(
            "SELECT id, topics FROM member WHERE grp = ? ORDER BY id", (group,)
        )
    ]
    owned: dict[Partition, tuple[int, int, int]] = {}
    excess: set[Partition] = set()
    settled = True
    for topic, parts in topics.items():
        names = [name for name, reads in readers if topic in reads]
        share = _share(topic, len(parts), names, member)
        _ensure(connection, group, parts)
        mine = _claim(connection, group, member, parts, share=share, now=now, lease=lease)
        settled = settled and len(mine) == share
        numbered = {part: Partition(topic, number) for number, part in enumerate(parts)}
        owned.update((numbered[part], (part, *state)) for part, state in mine.items())
        excess.update(numbered[part] for part in sorted(mine)[share:])
    return Beat(owned, frozenset(excess), settled, epoch)


def _share(topic: str, parts: int, names: Sequence[str], member: str) -> int:
    """Return how many partitions of a topic are the member's; the shares add up to all of them."""
    # begin at another member for each topic, or the first would get every remainder
    rank = (names.index(member) + zlib.crc32(topic.encode())) % len(names)
    return parts // len(names) + (rank < parts % len(names))


def _ensure(connection: sqlite3.Connection, group: str, parts: Sequence[int]) -> None:
    connection.executemany(
        "INSERT OR IGNORE INTO lease (grp, part, generation, expires, position) "
        "VALUES (?, ?, 0, 0, 0)",
        [(group, part) for part in parts],
    )


def _claim(
    connection: sqlite3.Connection,
    group: str,
    member: str,
    parts: Sequence[int],
    *,
    share: int,
    now: float,
    lease: float,
) -> dict[int, tuple[int, int]]:
    mine: dict[int, tuple[int, int]] = {}
    free: list[tuple[int, int, int]] = []
    for part in parts:
        owner, generation, expires, position = connection.execute(
            "SELECT member, generation, expires, position FROM lease WHERE grp = ? AND part = ?",
            (group, part),
        ).fetchone()
        if owner == member:
            mine[part] = (generation, position)
        elif owner is None or expires < now:
            free.append((part, generation, position))
    for part, generation, position in free[: max(0, share - len(mine))]:
        connection.execute(
            "UPDATE lease SET member = ?, generation = ?, expires = ? WHERE grp = ? AND part = ?",
            (member, generation + 1, now + lease, group, part),
        )
        mine[part] = (generation + 1, position)
    return mine


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


class View(Protocol):
    """What a subscription sees of the log through its broker."""

    @property
    def heads(self) -> Mapping[int, int]:
        """Next offset of every partition, by id, as last looked up."""
        ...

    @property
    def epochs(self) -> Mapping[str, int]:
        """Epoch of every group."""
        ...

    def refresh(self) -> None:
        """Look them up now."""
        ...

    async def read(
        self, wanted: Sequence[tuple[Partition, int, int]], limit: int
    ) -> list[Delivery]:
        """Read records; see `sqlite_log.read`."""
        ...


@dataclass(slots=True)
class _Owned:
    part: int
    generation: int
    position: int
    paused: bool = False
    leaving: bool = False


class SqliteSubscription:
    """One member of a group. The broker makes it; see `Subscription` for what it does."""

    def __init__(
        self,
        database: Sqlite,
        view: View,
        group: str,
        member: str,
        topics: Mapping[str, Sequence[int]],
        *,
        lease: float,
        closed: Callable[[SqliteSubscription], None],
    ) -> None:
        self.group = group
        self._database = database
        self._view = view
        self._member = member
        self._topics = topics
        self._lease = lease
        self._on_closed = closed
        self._owned: dict[Partition, _Owned] = {}
        self._assigned: dict[Partition, int] = {}
        self._revoking: set[Partition] = set()
        self._lost: set[Partition] = set()
        self._certain_until = 0.0
        self._epoch = -1
        self._settled = False
        self._news = asyncio.Event()
        self._beat_now = asyncio.Event()
        self._turn = 0
        self._beating: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Join the group and keep the membership alive from now on."""
        await self._beat()
        self._beating = asyncio.create_task(self._keep(), name=f"lease {self.group}")

    def notice(self) -> None:
        """Check whether what the broker has just looked up concerns this member."""
        if self._view.epochs.get(self.group, self._epoch) != self._epoch:
            self._beat_now.set()
        if self._behind():
            self._news.set()

    async def poll(self, limit: int, wait: float) -> Polled:
        """Return changes of ownership and records; see `Subscription.poll`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        while True:
            self._news.clear()
            if self._beating is not None and self._beating.done():
                self._beating.result()  # a bug or a broken file ended it: say so here
            deliveries = await self._fetch(limit)
            if deliveries or self._assigned or self._revoking or self._lost:
                return self._told(deliveries)
            remaining = deadline - loop.time()
            if remaining <= 0:
                return Polled()
            try:
                async with asyncio.timeout(remaining):
                    await self._news.wait()
            except TimeoutError:
                return Polled()

    def owns(self, partition: Partition) -> bool:
        """Tell whether the lease is certainly still held."""
        return partition in self._owned and asyncio.get_running_loop().time() < self._certain_until

    async def commit(self, positions: Mapping[Partition, int]) -> None:
        """Record positions durably; see `Subscription.commit`."""
        held = {
            partition: (found.part, found.generation, position)
            for partition, position in positions.items()
            if (found := self._owned.get(partition)) is not None
        }
        lost = set(positions.keys() - held.keys())

        def work(connection: sqlite3.Connection) -> list[Partition]:
            return [
                partition
                for partition, (part, generation, position) in held.items()
                if not connection.execute(
                    "UPDATE lease SET position = max(position, ?) WHERE grp = ? AND part = ? "
                    "AND member = ? AND generation = ?",
                    (position, self.group, part, self._member, generation),
                ).rowcount
            ]

        if held:
            gone = await self._write(work)
            for partition in gone:
                if self._owned.pop(partition, None) is not None:
                    self._lost.add(partition)
            lost.update(gone)
        if lost:
            self._news.set()
            raise LeaseLost(self.group, lost)

    def pause(self, partitions: Collection[Partition]) -> None:
        """Deliver nothing from `partitions` for now."""
        for partition in partitions:
            if partition in self._owned:
                self._owned[partition].paused = True

    def resume(self, partitions: Collection[Partition]) -> None:
        """Deliver from `partitions` again."""
        for partition in partitions:
            if partition in self._owned:
                self._owned[partition].paused = False
        if self._behind():
            self._news.set()

    async def release(self, partitions: Collection[Partition]) -> None:
        """Give `partitions` up."""
        parts = [self._owned.pop(one).part for one in partitions if one in self._owned]
        if not parts:
            return
        await self._write(lambda connection: leave(connection, self.group, self._member, parts))

    async def close(self) -> None:
        """Leave the group. Closing twice is allowed."""
        if self._beating is None:
            return
        self._beating.cancel()
        await asyncio.gather(self._beating, return_exceptions=True)
        self._beating = None
        self._owned.clear()
        self._on_closed(self)
        await self._write(lambda connection: leave(connection, self.group, self._member, None))

    def _told(self, deliveries: Sequence[Delivery]) -> Polled:
        told = Polled(self._assigned, frozenset(self._revoking), frozenset(self._lost), deliveries)
        self._assigned, self._revoking, self._lost = {}, set(), set()
        return told

    def _behind(self) -> list[tuple[Partition, int, int]]:
        heads = self._view.heads
        return [
            (partition, found.part, found.position)
            for partition, found in self._owned.items()
            if not (found.paused or found.leaving) and heads.get(found.part, 0) > found.position
        ]

    async def _fetch(self, limit: int) -> list[Delivery]:
        wanted = self._behind() if limit > 0 else []
        if not wanted:
            return []
        # another partition first each time, or the last ones would starve behind a full limit
        self._turn = (self._turn + 1) % len(wanted)
        wanted = wanted[self._turn :] + wanted[: self._turn]
        generations = {one: self._owned[one].generation for one, _, _ in wanted}
        found = await self._view.read(wanted, limit)
        kept = []
        for delivery in found:
            owned = self._owned.get(delivery.partition)
            if owned is None or owned.generation != generations[delivery.partition]:
                continue
            owned.position = delivery.offset + 1
            kept.append(delivery)
        return kept

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await self._database.write(work)
        except (DatabaseUnavailable, Unknown) as error:
            # repeating any of it is harmless, so it does not matter whether it was done
            raise BrokerUnavailable(str(error), cause=error) from error

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            pause = _UNSETTLED
            if self._settled:
                # all members of a process beat at the same moments, and so share one commit
                interval = self._lease / 3
                pause = interval - (loop.time() - _PHASE * interval) % interval
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._beat_now.wait()
            try:
                await self._beat()
            except BrokerUnavailable:
                self._settled = False  # again soon; `owns` ends by itself

    async def _beat(self) -> None:
        self._beat_now.clear()
        began = asyncio.get_running_loop().time()
        found = await self._write(
            lambda connection: beat(connection, self.group, self._member, self._topics, self._lease)
        )
        self._certain_until = began + self._lease * _CERTAIN
        self._settled = found.settled
        self._epoch = found.epoch
        self._apply(found)
        self._view.refresh()
        if self._assigned or self._revoking or self._lost:
            self._news.set()

    def _apply(self, found: Beat) -> None:
        for partition, held in list(self._owned.items()):
            now = found.owned.get(partition)
            if now is None or now[1] != held.generation:
                del self._owned[partition]
                self._assigned.pop(partition, None)
                self._lost.add(partition)
        for partition, (part, generation, position) in found.owned.items():
            if partition not in self._owned:
                self._owned[partition] = _Owned(part, generation, position)
                self._assigned[partition] = position
        for partition in found.excess:
            if not self._owned[partition].leaving:
                self._owned[partition].leaving = True
                self._revoking.add(partition)
