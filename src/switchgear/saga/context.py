"""What a step or an undo is told about the saga that it is part of."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote, unquote

from switchgear.saga.plan import Side

if TYPE_CHECKING:
    from switchgear.saga.definition import Step

__all__ = ["StepContext", "half_step_of", "key_of"]

R = TypeVar("R")
_KEY: Final = re.compile(r"saga/([^/]+)/([^/]+)/(do|undo)")


def key_of(id: str, step: str, side: Side) -> str:  # noqa: A002
    """Return the idempotency key of a half step: `saga/<id>/<step>/do` or `.../undo`.

    The id is percent-encoded where it has a `/` or another reserved character.
    """
    return f"saga/{quote(id, safe='')}/{step}/{side}"


def half_step_of(key: str) -> tuple[str, str, Side] | None:
    """Return the saga's id, the step and the side whose key this is; None: it is none."""
    match = _KEY.fullmatch(key)
    return None if match is None else (unquote(match[1]), match[2], Side(match[3]))


@dataclass(frozen=True, slots=True)
class StepContext:
    """The last parameter of every step and undo; `switchgear.saga.Context`.

    Commands that the step sends through our clients carry keys derived from `key` by themselves.
    """

    key: str
    """The same on every attempt: `saga/<id>/<step>/do`, or `.../undo` in the undo."""
    id: str
    """The saga's id, as it was started."""
    step: str
    """The step's name; in an undo, the name of the step that it undoes."""
    attempt: int
    """From 1. An attempt cut short by the end of its worker counts."""
    deadline: datetime | None
    """When the saga turns round; None from the point of no return on, and in an undo."""
    find: Callable[[str], object] = field(repr=False, compare=False)

    def result(self, step: Step[..., R]) -> R:
        """Return the recorded result of `step`. Raises `LookupError` if it has none."""
        found: Any = self.find(step.name)
        value: R = found
        return value
