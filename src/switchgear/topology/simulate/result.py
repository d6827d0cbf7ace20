"""What a scenario's runs add up to.

goodput        good answers a second: answered within the entry's `within`; degraded ones included
latency        of every visitor, whatever the end: until they knew, or left
amplification  requests that reach an operation, per request that would if nothing went wrong
recovery       seconds from the end of the trouble to the first stretch of `STRETCH` bins in which
               the share of good answers is back at 95% of what it was before; `inf`: not in this
               run

Trouble is the faults of the scenario; without any, the change of an entry's load.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from switchgear.model.signal import SignalKind
from switchgear.topology.simulate.book import Bin, Book, total
from switchgear.topology.simulate.load import Steps
from switchgear.topology.simulate.scenario import Entry, Scenario
from switchgear.topology.simulate.world import World

__all__ = ["BACK", "STRETCH", "Result", "Trouble", "recovery", "simulate", "trouble"]

STRETCH = 5
BACK = 0.95


@dataclass(frozen=True, slots=True)
class Trouble:
    """From when to when something is wrong."""

    begins: float
    ends: float


def trouble(scenario: Scenario, entry: Entry) -> Trouble | None:
    """Return when something is wrong for an entry; None: nothing is, or it never ends."""
    if scenario.faults:
        ends = max(fault.ends(scenario.seconds) for fault in scenario.faults)
        if ends >= scenario.seconds:
            return None
        return Trouble(min(fault.at for fault in scenario.faults), ends)
    if isinstance(entry.load, Steps) and len(entry.load.steps) > 1:
        return Trouble(entry.load.steps[1][0], entry.load.settled())
    return None


def recovery(book: Book, warm: float, wrong: Trouble) -> float:
    """Return the seconds from the end of the trouble until the share of good answers is back."""
    width = book.width
    before = total(book.bins[math.ceil(warm / width) : int(wrong.begins / width)])
    usual = before.share if before.offered else 1.0
    first = math.ceil(wrong.ends / width - 1e-9)
    later = [(index, one) for index, one in enumerate(book.bins) if index >= first and one.offered]
    for place in range(len(later) - STRETCH + 1):
        stretch = total(one for _, one in later[place : place + STRETCH])
        own = later[place][1]
        if own.share >= BACK * usual and stretch.share >= BACK * usual:
            return max(0.0, later[place][0] * width - wrong.ends)
    return math.inf


@dataclass(slots=True)
class OfEntry:
    """What became of the visitors of one entry, run by run."""

    offered: list[float] = field(default_factory=list)
    goodput: list[float] = field(default_factory=list)
    good: list[float] = field(default_factory=list)
    degraded: list[float] = field(default_factory=list)
    failed: list[float] = field(default_factory=list)
    left: list[float] = field(default_factory=list)
    mean: list[float] = field(default_factory=list)
    """Seconds until an answer, in the mean of those answered."""
    recovery: list[float] = field(default_factory=list)
    whole: Bin = field(default_factory=Bin)
    """All runs together."""
    bins: list[Bin] = field(default_factory=list)
    """All runs together, by time."""

    def add(self, scenario: Scenario, entry: Entry, book: Book) -> None:
        """Add a run."""
        _merge(self.bins, book.bins)
        counted = total(book.bins[math.ceil(scenario.warm / book.width - 1e-9) :])
        self.whole.merge(counted)
        seconds = scenario.seconds - scenario.warm
        came = counted.offered or math.nan
        self.offered.append(counted.offered / seconds)
        self.goodput.append(counted.good / seconds)
        self.good.append(counted.good / came)
        self.degraded.append(counted.degraded / came)
        self.failed.append(counted.failed / came)
        self.left.append(counted.left / came)
        self.mean.append(counted.answered.mean)
        wrong = trouble(scenario, entry)
        if wrong is not None:
            self.recovery.append(recovery(book, scenario.warm, wrong))


@dataclass(slots=True)
class OfReaction:
    """What became of the events of one reaction."""

    handled: list[float] = field(default_factory=list)
    """Events a second."""
    backlog: list[float] = field(default_factory=list)
    """The most that waited at a time."""
    drained: list[float] = field(default_factory=list)
    """Seconds from the end of the trouble until no more waited than before."""
    whole: Bin = field(default_factory=Bin)


@dataclass(slots=True)
class OfEdge:
    """What crossed one edge, run by run."""

    calls: list[float] = field(default_factory=list)
    attempts: list[float] = field(default_factory=list)
    """Attempts a call."""
    unsound: list[float] = field(default_factory=list)
    """The share of attempts that failed."""
    missed: list[float] = field(default_factory=list)
    """The share of calls that failed."""
    opened: list[float] = field(default_factory=list)
    """How often its breaker opened."""


class Result:
    """One variant of a scenario, over all its runs."""

    def __init__(self, scenario: Scenario, *, naive: bool = False) -> None:
        self.scenario = scenario
        self.naive = naive
        self.runs = 0
        self.width = 0.0
        self.entries = {name: OfEntry() for name in scenario.entries}
        self.reactions: dict[str, OfReaction] = {}
        self.edges: dict[str, OfEdge] = {}
        self.amplification: dict[str, list[float]] = {}
        """By `service.operation`."""
        self.waiting: dict[str, list[float]] = {}
        """Requests and events that wait at each service, bin by bin, in the mean of the runs."""

    @property
    def variant(self) -> str:
        """`naive` or `guarded`."""
        return "naive" if self.naive else "guarded"

    def add(self, world: World) -> None:
        """Add a run."""
        scenario = self.scenario
        self.width = world.width
        for name, entry in scenario.entries.items():
            self.entries[name].add(scenario, entry, world.books[name])
        for name in world.consumers:
            self._reaction(name, world)
        for name in world.lines:
            self._edge(name, world)
        self._load(world)
        for name, waiting in world.waiting.items():
            mean = self.waiting.setdefault(name, [0.0] * len(waiting))
            for index, value in enumerate(waiting):
                mean[index] += (value - mean[index]) / (self.runs + 1)
        self.runs += 1

    def _reaction(self, name: str, world: World) -> None:
        one = self.reactions.setdefault(name, OfReaction())
        book = world.books[name]
        scenario = self.scenario
        counted = total(book.bins[math.ceil(scenario.warm / book.width - 1e-9) :])
        one.whole.merge(counted)
        one.handled.append(counted.answered.count / (scenario.seconds - scenario.warm))
        waiting = world.backlogs[name]
        one.backlog.append(max(waiting, default=0))
        if scenario.faults:
            ends = max(fault.ends(scenario.seconds) for fault in scenario.faults)
            begins = min(fault.at for fault in scenario.faults)
            usual = max(waiting[: int(begins / world.width)], default=0)
            first = math.ceil(ends / world.width - 1e-9)
            back = (
                index * world.width + world.width - ends
                for index, value in enumerate(waiting)
                if index >= first and value <= usual
            )
            one.drained.append(next(back, math.inf))

    def _edge(self, name: str, world: World) -> None:
        one = self.edges.setdefault(name, OfEdge())
        calls, sent, unsound, missed = world.counted(name)
        one.calls.append(calls / (self.scenario.seconds - self.scenario.warm))
        one.attempts.append(sent / calls if calls else math.nan)
        one.unsound.append(unsound / sent if sent else math.nan)
        one.missed.append(missed / calls if calls else math.nan)
        one.opened.append(world.counts[name, SignalKind.BREAKER_OPENED])

    def _load(self, world: World) -> None:
        wanted: dict[str, float] = {}
        for name in self.scenario.entries:
            offered = self.entries[name].offered[-1] * (self.scenario.seconds - self.scenario.warm)
            for operation, often in self.scenario.demand(name).items():
                wanted[operation] = wanted.get(operation, 0.0) + often * offered
        for operation, count in wanted.items():
            times = world.arrived(operation) / count if count else math.nan
            self.amplification.setdefault(operation, []).append(times)


def simulate(scenario: Scenario, seeds: Iterable[int | str], *, naive: bool = False) -> Result:
    """Run a scenario once with each seed."""
    result = Result(scenario, naive=naive)
    for seed in seeds:
        result.add(World(scenario, seed, naive=naive).run())
    return result


def _merge(whole: list[Bin], bins: list[Bin]) -> None:
    while len(whole) < len(bins):
        whole.append(Bin())
    for one, other in zip(whole, bins, strict=False):
        one.merge(other)
