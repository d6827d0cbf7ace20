"""Another key, or more partitions, on brokers that hold nothing back: the documented steps.

See "More partitions, or another key" in the docs. The steps for more partitions on RabbitMQ and
NATS are in their own tests; SQS has no partitions.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from switchgear.contract.event import event, event_of
from switchgear.contract.message import Message, field
from switchgear.database.sqlite import Sqlite
from switchgear.events.arrange import arrange
from switchgear.events.brokers.hashing import partition_of
from switchgear.events.brokers.port import Broker, Record
from switchgear.events.bus import Bus
from switchgear.events.holding import OutboxHolds
from tests.events.world import until
from tests.servers import address

TOPIC = "test.sales"
URLS: dict[str, Callable[[], str]] = {
    "kafka": lambda: f"{address('kafka')}?partitions=3&prefix=t{secrets.token_hex(6)}.",
    "rabbitmq": lambda: f"{address('rabbitmq')}?partitions=3&prefix=t{secrets.token_hex(6)}.",
    "nats": lambda: f"{address('nats')}?partitions=3&prefix=t{secrets.token_hex(6)}.",
    "sqs": lambda: (
        f"{address('sqs')}&prefix=t{secrets.token_hex(6)}-&create=true&discover=0.05&wait=1"
    ),
}


def _sold(**key: Any) -> type[Message]:
    """The event as one version of the code declares it."""

    @event(TOPIC, **key)
    class Sold(Message):
        order: int = field(1)
        customer: str = field(2)

    return Sold


@pytest.mark.parametrize("before", [{"key": "order"}, {"unordered": True}])
@pytest.mark.parametrize("name", URLS)
async def test_another_key_while_the_doors_are_open(
    name: str,
    before: Any,
    opening: Callable[[str], Broker],
    tmp_path: Path,
) -> None:
    """Held in the outbox, deployed, rekeyed, released: the order of every new key is exact."""
    url, customers = URLS[name](), ["ann", "bob", "cid"]
    shop, desk = Sqlite(tmp_path / "shop.db"), Sqlite(tmp_path / "desk.db")
    seen: list[tuple[str, int]] = []

    async def note(event: Any, tx: Any) -> None:
        tx.after_commit(lambda: seen.append((event.customer, event.order)))

    async def running(sold: type[Message]) -> tuple[Bus, Bus]:
        """Start both services, as one version of the code has them."""
        consumer = Bus(opening(url), desk, "desk")
        # a hold waits until the relay has heard of it, or its lease is over
        producer = Bus(opening(url), shop, "shop", lease=1.0)
        consumer.on(sold, name="x", on_failure="block_key", handler=note)
        await consumer.start()
        await producer.start()
        return consumer, producer

    async def publish(bus: Bus, sold: type[Message], orders: range) -> None:
        for order in orders:
            async with shop.transaction() as tx:
                one: Any = sold
                await bus.publish(tx, *(one(order=order, customer=who) for who in customers))

    async def waiting() -> int:
        async with shop.reading() as tx:
            [(count,)] = await tx.run("SELECT count(*) FROM switchgear_outbox")
        return int(count)

    old, new = _sold(**before), _sold(key="customer")
    consumer, producer = await running(old)
    await publish(producer, old, range(10))
    holds = OutboxHolds(opening(url), {"shop": shop}, ["desk.x"])
    await holds.hold(TOPIC, 3_600)
    before_it = await waiting()  # it may have been quicker
    await publish(producer, old, range(10, 20))
    for bus in (producer, consumer):
        await bus.stop()
    consumer, producer = await running(new)
    await publish(producer, new, range(20, 30))
    assert await waiting() == before_it + 60
    changed = await arrange(
        holds,
        TOPIC,
        outboxes={"shop": shop},
        consumers={"desk": desk},
        contracts={event_of(new).type: event_of(new)},
    )
    assert changed == before_it + 30
    await until(lambda: len(seen) >= 90)
    for bus in (producer, consumer):
        await bus.stop()
    first = 30 - before_it
    assert set(seen[:first]) <= {(who, order) for who in customers for order in range(10)}
    for customer in customers:
        orders = [order for who, order in seen[first:] if who == customer]
        assert orders == sorted(orders)
        assert orders[-20:] == list(range(10, 30))
    assert len(seen) == 90
    for database in (shop, desk):
        await database.close()


async def test_more_partitions_on_kafka_by_the_documented_steps(
    opening: Callable[[str], Broker],
) -> None:
    """Who reads goes on; who publishes is stopped."""
    from confluent_kafka.admin import AdminClient, NewPartitions  # type: ignore[attr-defined]

    url = f"{address('kafka')}?prefix=t{secrets.token_hex(6)}."
    keys = [str(number) for number in range(30)]
    before, reading = opening(f"{url}&partitions=2"), opening(url)
    await before.publish([Record(TOPIC, key, {}, b"1") for key in keys])
    member = await reading.subscribe("g", [TOPIC])
    found: list[Any] = []
    owned: set[int] = set()

    async def read(count: int, partitions: set[int]) -> None:
        async with asyncio.timeout(120):
            while len(found) < count or owned != partitions:
                polled = await member.poll(100, 1.0)
                owned.update(one.number for one in polled.assigned)
                owned.difference_update(one.number for one in polled.revoking | polled.lost)
                await member.release(polled.revoking)
                found.extend(polled.deliveries)
                for one in polled.deliveries:
                    await member.commit({one.partition: one.offset + 1})

    await read(30, {0, 1})
    await before.close()
    assert (await reading.lag("g", [TOPIC])).events == 0
    # what `kafka-topics --alter --partitions 5` asks for
    admin = AdminClient({"bootstrap.servers": address("kafka").removeprefix("kafka://")})
    name = url.partition("prefix=")[2] + TOPIC
    admin.create_partitions([NewPartitions(name, 5)])[name].result(60)
    await until(lambda: len(admin.list_topics(name, 60).topics[name].partitions) == 5)
    after = opening(f"{url}&partitions=5")
    await after.publish([Record(TOPIC, key, {}, b"2") for key in keys])
    await after.publish([Record(TOPIC, key, {}, b"3") for key in keys])
    await read(90, set(range(5)))
    assert len(found) == 90, "nothing is read again"
    for key in keys:
        assert [one.value for one in found if one.key == key] == [b"1", b"2", b"3"]
    places = {(one.key, one.partition.number) for one in found if one.value != b"1"}
    assert places == {(key, partition_of(key, 5)) for key in keys}
