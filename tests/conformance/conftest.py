"""The adapters that the conformance suite runs over."""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from services import Server

from switchgear.testing.conformance import *  # noqa: F403  the fixtures
from switchgear.testing.conformance import PARTITIONS
from tests.line import Line
from tests.servers import address, own


@dataclass(frozen=True)
class Served:
    """A broker with a server: which one, and the URL on it of a broker that is empty."""

    server: str
    url: Callable[[str], str]
    keeps: bool = True
    """What it has confirmed, and its order, outlive a crash of the one server. A stand-in for a
    service that does not crash as a whole may not: the line to it is cut for a while instead."""

    @asynccontextmanager
    async def own(self) -> AsyncIterator[tuple[str, Callable[[], Awaitable[None]]]]:
        """Give the URL of a broker that nobody else uses, and what takes it away for a while."""
        with own(self.server) as server:
            if self.keeps:
                yield self.url(server.url), partial(_restart, server)
                return
            async with Line(server.port) as line:
                url = server.url.replace(f":{server.port}", f":{line.port}")
                yield self.url(url), line.interrupt


async def _restart(server: Server) -> None:
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)


SERVERS = {
    "postgresql": Served("postgresql", lambda url: f"{url}?partitions={PARTITIONS}"),
    "kafka": Served("kafka", lambda url: f"{url}?partitions={PARTITIONS}"),
    "rabbitmq": Served("rabbitmq", lambda url: f"{url}?partitions={PARTITIONS}"),
    "nats": Served("nats", lambda url: f"{url}?partitions={PARTITIONS}"),
    # ElasticMQ loses what it has not yet written, and counts from 0 after a restart
    "sqs": Served("sqs", lambda url: f"{url}&create=true&discover=0.2&wait=1", keeps=False),
}


def _sqlite(request: pytest.FixtureRequest) -> str:
    folder: Path = request.getfixturevalue("tmp_path")
    return f"sqlite:///{folder / 'broker.db'}?partitions={PARTITIONS}"


def _postgresql(request: pytest.FixtureRequest) -> str:
    return f"{request.getfixturevalue('postgres_url')}?partitions={PARTITIONS}"


def _kafka(request: pytest.FixtureRequest) -> str:
    prefix = f"t{secrets.token_hex(6)}."
    return f"{address('kafka')}?partitions={PARTITIONS}&prefix={prefix}"


def _rabbitmq(request: pytest.FixtureRequest) -> str:
    prefix = f"t{secrets.token_hex(6)}."
    return f"{address('rabbitmq')}?partitions={PARTITIONS}&prefix={prefix}"


def _nats(request: pytest.FixtureRequest) -> str:
    prefix = f"t{secrets.token_hex(6)}."
    return f"{address('nats')}?partitions={PARTITIONS}&prefix={prefix}"


def _sqs(request: pytest.FixtureRequest) -> str:
    return SERVERS["sqs"].url(f"{address('sqs')}&prefix=t{secrets.token_hex(6)}-")


ADAPTERS: dict[str, Callable[[pytest.FixtureRequest], str]] = {
    "sqlite": _sqlite,
    "postgresql": _postgresql,
    "kafka": _kafka,
    "rabbitmq": _rabbitmq,
    "nats": _nats,
    "sqs": _sqs,
}


# SWITCHGEAR_TEST_BROKERS=sqlite,kafka runs over these alone
CHOSEN = os.environ.get("SWITCHGEAR_TEST_BROKERS", ",".join(ADAPTERS)).split(",")


@pytest.fixture(params=CHOSEN)
def broker_url(request: pytest.FixtureRequest) -> str:
    """The URL of each broker in turn; nothing was published to it."""
    return ADAPTERS[request.param](request)


@pytest.fixture(params=[name for name in SERVERS if name in CHOSEN])
async def restartable(
    request: pytest.FixtureRequest,
) -> AsyncIterator[tuple[str, Callable[[], Awaitable[None]]]]:
    """Each broker with a server in turn, and what takes the server away for a while."""
    async with SERVERS[request.param].own() as found:
        yield found
