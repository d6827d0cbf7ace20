"""Kafka: the raw client, aiokafka and FastStream."""

from __future__ import annotations

import asyncio
import importlib.util
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from broker_peers.load import (
    KEYS,
    PARTITIONS,
    TOPIC,
    Meter,
    Placed,
    Subjects,
    by_publishers,
    ours,
    records,
    through_lanes,
)
from services import make

from switchgear import broker_of
from switchgear.database.postgres import Postgres
from switchgear.events.brokers.port import Broker, Record
from switchgear.events.outbox import Outbox
from switchgear.events.relay import Relay

BATCH = 500


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

    async def raw_produce(self, count: int, **how: Any) -> float:
        return await asyncio.to_thread(self._produce, await self._fresh(), count, **how)

    def _produce(
        self, name: str, count: int, *, told: bool = False, at_once: int | None = None
    ) -> float:
        """Time `count` events: `told` of each, waiting after `at_once` for those; None: all."""
        import confluent_kafka

        room = {"queue.buffering.max.messages": max(100_000, 2 * count)}
        producer = confluent_kafka.Producer(self._settings | room)
        found = records(count)
        left = count

        def confirmed(error: Any, _: Any) -> None:
            nonlocal left
            left -= error is None

        more = {"on_delivery": confirmed} if told else {}
        began = time.perf_counter()
        for number, record in enumerate(found, 1):
            headers = list(record.headers.items())
            producer.produce(name, record.value, record.key, headers=headers, **more)
            producer.poll(0)
            if at_once and not number % at_once:
                producer.flush()
        producer.flush()
        took = time.perf_counter() - began
        assert not (told and left)
        return took

    async def raw_consume(self, count: int) -> float:
        return await asyncio.to_thread(self._consume, await self._filled(count), count)

    def _consume(self, name: str, count: int) -> float:
        import confluent_kafka

        meter = Meter(count)
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
        while not meter.done.is_set():
            found = len(consumer.consume(500, 0.5))
            if found:
                consumer.commit(asynchronous=False)
                meter.seen(found)
        took = meter.took()
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
        meter = Meter(count)
        consumer = aiokafka.AIOKafkaConsumer(
            name,
            bootstrap_servers=self._servers,
            group_id=secrets.token_hex(6),
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        )
        async with consumer:
            while not meter.done.is_set():
                found = await consumer.getmany(timeout_ms=500, max_records=500)
                if found:
                    await consumer.commit()
                    meter.seen(sum(map(len, found.values())))
            return meter.took()

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
        meter = Meter(count)

        @broker.subscriber(
            name,
            group_id=secrets.token_hex(6),
            auto_offset_reset="earliest",
            ack_policy=AckPolicy.ACK_FIRST,  # the quickest that it has
        )
        async def handle(body: dict[str, Any]) -> None:
            meter.seen()

        await broker.start()
        await meter.done.wait()
        took = meter.took()
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


async def produce_ours(
    connect: Callable[[], Broker], count: int, *, at_once: int | None = None
) -> float:
    """Time publishes of `BATCH` events: all under way at the same time, or each when one is done.

    With `at_once` each has so many events, and is confirmed before the next begins.
    """
    broker = connect()
    await broker.publish(records(1))
    found = records(count)
    size = at_once or BATCH
    parts = [found[at : at + size] for at in range(0, count, size)]
    began = time.perf_counter()
    if at_once:
        for part in parts:
            await broker.publish(part)
    else:
        await asyncio.gather(*map(broker.publish, parts))
    took = time.perf_counter() - began
    await broker.close()
    return took


async def relay_ours(connect: Callable[[], Broker], database: str, count: int) -> float:
    """Time a relay that finds `count` events in an outbox on PostgreSQL, until none is left."""
    import asyncpg

    broker = connect()
    await broker.publish(records(1))
    async with asyncpg.create_pool(database, min_size=1, max_size=4) as pool:
        store, outbox = Postgres(pool), Outbox("bench")
        await outbox.migrate(store)
        events = [Placed(order_id=KEYS[at % len(KEYS)], note="x" * 165) for at in range(BATCH)]
        for _ in range(0, count, BATCH):
            async with store.transaction() as tx:
                await outbox.publish(tx, *events)
        relay = Relay(store, broker)
        began = time.perf_counter()
        await relay.start()
        while await _any(store):  # noqa: ASYNC110  nobody tells
            await asyncio.sleep(0.01)
        took = time.perf_counter() - began
        await relay.stop()
    await broker.close()
    return took


async def _any(store: Postgres) -> bool:
    async with store.reading() as tx:
        return bool(await tx.run("SELECT 1 FROM switchgear_outbox LIMIT 1"))


async def consume_postgres(connect: Callable[[], Broker], database: str, count: int) -> float:
    import asyncpg

    async with asyncpg.create_pool(database, min_size=1, max_size=8) as pool:
        return await through_lanes(connect(), Postgres(pool), count)


@asynccontextmanager
async def kafka_subjects(url: str) -> AsyncIterator[Subjects]:
    peers = KafkaPeers(url.removeprefix("kafka://"))

    def connect() -> Broker:
        return broker_of(f"{url}?partitions={PARTITIONS}&prefix={secrets.token_hex(6)}.")

    subjects = ours(connect)
    subjects["publish"]["raw"] = peers.raw_publish
    subjects["produce"] = {
        "ours": partial(produce_ours, connect),
        "raw": peers.raw_produce,
        "raw, told of each": partial(peers.raw_produce, told=True),
    }
    subjects["produce, waiting for each 500"] = {
        "ours": partial(produce_ours, connect, at_once=BATCH),
        "raw": partial(peers.raw_produce, at_once=BATCH),
        "raw, told of each": partial(peers.raw_produce, at_once=BATCH, told=True),
    }
    subjects["consume"]["raw"] = peers.raw_consume
    if importlib.util.find_spec("aiokafka") is not None:
        subjects["publish"]["aiokafka"] = peers.aiokafka_publish
        subjects["consume"]["aiokafka"] = peers.aiokafka_consume
    if importlib.util.find_spec("faststream") is not None:
        subjects["publish"]["FastStream"] = peers.faststream_publish
        subjects["consume"]["FastStream"] = peers.faststream_consume
    with tempfile.TemporaryDirectory(prefix="switchgear-bench-") as folder:
        server = make("postgresql", Path(folder))
        subjects["consume"]["ours, lanes, inbox on PostgreSQL"] = partial(
            consume_postgres, connect, server.url
        )
        subjects["relay"] = {
            "ours, from PostgreSQL": partial(relay_ours, connect, server.url),
            "raw, in batches of 1000": partial(peers.raw_produce, at_once=1_000, told=True),
        }
        try:
            yield subjects
        finally:
            server.kill()
