"""Consumer groups of a log whose broker has none: who owns which partition, and until when.

The rules, as a pure function (`plan`) of what a group's rows say. An adapter reads the rows, asks,
and writes the changes down, in one transaction and by the database's clock. That is a *beat*.

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

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from switchgear.events.brokers.port import Partition

__all__ = ["Beat", "Lease", "Member", "Plan", "plan"]


class Member(NamedTuple):
    """A member of a group, as its row says."""

    id: str
    topics: frozenset[str]
    expires: float


class Lease(NamedTuple):
    """Who owns a partition in a group, and what is done of it."""

    member: str | None
    generation: int
    expires: float
    position: int


_FREE = Lease(None, 0, 0.0, 0)


@dataclass(frozen=True, slots=True)
class Beat:
    """What one beat found."""

    owned: Mapping[Partition, tuple[int, int, int]]
    """Id of the partition, generation, committed position."""
    excess: frozenset[Partition]
    settled: bool
    """Every topic's share is owned; otherwise another member has yet to release something."""
    epoch: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What a beat has to write down, and what it found; the epoch is not known yet."""

    gone: Sequence[str]
    """Members to remove."""
    moved: bool
    """Others are to be told: the epoch rises."""
    leases: Mapping[int, Lease]
    """The leases to write, by the partition's id: those claimed, and those kept for longer."""
    owned: Mapping[Partition, tuple[int, int, int]]
    excess: frozenset[Partition]
    settled: bool

    def beat(self, epoch: int) -> Beat:
        """Return what is told to the member."""
        return Beat(self.owned, self.excess, self.settled, epoch)


def plan(
    members: Sequence[Member],
    leases: Mapping[int, Lease],
    me: str,
    topics: Mapping[str, Sequence[int]],
    *,
    now: float,
    lease: float,
) -> Plan:
    """Renew the membership of `me` and its leases, and claim what is due. See the rules above.

    `topics` has the ids of the partitions of what `me` reads, in order.
    """
    gone = [one.id for one in members if one.expires < now and one.id != me]
    known = any(one.id == me for one in members)
    reads = {one.id: one.topics for one in members if one.id not in gone}
    reads[me] = frozenset(topics)
    written: dict[int, Lease] = {
        part: found._replace(expires=now + lease)
        for part, found in leases.items()
        if found.member == me
    }
    owned: dict[Partition, tuple[int, int, int]] = {}
    excess: set[Partition] = set()
    settled = True
    for topic, parts in topics.items():
        names = sorted(name for name, read in reads.items() if topic in read)
        share = _share(topic, len(parts), names, me)
        mine = [part for part in parts if part in written]
        for part in parts:
            found = leases.get(part, _FREE)
            if len(mine) < share and part not in written and _is_free(found, now):
                written[part] = Lease(me, found.generation + 1, now + lease, found.position)
                mine.append(part)
        settled = settled and len(mine) == share
        for number, part in enumerate(parts):
            if part in written:
                _, generation, _, position = written[part]
                owned[Partition(topic, number)] = (part, generation, position)
        excess.update(Partition(topic, parts.index(part)) for part in sorted(mine)[share:])
    return Plan(gone, bool(gone) or not known, written, owned, frozenset(excess), settled)


def _share(topic: str, parts: int, names: Sequence[str], member: str) -> int:
    """Return how many partitions of a topic are the member's; the shares add up to all of them."""
    # begin at another member for each topic, or the first would get every remainder
    rank = (names.index(member) + zlib.crc32(topic.encode())) % len(names)
    return parts // len(names) + (rank < parts % len(names))


def _is_free(lease: Lease, now: float) -> bool:
    return lease.member is None or lease.expires < now
