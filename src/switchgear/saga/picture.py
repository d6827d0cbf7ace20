"""Boxes and arrows as a picture: Mermaid for a page or a merge request, SVG for anything else.

Both are made of text alone. A box has a state, which gives its colour, and a note below it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

__all__ = ["Arrow", "Box", "Picture"]

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
_HIGH, _RIGHT, _DOWN, _EDGE = 40, 60, 110, 20
_NARROW: Final = 170
_GLYPH: Final = 8
"""Width of a character of 14 points."""
_LEGEND: Final = 24


@dataclass(frozen=True, slots=True)
class Box:
    """One thing, and what is written below it."""

    name: str
    state: str = "plain"
    note: str = ""
    decisive: bool = False
    """A point of no return, drawn so."""


@dataclass(frozen=True, slots=True)
class Arrow:
    """Boxes are named by their keys in the picture."""

    start: str
    end: str
    label: str = ""


@dataclass(frozen=True)
class Picture:
    """Boxes by a key of each, every one after those that lead to it, and the arrows between."""

    title: str
    boxes: Mapping[str, Box]
    arrows: Sequence[Arrow]

    def mermaid(self) -> str:
        """Return a Mermaid flowchart."""
        number = {key: index for index, key in enumerate(self.boxes)}
        lines = ["flowchart LR"]
        for key, box in self.boxes.items():
            shape = ("{{", "}}") if box.decisive else ("[", "]")
            name = _label(box.name)
            label = name if not box.note else f"{name}<br/>{_label(box.note)}"
            lines.append(f'  s{number[key]}{shape[0]}"{label}"{shape[1]}:::{box.state}')
        for arrow in self.arrows:
            label = f'|"{_label(arrow.label)}"|' if arrow.label else ""
            lines.append(f"  s{number[arrow.start]} -->{label} s{number[arrow.end]}")
        used = {box.state for box in self.boxes.values()}
        lines += [
            f"  classDef {state} fill:{fill},stroke:{stroke},color:#0f172a"
            for state, (fill, stroke) in _COLOURS.items()
            if state in used
        ]
        return "\n".join(lines)

    def svg(self) -> str:
        """Return an SVG picture."""
        places = self._places()
        wide = max([_NARROW, *(_GLYPH * len(box.name) + 20 for box in self.boxes.values())])
        labels = [_GLYPH * len(arrow.label) for arrow in self.arrows if arrow.label]
        gap = max([_RIGHT, *labels])
        across = max(column for column, _ in places.values()) + 1
        down = max(row for _, row in places.values()) + 1
        width = 2 * _EDGE + across * wide + (across - 1) * gap
        height = 2 * _EDGE + _LEGEND + down * _DOWN
        corner = {
            key: (_EDGE + column * (wide + gap), _EDGE + _LEGEND + row * _DOWN)
            for key, (column, row) in places.items()
        }
        title = _shown(self.title)
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
        for arrow in self.arrows:
            (x1, y1), (x2, y2) = corner[arrow.start], corner[arrow.end]
            line = f"M{x1 + wide} {y1 + _HIGH // 2} {x2 - 2} {y2 + _HIGH // 2}"
            parts.append(f'<path d="{line}" stroke="#334155" fill="none" marker-end="url(#a)"/>')
            if arrow.label:
                # beside its end: several arrows may leave one box, and few arrive at one
                parts.append(
                    f'<text x="{x2 - 12}" y="{y2 + _HIGH // 2 - 6}" text-anchor="end" '
                    f'font-size="12" fill="#334155">{_shown(arrow.label)}</text>'
                )
        for key, box in self.boxes.items():
            parts += _drawn(box, *corner[key], wide, (wide + gap) // 7)
        return "\n".join([*parts, "</svg>"])

    def _places(self) -> dict[str, tuple[int, int]]:
        """Return the column and row of each box: the column is its depth."""
        before: dict[str, list[str]] = {}
        for arrow in self.arrows:
            before.setdefault(arrow.end, []).append(arrow.start)
        places: dict[str, tuple[int, int]] = {}
        filled: dict[int, int] = {}
        for key in self.boxes:
            # an arrow that leads back comes from a box that has no place yet
            columns = (places[one][0] for one in before.get(key, ()) if one in places)
            column = 1 + max(columns, default=-1)
            row = filled.get(column, 0)
            filled[column] = row + 1
            places[key] = column, row
        return places


def _drawn(box: Box, x: int, y: int, wide: int, fits: int) -> Iterable[str]:
    fill, stroke = _COLOURS[box.state]
    dashed = ' stroke-dasharray="5 4"' if box.state == "never" else ""
    thick = ' stroke-width="3"' if box.decisive else ""
    text = f'text-anchor="middle" x="{x + wide // 2}"'
    yield (
        f'<rect x="{x}" y="{y}" width="{wide}" height="{_HIGH}" rx="6" fill="{fill}" '
        f'stroke="{stroke}"{dashed}{thick}/>'
    )
    yield f'<text {text} y="{y + 25}" fill="#0f172a">{_shown(box.name)}</text>'
    for index, line in enumerate(box.note.split("; ") if box.note else ()):
        yield (
            f'<text {text} y="{y + _HIGH + 18 + 16 * index}" font-size="12" fill="{stroke}">'
            f"<title>{_shown(line)}</title>{_shown(_short(line, fits))}</text>"
        )


def _short(text: str, fits: int) -> str:
    """Return text that fits below a box; the whole of it is shown when one points at it."""
    return text if len(text) <= fits else f"{text[: fits - 1]}…"


def _shown(text: str) -> str:
    return escape(_printed(text))


def _label(text: str) -> str:
    """Return text that Mermaid takes as it is: "#" begins what it takes for a character."""
    marked = escape(_printed(text).replace("#", "\0"), quote=True)
    return (
        marked.replace("&quot;", "#quot;")
        .replace("&#x27;", "#39;")
        .replace("`", "#96;")
        .replace("\0", "#35;")
    )


def _printed(text: str) -> str:
    """Return text on one line, without what neither form can hold."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text)
