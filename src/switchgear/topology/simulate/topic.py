"""Events at run time: a topic, and the lanes of those who react to it.

What is published is kept, whatever becomes of those who react: the publisher waits for nobody. An
event goes into one of the consumer's lanes by its key, and waits there for those before it. One
that fails is tried again after a pause that doubles, as `events/lane.py` has it, and its lane
waits. A consumer that is down takes up where it was when it is back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from switchgear.topology.simulate.chance import Draw
from switchgear.topology.simulate.station import Handling, Job, advance

if TYPE_CHECKING:
    from switchgear.topology.simulate.kernel import Kernel

__all__ = ["Consumer", "Published"]

FIRST = 0.1
LONGEST = 30.0
"""Seconds between attempts at an event: the first pause, and the longest."""

Handled = Callable[[float], None]
"""Told when an event was published, once it is handled."""


class Consumer:
    """All lanes of one service for one topic."""

    __slots__ = ("handled", "handling", "lanes", "stalled", "waiting")

    def __init__(self, handling: Handling, lanes: int, handled: Handled) -> None:
        self.handling = handling
        self.handled = handled
        self.lanes = [Lane(self) for _ in range(lanes)]
        self.stalled: list[Lane] = []
        """Lanes that wait for the service to be back."""
        self.waiting = 0
        """Events published and not handled."""

    def take(self, now: float) -> None:
        """Event: something was published, with a key like any other."""
        self.waiting += 1
        self.lanes[int(self.handling.chance() * len(self.lanes))].take(now)

    def back(self) -> None:
        """Event: the service is up again."""
        stalled, self.stalled = self.stalled, []
        for lane in stalled:
            lane.work(None)


class Lane:
    """Events in order, handled one after the other."""

    __slots__ = (
        "attempts",
        "busy",
        "consumer",
        "events",
        "kernel",
        "latency",
        "missed",
        "optional",
    )

    def __init__(self, consumer: Consumer) -> None:
        self.consumer = consumer
        self.kernel: Kernel = consumer.handling.kernel
        self.events: deque[float] = deque()
        self.latency: Draw | None = None
        self.optional = False
        self.missed = 0
        self.attempts = 0
        """How often the first of them has failed."""
        self.busy = False

    def take(self, published: float) -> None:
        """Put an event at the end."""
        self.events.append(published)
        if not self.busy:
            self.busy = True
            self.work(None)

    def work(self, _: None) -> None:
        """Event: handle the first."""
        handling = self.consumer.handling
        station = handling.station
        if station.down or station.silent:
            self.consumer.stalled.append(self)
            return
        job = Job(self, handling, self._handled)
        if station.jobs is not None:
            station.jobs[job] = None
        handling.arrived += 1
        advance(job)

    def abandon(self, job: Job) -> None:
        """Nothing: what is published is handled, whoever waits."""

    def _handled(self, job: Job) -> None:
        kernel = self.kernel
        if job.outcome is None:
            self.attempts = 0
            self.consumer.waiting -= 1
            self.consumer.handled(self.events.popleft())
            if self.events:
                kernel.at(kernel.now, self.work)
            else:
                self.busy = False
            return
        self.attempts += 1
        pause = min(FIRST * 2.0 ** min(self.attempts - 1, 30), LONGEST)
        kernel.at(kernel.now + pause * (1 - self.consumer.handling.chance() / 2), self.work)


class Published:
    """A step at run time: tell those who react."""

    __slots__ = ("consumers",)

    def __init__(self, consumers: list[Consumer]) -> None:
        self.consumers = consumers

    def begin(self, job: Job) -> None:
        """Publish, and go on."""
        now = job.handling.kernel.now
        for consumer in self.consumers:
            consumer.take(now)
        advance(job)
