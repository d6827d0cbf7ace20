"""A picture of a scenario: answers, waiting times and queues over time, a column for each variant.

Drawn by matplotlib, an extra, as SVG or PNG.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from switchgear.errors import MissingExtra, OperationError
from switchgear.topology.simulate.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["drawable", "plot"]

_KINDS: Final = (".svg", ".png")
_WIDE: Final = 6.5
_HIGH: Final = 2.6
_ROWS: Final = 3
_LEAST: Final = 0.001
_MOST: Final = 8
"""So many services have a line of their own in the picture of the queues."""


def drawable(file: Path) -> None:
    """Find out, before anything is run for it, whether a picture can be drawn.

    Raises `MissingExtra` without matplotlib, `OperationError` for another kind of file.
    """
    if find_spec("matplotlib") is None:
        raise MissingExtra("matplotlib", "plot")
    if file.suffix.lower() not in _KINDS:
        raise OperationError(
            f"{file} is no picture that can be drawn.",
            where="--plot",
            fix=f"Give it one of the endings {', '.join(_KINDS)}.",
        )


def plot(results: Sequence[Result], file: Path) -> None:
    """Draw the results into a file, whose ending says how.

    Raises as `drawable` does, and `OperationError` for a file that cannot be written.
    """
    drawable(file)
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  an extra
    from matplotlib.figure import Figure  # noqa: PLC0415  an extra

    columns = len(results)
    figure = Figure(figsize=(_WIDE * columns, _HIGH * _ROWS), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(_ROWS, columns, sharex=True, sharey="row", squeeze=False)
    for column, result in enumerate(results):
        top, middle, bottom = (axes[row][column] for row in range(_ROWS))
        top.set_title(result.variant)
        _answers(top, result)
        _latency(middle, result)
        _queues(bottom, result)
        for one in (top, middle, bottom):
            _troubles(one, result)
            if column == columns - 1:
                one.legend(fontsize="x-small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
        bottom.set_xlabel("virtual seconds")
    axes[0][0].set_ylabel("visitors a second")
    axes[1][0].set_ylabel("p99, seconds")
    axes[2][0].set_ylabel("waiting")
    figure.suptitle(results[0].scenario.title or results[0].scenario.name)
    try:
        # without a date, so that the same scenario gives the same file
        figure.savefig(file, metadata={"Date": None} if file.suffix.lower() == ".svg" else None)
    except OSError as error:
        raise OperationError(
            f"{file} cannot be written: {error.strerror}.",
            where="--plot",
            fix="Name a file in a folder that this user can write to.",
        ) from error


def _answers(axes: Axes, result: Result) -> None:
    scale = result.width * result.runs
    for name, entry in result.entries.items():
        times = _times(result, len(entry.bins))
        (line,) = axes.plot(times, [one.good / scale for one in entry.bins], label=f"{name}: good")
        offered = [one.offered / scale for one in entry.bins]
        axes.plot(times, offered, color=line.get_color(), alpha=0.4, linestyle=":")
    axes.set_ylim(bottom=0)


def _latency(axes: Axes, result: Result) -> None:
    for name, entry in result.entries.items():
        slowest = [one.known.quantile(0.99) for one in entry.bins]
        axes.plot(_times(result, len(slowest)), slowest, label=name)
    axes.set_yscale("log")
    # whoever is told at once took no time, which a logarithm does not know
    axes.set_ylim(bottom=_LEAST)


def _queues(axes: Axes, result: Result) -> None:
    longest = sorted(result.waiting.items(), key=lambda item: -max(item[1], default=0.0))
    for name, waiting in longest[:_MOST]:
        axes.plot(_times(result, len(waiting)), waiting, label=name)
    axes.set_ylim(bottom=0)


def _times(result: Result, count: int) -> list[float]:
    return [result.width * (number + 0.5) for number in range(count)]


def _troubles(axes: Axes, result: Result) -> None:
    """Shade when something is wrong."""
    horizon = result.scenario.seconds
    for fault in result.scenario.faults:
        end = fault.ends(horizon)
        if math.isfinite(end):
            axes.axvspan(fault.at, end, color="tab:red", alpha=0.1)
