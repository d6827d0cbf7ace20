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
from collections.abc import Collection
from dataclasses import replace

import msgspec

from switchgear.database.port import Database
from switchgear.errors import SagaError
from switchgear.saga import machine
from switchgear.saga.acting import (
    check_act,
    check_decision,
    check_refute,
    meant,
    result_of,
    settled,
    taken,
)
from switchgear.saga.errors import Held, NoSuchSaga, StateMoved
from switchgear.saga.evidence import (
    AttemptEvidence,
    Evidence,
    StepEvidence,
    WorkItem,
    evidence_of,
    select_items,
    story_of,
    unknown_saga,
)
from switchgear.saga.plan import Plan
from switchgear.saga.state import Entry, Operated, State, What
from switchgear.saga.stores import store_of
from switchgear.saga.stores.port import Line, SagaRow, Store, Turn, Unit, Write
from switchgear.saga.stores.units import STEPS, Units
from switchgear.saga.story import Decision, Story

__all__ = [
    "AttemptEvidence",
    "Evidence",
    "StepEvidence",
    "WorkItem",
    "abort",
    "list_items",
    "operate",
    "refutation",
    "refute",
    "resolve",
    "retry",
    "show",
    "skip",
]

_ASK_AGAIN = 0.05


async def list_items(
    database: Database, *, closed: bool = False, limit: int = 100
) -> list[WorkItem]:
    """Return the open work items, oldest first; with `closed`, the closed ones, newest first."""
    store, _ = await _opened(database)
    where = "closed IS NULL ORDER BY opened"
    if closed:
        where = "closed IS NOT NULL ORDER BY closed DESC"
    return await store.read(select_items(f"WHERE {where} LIMIT ?", limit))


async def show(database: Database, id: str) -> Evidence:  # noqa: A002  it is called that
    """Return the evidence on a saga, by its id or by the id of one of its work items.

    Raises `NoSuchSaga` if there is none.
    """
    store, units = await _opened(database)
    return await store.read(evidence_of(units, id))


async def retry(database: Database, id: str, actor: str, reason: str) -> WorkItem:  # noqa: A002
    """Attempt again what gave up, with its attempts and its `give_up` afresh.

    `id` is that of the work item, or of the saga if one item is open. Raises `NoSuchSaga`,
    `StateMoved` if the item is no longer open or a worker holds the saga, and `SagaError` if
    `actor` or `reason` is empty.
    """
    return await operate(database, id, What.RETRY, Decision(actor, reason))


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
    given = None if result is None else result_of(result)
    return await operate(database, id, What.RESOLVE, Decision(actor, reason, given))


async def skip(database: Database, id: str, actor: str, reason: str) -> WorkItem:  # noqa: A002
    """Go on without it: the effect of the step stays as it is. Errors as in `retry`."""
    return await operate(database, id, What.SKIP, Decision(actor, reason))


async def abort(database: Database, id: str, actor: str, reason: str) -> WorkItem:  # noqa: A002
    """Say that a pivot was certainly not done: the saga is undone. Errors as in `retry`."""
    return await operate(database, id, What.ABORT, Decision(actor, reason))


async def refute(
    database: Database,
    id: str,  # noqa: A002
    step: str,
    actor: str,
    evidence: str,
    *,
    within: float = 5.0,
    known: Collection[str] | None = None,
) -> str:
    """Say that `step`, which is recorded as done, does not hold: the payment has bounced.

    The saga turns round, also after its end: what nothing irreversible stands on is undone, and
    each pivot or retriable step that was done becomes a work item. Refuting a step twice is
    refuting it once. While a worker attempts something for the saga, this waits, at most `within`
    seconds. `known` is as in `operate`. Returns the saga's status. Raises `NoSuchSaga`,
    `StateMoved` if the step does not stand as done or a worker holds the saga for longer, and
    `SagaError` if `actor` or `evidence` is empty.
    """
    store, units = await _opened(database)
    decision = Decision(actor, evidence)
    loop = asyncio.get_running_loop()
    end = loop.time() + within
    while True:
        try:
            unit = refutation(units, id, step, decision, time.time(), known=known)
            return await store.write(unit)
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
    *,
    known: Collection[str] | None,
) -> Unit[str]:
    """Do what `refute` does, as a unit that becomes part of a transaction; it does not wait."""
    check_decision(What.REFUTE, decision)
    row = yield from units.hold(id)
    if row is None:
        raise NoSuchSaga(f"there is no saga {id} in this database.")
    story = yield from story_of(units, row)
    if check_refute(story.plan, story.state, id, step):
        return story.status
    if row.owner is not None:
        raise Held(row.id)
    operated = Operated(step, What.REFUTE)
    entry = machine.decide(story.plan, story.state, operated, now=now, draw=0.0)
    turn = yield from _move(units, row, story, entry, decision, known=known)
    return turn.status


