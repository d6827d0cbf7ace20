from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

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
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL server of our own, on a free port, with fsync on. Yields its URL."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    folder = tmp_path_factory.mktemp("postgres")
    user: str | None = None
    if os.geteuid() == 0:  # it refuses to run as root
        user = "postgres"
        entry = pwd.getpwnam(user)
        for each in (folder, *folder.parents):
            if each == Path("/tmp"):  # noqa: S108  where pytest keeps its folders
                break
            each.chmod(0o755)
        os.chown(folder, entry.pw_uid, entry.pw_gid)
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
    control = [programs / "pg_ctl", "-D", data, "-l", folder / "log", "-w"]
    subprocess.run([*control, "-o", options, "start"], check=True, capture_output=True, user=user)
    try:
        yield f"postgresql://switchgear@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*control, "-m", "fast", "stop"], check=True, capture_output=True, user=user)


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
        else:
            url = (await _emptied(request)).replace("postgresql:", "postgresql+asyncpg:")
            engine = create_async_engine(url)
        yield SqlAlchemy(engine)
        await engine.dispose()


async def _emptied(request: pytest.FixtureRequest) -> str:
    import asyncpg

    url: str = request.getfixturevalue("postgres")
    connection = await asyncpg.connect(url)
    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    await connection.close()
    return url
