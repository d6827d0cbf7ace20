from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from switchgear.database.sqlite import Sqlite
from switchgear.events.brokers.sqlite import SqliteBroker
from tests.postgres_server import PostgresServer, serving


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[SqliteBroker]:
    opened = SqliteBroker(tmp_path / "broker.db", partitions=4)
    yield opened
    await opened.close()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Sqlite]:
    opened = Sqlite(tmp_path / "service.db")
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    with serving() as server:
        yield server


@pytest.fixture
async def postgres_url(postgres_server: PostgresServer) -> str:
    """The URL of an empty database."""
    await postgres_server.empty()
    return postgres_server.url


@pytest.fixture
async def pool(postgres_url: str) -> AsyncIterator[Any]:
    import asyncpg

    opened = await asyncpg.create_pool(postgres_url, min_size=1, max_size=8)
    yield opened
    await opened.close()
