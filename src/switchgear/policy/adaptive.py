"""Limits that find their own size: how many may be in flight at once, learned from what happens.

Each of the settings here makes an estimator, which is told of every attempt that ended and keeps
`limit` up to date. The same estimators serve the caller's side (`policy/limit.py`) and the server's
(`policy/admission.py`).

What they share
---------------
* `minimum <= limit <= maximum`, always.
* The limit rises only while it is in use: at least half of it was in flight. Otherwise a quiet
  night would raise it to the maximum, and the morning would find no limit at all.
* *Overloaded* is an attempt that timed out, or that the callee turned away because it has too much.
  How long such an attempt took says nothing about the callee's speed, and is not measured.
* A duration that is negative or infinite (a clock that jumped) is not a measurement either; one of
  zero is. The clock is used for nothing but the ends of windows, and may jump in both directions.

`Gradient` and `Vegas` decide once a window: after `window` seconds, and when at least `samples`
attempts have ended, so one odd attempt decides nothing, and neither does what an idle time left
over. A share s of overloaded attempts in the window first cuts the limit to `limit * (1 - s / 2)`,
as DCTCP does (Alizadeh et al., SIGCOMM 2010): an outage halves it, one timeout in a thousand is
hardly felt.

Aimd: additive increase, multiplicative decrease
------------------------------------------------
As TCP's congestion avoidance (Chiu and Jain, 1989; RFC 5681): a limit that is in use grows by
`increase` for as many attempts as it has places; an overloaded attempt multiplies it by `backoff`.
Attempts that had begun before the last cut belong to the overload that caused it, and cut no more.
Where a steady share p of the attempts is overloaded, the limit settles near
`sqrt(increase / (p * (1 - backoff)))`. It notices an overload only by what fails.

Gradient: compare latency with its own past
-------------------------------------------
Gradient2 of Netflix's concurrency-limits ("Performance Under Load", 2018). With `short` the mean
duration in the window, and `long` a slow exponential average of it:

    gradient = max(1/2, min(1, tolerance * long / short))
    limit    = (1 - smoothing) * limit + smoothing * (gradient * limit + queue)

It settles where a queue of about `queue` forms. Three departures: an overloaded share counts, as
said; a window's mean counts for at most ten times the average, so that one pause of an hour does
not become the measure of all things; `tolerance` is 1 and not 1.5. The reason for the last: under a
load that never ends the average learns the queue as if it were the callee's own time, and the limit
creeps up. With 1 it creeps by a constant amount an hour, with more it doubles in a constant time
(docs/reference/policy.md has the figures).

Vegas: compare latency with the best seen
-----------------------------------------
TCP Vegas (Brakmo and Peterson, 1995) with the steps of Netflix's VegasLimit. With `base` the lowest
mean of any window and step = max(1, log10(limit)):

    queued = limit * (1 - base / mean)

    | queued                    | limit    |
    | ------------------------- | -------- |
    | at most step              | + 6 step |
    | below 3 step              | + step   |
    | from 3 step to 6 step     | stays    |
    | above 6 step              | - step   |

`base` has to be forgotten one day, or a callee that became slower for good would have a small limit
for good. Measuring it anew under load would measure the load. So every `probe` seconds the limit is
halved for one window, which drains the queue; the attempts that begin in it give the new `base`
(BBR's ProbeRTT; Cardwell et al., ACM Queue 2016). That costs up to half of one window's throughput,
and nothing while the limit is not in use. There is no creep.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

from switchgear.policy.settings import Seconds, Settings, allow, ordered, seconds, settle

__all__ = ["Adaptive", "Aimd", "Estimator", "Gradient", "Vegas"]


class Estimator(Protocol):
    """The state of one adaptive limit."""

    limit: int
    """How many may be in flight now."""

    def ended(self, now: float, took: float, in_flight: int, overloaded: bool) -> None:  # noqa: FBT001  one of four facts of an event
        """Learn from one attempt that ended after `took` seconds.

        `in_flight` is how many were in flight until it ended, itself included. `overloaded`: it
        timed out, or was turned away by the callee. Attempts that were cancelled are not told.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Aimd(Settings):
    """Grows steadily, and is cut by every overload. For callees that say when they have enough."""

    kind = "aimd"

    initial: int = 20
    """The limit at first."""
    minimum: int = 1
    maximum: int = 1000
    increase: float = 1.0
    """By how much it grows in the time in which each place was used once; above 0."""
    backoff: float = 0.9
    """What an overload multiplies it by; 0.1 to 0.99."""
    slow: Seconds | None = None
    """An attempt that takes longer counts as overloaded. Seconds; None: time does not matter."""

    def __post_init__(self) -> None:
        settle(self, "slow")
        _bounded(self)
        allow(self, "increase", 0, above=True)
        allow(self, "backoff", 0.1, 0.99)
        allow(self, "slow", 0, above=True)

    def estimator(self) -> Estimator:
        """Return a new state with these settings."""
        return _Aimd(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gradient(Settings):
    """Follows changes of latency. For callees whose latency says how busy they are."""

    kind = "gradient"

    initial: int = 20
    """The limit at first."""
    minimum: int = 1
    maximum: int = 1000
    queue: int = 4
    """How many may wait at the callee while latencies stay as they are, at least 1."""
    tolerance: float = 1.0
    """How much longer than usual is usual; 1 to 10. Above 1 the limit creeps: see the module."""
    smoothing: float = 0.2
    """How much of a new estimate is taken at once; above 0, at most 1."""
    window: Seconds = 1.0
    """Seconds between two decisions."""
    samples: int = 10
    """Attempts that a window needs, at least 1."""
    memory: int = 600
    """Over how many windows the usual latency is averaged, at least 10."""

    def __post_init__(self) -> None:
        settle(self, "window")
        _bounded(self)
        allow(self, "queue", 1)
        allow(self, "tolerance", 1, 10)
        allow(self, "smoothing", 0, 1, above=True)
        allow(self, "window", 0, above=True)
        allow(self, "samples", 1)
        allow(self, "memory", 10)

    def estimator(self) -> Estimator:
        """Return a new state with these settings."""
        return _Gradient(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vegas(Settings):
    """Keeps the queue at the callee short. For overloads that may last for hours."""

    kind = "vegas"

    initial: int = 20
    """The limit at first."""
    minimum: int = 1
    maximum: int = 1000
    window: Seconds = 1.0
    """Seconds between two decisions."""
    samples: int = 10
    """Attempts that a window needs, at least 1."""
    probe: Seconds = 60.0
    """How often the latency without a queue is measured anew, in seconds; at least `window`."""

    def __post_init__(self) -> None:
        settle(self, "window", "probe")
        _bounded(self)
        allow(self, "window", 0, above=True)
        allow(self, "samples", 1)
        allow(self, "probe", 0, above=True)
        ordered(self, "window", "probe")

    def estimator(self) -> Estimator:
        """Return a new state with these settings."""
        return _Vegas(self)


_WARM: Final = 10
"""As many windows of a `Gradient` count alike at first."""

Adaptive: TypeAlias = Aimd | Gradient | Vegas
"""Settings of a limit that finds its own size."""


def _bounded(settings: Any) -> None:
    """Refuse bounds that are not 1 <= minimum <= initial <= maximum."""
    for name in ("minimum", "initial", "maximum"):
        allow(settings, name, 1)
    ordered(settings, "minimum", "initial", "maximum")


class _Aimd:
    __slots__ = ("_cut", "_estimate", "_settings", "_slow", "limit")

    def __init__(self, settings: Aimd) -> None:
        self._settings = settings
        self._slow = math.inf if settings.slow is None else seconds(settings.slow)
        self._estimate = float(settings.initial)
        self._cut = -math.inf
        """When the limit was last lowered."""
        self.limit = settings.initial

    def ended(self, now: float, took: float, in_flight: int, overloaded: bool) -> None:  # noqa: FBT001
        settings, estimate = self._settings, self._estimate
        if overloaded or took > self._slow:
            if self._cut > now:
                # the clock has gone back
                self._cut = -math.inf
            if now - took < self._cut:
                return
            self._cut = now
            estimate = max(settings.minimum, estimate * settings.backoff)
        elif in_flight * 2 >= estimate:
            estimate = min(settings.maximum, estimate + settings.increase / estimate)
        else:
            return
        self._estimate = estimate
        self.limit = int(estimate)


class _Window:
    """What ended since the last decision, summed."""

    __slots__ = ("_samples", "_seconds", "_since", "measured", "overloaded", "peak", "total")

    def __init__(self, length: Seconds, samples: int) -> None:
        self._seconds = seconds(length)
        self._samples = samples
        self.begin(math.inf)

    def begin(self, now: float) -> None:
        """Forget everything."""
        self._since = now
        self.measured = self.overloaded = self.peak = 0
        self.total = 0.0

    def add(self, now: float, took: float, in_flight: int, *, overloaded: bool) -> bool:
        """Take in one attempt; tell whether it is time to decide."""
        # also where the clock has gone back, and for the first attempt of all
        self._since = min(self._since, now)
        self.peak = max(self.peak, in_flight)
        if overloaded:
            self.overloaded += 1
        elif 0 <= took < math.inf:
            self.measured += 1
            self.total += took
        enough = self.measured + self.overloaded >= self._samples
        return enough and now - self._since >= self._seconds

    @property
    def mean(self) -> float | None:
        """How long an attempt took that was not overloaded; None: there was none."""
        return self.total / self.measured if self.measured else None

    @property
    def kept(self) -> float:
        """What the overloaded share leaves of the limit."""
        return 1 - self.overloaded / (self.measured + self.overloaded) / 2


class _Gradient:
    __slots__ = ("_estimate", "_settings", "_usual", "_window", "_windows", "limit")

    def __init__(self, settings: Gradient) -> None:
        self._settings = settings
        self._window = _Window(settings.window, settings.samples)
        self._estimate = float(settings.initial)
        self._usual = 0.0
        """The slow average of the windows' means; 0: nothing is known."""
        self._windows = 0
        self.limit = settings.initial

    def ended(self, now: float, took: float, in_flight: int, overloaded: bool) -> None:  # noqa: FBT001
        window = self._window
        if not window.add(now, took, in_flight, overloaded=overloaded):
            return
        settings, estimate = self._settings, self._estimate
        in_use = window.peak * 2 >= estimate
        estimate *= window.kept
        gradient = self._gradient(window.mean)
        if in_use:
            wanted = estimate * gradient + settings.queue
            estimate += settings.smoothing * (wanted - estimate)
        self._estimate = min(settings.maximum, max(settings.minimum, estimate))
        self.limit = int(self._estimate)
        window.begin(now)

    def _gradient(self, mean: float | None) -> float:
        """Learn the mean of a window; return what part of the limit it asks to keep."""
        if not mean:
            return 1.0
        if not self._usual:
            self._usual = mean
        self._windows += 1
        warm = self._windows > _WARM
        weight = 2 / (self._settings.memory + 1) if warm else 1 / self._windows
        self._usual += weight * (min(mean, 10 * self._usual) - self._usual)
        if self._usual > 2 * mean:
            # after a long overload: it is over, so the average is not left to find out slowly
            self._usual *= 0.9
        return max(0.5, min(1.0, self._settings.tolerance * self._usual / mean))


class _Vegas:
    __slots__ = (
        "_base",
        "_estimate",
        "_probe",
        "_probed",
        "_probing",
        "_settings",
        "_window",
        "limit",
    )

    def __init__(self, settings: Vegas) -> None:
        self._settings = settings
        self._window = _Window(settings.window, settings.samples)
        self._estimate = float(settings.initial)
        self._base = math.inf
        """The mean duration where nothing queues."""
        self._probe = seconds(settings.probe)
        self._probed = math.inf
        """When the base was last measured anew, or the measuring began."""
        self._probing = False
        self.limit = settings.initial

    def ended(self, now: float, took: float, in_flight: int, overloaded: bool) -> None:  # noqa: FBT001
        # also where the clock has gone back, and for the first attempt of all
        self._probed = min(self._probed, now)
        if self._probing and now - took < self._probed:
            return
        window, settings = self._window, self._settings
        if not window.add(now, took, in_flight, overloaded=overloaded):
            return
        in_use = window.peak * 2 >= self.limit
        self._estimate *= window.kept
        mean = window.mean
        if self._probing:
            self._measured(now, mean)
        elif now - self._probed < self._probe:
            self._base = min(self._base, mean or math.inf)
            if in_use and mean:
                self._estimate += _change(self._estimate, self._base / mean)
        elif in_use:
            self._probing, self._probed = True, now
        else:
            self._measured(now, mean)
        self._estimate = min(settings.maximum, max(settings.minimum, self._estimate))
        self.limit = int(self._estimate)
        if self._probing:
            self.limit = max(settings.minimum, self.limit // 2)
        window.begin(now)

    def _measured(self, now: float, mean: float | None) -> None:
        self._base = mean or self._base
        self._probing, self._probed = False, now


def _change(limit: float, unqueued: float) -> float:
    """Return by how much the limit changes if that share of the time was not spent in a queue."""
    step = max(1.0, math.log10(limit))
    queued = limit * (1 - unqueued)
    if queued <= step:
        return 6 * step
    if queued < 3 * step:
        return step
    return -step if queued > 6 * step else 0.0
