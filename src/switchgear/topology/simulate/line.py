"""An edge at run time, and the driver that runs the policy machine in virtual time.

`Asking` does for a call here what `call/aio.py` does under asyncio: it takes each decision of the
machine and does what it says. The machine is the very one that a client runs, with this clock and a
seeded generator. What crosses the wire is what crosses it in reality:

    request    how much time is left, the number of the attempt, the priority
    reply      the outcome, and whether a layer gave up (`final`)
    leaving    a callee that keeps deadlines notices that its caller has left

A caller that does not pass its context on (`passes`) begins afresh; one that is no client of the
library (`sends`) puts none of that on the wire, and hears no marks. A line without any policy, from
a caller that passes nothing on, needs no machine, and sends jobs as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappush
from math import inf
from random import Random
from typing import Any, Protocol, TypeAlias

from switchgear.model.context import Context, Priority
from switchgear.model.outcome import Reason, Refused, Unavailable, Unknown
from switchgear.model.signal import Signal
from switchgear.policy.budget import AnyBudget, Purse, account
from switchgear.policy.call import Call
from switchgear.policy.machine import Machine
from switchgear.policy.policy import Policy
from switchgear.policy.step import (
    Answer,
    Attempt,
    Decision,
    Instead,
    Queue,
    Wait,
)
from switchgear.topology.simulate.chance import Draw
from switchgear.topology.simulate.kernel import Kernel
from switchgear.topology.simulate.station import Handling, Held, Job, abort, forgotten

__all__ = ["Asking", "Line", "Origin", "Purses"]

Purses: TypeAlias = dict[AnyBudget, Purse]
"""The budgets of one caller for one callee: equal ones are one."""
Report = Callable[[Signal], None]
Done = Callable[[Any], None]
"""Called with the `Held` that has ended. (`Any`: who waits knows no more than `Held` says.)"""


class Origin(Protocol):
    """Whose call it is: what the call inherits from it."""

    deadline: float
    number: int
    priority: Priority


class Line:
    """One caller's way to one operation, with the state of its policy."""

    __slots__ = (
        "_chance",
        "calls",
        "direct",
        "kernel",
        "key",
        "latency",
        "machine",
        "missed",
        "name",
        "optional",
        "passes",
        "questions",
        "repeatable",
        "report",
        "sends",
        "sent",
        "target",
        "unsound",
        "watch",
    )

    def __init__(
        self,
        name: str,
        target: Handling,
        policy: Policy,
        random: Random,
        report: Report,
        *,
        latency: Draw | None = None,
        optional: bool = False,
        passes: bool = True,
        sends: bool = True,
        repeatable: bool = True,
        keyed: bool = False,
        questions: int = 1,
        purses: Purses | None = None,
    ) -> None:
        self.name = name
        self.target = target
        self.kernel: Kernel = target.kernel
        self.report = report
        bare = policy.unguarded is not None and not passes
        self.machine = None if bare else _machine(policy, name, random, purses)
        self.latency = latency
        self.optional = optional
        self.passes = passes
        self.sends = sends
        self.repeatable = repeatable
        self.key = name if keyed else None
        self.questions = questions
        self._chance = random.random
        self.watch: Callable[[Done], Done] | None = None
        """Put around everybody who waits, by who wants to see how calls end."""
        self.direct = 0
        """Calls that took the quick way, see `leaf.py`; they are in none of the others."""
        self.calls = 0
        self.sent = 0
        """Attempts that left."""
        self.unsound = 0
        """Attempts that failed."""
        self.missed = 0
        """Calls that failed."""

    def ask(self, origin: Origin, done: Done) -> Held:
        """Make one call; `done` is called with what this returns, perhaps before it returns."""
        self.calls += 1
        if self.watch is not None:
            done = self.watch(done)
        machine = self.machine
        if machine is not None:
            asking = Asking(self, machine, origin, done)
            asking.begin()
            return asking
        job = Job(self, self.target, done)
        if origin.priority is not Priority.DEFAULT:
            job.priority = origin.priority
        self.sent += 1
        if self.latency is None:
            self.target.accept(job)
        else:
            self._carry(job)
        return job

    @property
    def bare(self) -> bool:
        """Whether it only carries requests, and that in no time."""
        return self.machine is None and self.latency is None

    def question(self) -> int:
        """Return what a call asks for: under which key its answer is kept."""
        return int(self._chance() * self.questions)

    def counters(self) -> tuple[int, int, int, int]:
        """Return calls, attempts, attempts that failed, and calls that failed."""
        direct = self.direct
        return self.calls + direct, self.sent + direct, self.unsound, self.missed

    def send(self, job: Job) -> None:
        """Put a request on the wire."""
        self.sent += 1
        if self.latency is None:
            self.target.accept(job)
        else:
            self._carry(job)

    def _carry(self, job: Job) -> None:
        """Let a request arrive later."""
        way = 0.0 if self.latency is None else self.latency()
        # what is sent is the time left, so the deadline arrives as late as the request
        job.deadline += way
        self.kernel.at(self.kernel.now + way, self.target.accept, job)

    def abandon(self, job: Job) -> None:
        """Wait no longer for a job; its station may notice."""
        job.done = forgotten
        if not job.over and job.handling.station.deadlines:
            if self.latency is None:
                abort(job)
            else:
                self.kernel.at(self.kernel.now + self.latency(), abort, job)


