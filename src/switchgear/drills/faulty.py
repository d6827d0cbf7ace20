"""A service of the shop with something wrong with it: what a drill starts in its place.

The service itself is untouched. `switchgear.drills.faulty:inventory` is the `Service` that stands
under `inventory` in `DRILL_TARGETS`, with a hook in front of its operations; an ASGI application
gets a bounded pool of workers in front of it. The variables:

DRILL_TARGETS   all services that are replaced, as JSON: {"inventory": "shop.inventory:app"}
DRILL_SERVICE   which of them this process runs
DRILL_FAULTS    file with the faults, see `control.py`; read again when it changes
DRILL_SIGNALS   file to which signals of the process are appended
DRILL_KINDS     the kinds of signals to append, divided by commas; default: all
DRILL_WORKERS   how many requests are worked on at once, as with processes or threads; 0: any number
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

from switchgear.app.service import Service
from switchgear.app.target import load_target
from switchgear.drills.control import FaultFile, SignalFile
from switchgear.model.signal import BEGINS, Signal, SignalKind, subscribe
from switchgear.serve.arrival import Arrival

__all__ = ["BUSY", "InjectedFault", "Pool", "behind", "broken"]

BUSY: Final = "drill.busy"
"""The kind of signal that tells how many workers are busy."""

# ASGI's own types: its messages are open dictionaries
_Scope = MutableMapping[str, Any]
_Channel = Callable[..., Awaitable[Any]]
_App = Callable[[_Scope, _Channel, _Channel], Awaitable[None]]

_for_life = ExitStack()


class InjectedFault(Exception):
    """The failure that the drill asked for."""


class Pool:
    """So many workers; who finds none free waits. It reports how many are busy."""

    def __init__(self, size: int, report: Callable[[int], None]) -> None:
        self._free = asyncio.Semaphore(size) if size else None
        self._report = report
        self.busy = 0

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[None]:
        """Take a worker for the body of the `async with`."""
        if self._free is None:
            yield
            return
        async with self._free:
            self._count(1)
            try:
                yield
            finally:
                self._count(-1)

    def _count(self, change: int) -> None:
        self.busy += change
        self._report(self.busy)


def broken(service: Service, faults: FaultFile, pool: Pool) -> Service:
    """Put faults in front of every operation of a service.

    A worker is held for as long as the fault makes the request wait: the rest takes no time.
    """

    async def suffer(arrival: Arrival) -> None:
        fault = faults.of(arrival.operation.name)
        if fault.sleep:
            async with pool.worker():
                await asyncio.sleep(fault.sleep)
        if fault.fail:
            raise InjectedFault

    service.before(suffer)
    return service


def behind(application: _App, pool: Pool) -> _App:
    """Put a bounded pool of workers in front of an ASGI application."""

    async def worked(scope: _Scope, receive: _Channel, send: _Channel) -> None:
        if scope["type"] != "http":
            await application(scope, receive, send)
            return
        async with pool.worker():
            await application(scope, receive, send)

    return worked


def _pool(signals: SignalFile) -> Pool:
    size = int(os.environ.get("DRILL_WORKERS", "0"))
    return Pool(size, lambda busy: signals.write(BUSY, "workers", {"busy": busy, "of": size}))


def __getattr__(name: str) -> object:
    """Make the stand-in of a service when the runner asks for it, so that the import does nothing.

    Other services ask as well, to see what this one serves: they get the service as it is.
    """
    targets: dict[str, str] = json.loads(os.environ.get("DRILL_TARGETS", "{}"))
    if name not in targets:
        raise AttributeError(f"{__name__} has no {name}")
    target = load_target(targets[name])
    if name != os.environ.get("DRILL_SERVICE"):
        return target
    signals = SignalFile(Path(os.environ["DRILL_SIGNALS"]))
    # a beginning says nothing that its end does not
    usual = ",".join(kind for kind in SignalKind if kind not in BEGINS)
    kinds = frozenset(os.environ.get("DRILL_KINDS", usual).split(","))

    def write(signal: Signal) -> None:
        if signal.kind in kinds:
            signals.write(signal.kind, signal.subject, signal.detail)

    _for_life.enter_context(subscribe(write))
    pool = _pool(signals)
    made: object
    if isinstance(target, Service):
        made = broken(target, FaultFile(Path(os.environ["DRILL_FAULTS"])), pool)
    elif callable(target):
        made = behind(target, pool)
    else:
        raise TypeError(f"{targets[name]} is neither a Service nor an application")
    globals()[name] = made
    return made
