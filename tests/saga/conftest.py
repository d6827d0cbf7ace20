from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from switchgear.database.port import Database
from switchgear.database.sqlite import Sqlite
from tests.saga.shop import Book
from tests.servers import emptied


@pytest.fixture
def book() -> Book:
    return Book()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Sqlite]:
    opened = Sqlite(tmp_path / "sagas.db", busy=30.0)
    yield opened
    await opened.close()


@pytest.fixture(params=["sqlite", "postgres", "sqlalchemy-sqlite", "sqlalchemy-postgres"])
async def any_database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """Each database of the port, with nothing in it."""
    kind: str = request.param
    if kind == "sqlite":
        opened = Sqlite(tmp_path / "sagas.db", busy=30.0)
        yield opened
        await opened.close()
    elif kind == "postgres":
        import asyncpg

        from switchgear.database.postgres import Postgres

        url = await emptied(request.getfixturevalue("postgres_server"))
        pool = await asyncpg.create_pool(url, min_size=1, max_size=4)
        yield Postgres(pool)
        await pool.close()
    else:
        from sqlalchemy.ext.asyncio import create_async_engine

        from switchgear.database.sqlalchemy import SqlAlchemy

        if kind.endswith("sqlite"):
            url = f"sqlite+aiosqlite:///{tmp_path / 'sagas.db'}"
            # many writers at once wait for each other, on a slow disk for longer than usual
            engine = create_async_engine(url, connect_args={"timeout": 60})
        else:
            url = await emptied(request.getfixturevalue("postgres_server"))
            engine = create_async_engine(url.replace("postgresql:", "postgresql+asyncpg:"))
        yield SqlAlchemy(engine)
        await engine.dispose()
