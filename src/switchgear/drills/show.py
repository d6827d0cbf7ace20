"""What a person sees: progress while a drill runs, and then its report.

A report is a title, a table, a line an invariant, and one sentence.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.status import Status
from rich.table import Table
from rich.text import Text

from switchgear.drills.report import Figure, Report
from switchgear.drills.statistics import Interval

__all__ = ["Progress", "show", "shown"]

_SECOND: Final = 1.0
_GAP: Final = 2
"""Spaces between columns."""
_WHOLE_MILLISECONDS: Final = 0.0095


class Progress:
    """Says which drill runs and what it is about to do.

    On a terminal it is one line that changes; anywhere else a line for each thing that is done.
    """

    def __init__(self, console: Console, drills: int) -> None:
        self._console = console
        self._drills = drills
        self._status = Status("", console=console) if console.is_terminal else None
        self._drill = ""
        self._what = ""
        self._began = 0.0

    def __rich__(self) -> Text:
        """Return the line as it is now: the seconds run on while a drill is silent."""
        took = time.monotonic() - self._began
        return Text(f"{self._drill}, {took:.0f} s: {self._what} ...")

    def __enter__(self) -> Self:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def begin(self, number: int, drill: str) -> None:
        """Begin the drill with this number."""
        self._drill = f"{drill} ({number} of {self._drills})"
        self._began = time.monotonic()

    def say(self, what: str) -> None:
        """Say what the drill is doing now."""
        self._what = what
        if self._status is not None:
            self._status.update(self)
        else:
            self._console.print(self, style="dim", soft_wrap=True)


def show(report: Report, console: Console) -> None:
    """Print a report."""
    console.print()
    console.print(Text.assemble((report.drill, "bold"), ": ", report.broken))
    if report.figures:
        console.print(_tables(report, console))
    console.print(_invariants(report))
    if report.shows:
        console.print(Padding(Text(report.shows, "italic"), (0, 0, 0, 1)))
    if report.kept is not None:
        console.print(f" Its logs and books are kept in {report.kept}", soft_wrap=True)


class _Row:
    """A line of the table: what it is called, and a cell for each variant."""

    def __init__(self, name: str, cells: Mapping[str, str], *, aside: bool = False) -> None:
        self.name = name
        self.cells = cells
        self.aside = aside
        """It belongs to the row above."""


def _tables(report: Report, console: Console) -> Group:
    """Return the table, cut at its headings; the columns stand below one another all the same."""
    sections: dict[str, list[_Row]] = {}
    for section, name, figures in report.rows():
        rows = sections.setdefault(section, [])
        rows.append(_Row(name, {variant: shown(one) for variant, one in figures.items()}))
        intervals = {
            variant: _interval(one.interval, one.unit)
            for variant, one in figures.items()
            if one.interval is not None
        }
        if intervals:
            rows.append(_Row("  95% interval", intervals, aside=True))
    every = [row for rows in sections.values() for row in rows]
    widths = {
        variant: max(len(variant), *(len(row.cells.get(variant, "")) for row in every))
        for variant in report.variants
    }
    first = max(len(row.name) for row in every)
    # below one another only where all of it fits: rich would cut it off otherwise
    fits = first + sum(width + _GAP for width in widths.values()) <= console.width
    parts: list[RenderableType] = []
    for section, rows in sections.items():
        table = Table(
            box=box.SIMPLE_HEAD,
            show_header=not parts,
            pad_edge=False,
            show_edge=False,
            padding=(0, 0, 0, _GAP - 1),
        )
        table.add_column("", min_width=first if fits else None)
        for variant, width in widths.items():
            table.add_column(variant, justify="right", min_width=width if fits else None)
        for row in rows:
            style = "dim" if row.aside else ""
            cells = (row.cells.get(variant, "") for variant in widths)
            table.add_row(row.name, *cells, style=style)
        if section:
            parts += [Text(), Text(section, "bold")]
        parts.append(table)
    return Group(*parts)


def _invariants(report: Report) -> Table:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=2, justify="right")
    grid.add_column()
    for invariant in report.invariants:
        mark = Text("✓", "green") if invariant.holds else Text("✗", "bold red")
        line = Text(invariant.name)
        if invariant.detail:
            line.append(f"  ({invariant.detail})", "dim")
        grid.add_row(mark, line)
    return grid


def shown(figure: Figure) -> str:
    """Return a figure as people read it: with its unit, and no digit that means nothing."""
    text = _value(figure.value, figure.unit)
    return f"> {text}" if figure.at_least else text


def _interval(interval: Interval, unit: str) -> str:
    low, high = (_value(end, unit) for end in interval)
    # one unit is enough, where both ends have the same
    shared = low.rpartition(" ")[2] == high.rpartition(" ")[2]
    return f"{low.rpartition(' ')[0] if shared else low}..{high}"


def _value(value: float | str, unit: str) -> str:
    if isinstance(value, str):
        return value
    if unit == "s":
        if value >= _SECOND:
            return f"{value:.2f} s"
        return f"{value * 1000:.{0 if value >= _WHOLE_MILLISECONDS else 1}f} ms"
    if unit == "share":
        return f"{f'{value * 100:.2f}'.rstrip('0').rstrip('.')} %"
    number = f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"
    return f"{number} {unit}".replace(",", "\N{NO-BREAK SPACE}").rstrip()
