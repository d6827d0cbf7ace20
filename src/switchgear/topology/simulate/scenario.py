"""What is simulated, as data: services, the calls between them, who comes, and what goes wrong.

A scenario is read from TOML (`switchgear.config.scenario`) or made in Python. It is checked when it
is made; a `ScenarioError` names the part that is wrong as a path, which the reader turns into file,
line and key.

Two variants of every scenario can be run. *guarded* is as declared. *naive* is what most systems
have: on every edge the policy `naive` instead of its own (three attempts in a loop, nothing else),
no admission, and neither deadlines nor the marks against amplification travel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, TypeAlias

from switchgear.errors import ConfigError
from switchgear.model.context import Priority
from switchgear.model.edge import Edge, Pattern
from switchgear.model.system import System
from switchgear.policy.admission import Admission
from switchgear.policy.policy import Policy
from switchgear.policy.retry import Retry
from switchgear.topology.simulate.chance import Distribution
from switchgear.topology.simulate.load import Load

__all__ = [
    "NAIVE",
    "Ask",
    "Entry",
    "Fault",
    "FaultKind",
    "Operation",
    "Publish",
    "Reaction",
    "Scenario",
    "ScenarioError",
    "Service",
    "Step",
    "Wire",
    "Work",
]

NAIVE = Policy(
    deadline=None, retry=Retry(attempts=3, base=0.1), budget=None, breaker=None, limit=None
)
"""What most systems have: three attempts in a loop, and nothing else."""

DEEPEST = 64
"""Services in a row; a longer chain of calls is a mistake in the scenario."""


class ScenarioError(ConfigError):
    """A scenario does not fit together; `path` is the part that is wrong."""

    code = "SG201"

    def __init__(
        self,
        what: str,
        *,
        path: tuple[str, ...] = (),
        fix: str | None = None,
        where: str | None = None,
    ) -> None:
        super().__init__(what, where=where or ".".join(path) or None, fix=fix)
        self.path = path


@dataclass(frozen=True, slots=True)
class Work:
    """A step: the service's own work."""

    time: Distribution


@dataclass(frozen=True, slots=True)
class Ask:
    """A step: call operations (`service.operation`) side by side, and wait for all of them."""

    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Publish:
    """A step: publish an event. Nobody waits for those who react."""

    topic: str


Step: TypeAlias = Work | Ask | Publish


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What a service does when it is asked: its steps, one after the other."""

    steps: tuple[Step, ...]
    fails: float = 0.0
    """The share of requests that fail after their work, without anything being broken."""
    pattern: Pattern = Pattern.QUERY
    keyed: bool = False
    """Whether repeating it under one key is declared safe."""

    @property
    def repeatable(self) -> bool:
        """Whether what may have been done may be asked again."""
        return self.keyed or self.pattern is Pattern.QUERY


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaction:
    """What a service does about an event."""

    steps: tuple[Step, ...]
    lanes: int = 8
    """Events handled side by side; those of one key are in one lane, in order."""
    fails: float = 0.0
    """The share of attempts that fail; the lane waits and tries again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A pool of workers behind one queue, and what it can be asked."""

    operations: Mapping[str, Operation] = field(default_factory=dict)
    reacts: Mapping[str, Reaction] = field(default_factory=dict)
    """By topic."""
    workers: int | None = None
    """Requests worked on at once; None: any number."""
    queue: int | None = None
    """Requests that may wait for a worker; beyond that they are turned away. None: any number."""
    order: Literal["fifo", "lifo"] = "fifo"
    """Who is next: who came first, or who came last."""
    holds: Literal["request", "work"] = "request"
    """For how long a worker is held: the whole request, as threads are, or only its own work, as a
    core is by an event loop."""
    admission: Admission | None = None
    """Whom it turns away, as its doors would."""
    deadlines: bool = True
    """Whether it drops what has expired, stops what nobody waits for, and passes deadline, attempt
    and the mark of a layer that gave up on to the services that it calls. A server that is not
    ours does none of this, though its own calls may be made with our clients."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """What is between a caller and an operation that it calls."""

    policy: Policy
    latency: Distribution | None = None
    """Seconds each way; None: none."""
    questions: int = 100
    """Different questions that are asked: a kept answer is good for the same one alone."""
    optional: bool = False
    """Whether the caller answers without it if it fails; its answer is degraded then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Who comes from outside, and for what."""

    calls: str
    """`service.operation`."""
    load: Load
    evenly: bool = False
    """At equal distances, not at random."""
    patience: float | None = None
    """Seconds after which a visitor leaves; None: never."""
    within: float | None = None
    """Seconds within which an answer is good; None: whenever it comes."""
    policy: Policy | None = None
    """The visitors' own; None: they know nothing of the library."""
    latency: Distribution | None = None
    priority: Priority = Priority.DEFAULT


