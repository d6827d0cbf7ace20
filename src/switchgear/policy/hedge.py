"""A second attempt beside the first, when the first takes longer than nearly all do.

The rules
---------
An attempt that is still in flight after the `percentile` of what attempts took lately gets a rival;
the first answer wins, and the loser is cancelled. After Dean and Barroso, "The Tail at Scale"
(CACM 2013): with the 95th percentile it costs at most 5% more requests, and cuts the tail.

Only where all of these hold: the call is safe to repeat (a query, or keyed); it is not itself part
of a retry of a layer above; the breaker is closed; a place is free at once; the budget pays. A
callee that is slow as a whole is therefore not hedged to death: its percentile rises, and its
budget is empty.

`after` is a fixed time instead of the observed one. Until `samples` attempts were measured in the
window, there is no percentile and no hedge. What the loser took until it was cancelled counts as
its duration, so that hedging does not make the percentile look better than it is.

A failure of one of the two does not end the call while the other is in flight; a refusal does.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from switchgear.policy.quantile import Durations
from switchgear.policy.settings import Seconds, Settings, allow, ordered, seconds, settle

__all__ = ["Hedge", "Pacer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hedge(Settings):
    """When an attempt gets a rival."""

    percentile: float = 0.95
    """Of what attempts took lately: longer than that is late; 0.5 to 0.999."""
    after: Seconds | None = None
    """A fixed time instead. Seconds, above 0."""
    rivals: int = 1
    """Further attempts at most, each as long after the one before; 1 to 5."""
    least: Seconds = 0.001
    """No hedge is made sooner. Seconds."""
    samples: int = 50
    """With fewer measured in the window there is no percentile; at least 10."""
    window: Seconds = 60.0
    """How far back to look, in seconds."""

    def __post_init__(self) -> None:
        settle(self, "after", "least", "window")
        allow(self, "percentile", 0.5, 0.999)
        allow(self, "after", 0, above=True)
        allow(self, "rivals", 1, 5)
        allow(self, "least", 0)
        allow(self, "samples", 10)
        allow(self, "window", 0, above=True)
        ordered(self, "least", "after")


class Pacer:
    """When attempts of one edge count as late."""

    __slots__ = ("_due", "_valid", "durations", "settings")

    def __init__(self, settings: Hedge, before: Pacer | None = None) -> None:
        self.settings = settings
        window = seconds(settings.window)
        self.durations = Durations(window)
        if before is not None and seconds(before.settings.window) == window:
            self.durations = before.durations
        self._due = inf
        self._valid = 0.0

    def measured(self, now: float, took: float) -> None:
        """Count what an attempt took."""
        self.durations.add(now, took)

    def delay(self, now: float) -> float:
        """Return how long after its start an attempt is late; `inf`: not known."""
        settings = self.settings
        if settings.after is not None:
            return seconds(settings.after)
        if now >= self._valid:
            self._due = inf
            if self.durations.count >= settings.samples:
                found = self.durations.at(now, settings.percentile)
                self._due = inf if found is None else max(found, seconds(settings.least))
                # a percentile moves slowly, and reading it costs as much as a call
                self._valid = now + seconds(settings.window) / 100
        return self._due
