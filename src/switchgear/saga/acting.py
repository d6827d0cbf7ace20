"""What is checked before a person's action, wherever the saga is kept. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from switchgear.errors import SagaError
from switchgear.saga.allowed import complaint
from switchgear.saga.errors import StateMoved
from switchgear.saga.plan import Plan, Side
from switchgear.saga.state import Fate, State, What
from switchgear.saga.stores.port import Settled

if TYPE_CHECKING:
    from switchgear.saga.evidence import WorkItem
    from switchgear.saga.story import Decision

__all__ = ["check_act", "check_decision", "check_refute", "meant", "result_of", "settled", "taken"]


def check_decision(action: What, decision: Decision) -> None:
    """Refuse an action that nobody takes, or for no reason."""
    if not decision.actor.strip() or not decision.reason.strip():
        raise SagaError(
            f"{action} needs an actor and a reason.",
            fix="Say who acts and why: both are kept in the saga's journal.",
        )


def meant(items: Sequence[WorkItem], given: str) -> WorkItem | None:
    """Return the item `given`, or of the saga `given` the one that is open, or was last.

    Raises `SagaError` if several are open. `items` are those of one saga, the newest first.
    """
    named = next((item for item in items if item.id == given), None)
    if named is not None:
        return named
    still_open = [item for item in items if item.closed is None]
    if len(still_open) > 1:
        names = ", ".join(item.id for item in still_open)
        raise SagaError(f"saga {given} has several work items.", fix=f"Name one of {names}.")
    return next(iter([*still_open, *items]), None)


def taken(item: WorkItem, action: What, decision: Decision, status: str) -> bool:
    """Tell whether the very action was taken before; `status` is the saga's.

    Raises `StateMoved` if the item is closed by another.
    """
    if item.closed is None:
        return False
    if (item.action, item.actor, item.reason) == (action, decision.actor, decision.reason):
        return True
    raise StateMoved(
        f"{item.id} is closed: {item.action} by {item.actor}: {item.reason}; the saga is {status}.",
        fix=f"Look at it again: switchgear saga show {item.saga_id}",
    )


def check_act(plan: Plan, state: State, item: WorkItem, action: What, decision: Decision) -> None:
    """Refuse an action that an open item does not allow."""
    wrong = complaint(plan, state, item.step, action)
    if wrong:
        raise StateMoved(f"{action} of {item.id} is not possible: {wrong}.")
    needing = [step.name for step in plan.steps if item.step in step.needs]
    if action is What.RESOLVE and item.side is Side.DO and needing and decision.result is None:
        raise SagaError(
            f"{needing[0]} needs the result of {item.step}.",
            where=f"resolve of {item.id}",
            fix="Give it as JSON: --result '{...}'.",
        )


def check_refute(plan: Plan, state: State, saga_id: str, step: str) -> bool:
    """Tell whether `step` was refuted before. Raises `StateMoved` if it does not stand as done."""
    mark = state.marks.get(step)
    if mark is not None and mark.fate is Fate.REFUTED:
        return True
    wrong = complaint(plan, state, step, What.REFUTE)
    if wrong:
        raise StateMoved(f"saga {saga_id} cannot be refuted: {wrong}.")
    return False


def settled(before: State, after: State, by: str, actor: str, reason: str) -> Settled | None:
    """Return the work items that stand in front of nobody after an entry, if there are any."""
    steps = tuple(
        name for name, mark in before.marks.items() if mark.item and not after.marks[name].item
    )
    return Settled(steps, by, actor, reason) if steps else None


def result_of(text: str) -> Any:
    """Read the result of a step that was carried out by hand. Raises `SagaError`."""
    try:
        return msgspec.json.decode(text)
    except msgspec.MsgspecError as error:
        raise SagaError(f"the result is not JSON: {error}.", fix="Quote it as JSON.") from error
