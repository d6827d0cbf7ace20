"""What goes down with a service: its blast radius, and the way by which it spreads.

One service fails for the middle third of a run; everything is compared with the third before it.

| state      | of an entry or operation                                                       |
| ---------- | ------------------------------------------------------------------------------ |
| `ok`       | as before                                                                      |
| `degraded` | something is worse: 1% more unanswered or degraded, or the p99 twice as long   |
| `down`     | fewer than half are answered                                                   |
| `idle`     | nobody asks it any more: the callers in front of it have failed, or shield it  |

A service is as badly off as the worst of its operations.

An edge has gone bad when, of `LAST` calls in a row, at least half have ended badly: failed,
answered only by a fallback or in part, or not ended after three times its usual p99. It went bad
with the first of those. Where many ended badly before, it takes half of the rest.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

from switchgear.topology.simulate.book import Bin, Histogram, total
from switchgear.topology.simulate.line import Line
from switchgear.topology.simulate.scenario import Fault, FaultKind, Scenario, ScenarioError
from switchgear.topology.simulate.station import Held
from switchgear.topology.simulate.world import World

__all__ = ["BadEdge", "Blast", "State", "blast"]

LAST = 10
PATIENT = 3.0
"""How many times its usual p99 a call may take."""
AT_LEAST = 0.01
"""No call is slow that ends within so many seconds."""
UNANSWERED = 0.01
HALF = 0.5
TWICE = 2.0

Done = Callable[[Any], None]


class State(IntEnum):
    """How badly off something is; more is worse."""

    OK = 0
    IDLE = 1
    DEGRADED = 2
    DOWN = 3

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class BadEdge:
    """An edge that went bad, and when."""

    name: str
    after: float
    """Seconds after the service failed, in the mean of the runs in which it did."""
    runs: int


@dataclass(frozen=True, slots=True)
class Blast:
    """What one failing service does to everything, in one variant."""

    service: str
    naive: bool
    runs: int
    services: dict[str, State]
    operations: dict[str, State]
    entries: dict[str, State]
    answered: dict[str, float]
    """The share of good answers of each entry meanwhile."""
    edges: tuple[BadEdge, ...]
    """In the order in which they went bad."""


def blast(
    scenario: Scenario,
    service: str,
    seeds: Iterable[int | str],
    *,
    naive: bool = False,
    kind: FaultKind = FaultKind.DOWN,
) -> Blast:
    """Let a service fail, and tell what goes with it.

    Raises `ScenarioError` if there is no such service.
    """
    if service not in scenario.services:
        raise ScenarioError(
            f"there is no service {service}.",
            fix=f"The services are: {', '.join(scenario.services)}.",
        )
    third = (scenario.seconds - scenario.warm) / 3
    begins = scenario.warm + third
    broken = replace(
        scenario, faults=(Fault(kind=kind, service=service, at=begins, seconds=third),)
    )
    operations = dict.fromkeys(scenario.operations(), State.OK)
    before = {name: Bin() for name in scenario.entries}
    during = {name: Bin() for name in scenario.entries}
    went: dict[str, list[float]] = {}
    runs = 0
    for seed in seeds:
        runs += 1
        world = World(broken, seed, naive=naive, watched=True)
        watches = [_watched(line, begins) for line in world.lines.values()]
        world.mark(begins)
        world.mark(begins + third)
        world.run()
        for name in operations:
            state = _of_operation(world, name, scenario.warm, begins, begins + third)
            operations[name] = max(operations[name], state)
        for name in scenario.entries:
            before[name].merge(_between(world, name, scenario.warm, begins))
            during[name].merge(_between(world, name, begins, begins + third))
        for watch in watches:
            if watch.went is not None:
                went.setdefault(watch.line.name, []).append(watch.went - begins)
    bad = [BadEdge(name, sum(times) / len(times), len(times)) for name, times in went.items()]
    return Blast(
        service=service,
        naive=naive,
        runs=runs,
        services=_services(operations, scenario, service),
        operations=operations,
        entries={name: _of_entry(before[name], during[name]) for name in scenario.entries},
        answered={name: during[name].share for name in scenario.entries},
        edges=tuple(sorted(bad, key=lambda edge: edge.after)),
    )


def _services(operations: dict[str, State], scenario: Scenario, failing: str) -> dict[str, State]:
    states = dict.fromkeys(scenario.services, State.OK)
    for name, state in operations.items():
        service = name.partition(".")[0]
        states[service] = max(states[service], state)
    states[failing] = State.DOWN
    return states


def _between(world: World, entry: str, begins: float, ends: float) -> Bin:
    book = world.books[entry]
    first, last = math.ceil(begins / book.width - 1e-9), int(ends / book.width + 1e-9)
    return total(book.bins[first:last])


def _of_entry(before: Bin, during: Bin) -> State:
    if not during.offered:
        return State.IDLE
    usual = before.share if before.offered else 1.0
    if during.share < HALF * usual:
        return State.DOWN
    if (
        during.share < usual - UNANSWERED
        or during.degraded / during.offered > before.degraded / before.offered + UNANSWERED
        or during.known.quantile(0.99) > TWICE * before.known.quantile(0.99)
    ):
        return State.DEGRADED
    return State.OK


def _of_operation(world: World, name: str, warm: float, begins: float, ends: float) -> State:
    start, middle, end = (world.marks[time].operations[name] for time in (warm, begins, ends))
    before = [late - early for late, early in zip(middle, start, strict=True)]
    during = [late - early for late, early in zip(end, middle, strict=True)]
    if not during[0]:
        return State.IDLE if before[0] else State.OK
    usual = min(1.0, before[1] / before[0]) if before[0] else 1.0
    share = during[1] / during[0]
    if share < HALF * usual:
        return State.DOWN
    missing = during[2] / during[0] - (before[2] / before[0] if before[0] else 0.0)
    return State.DEGRADED if share < usual - UNANSWERED or missing > UNANSWERED else State.OK


class _Watch:
    """Looks at how the calls of one edge end."""

    __slots__ = ("_calls", "_limit", "_poor", "_recent", "_usual", "line", "since", "went")

    def __init__(self, line: Line, since: float) -> None:
        self.line = line
        self.since = since
        self._usual = Histogram()
        self._calls = 0
        self._poor = 0
        """Of the calls before, those that ended badly."""
        self._limit: float | None = None
        self._recent: deque[float | None] = deque(maxlen=LAST)
        """When each of the last calls was found to be bad; None: it was not."""
        self.went: float | None = None
        """When the edge went bad."""

    def around(self, done: Done) -> Done:
        """Return what to call instead of `done`, for a call that begins now."""
        kernel = self.line.kernel
        began = kernel.now
        settled = False

        def ended(one: Held) -> None:
            nonlocal settled
            if not settled:
                settled = True
                self._note(began, bad=one.outcome is not None or one.degraded)
            done(one)

        def slow(_: None) -> None:
            nonlocal settled
            if not settled:
                settled = True
                self._note(began, bad=True)

        if began >= self.since and self.went is None:
            kernel.at(began + self._patience(), slow)
        return ended

    def _patience(self) -> float:
        if self._limit is None:
            usual = self._usual.quantile(0.99)
            self._limit = 1.0 if math.isnan(usual) else max(PATIENT * usual, AT_LEAST)
        return self._limit

    def _note(self, began: float, *, bad: bool) -> None:
        now = self.line.kernel.now
        if now < self.since:
            self._usual.add(now - began)
            self._calls += 1
            self._poor += bad
            return
        if self.went is not None:
            return
        self._recent.append(now if bad else None)
        usual = self._poor / self._calls if self._calls else 0.0
        times = [time for time in self._recent if time is not None]
        if len(times) >= LAST * (usual + (1 - usual) * HALF):
            self.went = times[0]


def _watched(line: Line, since: float) -> _Watch:
    watch = _Watch(line, since)
    line.watch = watch.around
    return watch
