"""What the parts report, as log lines and, where OpenTelemetry is installed, as metrics.

State changes are logged, each at a level that says whether somebody should look. How single calls,
requests and events end is far too much for a log: that is counted and timed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from switchgear.model.signal import Signal, SignalKind, subscribe

if TYPE_CHECKING:
    from opentelemetry.metrics import Counter, Histogram, Meter

__all__ = ["LEVELS", "logged", "measured"]

_log = logging.getLogger("switchgear")
_logging = False

LEVELS: Final = {
    SignalKind.BREAKER_OPENED: logging.WARNING,
    SignalKind.BREAKER_HALF_OPENED: logging.INFO,
    SignalKind.BREAKER_CLOSED: logging.INFO,
    SignalKind.BUDGET_EXHAUSTED: logging.WARNING,
    SignalKind.LIMIT_REACHED: logging.WARNING,
    SignalKind.ADMISSION_OVERLOADED: logging.WARNING,
    SignalKind.ADMISSION_RECOVERED: logging.INFO,
    SignalKind.EVENT_PARKED: logging.ERROR,
    SignalKind.SAGA_COMPENSATING: logging.WARNING,
    SignalKind.SAGA_QUEUED: logging.ERROR,
    SignalKind.SERVICE_STATE: logging.DEBUG,
}
"""The signals that are logged, and how loudly."""

_LABELS: Final = frozenset(
    {"outcome", "status", "reason", "door", "state", "group", "name", "priority"}
)
"""Details that have few values, so that they may label a metric."""


@contextmanager
def logged() -> Iterator[None]:
    """Log state changes during the body of the `with`, through the logger `switchgear`.

    Inside another `logged()` it does nothing: two services in one process log once.
    """
    global _logging  # noqa: PLW0603  signals are the process's, so is the choice to log them
    if _logging:
        yield
        return

    def listen(signal: Signal) -> None:
        level = LEVELS.get(signal.kind)
        if level is not None and _log.isEnabledFor(level):
            fields = {"subject": signal.subject, **signal.detail}
            _log.log(level, "%s", signal.kind, extra={"fields": fields})

    _logging = True
    try:
        with subscribe(listen):
            yield
    finally:
        _logging = False


@contextmanager
def measured(service: str) -> Iterator[None]:
    """Count and time what happens during the body of the `with`, where OpenTelemetry is there.

    `switchgear.<kind>` counts signals, `switchgear.<kind>.duration` is a histogram of their
    seconds; both carry the subject and those details that have few values. Without the package
    `opentelemetry-api` it does nothing; without an SDK its meters cost next to nothing.
    """
    meter = _meter()
    if meter is None:
        yield
        return
    with subscribe(_recorder(meter, service)):
        yield


def _meter() -> Meter | None:
    try:
        from opentelemetry import metrics  # noqa: PLC0415  an optional dependency
    except ImportError:
        return None
    return metrics.get_meter("switchgear")


def _recorder(meter: Meter, service: str) -> Callable[[Signal], None]:
    counters: dict[SignalKind, Counter] = {}
    timers: dict[SignalKind, Histogram] = {}

    def record(signal: Signal) -> None:
        kind = signal.kind
        if kind not in counters:
            counters[kind] = meter.create_counter(f"switchgear.{kind}", unit="1")
            timers[kind] = meter.create_histogram(f"switchgear.{kind}.duration", unit="s")
        labels: dict[str, str] = {"service": service, "subject": signal.subject}
        labels.update(
            (name, str(value))
            for name, value in signal.detail.items()
            if name in _LABELS and value is not None
        )
        counters[kind].add(1, labels)
        seconds = signal.detail.get("seconds")
        if isinstance(seconds, int | float):
            timers[kind].record(seconds, labels)

    return record
