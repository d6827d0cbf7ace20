"""What several parts' tests share."""

from collections.abc import Iterator

import pytest

from tests.postgres_server import PostgresServer, emptied, serving


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    with serving() as server:
        yield server


@pytest.fixture
async def postgres_url(postgres_server: PostgresServer) -> str:
    """The URL of an empty database."""
    return await emptied(postgres_server)
