"""The adapters that the conformance suite runs over."""

import os
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from switchgear.events.brokers.port import Broker
from switchgear.events.brokers.url import broker_of
from tests.servers import address


class Adapter:
    """One broker, empty, that can be connected to any number of times."""

    partitions = 4

    def __init__(self, url: str) -> None:
        self.url = url
        self._opened: list[Broker] = []

    def open(self) -> Broker:
        broker = broker_of(self.url)
        self._opened.append(broker)
        return broker

    async def close(self) -> None:
        for broker in self._opened:
            await broker.close()


@dataclass(frozen=True)
class Served:
    """A broker with a server: which one, and the URL on it of a broker that is empty."""

    server: str
    url: Callable[[str], str]


SERVERS = {
    "postgresql": Served("postgresql", lambda url: f"{url}?partitions={Adapter.partitions}"),
    "kafka": Served("kafka", lambda url: f"{url}?partitions={Adapter.partitions}"),
    "nats": Served("nats", lambda url: f"{url}?partitions={Adapter.partitions}"),
}


def _sqlite(request: pytest.FixtureRequest) -> str:
    folder: Path = request.getfixturevalue("tmp_path")
    return f"sqlite:///{folder / 'broker.db'}?partitions={Adapter.partitions}"


def _postgresql(request: pytest.FixtureRequest) -> str:
    return f"{request.getfixturevalue('postgres_url')}?partitions={Adapter.partitions}"


def _kafka(request: pytest.FixtureRequest) -> str:
    prefix = f"t{secrets.token_hex(6)}."
    return f"{address('kafka')}?partitions={Adapter.partitions}&prefix={prefix}"


def _nats(request: pytest.FixtureRequest) -> str:
    prefix = f"t{secrets.token_hex(6)}."
    return f"{address('nats')}?partitions={Adapter.partitions}&prefix={prefix}"


ADAPTERS: dict[str, Callable[[pytest.FixtureRequest], str]] = {
    "sqlite": _sqlite,
    "postgresql": _postgresql,
    "kafka": _kafka,
    "nats": _nats,
}


# SWITCHGEAR_TEST_BROKERS=sqlite,kafka runs over these alone
CHOSEN = os.environ.get("SWITCHGEAR_TEST_BROKERS", ",".join(ADAPTERS)).split(",")


@pytest.fixture(params=CHOSEN)
def broker_url(request: pytest.FixtureRequest) -> str:
    """The URL of each broker in turn; nothing was published to it."""
    return ADAPTERS[request.param](request)


@pytest.fixture
async def adapter(broker_url: str) -> AsyncIterator[Adapter]:
    """Each adapter in turn."""
    made = Adapter(broker_url)
    yield made
    await made.close()


@pytest.fixture
def broker(adapter: Adapter) -> Broker:
    return adapter.open()
