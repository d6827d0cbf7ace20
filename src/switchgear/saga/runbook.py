"""The queue of work items: what a person sees of a saga that cannot go on, and what they can do.

A work item opens when an undo gives up or is refused, or when a pivot or retriable step gives up.
It is durable, and it carries the runbook's text as it was then. `show` gives the evidence; `retry`,
`resolve`, `skip` and `abort` move the saga. `refute` needs no item: it says that a step which was
recorded as done does not hold after all. Every action is a line of the saga's journal, with who
took it and why. Taking the same action twice is taking it once; acting on a saga that has moved in
the meantime is refused.

Everything here works from the database alone: the service's code need not be installed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from switchgear.database.port import Database
from switchgear.errors import SagaError
from switchgear.saga import machine
from switchgear.saga.codec import Failure
from switchgear.saga.errors import Held, NoSuchSaga, StateMoved
from switchgear.saga.plan import Kind, Plan, Side
from switchgear.saga.state import Entry, Fate, Operated, State, What
from switchgear.saga.stores import locks, store_of
from switchgear.saga.stores.port import Line, SagaRow, Store, Turn, Unit, Write
from switchgear.saga.stores.units import STEPS, Units
from switchgear.saga.story import FAILED, Decision, Story

__all__ = [
    "AttemptEvidence",
    "Evidence",
    "StepEvidence",
    "WorkItem",
    "abort",
    "list_items",
    "refutation",
    "refute",
    "resolve",
    "retry",
    "show",
    "skip",
]

_ASK_AGAIN = 0.05
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

    def named(self, *fates: Fate) -> tuple[str, ...]:
        """Return the steps that are in one of `fates`."""
        return tuple(step.name for step in self.steps if step.fate in fates)


async def list_items(
    database: Database, *, closed: bool = False, limit: int = 100
) -> list[WorkItem]:
    """Return the open work items, oldest first; with `closed`, the closed ones, newest first."""
    store, _ = await _opened(database)
    where = "closed IS NULL ORDER BY opened"
    if closed:
        where = "closed IS NOT NULL ORDER BY closed DESC"
    return await store.read(_select(f"WHERE {where} LIMIT ?", limit))


async def show(database: Database, id: str) -> Evidence:  # noqa: A002  it is called that
    """Return the evidence on a saga, by its id or by the id of one of its work items.

    Raises `NoSuchSaga` if there is none.
    """
    store, units = await _opened(database)
    return await store.read(_evidence(units, id))


async def retry(database: Database, id: str, actor: str, reason: str) -> WorkItem:  # noqa: A002
    """Attempt again what gave up, with its attempts and its `give_up` afresh.

    `id` is that of the work item, or of the saga if one item is open. Raises `NoSuchSaga`,
    `StateMoved` if the item is no longer open or a worker holds the saga, and `SagaError` if
    `actor` or `reason` is empty.
    """
    return await _operate(database, id, What.RETRY, Decision(actor, reason))


async def resolve(
    database: Database,
    id: str,  # noqa: A002
    actor: str,
    reason: str,
    result: str | None = None,
) -> WorkItem:
    """Say that what gave up has been carried out by hand. Errors as in `retry`.

    `result` is the step's result as JSON, where later steps need one.
    """
    given = None if result is None else _json(result)
    return await _operate(database, id, What.RESOLVE, Decision(actor, reason, given))


async def skip(database: Database, id: str, actor: str, reason: str) -> WorkItem:  # noqa: A002
    """Go on without it: the effect of the step stays as it is. Errors as in `retry`."""
    return await _operate(database, id, What.SKIP, Decision(actor, reason))


async def abort(database: Database, id: str, actor: str, reason: str) -> WorkItem:  # noqa: A002
    """Say that a pivot was certainly not done: the saga is undone. Errors as in `retry`."""
    return await _operate(database, id, What.ABORT, Decision(actor, reason))


async def refute(
    database: Database,
    id: str,  # noqa: A002
    step: str,
    actor: str,
    evidence: str,
    *,
    within: float = 5.0,
) -> str:
    """Say that `step`, which is recorded as done, does not hold: the payment has bounced.

    The saga turns round, also after its end: what nothing irreversible stands on is undone, and
    each pivot or retriable step that was done becomes a work item. Refuting a step twice is
    refuting it once. While a worker attempts something for the saga, this waits, at most `within`
    seconds. Returns the saga's status. Raises `NoSuchSaga`, `StateMoved` if the step does not
    stand as done or a worker holds the saga for longer, and `SagaError` if `actor` or `evidence`
    is empty.
    """
    store, units = await _opened(database)
    decision = Decision(actor, evidence)
    loop = asyncio.get_running_loop()
    end = loop.time() + within
    while True:
        try:
            return await store.write(refutation(units, id, step, decision, time.time()))
        except Held:
            if loop.time() >= end:
                raise
        await asyncio.sleep(_ASK_AGAIN)


def refutation(
    units: Units,
    id: str,  # noqa: A002
    step: str,
    decision: Decision,
    now: float,
) -> Unit[str]:
    """Do what `refute` does, as a unit that becomes part of a transaction; it does not wait."""
    _check(What.REFUTE, decision)
    row = yield from units.hold(id)
    if row is None:
        raise NoSuchSaga(f"there is no saga {id} in this database.")
    story = yield from _story(units, row)
    mark = story.state.marks.get(step)
    if mark is not None and mark.fate is Fate.REFUTED:
        return story.status
    wrong = machine.complaint(story.plan, story.state, step, What.REFUTE)
    if wrong:
        raise StateMoved(f"saga {id} cannot be refuted: {wrong}.")
    if row.owner is not None:
        raise Held(row.id)
    operated = Operated(step, What.REFUTE)
    entry = machine.decide(story.plan, story.state, operated, now=now, draw=0.0)
    turn = yield from _move(units, row, story, entry, decision)
    return turn.status


async def _opened(database: Database) -> tuple[Store, Units]:
    """Return the store, or say that this database has no tables to work with."""
    store, units = store_of(database), Units(database.dialect)
    version = await store.read(units.version())
    if version == len(STEPS):
        return store, units
    raise SagaError(
        "this database has no tables for sagas."
        if version == 0
        else f"the saga tables are at version {version}, and this release works with {len(STEPS)}.",
        fix="Point it at the database of a service with sagas, of the same release.",
    )


async def _operate(database: Database, given: str, action: What, decision: Decision) -> WorkItem:
    _check(action, decision)
    store, units = await _opened(database)
    return await store.write(_operation(units, given, action, decision, time.time()))


def _check(action: What, decision: Decision) -> None:
    if not decision.actor.strip() or not decision.reason.strip():
        raise SagaError(
            f"{action} needs an actor and a reason.",
            fix="Say who acts and why: both are kept in the saga's journal.",
        )


def _operation(
    units: Units, given: str, action: What, decision: Decision, now: float
) -> Unit[WorkItem]:
    item = yield from _item(given)
    row = yield from units.hold(item.saga_id)
    if row is None:
        raise _none(given)
    if item.closed is not None:
        done = (item.action, item.actor, item.reason)
        if done == (action, decision.actor, decision.reason):
            return item
        raise StateMoved(
            f"{item.id} is closed: {item.action} by {item.actor}: {item.reason}; the saga is "
            f"{row.status}.",
            fix=f"Look at it again: switchgear saga show {item.saga_id}",
        )
    if row.owner is not None:
        raise Held(row.id)
    story = yield from _story(units, row)
    wrong = machine.complaint(story.plan, story.state, item.step, action)
    if wrong:
        raise StateMoved(f"{action} of {item.id} is not possible: {wrong}.")
    needing = [step.name for step in story.plan.steps if item.step in step.needs]
    if action is What.RESOLVE and item.side is Side.DO and needing and decision.result is None:
        raise SagaError(
            f"{needing[0]} needs the result of {item.step}.",
            where=f"resolve of {item.id}",
            fix="Give it as JSON: --result '{...}'.",
        )
    entry = machine.decide(story.plan, story.state, Operated(item.step, action), now=now, draw=0.0)
    turn = yield from _move(units, row, story, entry, decision)
    closed = replace(
        item,
        closed=now,
        action=action,
        actor=decision.actor,
        reason=decision.reason,
        status=turn.status,
    )
    sql = (
        "UPDATE switchgear_saga_items SET closed = ?, action = ?, actor = ?, reason = ? "
        "WHERE id = ?"
    )
    yield sql, (now, action, decision.actor, decision.reason, item.id)
    return closed


def _move(units: Units, row: SagaRow, story: Story, entry: Entry, decision: Decision) -> Unit[Turn]:
    """Write a person's line to the journal of a saga whose row is held and which nobody drives."""
    state = machine.evolve(story.plan, story.state, entry)
    turn = _turn(story.plan, state, entry.at)
    line = Line(entry, None, msgspec.json.encode(decision))
    yield from units.operate(Write(row.id, row.fence + 1, story.seq + 1, line, turn))
    return turn


