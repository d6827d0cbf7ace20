"""Consumer groups on JetStream: a roll for each group, and a position for each partition.

JetStream's own groups do not keep the port's promises (see decision 4), so `group.py` decides and
this carries it out, in one key-value bucket. Both kinds of entry are changed by compare-and-swap,
on the revision that was read:

- The *roll* of a group says who its members are and who owns which partition, under which
  generation. A beat reads it, asks `plan`, and writes it; where another was quicker, it reads
  again. So beats of a group take effect one after the other.
- The *position* of a partition names the generation that may move it. Whoever has claimed a
  partition writes its own generation there before it reads a record: that *seals* it. A commit is
  a swap on the revision that its owner knows, so after another's seal it fails.

A stream that lost its end (a power failure, an older backup, a new one under the same name) may end
before a position, and what it gets from then on would be skipped. Whoever seals such a position
begins at the first record that is kept; whoever owns it already claims it anew.

No clock is compared with another's. A member counts its beats in the roll. Who watches sees the
count change, and takes the member for gone if it has not for a lease, by the watcher's own
monotonic clock. A member acts on its leases for four fifths of a lease from *before* its beat, so
it is enough that clocks run at a like rate; what they show does not matter.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Protocol, TypeVar

import msgspec

from switchgear.events.brokers.group import Beat, Lease, Member, plan
from switchgear.events.brokers.nats_bucket import Bucket, Outdated, group_key, position_key
from switchgear.events.brokers.port import BrokerUnavailable, Partition

__all__ = ["Entry", "NatsLedger", "Position", "Reading", "Roll", "Watcher", "planned"]

T = TypeVar("T")

LOGGER: Final = logging.getLogger("switchgear.nats")

_TRIES: Final = 30
_BACK: Final = 0.02
_BACK_MOST: Final = 0.2
_ANSWER: Final = 5.0


class Entry(msgspec.Struct, frozen=True):
    """A member in the roll."""

    topics: list[str]
    lease: float
    """Seconds for which it may be silent."""
    beat: int
    """Grows with each beat of the member."""


class Roll(msgspec.Struct, frozen=True):
    """What a group's entry in the bucket says."""

    epoch: int = 0
    members: dict[str, Entry] = msgspec.field(default_factory=dict)
    leases: dict[str, tuple[str | None, int]] = msgspec.field(default_factory=dict)
    """Owner and generation, by topic and number, as in `shop.orders.3`."""


class Position(msgspec.Struct, frozen=True):
    """What a partition's entry in the bucket says."""

    generation: int = 0
    position: int = 0


class Reading(Protocol):
    """What reads the partitions that the ledger has."""

    def own(self, owned: Mapping[Partition, tuple[int, int, int]]) -> None:
        """Read these and no others: id, generation and position, by partition."""
        ...

    def drop(self, parts: Collection[int]) -> None:
        """Read these no more."""
        ...

    async def last(self, topic: str) -> int:
        """Return the number of the topic's last record, which may be gone by now; 0: none yet."""
        ...

    @property
    def beyond(self) -> Collection[int]:
        """Of what is read, where the next record is behind the end: the stream went back."""
        ...


@dataclass(slots=True)
class Watcher:
    """When each member was last seen to beat, by the clock of whoever watches."""

    _seen: dict[str, tuple[int, float]] = field(default_factory=dict)

    def look(self, roll: Roll, now: float) -> None:
        """Take note of what a roll shows at `now`."""
        self._seen = {
            name: found
            if (found := self._seen.get(name)) is not None and found[0] == entry.beat
            else (entry.beat, now)
            for name, entry in roll.members.items()
        }

    def members(self, roll: Roll) -> list[Member]:
        """Return the members of the roll that was looked at last, and until when each lives."""
        return [
            Member(name, frozenset(entry.topics), self._seen[name][1] + entry.lease)
            for name, entry in roll.members.items()
        ]


