"""One run of a scenario: everything is put together, and time begins.

Each service and each entry has a generator of its own, seeded with the run's seed and its name. So
the same visitors come at the same times in every variant of a scenario, and what is added to one
service does not change what chance does to another.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Final

from switchgear.model.signal import Signal, SignalKind
from switchgear.policy.admission import Admission
from switchgear.policy.policy import Policy
from switchgear.topology.simulate.book import Book
from switchgear.topology.simulate.desk import Desk
from switchgear.topology.simulate.faults import arrange
from switchgear.topology.simulate.kernel import Kernel
from switchgear.topology.simulate.leaf import Direct, Leaf, Workers
from switchgear.topology.simulate.line import Line, Purses
from switchgear.topology.simulate.load import arrivals, evenly
from switchgear.topology.simulate.scenario import (
    Entry,
    Publish,
    Scenario,
    Service,
    Step,
    Wire,
    Work,
)
from switchgear.topology.simulate.source import Source
from switchgear.topology.simulate.station import Action, Handling, Station
from switchgear.topology.simulate.steps import Asked, Worked
from switchgear.topology.simulate.topic import Consumer, Published

__all__ = ["Counts", "World"]

_BARE: Final = Policy.none(reason="visitors know nothing of the library")
_BINS: Final = 120
"""About so many bins of time in a run."""
_SERIES: Final = 10_000
"""Of so many state changes the times are kept."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What the counters were at some time; see the `counters` of each."""

    operations: dict[str, tuple[int, int, int]]
    edges: dict[str, tuple[int, int, int, int]]


