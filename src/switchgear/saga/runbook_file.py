"""Runbooks: files that say what a person does when the saga cannot go on by itself.

A work item carries the text along, to the database, to Temporal and to whoever is told. So it is
bounded: a file that is larger is refused with its saga, and of one that has grown since then what
fits is told, and where the rest is.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Final

from switchgear.errors import SagaDefinitionError

__all__ = ["MOST", "Runbook", "defining_file", "find_runbook", "text_of"]

MOST: Final = 100_000
"""Bytes of a runbook."""
_CUT: Final = "\ufffd"
_OURS: Final = frozenset({__name__, "switchgear.saga.definition"})


@dataclass(frozen=True, slots=True)
class Runbook:
    """What a person does when the saga cannot go on by itself. `name` is as it was written."""

    name: str
    file: FilePath

    def text(self) -> str:
        """Return its text as it is now."""
        with self.file.open("rb") as file:
            read = file.read(MOST + 1)
        text = read[:MOST].decode("utf-8", "replace").replace("\r\n", "\n").replace("\0", "")
        if len(read) <= MOST:
            return text
        # its last character may have been cut in two
        return (
            f"{text.rstrip(_CUT)}\n\n[Cut after {MOST} bytes: the whole text is in {self.name}.]\n"
        )


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

    Raises `SagaDefinitionError` if there is no such file, or a larger one than is carried along.
    `place` and `what` name who wants it.
    """
    file = beside.parent / name
    if not file.is_file():
        raise SagaDefinitionError(
            f"its runbook {name} does not exist.",
            where=f"{place}: {what}",
            fix=f"Write {file}, or correct the path, which is relative to {beside.name}.",
        )
    size = file.stat().st_size
    if size > MOST:
        raise SagaDefinitionError(
            f"its runbook {name} is {size} bytes, and with a work item there go at most {MOST}.",
            where=f"{place}: {what}",
            fix=f"Shorten {file} to what a person does, and link to what is long.",
        )
    return Runbook(name, file)


def defining_file() -> FilePath:
    """Return the file of the module that makes a saga."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__") in _OURS:
        frame = frame.f_back
    file = frame.f_globals.get("__file__") if frame else None
    return FilePath(file) if file else FilePath.cwd() / "<interactive>"
