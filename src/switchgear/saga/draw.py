"""A saga as a picture: its steps, and what becomes of each when something fails.

Mermaid for a page or a merge request, SVG for anything else. Both are made of text alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Final

from switchgear.saga.explain import Explanation
from switchgear.saga.plan import Kind, Plan, StepPlan

__all__ = ["mermaid", "svg"]

_COLOURS: Final = {
    "plain": ("#f1f5f9", "#334155"),
    "done": ("#dcfce7", "#166534"),
    "failed": ("#fee2e2", "#b91c1c"),
    "undone": ("#fef3c7", "#b45309"),
    "person": ("#ede9fe", "#6d28d9"),
    "never": ("#ffffff", "#94a3b8"),
}
"""Fill and stroke of each state."""
_ARROW: Final = (
    '<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
    'orient="auto"><path d="M0 0 8 4 0 8z" fill="#334155"/></marker></defs>'
)
_WIDE, _HIGH, _RIGHT, _DOWN, _EDGE = 170, 40, 60, 110, 20
_LEGEND: Final = 24
_FITS: Final = 34
"""Characters of 12 points that fit between two boxes."""


@dataclass(frozen=True, slots=True)
class _Drawn:
    """One step, and what is written below it."""

    step: StepPlan
    state: str
    note: str


def mermaid(plan: Plan, told: Explanation | None = None) -> str:
    """Return a Mermaid flowchart of a saga, or of what `told` says of it."""
    drawn = _drawn(plan, told)
    number = {name: index for index, name in enumerate(plan.step)}
    lines = ["flowchart LR"]
    for name, each in drawn.items():
        shape = ("{{", "}}") if each.step.kind is Kind.PIVOT else ("[", "]")
        label = _label(name) if not each.note else f"{_label(name)}<br/>{_label(each.note)}"
        lines.append(f'  s{number[name]}{shape[0]}"{label}"{shape[1]}:::{each.state}')
    lines += [
        f"  s{number[before]} --> s{number[step.name]}"
        for step in plan.steps
        for before in step.after
    ]
    used = {each.state for each in drawn.values()}
    lines += [
        f"  classDef {state} fill:{fill},stroke:{stroke},color:#0f172a"
        for state, (fill, stroke) in _COLOURS.items()
        if state in used
    ]
    return "\n".join(lines)


def svg(plan: Plan, told: Explanation | None = None) -> str:
    """Return an SVG picture of a saga, or of what `told` says of it."""
    drawn = _drawn(plan, told)
    places = _places(plan)
    across = max(column for column, _ in places.values()) + 1
    down = max(row for _, row in places.values()) + 1
    width = 2 * _EDGE + across * _WIDE + (across - 1) * _RIGHT
    height = 2 * _EDGE + _LEGEND + down * _DOWN
    title = escape((told.text() if told else f"{plan.saga} version {plan.version}.").split("\n")[0])
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'font-family="ui-sans-serif, system-ui, sans-serif" font-size="14" role="img" '
            f'aria-label="{title}">'
        ),
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        _ARROW,
        f'<text x="{_EDGE}" y="{_EDGE + 4}" font-weight="600" fill="#0f172a">{title}</text>',
    ]
    for step in plan.steps:
        for before in step.after:
            (x1, y1), (x2, y2) = _corner(places[before]), _corner(places[step.name])
            line = f"M{x1 + _WIDE} {y1 + _HIGH // 2} {x2 - 2} {y2 + _HIGH // 2}"
            parts.append(f'<path d="{line}" stroke="#334155" fill="none" marker-end="url(#a)"/>')
    for name, each in drawn.items():
        parts += _box(each, *_corner(places[name]))
    return "\n".join([*parts, "</svg>"])


def _drawn(plan: Plan, told: Explanation | None) -> dict[str, _Drawn]:
    """Return each step with its state and what is said of it."""
    if told is None:
        return {
            step.name: _Drawn(step, "plain", f"undo: {step.undo}" if step.undo else step.kind)
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
    drawn = {}
    for step in plan.steps:
        state, note = notes.get(step.name, ("", ""))
        if step.name == failed:
            word = told.how if told.fails == step.name else f"{told.fails} {told.how}"
            state, note = "failed", f"{word}; {note}" if note else word
        elif not state:
            state = "done" if _was_done(plan, step, told, failed) else "never"
        drawn[step.name] = _Drawn(step, state, note)
    return drawn


def _was_done(plan: Plan, step: StepPlan, told: Explanation, failed: str) -> bool:
    """Tell whether a step that nothing happens to has been done by then."""
    if told.how == "refuted" and not told.after:
        return True
    names = (*told.after, failed)
    return any(step.name == name or step.name in plan.earlier[name] for name in names)


def _places(plan: Plan) -> dict[str, tuple[int, int]]:
    """Return the column and row of each step: the column is its depth."""
    places: dict[str, tuple[int, int]] = {}
    filled: dict[int, int] = {}
    for step in plan.steps:
        column = 1 + max((places[before][0] for before in step.after), default=-1)
        row = filled.get(column, 0)
        filled[column] = row + 1
        places[step.name] = column, row
    return places


def _corner(place: tuple[int, int]) -> tuple[int, int]:
    column, row = place
    return _EDGE + column * (_WIDE + _RIGHT), _EDGE + _LEGEND + row * _DOWN


def _box(each: _Drawn, x: int, y: int) -> list[str]:
    fill, stroke = _COLOURS[each.state]
    dashed = ' stroke-dasharray="5 4"' if each.state == "never" else ""
    thick = ' stroke-width="3"' if each.step.kind is Kind.PIVOT else ""
    middle = x + _WIDE // 2
    text = f'text-anchor="middle" x="{middle}"'
    lines = [
        f'<text {text} y="{y + _HIGH + 18 + 16 * index}" font-size="12" fill="{stroke}">'
        f"<title>{escape(line)}</title>{escape(_short(line))}</text>"
        for index, line in enumerate(each.note.split("; "))
    ]
    return [
        f'<rect x="{x}" y="{y}" width="{_WIDE}" height="{_HIGH}" rx="6" fill="{fill}" '  # noqa: ISC004
        f'stroke="{stroke}"{dashed}{thick}/>',
        f'<text {text} y="{y + 25}" fill="#0f172a">{escape(each.step.name)}</text>',
        *lines,
    ]


def _short(text: str) -> str:
    """Return text that fits below a box; the whole of it is shown when one points at it."""
    return text if len(text) <= _FITS else f"{text[: _FITS - 1]}…"


def _label(text: str) -> str:
    """Return text that Mermaid takes as it is."""
    return escape(text, quote=True).replace("&quot;", "#quot;").replace("&#x27;", "#39;")