class World:
    """A scenario, ready to run once."""

    def __init__(
        self, scenario: Scenario, seed: int | str, *, naive: bool = False, watched: bool = False
    ) -> None:
        """Build it.

        watched: every call is to be looked at (`Line.watch`), so none takes the quick way through
        services that never look back (`leaf.py`).
        """
        self.scenario = scenario
        self.seed = seed
        self.naive = naive
        self.kernel = Kernel()
        self.width = _width(scenario.seconds)
        self.signals: list[tuple[float, Signal, int]] = []
        """When breakers changed, in order, and how many attempts of their edge had failed."""
        self.counts: Counter[tuple[str, str]] = Counter()
        """All signals, by edge and kind."""
        self.stations = {
            name: self._station(name, service) for name, service in scenario.services.items()
        }
        self.handlings: dict[str, Handling] = {}
        self.consumers: dict[str, Consumer] = {}
        """By `service <- topic`."""
        self.lines: dict[str, Line] = {}
        self.books: dict[str, Book] = {}
        """Of the entries and the reactions."""
        self.waiting = {name: array("q") for name in scenario.services}
        """Requests and events that wait at each service, at the end of each bin of time."""
        self.backlogs: dict[str, array[int]] = {}
        """Events not handled of each reaction, at the end of each bin of time."""
        self._purses: dict[tuple[str, str], Purses] = {}
        self._topics: dict[str, list[Consumer]] = {}
        self._plain = {
            name
            for name, service in scenario.services.items()
            if not watched and self._never_looks_back(name, service)
        }
        self._declare()
        for name, service in scenario.services.items():
            self._connect(name, service)
        self.sources = {name: self._source(name, entry) for name, entry in scenario.entries.items()}
        for fault in scenario.faults:
            arrange(fault, self.kernel, self.stations, list(self.consumers.values()), self._random)
        self.marks: dict[float, Counts] = {}
        """What the counters were at the times asked for by `mark`."""
        self.mark(scenario.warm)

    def mark(self, time: float) -> None:
        """Keep what the counters are at a time."""
        self.kernel.at(time, self._mark, time)

    def run(self) -> World:
        """Let the visitors come, and everything end that they have begun."""
        for source in self.sources.values():
            source.start()
        self.kernel.at(self.width, self._sample)
        self.kernel.run()
        return self

    # --- counters, without what came before the counting ---------------------------------------

    def arrived(self, operation: str) -> int:
        """Return the requests that have reached an operation, by `service.operation`."""
        before = self.marks[self.scenario.warm].operations[operation]
        return self.handlings[operation].counters()[0] - before[0]

    def counted(self, line: str) -> tuple[int, int, int, int]:
        """Return calls, attempts, attempts that failed, and calls that failed, of an edge."""
        before = self.marks[self.scenario.warm].edges[line]
        calls, sent, unsound, missed = self.lines[line].counters()
        return calls - before[0], sent - before[1], unsound - before[2], missed - before[3]

    def _mark(self, time: float) -> None:
        """Event: keep what the counters are."""
        self.marks[time] = Counts(
            {name: handling.counters() for name, handling in self.handlings.items()},
            {name: line.counters() for name, line in self.lines.items()},
        )

    def _sample(self, _: None) -> None:
        """Event: a bin of time is over."""
        waiting = dict.fromkeys(self.stations, 0)
        for name, consumer in self.consumers.items():
            waiting[name.partition(" ")[0]] += consumer.waiting
            self.backlogs[name].append(consumer.waiting)
        for name, station in self.stations.items():
            queue = len(station.queue)
            if name in self._plain:
                counters = [one.counters() for one in station.handlings]
                inside = sum(arrived - answered for arrived, answered, _ in counters)
                queue = int(max(0, inside - station.workers))
            queue += sum(desk.turnstile.waiting for desk in station.desks)
            self.waiting[name].append(queue + waiting[name])
        following = self.kernel.now + self.width
        if following <= self.scenario.seconds * (1 + 1e-9):
            self.kernel.at(following, self._sample)

    def _report(self, signal: Signal) -> None:
        self.counts[signal.subject, signal.kind] += 1
        if signal.kind in _STATES and len(self.signals) < _SERIES:
            failed = self.lines[signal.subject].unsound
            self.signals.append((self.kernel.now, signal, failed))

    # --- putting it together -------------------------------------------------------------------

    def _random(self, name: str) -> Random:
        return Random(f"{self.seed}/{name}")  # noqa: S311  no secret

    def _station(self, name: str, service: Service) -> Station:
        station = Station(
            name,
            self.kernel,
            self._random(f"service {name}"),
            workers=math.inf if service.workers is None else service.workers,
            capacity=math.inf if service.queue is None else service.queue,
            last_first=service.order == "lifo",
            shared=service.holds == "work",
            deadlines=service.deadlines and not self.naive,
        )
        if service.admission is not None and not self.naive:
            station.admit(Desk(service.admission, self.kernel, partial(self._shed, name)))
        return station

    def _desk(self, station: Station, handling: Handling, operation: str) -> Desk | None:
        """Return where the requests for an operation are admitted; None: they need not be."""
        if not station.desks:
            return None
        apart = station.desks[0].settings.operations.get(operation)
        if not isinstance(apart, Admission):
            return station.desks[0]
        desk = Desk(apart, self.kernel, partial(self._shed, handling.name))
        station.admit(desk)
        return desk

    def _shed(self, name: str, kind: SignalKind, _: Mapping[str, object]) -> None:
        self.counts[name, kind] += 1

    def _declare(self) -> None:
        """Make every operation and reaction, still without its steps."""
        for name, service in self.scenario.services.items():
            station = self.stations[name]
            workers = Workers(station.workers) if name in self._plain else None
            for operation, declared in service.operations.items():
                (first, *_) = declared.steps or (None,)
                if workers is not None and isinstance(first, Work):
                    draw = first.time.sampler(station.random)
                    handling: Handling = Leaf(f"{name}.{operation}", station, workers, draw)
                else:
                    handling = Handling(f"{name}.{operation}", station, declared.fails)
                handling.desk = self._desk(station, handling, operation)
                station.handlings.append(handling)
                self.handlings[handling.name] = handling
            for topic, reaction in service.reacts.items():
                handling = Handling(f"{name} <- {topic}", station, reaction.fails)
                station.handlings.append(handling)
                self.handlings[handling.name] = handling
                self._react(handling, topic, reaction.lanes)

    def _react(self, handling: Handling, topic: str, lanes: int) -> None:
        book = self.books[handling.name] = Book(self.width)
        kernel = self.kernel

        def handled(published: float) -> None:
            book.answered(published, kernel.now - published, degraded=False)

        consumer = Consumer(handling, lanes, handled)
        self.consumers[handling.name] = consumer
        self.backlogs[handling.name] = array("q")
        self._topics.setdefault(topic, []).append(consumer)

    def _connect(self, name: str, service: Service) -> None:
        operations = {f"{name}.{operation}": one for operation, one in service.operations.items()}
        reactions = {f"{name} <- {topic}": one for topic, one in service.reacts.items()}
        for known, steps in (
            *((known, one.steps) for known, one in operations.items()),
            *((known, one.steps) for known, one in reactions.items()),
        ):
            handling = self.handlings[known]
            handling.steps = tuple(self._step(name, handling, step) for step in steps)

    def _never_looks_back(self, name: str, service: Service) -> bool:
        """Tell whether the quick way is right for a service; see `leaf.py`."""
        return (
            (self.naive or not service.deadlines)
            and service.queue is None
            and service.admission is None
            and service.order == "fifo"
            and service.holds == "request"
            and not service.reacts
            and not any(fault.service == name for fault in self.scenario.faults)
            and all(
                one.fails == 0 and len(one.steps) == 1 and isinstance(one.steps[0], Work)
                for one in service.operations.values()
            )
        )

    def _step(self, name: str, handling: Handling, step: Step) -> Action:
        station = handling.station
        if isinstance(step, Work):
            worked = Worked(station, step.time.sampler(station.random))
            handling.works.append(worked)
            return worked.begin
        if isinstance(step, Publish):
            return Published(self._topics.setdefault(step.topic, [])).begin
        lines = [self._line(name, station, target) for target in step.targets]
        (line, *others) = lines
        if not others and isinstance(line.target, Leaf) and line.bare:
            return Direct(line, line.target).begin
        return Asked(lines).begin

    def _line(self, caller: str, station: Station, target: str) -> Line:
        name = f"{caller} -> {target}"
        if name not in self.lines:
            wire = self.scenario.wire(caller, target)
            self.lines[name] = self._made(
                name, target, wire, station.random, passes=station.deadlines
            )
        return self.lines[name]

    def _made(self, name: str, target: str, wire: Wire, random: Random, *, passes: bool) -> Line:
        service, _, operation = target.partition(".")
        declared = self.scenario.services[service].operations[operation]
        guarded = wire.policy.unguarded is None
        return Line(
            name,
            self.handlings[target],
            self.scenario.naive if self.naive and guarded else wire.policy,
            random,
            self._report,
            latency=None if wire.latency is None else wire.latency.sampler(random),
            optional=wire.optional,
            passes=passes,
            sends=not self.naive,
            repeatable=declared.repeatable,
            keyed=declared.keyed,
            questions=wire.questions,
            purses=self._purses.setdefault((name.partition(" -> ")[0], service), {}),
        )

    def _source(self, name: str, entry: Entry) -> Source:
        random = self._random(f"entry {name}")
        wire = Wire(policy=entry.policy or _BARE, latency=entry.latency)
        passes = entry.policy is not None and not self.naive
        edge = f"{name} -> {entry.calls}"
        # the lines' own chance is apart from that of the arrivals, which are the same everywhere
        line = self._made(edge, entry.calls, wire, self._random(f"visitors {name}"), passes=passes)
        self.lines[edge] = line
        until = self.scenario.seconds
        book = self.books[name] = Book(
            self.width, math.inf if entry.within is None else entry.within
        )
        times = evenly(entry.load, until) if entry.evenly else arrivals(entry.load, random, until)
        return Source(line, times, book, patience=entry.patience, priority=entry.priority)


_STATES: Final = frozenset(
    {SignalKind.BREAKER_OPENED, SignalKind.BREAKER_HALF_OPENED, SignalKind.BREAKER_CLOSED}
)


def _width(seconds: float) -> float:
    """Return a round width for the bins of a run: 1, 2 or 5 times a power of ten."""
    wanted = seconds / _BINS
    power = 10.0 ** math.floor(math.log10(wanted))
    round_ones: Sequence[float] = (1.0, 2.0, 5.0, 10.0)
    return next(power * one for one in round_ones if power * one >= wanted * (1 - 1e-9))
