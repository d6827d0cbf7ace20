"""Run drills one after the other: with progress, a printed report each, and JSON lines if asked.

A drill that cannot start is one that does not hold: its only invariant says why.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

from switchgear.drills import (
    consumer_down,
    killed_midway,
    leaf_down,
    long_chain,
    refused_shipment,
    shipped_then_bounced,
    slow_inventory,
)
from switchgear.drills.report import Report
from switchgear.drills.stand import Stand, workspace
from switchgear.errors import OperationError, SwitchgearError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["DRILLS", "run"]

Drill = Callable[[Stand], Awaitable[Report]]

DRILLS: Final[Mapping[str, Drill]] = {
    "slow-inventory": slow_inventory.drill,
    "leaf-down": leaf_down.drill,
    "consumer-down": consumer_down.drill,
    "refused-shipment": refused_shipment.drill,
    "shipped-then-bounced": shipped_then_bounced.drill,
    "killed-midway": killed_midway.drill,
    "long-chain": long_chain.drill,
}
_INTERRUPTED: Final = 130


def run(
    names: Sequence[str],
    json_file: Path | None,
    console: Console,
    drills: Mapping[str, Drill] = DRILLS,
) -> int:
    """Run the named drills (`all` is all of them) and return the exit code for the process.

    It is 0 if every invariant held, 1 if not, 130 after Ctrl-C. `json_file` gets one JSON object a
    line and drill. Raises `OperationError` for a name that is none of the `drills`, and for a file
    that cannot be written.
    """
    chosen = _chosen(names, drills)
    lines = _opened(json_file)
    try:
        return _run({name: drills[name] for name in chosen}, lines, console)
    except KeyboardInterrupt:
        console.print("Stopped. Everything that the drill had started has ended.")
        return _INTERRUPTED
    finally:
        if lines is not None:
            lines.close()


def _chosen(names: Sequence[str], drills: Mapping[str, Drill]) -> list[str]:
    chosen: dict[str, None] = {}
    for name in names:
        if name == "all":
            chosen |= dict.fromkeys(drills)
        elif name in drills:
            chosen[name] = None
        else:
            raise UsageError(
                f"there is no drill {name!r}.", fix=f"There are: {', '.join(drills)}; or all."
            )
    return list(chosen)


def _opened(json_file: Path | None) -> TextIO | None:
    if json_file is None:
        return None
    try:
        return json_file.open("w", encoding="utf-8")
    except OSError as error:
        raise OperationError(
            f"{json_file} cannot be written: {error.strerror}.",
            where="--json",
            fix="Name a file in a folder that this user can write to.",
        ) from error


def _run(drills: Mapping[str, Drill], lines: TextIO | None, console: Console) -> int:
    from switchgear.drills.show import Progress, show  # noqa: PLC0415  rich is an extra

    began = time.monotonic()
    broken = []
    with Progress(console, len(drills)) as progress:
        for number, (name, drill) in enumerate(drills.items(), 1):
            progress.begin(number, name)
            report = _reported(name, drill, progress.say)
            show(report, console)
            if lines is not None:
                print(json.dumps(report.as_json()), file=lines, flush=True)
            if not report.holds:
                broken.append(name)
    console.print()
    took = time.monotonic() - began
    if broken:
        console.print(
            f"[bold red]{len(broken)} of {len(drills)} drills do not hold[/]: "
            f"{', '.join(broken)}. ({took:.0f} s)"
        )
        return 1
    held = "The drill holds" if len(drills) == 1 else f"All {len(drills)} drills hold"
    console.print(f"[green]{held}.[/] ({took:.0f} s)")
    return 0


def _reported(name: str, drill: Drill, say: Callable[[str], None]) -> Report:
    """Run one drill; what keeps it from running becomes an invariant that does not hold."""
    with workspace(name) as place:
        try:
            report = asyncio.run(_interruptible(drill(Stand(place.folder, say))))
        except SwitchgearError as error:
            report = Report(name, "the drill could not be carried out")
            report.check("the drill can be carried out", holds=False, detail=str(error))
        if not report.holds:
            place.keep()
            report.kept = place.folder
    return report


async def _interruptible(drill: Awaitable[Report]) -> Report:
    """Treat SIGTERM as Ctrl-C: what the drill has started ends before the drill does."""
    task = asyncio.ensure_future(drill)
    loop = asyncio.get_running_loop()
    told = False

    def stop() -> None:
        nonlocal told
        told = True
        task.cancel()

    loop.add_signal_handler(signal.SIGTERM, stop)
    try:
        return await task
    except asyncio.CancelledError:
        if told:
            raise KeyboardInterrupt from None
        raise
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
