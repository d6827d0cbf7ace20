"""An outage of the store, told once: hundreds of sagas that wait for it have one thing to say."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic

from switchgear.model.outcome import Unavailable, Unknown

__all__ = ["Outage"]

_log = logging.getLogger("switchgear.saga")


class Outage:
    """Whether the store of this worker can be used; `clock` is monotonic."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._since: float | None = None

    def began(self, error: Exception) -> None:
        """Take in that something could not be read or written; what nobody expected, with a trace.

        A server that is read-only for a failover, a statement that takes too long, a full disk: no
        list of a driver's errors is whole, and after each of them the work has to go on.
        """
        if self._since is None:
            self._since = self._clock()
            listed = isinstance(error, Unavailable | Unknown)
            _log.log(
                logging.WARNING if listed else logging.ERROR,
                "the saga store cannot be used now: %s; what is under way waits for it",
                error if listed else f"{type(error).__name__}: {error}",
                exc_info=None if listed else error,
            )

    def ended(self) -> None:
        """Take in that something could."""
        if self._since is not None:
            _log.warning("the saga store works again, after %.1f s", self._clock() - self._since)
            self._since = None
