"""A saga as a picture: its steps, and what becomes of each when something fails."""

from __future__ import annotations

from switchgear.saga.explain import Explanation
from switchgear.saga.picture import Arrow, Box, Picture
from switchgear.saga.plan import Kind, Plan, StepPlan

__all__ = ["drawn", "mermaid", "svg"]


def mermaid(plan: Plan, told: Explanation | None = None) -> str:
    """Return a Mermaid flowchart of a saga, or of what `told` says of it."""
    return drawn(plan, told).mermaid()


def svg(plan: Plan, told: Explanation | None = None) -> str:
    """Return an SVG picture of a saga, or of what `told` says of it."""
    return drawn(plan, told).svg()


def drawn(plan: Plan, told: Explanation | None = None) -> Picture:
    """Return the picture of a saga, or of what `told` says of it."""
    title = told.text().split("\n")[0] if told else f"{plan.saga} version {plan.version}."
    arrows = [Arrow(before, step.name) for step in plan.steps for before in step.after]
    return Picture(title, _boxes(plan, told), arrows)


def _boxes(plan: Plan, told: Explanation | None) -> dict[str, Box]:
    """Return each step with its state and what is said of it."""
    if told is None:
        return {
            step.name: _box(step, "plain", f"undo: {step.undo}" if step.undo else step.kind)
            for step in plan.steps
        }
    failed = next((each.name for each in plan.steps if told.fails in {each.name, each.undo}), "")
    notes: dict[str, tuple[str, str]] = {}
    for each in told.undone:
        doubt = " if it was done" if not each.certain else ""
        notes[each.step] = "undone", f"{each.wave}. {each.undo}{doubt}"
    for each in told.waits:
        notes[each.step] = "undone", f"{each.wave}. {each.undo}, when decided"
    for asked in told.asked:
        notes[asked.step] = "person", f"person: {asked.runbook}"
    boxes = {}
    for step in plan.steps:
        state, note = notes.get(step.name, ("", ""))
        if step.name == failed:
            word = told.how if told.fails == step.name else f"{told.fails} {told.how}"
            state, note = "failed", f"{word}; {note}" if note else word
        elif not state:
            state = "done" if _was_done(plan, step, told, failed) else "never"
        boxes[step.name] = _box(step, state, note)
    return boxes


def _box(step: StepPlan, state: str, note: str) -> Box:
    return Box(step.name, state, note, decisive=step.kind is Kind.PIVOT)


def _was_done(plan: Plan, step: StepPlan, told: Explanation, failed: str) -> bool:
    """Tell whether a step that nothing happens to has been done by then."""
    if told.how == "refuted" and not told.after:
        return True
    names = (*told.after, failed)
    return any(step.name == name or step.name in plan.earlier[name] for name in names)
