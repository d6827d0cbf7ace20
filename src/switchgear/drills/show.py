"""What a person sees: progress while a drill runs, and then its report.

A report is a title, a table, a line an invariant, and one sentence.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import Final, Self

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.status import Status
from rich.table import Table
from rich.text import Text

from switchgear.drills.report import Figure, Report

__all__ = ["Progress", "show", "shown"]

_SECOND: Final = 1.0
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
        self._began = 0.0

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
        line = f"{self._drill}, {time.monotonic() - self._began:.0f} s: {what} ..."
        if self._status is not None:
            self._status.update(line)
        else:
            self._console.print(Text(line, "dim"))


def show(report: Report, console: Console) -> None:
    """Print a report."""
    console.print()
    console.print(Text.assemble((report.drill, "bold"), ": ", report.broken))
    console.print(_table(report))
    for invariant in report.invariants:
        mark = ("✓", "green") if invariant.holds else ("✗", "bold red")
        line = Text.assemble(mark, " ", invariant.name)
        if invariant.detail:
            line.append(f"  ({invariant.detail})", "dim")
        console.print(Padding(line, (0, 0, 0, 1)))
    if report.shows:
        console.print(Padding(Text(report.shows, "italic"), (0, 0, 0, 1)))


def _table(report: Report) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 2, 0, 1))
    table.add_column("")
    for variant in report.variants:
        table.add_column(variant, justify="right")
    current = ""
    for section, name, cells in report.rows():
        if section != current:
            current = section
            table.add_section()
            table.add_row(Text(section, "bold"))
        figures = (cells.get(variant) for variant in report.variants)
        table.add_row(name, *(shown(figure) if figure else "" for figure in figures))
    return table


def shown(figure: Figure) -> str:
    """Return a figure as people read it: with its unit, and no digit that means nothing."""
    text = _value(figure.value, figure.unit)
    if figure.at_least:
        text = f"> {text}"
    if figure.interval is not None:
        low, high = (_value(end, figure.unit) for end in figure.interval)
        text = f"{text} ({low} to {high})"
    return text


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