def planned(
    roll: Roll,
    members: Collection[Member],
    me: str,
    entry: Entry,
    topics: Mapping[str, Mapping[int, str]],
    *,
    now: float,
) -> tuple[Roll, Beat]:
    """Return the roll as a beat of `me` leaves it, and what the beat found. Positions are 0.

    `topics` has the names of the partitions in the roll, by id, of what `me` reads.
    """
    alive = {one.id: one.expires for one in members}
    leases = {}
    for names in topics.values():
        for part, name in names.items():
            owner, generation = roll.leases.get(name, (None, 0))
            leases[part] = Lease(owner, generation, alive.get(owner or "", 0.0), 0)
    found = plan(
        list(members),
        leases,
        me,
        {topic: list(names) for topic, names in topics.items()},
        now=now,
        lease=entry.lease,
    )
    names = {part: name for some in topics.values() for part, name in some.items()}
    changed = {names[part]: (one.member, one.generation) for part, one in found.leases.items()}
    stay = {name: one for name, one in roll.members.items() if name not in found.gone}
    epoch = roll.epoch + found.moved
    return Roll(epoch, stay | {me: entry}, roll.leases | changed), found.beat(epoch)


def without(roll: Roll, member: str, names: Collection[str] | None) -> Roll:
    """Return the roll after `member` gave `names` up; with None, all of them and its membership."""
    leases = {
        name: (None, generation)
        if owner == member and (names is None or name in names)
        else (owner, generation)
        for name, (owner, generation) in roll.leases.items()
    }
    stay = {
        name: entry for name, entry in roll.members.items() if names is not None or name != member
    }
    return Roll(roll.epoch + 1, stay, leases)


@dataclass(slots=True)
class _Sealed:
    generation: int
    revision: int
    position: int


