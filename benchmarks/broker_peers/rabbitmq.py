"""RabbitMQ: the raw client (aiormq, below aio-pika) and FastStream."""

from __future__ import annotations

import importlib.util
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from broker_peers.load import PARTITIONS, TOPIC, Meter, Subjects, by_publishers, ours, partition

from switchgear import broker_of
from switchgear.events.brokers.port import Broker


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
        meter = Meter(count)

        async def handle(message: Any) -> None:
            await message.channel.basic_ack(message.delivery_tag, wait=False)
            meter.seen()

        channel = await self._connection.channel()
        await channel.basic_qos(prefetch_count=500)
        for number in range(PARTITIONS):
            await channel.basic_consume(f"{name}/{number}", handle)
        await meter.done.wait()
        await channel.basic_qos(prefetch_count=500)  # answered after all of them
        took = meter.took()
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
                    routing_key=str(partition(record)),
                    headers=dict(record.headers),
                    persist=True,
                ),
            )

    async def faststream_consume(self, count: int) -> float:
        from faststream.rabbit import Channel, RabbitBroker, RabbitQueue

        name = await self._fresh()
        await self._publish(name, count)
        broker = RabbitBroker(self._url, logger=None, default_channel=Channel(prefetch_count=500))
        meter = Meter(count)

        async def handle(body: dict[str, Any]) -> None:
            meter.seen()

        for number in range(PARTITIONS):
            queue = RabbitQueue(f"{name}/{number}", declare=False)
            broker.subscriber(queue, self._exchange(name))(handle)
        await broker.start()
        await meter.done.wait()
        took = meter.took()
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
                routing_key=str(partition(record)),
                properties=Basic.Properties(delivery_mode=2, headers=dict(record.headers)),
            ),
        )
        await channel.close()
        return took


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
