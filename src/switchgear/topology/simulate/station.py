"""A service at run time: its workers, its queue, and what it does with a request.

A request is a `Job`. It is made by the line that sends it (`line.py`), waits for a worker, goes
through the steps of its operation, and is answered by calling `done(job)`: `outcome` is None where
all went well. A job that nobody waits for any more has `forgotten` as its `done`.

What happens to a job at a station that keeps deadlines, and at one that does not:

|                                  | `deadlines`                        | without                 |
| -------------------------------- | ---------------------------------- | ----------------------- |
| expired on arrival, in the queue | answered `not-executed`, not run   | run                     |
| the caller has left              | stopped; its own calls are stopped | goes on for nobody      |
| a call of its own failed finally | passes the mark on                 | fails like any other    |
| its own calls                    | inherit deadline and attempt       | begin afresh            |

What a caller is told of a failure is what `serve/failure.py` says: turned away for want of a place
or of time is `Unavailable(NOT_EXECUTED)`, everything after the handler began is
`Unknown(SERVER_ERROR)`.

Recursion is bounded: a worker that is given back while the queue is being served is only counted,
and the loop that serves the queue sees it. So the stack is as deep as the chain of calls.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

from switchgear.model.context import Priority
from switchgear.model.outcome import Reason, Unavailable, Unknown
from switchgear.topology.simulate.chance import Draw
from switchgear.topology.simulate.kernel import Kernel

if TYPE_CHECKING:
    from switchgear.policy.admission import Visitor
    from switchgear.topology.simulate.desk import Desk
    from switchgear.topology.simulate.steps import Worked

__all__ = [
    "Handling",
    "Held",
    "Job",
    "Sender",
    "Station",
    "abort",
    "advance",
    "forgotten",
]

Action = Callable[["Job"], None]
Failure = Unavailable | Unknown


class Held(Protocol):
    """A call under way, of whatever kind, as the one who waits for it sees it."""

    @property
    def line(self) -> Sender:
        """The line that it went out on."""
        ...

    @property
    def began(self) -> float:
        """The time at which it was made."""
        ...

    @property
    def outcome(self) -> Any:
        """What it failed with, or None. `Any`: who waits looks at its marks alone."""
        ...

    @property
    def degraded(self) -> bool:
        """Whether it was answered, but not by who was asked, or not in full."""
        ...

    def cancel(self) -> bool:
        """Give it up; False: it has ended already."""
        ...


class Sender(Protocol):
    """Where a job comes from, and its answer goes to: a line, or a lane of events."""

    optional: bool
    missed: int
    latency: Draw | None

    def abandon(self, job: Job) -> None:
        """Wait no longer."""
        ...


class Job:
    """One request, at the station that is to carry it out."""

    # what most jobs never change is the class's own: a job is made for every request
    deadline = inf
    number = 1
    """Which attempt it is, as the wire says."""
    priority = Priority.DEFAULT
    step = 0
    """How many of its steps have begun."""
    asks: Sequence[Held] = ()
    """The calls of its current step."""
    pending = 0
    """Calls of its current step that have not ended."""
    held = False
    """Whether it holds a worker."""
    over = False
    outcome: Failure | None = None
    degraded = False
    visitor: Visitor | None = None
    """Its place at the desk, where there is one."""

    def __init__(self, line: Sender, handling: Handling, done: Callable[[Any], None]) -> None:
        self.line = line
        self.handling = handling
        self.done = done
        self.began = handling.kernel.now

    def cancel(self) -> bool:
        """Give it up; False: it has been answered already."""
        if self.done is forgotten:
            return False
        self.line.abandon(self)
        return True

    def called(self, one: Held) -> None:
        """Go on after a call of its own has ended."""
        if self.over:
            return
        if one.degraded:
            self.degraded = True
        if one.outcome is not None:
            one.line.missed += 1
            if not one.line.optional:
                deadlines = self.handling.station.deadlines
                fail(self, broken(final=deadlines and one.outcome.final))
                return
            self.degraded = True
        self.pending -= 1
        if not self.pending:
            advance(self)


def forgotten(job: Any) -> None:
    """Nobody waits for it."""


def broken(*, final: bool = False) -> Unknown:
    """Return what a caller is told of a handler that failed."""
    return Unknown(reason=Reason.SERVER_ERROR, final=final)


def turned_away() -> Unavailable:
    """Return what a caller is told of a request that was not begun."""
    return Unavailable(reason=Reason.NOT_EXECUTED)


class Handling:
    """One operation of a station, or one of its reactions."""

    __slots__ = (
        "answered",
        "arrived",
        "chance",
        "degraded",
        "desk",
        "expired",
        "failed",
        "fails",
        "kernel",
        "lost",
        "name",
        "refused",
        "station",
        "steps",
        "usual",
        "works",
    )

    def __init__(self, name: str, station: Station, fails: float) -> None:
        self.name = name
        self.station = station
        self.kernel = station.kernel
        self.chance = station.random.random
        self.steps: Sequence[Action] = ()
        self.works: list[Worked] = []
        """Those of its steps that are work."""
        self.desk: Desk | None = None
        """Where its requests are admitted."""
        self.usual = fails
        self.fails = fails
        """The share of requests that fail now."""
        self.lost = 0.0
        """The share of replies that are lost now."""
        self.arrived = 0
        self.answered = 0
        self.degraded = 0
        """Those of them that something was missing from."""
        self.failed = 0
        self.expired = 0
        """Dropped because their deadline had passed."""
        self.refused = 0
        """Turned away: no place in the queue, or the service is down."""

    def counters(self) -> tuple[int, int, int]:
        """Return how many arrived, were answered, and were answered in part."""
        return self.arrived, self.answered, self.degraded

    def accept(self, job: Job) -> None:
        """Event: a request arrives."""
        self.arrived += 1
        station = self.station
        if station.odd:
            if job.over or station.troubled(job):
                return
            if station.deadlines and job.deadline <= self.kernel.now:
                self.expire(job)
                return
            if self.desk is not None:
                self.desk.enter(job)
                return
        self.admitted(job)

    def admitted(self, job: Job) -> None:
        """Event: a request may have a worker, if somebody still waits for it."""
        if job.over:
            return
        station = self.station
        if station.shared:
            advance(job)
        elif station.free > 0 and not station.queue:
            station.free -= 1
            job.held = True
            station.began(job)
        else:
            station.wait(job)

    def expire(self, job: Job) -> None:
        """Drop what has expired: it was not begun."""
        self.expired += 1
        answer(job, turned_away())


class Station:
    """The workers of one service, and the queue in front of them."""

    __slots__ = (
        "began",
        "capacity",
        "deadlines",
        "desks",
        "down",
        "free",
        "handlings",
        "jobs",
        "kernel",
        "last_first",
        "name",
        "odd",
        "pauses",
        "queue",
        "random",
        "serving",
        "shared",
        "silent",
        "workers",
    )

    def __init__(
        self,
        name: str,
        kernel: Kernel,
        random: Random,
        *,
        workers: float = inf,
        capacity: float = inf,
        last_first: bool = False,
        shared: bool = False,
        deadlines: bool = True,
    ) -> None:
        self.name = name
        self.kernel = kernel
        self.random = random
        self.workers = workers
        self.capacity = capacity
        self.last_first = last_first
        self.deadlines = deadlines
        self.handlings: list[Handling] = []
        self.free = workers
        self.queue: deque[Job] = deque()
        self.serving = False
        self.shared = shared
        """Whether a worker is held for a step of work alone, and not for the whole request."""
        self.began: Action = resume if shared else advance
        """What to do with a job that has got a worker."""
        self.down = self.silent = False
        self.desks: list[Desk] = []
        """Where its requests are admitted."""
        self.jobs: dict[Job, None] | None = None
        """What is in there, where it will go down some time."""
        self.pauses: list[tuple[float, float]] = []
        """When it stands still: begin and end, in order."""
        self.odd = deadlines or shared
        """Whether a request has to be looked at before it is taken."""

    def admit(self, desk: Desk) -> None:
        """Have a desk, which admits requests before they ask for a worker."""
        self.desks.append(desk)
        self.odd = True

    def watch(self) -> None:
        """Keep book of what is in there, because it will go down."""
        self.jobs = {}
        self.odd = True

    def troubled(self, job: Job) -> bool:
        """Tell whether it cannot take the request now, and answer it then."""
        if self.down:
            job.handling.refused += 1
            answer(job, Unavailable(reason=Reason.CONNECT))
            return True
        if self.silent:
            job.over = True
            return True
        if self.jobs is not None:
            self.jobs[job] = None
        return False

    def wait(self, job: Job) -> None:
        """Put a job into the queue, or turn it away."""
        if len(self.queue) < self.capacity:
            self.queue.append(job)
            return
        job.handling.refused += 1
        if job.step > 1:
            fail(job, broken())
        else:
            answer(job, turned_away())

    def release(self) -> None:
        """Take a worker back, and let who waits have it."""
        self.free += 1
        queue = self.queue
        if not queue or self.serving:
            return
        self.serving = True
        take = queue.pop if self.last_first else queue.popleft
        while queue and self.free > 0:
            job = take()
            if job.over:
                continue
            if self.deadlines and job.deadline <= self.kernel.now and job.step <= 1:
                job.handling.expire(job)
                continue
            self.free -= 1
            job.held = True
            self.began(job)
        self.serving = False

    def stretched(self, until: float) -> float:
        """Return when work that would be done by `until` is done, with the pauses in between."""
        now = self.kernel.now
        for begin, end in self.pauses:
            if begin < until and end > now:
                until += end - max(begin, now)
        return until

    def crash(self) -> None:
        """Lose everything that is in there. Callers see their connections break."""
        if self.jobs is None:
            return
        for job in list(self.jobs):
            fail(job, Unknown(reason=Reason.RESET))
        self.queue.clear()


def resume(job: Job) -> None:
    """Begin the step for which the job has waited for a worker."""
    job.handling.steps[job.step - 1](job)


def advance(job: Job) -> None:
    """Begin the next step, or answer after the last."""
    handling = job.handling
    step = job.step
    if step < len(handling.steps):
        job.step = step + 1
        handling.steps[step](job)
        return
    job.over = True
    station = handling.station
    if station.odd:
        _gone(job, measured=True)
    if job.held:
        job.held = False
        if station.queue:
            station.release()
        else:
            station.free += 1
    if handling.fails and handling.chance() < handling.fails:
        handling.failed += 1
        job.outcome = broken()
    else:
        handling.answered += 1
        if job.degraded:
            handling.degraded += 1
    if handling.lost and handling.chance() < handling.lost:
        return
    if job.line.latency is not None:
        reply(job)
        return
    done, job.done = job.done, forgotten
    done(job)


def reply(job: Job) -> None:
    """Put a reply on the wire."""
    latency = job.line.latency
    if latency is None:
        delivered(job)
    else:
        kernel = job.handling.kernel
        kernel.at(kernel.now + latency(), delivered, job)


def delivered(job: Job) -> None:
    """Event: the reply is there."""
    done, job.done = job.done, forgotten
    done(job)


def answer(job: Job, outcome: Failure) -> None:
    """Answer a job that holds nothing with a failure."""
    job.over = True
    _gone(job)
    job.outcome = outcome
    reply(job)


def fail(job: Job, outcome: Failure) -> None:
    """Answer a job with a failure, wherever it is."""
    job.handling.failed += 1
    _stop(job)
    answer(job, outcome)


def abort(job: Job) -> None:
    """Event: the station notices that the caller has left."""
    if not job.over:
        _stop(job)
        _gone(job)


def _gone(job: Job, *, measured: bool = False) -> None:
    """Take a job out of the station's books."""
    handling = job.handling
    if handling.station.jobs is not None:
        handling.station.jobs.pop(job, None)
    if handling.desk is not None:
        handling.desk.leave(job, measured=measured)


def _stop(job: Job) -> None:
    job.over = True
    for one in job.asks:
        one.cancel()
    if job.held:
        job.held = False
        job.handling.station.release()
