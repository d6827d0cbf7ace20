"""Every service of a system as its own process: start, watch, restart, stop.

    async with Supervisor(config) as system:
        system["orders"].kill()
        await system["orders"].restart()

Entering starts the services and waits until each is ready; leaving drains them all. It ends only
processes that it started, and if it dies itself, they end too (see `lifeline.py`).
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from weakref import finalize

from switchgear.app.process import Process, State
from switchgear.config import Address, Config, load
from switchgear.config.source import PREFIX, variable
from switchgear.errors import OperationError, UsageError

__all__ = ["Process", "State", "Supervisor", "isolated"]

_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 10.0
_STEADY: Final = 10.0
"""Seconds after which a service that has run is started again without a longer pause."""


class Supervisor:
    """The processes of a system.

    `restart` starts a service again that ended without having been told to, after 0.25 s, then
    twice as long each time, up to 10 s. `env` gives single services environment variables.
    `on_line(service, line)` gets their output, `on_state(process)` what they become.
    """

    def __init__(
        self,
        config: Config,
        *,
        restart: bool = False,
        env: Mapping[str, Mapping[str, str]] | None = None,
        on_line: Callable[[str, str], None] | None = None,
        on_state: Callable[[Process], None] | None = None,
    ) -> None:
        self.config = config
        self._restart = restart
        self._on_state = on_state
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._processes = {
            name: self._process(name, dict((env or {}).get(name, {})), on_line)
            for name in config.services
        }

    def __getitem__(self, name: str) -> Process:
        return self.process(name)

    def __iter__(self) -> Iterator[Process]:
        return iter(self._processes.values())

    def process(self, name: str) -> Process:
        """Return the process of a service. Raises `UsageError` for a name that is not there."""
        try:
            return self._processes[name]
        except KeyError:
            listed = ", ".join(self._processes) or "none"
            raise UsageError(
                f"the system has no service {name!r}.", fix=f"It has: {listed}."
            ) from None

    async def start(self, names: Iterable[str] | None = None) -> None:
        """Start services (default: all) and wait until every one is ready.

        Raises `OperationError` that says which did not start and why, after stopping the others.
        """
        if not self._processes:
            raise OperationError(
                "there is no service to start.",
                where=str(self.config.file or self.config.folder / "switchgear.toml"),
                fix="List them as [services.NAME], or begin with: switchgear new NAME",
            )
        chosen = [self.process(name) for name in (names or self._processes)]
        for process in chosen:
            self.config.service(process.name)  # has what it needs
        results = await asyncio.gather(*map(self._begin, chosen), return_exceptions=True)
        failed = [result for result in results if isinstance(result, BaseException)]
        if not failed:
            return
        await self.stop()
        reasons = []
        for failure in failed:
            if not isinstance(failure, OperationError):
                raise failure
            reasons.append(failure.what)
        raise OperationError("\n".join(reasons))

    async def stop(self) -> None:
        """Drain all services at the same time; return when every process has ended."""
        for keeper in self._keepers.values():
            keeper.cancel()
        await asyncio.gather(*self._keepers.values(), return_exceptions=True)
        self._keepers.clear()
        await asyncio.gather(*(process.terminate() for process in self._processes.values()))

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def _begin(self, process: Process) -> None:
        await process.start()
        await process.wait_ready()

    def _process(
        self, name: str, env: Mapping[str, str], on_line: Callable[[str, str], None] | None
    ) -> Process:
        config, service = self.config, self.config.services[name]
        return Process(
            name,
            [sys.executable, "-m", "switchgear.app.run", name],
            env={
                **os.environ,
                **config.overrides,
                **service.env,
                "SWITCHGEAR_CONFIG": str(config.file),
                "PYTHONUNBUFFERED": "1",
                **env,
            },
            folder=config.folder,
            drain=service.drain,
            ready=config.system.ready,
            on_line=on_line,
            on_state=self._changed,
        )

    def _changed(self, process: Process) -> None:
        if self._on_state is not None:
            self._on_state(process)
        if process.state is State.READY and self._restart and process.name not in self._keepers:
            self._keepers[process.name] = asyncio.create_task(self._keep(process))

    async def _keep(self, process: Process) -> None:
        """Start a service again whenever it ends unasked."""
        clock = asyncio.get_running_loop().time
        pause = _FIRST_PAUSE
        while True:
            began = clock()
            await process.wait()
            if process.stopped:
                break
            if clock() - began > _STEADY:
                pause = _FIRST_PAUSE
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            # it may have been told to stop in the meantime
            if not process.stopped:
                await process.start()
        del self._keepers[process.name]


def isolated(file: str | Path, folder: Path, environ: Mapping[str, str] | None = None) -> Config:
    """Return a system as its file describes it, on free ports and with its data in `folder`.

    Addresses of its services are replaced wherever the file repeats them: in `calls` and `env`.
    For drills, tests, and running one system twice. `environ` overrides what results.
    """
    outside = {k: v for k, v in os.environ.items() if not k.startswith(PREFIX)}
    plain = load(file, outside)
    doors = {
        (name, kind): door
        for name, service in plain.services.items()
        for kind, door in (("http", service.http), ("grpc", service.grpc))
        if door is not None
    }
    with ExitStack() as held:
        ports = {door: _reserved(held) for door in doors}
        moved = {
            str(doors[door].reachable()): str(Address(doors[door].reachable().host, port))
            for door, port in ports.items()
        }
        found = _apart(plain, folder, ports, moved)
        config = load(file, {**outside, **found, **(environ or {})})
        if sys.platform == "linux":  # elsewhere nobody could listen at a port that is kept
            finalize(config, held.pop_all().close)
        return config


def _apart(
    plain: Config,
    folder: Path,
    ports: Mapping[tuple[str, str], int],
    moved: Mapping[str, str],
) -> dict[str, str]:
    """Return the settings of a system with these ports, and with its data in `folder`."""
    found = {
        "SWITCHGEAR_SYSTEM_DATA": str(folder),
        "SWITCHGEAR_SYSTEM_BROKER": f"sqlite:///{folder.absolute() / 'broker.db'}",
    }
    for name, service in plain.services.items():
        if service.database.scheme == "sqlite":
            file_url = f"sqlite:///{folder.absolute() / name}.db"
            found[variable("services", name, "database")] = file_url
        for kind in ("http", "grpc"):
            if (name, kind) in ports:
                found[variable("services", name, kind)] = f"127.0.0.1:{ports[name, kind]}"
        for contract, call in service.calls.items():
            found[variable("services", name, "calls", contract)] = _moved(call.url.reveal(), moved)
        for key, value in service.env.items():
            found[variable("services", name, "env", key)] = _moved(value, moved)
    return found


def _moved(text: str, moved: Mapping[str, str]) -> str:
    """Replace every address at once, so that no new one is taken for an old one."""
    if not moved:
        return text
    old = "|".join(map(re.escape, moved))
    return re.sub(rf"(?<![\w.])({old})(?!\d)", lambda match: moved[match[1]], text)


def _reserved(held: ExitStack) -> int:
    """Return a port that nobody else is given for as long as `held` is open.

    It is kept by a socket that does not listen. Linux lets another one listen there if both have
    SO_REUSEADDR, as all doors do, and gives the port to nobody who asks for any.
    """
    keeper = held.enter_context(socket.socket())
    keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    keeper.bind(("127.0.0.1", 0))
    port: int = keeper.getsockname()[1]
    return port
