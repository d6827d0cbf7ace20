from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from switchgear.database.sqlite import Sqlite
from switchgear.events.brokers.sqlite import SqliteBroker


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


@pytest.fixture
async def pool(postgres_url: str) -> AsyncIterator[Any]:
    import asyncpg

    opened = await asyncpg.create_pool(postgres_url, min_size=1, max_size=8)
    yield opened
    await opened.close()
