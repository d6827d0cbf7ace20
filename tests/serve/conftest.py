from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from switchgear.database.sqlite import Sqlite


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL server of our own on a free port; its URL."""
    found = shutil.which("initdb")
    places = (
        [Path(found).resolve().parent]
        if found
        else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    )
    if not places:
        pytest.skip("PostgreSQL is not installed")
    programs, user = places[-1], None
    with tempfile.TemporaryDirectory(prefix="switchgear-postgres-") as name:
        folder = Path(name)
        if os.geteuid() == 0:  # it refuses to run as root
            user = "postgres"
            os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
        data = folder / "data"
        made = [programs / "initdb", "-D", data, "-A", "trust", "-U", "switchgear", "--no-sync"]
        subprocess.run(made, check=True, capture_output=True, user=user)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        options = ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-k", folder]
        server = subprocess.Popen(
            [programs / "postgres", "-D", data, "-p", port, *options],
            user=user,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            ready = [programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", port]
            while subprocess.run(ready, check=False).returncode:
                assert server.poll() is None
                time.sleep(0.02)
            yield f"postgresql://switchgear@127.0.0.1:{port}/postgres"
        finally:
            server.send_signal(signal.SIGQUIT)
            server.wait(10)


@contextlib.asynccontextmanager
async def opened(kind, place):
    """A database of the port, with what its resource needs to be closed."""
    if kind == "sqlite":
        database = Sqlite(place, busy=1.0)
        yield database
        await database.close()
    elif kind == "asyncpg":
        from switchgear.database.postgres import Postgres

        async with asyncpg.create_pool(place, min_size=1, max_size=6) as pool:
            yield Postgres(pool)
    else:
        from sqlalchemy.ext.asyncio import create_async_engine

        from switchgear.database.sqlalchemy import SqlAlchemy

        engine = create_async_engine(place.replace("postgresql:", "postgresql+asyncpg:"))
        yield SqlAlchemy(engine)
        await engine.dispose()


KINDS = ["sqlite", "asyncpg", "sqlalchemy"]


@pytest_asyncio.fixture
async def place(request, tmp_path):
    """Where the database of the kind named by the test's parameter is; it is empty."""
    if request.getfixturevalue("kind") == "sqlite":
        return str(tmp_path / "keys.db")
    url = request.getfixturevalue("postgres")
    connection = await asyncpg.connect(url)
    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    await connection.close()
    return url
