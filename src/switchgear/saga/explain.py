"""What happens when a step or an undo fails, or a step is refuted, told before it happens.

The answer is read off the structure, not by running the machine; a test keeps the two equal for
every failure point of several shapes of sagas.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias

from switchgear.errors import SagaError
from switchgear.saga.definition import Saga, Step
from switchgear.saga.errors import NoSuchSaga
from switchgear.saga.plan import Kind, Plan, Side, StepPlan

__all__ = ["Asked", "Explanation", "Failing", "Undoing", "explain", "explain_all"]

Failing: TypeAlias = Literal["refused", "unavailable", "unknown", "refuted"]
"""How a step fails in the end: a definite no, never reached, or an outcome that stays unknown; or
it was done, and turned out later not to hold."""


@dataclass(frozen=True, slots=True)
class Undoing:
    """One undo that runs. Those of one `wave` run side by side, each wave after the one before."""

    step: str
    undo: str
    wave: int
    given: Literal["result", "Unknown", "reason"]
    """What the undo is given; the undo of the start is given the reason for which it runs."""
    certain: bool
    """False for a step in a parallel branch, which may not have been done by then."""
    runbook: str | None
    """What a person reads if the undo fails."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What stands in front of a person: a step, or the undo of one."""

    name: str
    step: str
    side: Side
    """`undo` if an undo failed, or if a step cannot be undone and should be."""
    runbook: str | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """What follows when `fails` fails in the way `how`."""

    saga: str
    version: int
    fails: str
    """A step or an undo."""
    how: Failing
    after: tuple[str, ...]
    """Steps that were done by then, as they were asked for."""
    ends: Literal["undone", "queued"]
    undone: tuple[Undoing, ...]
    """What is undone without a person."""
    asked: tuple[Asked, ...] = ()
    """What stands in front of a person."""
    waits: tuple[Undoing, ...] = ()
    """What is undone once the person has decided."""
    stays: tuple[str, ...] = ()
    """Steps with an effect that has been done and is not undone."""
    give_up: float | None = None
    """Seconds for which a step is repeated before a person is asked; None: at once, or not."""

    def text(self) -> str:
        """Return it in words."""
        lines = [self._title()]
        if self.asked:
            lines += self._people()
        elif self.undone:
            lines.append("The saga turns round, and ends undone:")
        else:
            lines.append("Nothing has to be undone; the saga ends undone.")
        if self.asked and self.undone:
            lines.append("Meanwhile:")
        lines += map(_in_words, self.undone)
        if self.waits:
            stays = ", unless the pivot stays (skip)" if self.how == "refuted" else ""
            lines.append(f"When the person has decided{stays}:")
            lines += map(_in_words, self.waits)
        if self.stays:
            lines.append(f"What stays: {', '.join(self.stays)}.")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values, for JSON."""
        return asdict(self)

    def _title(self) -> str:
        after = f", after {' and '.join(self.after)}" if self.after else ""
        return f"{self.saga} version {self.version}: {self.fails} {_HOW[self.how]}{after}."

    def _people(self) -> list[str]:
        first = self.asked[0]
        if self.how == "refuted":
            lines = ["What was done and cannot be undone stands in front of a person at once:"]
            return lines + [f"  {each.name}: {each.runbook}" for each in self.asked]
        if first.side is Side.UNDO:
            return [f"It stands in front of a person: {first.runbook}."]
        when = f"After {_span(self.give_up)} of repeating" if self.give_up else "At once"
        return [f"{when} it stands in front of a person: {first.runbook}."]


_HOW = {
    "refused": "is refused",
    "unavailable": "is unavailable until its attempts are used up",
    "unknown": "is attempted, and its outcome stays unknown",
    "refuted": "was done, and is refuted",
}


def explain(
    saga: Saga | Plan,
    fails: str | Step[..., Any],
    how: Failing = "refused",
    after: Iterable[str | Step[..., Any]] = (),
) -> Explanation:
    """Explain what happens when the step or undo `fails` fails in the way `how`.

    `after` are steps that have been done by then. What a step depends on is done anyway, so before
    the step itself fails it matters only for parallel branches. For an undo the default is that
    all was done before the pivot; for a refuted step, that the saga has ended.

    Raises `NoSuchSaga` if the saga has no such step or undo, and `SagaError` if it cannot fail so.
    """
    plan = saga.plan if isinstance(saga, Saga) else saga
    name = fails if isinstance(fails, str) else fails.name
    given = tuple(each if isinstance(each, str) else each.name for each in after)
    for each in given:
        _step(plan, each)
    owner = next((step for step in plan.steps if step.undo == name), None)
    if owner is not None:
        return _undo_fails(plan, owner, how, given)
    step = _step(plan, name)
    if how == "refuted":
        return _refuted(plan, step, given)
    return _fails(plan, step, how, given)


def explain_all(saga: Saga | Plan) -> list[Explanation]:
    """Explain every failure point: each step in each way, and each undo."""
    plan = saga.plan if isinstance(saga, Saga) else saga
    ways: tuple[Failing, ...] = ("refused", "unavailable", "unknown", "refuted")
    steps = [step for step in plan.steps if step.kind is not Kind.START]
    undos = [step.undo for step in reversed(plan.steps) if step.undo]
    told = [explain(plan, step.name, how) for step in steps for how in ways]
    return told + [explain(plan, undo) for undo in undos]


def _step(plan: Plan, name: str) -> StepPlan:
    step = plan.step.get(name)
    if step is None or step.kind is Kind.START:
        steps = [each.name for each in plan.steps if each.kind is not Kind.START]
        undos = [each.undo for each in plan.steps if each.undo]
        raise NoSuchSaga(
            f"saga {plan.saga} version {plan.version} has no step {name}.",
            fix=f"Its steps are {', '.join(steps)}; its undos are {', '.join(undos) or 'none'}.",
        )
    return step


def _done(plan: Plan, names: Collection[str]) -> frozenset[str]:
    """Return the steps that have been done if `names` have."""
    return frozenset(names).union(*(plan.earlier[name] for name in names))


def _fails(plan: Plan, step: StepPlan, how: Failing, after: tuple[str, ...]) -> Explanation:
    by_then = _done(plan, (*after, step.name)) - {step.name}
    impossible = [name for name in after if step.name in {name, *plan.earlier[name]}]
    if impossible:
        raise SagaError(
            f"{impossible[0]} does not come before {step.name}, so it cannot fail after that.",
            where=f"saga {plan.saga}",
            fix="Name a step before it or in a branch beside it; or say that it is refuted.",
        )
    told = Explanation(plan.saga, plan.version, step.name, how, after, "undone", ())
    if step.kind is Kind.RETRIABLE or (step.kind is Kind.PIVOT and how == "unknown"):
        # only a person can go on: past the point of no return, or right on it
        repeated = not (step.kind is Kind.RETRIABLE and how == "refused")
        return replace(
            told,
            ends="queued",
            asked=(Asked(step.name, step.name, Side.DO, step.runbook),),
            stays=tuple(
                each.name
                for each in plan.steps
                if each.name in by_then and each.kind is not Kind.READ
            ),
            give_up=step.give_up if repeated else None,
        )
    owed = [
        each.name
        for each in plan.steps
        if each.undoable
        and each.name not in plan.later[step.name]
        and (each is not step or how == "unknown")
    ]
    unsure = step.name if how == "unknown" else None
    return replace(told, undone=_undoings(plan, owed, by_then | {step.name}, unsure))


def _undo_fails(plan: Plan, step: StepPlan, how: Failing, after: tuple[str, ...]) -> Explanation:
    if how == "refuted":
        raise SagaError(
            f"{step.undo} is an undo, and only a step can be refuted.", where=f"saga {plan.saga}"
        )
    reversible = [each.name for each in plan.steps if not _decisive(each)]
    done = _done(plan, (*after, step.name) if after else reversible)
    owed = [each.name for each in plan.steps if each.undoable and each.name in done]
    undoings = _undoings(plan, owed, done)
    behind = plan.earlier[step.name]
    return Explanation(
        saga=plan.saga,
        version=plan.version,
        fails=step.undo or "",
        how=how,
        after=after,
        ends="queued",
        undone=tuple(each for each in undoings if each.step not in {step.name, *behind}),
        asked=(Asked(step.undo or "", step.name, Side.UNDO, step.undo_runbook),),
        waits=tuple(each for each in undoings if each.step in behind),
    )


def _refuted(plan: Plan, step: StepPlan, after: tuple[str, ...]) -> Explanation:
    done = _done(plan, (*after, step.name)) if after else frozenset(plan.step)
    stranded = [
        each
        for each in reversed(plan.steps)
        if _decisive(each) and each.name in done and each is not step
    ]
    owed = [
        each.name for each in plan.steps if each.undoable and each.name in done and each is not step
    ]
    undoings = _undoings(plan, owed, done)
    behind = frozenset[str]().union(*(plan.earlier[each.name] for each in stranded))
    return Explanation(
        saga=plan.saga,
        version=plan.version,
        fails=step.name,
        how="refuted",
        after=after,
        ends="queued" if stranded else "undone",
        undone=tuple(each for each in undoings if each.step not in behind),
        asked=tuple(Asked(each.name, each.name, Side.UNDO, each.runbook) for each in stranded),
        waits=tuple(each for each in undoings if each.step in behind),
    )


def _undoings(
    plan: Plan, owed: Collection[str], certain: Collection[str], unsure: str | None = None
) -> tuple[Undoing, ...]:
    """Return the undos of the steps `owed`, in the order in which they run."""
    waves: dict[str, int] = {}
    steps = [each for each in reversed(plan.steps) if each.name in owed]
    for each in steps:
        after = [waves[name] for name in plan.later[each.name] if name in waves]
        waves[each.name] = 1 + max(after, default=0)
    return tuple(
        Undoing(
            step=each.name,
            undo=each.undo or "",
            wave=waves[each.name],
            given=_given(each, unsure),
            certain=each.name in certain,
            runbook=each.undo_runbook,
        )
        for each in steps
    )


def _given(step: StepPlan, unsure: str | None) -> Literal["result", "Unknown", "reason"]:
    if step.kind is Kind.START:
        return "reason"
    return "Unknown" if step.name == unsure else "result"


def _decisive(step: StepPlan) -> bool:
    return step.kind in {Kind.PIVOT, Kind.RETRIABLE}


def _in_words(each: Undoing) -> str:
    sure = ", which may have been done," if each.given == "Unknown" else ""
    sure = sure if each.certain else ", if it was done by then,"
    return (
        f"  {each.wave}. {each.undo} undoes {each.step}{sure or ','} "
        f"or else a person does: {each.runbook}"
    )


def _span(seconds: float) -> str:
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size and seconds % size == 0:
            count = int(seconds // size)
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return f"{seconds:g} seconds"