class FaultKind(StrEnum):
    """What can be wrong with a service."""

    SLOW = "slow"
    """Its own work takes `factor` times as long, or `takes` instead."""
    DOWN = "down"
    """It is gone: connections are refused, and what it was doing is lost."""
    SILENT = "silent"
    """It takes requests and never answers one, as behind a network that drops its packets."""
    ERRORS = "errors"
    """A `share` of its requests fail after their work."""
    LOST = "lost"
    """A `share` of its replies is lost: the work is done, and nobody hears of it."""
    PAUSE = "pause"
    """It stands still, and goes on afterwards with what had come meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that is wrong for a while."""

    kind: FaultKind
    service: str
    operation: str | None = None
    """Only one of its operations; None: all."""
    at: float = 0.0
    seconds: float | None = None
    """None: to the end."""
    share: float = 1.0
    factor: float = 1.0
    takes: Distribution | None = None

    def ends(self, horizon: float) -> float:
        """Return when it is over, in a run of `horizon` seconds."""
        return horizon if self.seconds is None else min(self.at + self.seconds, horizon)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Everything that is simulated."""

    name: str
    title: str = ""
    shows: str = ""
    """One sentence: what to learn from it."""
    seconds: float
    """For how long requests come, in virtual seconds."""
    warm: float = 0.0
    """What comes in these first seconds is not counted."""
    seeds: int = 5
    """Runs, each with another seed."""
    services: Mapping[str, Service]
    entries: Mapping[str, Entry]
    wires: Mapping[str, Wire] = field(default_factory=dict)
    """By name, `caller -> service.operation`; others have `policy` and no latency."""
    faults: tuple[Fault, ...] = ()
    policy: Policy = field(default_factory=Policy)
    """Of edges that `wires` does not name."""
    naive: Policy = NAIVE

    def __post_init__(self) -> None:
        if self.warm >= self.seconds:
            raise ScenarioError(
                f"warm is {self.warm:g} s and seconds is {self.seconds:g} s: nothing is counted.",
                path=("warm",),
                fix="Lower warm or raise seconds.",
            )
        self._names()
        for path, steps in self._steps():
            for number, step in enumerate(steps):
                if isinstance(step, Ask):
                    for target in step.targets:
                        self._known(target, (*path, "steps", str(number)))
        for name, entry in self.entries.items():
            self._known(entry.calls, ("entries", name, "calls"))
        for number, fault in enumerate(self.faults):
            self._fault(fault, ("faults", str(number)))
        calls = {f"{caller} -> {target}" for caller, target in self._calls()}
        for name in self.wires:
            if name not in calls:
                raise ScenarioError(
                    "nobody makes this call.",
                    path=("edges", name),
                    fix=f"The calls are: {', '.join(sorted(calls)) or 'none'}.",
                )
        self._bottom_up()

    def operations(self) -> dict[str, Operation]:
        """Return every operation by `service.operation`."""
        return {
            f"{name}.{operation}": declared
            for name, service in self.services.items()
            for operation, declared in service.operations.items()
        }

    def wire(self, caller: str, target: str) -> Wire:
        """Return what is between a calling service and an operation."""
        return self.wires.get(f"{caller} -> {target}") or Wire(policy=self.policy)

    def edges(self) -> Iterator[Edge]:
        """Yield the edges that the scenario declares, with the policies they are run with."""
        operations = self.operations()
        for caller, target in self._calls():
            declared = operations[target]
            yield Edge(
                caller=caller,
                callee=target.partition(".")[0],
                operation=target,
                pattern=declared.pattern,
                policy=self.wire(caller, target).policy.describe(),
                keyed=declared.keyed,
            )

    def system(self) -> System:
        """Return the services and their edges, as every other tool knows them."""
        return System.of(self.edges(), self.services)

    def demand(self, entry: str) -> dict[str, float]:
        """Return how often one visitor makes each operation run, if nothing goes wrong."""
        operations = self.operations()
        found = dict.fromkeys(operations, 0.0)
        found[self.entries[entry].calls] = 1.0
        # from the callers down, so that each is complete before it is passed on
        for target in reversed(self._bottom_up()):
            for further in _asked(operations[target]):
                found[further] += found[target]
        return {target: often for target, often in found.items() if often}

    def _calls(self) -> Iterator[tuple[str, str]]:
        """Yield each caller and target once."""
        made = dict.fromkeys(
            (path[1], target)
            for path, steps in self._steps()
            for step in steps
            if isinstance(step, Ask)
            for target in step.targets
        )
        return iter(made)

    def _steps(self) -> Iterator[tuple[tuple[str, ...], tuple[Step, ...]]]:
        for name, service in self.services.items():
            for operation, declared in service.operations.items():
                yield ("services", name, "operations", operation), declared.steps
            for topic, reaction in service.reacts.items():
                yield ("services", name, "reacts", topic), reaction.steps

    def _names(self) -> None:
        for name, service in self.services.items():
            admitted = {} if service.admission is None else service.admission.operations
            for operation in admitted:
                if operation not in service.operations:
                    raise ScenarioError(
                        f"operations names {operation}, and {name} has no such operation.",
                        path=("services", name, "admission"),
                        fix=f"It has: {', '.join(service.operations) or 'none'}.",
                    )
            if "." in name or " " in name:
                raise ScenarioError(
                    f"{name!r} is not a name for a service.",
                    path=("services", name),
                    fix="Leave dots and spaces out: calls are written service.operation.",
                )
            if name in self.entries:
                raise ScenarioError(
                    f"an entry and a service are both called {name}.",
                    path=("entries", name),
                    fix="Give the entry another name: their edges would be one.",
                )

    def _known(self, target: str, path: tuple[str, ...]) -> None:
        service, _, operation = target.partition(".")
        if service not in self.services:
            raise ScenarioError(
                f"{target!r} is asked, and there is no service {service}.",
                path=path,
                fix=f"The services are: {', '.join(self.services)}.",
            )
        known = self.services[service].operations
        if operation not in known:
            raise ScenarioError(
                f"{target!r} is asked, and {service} has no operation {operation or '(none)'}.",
                path=path,
                fix=f"It has: {', '.join(known) or 'none'}. Write service.operation.",
            )

    def _fault(self, fault: Fault, path: tuple[str, ...]) -> None:
        if fault.service not in self.services:
            raise ScenarioError(
                f"there is no service {fault.service}.",
                path=(*path, "service"),
                fix=f"The services are: {', '.join(self.services)}.",
            )
        service = self.services[fault.service]
        known = [*service.operations, *service.reacts]
        if fault.operation is not None and fault.operation not in known:
            raise ScenarioError(
                f"{fault.service} has no operation {fault.operation}.",
                path=(*path, "operation"),
                fix=f"It has: {', '.join(known)}.",
            )

    def _bottom_up(self) -> list[str]:
        """Return the operations, each after all that it calls. Refuses circles."""
        operations = self.operations()
        depth: dict[str, int] = {}
        for first in operations:
            # the stack is our own: a chain may be longer than Python's
            path: list[tuple[str, Iterator[str]]] = []
            entering: str | None = first if first not in depth else None
            while entering is not None or path:
                if entering is not None:
                    path.append((entering, _asked(operations[entering])))
                    entering = None
                name, rest = path[-1]
                for further in rest:
                    if further not in depth:
                        self._no_circle(further, [name for name, _ in path])
                        entering = further
                        break
                else:
                    path.pop()
                    depth[name] = 1 + max(
                        (depth[further] for further in _asked(operations[name])), default=0
                    )
                    if depth[name] > DEEPEST:
                        raise ScenarioError(
                            f"{name} is more than {DEEPEST} calls deep.",
                            path=_path_of(name),
                        )
        return list(depth)

    def _no_circle(self, target: str, above: list[str]) -> None:
        if target in above:
            circle = [*above[above.index(target) :], target]
            raise ScenarioError(
                f"{target} ends up calling itself: {' -> '.join(circle)}.",
                path=_path_of(target),
                fix="A call that returns to its caller never ends; break the circle.",
            )


def _asked(operation: Operation) -> Iterator[str]:
    return (target for step in operation.steps if isinstance(step, Ask) for target in step.targets)


def _path_of(target: str) -> tuple[str, ...]:
    service, _, operation = target.partition(".")
    return ("services", service, "operations", operation)
