"""Log lines: readable on a terminal, one JSON object a line everywhere else.

A record may carry `extra={"fields": {...}}`. Passwords in URLs are masked in every line.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, TextIO

from switchgear.config import masked

__all__ = ["Json", "Readable", "configure"]

_COLOURS: Final = {"DEBUG": "2", "WARNING": "33", "ERROR": "31", "CRITICAL": "31;1"}


def configure(
    level: str = "info",
    *,
    service: str | None = None,
    stream: TextIO | None = None,
    json_lines: bool | None = None,
) -> None:
    """Send the log of this process to `stream` (default: standard output).

    `json_lines` chooses the form; None: JSON unless the stream is a terminal.
    """
    out = sys.stdout if stream is None else stream
    terminal = out.isatty()
    as_json = not terminal if json_lines is None else json_lines
    colour = terminal and "NO_COLOR" not in os.environ
    handler = logging.StreamHandler(out)
    handler.setFormatter(Json(service) if as_json else Readable(service, colour=colour))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    # they report every connection at INFO, which nobody reads
    for chatty in ("uvicorn", "uvicorn.error", "uvicorn.access", "asyncio", "aiosqlite"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _fields(record: logging.LogRecord) -> Mapping[str, object]:
    fields = getattr(record, "fields", None)
    return fields if isinstance(fields, Mapping) else {}


class Json(logging.Formatter):
    """One JSON object a line: time, level, service, logger, message, the fields, the trace."""

    def __init__(self, service: str | None = None) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "message": masked(record.getMessage()),
        }
        line.update(
            (key, masked(value) if isinstance(value, str) else value)
            for key, value in _fields(record).items()
            if key not in line
        )
        if record.exc_info:
            line["trace"] = masked(self.formatException(record.exc_info))
        return json.dumps({k: v for k, v in line.items() if v is not None}, default=str)


class Readable(logging.Formatter):
    """Time, level, service, message, and the fields as `key=value` where it has not `told` them."""

    def __init__(self, service: str | None = None, *, colour: bool = False) -> None:
        super().__init__()
        self._service = service
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and the trace on lines of its own."""
        time = datetime.fromtimestamp(record.created, UTC).astimezone().strftime("%H:%M:%S.%f")
        parts = [
            time[:-3],
            f"{record.levelname.lower():<8}",
            *([self._service] if self._service else []),
        ]
        parts.append(record.getMessage())
        if not getattr(record, "told", False):
            parts.extend(
                f"{key}={value}" for key, value in _fields(record).items() if value is not None
            )
        line = " ".join(parts)
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        line = masked(line)
        code = _COLOURS.get(record.levelname) if self._colour else None
        return f"\x1b[{code}m{line}\x1b[0m" if code else line
