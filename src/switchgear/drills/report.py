"""What a drill says when it is over: figures, invariants, and one sentence of what it shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from switchgear.drills.statistics import Interval

__all__ = ["Figure", "Invariant", "Report"]

Value = float | int | str


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number (or short text) of one variant of the drill."""

    name: str
    value: Value
    unit: str = ""
    """`s`, `share` (0 to 1), a word for what is counted, or nothing for a text."""
    variant: str = ""
    """The column: `healthy`, `naive`, `guarded`; or one that the drill names."""
    section: str = ""
    """The heading under which the table shows it."""
    at_least: bool = False
    """The measurement was cut off: the true value is this or more."""
    interval: Interval | None = None
    """Where the true value lies with 95% confidence."""


@dataclass(frozen=True, slots=True)
class Invariant:
    """A statement about the system that can turn out to be false."""

    name: str
    holds: bool
    detail: str = ""
    """What was found: the numbers that were compared."""


@dataclass(slots=True)
class Report:
    """The outcome of one drill. It is built up while the drill runs."""

    drill: str
    broken: str
    """One line: what is broken on purpose."""
    shows: str = ""
    """One sentence: what to learn from the table."""
    kept: Path | None = None
    """The folder with the logs and books of a drill that does not hold."""
    columns: tuple[str, ...] = ()
    """Variants in the order of the table's columns, where that is not the order of the figures."""
    figures: list[Figure] = field(default_factory=list)
    invariants: list[Invariant] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether every invariant holds; a drill that checked nothing does not hold."""
        return bool(self.invariants) and all(invariant.holds for invariant in self.invariants)

    def figure(
        self,
        name: str,
        value: Value,
        unit: str = "",
        *,
        variant: str = "",
        section: str = "",
        at_least: bool = False,
        interval: Interval | None = None,
    ) -> None:
        """Add a figure."""
        self.figures.append(Figure(name, value, unit, variant, section, at_least, interval))

    def check(self, name: str, holds: bool, detail: str = "") -> None:  # noqa: FBT001  the verdict
        """Add an invariant and whether it holds."""
        self.invariants.append(Invariant(name, bool(holds), detail))

    @property
    def variants(self) -> tuple[str, ...]:
        """The columns of the table: `columns`, then others in the order of the figures."""
        return tuple(dict.fromkeys([*self.columns, *(one.variant for one in self.figures)]))

    def rows(self) -> Iterator[tuple[str, str, dict[str, Figure]]]:
        """Yield section, name and the figures by variant of every row of the table."""
        rows: dict[tuple[str, str], dict[str, Figure]] = {}
        for figure in self.figures:
            rows.setdefault((figure.section, figure.name), {})[figure.variant] = figure
        sections = dict.fromkeys(section for section, _ in rows)
        for wanted in sections:
            for (section, name), cells in rows.items():
                if section == wanted:
                    yield section, name, cells

    def as_json(self) -> dict[str, object]:
        """Return the object that `--json` writes on one line."""
        return {
            "drill": self.drill,
            "holds": self.holds,
            "invariants": [
                {"name": one.name, "holds": one.holds, "detail": one.detail}
                for one in self.invariants
            ],
            "figures": [line for figure in self.figures for line in _lines(figure)],
        }


def _lines(figure: Figure) -> Iterator[dict[str, object]]:
    """Yield the figure, and the ends of its interval as two more."""
    name = f"{figure.section}: {figure.name}" if figure.section else figure.name
    ends = {"": figure.value}
    if figure.interval is not None:
        ends[", 95% interval from"], ends[", 95% interval to"] = figure.interval
    for end, value in ends.items():
        yield {
            "name": name + end,
            "value": value,
            "unit": figure.unit,
            "variant": figure.variant,
        }
