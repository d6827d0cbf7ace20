"""Publishing to Kafka: confirmed by all replicas in sync, and never out of order by a retry.

The producer is idempotent, so librdkafka's own repeats neither double nor reorder. Its timeout for
one message is off: a message that is given up while a later one of its key goes on would turn the
two around. Instead everything that is outstanding is given up together (`purge`), and the producer
is replaced; whoever waits gets `Unknown` and repeats in order.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from switchgear.events.brokers.kafka_client import (
    LOGGER,
    KafkaSettings,
    failure,
    import_kafka,
    wire_headers,
)
from switchgear.events.brokers.port import BrokerUnavailable, Record
from switchgear.model.outcome import Reason, Unknown

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message, Producer

__all__ = ["KafkaPublisher"]

_SERVE: Final = 0.1
_FULL: Final = 0.01
_PURGED: Final = 5.0


class _Batch:
    """The confirmations that one call of `publish` waits for."""

    def __init__(self, size: int, loop: asyncio.AbstractEventLoop) -> None:
        self.done: asyncio.Future[None] = loop.create_future()
        self._left = size
        self._loop = loop
        self._error: KafkaError | None = None

    def confirmed(self, error: KafkaError | None, _: Message) -> None:
        """Count one message; librdkafka calls it, in the thread that serves the producer."""
        self._error = self._error or error
        self._left -= 1
        if not self._left:
            with suppress(RuntimeError):  # the loop has ended, and with it whoever waited
                self._loop.call_soon_threadsafe(self._finish)

    def _finish(self) -> None:
        if self.done.done():
            return
        if self._error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(failure(self._error, "publishing"))


class KafkaPublisher:
    """One producer, replaced when it has failed for good.

    `within` bounds a publish in seconds, and `batch` the bytes that are sent together.
    """

    def __init__(
        self, settings: KafkaSettings, *, within: float, max_bytes: int, batch: int
    ) -> None:
        self._settings = settings
        self._within = within
        self._max_bytes = max_bytes
        self._batch = batch
        self._producer: Producer | None = None
        self._stop = threading.Event()
        self._serving: threading.Thread | None = None

    async def publish(self, records: Sequence[Record]) -> None:
        """Publish `records` in order; return once all are confirmed.

        Raises `Unknown` if they are not within the bound, `BrokerUnavailable`, or `BrokerError`.
        """
        kafka = import_kafka()
        producer = self._producer or self._open()
        loop = asyncio.get_running_loop()
        until = loop.time() + self._within
        batch = _Batch(len(records), loop)
        taken = 0
        try:
            async with asyncio.timeout_at(until):
                for record in records:
                    while not self._produce(producer, record, batch):  # noqa: ASYNC110  no event for room
                        await asyncio.sleep(_FULL)
                    taken += 1
                await asyncio.shield(batch.done)
        except TimeoutError:
            await self._give_up(producer)
            raise Unknown(
                f"Kafka did not confirm within {self._within:g} s", reason=Reason.TIMEOUT
            ) from None
        except kafka.KafkaException as error:  # fatal: nothing more goes through this producer
            await self._give_up(producer)
            if taken:
                raise Unknown(str(error), reason=Reason.RESET, cause=error) from error
            raise BrokerUnavailable(str(error), cause=error) from error

    async def close(self) -> None:
        """Wait for what is outstanding, within the bound, and end the thread."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await asyncio.to_thread(producer.flush, self._within)
        self._stop.set()
        if self._serving is not None:
            await asyncio.to_thread(self._serving.join)
            self._serving = None

    def _produce(self, producer: Producer, record: Record, batch: _Batch) -> bool:
        """Put a record into the producer's queue; False if that is full."""
        try:
            producer.produce(
                self._settings.prefix + record.topic,
                record.value,
                None if record.key is None else record.key.encode(),
                headers=wire_headers(record.headers),
                on_delivery=batch.confirmed,
            )
        except BufferError:
            return False
        return True

    def _open(self) -> Producer:
        kafka = import_kafka()
        settings: dict[str, Any] = {
            "linger.ms": 2,
            "partitioner": "murmur2_random",
            "message.max.bytes": self._max_bytes + 100_000,  # the key and the framing come on top
            **self._settings.client,
            "batch.size": self._batch,
            "enable.idempotence": True,
            "message.timeout.ms": 0,
        }
        producer: Producer = kafka.Producer(settings, logger=LOGGER)
        self._producer = producer
        if self._serving is None:
            self._stop.clear()
            self._serving = threading.Thread(target=self._serve, name="kafka-confirm", daemon=True)
            self._serving.start()
        return producer

    def _serve(self) -> None:
        while not self._stop.is_set():
            producer = self._producer
            if producer is None:
                self._stop.wait(_SERVE)
            else:
                producer.poll(_SERVE)

    async def _give_up(self, producer: Producer) -> None:
        """Let all that is outstanding fail, together, and use another producer from now on."""
        if self._producer is producer:
            self._producer = None
            producer.purge()
            await asyncio.to_thread(producer.flush, _PURGED)
