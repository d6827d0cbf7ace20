from __future__ import annotations

import contextlib

import asyncpg
import pytest
import pytest_asyncio

from switchgear.database.sqlite import Sqlite


@pytest.fixture(scope="session")
def postgres(postgres_server):
    """The URL of a real server."""
    return postgres_server.url


@contextlib.asynccontextmanager
async def opened(kind, place, busy=30.0):
    """A database of the port, with what its resource needs to be closed."""
    if kind == "sqlite":
        database = Sqlite(place, busy=busy)
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
