"""Engines on the run's Temporal server. Every history that a test makes is replayed at its end."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from temporalio.service import RPCError

from switchgear.database.sqlite import Sqlite
from switchgear.saga import Saga
from switchgear.saga.temporal import Place, TemporalEngine
from switchgear.saga.temporal.cluster import Cluster
from switchgear.saga.temporal.place import connect
from tests.saga.shop import eventually
from tests.saga.temporal.replay import replay_all
from tests.servers import address


@pytest.fixture(scope="session")
def place() -> Place:
    return Place.of(address("temporal"))


class Service:
    """A service of the test's own on the cluster, with the ids of all sagas that it has started."""

    def __init__(self, database: Sqlite, place: Place, cluster: Cluster) -> None:
        self.database = database
        self.place = place
        self.cluster = cluster
        self.name = cluster.service

    def make(self, *sagas: Saga, **settings: Any) -> TemporalEngine:
        # an attempt of which nothing is heard for so long would be made again
        settings = {"service": self.name, "lease": 20.0, **settings}
        return TemporalEngine(self.database, self.place, sagas, **settings)

    async def replay(self, at_least: int = 0) -> int:
        """Replay every history of the service, also of what has not ended; return how many.

        Temporal lists a run a moment after it began, so `at_least` as many are waited for.
        """
        count = 0

        async def all_of_them() -> bool:
            nonlocal count
            count = await replay_all(self.cluster)
            return count >= at_least

        await eventually(all_of_them)
        return count


@pytest.fixture
async def service(place: Place, tmp_path: Path) -> AsyncIterator[Service]:
    database = Sqlite(tmp_path / "service.db", busy=1.0)
    client = await connect(place)
    made = Service(database, place, Cluster(client, f"test-{secrets.token_hex(4)}"))
    yield made
    await made.replay()
    async for seen in made.cluster.running():
        with suppress(RPCError):  # the list is late: it may have ended
            await client.get_workflow_handle(f"{made.name}/{seen.id}").terminate("the test is over")
    await database.close()


Working = Callable[..., Any]


@pytest.fixture
def working(service: Service) -> Working:
    """Return a context manager that runs an engine with the sagas it is given."""

    @asynccontextmanager
    async def run(*sagas: Saga, **settings: Any) -> AsyncIterator[TemporalEngine]:
        async with service.make(*sagas, **settings) as engine:
            yield engine

    return run
