"""A member of a group on a log with leases: what the embedded log and PostgreSQL have in common.

`group.py` has the rules. The adapter gives a `Ledger`, which carries out their beats, and a `View`
of the log. Reading is up to the member: it knows where it stands in every partition that it owns.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

from switchgear.events.brokers.group import Beat
from switchgear.events.brokers.port import (
    BrokerUnavailable,
    Delivery,
    LeaseLost,
    Partition,
    Polled,
)

__all__ = ["LeasedSubscription", "Ledger", "View"]

_UNSETTLED: Final = 0.1
_PHASE: Final = random.random()  # noqa: S311  processes beat at different moments
_CERTAIN: Final = 0.8
"""The part of a lease during which its owner acts on it without asking again."""


class Ledger(Protocol):
    """Where the rows of one member's group are. All of it may raise `BrokerUnavailable`."""

    async def beat(self) -> Beat:
        """Renew the membership and its leases, and claim what is due."""
        ...

    async def commit(
        self, positions: Mapping[Partition, tuple[int, int, int]]
    ) -> Collection[Partition]:
        """Record positions durably, as id, generation and position; return those refused."""
        ...

    async def leave(self, parts: Collection[int] | None) -> None:
        """Give up the leases on `parts`; with None, all of them and the membership too."""
        ...


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
        """Read at most `limit` records of the partitions `(partition, id, position)`."""
        ...


@dataclass(slots=True)
class _Owned:
    part: int
    generation: int
    position: int
    paused: bool = False
    leaving: bool = False


class LeasedSubscription:
    """One member of a group. The broker makes it; see `Subscription` for what it does."""

    def __init__(
        self,
        ledger: Ledger,
        view: View,
        group: str,
        *,
        lease: float,
        closed: Callable[[LeasedSubscription], None],
    ) -> None:
        self.group = group
        self._ledger = ledger
        self._view = view
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
        self._changing = asyncio.Lock()
        self._turn = 0
        self._failure: Exception | None = None
        self._refused: Exception | None = None
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

    def fail(self, error: Exception) -> None:
        """Raise `error` from the next poll: the broker cannot look at the log because of it."""
        self._failure = error
        self._news.set()

    async def poll(self, limit: int, wait: float) -> Polled:
        """Return changes of ownership and records; see `Subscription.poll`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        while True:
            self._news.clear()
            if self._refused is not None:
                raise self._refused  # until a beat succeeds again
            if self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure
            deliveries = await self._fetch(limit)
            if deliveries or self._assigned or self._revoking or self._lost:
                return self._told(deliveries)
            remaining = deadline - loop.time()
            if remaining <= 0:
                return Polled()
            with suppress(TimeoutError):  # looked at once more: both may come at the same moment
                async with asyncio.timeout(remaining):
                    await self._news.wait()

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

        if held:
            gone = await self._ledger.commit(held)
            for partition in gone:
                now = self._owned.get(partition)
                # a beat may have taken it again meanwhile
                if now is not None and now.generation == held[partition][1]:
                    del self._owned[partition]
                    self._assigned.pop(partition, None)
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
        if self._owned.keys().isdisjoint(partitions):
            return
        async with self._changing:
            parts = [self._owned.pop(one).part for one in partitions if one in self._owned]
            if parts:
                await self._ledger.leave(parts)

    async def close(self) -> None:
        """Leave the group. Closing twice is allowed."""
        if self._beating is None:
            return
        self._beating.cancel()
        await asyncio.gather(self._beating, return_exceptions=True)
        self._beating = None
        self._owned.clear()
        self._on_closed(self)
        await self._ledger.leave(None)

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

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            pause = _UNSETTLED
            if self._settled or self._refused is not None:
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
            except Exception as error:  # noqa: BLE001  raised by each poll meanwhile
                # credentials, permissions, a server that takes writes: they may come back, and the
                # membership with them
                self._settled, self._refused = False, error
                self._news.set()
            else:
                self._refused = None

    async def _beat(self) -> None:
        self._beat_now.clear()
        # what a beat found before a release would give it back
        async with self._changing:
            began = asyncio.get_running_loop().time()
            found = await self._ledger.beat()
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
