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
FILLED = 4_000
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


class Meter:
    """Times `count` events that are consumed, once a tenth of them is; `done` is set at the last.

    Joining a group, finding its partitions and warming up take a time that does not grow with the
    events, and are left out for everybody alike.
    """

    def __init__(self, count: int) -> None:
        self.done = asyncio.Event()
        self._count = count
        self._seen = 0
        self._first = 0
        self._began = 0.0

    def seen(self, events: int = 1) -> None:
        self._seen += events
        if not self._first and self._seen * 10 >= self._count:
            self._first, self._began = self._seen, time.perf_counter()
        if self._seen >= self._count:
            self.done.set()

    def took(self) -> float:
        """Return how long `count` events take, going by those that were timed."""
        timed = time.perf_counter() - self._began
        return timed * self._count / (self._count - self._first)


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


async def fill(broker: Broker, count: int) -> None:
    for first in range(0, count, FILLED):
        await broker.publish(records(min(FILLED, count - first)))


async def publish_ours(connect: Callable[[], Broker], count: int) -> float:
    broker = connect()
    await declared(broker, "bench")
    await broker.publish(records(1))
    took = await by_publishers(count, lambda record: broker.publish([record]))
    await broker.close()
    return took


async def consume_port(connect: Callable[[], Broker], count: int) -> float:
    broker = connect()
    await declared(broker, "bench")
    await fill(broker, count)
    meter = Meter(count)
    subscription = await broker.subscribe("bench", [TOPIC])
    while not meter.done.is_set():
        polled = await subscription.poll(500, 5.0)
        if polled.deliveries:
            await subscription.commit({one.partition: one.offset + 1 for one in polled.deliveries})
            meter.seen(len(polled.deliveries))
    took = meter.took()
    await subscription.close()
    await broker.close()
    return took


async def consume_lanes(connect: Callable[[], Broker], count: int, *, inbox: bool) -> float:
    with tempfile.TemporaryDirectory() as folder:
        database = Sqlite(Path(folder) / "consumer.db")
        took = await through_lanes(connect(), database, count, inbox=inbox)
        await database.close()
    return took


async def through_lanes(
    broker: Broker, database: Database, count: int, *, inbox: bool = True
) -> float:
    """Let a bus read `count` events; without the inbox a handler has no transaction."""
    meter = Meter(count)
    bus = Bus(broker, database, "bench")

    async def within(event: Placed, tx: Any) -> None:
        tx.after_commit(meter.seen)

    async def without(event: Placed) -> None:
        meter.seen()

    handler = within if inbox else without
    bus.on(Placed, name="count", on_failure="block_key", inbox=inbox, handler=handler)
    await declared(broker, "bench.count")
    await fill(broker, count)
    await bus.start()
    await meter.done.wait()
    took = meter.took()
    await bus.stop()
    await broker.close()
    return took


def ours(connect: Callable[[], Broker]) -> Subjects:
    """The subjects of this project; `connect` gives a broker with nothing on it."""
    return {
        "publish": {"ours": partial(publish_ours, connect)},
        "consume": {
            "ours, port": partial(consume_port, connect),
            "ours, lanes, inbox on SQLite": partial(consume_lanes, connect, inbox=True),
            "ours, lanes, inbox=False": partial(consume_lanes, connect, inbox=False),
        },
    }


def partition(record: Record) -> int:
    """The partition of a record, for the peers that choose it themselves."""
    return partition_of(record.key or "", PARTITIONS)
