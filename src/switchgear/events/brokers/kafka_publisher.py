"""Publishing to Kafka: confirmed by all replicas in sync, and never out of order by a retry.

The producer is idempotent, so librdkafka's own repeats neither double nor reorder. Its timeout for
one message is off: a message that is given up while a later one of its key goes on would turn the
two around. Instead everything that is outstanding is given up together (`purge`), and the producer
is replaced; whoever waits gets `Unknown` and repeats in order.

A batch that Kafka refuses for its size ends the producer too (`enable.gapless.guarantee`): nothing
that comes after it is sent, and who publishes gets both back.

A producer can also fail for good by itself (its right is gone, records that it had sent are lost).
The driver raises that once, in whatever serves it; it is `produce` that replaces it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from switchgear.errors import BrokerError
from switchgear.events.brokers.kafka_client import (
    LOGGER,
    KafkaSettings,
    failure,
    import_kafka,
    is_of_topic,
    wire_headers,
)
from switchgear.events.brokers.kafka_limits import Sending
from switchgear.events.brokers.port import BrokerUnavailable, Record, TopicRefused
from switchgear.model.outcome import Reason, Unknown

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message, Producer

__all__ = ["KafkaPublisher"]

_SERVE: Final = 0.1
_FULL: Final = 0.01
_PURGED: Final = 5.0
_MET: Final = 100_000


class _Batch:
    """The confirmations that one call of `publish` waits for."""

    def __init__(self, records: Sequence[Record], loop: asyncio.AbstractEventLoop) -> None:
        self.done: asyncio.Future[None] = loop.create_future()
        """Over with the last confirmation, or with the first error."""
        self._records = records
        self._left = set(range(len(records)))
        """The numbers of those that are not confirmed."""
        self.error: KafkaError | None = None
        """The first one, unless one is for the size or the topic: it is why others were not sent.
        """
        self._topic: str | None = None
        """Whose the error is, where it is a record's."""
        self._loop = loop
        self._large: int = import_kafka().KafkaError.MSG_SIZE_TOO_LARGE

    @property
    def too_large(self) -> bool:
        """Whether Kafka refused something for its size."""
        return self.error is not None and self.error.code() == self._large

    @property
    def refused(self) -> bool:
        """Whether Kafka refused something for its size or its topic."""
        return self.error is not None and (self.too_large or is_of_topic(self.error))

    def confirmed(self, number: int, error: KafkaError | None, _: Message) -> None:
        """Note what became of one; librdkafka calls it, in a thread that serves the producer."""
        if error is None:
            self._left.discard(number)
            over = not self._left
        else:
            over = self.error is None
            self.note(error, self._records[number].topic)
        if over:
            with suppress(RuntimeError):  # the loop has ended, and with it whoever waited
                self._loop.call_soon_threadsafe(self._finish)

    def note(self, error: KafkaError, topic: str | None = None) -> None:
        """Keep what was wrong, with a record for `topic` or with the producer."""
        large = error.code() == self._large
        if self.error is None or large or (is_of_topic(error) and not self.refused):
            self.error, self._topic = error, topic

    def outcome(self) -> Sequence[Record]:
        """Return what was refused for its size or not sent after that; raise any other error."""
        if self.error is None:
            return ()
        if self.too_large:
            return [record for number, record in enumerate(self._records) if number in self._left]
        error = failure(self.error, "publishing", self._topic)
        if isinstance(error, BrokerUnavailable):  # it was sent
            raise Unknown(str(error), reason=Reason.RESET, cause=error)
        raise error

    def _finish(self) -> None:
        if not self.done.done():
            self.done.set_result(None)


