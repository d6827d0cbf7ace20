"""What a caller does not even send to a callee that turns it away: client-side throttling.

The rule is that of the Google SRE book, "Handling Overload" (Beyer et al., 2016, chapter 21). Over
the last `window` seconds, with `requests` all that was to be sent and `accepts` what the callee
took on, the next request is turned away on our side with the probability

    p = max(0, (requests - ratio * accepts) / (requests + 1))

While the callee takes on more than one of `ratio` requests, p is 0. Beyond, what is sent settles
where the callee sees `ratio` times what it takes on: with a ratio of 2 it has to turn away one
request for each that it serves, however many callers there are. What is turned away here counts in
`requests` too, so that p stays up while demand does.

| how a request ends                                       | counted as      |
| -------------------------------------------------------- | --------------- |
| `Ok`, `Refused`: the callee answered                     | accepted        |
| turned away by the callee (429, 503, RESOURCE_EXHAUSTED) | turned away     |
| timed out, lost, no connection                           | turned away     |
| turned away by this throttle                             | turned away     |
| cancelled, turned away by another part of the policy     | nothing         |

Two departures from the book, each one setting away from it:

* `reserve` requests of a window are forgiven. By the formula alone, the first failure after a quiet
  night throttles one request in two. (0: the book.)
* p is at most `most`. By the formula alone, a caller that sends a thousand requests a second sends
  hardly one a minute after an outage of two minutes, and learns late that the callee is back.
  Envoy's admission control filter has such a bound too. (1: the book.)

A breaker stops calling, for a time, a callee that fails; a throttle takes from a callee that is
overloaded what it cannot serve, and goes on with the rest. They work together: the throttle is
asked first, and what it turns away is no failure to the breaker.

Requests are counted when they end, so one that is cancelled counts as nothing. All is O(1); while
nothing was turned away in the window, `admit` is one look at a flag.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from switchgear.policy.settings import Seconds, Settings, allow, seconds, settle
from switchgear.policy.window import Tally

__all__ = ["Throttle", "Throttling"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttle(Settings):
    """How much more than a callee takes on may be sent to it."""

    ratio: float = 2.0
    """Requests sent for each that the callee takes on; the book's K. 1 to 100."""
    window: Seconds = 30.0
    """How far back to look, in seconds. (The book looks back two minutes.)"""
    reserve: int = 10
    """Requests in the window that may fail without any being throttled."""
    most: float = 0.95
    """The largest share that is turned away; above 0, at most 1."""

    def __post_init__(self) -> None:
        settle(self, "window")
        allow(self, "ratio", 1, 100)
        allow(self, "window", 0, above=True)
        allow(self, "reserve", 0)
        allow(self, "most", 0, 1, above=True)


class Throttling:
    """The state of one throttle, shared by every call of an edge."""

    __slots__ = ("active", "settings", "standing", "tally")

    def __init__(self, settings: Throttle, before: Throttling | None = None) -> None:
        """Begin anew, or go on from what was counted `before` under other settings."""
        self.settings = settings
        lengths = [seconds(settings.window)]
        self.tally: Tally = Tally(lengths) if before is None else before.tally.resized(lengths)
        """Requests that the callee took on, and the others."""
        self.standing: bool = before is None or before.standing
        """Nothing was turned away in the window: all pass, and callers in a hurry need not ask."""
        self.active = False
        """Whether requests were being turned away when the last one was admitted or not."""

    def admit(self, now: float, random: Callable[[], float]) -> bool:
        """Tell whether to send a request. `random` returns a number in [0, 1); it may be unused.

        What is not to be sent is counted; do not tell `turned_away` about it.
        """
        if self.standing:
            return True
        share = self.share(now)
        self.active = share > 0
        if not self.active or random() >= share:
            return True
        self.tally.add_bad(now)
        return False

    def accepted(self, now: float) -> None:
        """Count a request that the callee took on."""
        self.tally.add_good(now)

    def turned_away(self, now: float) -> None:
        """Count a request that the callee did not take on, or did not answer."""
        self.tally.add_bad(now)
        self.standing = False

    def share(self, now: float) -> float:
        """Return the probability with which a request is turned away now."""
        ((accepts, others),) = self.tally.totals(now)
        self.standing = not others
        requests = accepts + others
        excess = requests - self.settings.ratio * accepts - self.settings.reserve
        return min(self.settings.most, max(0.0, excess / (requests + 1)))
