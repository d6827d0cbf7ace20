"""Publishing to JetStream: all of what waits together or none of it, once, and in order.

What is published to a topic while a publish is under way goes into the next one. Several records go
as an atomic batch (ADR-50 of NATS, server 2.12): the stream takes all in their order or none, so
nothing can be missing in front of what was taken, whatever is lost on the way. The first record of
every publish has a `Nats-Msg-Id`, drawn at random. If the answer was lost, the same is published
again under the same id: where the stream has it already, it says so, and that is the answer. Only
if the bound passes without one is the outcome `Unknown`.

The id is not the event's own: one event that a stream knows already would refuse its whole batch.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from switchgear.errors import BrokerError
from switchgear.events.brokers.batching import Batching
from switchgear.events.brokers.hashing import partition_of
from switchgear.events.brokers.nats_client import NatsConnection, Nobody, failure, is_away
from switchgear.events.brokers.nats_headers import headers_size, wire_headers
from switchgear.events.brokers.port import (
    BrokerUnavailable,
    Record,
    RecordTooLarge,
    TopicRefused,
)
from switchgear.model.outcome import Reason, Unknown

__all__ = ["NatsPublisher", "Topic"]

_BATCH: Final = 1_000
"""What the server takes in one atomic batch, by default."""
_BATCH_BYTES: Final = 8_000_000
_PAUSE: Final = 0.1
_ATTEMPT: Final = 5.0
_DUPLICATE: Final = 10201
_INCOMPLETE: Final = 10176
_ENCODED: Final = 12
"""Bytes that a character has on the wire at most: four in UTF-8, each as a percent code."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as its stream has it."""

    stream: str
    subject: str
    """Of its partitions, without the number."""
    partitions: int
    window: float
    """Seconds for which the stream knows a `Nats-Msg-Id` again."""
    retention: float | None
    """Seconds for which records are kept; None: for ever."""
    max_bytes: int | None
    """Largest message, if the stream has a limit of its own."""


class _Message(NamedTuple):
    subject: str
    headers: dict[str, str]
    value: bytes


