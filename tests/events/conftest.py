import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from switchgear.database.sqlite import Sqlite
from switchgear.events.brokers.port import Broker
from switchgear.events.brokers.sqlite import SqliteBroker
from switchgear.events.brokers.url import broker_of


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[SqliteBroker]:
    opened = SqliteBroker(tmp_path / "broker.db", partitions=4)
    yield opened
    await opened.close()


@pytest.fixture
async def opening() -> AsyncIterator[Callable[..., Broker]]:
    """Return a function that connects to a broker, which is closed at the end."""
    opened: list[Broker] = []

    def make(url: str, native: dict[str, Any] | None = None) -> Broker:
        opened.append(broker_of(url, native))
        return opened[-1]

    yield make
    for broker in opened:
        await broker.close()


@pytest.fixture
def prefix() -> str:
    """What the names of a test begin with on a server that others use too."""
    return f"t{secrets.token_hex(6)}."


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