def _turn(plan: Plan, state: State, now: float) -> Turn:
    status = machine.status(plan, state)
    if status in {"done", "undone"}:
        return Turn(status, release=True, ended=now, frees=bool(plan.locks))
    if machine.happening(plan, state, now) is not None:
        return Turn(status, release=True, wake=0.0)
    todo = machine.runs(plan, state)
    wake = max(min(run.due for run in todo) - now, 0.0) if todo else None
    return Turn(status, release=True, wake=wake)


def _select(tail: str, *args: str | int) -> Unit[list[WorkItem]]:
    columns = ", ".join(f"i.{name.strip()}" for name in _ITEM.split(","))
    sql = (
        f"SELECT {columns}, s.definition, s.status FROM switchgear_saga_items AS i "  # noqa: S608  constants
        f"JOIN switchgear_sagas AS s ON s.id = i.saga {tail}"
    )
    rows = yield sql, args
    return [WorkItem(row[0], row[1], row[2], Side(row[3]), *row[4:]) for row in rows]


def _item(given: str) -> Unit[WorkItem]:
    """Return the work item `given`, or the one of the saga `given`."""
    found = yield from _select("WHERE i.id = ?", given)
    if found:
        return found[0]
    found = yield from _select("WHERE i.saga = ? ORDER BY i.opened DESC, i.id", given)
    still_open = [item for item in found if item.closed is None]
    if len(still_open) > 1:
        names = ", ".join(item.id for item in still_open)
        raise SagaError(f"saga {given} has several work items.", fix=f"Name one of {names}.")
    if found:
        return (still_open or found)[0]
    row = yield "SELECT status FROM switchgear_sagas WHERE id = ?", (given,)
    if row:
        raise StateMoved(f"saga {given} has no work item; it is {row[0][0]}.")
    raise _none(given)


