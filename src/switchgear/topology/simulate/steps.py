"""What an operation does, step by step: its own work, and calls of others.

A step is begun with the job as its subject, and ends by `advance(job)`. Publishing an event, the
third kind, is in `topic.py`; a call that needs nothing in between, in `leaf.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappush
from math import inf
from typing import TYPE_CHECKING

from switchgear.topology.simulate.station import Held, Job, Station, advance

if TYPE_CHECKING:
    from switchgear.topology.simulate.chance import Draw
    from switchgear.topology.simulate.line import Line

__all__ = ["Asked", "Worked"]


class Asked:
    """A step at run time: calls of other operations, side by side."""

    __slots__ = ("lines",)

    def __init__(self, lines: Sequence[Line]) -> None:
        self.lines = lines

    def begin(self, job: Job) -> None:
        """Call them all; the first that fails ends the job, and gives up the others."""
        if len(self.lines) == 1:
            job.pending = 1
            step = job.step
            one = self.lines[0].ask(job, job.called)
            # it may have ended, and the job gone on, before `ask` returned
            if job.step == step and job.pending:
                job.asks = (one,)
            return
        job.pending = len(self.lines)
        asks: list[Held] = []
        job.asks = asks
        for line in self.lines:
            # a call may fail before `ask` returns
            if job.over:
                break
            asks.append(line.ask(job, job.called))


class Worked:
    """A step at run time: the station's own work."""

    __slots__ = ("draw", "kernel", "station", "usual")

    def __init__(self, station: Station, draw: Draw) -> None:
        self.station = station
        self.kernel = station.kernel
        self.draw = self.usual = draw

    def begin(self, job: Job) -> None:
        """Work, once a worker is there."""
        station = self.station
        if station.shared and not job.held:
            if station.free > 0 and not station.queue:
                station.free -= 1
                job.held = True
            else:
                station.wait(job)
                return
        kernel = self.kernel
        kernel.number += 1
        end = kernel.now + self.draw()
        if station.pauses:
            end = station.stretched(end)
            if end == inf:
                return
        heappush(
            kernel.events, (end, kernel.number, self.finished if station.shared else worked, job)
        )

    def finished(self, job: Job) -> None:
        """Event: the work is done, and with it the need of a worker."""
        if not job.over:
            job.held = False
            self.station.release()
            advance(job)


def worked(job: Job) -> None:
    """Event: a step of work is done."""
    if not job.over:
        advance(job)
