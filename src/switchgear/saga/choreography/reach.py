"""What can be reached from an event, and on which ways."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import Final

from switchgear.saga.choreography.chain import Chain, Step

__all__ = ["MOST", "Emitting", "cycles", "plainly", "reach", "routes"]

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


def routes(chain: Chain, event: str, step: Step) -> list[tuple[Step, ...]]:
    """Return the ways from `event` to `step`: the handlers before it, in order; short ones first.

    None goes through a handler twice. Of very many, the shortest `MOST` are returned.
    """
    found: list[tuple[Step, ...]] = []
    leading = {one for one in chain.steps if one == step or step in reach(chain, one.emits)}
    waiting: deque[tuple[tuple[Step, ...], str]] = deque([((), event)])
    while waiting and len(found) < MOST:
        path, heard = waiting.popleft()
        for one in chain.on(heard):
            if one == step:
                found.append(path)
            elif one in leading and one not in path:
                waiting += [((*path, one), emitted) for emitted in one.emits]
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
