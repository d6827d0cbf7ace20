"""What a person may do to a saga in a given state; rules 8 and 9 of `machine.py`. No I/O."""

from __future__ import annotations

from switchgear.saga.plan import Kind, Plan, Side, StepPlan
from switchgear.saga.state import Fate, Mark, Phase, State, What

__all__ = ["complaint", "side_of"]

_NO_ABORT = "only a pivot can be aborted; retry, resolve or skip it"


def side_of(mark: Mark) -> Side:
    """Return which half of a step an open work item is about."""
    return Side.DO if mark.fate is Fate.BEGUN else Side.UNDO


def complaint(plan: Plan, state: State, step: str, action: What) -> str | None:
    """Say why a person cannot take `action` about `step`; None: they can."""
    mark = state.marks.get(step)
    if mark is None:
        return f"it has no step {step}"
    if action is What.REFUTE:
        return _irrefutable(plan.step[step], mark, state.phase)
    if not mark.item:
        return f"{step} has no open work item; it is {mark.fate}"
    if side_of(mark) is Side.DO:
        return _unfit(plan, plan.step[step], action)
    return _unfit_undo(plan.step[step], action)


def _irrefutable(step: StepPlan, mark: Mark, phase: Phase) -> str | None:
    if step.kind is Kind.START:
        return "the start is what the saga is about; it cannot be refuted"
    if mark.fate is not Fate.DONE or phase is Phase.UNDONE:
        return f"{step.name} does not stand as done: it is {mark.fate}, and the saga {phase}"
    return f"the undo of {step.name} has begun" if mark.undo.attempt else None


def _unfit(plan: Plan, step: StepPlan, action: What) -> str | None:
    """Say why `action` does not fit a step that gave up going forward."""
    pivot = step.kind is Kind.PIVOT
    if action is What.ABORT and not pivot:
        return _NO_ABORT
    if action is What.SKIP and pivot:
        return "a pivot cannot be skipped; retry, resolve or abort it"
    needing = [later.name for later in plan.steps if step.name in later.needs]
    if action is What.SKIP and needing:
        return f"{needing[0]} needs its result; resolve it with a result instead"
    return None


def _unfit_undo(step: StepPlan, action: What) -> str | None:
    """Say why `action` does not fit a step that stands and cannot be undone."""
    if action is What.ABORT:
        return _NO_ABORT
    if action is What.RETRY and not step.undoable:
        return f"{step.name} has no undo that could be tried again; resolve or skip it"
    return None
