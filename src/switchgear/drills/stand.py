"""Where a drill runs: a temporary folder, a reference system in it, and the means to break it.

    async with stand.system("shop", faulty=["inventory"]) as shop:
        shop.faults("inventory").set(stock=Faults(sleep=0.8))
        await visitors.get(shop.url("gateway", "/checkout/ann"))
        await shop["orders"].restart()

The system is the example as its `switchgear.toml` describes it, on free ports, with its data in
the folder. A service named in `faulty` is started behind `switchgear.drills.faulty`.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeVar

from switchgear.app.up import Process, Supervisor, isolated
from switchgear.config import Config, ServiceConfig, load
from switchgear.drills.books import Books, read_books
from switchgear.drills.control import Entry, FaultFile, read_signals
from switchgear.errors import OperationError

__all__ = ["Stand", "System", "Workspace", "examples", "until", "workspace"]

T = TypeVar("T")

_SETTINGS: Final = MappingProxyType(
    {"SWITCHGEAR_SYSTEM_LOG": "warning", "SWITCHGEAR_SYSTEM_DRAIN": "3"}
)
"""Of every system in a drill."""


def examples() -> Path:
    """Return the folder of the reference systems, in a checkout or in an installed package.

    Raises `OperationError` where neither has them.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "examples", package.parents[1] / "examples"):
        if (folder / "shop" / "switchgear.toml").is_file():
            return folder
    raise OperationError(
        "the reference systems that drills break are not there.",
        where=str(package / "examples"),
        fix="Install switchgear from its wheel, or run from a checkout of the project.",
    )


class Workspace:
    """The temporary folder of one drill."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kept = False
        """Whether it stays, for a person to look into it."""

    def keep(self) -> None:
        """Do not remove it at the end."""
        self.kept = True


@contextmanager
def workspace(drill: str) -> Iterator[Workspace]:
    """Make a temporary folder for a drill and remove it afterwards, unless it is to be kept."""
    try:
        folder = Path(tempfile.mkdtemp(prefix=f"switchgear-{drill}-"))
    except OSError as error:
        raise OperationError(
            f"no temporary folder can be made: {error.strerror}.",
            where=tempfile.gettempdir(),
            fix="Set TMPDIR to a folder that this user can write to.",
        ) from error
    made = Workspace(folder)
    try:
        yield made
    finally:
        if not made.kept:
            shutil.rmtree(folder, ignore_errors=True)


async def until(
    found: Callable[[], Awaitable[T]], within: float, *, every: float = 0.1
) -> tuple[T, float]:
    """Ask until the answer is true or the time is over; return it, and the seconds it took.

    The last answer is returned as it is: whether it is good enough is for an invariant to say.
    """
    began = time.monotonic()
    while True:
        answer = await found()
        took = time.monotonic() - began
        if answer or took >= within:
            return answer, took
        await asyncio.sleep(every)


class System:
    """A reference system that runs."""

    def __init__(self, supervisor: Supervisor, folder: Path) -> None:
        self.supervisor = supervisor
        self.folder = folder

    @property
    def config(self) -> Config:
        """Its settings: ports, files."""
        return self.supervisor.config

    def __getitem__(self, service: str) -> Process:
        return self.supervisor[service]

    def url(self, service: str, path: str = "") -> str:
        """Return the address of a service's REST door."""
        door = self.config.service(service).http
        if door is None:
            raise OperationError(f"{service} has no REST door.", where=str(self.config.file))
        return f"http://{door.reachable()}{path}"

    def faults(self, service: str) -> FaultFile:
        """Return what is wrong with a service that was started as a faulty one."""
        return FaultFile(self.folder / f"{service}.faults.json")

    def signals(self, service: str) -> list[Entry]:
        """Return what a faulty service has reported so far."""
        return read_signals(self.folder / f"{service}.signals")

    def books(self) -> Books:
        """Read the shop's books from the files of its services."""
        return read_books(self.folder)


class Stand:
    """What a drill is given: a folder, systems to break, and a voice."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.folder = folder
        self.say = say
        """Tell in a few words what is going on."""

    @asynccontextmanager
    async def system(
        self,
        example: str,
        *,
        name: str | None = None,
        faulty: Collection[str] = (),
        env: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
        only: Collection[str] | None = None,
    ) -> AsyncIterator[System]:
        """Start a reference system and stop it at the end.

        `name` is that of its folder, where a drill starts an example twice. `faulty` names the
        services that can be broken, `env` gives services variables of their own, `only` starts
        these services and leaves the others out. Raises `OperationError` where it does not start.
        """
        file = examples() / example / "switchgear.toml"
        folder = self.folder / (name or example)
        folder.mkdir()
        self.say(f"starting the {name or example}, each service as a process")
        plain = load(file, {})
        overrides = dict(_SETTINGS)
        variables = {service: dict(env.get(service, {})) for service in plain.services}
        targets = json.dumps({service: _target(plain.services[service]) for service in faulty})
        for own in variables.values():
            own["DRILL_TARGETS"] = targets  # they look at one another to see who serves what
        for service in faulty:
            overrides |= _in_its_place(plain.services[service])
            variables[service] |= _control(service, folder)
        with (folder / "log.txt").open("w", encoding="utf-8") as log:
            supervisor = Supervisor(
                isolated(file, folder, overrides),
                env=variables,
                on_line=lambda service, line: print(service, line, file=log, flush=True),
            )
            try:
                await supervisor.start(only)
                yield System(supervisor, folder)
            finally:
                await supervisor.stop()


def _in_its_place(service: ServiceConfig) -> dict[str, str]:
    """Return the override that starts the faulty stand-in of a service."""
    kind = "APP" if service.app else "ASGI"
    stand_in = f"switchgear.drills.faulty:{service.name}"
    return {f"SWITCHGEAR_SERVICES_{service.name.upper()}_{kind}": stand_in}


def _target(service: ServiceConfig) -> str:
    return service.app or service.asgi or ""


def _control(service: str, folder: Path) -> dict[str, str]:
    """Return the variables by which the stand-in knows which service it is, and its files."""
    return {
        "DRILL_SERVICE": service,
        "DRILL_FAULTS": str(folder / f"{service}.faults.json"),
        "DRILL_SIGNALS": str(folder / f"{service}.signals"),
    }