class NatsLedger:
    """The entries of one member's group; `readers` follow what the member owns.

    Beats and leaves are not called at the same time; commits are, with either.
    `topics` has how many partitions each topic has.
    """

    def __init__(
        self,
        bucket: Bucket,
        group: str,
        member: str,
        topics: Mapping[str, int],
        readers: Reading,
        *,
        lease: float,
    ) -> None:
        self.member = member
        self.key = group_key(group)
        self._bucket = bucket
        self._group = group
        self._lease = lease
        self._readers = readers
        self._parts = [Partition(one, n) for one in sorted(topics) for n in range(topics[one])]
        self._topics: dict[str, dict[int, str]] = {topic: {} for topic in topics}
        for part, one in enumerate(self._parts):
            self._topics[one.topic][part] = f"{one.topic}.{one.number}"
        self._within = min(_ANSWER, lease)
        self._watcher = Watcher()
        self._beats = 0
        self._sealed: dict[int, _Sealed] = {}

    def notice(self, value: bytes) -> int | None:
        """Look at a roll that somebody has written, or tried to, and return its epoch."""
        try:
            roll = msgspec.json.decode(value, type=Roll)
        except msgspec.DecodeError:
            return None
        # what was refused is a sign of life of its author all the same
        self._watcher.look(roll, time.monotonic())
        return roll.epoch

    async def beat(self) -> Beat:
        """Renew the membership, claim what is due, and seal what was claimed."""
        found = await self._change(self._beat)
        claimed = list(found.owned.items())
        places = await asyncio.gather(
            *(self._seal(part, generation) for _, (part, generation, _) in claimed)
        )
        owned = {
            partition: (part, generation, place)
            for (partition, (part, generation, _)), place in zip(claimed, places, strict=True)
            if place is not None
        }
        self._forget(self._sealed.keys() - {part for part, _, _ in owned.values()})
        self._readers.own(owned)
        return replace(found, owned=owned, excess=found.excess & owned.keys())

    async def commit(
        self, positions: Mapping[Partition, tuple[int, int, int]]
    ) -> Collection[Partition]:
        """Record positions, and return those that are another member's by now."""
        done = await asyncio.gather(
            *(self._move(*wanted) for wanted in positions.values()), return_exceptions=True
        )
        for error in done:
            if isinstance(error, BaseException):
                raise error
        return [partition for partition, ours in zip(positions, done, strict=True) if not ours]

    async def leave(self, parts: Collection[int] | None) -> None:
        """Give up the leases on `parts`; with None, all of them and the membership too."""
        self._forget(list(self._sealed) if parts is None else parts)
        names = None if parts is None else [self._name(part) for part in parts]
        await self._change(lambda roll: (without(roll, self.member, names), None))

    def _beat(self, roll: Roll) -> tuple[Roll, Beat]:
        now = time.monotonic()
        self._watcher.look(roll, now)
        beyond = [self._name(part) for part in self._readers.beyond]
        if beyond:
            roll = without(roll, self.member, beyond)
        self._beats += 1  # with every try: nobody may see the same count at two times
        entry = Entry(sorted(self._topics), self._lease, self._beats)
        return planned(roll, self._watcher.members(roll), self.member, entry, self._topics, now=now)

    async def _change(self, work: Callable[[Roll], tuple[Roll, T]]) -> T:
        """Swap the roll for what `work` makes of it, and return what else it returns."""
        for tried in range(_TRIES):
            roll, revision = await self._read()
            new, found = work(roll)
            try:
                await self._put(self.key, new, revision)
            except Outdated:
                # others beat at the same moment, as after every change of the group
                most = min(_BACK * (tried + 1), _BACK_MOST)
                await asyncio.sleep(random.uniform(0.0, most))  # noqa: S311
                continue
            return found
        raise BrokerUnavailable(f"the roll of {self._group} changes faster than it can be written")

    async def _read(self) -> tuple[Roll, int]:
        value, revision = await self._bucket.get(self.key)
        if value is not None:
            return msgspec.json.decode(value, type=Roll), revision
        # a new group, or somebody deleted its roll: no generation is given out a second time
        places = await asyncio.gather(*(self._position(n) for n in range(len(self._parts))))
        leases: dict[str, tuple[str | None, int]] = {
            self._name(part): (None, place.generation)
            for part, (place, _) in enumerate(places)
            if place.generation
        }
        return Roll(leases=leases), revision

    async def _seal(self, part: int, generation: int) -> int | None:
        """Make the position ours under `generation` and return it; None: it is another's by now."""
        sealed = self._sealed.get(part)
        if sealed is not None and sealed.generation == generation:
            return sealed.position
        for _ in range(_TRIES):
            place, revision = await self._position(part)
            if place.generation > generation:
                return None
            ours = Position(generation, await self._begin(part, place.position))
            if place != ours:
                try:
                    revision = await self._put(self._position_key(part), ours, revision)
                except Outdated:
                    continue  # a last commit of its former owner
            self._sealed[part] = _Sealed(generation, revision, ours.position)
            return ours.position
        raise BrokerUnavailable(f"the position of {self._parts[part]} changes all the time")

    async def _begin(self, part: int, position: int) -> int:
        """Return where to read from: the position, or 0 if the stream ends before it."""
        if not position:
            return 0
        partition = self._parts[part]
        last = await self._readers.last(partition.topic)
        if position <= last:
            return position
        LOGGER.warning(
            "the stream of %s ends at %d, and %s has read to %d of partition %d: "
            "begins again at the first record that is kept",
            partition.topic,
            last,
            self._group,
            position,
            partition.number,
        )
        return 0

    async def _move(self, part: int, generation: int, position: int) -> bool:
        """Swap the position for a later one; False if it is no longer ours."""
        for _ in range(_TRIES):
            sealed = self._sealed.get(part)
            if sealed is None or sealed.generation != generation:
                return False
            wanted = Position(generation, max(position, sealed.position))
            try:
                sealed.revision = await self._put(self._position_key(part), wanted, sealed.revision)
            except Outdated:
                place, sealed.revision = await self._position(part)
                if place.generation != generation:
                    self._forget([part])
                    return False
                sealed.position = place.position  # ours, and its answer was lost
                continue
            sealed.position = wanted.position
            return True
        raise BrokerUnavailable(f"the position of {self._parts[part]} changes all the time")

    def _forget(self, parts: Collection[int]) -> None:
        for part in list(parts):
            self._sealed.pop(part, None)
        self._readers.drop(parts)

    async def _position(self, part: int) -> tuple[Position, int]:
        return await position_of(self._bucket, self._group, self._parts[part])

    async def _put(self, key: str, entry: Roll | Position, revision: int) -> int:
        return await self._bucket.put(
            key, msgspec.json.encode(entry), revision, within=self._within
        )

    def _name(self, part: int) -> str:
        return self._topics[self._parts[part].topic][part]

    def _position_key(self, part: int) -> str:
        return position_key(self._group, self._parts[part])


async def position_of(bucket: Bucket, group: str, partition: Partition) -> tuple[Position, int]:
    """Return a group's position in a partition, and its revision; 0 and 0 if there is none."""
    value, revision = await bucket.get(position_key(group, partition))
    return (Position() if value is None else msgspec.json.decode(value, type=Position)), revision
