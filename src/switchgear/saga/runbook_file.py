"""Runbooks: files that say what a person does when the saga cannot go on by itself."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Final

from switchgear.errors import SagaDefinitionError

__all__ = ["Runbook", "defining_file", "find_runbook", "text_of"]

_OURS: Final = frozenset({__name__, "switchgear.saga.definition"})


@dataclass(frozen=True, slots=True)
class Runbook:
    """What a person does when the saga cannot go on by itself. `name` is as it was written."""

    name: str
    file: FilePath

    def text(self) -> str:
        """Return its text as it is now."""
        return self.file.read_text(encoding="utf-8", errors="replace").replace("\0", "")


def text_of(runbook: Runbook | None) -> str:
    """Return the text of a runbook as it is now, or why there is none."""
    if runbook is None:
        return ""
    try:
        return runbook.text()
    except OSError as error:
        return f"The runbook {runbook.name} cannot be read: {error}"


def find_runbook(name: str, beside: FilePath, place: str, what: str) -> Runbook:
    """Return the runbook `name`, relative to the file `beside`.

    Raises `SagaDefinitionError` if there is no such file. `place` and `what` name who wants it.
    """
    file = beside.parent / name
    if not file.is_file():
        raise SagaDefinitionError(
            f"its runbook {name} does not exist.",
            where=f"{place}: {what}",
            fix=f"Write {file}, or correct the path, which is relative to {beside.name}.",
        )
    return Runbook(name, file)


def defining_file() -> FilePath:
    """Return the file of the module that makes a saga."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__") in _OURS:
        frame = frame.f_back
    file = frame.f_globals.get("__file__") if frame else None
    return FilePath(file) if file else FilePath.cwd() / "<interactive>"
