"""The adapters that the conformance suite runs over."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from switchgear.events.brokers.port import Broker
from switchgear.events.brokers.url import broker_of


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


@pytest.fixture(params=["sqlite"])
async def adapter(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Adapter]:
    """Every adapter in turn."""
    url = f"sqlite:///{tmp_path / 'broker.db'}?partitions={Adapter.partitions}"
    made = Adapter(url)
    yield made
    await made.close()


@pytest.fixture
def broker(adapter: Adapter) -> Broker:
    return adapter.open()
