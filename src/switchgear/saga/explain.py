"""What happens when a step fails, told before it does.

The answer is read off the structure, not by running the machine; a test keeps the two equal for
every step and every way to fail.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from switchgear.saga.definition import Saga, Step
from switchgear.saga.errors import NoSuchSaga
from switchgear.saga.plan import Kind, Plan, StepPlan

__all__ = ["Explanation", "Failing", "Undoing", "explain"]

Failing: TypeAlias = Literal["refused", "unavailable", "unknown"]
"""How a step fails in the end: a definite no, never reached, or an outcome that stays unknown."""


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
class Explanation:
    """What follows when `fails` fails in the way `how`."""

    saga: str
    version: int
    fails: str
    how: Failing
    ends: Literal["undone", "queued"]
    undone: tuple[Undoing, ...]
    stays: tuple[str, ...]
    """Steps with an effect that has been done and is not undone."""
    runbook: str | None
    """What a person reads, if the step itself goes to one."""
    give_up: float | None
    """Seconds for which the step is repeated before that; None: at once, or not at all."""

    def text(self) -> str:
        """Return it in words."""
        lines = [f"{self.saga} version {self.version}: {self.fails} {_HOW[self.how]}."]
        if self.ends == "queued":
            after = f"After {_span(self.give_up)} of repeating" if self.give_up else "At once"
            lines.append(f"{after} it stands in front of a person: {self.runbook}.")
        elif self.undone:
            lines.append("The saga turns round, and ends undone:")
        else:
            lines.append("Nothing has to be undone; the saga ends undone.")
        for each in self.undone:
            sure = ", which may have been done," if each.given == "Unknown" else ""
            sure = sure if each.certain else ", if it was done by then,"
            lines.append(
                f"  {each.wave}. {each.undo} undoes {each.step}{sure or ','} "
                f"or else a person does: {each.runbook}"
            )
        if self.stays:
            lines.append(f"What stays: {', '.join(self.stays)}.")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values, for JSON."""
        undone = [
            {
                "step": each.step,
                "undo": each.undo,
                "wave": each.wave,
                "given": each.given,
                "certain": each.certain,
                "runbook": each.runbook,
            }
            for each in self.undone
        ]
        return {
            "saga": self.saga,
            "version": self.version,
            "fails": self.fails,
            "how": self.how,
            "ends": self.ends,
            "undone": undone,
            "stays": list(self.stays),
            "runbook": self.runbook,
            "give_up": self.give_up,
        }


_HOW = {
    "refused": "is refused",
    "unavailable": "is unavailable until its attempts are used up",
    "unknown": "is attempted, and its outcome stays unknown",
}


def explain(
    saga: Saga | Plan, fails: str | Step[..., Any], how: Failing = "refused"
) -> Explanation:
    """Explain what happens when the step `fails` fails in the way `how`.

    Raises `NoSuchSaga` if the saga has no such step.
    """
    plan = saga.plan if isinstance(saga, Saga) else saga
    name = fails if isinstance(fails, str) else fails.name
    step = plan.step.get(name)
    if step is None or step.kind is Kind.START:
        steps = [each.name for each in plan.steps if each.kind is not Kind.START]
        raise NoSuchSaga(
            f"saga {plan.saga} version {plan.version} has no step {name}.",
            fix=f"Its steps are {', '.join(steps)}.",
        )
    before = plan.earlier[name]
    stuck = _is_stuck(step, how)
    undone = () if stuck else _undone(plan, step, how)
    done = [each for each in plan.steps if each.name in before and each.kind is not Kind.READ]
    waits = stuck and not (step.kind is Kind.RETRIABLE and how == "refused")
    return Explanation(
        saga=plan.saga,
        version=plan.version,
        fails=name,
        how=how,
        ends="queued" if stuck else "undone",
        undone=undone,
        stays=tuple(each.name for each in done) if stuck else (),
        runbook=step.runbook if stuck else None,
        give_up=step.give_up if waits else None,
    )


def _is_stuck(step: StepPlan, how: Failing) -> bool:
    """Tell whether only a person can go on: past the point of no return, or right on it."""
    return step.kind is Kind.RETRIABLE or (step.kind is Kind.PIVOT and how == "unknown")


def _undone(plan: Plan, failed: StepPlan, how: Failing) -> tuple[Undoing, ...]:
    later = plan.later[failed.name]
    owed = [
        each
        for each in reversed(plan.steps)
        if each.undoable and each.name not in later and (each is not failed or how == "unknown")
    ]
    waves: dict[str, int] = {}
    for each in owed:
        after = [waves[name] for name in plan.later[each.name] if name in waves]
        waves[each.name] = 1 + max(after, default=0)
    return tuple(
        Undoing(
            step=each.name,
            undo=each.undo or "",
            wave=waves[each.name],
            given=_given(each, failed),
            certain=each is failed or each.name in plan.earlier[failed.name],
            runbook=each.undo_runbook,
        )
        for each in owed
    )


def _given(step: StepPlan, failed: StepPlan) -> Literal["result", "Unknown", "reason"]:
    if step.kind is Kind.START:
        return "reason"
    return "Unknown" if step is failed else "result"


def _span(seconds: float) -> str:
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size and seconds % size == 0:
            count = int(seconds // size)
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return f"{seconds:g} seconds"
