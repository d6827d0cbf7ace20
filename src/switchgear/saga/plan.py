"""A saga's structure as data: what the machine, the stores and `explain` need to know of it.

A plan holds no function. It is stored beside the sagas that run by it, so that the command line
can show and operate a saga without importing the service that defines it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

__all__ = ["Backoff", "Kind", "Plan", "Side", "StepPlan"]


class Kind(StrEnum):
    """What can be done about a step once it has been carried out."""

    START = "start"
    """The transaction that started the saga: done before the saga begins, undone last."""
    COMPENSATABLE = "compensatable"
    """It has an undo."""
    READ = "read"
    """It has no effect, so there is nothing to undo."""
    PIVOT = "pivot"
    """It decides: from its first attempt the saga goes forward unless the step was not done."""
    RETRIABLE = "retriable"
    """It comes when nothing can be undone any more, and is repeated until it succeeds."""


class Side(StrEnum):
    """Which half of a step runs."""

    DO = "do"
    UNDO = "undo"


@dataclass(frozen=True, slots=True)
class Backoff:
    """How often a half step is attempted, and how long to wait in between.

    `attempts` counts the first one too. The n-th wait is `first * factor ** (n - 1)` seconds, at
    most `most`; half of it is fixed and half is drawn at random, so that sagas that failed
    together do not come back together. `attempts` does not bound a retriable step, nor a pivot
    whose outcome is unknown: their `give_up` does.
    """

    attempts: int = 10
    first: float = 0.2
    factor: float = 2.0
    most: float = 30.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.first < 0 or self.factor < 1 or self.most < self.first:
            raise ValueError(
                f"{self} is out of range: attempts >= 1, first >= 0, factor >= 1, most >= first."
            )

    def wait(self, failures: int, draw: float) -> float:
        """Return the seconds to wait after the `failures`-th failure; `draw` is in [0, 1)."""
        # the exponent is bounded: a step retried for a week would overflow a float
        base = min(self.most, self.first * self.factor ** min(failures - 1, 64))
        return base * (1 + draw) / 2


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One step of a plan. Times are in seconds."""

    name: str
    kind: Kind
    after: tuple[str, ...] = ()
    """Steps that must be done before this one begins."""
    undo: str | None = None
    """Name of the undo; None if there is none."""
    needs: tuple[str, ...] = ()
    """Steps whose results are parameters of this one."""
    runbook: str | None = None
    """Path of the step's runbook, as the definition gives it."""
    undo_runbook: str | None = None
    give_up: float | None = None
    """Time from the first attempt after which a pivot or retriable step goes to a person."""
    retry: Backoff = Backoff()
    undo_retry: Backoff = Backoff(first=0.5, most=60.0)
    attempt_timeout: float = 60.0

    @property
    def undoable(self) -> bool:
        """Whether it has an undo."""
        return self.kind in {Kind.START, Kind.COMPENSATABLE}


@dataclass(frozen=True)
class Plan:
    """The steps of one version of a saga, each after those that it depends on."""

    saga: str
    version: int
    steps: tuple[StepPlan, ...]
    fingerprint: str = ""
    """A hash of the structure and the types: equal exactly if the journal means the same."""
    locks: tuple[str, ...] = ()
    """What it holds a lock on, from its start to its end."""

    @property
    def id(self) -> str:
        """Identify the definition: name, version and fingerprint."""
        return f"{self.saga}/{self.version}/{self.fingerprint}"

    @cached_property
    def step(self) -> Mapping[str, StepPlan]:
        """Steps by name."""
        return {step.name: step for step in self.steps}

    @cached_property
    def later(self) -> Mapping[str, frozenset[str]]:
        """For each step, the steps that depend on it, directly or not."""
        later: dict[str, set[str]] = {step.name: set() for step in self.steps}
        for step in reversed(self.steps):
            for before in step.after:
                later[before] |= {step.name} | later[step.name]
        return {name: frozenset(names) for name, names in later.items()}

    @cached_property
    def earlier(self) -> Mapping[str, frozenset[str]]:
        """For each step, the steps that it depends on, directly or not."""
        return {
            name: frozenset(other for other, later in self.later.items() if name in later)
            for name in self.step
        }
