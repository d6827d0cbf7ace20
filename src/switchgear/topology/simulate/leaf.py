"""Operations that only work, at stations that never look back: the quick way through a network.

Where requests are served in the order in which they come, none is turned away, stopped, or broken
off, and each only works, then when a request will end is known when it arrives (Lindley, 1952):

    end  =  max(arrival, time at which a worker is free)  +  work

So there is no queue to keep, and one event is announced for each request, its end. What comes out
is the same as from a `Station` that keeps its queue, which does everything else.
"""

from __future__ import annotations

from heapq import heappush, heapreplace
from math import inf
from typing import TYPE_CHECKING

from switchgear.topology.simulate.station import Handling, Job, Station, advance

if TYPE_CHECKING:
    from switchgear.topology.simulate.chance import Draw
    from switchgear.topology.simulate.line import Line

__all__ = ["Direct", "Leaf", "Workers"]


class Workers:
    """When the workers of one such station are free."""

    __slots__ = ("_frees", "free", "single")

    def __init__(self, count: float) -> None:
        self.free = -inf if count == inf else 0.0
        """When the next of them is free."""
        self.single = count == 1
        self._frees = [] if count in (1, inf) else [0.0] * int(count)
        """Of several, when each is."""

    def take(self, now: float, work: float) -> float:
        """Let the next free worker do some work; return when it is done."""
        begin = max(now, self.free)
        end = begin + work
        if self._frees:
            heapreplace(self._frees, end)
            self.free = self._frees[0]
        elif self.free != -inf:
            self.free = end
        return end


class Leaf(Handling):
    """One operation of such a station."""

    __slots__ = ("draw", "lines", "workers")

    def __init__(self, name: str, station: Station, workers: Workers, draw: Draw) -> None:
        super().__init__(name, station, 0.0)
        self.workers = workers
        self.draw = draw
        self.lines: list[Line] = []
        """Those that call it directly: they count for themselves."""

    def accept(self, job: Job) -> None:
        """Event: a request arrives."""
        self.arrived += 1
        kernel = self.kernel
        job.step = 1
        kernel.at(self.workers.take(kernel.now, self.draw()), advance, job)

    def counters(self) -> tuple[int, int, int]:
        """Return how many arrived, were answered, and were answered in part."""
        return self.arrived + sum(line.direct for line in self.lines), self.answered, 0


class Direct:
    """A step at run time: a call of such an operation, with nothing in between."""

    __slots__ = ("_ended", "draw", "kernel", "line", "target", "workers")

    def __init__(self, line: Line, target: Leaf) -> None:
        self.line = line
        self.target = target
        self.kernel = target.kernel
        self.workers = target.workers
        self.draw = target.draw
        self._ended = self.ended
        target.lines.append(line)

    def begin(self, job: Job) -> None:
        """Call it. The caller's own job waits there in place of one of the callee's."""
        self.line.direct += 1
        kernel = self.kernel
        kernel.number += 1
        workers = self.workers
        if workers.single:
            # `take`, written out
            now, free = kernel.now, workers.free
            end = workers.free = (max(now, free)) + self.draw()
        else:
            end = workers.take(kernel.now, self.draw())
        heappush(kernel.events, (end, kernel.number, self._ended, job))

    def ended(self, job: Job) -> None:
        """Event: the callee has done its work."""
        self.target.answered += 1
        if job.over:
            return
        # the next step, or else whatever `advance` does after the last
        steps, step = job.handling.steps, job.step
        if step < len(steps):
            job.step = step + 1
            steps[step](job)
        else:
            advance(job)
