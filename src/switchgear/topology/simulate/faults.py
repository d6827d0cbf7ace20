"""What goes wrong at run time, and when it is over.

| fault    | what it does to a station                                                        |
| -------- | -------------------------------------------------------------------------------- |
| `slow`   | work that begins meanwhile takes longer                                          |
| `down`   | what is in there breaks off (`Unknown(RESET)`), what comes is refused (`CONNECT`) |
| `silent` | what comes is never answered                                                     |
| `errors` | so many more fail after their work                                               |
| `lost`   | so many replies get lost                                                         |
| `pause`  | all work stands still, and goes on where it was                                  |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from random import Random
from typing import Any

from switchgear.topology.simulate.chance import Draw
from switchgear.topology.simulate.kernel import Kernel
from switchgear.topology.simulate.scenario import Fault, FaultKind
from switchgear.topology.simulate.station import Handling, Station
from switchgear.topology.simulate.steps import Worked
from switchgear.topology.simulate.topic import Consumer

__all__ = ["arrange"]

Toggle = Callable[[Any], None]
"""(`Any`: nothing is passed; events have a subject.)"""


def arrange(
    fault: Fault,
    kernel: Kernel,
    stations: Mapping[str, Station],
    consumers: Iterable[Consumer],
    random: Callable[[str], Random],
) -> None:
    """Announce the beginning and the end of a fault."""
    station = stations[fault.service]
    own = {f"{fault.service}{link}{fault.operation}" for link in (".", " <- ")}
    handlings = [
        handling
        for handling in station.handlings
        if fault.operation is None or handling.name in own
    ]
    if fault.kind is FaultKind.PAUSE:
        end = float("inf") if fault.seconds is None else fault.at + fault.seconds
        station.pauses.append((fault.at, end))
        station.pauses.sort()
        return
    if fault.kind in (FaultKind.DOWN, FaultKind.SILENT):
        mine = [one for one in consumers if one.handling.station is station]
        begin, end_ = _gone(fault.kind, station, mine)
    elif fault.kind is FaultKind.SLOW:
        begin, end_ = _slow(fault, [work for one in handlings for work in one.works], random)
    else:
        begin, end_ = _share(fault, handlings)
    kernel.at(fault.at, begin)
    if fault.seconds is not None:
        kernel.at(fault.at + fault.seconds, end_)


def _gone(kind: FaultKind, station: Station, consumers: list[Consumer]) -> tuple[Toggle, Toggle]:
    station.watch()
    down = kind is FaultKind.DOWN

    def begin(_: object) -> None:
        if down:
            station.down = True
            station.crash()
        else:
            station.silent = True

    def end(_: object) -> None:
        if down:
            station.down = False
        else:
            station.silent = False
        for consumer in consumers:
            consumer.back()

    return begin, end


def _slow(
    fault: Fault, works: list[Worked], random: Callable[[str], Random]
) -> tuple[Toggle, Toggle]:
    instead = None
    if fault.takes is not None:
        instead = fault.takes.sampler(random(f"fault {fault.service} {fault.at}"))

    def begin(_: object) -> None:
        for work in works:
            work.draw = instead or _longer(work.usual, fault.factor)

    def end(_: object) -> None:
        for work in works:
            work.draw = work.usual

    return begin, end


def _longer(draw: Draw, factor: float) -> Draw:
    return lambda: draw() * factor


def _share(fault: Fault, handlings: list[Handling]) -> tuple[Toggle, Toggle]:
    def turn(share: float) -> None:
        for handling in handlings:
            if fault.kind is FaultKind.ERRORS:
                handling.fails = 1 - (1 - handling.usual) * (1 - share)
            elif "<-" not in handling.name:
                # an event is not answered: there is no reply to lose
                handling.lost = share

    return (lambda _: turn(fault.share)), (lambda _: turn(0.0))
