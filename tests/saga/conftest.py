from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from switchgear.database.port import Database
from switchgear.database.sqlite import Sqlite
from tests.saga.shop import Book


@pytest.fixture
def book() -> Book:
    return Book()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Sqlite]:
    opened = Sqlite(tmp_path / "sagas.db", busy=1.0)
    yield opened
    await opened.close()


def _programs() -> Path | None:
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return versions[-1] if versions else None


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A PostgreSQL server of our own, on a free port, with fsync on. Yields its URL."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    user = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
    # not below pytest's own folder, which no other user may enter
    with tempfile.TemporaryDirectory(prefix="saga-postgres-") as name:
        folder = Path(name)
        if user:
            shutil.chown(folder, user)
        yield from _serve(programs, folder, user)


def _serve(programs: Path, folder: Path, user: str | None) -> Iterator[str]:
    data = folder / "data"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    subprocess.run(
        [programs / "initdb", "-D", data, "-A", "trust", "-U", "switchgear", "--no-sync"],
        check=True,
        capture_output=True,
        user=user,
    )
    options = f"-p {port} -c listen_addresses=127.0.0.1 -k {folder}"

    def control(*arguments: str) -> None:
        command = [programs / "pg_ctl", "-D", data, "-l", folder / "log", "-w", *arguments]
        done = subprocess.run(
            command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, user=user
        )
        assert done.returncode == 0, done.stdout.decode() + (folder / "log").read_text()

    control("-o", options, "start")
    try:
        yield f"postgresql://switchgear@127.0.0.1:{port}/postgres"
    finally:
        control("-m", "fast", "stop")


@pytest.fixture(params=["sqlite", "postgres", "sqlalchemy-sqlite", "sqlalchemy-postgres"])
async def any_database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """Each database of the port, with nothing in it."""
    kind: str = request.param
    if kind == "sqlite":
        opened = Sqlite(tmp_path / "sagas.db", busy=1.0)
        yield opened
        await opened.close()
    elif kind == "postgres":
        import asyncpg

        from switchgear.database.postgres import Postgres

        pool = await asyncpg.create_pool(await _emptied(request), min_size=1, max_size=4)
        yield Postgres(pool)
        await pool.close()
    else:
        from sqlalchemy.ext.asyncio import create_async_engine

        from switchgear.database.sqlalchemy import SqlAlchemy

        if kind.endswith("sqlite"):
            engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'sagas.db'}")
            _begin_immediate(engine)
        else:
            url = (await _emptied(request)).replace("postgresql:", "postgresql+asyncpg:")
            engine = create_async_engine(url)
        yield SqlAlchemy(engine)
        await engine.dispose()


def _begin_immediate(engine: Any) -> None:
    """Let transactions begin as SQLAlchemy's manual says they should on SQLite."""
    from sqlalchemy import event

    @event.listens_for(engine.sync_engine, "connect")
    def connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


async def _emptied(request: pytest.FixtureRequest) -> str:
    import asyncpg

    url: str = request.getfixturevalue("postgres")
    connection = await asyncpg.connect(url)
    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    await connection.close()
    return url
