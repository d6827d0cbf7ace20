"""NATS: the raw client and FastStream."""

from __future__ import annotations

import importlib.util
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from broker_peers.load import PARTITIONS, Meter, Subjects, by_publishers, ours, partition

from switchgear import broker_of
from switchgear.events.brokers.port import Broker, Record


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
        meter = Meter(count)
        consumer = await self._stream.pull_subscribe(f"{name}.*", "bench", stream=name)
        while not meter.done.is_set():
            for message in await consumer.fetch(500, timeout=5):
                await message.ack()
                meter.seen()
        await self._stream.consumer_info(name, "bench")  # which is answered after all of them
        return meter.took()

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
        meter = Meter(count)

        @broker.subscriber(
            f"{name}.*",
            stream=JStream(name, declare=False),
            durable="bench",
            pull_sub=PullSub(batch_size=500),
        )
        async def handle(body: dict[str, Any]) -> None:
            meter.seen()

        await broker.start()
        await meter.done.wait()
        took = meter.took()
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
    return f"{name}.{partition(record)}"


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
