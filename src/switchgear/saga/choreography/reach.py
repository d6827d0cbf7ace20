"""What can be reached from an event, and on which ways."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable
from heapq import heappop, heappush
from itertools import count
from typing import Final

from switchgear.saga.choreography.chain import Chain, Step

__all__ = ["MOST", "Emitting", "cycles", "leading", "plainly", "reach", "routes"]

MOST: Final = 50
"""Ways to one handler that are looked at."""

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
    waiting = [(event, 1) for event in events]
    while waiting:
        later: list[tuple[str, int]] = []
        for event, hops in waiting:
            for step in chain.on(event):
                if step not in found and step not in without:
                    found[step] = hops
                    later += [(emitted, hops + 1) for emitted in emitting(step)]
        waiting = later
    return found


def leading(chain: Chain, step: Step) -> set[Step]:
    """Return the handlers that may lead to `step`."""
    distances = _distances(chain, step)
    return {one for event in distances for one in chain.emitting(event)}


def _distances(chain: Chain, step: Step) -> dict[str, int]:
    """Return the events that may lead to `step`, with the least number of handlers in between."""
    found = {step.event: 0}
    waiting = deque([step.event])
    while waiting:
        event = waiting.popleft()
        for one in chain.emitting(event):
            if one.event not in found:
                found[one.event] = found[event] + 1
                waiting.append(one.event)
    return found


def routes(chain: Chain, event: str, step: Step) -> list[tuple[Step, ...]]:
    """Return the ways from `event` to `step`: the handlers before it, in order; short ones first.

    None goes through a handler twice. Of very many, the shortest `MOST` are returned.
    """
    distances = _distances(chain, step)
    found: list[tuple[Step, ...]] = []
    numbers = count()
    # by the length that a way has at least; of equal ones those first that are nearest to the end
    waiting: list[tuple[int, int, int, tuple[Step, ...], str]] = [(0, 0, next(numbers), (), event)]
    while waiting and len(found) < MOST:
        _, _, _, path, heard = heappop(waiting)
        for one in chain.on(heard):
            if one is step:
                found.append(path)
                continue
            if one in path:
                continue
            length = len(path) + 1
            for emitted in one.emits:
                if emitted in distances:
                    least = length + distances[emitted]
                    way = (*path, one)
                    heappush(waiting, (least, -length, next(numbers), way, emitted))
    return found


def cycles(chain: Chain) -> list[tuple[str, ...]]:
    """Return rounds of events that lead back to themselves: of each event in one, the shortest."""
    found = {_turned(path) for event in chain.types if (path := _round(chain, event))}
    return sorted(found)


def _round(chain: Chain, event: str) -> tuple[str, ...] | None:
    """Return the shortest way from an event back to it."""
    known = {event}
    waiting: list[tuple[str, ...]] = [(event,)]
    while waiting:
        path = waiting.pop(0)
        for emitted in (one for step in chain.on(path[-1]) for one in step.emits):
            if emitted == event:
                return path
            if emitted not in known:
                known.add(emitted)
                waiting.append((*path, emitted))
    return None


def _turned(path: tuple[str, ...]) -> tuple[str, ...]:
    """Return a round from its first event by name, so that it is told once."""
    first = path.index(min(path))
    return (*path[first:], *path[:first])
