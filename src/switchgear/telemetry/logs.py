"""State changes as log lines, each at a level that says whether somebody should look.

How single calls, requests and events end is far too much for a log: that is counted and timed.

The message says what happened, to what, and the details, for who reads it without the fields:

    breaker.opened: orders -> shop.inventory.v1.Inventory/stock (trigger=failures, failures=10)

What a part only observes has changed nothing: it is no warning, and begins with "would be".
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from switchgear.config.values import masked
from switchgear.model.signal import Detail, Signal, SignalKind, subscribe

__all__ = ["LEVELS", "logged"]

_log = logging.getLogger("switchgear")
_logging = False

_LONGEST: Final = 120
"""Of one detail, in characters: a message names an error, the fields have the whole of it."""

LEVELS: Final = {
    SignalKind.BREAKER_OPENED: logging.WARNING,
    SignalKind.BREAKER_HALF_OPENED: logging.INFO,
    SignalKind.BREAKER_CLOSED: logging.INFO,
    SignalKind.BUDGET_EXHAUSTED: logging.WARNING,
    SignalKind.LIMIT_REACHED: logging.WARNING,
    SignalKind.THROTTLE_ACTIVE: logging.WARNING,
    SignalKind.POLICY_RELOADED: logging.INFO,
    SignalKind.ADMISSION_OVERLOADED: logging.WARNING,
    SignalKind.ADMISSION_RECOVERED: logging.INFO,
    SignalKind.EVENT_PARKED: logging.ERROR,
    SignalKind.EVENT_STUCK: logging.ERROR,
    SignalKind.EVENT_MOVING: logging.INFO,
    SignalKind.EVENT_STALE: logging.WARNING,
    SignalKind.EVENT_FRESH: logging.INFO,
    SignalKind.SAGA_COMPENSATING: logging.WARNING,
    SignalKind.SAGA_QUEUED: logging.ERROR,
    SignalKind.SERVICE_STATE: logging.DEBUG,
}
"""The signals that are logged, and how loudly."""


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
        if level is not None and signal.detail.get("observed") is True:
            level = min(level, logging.INFO)
        if level is not None and _log.isEnabledFor(level):
            fields = {"subject": signal.subject, **signal.detail}
            # `told`: a formatter that prints message and fields need not print these again
            _log.log(level, "%s", _message(signal), extra={"fields": fields, "told": True})

    _logging = True
    try:
        with subscribe(listen):
            yield
    finally:
        _logging = False


def _message(signal: Signal) -> str:
    observed = signal.detail.get("observed") is True
    details = ", ".join(
        f"{name}={_short(value)}"
        for name, value in signal.detail.items()
        if value is not None and name != "observed"
    )
    happened = f"would be {signal.kind}" if observed else str(signal.kind)
    about = f"{happened}: {signal.subject}" if signal.subject else happened
    return f"{about} ({details})" if details else about


def _short(value: Detail) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else " ".join(str(value).split())
    # before it is cut: half a URL no longer shows where its password ends
    text = masked(text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