def _none(given: str) -> NoSuchSaga:
    return NoSuchSaga(
        f"there is no saga and no work item {given} in this database.",
        fix="List the open items: switchgear saga list",
    )


def _story(units: Units, row: SagaRow) -> Unit[Story]:
    plan = yield from units.plan(row.definition)
    if plan is None:
        raise SagaError(
            f"the definition {row.definition} of saga {row.id} is not stored here.",
            fix="Run a worker of that version once: it stores its definitions when it starts.",
        )
    lines = yield from units.lines([row.id])
    return Story.of(msgspec.json.decode(plan, type=Plan), row, lines[row.id])


def _evidence(units: Units, given: str) -> Unit[Evidence]:
    row = yield from units.find(given)
    if row is None:
        item = yield from _select("WHERE i.id = ?", given)
        row = (yield from units.find(item[0].saga_id)) if item else None
    if row is None:
        raise _none(given)
    story = yield from _story(units, row)
    lines = (yield from units.lines([row.id]))[row.id]
    items = yield from _select("WHERE i.saga = ? ORDER BY i.opened", row.id)
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
        steps=_steps(story, lines),
        items=tuple(items),
        interruptions=tuple(line.entry.at for line in lines if line.entry.what is What.INTERRUPTED),
        waits_for=tuple(waits_for),
    )


def _steps(story: Story, lines: Sequence[Line]) -> tuple[StepEvidence, ...]:
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


def _json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.MsgspecError as error:
        raise SagaError(f"the result is not JSON: {error}.", fix="Quote it as JSON.") from error
