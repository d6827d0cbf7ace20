"""Answers that went well and took their time: who is told where it went.

| who asks           | when                                                 | who is told    |
| ------------------ | ---------------------------------------------------- | -------------- |
| a service, by name | it took a tenth of the time that the caller had left | the caller     |
| anybody else       | it is late                                           | the log, once  |
| anybody            | it is over the operation's declared latency          | the log, once  |

Late is what took longer than the latency that is declared for the operation or, where none is, half
of the time that its caller had left. Without either, nothing is late. What takes as long as its
caller likes, a stream, has no trail.

The trail leads down as far as one call took most of its request's time, and ends at the request
that spent it by itself, or in many calls. A service in the middle tells sooner than it is late,
because what is late is decided at the edge.

When everything is slow, a line for each answer would be a flood: an operation has one in ten
seconds, which says how many others there were.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from math import inf
from typing import Final

from switchgear.contract.service import Operation
from switchgear.model.trail import FLOOR, SLOW, Hop, Spent, Trail, told, write
from switchgear.serve.arrival import Arrival

__all__ = ["Lateness"]

log = logging.getLogger("switchgear.serve")

_TOLD: Final = 0.1
_LATE: Final = 0.5
_PAUSE: Final = 10.0


class Lateness:
    """Judges the answers of one dispatcher; `latency` as in `Dispatcher`."""

    __slots__ = ("_latency", "_lines")

    def __init__(self, latency: Mapping[str, float]) -> None:
        self._latency = latency
        self._lines: dict[str, tuple[float, int]] = {}
        """When an operation had its last line, and how many answers were late since."""

    def answered(self, arrival: Arrival, now: float) -> None:
        """Event: a request was answered at `now`. Its arrival gets the trail, if one is sent."""
        took = now - arrival.received
        if took < FLOOR:
            return
        operation, deadline = arrival.operation, arrival.context.deadline
        if operation.streaming or operation.takes_stream:
            return
        left = inf if deadline is None else deadline - arrival.received
        promised = self._promised(operation)
        late = took > (left * _LATE if promised is None else promised)
        named = arrival.named
        if not late and not (named and took >= left * _TOLD):
            return
        own = Hop(operation.full_name, "ok", SLOW, seconds=took)
        trail = arrival.spent.mostly(took, own)
        if named:
            arrival.trail = trail
        if late and (promised is not None or not named):
            self._tell(operation.full_name, took, trail, now)

    def elsewhere(self, name: str, took: float, spent: Spent, now: float) -> None:
        """Event: an application that is not ours has answered `name`; the log alone is told."""
        promised = self._latency.get(name, self._latency.get(""))
        if promised is not None and took > promised:
            trail = spent.mostly(took, Hop(name, "ok", SLOW, seconds=took))
            self._tell(name, took, trail, now)

    def _promised(self, operation: Operation) -> float | None:
        latency = self._latency
        if not latency:
            return None
        contract = operation.full_name.rpartition("/")[0]
        return latency.get(operation.full_name, latency.get(contract, latency.get("")))

    def _tell(self, name: str, took: float, trail: Trail, now: float) -> None:
        last, others = self._lines.get(name, (-inf, 0))
        if now < last + _PAUSE:
            self._lines[name] = last, others + 1
            return
        self._lines[name] = now, 0
        more = f"; {others} more since the last line" if others else ""
        first = trail[0]
        fields = {
            "operation": name,
            "seconds": took,
            "first_cause": first.edge,
            "reason": first.reason,
            "trail": write(trail),
            "others": others,
        }
        what = "%s was answered late, after %.0f ms (%s)%s"
        log.warning(what, name, took * 1000, told(trail), more, extra={"fields": fields})
