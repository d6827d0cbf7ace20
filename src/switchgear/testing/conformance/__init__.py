"""What every broker adapter keeps, as tests that any adapter can be held against.

For an adapter of your own: serve its scheme by an entry point (`switchgear.events.brokers.url`),
since the tests start processes that connect by the URL alone. Then, in `conftest.py`,

    from switchgear.testing.conformance import *  # noqa: F403  the fixtures

    @pytest.fixture
    def broker_url(tmp_path): ...

and in a test module

    from switchgear.testing.conformance.brokers import *  # noqa: F403
    from switchgear.testing.conformance.reactions import *  # noqa: F403
    from switchgear.testing.conformance.restart import *  # noqa: F403  if you give `restartable`

`pytest -p switchgear.testing.conformance` gives the fixtures too. You provide

- `broker_url`: the URL of a broker to which nothing was published. The topics that it creates have
  four partitions (`PARTITIONS`), if it has partitions at all.
- `restartable`: a broker with a server, as a pair of its URL and an async function that takes the
  server away and brings it back.

What an adapter does not say that it guarantees (`Capabilities`) is not asked of it: where there is
no `replay`, groups are declared before anything is published; where there are no `partitions`, the
tests of their ownership are skipped; where `exact_lag` is missing, ages are not looked at. Needs
pytest and pytest-asyncio; the consumers' database is SQLite.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from switchgear.events.brokers.port import Broker
from switchgear.events.brokers.url import broker_of

pytest.register_assert_rewrite(
    *(f"{__name__}.{name}" for name in ("brokers", "reactions", "restart", "world"))
)

__all__ = ["PARTITIONS", "Adapter", "adapter", "broker"]

PARTITIONS = 4
"""Of each topic that a tested broker creates."""


class Adapter:
    """One broker, empty, that can be connected to any number of times."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._opened: list[Broker] = []

    def open(self) -> Broker:
        """Connect once more; `close` closes it."""
        broker = broker_of(self.url)
        self._opened.append(broker)
        return broker

    async def close(self) -> None:
        """Close what was opened."""
        for broker in self._opened:
            await broker.close()


@pytest_asyncio.fixture
async def adapter(broker_url: str) -> AsyncIterator[Adapter]:
    """Give the broker that is tested."""
    made = Adapter(broker_url)
    yield made
    await made.close()


@pytest.fixture
def broker(adapter: Adapter) -> Broker:
    """Give a connection to it."""
    return adapter.open()