def _machine(policy: Policy, name: str, random: Random, purses: Purses | None) -> Machine:
    """Return the machine of an edge; those of one caller and callee share their budgets."""
    if purses is None or policy.budget is None:
        return Machine(policy, name=name, random=random.random)
    purse = purses.get(policy.budget)
    if purse is None:
        purse = purses[policy.budget] = account(policy.budget)
    return Machine(policy, name=name, random=random.random, shared=True, purse=purse)


class Flight(Job):
    """A request that is an attempt of a guarded call."""

    def __init__(self, line: Line, attempt: Attempt, done: Done) -> None:
        super().__init__(line, line.target, done)
        self.attempt = attempt


class Asking:
    """One call on its way through its policy."""

    __slots__ = (
        "began",
        "call",
        "degraded",
        "done",
        "flights",
        "line",
        "machine",
        "outcome",
        "over",
        "priority",
        "waits",
    )

    def __init__(self, line: Line, machine: Machine, origin: Origin, done: Done) -> None:
        self.line = line
        self.machine = machine
        self.done = done
        self.began = now = line.kernel.now
        self.priority = origin.priority
        context = None
        if line.passes and (origin.deadline != inf or origin.number > 1):
            deadline = None if origin.deadline == inf else origin.deadline
            context = Context(deadline=deadline, attempt=origin.number)
        question = None if machine.shelf is None else line.question()
        self.call = Call(machine, now, line.repeatable, line.key, context, None, question)
        self.flights: list[Flight] = []
        """The attempts on their way; several, where one has a rival."""
        self.waits: Wait | Queue | None = None
        self.over = False
        self.outcome: Unavailable | Unknown | Refused | None = None
        self.degraded = False

    def begin(self) -> None:
        """Event: the call begins."""
        self._go(self.call.begin(self.began))

    def cancel(self) -> bool:
        """Event: the caller gives up; False: it had ended."""
        if self.over:
            return False
        self.over = True
        self.call.cancelled(self.line.kernel.now)
        self._deliver()
        flights, self.flights = self.flights, []
        for flight in flights:
            self.line.abandon(flight)
        return True

    def _go(self, step: Decision) -> None:
        """Do what the machine has decided."""
        if self.machine.outbox:
            self._deliver()
        if isinstance(step, Attempt):
            # one that is already on its way is waited for
            if all(flight.attempt is not step for flight in self.flights):
                self._send(step)
        elif isinstance(step, Wait | Queue):
            self.waits = step
            kernel = self.line.kernel
            if isinstance(step, Queue):
                self.call.wake = self._woken
            if self.call.granted:
                self._woken()
            elif step.until != inf:
                kernel.at(max(step.until, kernel.now), self._resume, step)
        elif isinstance(step, Answer):
            self.degraded = step.degraded or bool(step.value)
            self._end()
        elif isinstance(step, Instead):
            step.function(step.outcome)
            self.degraded = True
            self._end()
        else:
            self.outcome = step
            self._end()

    def _end(self) -> None:
        """End the call: what is still on its way has lost."""
        self.over = True
        if self.flights:
            flights, self.flights = self.flights, []
            for flight in flights:
                self.line.abandon(flight)
                self.call.lost(self.line.kernel.now, flight.attempt)
            self._deliver()
        self.done(self)

    def _send(self, attempt: Attempt) -> None:
        line = self.line
        flight = Flight(line, attempt, self._landed)
        self.flights.append(flight)
        flight.priority = self.priority
        deadline = attempt.deadline
        if line.sends:
            flight.deadline = deadline
            flight.number = attempt.wire_number
        if deadline != inf:
            kernel = line.kernel
            kernel.number += 1
            heappush(kernel.events, (deadline, kernel.number, self._overdue, flight))
        if attempt.hedge_at != inf:
            line.kernel.at(max(attempt.hedge_at, line.kernel.now), self._late, flight)
        line.send(flight)

    def _landed(self, flight: Flight) -> None:
        """Event: an attempt was answered."""
        self.flights.remove(flight)
        now = self.line.kernel.now
        if flight.outcome is None:
            answer = self.call.answered(now, flight.attempt, flight.degraded)
            if self.machine.outbox:
                self._deliver()
            self.degraded = bool(answer.value)
            self._end()
            return
        self.line.unsound += 1
        self._go(self.call.ended(now, flight.attempt, flight.outcome))

    def _overdue(self, flight: Flight) -> None:
        """Event: the time of an attempt is over, if it is still on its way."""
        if flight not in self.flights:
            return
        self.flights.remove(flight)
        line = self.line
        line.unsound += 1
        line.abandon(flight)
        failure = Unknown(reason=Reason.TIMEOUT)
        self._go(self.call.ended(line.kernel.now, flight.attempt, failure))

    def _late(self, flight: Flight) -> None:
        """Event: an attempt takes longer than most; it may get a rival."""
        if flight not in self.flights:
            return
        rival = self.call.hedge(self.line.kernel.now)
        self._deliver()
        if rival is not None:
            self._send(rival)

    def _resume(self, step: Wait | Queue) -> None:
        """Event: a pause is over, or a wait in the queue has lasted long enough."""
        if self.waits is step and not self.over:
            self.waits = None
            self._go(self.call.resumed(self.line.kernel.now))

    def _woken(self) -> None:
        """Event: the wait is over. Taken up in an event of its own, since others are at work."""
        self.line.kernel.at(self.line.kernel.now, self._resume, self.waits)

    def _deliver(self) -> None:
        """Report what the machine has to say, and wake the calls whose turn has come."""
        machine = self.machine
        while machine.outbox:
            for item in machine.drain():
                if isinstance(item, Signal):
                    self.line.report(item)
                elif item.wake is not None:
                    item.wake()
