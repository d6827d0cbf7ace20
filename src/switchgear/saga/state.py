"""What a saga's journal is made of, and what it adds up to. The rules are in `machine.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from switchgear.saga.plan import Side

__all__ = [
    "Answered",
    "Entry",
    "Expired",
    "Fate",
    "Happening",
    "Left",
    "Mark",
    "Next",
    "Operated",
    "Phase",
    "Run",
    "State",
    "Stranded",
    "Try",
    "What",
]


class Phase(StrEnum):
    """Which way a saga goes."""

    FORWARD = "running"
    UNDOING = "undoing"
    DONE = "done"
    UNDONE = "undone"


class Fate(StrEnum):
    """What is known of a step's effect."""

    WAITING = "waiting"
    BEGUN = "begun"
    DONE = "done"
    ABSENT = "not done"
    UNSURE = "may have been done"
    UNDONE = "undone"
    SKIPPED = "skipped"
    REFUTED = "refuted"
    """It was recorded as done, and someone has shown since that it does not hold."""


class What(StrEnum):
    """What happened; the first group is what an attempt answered."""

    OK = "ok"
    REFUSED = "refused"
    REJECTED = "rejected"
    UNAVAILABLE = "unavailable"
    UNKNOWN = "unknown"
    UNRECORDED = "unrecorded"

    EXPIRED = "expired"
    INTERRUPTED = "interrupted"
    LEFT = "left"
    STRANDED = "stranded"

    RETRY = "retry"
    RESOLVE = "resolve"
    SKIP = "skip"
    ABORT = "abort"
    REFUTE = "refute"


class Next(StrEnum):
    """What follows from it. It is recorded, so that a replay never decides again."""

    GO = "go"
    AGAIN = "again"
    UNDO = "undo"
    QUEUE = "queue"


@dataclass(frozen=True, slots=True)
class Answered:
    """An attempt of a half step ended. `partial`: it did something before what failed."""

    step: str
    side: Side
    what: What
    partial: bool = False
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Expired:
    """The deadline has passed before the point of no return; see `expired`."""


@dataclass(frozen=True, slots=True)
class Left:
    """A step that undoing waits for is not being attempted: nobody will answer for it."""

    step: str


@dataclass(frozen=True, slots=True)
class Stranded:
    """A step without an undo was done, or may have been, and the saga is undoing."""

    step: str


@dataclass(frozen=True, slots=True)
class Operated:
    """A person acted: RETRY, RESOLVE, SKIP or ABORT of an open work item, or REFUTE of a step.

    `complaint` says when they cannot.
    """

    step: str
    action: What


Happening: TypeAlias = Answered | Expired | Left | Stranded | Operated


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a journal: what happened, and what was decided. Times are epoch seconds."""

    what: What
    next: Next
    at: float
    step: str = ""
    side: Side | None = None
    attempt: int = 0
    due: float | None = None
    """When the next attempt may begin, if `next` is AGAIN."""
    doubt: bool = False
    """The step may have been done by this attempt or an earlier one."""


@dataclass(frozen=True, slots=True)
class Try:
    """The attempts at one half of a step. `attempt` 0: none has begun."""

    attempt: int = 0
    failures: int = 0
    since: float = 0.0
    due: float = 0.0

    def again(self, due: float, failures: int) -> Try:
        """Return the next attempt, which may begin at `due`."""
        return Try(self.attempt + 1, failures, self.since, due)


_NONE = Try()


@dataclass(frozen=True, slots=True)
class Mark:
    """What is known of one step."""

    fate: Fate = Fate.WAITING
    do: Try = _NONE
    undo: Try = _NONE
    doubt: bool = False
    item: bool = False
    """It stands in front of a person."""


@dataclass(frozen=True, slots=True)
class State:
    """Where a saga stands: what its journal adds up to."""

    phase: Phase
    marks: Mapping[str, Mark]
    deadline: float | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """Attempt a half step, not before `due`."""

    step: str
    side: Side
    attempt: int
    due: float
