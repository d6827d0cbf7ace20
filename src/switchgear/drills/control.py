"""The two files between a drill and a service that it breaks: faults go in, signals come out.

Faults are one JSON object by operation, replaced whole; a service reads it again when it has
changed. Signals are one JSON object a line, appended with one write each, so that a line is whole
or absent however the process ends. Times are the machine's wall clock, which its processes share.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Entry", "FaultFile", "Faults", "SignalFile", "read_signals"]


@dataclass(frozen=True, slots=True)
class Faults:
    """What is wrong with one operation (or, under `*`, with every operation) of a service."""

    sleep: float = 0.0
    """Seconds that a request waits before it is worked on."""
    fail: bool = False
    """Every request ends in an exception that nobody catches."""


_HEALTHY = Faults()


class FaultFile:
    """The faults of one service. The drill sets them, the service looks them up."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen = (0, 0)
        self._faults: dict[str, Faults] = {}

    def set(self, **faults: Faults) -> None:
        """Replace all faults: `set(stock=Faults(sleep=0.8))`; `set()` heals the service."""
        told = {name: {"sleep": fault.sleep, "fail": fault.fail} for name, fault in faults.items()}
        draft = self.path.with_suffix(".new")
        draft.write_text(json.dumps(told), encoding="utf-8")
        draft.replace(self.path)

    def of(self, operation: str) -> Faults:
        """Return what is wrong with an operation now."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return _HEALTHY
        # the file before the last may have had the same number
        stamp = found.st_ino, found.st_mtime_ns
        if stamp != self._seen:
            told = json.loads(self.path.read_text(encoding="utf-8"))
            self._faults = {name: Faults(**fault) for name, fault in told.items()}
            self._seen = stamp
        return self._faults.get(operation) or self._faults.get("*") or _HEALTHY


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a service's signals."""

    at: float
    """Unix time in seconds."""
    kind: str
    subject: str
    detail: Mapping[str, Any] = field(default_factory=dict)  # `Any`: as the signal had it


class SignalFile:
    """Where a service writes what happens in it."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def write(self, kind: str, subject: str, detail: Mapping[str, Any]) -> None:
        """Append one line."""
        line = {"at": time.time(), "kind": kind, "subject": subject, "detail": dict(detail)}
        os.write(self._file, json.dumps(line, default=str).encode() + b"\n")


def read_signals(path: Path) -> list[Entry]:
    """Return what a service has written so far, in order; none where it wrote nothing."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as lines:
        return [Entry(**json.loads(line)) for line in lines if line.endswith("\n")]
