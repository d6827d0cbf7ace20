"""The evidence on a saga: what is recorded of it, put together for whoever has to decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from switchgear.errors import SagaError
from switchgear.saga.carried import Carried
from switchgear.saga.codec import Failure
from switchgear.saga.errors import NoSuchSaga
from switchgear.saga.plan import Kind, Plan, Side
from switchgear.saga.state import Fate, What
from switchgear.saga.stores import locks
from switchgear.saga.stores.port import Line, SagaRow, Unit
from switchgear.saga.stores.units import Units
from switchgear.saga.story import FAILED, Decision, Story

__all__ = [
    "AttemptEvidence",
    "Evidence",
    "StepEvidence",
    "WorkItem",
    "evidence_of",
    "select_items",
    "steps_of",
    "story_of",
    "unknown_saga",
]

_ITEM = "id, saga, step, side, runbook, instructions, opened, closed, action, actor, reason"


@dataclass(frozen=True, slots=True)
class WorkItem:
    """Something that a person has to do, or has done. Times are epoch seconds."""

    id: str
    """The saga's id and the function that gave up: `o-1/refund`."""
    saga_id: str
    step: str
    side: Side
    """`undo` if the step's undo gave up, `do` if the step itself did."""
    runbook: str
    """The runbook's path, as the definition gives it."""
    instructions: str
    """The runbook's text when the item opened."""
    opened: float
    closed: float | None = None
    action: str | None = None
    actor: str | None = None
    reason: str | None = None
    definition: str = ""
    """Name, version and fingerprint of the saga's definition."""
    status: str = ""
    """Where the saga stands now: queued, and after an action whatever it has become."""

    @property
    def saga(self) -> str:
        """The saga's name."""
        return self.definition.split("/", 1)[0]


@dataclass(frozen=True, slots=True)
class AttemptEvidence:
    """One attempt, or a person's action, with what came of it."""

    side: Side
    attempt: int
    began: float | None
    ended: float
    what: What
    follows: str
    """What was decided: go, again, undo or queue."""
    failure: Failure | None = None
    decision: Decision | None = None


@dataclass(frozen=True, slots=True)
class StepEvidence:
    """What is known of one step."""

    name: str
    kind: Kind
    fate: Fate
    undo: str | None
    result: str | None
    """The recorded result, as JSON."""
    attempts: tuple[AttemptEvidence, ...]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that is recorded about one saga. Times are epoch seconds."""

    id: str
    saga: str
    version: int
    status: str
    began: float
    deadline: float | None
    ended: float | None
    input: str
    """The input, as JSON."""
    steps: tuple[StepEvidence, ...]
    items: tuple[WorkItem, ...]
    interruptions: tuple[float, ...]
    """When a worker vanished or was stopped while it held the saga."""
    waits_for: tuple[tuple[str, str], ...] = ()
    """The locks that it waits for before it begins, each with the saga that holds it."""
    correlation: str | None = None
    """What everything has in common that follows from the same first cause: its events, too."""

    def named(self, *fates: Fate) -> tuple[str, ...]:
        """Return the steps that are in one of `fates`."""
        return tuple(step.name for step in self.steps if step.fate in fates)


def select_items(tail: str, *args: str | int) -> Unit[list[WorkItem]]:
    """Return work items `AS i`; `tail` is a condition and an order."""
    columns = ", ".join(f"i.{name.strip()}" for name in _ITEM.split(","))
    sql = (
        f"SELECT {columns}, s.definition, s.status FROM switchgear_saga_items AS i "  # noqa: S608  constants
        f"JOIN switchgear_sagas AS s ON s.id = i.saga {tail}"
    )
    rows = yield sql, args
    return [WorkItem(row[0], row[1], row[2], Side(row[3]), *row[4:]) for row in rows]


def unknown_saga(given: str) -> NoSuchSaga:
    """Return the error for an id that nothing has."""
    return NoSuchSaga(
        f"there is no saga and no work item {given} in this database.",
        fix="List the open items: switchgear saga list",
    )


def story_of(units: Units, row: SagaRow) -> Unit[Story]:
    """Return the story of a saga by its stored plan."""
    plan = yield from units.plan(row.definition)
    if plan is None:
        raise SagaError(
            f"the definition {row.definition} of saga {row.id} is not stored here.",
            fix="Run a worker of that version once: it stores its definitions when it starts.",
        )
    lines = yield from units.replayable([row.id])
    return Story.of(msgspec.json.decode(plan, type=Plan), row, lines[row.id])


def evidence_of(units: Units, given: str) -> Unit[Evidence]:
    """Return what is recorded of the saga `given`, or of that of the work item `given`."""
    row = yield from units.find(given)
    if row is None:
        item = yield from select_items("WHERE i.id = ?", given)
        row = (yield from units.find(item[0].saga_id)) if item else None
    if row is None:
        raise unknown_saga(given)
    story = yield from story_of(units, row)
    lines = (yield from units.lines([row.id]))[row.id]
    items = yield from select_items("WHERE i.saga = ? ORDER BY i.opened", row.id)
    waits_for = yield from locks.holders(row.id)
    return Evidence(
        id=row.id,
        saga=story.plan.saga,
        version=story.plan.version,
        status=row.status if waits_for else story.status,
        began=row.began,
        deadline=row.deadline,
        ended=row.ended,
        input=bytes(row.input).decode(),
        steps=steps_of(story, lines),
        items=tuple(items),
        interruptions=tuple(line.entry.at for line in lines if line.entry.what is What.INTERRUPTED),
        waits_for=tuple(waits_for),
        correlation=msgspec.json.decode(row.context, type=Carried).correlation,
    )


def steps_of(story: Story, lines: Sequence[Line]) -> tuple[StepEvidence, ...]:
    """Return what is known of each step, in the order of the plan."""
    steps = []
    for planned in story.plan.steps:
        result = story.results.get(planned.name)
        steps.append(
            StepEvidence(
                name=planned.name,
                kind=planned.kind,
                fate=story.state.marks[planned.name].fate,
                undo=planned.undo,
                result=None if result is None else bytes(result).decode(),
                attempts=tuple(
                    _attempt(line, line.entry.side)
                    for line in lines
                    if line.entry.step == planned.name and line.entry.side is not None
                ),
            )
        )
    return tuple(steps)


def _attempt(line: Line, side: Side) -> AttemptEvidence:
    entry = line.entry
    failure = decision = None
    if line.data is not None and entry.what in FAILED:
        failure = msgspec.json.decode(line.data, type=Failure)
    elif line.data is not None and entry.what is not What.OK:
        decision = msgspec.json.decode(line.data, type=Decision)
    return AttemptEvidence(
        side=side,
        attempt=entry.attempt,
        began=line.began,
        ended=entry.at,
        what=entry.what,
        follows=entry.next,
        failure=failure,
        decision=decision,
    )