class NatsPublisher:
    """Publishes to the topics that `find` knows. `within` bounds a publish in seconds."""

    def __init__(
        self,
        connection: NatsConnection,
        find: Callable[[str], Awaitable[Topic]],
        *,
        within: float,
    ) -> None:
        self._connection = connection
        self._find = find
        self._within = within
        self._batching: dict[str, Batching] = {}
        self._spread = itertools.count(secrets.randbelow(1024))

    async def publish(self, records: Sequence[Record]) -> None:
        """Publish `records`, those of each topic in order.

        Raises `BrokerUnavailable` or `BrokerError` if none was taken, `Unknown` if that is not
        certain or some were, `RecordTooLarge`, or `TopicRefused`, whatever others have taken.
        """
        topics = {topic: await self._find(topic) for topic in {one.topic for one in records}}
        most = self._connection.max_payload
        for record in records:
            _check_size(record, min(most, topics[record.topic].max_bytes or most))
        if len(topics) == 1:
            await self._waiting(records[0].topic, records)
            return
        done = await asyncio.gather(
            *(
                self._waiting(topic, [one for one in records if one.topic == topic])
                for topic in topics
            ),
            return_exceptions=True,
        )
        errors = [one for one in done if isinstance(one, BaseException)]
        if not errors:
            return
        for one in errors:
            if isinstance(one, TopicRefused):
                raise one
        first = next((one for one in errors if isinstance(one, Unknown)), errors[0])
        if len(errors) < len(done) and isinstance(first, BrokerUnavailable | BrokerError):
            raise Unknown(
                f"some topics have their events, and others do not: {first}",
                reason=Reason.RESET,
                cause=first,
            ) from first
        raise first

    async def close(self) -> None:
        """Wait until everything that was asked for is done."""
        for one in self._batching.values():
            await one.close()

    async def _waiting(self, topic: str, records: Sequence[Record]) -> None:
        batching = self._batching.get(topic)
        if batching is None:

            async def append(records: Sequence[Record]) -> None:
                found = await self._find(topic)  # it may be another stream by now
                await self._connection.client()  # what is refused here concerns every topic
                try:
                    await self._append(found, records)
                except BrokerError as error:
                    raise TopicRefused.of(topic, error) from error

            batching = self._batching[topic] = Batching(append)
        await batching.publish(records)

    async def _append(self, topic: Topic, records: Sequence[Record]) -> None:
        messages = [self._message(topic, record) for record in records]
        taken = 0
        for batch in _batches(messages):
            try:
                await self._take(topic, batch)
            except (BrokerUnavailable, BrokerError) as error:
                if not taken:
                    raise
                raise Unknown(
                    f"NATS has {taken} of {len(messages)} events: {error}",
                    reason=Reason.RESET,
                    cause=error,
                ) from error
            taken += len(batch)

    async def _take(self, topic: Topic, batch: Sequence[_Message]) -> None:
        """Publish a batch once, however often that has to be tried."""
        loop = asyncio.get_running_loop()
        identity = secrets.token_hex(12)
        until = loop.time() + min(self._within, topic.window)
        uncertain: Exception | None = None
        while True:
            within = min(until - loop.time(), _ATTEMPT)
            try:
                await self._try(batch, identity, within, perhaps=uncertain is not None)
            except _Again as again:
                lost = again.why
                if again.uncertain:
                    uncertain = lost
            except BrokerError:
                if uncertain is None:
                    raise
                break
            else:
                return
            if loop.time() + _PAUSE >= until:
                break
            await asyncio.sleep(_PAUSE)
        if uncertain is None:
            raise BrokerUnavailable(str(lost), cause=lost) from lost
        raise Unknown(
            f"NATS did not confirm in time ({uncertain})", reason=Reason.TIMEOUT, cause=uncertain
        ) from uncertain

    async def _try(
        self, batch: Sequence[_Message], identity: str, within: float, *, perhaps: bool
    ) -> None:
        """Publish a batch that is `perhaps` there already. Raises `_Again` to repeat it."""
        sent = _Sent()
        try:
            found = await self._send(batch, identity, within, sent)
        except BrokerUnavailable as error:
            if not (sent.any or perhaps):
                raise
            raise _Again(error, uncertain=sent.all and not isinstance(error, Nobody)) from error
        error_code = found.get("error", {}).get("err_code")
        if error_code is None or (error_code == _DUPLICATE and perhaps):
            return
        refusal = failure(found["error"], f"publishing to {batch[0].subject}")
        if error_code == _INCOMPLETE:
            self._look_why(batch)
        elif not is_away(found["error"]):
            raise refusal
        raise _Again(refusal, uncertain=False)

    async def _send(
        self, batch: Sequence[_Message], identity: str, within: float, sent: _Sent
    ) -> dict[str, Any]:
        """Publish once and return the answer; take note of what was handed over."""
        connection = self._connection
        await connection.client()
        last = batch[-1]
        name = secrets.token_hex(8)
        with connection.expecting(last.subject) as (inbox, answer):
            for number, one in enumerate(batch, 1):
                headers = dict(one.headers)
                if number == 1:
                    headers["Nats-Msg-Id"] = identity
                if len(batch) > 1:
                    headers["Nats-Batch-Id"] = name
                    headers["Nats-Batch-Sequence"] = str(number)
                    if one is last:
                        headers["Nats-Batch-Commit"] = "1"
                # the first is answered too, if only to say that there are too many batches
                reply = inbox if number == 1 or one is last else ""
                await connection.send(one.subject, one.value, reply=reply, headers=headers)
                sent.any = True
            sent.all = True
            found = await connection.answered(answer, last.subject, within)
        return dict(json.loads(found.data))

    def _look_why(self, batch: Sequence[_Message]) -> None:
        """Raise `BrokerError` if a message is missing because this user may not publish it."""
        for one in batch:
            refusal = self._connection.forbidden.get(one.subject.lower())
            if refusal is not None:
                raise refusal

    def _message(self, topic: Topic, record: Record) -> _Message:
        if record.key is None:
            number = next(self._spread) % topic.partitions
        else:
            number = partition_of(record.key, topic.partitions)
        return _Message(f"{topic.subject}.{number}", wire_headers(record), record.value)


class _Again(Exception):
    """A batch has to be published again; `uncertain`: it may be there already."""

    def __init__(self, why: Exception, *, uncertain: bool) -> None:
        super().__init__(str(why))
        self.why = why
        self.uncertain = uncertain


@dataclass(slots=True)
class _Sent:
    """How much of a batch was handed to the connection: of a part alone nothing comes."""

    any: bool = False
    all: bool = False


def _batches(messages: Sequence[_Message]) -> Iterator[Sequence[_Message]]:
    batch: list[_Message] = []
    size = 0
    for message in messages:
        if len(batch) == _BATCH or (batch and size + len(message.value) > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += len(message.value)
    yield batch


def _check_size(record: Record, limit: int) -> None:
    """Raise `RecordTooLarge` if the server would refuse the message."""
    characters = len(record.key or "") + sum(len(a) + len(b) for a, b in record.headers.items())
    if len(record.value) + _ENCODED * characters + headers_size({}) < limit // 2:
        return  # certainly; to encode it twice takes time
    size = len(record.value) + headers_size(wire_headers(record))
    if size > limit:
        raise RecordTooLarge(record.topic, size, limit)