async def _opened(database: Database) -> tuple[Store, Units]:
    """Return the store, or say that this database has no tables to work with."""
    store, units = store_of(database), Units(database.dialect)
    version = await store.read(units.version())
    if version == len(STEPS):
        return store, units
    if version == 0:
        raise SagaError(
            "this database has no tables for sagas; nothing was changed.",
            fix="Point it at the database of a service with sagas that has run once.",
        )
    if version < len(STEPS):
        missing = ", ".join(str(number) for number in range(version + 1, len(STEPS) + 1))
        raise SagaError(
            f"the saga tables are at version {version}, and this release works with "
            f"{len(STEPS)}; nothing was changed.",
            fix=f"Start a worker of this release: it carries out what is missing ({missing}).",
        )
    raise SagaError(
        f"the saga tables are at version {version}, and this release knows {len(STEPS)}; nothing "
        "was changed.",
        fix="Use the release that the service's workers are of.",
    )


async def operate(
    database: Database,
    id: str,  # noqa: A002
    action: What,
    decision: Decision,
    *,
    known: Collection[str] | None = None,
) -> WorkItem:
    """Take an action about a work item; `retry`, `resolve`, `skip` and `abort` each take theirs.

    `known` are the definitions (`saga.plan.id`) that the service's workers have, where that can be
    told: what would leave the saga to a worker is refused (`SagaError`) if none of them has its.
    """
    check_decision(action, decision)
    store, units = await _opened(database)
    return await store.write(_operation(units, id, action, decision, time.time(), known=known))


def _operation(
    units: Units,
    given: str,
    action: What,
    decision: Decision,
    now: float,
    *,
    known: Collection[str] | None,
) -> Unit[WorkItem]:
    item = yield from _item(given)
    row = yield from units.hold(item.saga_id)
    if row is None:
        raise unknown_saga(given)
    if taken(item, action, decision, row.status):
        return item
    if row.owner is not None:
        raise Held(row.id)
    story = yield from story_of(units, row)
    check_act(story.plan, story.state, item, action, decision)
    entry = machine.decide(story.plan, story.state, Operated(item.step, action), now=now, draw=0.0)
    turn = yield from _move(units, row, story, entry, decision, known=known)
    closed = replace(
        item,
        closed=now,
        action=action,
        actor=decision.actor,
        reason=decision.reason,
        status=turn.status,
    )
    return closed


def _move(
    units: Units,
    row: SagaRow,
    story: Story,
    entry: Entry,
    decision: Decision,
    *,
    known: Collection[str] | None,
) -> Unit[Turn]:
    """Write a person's line to the journal of a saga whose row is held and which nobody drives."""
    state = machine.evolve(story.plan, story.state, entry)
    turn = _turn(story.plan, state, entry.at)
    if turn.wake is not None and known is not None:
        _check_driven(row, known)
    line = Line(entry, None, msgspec.json.encode(decision))
    closed = settled(story.state, state, entry.what, decision.actor, decision.reason)
    write = Write(row.id, row.fence + 1, story.seq + 1, line, turn, settled=closed)
    yield from units.operate(write)
    return turn


def _check_driven(row: SagaRow, known: Collection[str]) -> None:
    """Refuse to leave a saga to workers of which none has its definition."""
    if row.definition in known:
        return
    name, version, _ = row.definition.split("/")
    changed = any(each.startswith(f"{name}/{version}/") for each in known)
    now = "and it was changed since" if changed else "which is not declared any more"
    beside = f", and what was changed as version {int(version) + 1}" if changed else ""
    raise SagaError(
        f"saga {row.id} began under version {version} of {name}, {now}: nobody would go on with it."
        " Nothing was written.",
        where=f"saga {name}",
        fix=f"Declare version {version} as it was then{beside}, start the service, and act "
        "again; where a worker of another deployment has it: switchgear saga ... --elsewhere.",
    )


def _turn(plan: Plan, state: State, now: float) -> Turn:
    status = machine.status(plan, state)
    if status in {"done", "undone"}:
        return Turn(status, release=True, ended=now, frees=bool(plan.locks))
    if machine.happening(plan, state, now) is not None:
        return Turn(status, release=True, wake=0.0)
    todo = machine.runs(plan, state)
    wake = max(min(run.due for run in todo) - now, 0.0) if todo else None
    return Turn(status, release=True, wake=wake)


def _item(given: str) -> Unit[WorkItem]:
    """Return the work item `given`, or the one of the saga `given`."""
    found = yield from select_items("WHERE i.id = ?", given)
    if found:
        return found[0]
    found = yield from select_items("WHERE i.saga = ? ORDER BY i.opened DESC, i.id", given)
    item = meant(found, given)
    if item is not None:
        return item
    row = yield "SELECT status FROM switchgear_sagas WHERE id = ?", (given,)
    if row:
        raise StateMoved(f"saga {given} has no work item; it is {row[0][0]}.")
    raise unknown_saga(given)
