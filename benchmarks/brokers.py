"""A broker with a server: our adapter beside FastStream and the raw client, on the same server.

    python benchmarks/brokers.py --broker nats [--rounds 15] [--events 4000] [--url nats://...]
    python benchmarks/brokers.py --broker kafka --events 20000

Without a URL the server is started on loopback, and it flushes to the disk before it confirms.
Every event has 200 bytes and the six headers of a CloudEvent, and over 100 keys go to 8 partitions.

- publish: 64 publishers, each awaits the confirmation of one event before it publishes the next.
- produce (Kafka): as fast as the client takes them, and the confirmation of all; ours by 500.
- consume: what waits on the broker, from the subscription until the last is acknowledged, each once
  it was handled (ours, through the port: once for each poll; through the lanes: with the inbox
  and the handlers in transactions on SQLite, which the others have nothing like). On Kafka the
  lanes without the inbox too, and with it on PostgreSQL, started beside it.

Each round times every subject once, in a new random order; a ratio is taken inside one round, so a
machine that is busy in one round is busy for both. Printed are the median over the rounds and the
range of the middle half. Peers that are not installed are left out.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import random
import secrets
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from services import make

from switchgear import Bus, Message, Sqlite, broker_of, event, field
from switchgear.database.port import Database
from switchgear.database.postgres import Postgres
from switchgear.events.brokers.hashing import partition_of
from switchgear.events.brokers.port import Broker, Record

PUBLISHERS = 64
PARTITIONS = 8
BOUND = 120.0
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
    """Time a bus that reads `count` events; without the inbox a handler has no transaction."""
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


# NATS


class NatsPeers:
    """The raw client and FastStream; each run has a stream of its own, of 8 subjects like ours."""

    def __init__(self, url: str, stream: Any) -> None:
        self._url = url
        self._stream = stream

    async def raw_publish(self, count: int) -> float:
        name = await self._fresh()
        return await by_publishers(count, lambda record: self._publish(name, record))

    async def raw_consume(self, count: int) -> float:
        name = await self._filled(count)
        seen = 0
        began = time.perf_counter()
        consumer = await self._stream.pull_subscribe(f"{name}.*", "bench", stream=name)
        while seen < count:
            for message in await consumer.fetch(500, timeout=5):
                seen += 1
                await message.ack()
        await self._stream.consumer_info(name, "bench")  # which is answered after all of them
        return time.perf_counter() - began

    async def faststream_publish(self, count: int) -> float:
        from faststream.nats import NatsBroker

        name = await self._fresh()
        async with NatsBroker(self._url, logger=None) as broker:
            await broker.start()
            return await by_publishers(
                count,
                lambda record: broker.publish(
                    record.value,
                    subject_of(name, record),
                    headers=dict(record.headers),
                    stream=name,
                    timeout=30,  # half a second is not enough on a busy machine
                ),
            )

    async def faststream_consume(self, count: int) -> float:
        from faststream.nats import JStream, NatsBroker, PullSub

        name = await self._filled(count)
        broker = NatsBroker(self._url, logger=None)
        counter = Counter(count)

        @broker.subscriber(
            f"{name}.*",
            stream=JStream(name, declare=False),
            durable="bench",
            pull_sub=PullSub(batch_size=500),
        )
        async def handle(body: dict[str, Any]) -> None:
            counter.seen()

        began = time.perf_counter()
        await broker.start()
        await counter.done.wait()
        took = time.perf_counter() - began
        await broker.stop()
        return took

    async def _fresh(self) -> str:
        name = f"b{secrets.token_hex(6)}"
        subjects = [f"{name}.{number}" for number in range(PARTITIONS)]
        await self._stream.add_stream(name=name, subjects=subjects)
        return name

    async def _filled(self, count: int) -> str:
        name = await self._fresh()
        await by_publishers(count, lambda record: self._publish(name, record))
        return name

    async def _publish(self, name: str, record: Record) -> None:
        await self._stream.publish(
            subject_of(name, record), record.value, headers=dict(record.headers), timeout=30
        )


def subject_of(name: str, record: Record) -> str:
    return f"{name}.{partition_of(record.key or '', PARTITIONS)}"


@asynccontextmanager
async def nats_subjects(url: str) -> AsyncIterator[Subjects]:
    import nats

    connection = await nats.connect(url)
    peers = NatsPeers(url, connection.jetstream())

    def connect() -> Broker:
        return broker_of(f"{url}?partitions={PARTITIONS}&prefix={secrets.token_hex(6)}.")

    subjects = ours(connect)
    subjects["publish"]["raw"] = peers.raw_publish
    subjects["consume"]["raw"] = peers.raw_consume
    if importlib.util.find_spec("faststream") is not None:
        subjects["publish"]["FastStream"] = peers.faststream_publish
        subjects["consume"]["FastStream"] = peers.faststream_consume
    yield subjects
    await connection.close()


# Kafka


class KafkaPeers:
    """The raw client, aiokafka and FastStream; each run has a topic of its own."""

    def __init__(self, servers: str) -> None:
        self._servers = servers

    async def raw_publish(self, count: int) -> float:
        import confluent_kafka

        name, loop = await self._fresh(), asyncio.get_running_loop()
        producer = confluent_kafka.Producer(self._settings)

        async def publish(record: Record) -> None:
            confirmed = loop.create_future()
            producer.produce(
                name,
                record.value,
                record.key,
                headers=list(record.headers.items()),
                on_delivery=lambda *_: confirmed.set_result(None),
            )
            await confirmed

        async def poll() -> None:
            while True:
                producer.poll(0)
                await asyncio.sleep(0)

        polling = asyncio.create_task(poll())
        took = await by_publishers(count, publish)
        polling.cancel()
        return took

    async def raw_produce(self, count: int) -> float:
        return await asyncio.to_thread(self._produce, await self._fresh(), count)

    def _produce(self, name: str, count: int) -> float:
        import confluent_kafka

        producer = confluent_kafka.Producer(self._settings)
        found = records(count)
        began = time.perf_counter()
        for record in found:
            headers = list(record.headers.items())
            producer.produce(name, record.value, record.key, headers=headers)
            producer.poll(0)
        producer.flush()
        return time.perf_counter() - began

    async def raw_consume(self, count: int) -> float:
        return await asyncio.to_thread(self._consume, await self._filled(count), count)

    def _consume(self, name: str, count: int) -> float:
        import confluent_kafka

        began = time.perf_counter()
        consumer = confluent_kafka.Consumer(
            {
                "bootstrap.servers": self._servers,
                "group.id": secrets.token_hex(6),
                "group.protocol": "consumer",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
            }
        )
        consumer.subscribe([name])
        seen = 0
        while seen < count:
            found = len(consumer.consume(500, 0.5))
            seen += found
            if found:
                consumer.commit(asynchronous=False)
        took = time.perf_counter() - began
        consumer.close()
        return took

    async def aiokafka_publish(self, count: int) -> float:
        import aiokafka

        name = await self._fresh()
        producer = aiokafka.AIOKafkaProducer(
            bootstrap_servers=self._servers, enable_idempotence=True, linger_ms=5
        )
        async with producer:

            async def publish(record: Record) -> None:
                headers = [(name, value.encode()) for name, value in record.headers.items()]
                key = (record.key or "").encode()
                await producer.send_and_wait(name, record.value, key, headers=headers)

            return await by_publishers(count, publish)

    async def aiokafka_consume(self, count: int) -> float:
        import aiokafka

        name = await self._filled(count)
        began = time.perf_counter()
        consumer = aiokafka.AIOKafkaConsumer(
            name,
            bootstrap_servers=self._servers,
            group_id=secrets.token_hex(6),
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        )
        async with consumer:
            seen = 0
            while seen < count:
                found = await consumer.getmany(timeout_ms=500, max_records=500)
                seen += sum(map(len, found.values()))
                if found:
                    await consumer.commit()
            return time.perf_counter() - began

    async def faststream_publish(self, count: int) -> float:
        from faststream.confluent import KafkaBroker

        name = await self._fresh()
        async with KafkaBroker(self._servers, logger=None, enable_idempotence=True) as broker:
            await broker.start()
            return await by_publishers(
                count,
                lambda record: broker.publish(
                    record.value,
                    name,
                    key=(record.key or "").encode(),
                    headers=dict(record.headers),
                ),
            )

    async def faststream_consume(self, count: int) -> float:
        from faststream import AckPolicy
        from faststream.confluent import KafkaBroker

        name = await self._filled(count)
        broker = KafkaBroker(self._servers, logger=None)
        counter = Counter(count)

        @broker.subscriber(
            name,
            group_id=secrets.token_hex(6),
            auto_offset_reset="earliest",
            ack_policy=AckPolicy.ACK_FIRST,  # the quickest that it has
        )
        async def handle(body: dict[str, Any]) -> None:
            counter.seen()

        began = time.perf_counter()
        await broker.start()
        await counter.done.wait()
        took = time.perf_counter() - began
        await broker.stop()
        return took

    @property
    def _settings(self) -> dict[str, Any]:
        return {"bootstrap.servers": self._servers, "enable.idempotence": True, "linger.ms": 5}

    async def _fresh(self) -> str:
        prefix = f"b{secrets.token_hex(6)}."
        broker = broker_of(f"kafka://{self._servers}?partitions={PARTITIONS}&prefix={prefix}")
        await broker.retention([TOPIC])  # creates the topic
        await broker.close()
        return prefix + TOPIC

    async def _filled(self, count: int) -> str:
        name = await self._fresh()
        await asyncio.to_thread(self._produce, name, count)
        return name


async def produce_ours(connect: Callable[[], Broker], count: int) -> float:
    broker = connect()
    await broker.publish(records(1))
    found = records(count)
    began = time.perf_counter()
    await asyncio.gather(*(broker.publish(found[at : at + 500]) for at in range(0, count, 500)))
    took = time.perf_counter() - began
    await broker.close()
    return took


async def consume_postgres(
    connect: Callable[[], Broker], database: str, count: int, *, inbox: bool
) -> float:
    import asyncpg

    async with asyncpg.create_pool(database, min_size=1, max_size=8) as pool:
        return await through_lanes(connect(), Postgres(pool), count, inbox=inbox)


@asynccontextmanager
async def kafka_subjects(url: str) -> AsyncIterator[Subjects]:
    peers = KafkaPeers(url.removeprefix("kafka://"))

    def connect() -> Broker:
        return broker_of(f"{url}?partitions={PARTITIONS}&prefix={secrets.token_hex(6)}.")

    subjects = ours(connect)
    subjects["publish"]["raw"] = peers.raw_publish
    subjects["produce"] = {"ours": partial(produce_ours, connect), "raw": peers.raw_produce}
    subjects["consume"]["raw"] = peers.raw_consume
    if importlib.util.find_spec("aiokafka") is not None:
        subjects["publish"]["aiokafka"] = peers.aiokafka_publish
        subjects["consume"]["aiokafka"] = peers.aiokafka_consume
    if importlib.util.find_spec("faststream") is not None:
        subjects["publish"]["FastStream"] = peers.faststream_publish
        subjects["consume"]["FastStream"] = peers.faststream_consume
    with tempfile.TemporaryDirectory(prefix="switchgear-bench-") as folder:
        server = make("postgresql", Path(folder))
        for inbox in (False, True):
            name = f"ours, lanes{' and inbox on PostgreSQL' if inbox else ', no inbox'}"
            subjects["consume"][name] = partial(consume_postgres, connect, server.url, inbox=inbox)
        try:
            yield subjects
        finally:
            server.kill()


# RabbitMQ


class RabbitPeers:
    """The raw client and FastStream; each run has an exchange and 8 quorum queues like ours."""

    def __init__(self, url: str, connection: Any) -> None:
        self._url = url
        self._connection = connection

    async def raw_publish(self, count: int) -> float:
        name = await self._fresh()
        return await self._publish(name, count)

    async def raw_consume(self, count: int) -> float:
        name = await self._fresh()
        await self._publish(name, count)
        counter = Counter(count)

        async def handle(message: Any) -> None:
            await message.channel.basic_ack(message.delivery_tag, wait=False)
            counter.seen()

        began = time.perf_counter()
        channel = await self._connection.channel()
        await channel.basic_qos(prefetch_count=500)
        for number in range(PARTITIONS):
            await channel.basic_consume(f"{name}/{number}", handle)
        await counter.done.wait()
        await channel.basic_qos(prefetch_count=500)  # answered after all of them
        took = time.perf_counter() - began
        await channel.close()
        return took

    async def faststream_publish(self, count: int) -> float:
        from faststream.rabbit import RabbitBroker

        name = await self._fresh()
        async with RabbitBroker(self._url, logger=None) as broker:
            await broker.start()
            return await by_publishers(
                count,
                lambda record: broker.publish(
                    record.value,
                    exchange=self._exchange(name),
                    routing_key=number_of(record),
                    headers=dict(record.headers),
                    persist=True,
                ),
            )

    async def faststream_consume(self, count: int) -> float:
        from faststream.rabbit import Channel, RabbitBroker, RabbitQueue

        name = await self._fresh()
        await self._publish(name, count)
        broker = RabbitBroker(self._url, logger=None, default_channel=Channel(prefetch_count=500))
        counter = Counter(count)

        async def handle(body: dict[str, Any]) -> None:
            counter.seen()

        for number in range(PARTITIONS):
            queue = RabbitQueue(f"{name}/{number}", declare=False)
            broker.subscriber(queue, self._exchange(name))(handle)
        began = time.perf_counter()
        await broker.start()
        await counter.done.wait()
        took = time.perf_counter() - began
        await broker.stop()
        return took

    @staticmethod
    def _exchange(name: str) -> Any:
        from faststream.rabbit import RabbitExchange

        return RabbitExchange(name, declare=False)

    async def _fresh(self) -> str:
        name = f"b{secrets.token_hex(6)}"
        channel = await self._connection.channel()
        await channel.exchange_declare(name, durable=True)
        kind = {"x-queue-type": "quorum", "x-single-active-consumer": True}
        for number in range(PARTITIONS):
            await channel.queue_declare(f"{name}/{number}", durable=True, arguments=kind)
            await channel.queue_bind(f"{name}/{number}", name, str(number))
        await channel.close()
        return name

    async def _publish(self, name: str, count: int) -> float:
        from pamqp.commands import Basic

        channel = await self._connection.channel()
        took = await by_publishers(
            count,
            lambda record: channel.basic_publish(
                record.value,
                exchange=name,
                routing_key=number_of(record),
                properties=Basic.Properties(delivery_mode=2, headers=dict(record.headers)),
            ),
        )
        await channel.close()
        return took


def number_of(record: Record) -> str:
    return str(partition_of(record.key or "", PARTITIONS))


@asynccontextmanager
async def rabbitmq_subjects(url: str) -> AsyncIterator[Subjects]:
    import aiormq

    connection = await aiormq.connect(url)
    peers = RabbitPeers(url, connection)

    def connect() -> Broker:
        groups = f"groups=bench@{TOPIC}"  # without a queue nothing would be kept
        prefix = f"prefix={secrets.token_hex(6)}."
        return broker_of(f"{url}?partitions={PARTITIONS}&{prefix}&{groups}")

    subjects = ours(connect)
    subjects["publish"]["raw (aiormq)"] = peers.raw_publish
    subjects["consume"]["raw (aiormq)"] = peers.raw_consume
    if importlib.util.find_spec("aio_pika") and importlib.util.find_spec("faststream"):
        subjects["publish"]["FastStream"] = peers.faststream_publish
        subjects["consume"]["FastStream"] = peers.faststream_consume
    yield subjects
    await connection.close()


BROKERS = {"nats": nats_subjects, "kafka": kafka_subjects, "rabbitmq": rabbitmq_subjects}


# rounds


def spread(values: list[float], form: str) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"


async def measure(broker: str, url: str, rounds: int, events: int) -> None:
    rates: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    async with BROKERS[broker](url) as subjects:
        for number in range(rounds + 1):
            for what, by in subjects.items():
                order = list(by.items())
                random.shuffle(order)
                for who, subject in order:
                    async with asyncio.timeout(BOUND):
                        rate = events / await subject(events)
                    if number:  # the first round warms up
                        rates[what][who].append(rate)
    for what, by in rates.items():
        print(f"\n{what}, {events} events, {rounds} rounds: events/s, and ours : theirs")
        for who, found in by.items():
            print(f"  {who:24} {spread(found, ',.0f')}")
        for who in [one for one in by if one.startswith("ours")]:
            for peer in [one for one in by if not one.startswith("ours")]:
                ratios = [a / b for a, b in zip(by[who], by[peer], strict=True)]
                print(f"  {who} : {peer:20} {spread(ratios, '.2f')}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--broker", choices=list(BROKERS), default="nats")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--events", type=int, default=4_000)
    parser.add_argument("--url", help="of a server that runs already")
    options = parser.parse_args()
    if options.url:
        asyncio.run(measure(options.broker, options.url, options.rounds, options.events))
        return
    with tempfile.TemporaryDirectory(prefix="switchgear-bench-") as folder:
        server = make(options.broker, Path(folder))
        try:
            asyncio.run(measure(options.broker, server.url, options.rounds, options.events))
        finally:
            server.kill()


if __name__ == "__main__":
    main()
