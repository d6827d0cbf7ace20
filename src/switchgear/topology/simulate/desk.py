"""Admission at a simulated service: `policy/admission.py` decides, as it does at a real door.

Operations that have an `Admission` of their own have a desk of their own, and places that no other
can take. A request is admitted when it arrives, before it asks for a worker, and gives its place
back when it ends, however that is. One that is turned away is answered `not-executed`, with the
time after which to come back. `serve/admission.py` is the same around a door.
"""

from __future__ import annotations

from functools import partial
from math import inf
from typing import TYPE_CHECKING

from switchgear.model.context import Priority
from switchgear.model.outcome import Reason, Unavailable
from switchgear.policy.admission import Turnstile, Verdict, Visitor
from switchgear.policy.settings import seconds
from switchgear.topology.simulate.station import answer

if TYPE_CHECKING:
    from switchgear.policy.admission import Admission, Report
    from switchgear.topology.simulate.kernel import Kernel
    from switchgear.topology.simulate.station import Job

__all__ = ["Desk"]

_CLOCKS = 0.005
"""Seconds before its deadline from which a request that is given up counts as late."""


class Desk:
    """Where requests are admitted that share their places."""

    __slots__ = ("_kernel", "_retry_after", "settings", "shed", "turnstile")

    def __init__(self, settings: Admission, kernel: Kernel, report: Report) -> None:
        self.settings = settings
        self.turnstile = Turnstile(settings, report)
        self._kernel = kernel
        self._retry_after = seconds(settings.retry_after)
        self.shed = 0
        """Requests that were turned away."""

    def enter(self, job: Job) -> None:
        """Event: a request arrives."""
        operation = job.handling.name.partition(".")[2]
        priority = self.settings.priority_of(operation, job.priority)
        if priority is not Priority.DEFAULT:
            job.priority = priority
        visitor = Visitor(priority, None if job.deadline == inf else job.deadline)
        job.visitor = visitor
        visitor.wake = partial(self._decided, job, visitor)
        self.turnstile.arrive(self._kernel.now, visitor)
        if visitor.verdict is None:
            self._kernel.at(visitor.until, self._overdue, (job, visitor))
        else:
            self._decided(job, visitor)
        self._wake()

    def leave(self, job: Job, *, measured: bool) -> None:
        """Event: a request has ended, or is given up."""
        visitor, job.visitor = job.visitor, None
        if visitor is None:
            return
        now = self._kernel.now
        if visitor.verdict is Verdict.ADMITTED:
            late = not measured and now >= job.deadline - _CLOCKS
            self.turnstile.left(now, visitor, measured=measured, overloaded=late)
        elif visitor.verdict is None:
            self.turnstile.abandoned(now, visitor)
        self._wake()

    def _overdue(self, waiting: tuple[Job, Visitor]) -> None:
        """Event: a request has waited for as long as it may."""
        job, visitor = waiting
        if visitor.verdict is None and job.visitor is visitor:
            self.turnstile.overdue(self._kernel.now, visitor)
            self._decided(job, visitor)
            self._wake()

    def _decided(self, job: Job, visitor: Visitor) -> None:
        """Let a request in, or send it away."""
        if visitor.verdict is Verdict.ADMITTED:
            # in an event of its own: somebody else may be at work
            self._kernel.at(self._kernel.now, job.handling.admitted, job)
            return
        self.shed += 1
        job.handling.refused += 1
        job.visitor = None
        answer(job, Unavailable(reason=Reason.NOT_EXECUTED, retry_after=self._retry_after))

    def _wake(self) -> None:
        """Tell those whose verdict was found."""
        taken, self.turnstile.outbox = self.turnstile.outbox, []
        for visitor in taken:
            if visitor.wake is not None:
                visitor.wake()
