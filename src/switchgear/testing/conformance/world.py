"""A producer and a consumer over one adapter, each with a database of its own."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from switchgear.contract.event import event
from switchgear.contract.message import Message, field
from switchgear.database.sqlite import Sqlite
from switchgear.events.brokers.port import Broker, Partition, Subscription
from switchgear.events.bus import Bus

EFFECTS = "CREATE TABLE IF NOT EXISTS effects (id INTEGER PRIMARY KEY, key TEXT, number INTEGER)"
EFFECT = "INSERT INTO effects (key, number) VALUES (?, ?)"


@event("test.orders", key="key")
class Ordered(Message):
    key: str = field(1)
    number: int = field(2)


@event("test.orders", key="key")
class Cancelled(Message):
    key: str = field(1)
    number: int = field(2)


@event("test.news", unordered=True)
class News(Message):
    number: int = field(1)


class Watched:
    """A subscription whose pauses are seen, and that can be made uncertain of what it owns."""

    def __init__(self, inner: Subscription) -> None:
        self._inner = inner
        self.paused: set[Partition] = set()
        self.certain = True
        self.doubts = 0
        """How often it said that it did not own what it may own."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def owns(self, partition: Partition) -> bool:
        self.doubts += not self.certain
        return self.certain and self._inner.owns(partition)

    def pause(self, partitions: Collection[Partition]) -> None:
        self.paused.update(partitions)
        self._inner.pause(partitions)

    def resume(self, partitions: Collection[Partition]) -> None:
        self.paused.difference_update(partitions)
        self._inner.resume(partitions)


def watched(bus: Bus, name: str) -> Watched:
    """Watch the subscription of a bus that was started."""
    consumer = bus._consumers[name]
    if not isinstance(consumer._subscription, Watched):
        assert consumer._subscription is not None
        consumer._subscription = Watched(consumer._subscription)
    return consumer._subscription


async def declared(broker: Broker, *groups: str, topics: Sequence[str] = ("test.orders",)) -> None:
    """Let `groups` exist before something is published, where a new one does not read it anyway."""
    if not broker.capabilities.replay:
        for group in groups:
            await (await broker.subscribe(group, topics)).close()


class World:
    """`producer` has published nothing and `consumer` reacts to nothing yet."""

    def __init__(self, folder: Path, connect: Callable[[], Broker]) -> None:
        self.connect = connect
        self.database = Sqlite(folder / "consumer.db")
        self.producer = Bus(connect(), Sqlite(folder / "producer.db"), "producer")
        self.consumer = Bus(connect(), self.database, "consumer")
        self._numbers: dict[str, int] = {}

    async def publish(self, *keys: str, kind: type[Ordered | Cancelled] = Ordered) -> None:
        """Publish the next event of each key; all are on the broker when this returns."""
        async with self.producer.database.transaction() as tx:
            for key in keys:
                number = self._numbers[key] = self._numbers.get(key, 0) + 1
                await self.producer.publish(tx, kind(key=key, number=number))
        await until(self.published)

    async def published(self) -> bool:
        return (await self.producer.relay.backlog()).events == 0

    async def effects(self) -> Sequence[tuple[str, int]]:
        """What handlers have written, in the order of their commits."""
        sql = "SELECT key, number FROM effects ORDER BY id"
        return await self.database.read(lambda one: one.execute(sql).fetchall())

    async def of(self, key: str) -> list[int]:
        return [number for name, number in await self.effects() if name == key]

    async def lag(self) -> int:
        return sum(one.lag for one in (await self.consumer.health()).subscriptions.values())

    async def settled(self) -> bool:
        return await self.lag() == 0


@asynccontextmanager
async def world(folder: Path, connect: Callable[[], Broker]) -> AsyncIterator[World]:
    made = World(folder, connect)
    await made.database.write(lambda connection: connection.execute(EFFECTS).close())
    await made.producer.start()
    try:
        yield made
    finally:
        await made.consumer.stop()
        await made.producer.stop()
        await made.producer.database.close()
        await made.database.close()


async def until(true: Callable[[], Any], within: float = 90.0) -> Any:
    """Wait until `true()` is, and return what it returned; it may return an awaitable.

    What is waited for depends on other tasks, threads and processes: the time is a bound that is
    never reached where all is well. (`Any`: whatever is true.)
    """
    end = time.monotonic() + within
    while True:
        found = true()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return found
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.01)
