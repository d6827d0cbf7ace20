"""Servers that several processes use: whoever needs one first starts it.

A folder holds one file for each running server, with its address and the process to end. A run of
the tests has a folder that is named after its process, so that what a killed run left behind is
found and ended by the next (`sweep`).
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final

from services.process import ServerError, born, end
from services.programs import locked
from services.servers import SERVERS, make

__all__ = ["Shared", "address_of", "sweep", "variable"]

_TRIES: Final = 3
"""A port that was free may be somebody's a moment later."""
_RUNS: Final = f"switchgear-{os.getuid()}-run-"


def variable(name: str) -> str:
    """Return the environment variable with the address of a server that is running already."""
    return f"SWITCHGEAR_TEST_{name.upper()}"


def address_of(name: str) -> str | None:
    """Return the address of a server that is running already, if the environment says so."""
    given = os.environ.get(variable(name))
    address = os.environ.get("TEMPORAL_ADDRESS") if name == "temporal" else None
    if given or not address:
        return given
    return f"temporal://{address}/{os.environ.get('TEMPORAL_NAMESPACE', 'default')}"


class Shared:
    """The servers of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @classmethod
    def of_this_run(cls) -> Shared:
        """Return the servers of the run that this process leads."""
        run = f"{_RUNS}{os.getpid()}-{born(os.getpid())}".replace(" ", "_")
        return cls(Path(tempfile.gettempdir()) / run)

    def url(self, name: str) -> str:
        """Return a server's address, after starting it if need be.

        Raises `Missing` without its program, and `ServerError` if it does not start.
        """
        given = address_of(name)
        if given:
            return given
        path = self.folder / f"{name}.json"
        with locked(path.with_suffix(".lock")):
            if path.exists():
                found = json.loads(path.read_text())
                if born(found["pid"]) == found["born"]:
                    return str(found["url"])
                self._end(path)
            return self._start(name, path)

    def fetch(self, name: str) -> str:
        """Get a server's program and start nothing; there is no address then."""
        SERVERS[name].find()
        return ""

    def stop(self) -> Sequence[str]:
        """End what this folder's processes started, and return the names."""
        paths = sorted(self.folder.glob("*.json"))
        with ThreadPoolExecutor() as pool:
            list(pool.map(self._end, paths))
        shutil.rmtree(self.folder, ignore_errors=True)
        return [path.stem for path in paths]

    def _start(self, name: str, path: Path) -> str:
        for left in reversed(range(_TRIES)):
            # below no folder that other users may not enter: PostgreSQL runs as another
            data = Path(tempfile.mkdtemp(prefix=f"switchgear-{name}-"))
            try:
                server = make(name, data)
            except BaseException as error:
                shutil.rmtree(data, ignore_errors=True)
                if left and isinstance(error, ServerError):
                    continue
                raise
            break
        assert server.process is not None  # noqa: S101  it was started just now
        found = {"url": server.url, "data": str(data)}
        found |= {"pid": server.process.pid, "born": server.process.born}
        found |= {"politely": int(server.politely)}
        path.write_text(json.dumps(found))
        server.process.leave()
        return server.url

    @staticmethod
    def _end(path: Path) -> None:
        with suppress(FileNotFoundError):  # another run sweeps too
            found = json.loads(path.read_text())
            end(found["pid"], found["born"], found["politely"])
            shutil.rmtree(found["data"], ignore_errors=True)
            path.unlink()


def sweep() -> None:
    """End what runs of the tests started that were themselves killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_RUNS}*"):
        pid, _, birth = folder.name.removeprefix(_RUNS).partition("-")
        if born(int(pid)).replace(" ", "_") != birth:
            Shared(folder).stop()
