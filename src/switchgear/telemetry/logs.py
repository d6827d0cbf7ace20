"""State changes as log lines, each at a level that says whether somebody should look.

How single calls, requests and events end is far too much for a log: that is counted and timed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from switchgear.model.signal import Signal, SignalKind, subscribe

__all__ = ["LEVELS", "logged"]

_log = logging.getLogger("switchgear")
_logging = False

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
        if level is not None and _log.isEnabledFor(level):
            fields = {"subject": signal.subject, **signal.detail}
            _log.log(level, "%s", signal.kind, extra={"fields": fields})

    _logging = True
    try:
        with subscribe(listen):
            yield
    finally:
        _logging = False
