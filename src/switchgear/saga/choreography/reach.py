"""What can be reached from an event, and on which ways."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from heapq import heappop, heappush
from itertools import count
from typing import Final, NamedTuple

from switchgear.saga.choreography.chain import Chain, Step

__all__ = [
    "LOOKED",
    "MOST",
    "Emitting",
    "Routes",
    "before",
    "cycles",
    "in_order",
    "leading",
    "plainly",
    "reach",
    "routes",
]

MOST: Final = 50
"""Ways to one handler that are told."""
LOOKED: Final = 2_000
"""Ways to one handler that are looked at, for those through certain handlers."""

Emitting = Callable[[Step], Collection[str]]
"""What a handler publishes, in the case that is looked at."""


def plainly(step: Step) -> Collection[str]:
    """Return all that a handler may publish."""
    return step.emits


def reach(
    chain: Chain,
    events: Iterable[str],
    emitting: Emitting = plainly,
    without: Collection[Step] = (),
) -> dict[Step, int]:
    """Return the handlers that `events` lead to, with the least number of hops, nearest first.

    Those `without` are not carried out, so nothing follows from them.
    """
    found: dict[Step, int] = {}
    known: set[str] = set()
    left_out = frozenset(without)
    waiting = list(dict.fromkeys(events))
    hops = 1
    while waiting:
        later: dict[str, None] = {}
        known.update(waiting)
        for event in waiting:
            for step in chain.on(event):
                if step not in left_out:
                    found[step] = hops
                    later |= dict.fromkeys(emitting(step))
        waiting = [event for event in later if event not in known]
        hops += 1
    return found


def in_order(chain: Chain, event: str) -> list[Step]:
    """Return the handlers that `event` leads to, each after all that lead to it.

    Where a way leads back, the handler at which it arrives is the earlier one.
    """
    found: list[Step] = []
    seen: set[Step] = set()
    waiting: list[tuple[Step | None, Iterator[Step]]] = [(None, reversed(chain.on(event)))]
    while waiting:
        one, later = waiting[-1]
        new = next((step for step in later if step not in seen), None)
        if new is not None:
            seen.add(new)
            heard = [step for emitted in new.emits for step in chain.on(emitted)]
            waiting.append((new, reversed(heard)))
            continue
        waiting.pop()
        if one is not None:
            found.append(one)
    return found[::-1]


def leading(chain: Chain, step: Step) -> set[Step]:
    """Return the handlers that may lead to `step`."""
    return {one for event in before(chain, step) for one in chain.emitting(event)}


def before(chain: Chain, step: Step, without: Collection[Step] = ()) -> dict[str, int]:
    """Return the events that may lead to `step`, with the least number of handlers in between.

    Those `without` are not carried out, so no way leads through them.
    """
    found = {step.event: 0}
    waiting = deque([step.event])
    while waiting:
        event = waiting.popleft()
        for one in chain.emitting(event):
            if one.event not in found and one not in without:
                found[one.event] = found[event] + 1
                waiting.append(one.event)
    return found


class Routes(NamedTuple):
    """The ways to a handler."""

    ways: list[tuple[Step, ...]]
    """The handlers before it, in order; short ways first."""
    more: bool
    """There are more ways than these, or may be: not all were looked at."""


def routes(chain: Chain, event: str, step: Step, through: Collection[Step] = ()) -> Routes:
    """Return the ways from `event` to `step` that lead through all of `through`.

    None goes through a handler twice. Of very many, the shortest `MOST` are returned.
    """
    found: list[tuple[Step, ...]] = []
    wanted = set(through)
    if not wanted <= leading(chain, step):
        return Routes(found, more=False)
    for number, way in enumerate(_ways(chain, event, step)):
        fits = wanted <= set(way)
        if number == LOOKED or (fits and len(found) == MOST):
            return Routes(found, more=True)
        if fits:
            found.append(way)
    return Routes(found, more=False)


def _ways(chain: Chain, event: str, step: Step) -> Iterator[tuple[Step, ...]]:
    """Yield every way, short ones first.

    What waits is a beginning with the length of the shortest way that it has. Each has one, also
    where events lead back (there a way that passed a handler cannot pass it again), so the work
    between two ways is bounded by their length, however many beginnings there are.
    """
    plain = before(chain, step)
    numbers = count()
    # of equal ones those first that are nearest to the end
    waiting: list[tuple[int, int, int, tuple[Step, ...], str]] = [(0, 0, next(numbers), (), event)]
    while waiting:
        _, _, _, path, heard = heappop(waiting)
        for one in chain.on(heard):
            if one is step:
                yield path
                continue
            if one in path:
                continue
            way = (*path, one)
            winds = not chain.winding.isdisjoint(passed.event for passed in way)
            distances = before(chain, step, way) if winds else plain
            for emitted in one.emits:
                if emitted in distances:
                    least = len(way) + distances[emitted]
                    heappush(waiting, (least, -len(way), next(numbers), way, emitted))


def cycles(chain: Chain) -> list[tuple[str, ...]]:
    """Return rounds of events that lead back to themselves: of each event in one, the shortest."""
    found = {_turned(path) for event in chain.winding if (path := _round(chain, event))}
    return sorted(found)


def _round(chain: Chain, event: str) -> tuple[str, ...] | None:
    """Return the shortest way from an event back to it."""
    came: dict[str, str] = {}
    """The event before each."""
    waiting = deque([event])
    while waiting:
        heard = waiting.popleft()
        for emitted in (one for step in chain.on(heard) for one in step.emits):
            if emitted == event:
                path = [heard]
                while path[-1] != event:
                    path.append(came[path[-1]])
                return tuple(reversed(path))
            if emitted in chain.winding and emitted not in came:
                came[emitted] = heard
                waiting.append(emitted)
    return None


def _turned(path: tuple[str, ...]) -> tuple[str, ...]:
    """Return a round from its first event by name, so that it is told once."""
    first = path.index(min(path))
    return (*path[first:], *path[:first])
