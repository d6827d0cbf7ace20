"""Noticing that another process has committed to a SQLite file, at almost no cost while idle.

`PRAGMA data_version` is the truth: it changes when any other connection commits. Asking every few
milliseconds would cost an idle process 2 to 5% of a core, most of it for waking up. So the kernel
says when to ask: on Linux, inotify tells that the write-ahead log was written to, which happens
just before a commit becomes visible. After such a hint we ask every 2 ms until the change is seen,
and 10 ms longer, for another commit may be right behind it; while we ask, hints are not listened
to. Without hints we still ask four times a second. Where there is no inotify we ask every 5 ms
after a change, and down to every 20 ms when nothing has changed for long.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from switchgear.database.sqlite import Sqlite

__all__ = ["Watch"]

_QUICK: Final = 0.002
_EXPECTING: Final = 0.1
"""Seconds within which a commit that was hinted at should be visible."""
_AFTERWARDS: Final = 0.01
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
        """Begin to ask often: something was written."""
        if self._hints is None or self._timer is None:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._hints)
        self._drain(self._hints)
        self._quick_until = loop.time() + _EXPECTING
        self._timer.cancel()
        self._ask()

    def _ask(self) -> None:
        loop = asyncio.get_running_loop()
        version = self._database.version()
        changed = version != self._version
        self._version = version
        wait = self._pause_blind(changed=changed)
        if self._hints is not None:
            wait = self._pause_hinted(self._hints, loop, changed=changed)
        self._timer = loop.call_later(wait, self._ask)
        if changed:
            self._changed()

    def _pause_hinted(self, hints: int, loop: asyncio.AbstractEventLoop, *, changed: bool) -> float:
        now = loop.time()
        if changed:
            self._quick_until = now + _AFTERWARDS
        if now < self._quick_until:
            return _QUICK
        if self._quick_until:
            if self._drain(hints):
                self._quick_until = now + _EXPECTING
                return _QUICK
            self._quick_until = 0.0
            loop.add_reader(hints, self._hint)
        return _HINTED_IDLE

    def _pause_blind(self, *, changed: bool) -> float:
        self._idle = _BLIND if changed else min(self._idle * 1.01, _BLIND_IDLE)
        return self._idle

    @staticmethod
    def _drain(hints: int) -> bool:
        """Take what has been hinted at; tell whether it was anything."""
        try:
            return bool(os.read(hints, _EVENTS))
        except BlockingIOError:
            return False


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
