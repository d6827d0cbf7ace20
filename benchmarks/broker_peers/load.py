"""The load, and this project's own subjects, which are the same on every broker."""

from __future__ import annotations

import asyncio
import secrets
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from switchgear import Bus, Message, Sqlite, event, field
from switchgear.database.port import Database
from switchgear.events.brokers.hashing import partition_of
from switchgear.events.brokers.port import Broker, Record

PUBLISHERS = 64
PARTITIONS = 8
TOPIC = "bench.orders"
BODY = b'{"order_id": "order-1", "note": "' + b"x" * 165 + b'"}'
KEYS = [f"order-{number}" for number in range(100)]

Subject = Callable[[int], Awaitable[float]]
"""Publishes or consumes so many events, and returns how many seconds that took."""
Subjects = dict[str, dict[str, Subject]]
"""By what is measured (`publish`, `consume`), and by who does it."""


@event(TOPIC, key="order_id")
class Placed(Message):
    order_id: str = field(1)
    note: str = field(2)


class Counter:
    """Counts what was handled; `done` is set at the last."""

    def __init__(self, count: int) -> None:
        self.done = asyncio.Event()
        self._left = count

    def seen(self) -> None:
        self._left -= 1
        if not self._left:
            self.done.set()


def headers(key: str) -> dict[str, str]:
    """The headers of a CloudEvent."""
    return {
        "ce-specversion": "1.0",
        "ce-id": secrets.token_hex(16),
        "ce-type": f"{TOPIC}.Placed",
        "ce-source": "bench",
        "ce-partitionkey": key,
        "content-type": "application/json",
    }


def records(count: int) -> list[Record]:
    keys = [KEYS[number % len(KEYS)] for number in range(count)]
    return [Record(TOPIC, key, headers(key), BODY) for key in keys]


async def by_publishers(count: int, publish: Callable[[Record], Awaitable[object]]) -> float:
    """Time `publish` for `count` events, 64 at a time."""
    waiting = iter(records(count))

    async def one() -> None:
        for record in waiting:
            await publish(record)

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(PUBLISHERS)))
    return time.perf_counter() - began


# ours, the same on every broker


async def declared(broker: Broker, group: str) -> None:
    """Let a group exist before something is published, where a new one does not read it anyway."""
    if not broker.capabilities.replay:
        await (await broker.subscribe(group, [TOPIC])).close()


async def publish_ours(connect: Callable[[], Broker], count: int) -> float:
    broker = connect()
    await broker.publish(records(1))
    took = await by_publishers(count, lambda record: broker.publish([record]))
    await broker.close()
    return took


async def consume_port(connect: Callable[[], Broker], count: int) -> float:
    broker = connect()
    await declared(broker, "bench")
    await broker.publish(records(count))
    began = time.perf_counter()
    subscription = await broker.subscribe("bench", [TOPIC])
    seen = 0
    while seen < count:
        polled = await subscription.poll(500, 5.0)
        seen += len(polled.deliveries)
        if polled.deliveries:
            await subscription.commit({one.partition: one.offset + 1 for one in polled.deliveries})
    took = time.perf_counter() - began
    await subscription.close()
    await broker.close()
    return took


async def consume_lanes(connect: Callable[[], Broker], count: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        database = Sqlite(Path(folder) / "consumer.db")
        took = await through_lanes(connect(), database, count)
        await database.close()
    return took


async def through_lanes(
    broker: Broker, database: Database, count: int, *, inbox: bool = True
) -> float:
    """Let a bus read `count` events; without the inbox a handler has no transaction."""
    counter = Counter(count)
    bus = Bus(broker, database, "bench")

    async def within(event: Placed, tx: Any) -> None:
        tx.after_commit(counter.seen)

    async def without(event: Placed) -> None:
        counter.seen()

    bus.on(Placed, name="count", on_failure="block_key", handler=within if inbox else without)
    await declared(broker, "bench.count")
    await broker.publish(records(count))
    began = time.perf_counter()
    await bus.start()
    await counter.done.wait()
    took = time.perf_counter() - began
    await bus.stop()
    await broker.close()
    return took


def ours(connect: Callable[[], Broker]) -> Subjects:
    """The subjects of this project; `connect` gives a broker with nothing on it."""
    return {
        "publish": {"ours": partial(publish_ours, connect)},
        "consume": {
            "ours, port": partial(consume_port, connect),
            "ours, lanes and inbox": partial(consume_lanes, connect),
        },
    }


def partition(record: Record) -> int:
    """The partition of a record, for the peers that choose it themselves."""
    return partition_of(record.key or "", PARTITIONS)
