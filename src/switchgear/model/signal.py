"""What a part reports about an edge: a state that changed, a call that ended, an event parked.

Parts call `emit`; telemetry, logs, drills and tests subscribe. With no listener, a part pays for
one truth test: guard the construction of a signal with `if listening():`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count
from typing import Final

__all__ = [
    "BEGINS",
    "Detail",
    "Listener",
    "Signal",
    "SignalKind",
    "began",
    "emit",
    "listening",
    "subscribe",
]

Detail = str | int | float | bool | None


class SignalKind(StrEnum):
    """What happened. The names are stable: dashboards are built on them."""

    CALL_BEGAN = "call.began"
    CALL_ENDED = "call.ended"
    ATTEMPT_BEGAN = "attempt.began"
    ATTEMPT_ENDED = "attempt.ended"
    STREAM_FAILED = "call.stream-failed"
    """A stream of replies failed after its call had ended well, with the first of them."""
    BREAKER_OPENED = "breaker.opened"
    BREAKER_HALF_OPENED = "breaker.half-opened"
    BREAKER_CLOSED = "breaker.closed"
    BUDGET_EXHAUSTED = "budget.exhausted"
    LIMIT_REACHED = "limit.reached"
    THROTTLE_ACTIVE = "throttle.active"
    FALLBACK_USED = "fallback.used"
    HEDGE_SENT = "hedge.sent"
    POLICY_OBSERVED = "policy.observed"
    POLICY_RELOADED = "policy.reloaded"
    REQUEST_BEGAN = "request.began"
    REQUEST_ENDED = "request.ended"
    REQUEST_SHED = "request.shed"
    DEPRECATED_USED = "request.deprecated-used"
    """A request used a field, or a member of an enumeration, that is deprecated."""
    ADMISSION_OVERLOADED = "admission.overloaded"
    ADMISSION_RECOVERED = "admission.recovered"
    EVENT_PUBLISHED = "event.published"
    EVENT_BEGAN = "event.began"
    EVENT_ENDED = "event.ended"
    """Its handler has returned or raised; nothing is committed yet."""
    EVENT_DEPRECATED_USED = "event.deprecated-used"
    """An event that was read used a field, or a member of an enumeration, that is deprecated."""
    EVENT_HANDLED = "event.handled"
    EVENT_RETRIED = "event.retried"
    EVENT_PARKED = "event.parked"
    EVENT_LAG = "event.lag"
    """Every few seconds: how far a subscription is behind, and what it has put aside."""
    EVENT_STUCK = "event.stuck"
    """A subscription has events and makes no progress."""
    EVENT_MOVING = "event.moving"
    """It makes progress again."""
    EVENT_STALE = "event.stale"
    """An event has been waiting for longer than its subscription declares."""
    EVENT_FRESH = "event.fresh"
    """None does any more."""
    OUTBOX_BACKLOG = "outbox.backlog"
    """Every few seconds: how many events are not published yet, and the age of the oldest."""
    SAGA_STARTED = "saga.started"
    SAGA_STEP_BEGAN = "saga.step-began"
    SAGA_STEP_ENDED = "saga.step-ended"
    """An attempt at a step has returned or raised; nothing is journaled yet."""
    SAGA_STEP = "saga.step"
    SAGA_COMPENSATING = "saga.compensating"
    SAGA_QUEUED = "saga.queued"
    SAGA_ENDED = "saga.ended"
    SAGA_WAITING = "saga.waiting"
    """Every few seconds: how many work items are open, and the age of the oldest."""
    SERVICE_STATE = "service.state"


@dataclass(frozen=True, slots=True)
class Signal:
    """One report. `subject` is the edge, subscription, saga or service that it is about."""

    kind: SignalKind
    subject: str
    detail: Mapping[str, Detail] = field(default_factory=dict)
    id: int = 0
    """Tells which begin belongs to which end; 0: it is neither."""


BEGINS: Final = {
    SignalKind.CALL_BEGAN: SignalKind.CALL_ENDED,
    SignalKind.ATTEMPT_BEGAN: SignalKind.ATTEMPT_ENDED,
    SignalKind.REQUEST_BEGAN: SignalKind.REQUEST_ENDED,
    SignalKind.EVENT_BEGAN: SignalKind.EVENT_ENDED,
    SignalKind.SAGA_STEP_BEGAN: SignalKind.SAGA_STEP_ENDED,
}
"""The signals that come in pairs: each begin, and its end in the same task or thread."""


Listener = Callable[[Signal], None]
_listeners: tuple[Listener, ...] = ()
_ids = count(1)


def listening() -> bool:
    """Tell whether anyone listens; if not, do not build the signal."""
    return bool(_listeners)


def emit(signal: Signal) -> None:
    """Hand a signal to every listener, in the order in which they subscribed.

    A listener must be quick and must not raise: what it raises reaches the part that reports.
    """
    for listener in _listeners:
        listener(signal)


def began(kind: SignalKind, subject: str, detail: Mapping[str, Detail]) -> int:
    """Emit a begin and return its id, for the end; 0 where nobody listens."""
    if not _listeners:
        return 0
    number = next(_ids)
    emit(Signal(kind, subject, detail, number))
    return number


@contextmanager
def subscribe(listener: Listener) -> Iterator[None]:
    """Call `listener` for every signal of this process during the body of the `with`."""
    global _listeners  # noqa: PLW0603  a tuple swapped whole is safe to read from any thread
    _listeners = (*_listeners, listener)
    try:
        yield
    finally:
        # compared by equality: a bound method is a new object each time it is looked up
        index = _listeners.index(listener)
        _listeners = _listeners[:index] + _listeners[index + 1 :]
