"""A saga as its record tells it: what the lines of its journal add up to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from switchgear.errors import SagaError
from switchgear.saga import machine
from switchgear.saga.codec import Failure
from switchgear.saga.plan import Plan, Side
from switchgear.saga.state import Next, State, What
from switchgear.saga.stores.port import Line, SagaRow, Store
from switchgear.saga.stores.units import Units

__all__ = ["Decision", "Story", "read_story"]

FAILED = frozenset({What.REFUSED, What.REJECTED, What.UNAVAILABLE, What.UNKNOWN, What.UNRECORDED})


class Decision(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the record keeps of a person's action on a work item."""

    actor: str
    reason: str
    result: Any = None
    """The result of a step that was carried out by hand, as JSON has it."""


@dataclass(slots=True)
class Story:
    """What a saga's lines add up to, kept up to date line by line."""

    plan: Plan
    state: State
    seq: int = 0
    results: dict[str, bytes] = field(default_factory=dict)
    """Recorded results, by step."""
    failures: dict[tuple[str, Side], Failure] = field(default_factory=dict)
    """The last failure of each half step."""
    turned: Line | None = None
    """The line at which the saga turned round."""
    status: str = "running"
    """running, undoing, queued, done or undone."""

    @classmethod
    def of(cls, plan: Plan, row: SagaRow, lines: Sequence[Line]) -> Story:
        """Replay `lines`."""
        story = cls(plan, machine.begin(plan, row.began, row.deadline))
        for line in lines:
            story._take(line, machine.evolve(plan, story.state, line.entry))
        if lines:  # once: a step that is repeated for days has thousands
            story.settle()
        return story

    def add(self, line: Line, state: State) -> None:
        """Take in the next line, after which the saga is in `state`."""
        self._take(line, state)
        self.settle()

    def _take(self, line: Line, state: State) -> None:
        self.state = state
        self.seq += 1
        entry = line.entry
        if entry.next is Next.UNDO and self.turned is None:
            self.turned = line
        if line.data is None or entry.side is None:
            return
        if entry.what is What.OK and entry.side is Side.DO:
            self.results[entry.step] = line.data
        elif entry.what is What.RESOLVE and entry.side is Side.DO:
            decision = msgspec.json.decode(line.data, type=Decision)
            self.results[entry.step] = msgspec.json.encode(decision.result)
        elif entry.what in FAILED:
            failure = msgspec.json.decode(line.data, type=Failure)
            self.failures[entry.step, entry.side] = failure

    def settle(self) -> None:
        """Say by its state where the saga stands."""
        self.status = machine.status(self.plan, self.state)


async def read_story(store: Store, units: Units, row: SagaRow, plan: Plan | None = None) -> Story:
    """Return the story of a saga, by its stored plan if `plan` is not given."""
    if plan is None:
        stored = await store.read(units.plan(row.definition))
        if stored is None:
            raise SagaError(
                f"the definition {row.definition} of saga {row.id} is not stored here.",
                fix="Run a worker of that version once: it stores its definitions when it starts.",
            )
        plan = msgspec.json.decode(stored, type=Plan)
    lines = await store.read(units.replayable([row.id]))
    return Story.of(plan, row, lines[row.id])
