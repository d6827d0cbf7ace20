"""A PostgreSQL server of our own: real, on a free port of the loopback, in a folder of its own.

Without the programs the tests that need it are skipped with a message; with CI=true in the
environment they fail, so that nothing goes untested unnoticed.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["PostgresServer", "emptied", "serving"]


class PostgresServer:
    """One server; `url` is its database. It refuses to run as root, so it then runs as postgres."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs = programs
        self._folder = folder
        self._user = "postgres" if os.geteuid() == 0 else None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"postgresql://switchgear@127.0.0.1:{self.port}/postgres"

    def create(self) -> None:
        if self._user:
            shutil.chown(self._folder, self._user)
        command = [self._programs / "initdb", "-D", self._data, "-A", "trust", "-U", "switchgear"]
        subprocess.run([*command, "--no-sync"], check=True, capture_output=True, user=self._user)

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self._folder}"
        self._control("-o", options, "start")

    def stop(self) -> None:
        self._control("-m", "fast", "stop")

    def kill(self) -> None:
        """End it as a crash would: no shutdown, no checkpoint."""
        os.kill(int((self._data / "postmaster.pid").read_text().split()[0]), signal.SIGQUIT)

    async def empty(self) -> None:
        """Drop everything in the database."""
        import asyncpg

        connection = await asyncpg.connect(self.url)
        await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        await connection.close()

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _control(self, *arguments: str) -> None:
        log = self._folder / "log"
        command = [self._programs / "pg_ctl", "-D", self._data, "-l", log, "-w", *arguments]
        done = subprocess.run(
            command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, user=self._user
        )
        assert done.returncode == 0, done.stdout.decode() + log.read_text()


async def emptied(server: PostgresServer) -> str:
    """Return the URL of the server's database, with nothing in it."""
    import asyncpg

    connection = await asyncpg.connect(server.url)
    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    await connection.close()
    return server.url


@contextmanager
def serving() -> Iterator[PostgresServer]:
    """Start a server for the body of the `with`."""
    programs = _programs()
    if programs is None:
        message = "PostgreSQL is not installed: install the server, with initdb and pg_ctl."
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    # not below pytest's own folder, which no other user may enter
    with tempfile.TemporaryDirectory(prefix="switchgear-postgres-") as name:
        server = PostgresServer(programs, Path(name))
        server.create()
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _programs() -> Path | None:
    found = shutil.which("pg_ctl")
    if found:
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return versions[-1] if versions else None
