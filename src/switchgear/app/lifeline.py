"""The line between `switchgear up` and a service's process: one socket, inherited at the start.

The service says how it is, one JSON object a line: `starting`, `ready`, `draining`, `failed`. What
the line carries the other way is its end: when the supervisor dies, however it dies, the kernel
closes its side, and the service stops. It drains first, like on SIGTERM, and is gone for good after
the bound; a service that is still importing its modules goes at once.

A thread watches, because a service's event loop may be busy or not there yet.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Mapping
from typing import Final

__all__ = ["VARIABLE", "Lifeline"]

VARIABLE: Final = "SWITCHGEAR_SUPERVISOR"
"""Holds the number of the inherited file descriptor."""
_SLACK: Final = 2.0
"""Seconds beyond the drain bound after which the process ends itself."""


class Lifeline:
    """A service's end of the line; without a supervisor, everything it does is nothing."""

    def __init__(self, line: socket.socket | None = None) -> None:
        self._line = line
        self._drain: float | None = None

    @classmethod
    def from_environ(cls) -> Lifeline:
        """Take the inherited socket, if there is one, and begin to watch it."""
        number = os.environ.pop(VARIABLE, "")
        if not number.isdecimal():
            return cls()
        line = socket.socket(fileno=int(number))
        line.set_inheritable(False)  # a process that the service starts must not hold it open
        self = cls(line)
        threading.Thread(target=self._watch, name="lifeline", daemon=True).start()
        return self

    def drains(self, within: float) -> None:
        """Note that the service now handles SIGTERM and ends within `within` seconds of it."""
        self._drain = within

    def tell(self, state: str, **detail: str | None) -> None:
        """Say how the service is."""
        if self._line is None:
            return
        told: Mapping[str, str | None] = {"state": state, **detail}
        try:
            self._line.sendall(json.dumps(told).encode() + b"\n")
        except OSError:
            return  # the supervisor is gone, which the watcher sees too

    def _watch(self) -> None:
        if self._line is None:
            return
        try:
            while self._line.recv(1024):
                pass
        except OSError:
            pass  # a reset is an end as well
        if self._drain is None:
            os._exit(1)
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(self._drain + _SLACK)
        os._exit(1)
