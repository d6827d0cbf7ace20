"""Real servers for tests: started by whichever test needs one first, and shared by all of a run.

Without a server's program the tests that need it are skipped, with a sentence on how to get it;
with CI=true in the environment they fail, so that nothing goes untested unnoticed.
"""

import asyncio
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest
from services import SERVERS, Missing, Server, ServerError, Shared, address_of

__all__ = ["PostgresDatabase", "address", "emptied", "own", "without"]

_FOLDER = "SWITCHGEAR_TEST_RUN"
_TRIES = 3
"""A port that was free may be somebody's a moment later."""


def begin_run() -> None:
    """Name the folder of the run's servers; the processes that it starts inherit it."""
    os.environ[_FOLDER] = str(Shared.of_this_run().folder)


def end_run() -> None:
    """End the servers that any process of the run has started."""
    folder = os.environ.get(_FOLDER)
    if folder is not None:  # a run that could not begin has none
        Shared(Path(folder)).stop()


def build_ahead(paths: Sequence[str]) -> None:
    """Begin to build what takes minutes, beside the tests, if any of `paths` needs it.

    In CI alone: elsewhere, what was not built by a command is not waited for.
    """
    needed = {"temporal": "tests/saga/temporal"}
    for name, folder in needed.items():
        wanted = not paths or any(_meet(path, folder) for path in paths)
        ready = address_of(name) or SERVERS[name].is_here()
        if os.environ.get("CI") and wanted and not ready:
            building = subprocess.Popen(
                ["nice", "-n", "19", sys.executable, "scripts/services", "fetch", name],
                cwd=Path(__file__).parents[1],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            building.returncode = 0  # or the interpreter would warn of a child that runs


def _meet(path: str, folder: str) -> bool:
    """Tell whether a path of the command line is in a folder, or holds it."""
    given = Path(path.partition("::")[0]).absolute()
    wanted = (Path(__file__).parents[1] / folder).absolute()
    return given == wanted or given in wanted.parents or wanted in given.parents


def address(name: str) -> str:
    """Return the URL of the run's server of that name."""
    _chosen(name)
    if address_of(name) is None:
        _soon(name)
    try:
        return Shared(Path(os.environ[_FOLDER])).url(name)
    except Missing as error:
        without(name, error)


@contextmanager
def own(name: str, kind: type[Server] | None = None) -> Iterator[Server]:
    """Give a server that nobody else uses, to be stopped and killed; `kind` sets it up its way."""
    _chosen(name)
    _soon(name)
    server = _started(name, kind or SERVERS[name])
    try:
        yield server
    finally:
        server.kill()
        shutil.rmtree(server.folder, ignore_errors=True)


def _started(name: str, kind: type[Server]) -> Server:
    for left in reversed(range(_TRIES)):
        data = Path(tempfile.mkdtemp(prefix=f"switchgear-{name}-"))
        server = None
        try:
            server = kind(data)
            server.create()
            server.start()
        except BaseException as error:
            if server is not None:
                server.kill()
            shutil.rmtree(data, ignore_errors=True)
            if isinstance(error, Missing):
                without(name, error)
            if left and isinstance(error, ServerError):
                continue
            raise
        return server
    raise AssertionError("the last try returns or raises")


class PostgresDatabase:
    """A database of this process alone, on the run's server."""

    def __init__(self, server: str) -> None:
        self._server = server
        name = f"switchgear_{secrets.token_hex(6)}"
        self.url = f"{server.rpartition('/')[0]}/{name}"

    def create(self) -> None:
        self._execute(f"CREATE DATABASE {self._name}")

    def drop(self) -> None:
        self._execute(f"DROP DATABASE {self._name} WITH (FORCE)")

    @property
    def _name(self) -> str:
        return self.url.rpartition("/")[2]

    def _execute(self, sql: str) -> None:
        # a loop may be running where the fixture was asked for
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, self._run(sql)).result()

    async def _run(self, sql: str) -> None:
        import asyncpg

        connection = await asyncpg.connect(self._server)
        await connection.execute(sql)
        await connection.close()


async def emptied(database: PostgresDatabase) -> str:
    """Return the URL of the database, with nothing in it."""
    import asyncpg

    connection = await asyncpg.connect(database.url)
    # what an earlier test left running must not hold up the rest without a word
    await connection.execute("SET lock_timeout = '30s'")
    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    await connection.close()
    return database.url


def _chosen(name: str) -> None:
    """Skip the test if it needs a broker that this run is not about."""
    chosen = os.environ.get("SWITCHGEAR_TEST_BROKERS")
    if chosen is not None and name not in chosen.split(","):
        pytest.skip(f"{name} is not among SWITCHGEAR_TEST_BROKERS={chosen}")


def _soon(name: str) -> None:
    """Skip the test if its server would first be built for minutes, unless it is CI that waits."""
    if not (os.environ.get("CI") or SERVERS[name].is_here()):
        pytest.skip(f"{name}: it takes minutes to build; `make services NAMES={name}` does it.")


def without(name: str, error: Missing) -> NoReturn:
    """Skip the test that needs a server whose program is missing; in CI, let it fail."""
    message = f"{name}: {error}"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)