class KafkaPublisher:
    """One producer, replaced when it has failed for good.

    `within` bounds a publish in seconds. A `sending` that is not gapless outlives a refusal, and is
    for one record at a time.
    """

    def __init__(
        self, settings: KafkaSettings, sending: Sending, *, within: float, max_bytes: int
    ) -> None:
        self._settings = settings
        self._sending = sending
        self._within = within
        self._max_bytes = max_bytes
        self._producer: Producer | None = None
        self._met: set[tuple[str, str | None]] = set()
        """Topics and keys of which this producer has sent something."""
        self._stop = threading.Event()
        self._serving: threading.Thread | None = None

    async def publish(self, records: Sequence[Record]) -> Sequence[Record]:
        """Publish `records` in order; return once all are confirmed, or some refused as too large.

        Those are returned, with what was not sent because of them, in order. Raises `Unknown` if
        something is not confirmed within the bound, `BrokerUnavailable`, `BrokerError`, or
        `TopicRefused` for one topic, whatever became of the others.
        """
        rest = records
        while True:
            producer = self._producer or self._open()
            some, rest = self._split(rest)
            try:
                left = await self._send(producer, some)
            except (BrokerError, BrokerUnavailable) as error:
                sent = len(some) + len(rest) < len(records)
                if sent and not isinstance(error, TopicRefused):
                    raise Unknown(str(error), reason=Reason.RESET, cause=error) from error
                raise
            if left or not rest:
                return [*left, *rest]
            if self._producer is producer:
                self._met.update((one.topic, one.key) for one in some)

    def _split(self, records: Sequence[Record]) -> tuple[Sequence[Record], Sequence[Record]]:
        """Return what can be sent together, and what only after that is confirmed.

        A partition that has nothing of a producer yet takes its second batch though it has refused
        the first. So the first record of a key goes ahead, where Kafka may refuse it.
        """
        if self._sending.known or not self._sending.gapless:
            return records, ()
        if len(self._met) > _MET:
            self._met.clear()
        met = set[tuple[str, str | None]]()
        first: list[Record] = []
        rest: list[Record] = []
        for record in records:
            place = record.topic, record.key
            if record.key is None or not (place in met or place in self._met):
                met.add(place)
                first.append(record)
            else:
                rest.append(record)
        # all of them are known: nothing has to go ahead
        return (first, rest) if any(one.key is not None for one in first) else (records, ())

    async def _send(self, producer: Producer, records: Sequence[Record]) -> Sequence[Record]:
        kafka = import_kafka()
        loop = asyncio.get_running_loop()
        until = loop.time() + self._within
        batch = _Batch(records, loop)
        taken = 0
        try:
            async with asyncio.timeout_at(until):
                for number, record in enumerate(records):
                    confirmed = partial(batch.confirmed, number)
                    while not self._produce(producer, record, confirmed):  # noqa: ASYNC110  no event for room
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
            batch.note(error.args[0], record.topic)
            if batch.refused:
                return batch.outcome()
            if taken:
                raise Unknown(str(error), reason=Reason.RESET, cause=error) from error
            raise BrokerUnavailable(str(error), cause=error) from error
        if batch.error is not None and self._sending.gapless:
            # it is fatal, and librdkafka does not tell of all that is outstanding by itself
            await self._give_up(producer)
        return batch.outcome()

    async def close(self) -> None:
        """Wait for what is outstanding, within the bound, and end the thread."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await asyncio.to_thread(_flush, producer, self._within)
        self._stop.set()
        if self._serving is not None:
            await asyncio.to_thread(self._serving.join)
            self._serving = None

    def _produce(
        self,
        producer: Producer,
        record: Record,
        confirmed: Callable[[KafkaError | None, Message], None],
    ) -> bool:
        """Put a record into the producer's queue; False if that is full."""
        try:
            producer.produce(
                self._settings.prefix + record.topic,
                record.value,
                None if record.key is None else record.key.encode(),
                headers=wire_headers(record.headers),
                on_delivery=confirmed,
            )
        except BufferError:
            return False
        return True

    def _open(self) -> Producer:
        kafka = import_kafka()
        settings: dict[str, Any] = {
            "linger.ms": 2,
            "enable.gapless.guarantee": True,
            "partitioner": "murmur2_random",
            "message.max.bytes": self._max_bytes + 100_000,  # the key and the framing come on top
            **self._settings.client,
            "batch.size": self._sending.batch,
            "enable.idempotence": True,
            "message.timeout.ms": 0,
        }
        if not self._sending.gapless:
            settings |= {"enable.gapless.guarantee": False, "linger.ms": 0}
        producer: Producer = kafka.Producer(settings, logger=LOGGER)
        self._producer = producer
        self._met.clear()
        if self._serving is None or not self._serving.is_alive():
            self._stop.clear()
            self._serving = threading.Thread(target=self._serve, name="kafka-confirm", daemon=True)
            self._serving.start()
        return producer

    def _serve(self) -> None:
        kafka = import_kafka()
        while not self._stop.is_set():
            producer = self._producer
            if producer is None:
                self._stop.wait(_SERVE)
            else:
                with suppress(kafka.KafkaException):  # fatal, as the next `produce` finds out
                    producer.poll(_SERVE)

    async def _give_up(self, producer: Producer) -> None:
        """Let all that is outstanding fail, together, and use another producer from now on."""
        if self._producer is producer:
            self._producer = None
            producer.purge()
            await asyncio.to_thread(_flush, producer, _PURGED)


def _flush(producer: Producer, within: float) -> None:
    """Serve what is outstanding; that the producer is fatal is raised once, and ends it early."""
    kafka = import_kafka()
    for _ in range(2):
        with suppress(kafka.KafkaException):
            producer.flush(within)
            return
