"""Noticing that another process has committed to a SQLite file, at almost no cost while idle.

`PRAGMA data_version` is the truth: it changes when any other connection commits. Asking every few
milliseconds would cost an idle process 2 to 5% of a core, most of it for waking up. So the kernel
says when to ask: on Linux, inotify tells that the write-ahead log was written to, which happens
just before a commit becomes visible. After such a hint we ask every 2 ms until the change is seen;
without hints we still ask four times a second. Where there is no inotify we ask every 5 ms after a
change, and down to every 20 ms when nothing has changed for long.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from switchgear.database.sqlite import Sqlite

__all__ = ["Watch"]

_QUICK: Final = 0.002
_QUICK_FOR: Final = 0.1
_AFTERWARDS: Final = 0.01
"""How long to go on after a change was seen: the hint may have been for the commit behind it."""
_HINTED_IDLE: Final = 0.25
_BLIND: Final = 0.005
_BLIND_IDLE: Final = 0.02
_IN_MODIFY: Final = 0x2
_EVENTS: Final = 65_536


class Watch:
    """Calls `changed` on the event loop after any connection to `database` has committed.

    Several commits may be told as one.
    """

    def __init__(self, database: Sqlite, changed: Callable[[], None]) -> None:
        self._database = database
        self._changed = changed
        self._version = -1
        self._timer: asyncio.TimerHandle | None = None
        self._quick_until = 0.0
        self._hinted = 0.0
        self._idle = _BLIND
        self._hints: int | None = None

    def start(self) -> None:
        """Begin to watch, from the running loop."""
        self._version = self._database.version()
        self._hints = _inotify(self._database.path)
        loop = asyncio.get_running_loop()
        if self._hints is not None:
            loop.add_reader(self._hints, self._hint)
        self._timer = loop.call_later(_BLIND, self._ask)

    def stop(self) -> None:
        """Stop watching. Stopping twice is allowed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._hints is not None:
            asyncio.get_running_loop().remove_reader(self._hints)
            os.close(self._hints)
            self._hints = None

    def _hint(self) -> None:
        if self._hints is None or self._timer is None:
            return
        with suppress(BlockingIOError):
            os.read(self._hints, _EVENTS)
        loop = asyncio.get_running_loop()
        now = loop.time()
        if now >= self._quick_until:
            self._timer.cancel()
            self._timer = loop.call_later(0, self._ask)
        self._hinted = now
        self._quick_until = now + _QUICK_FOR

    def _ask(self) -> None:
        loop = asyncio.get_running_loop()
        version = self._database.version()
        changed = version != self._version
        self._version = version
        if self._hints is not None:
            if changed:
                self._quick_until = self._hinted + _AFTERWARDS
            wait = _QUICK if loop.time() < self._quick_until else _HINTED_IDLE
        else:
            self._idle = _BLIND if changed else min(self._idle * 1.01, _BLIND_IDLE)
            wait = self._idle
        self._timer = loop.call_later(wait, self._ask)
        if changed:
            self._changed()


def _inotify(path: Path) -> int | None:
    """Return a descriptor that is readable after a write to the file's log; None: not offered."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0:
        return None
    log = os.fsencode(path) + b"-wal"
    if libc.inotify_add_watch(descriptor, log, _IN_MODIFY) < 0:
        os.close(descriptor)
        return None
    return descriptor
