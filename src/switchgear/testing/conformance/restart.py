"""What a broker with a server keeps while that server is killed and started again."""

import asyncio
from collections import defaultdict

import pytest

from switchgear.events.brokers.port import BrokerUnavailable, LeaseLost, Record
from switchgear.events.brokers.url import broker_of
from switchgear.model.outcome import Unknown
from switchgear.testing.conformance.world import declared

pytestmark = pytest.mark.asyncio

TOPIC, EVENTS, KEYS, BATCH = "test.orders", 10_000, 40, 100


async def publish(broker):
    """Publish in order; what is not certainly done is published again, as the relay does."""
    for start in range(0, EVENTS, BATCH):
        batch = [
            Record(TOPIC, f"k{number % KEYS}", {"number": str(number)}, b"x" * 100)
            for number in range(start, start + BATCH)
        ]
        while True:
            try:
                await broker.publish(batch)
                break
            except (BrokerUnavailable, Unknown):
                await asyncio.sleep(0.1)
        await asyncio.sleep(0.01)


async def read(broker, seen, published):
    """Read and commit until every event was seen, and nothing is left that was sent again."""
    subscription = await broker.subscribe("g", [TOPIC])
    positions = {}
    while True:
        try:
            if published.is_set() and len(set(seen)) == EVENTS and not positions:
                lag = await broker.lag("g", [TOPIC])
                if not lag.events:
                    break
            polled = await subscription.poll(500, 1.0)
            await subscription.release(polled.revoking)
            seen += [int(one.headers["number"]) for one in polled.deliveries]
            positions |= {one.partition: one.offset + 1 for one in polled.deliveries}
            if positions:
                await subscription.commit(positions)
            positions = {}
        except BrokerUnavailable:
            await asyncio.sleep(0.1)
        except LeaseLost:
            positions = {}
    await subscription.close()


async def watch(broker, until):
    """Ask again and again how far the group is behind; it is never more than all."""
    while not until.is_set():
        try:
            lag = await broker.lag("g", [TOPIC])
        except BrokerUnavailable:
            await asyncio.sleep(0.1)
        else:
            assert 0 <= lag.events <= EVENTS * 2  # what was sent again counts twice
            await asyncio.sleep(0.05)


async def test_10000_events_arrive_in_order_while_the_broker_is_restarted_twice(restartable):
    url, interrupt = restartable
    producer, consumer, onlooker = broker_of(url), broker_of(url), broker_of(url)
    seen, published, read_all = [], asyncio.Event(), asyncio.Event()
    await declared(producer, "g")
    async with asyncio.timeout(400), asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(read(consumer, seen, published))
        publishing = tasks.create_task(publish(producer))
        tasks.create_task(watch(onlooker, read_all))
        for share in (4, 2):
            while len(set(seen)) < EVENTS // share:
                await asyncio.sleep(0.05)
            await interrupt()
        await publishing
        published.set()
        await reading
        read_all.set()
    await producer.close()
    await consumer.close()
    await onlooker.close()
    first = defaultdict(list)
    for number in dict.fromkeys(seen):
        first[number % KEYS].append(number)
    assert all(numbers == sorted(numbers) for numbers in first.values())
    assert sum(map(len, first.values())) == EVENTS
