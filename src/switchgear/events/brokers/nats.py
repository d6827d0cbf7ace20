"""NATS JetStream as a broker (server 2.12 or newer), through nats-py.

A topic is a stream whose subjects are its partitions: `shop.orders.0`, `shop.orders.1` and so on. A
record's offset is its number in the stream less one, so offsets of a partition have gaps. How it is
published, read and shared out is in `nats_publisher.py`, `nats_reader.py` and `nats_group.py`.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from switchgear.errors import BrokerError
from switchgear.events.brokers.batching import check_size
from switchgear.events.brokers.leased import LeasedSubscription
from switchgear.events.brokers.nats_bucket import Bucket
from switchgear.events.brokers.nats_client import NatsConnection, NatsSettings, failure, status
from switchgear.events.brokers.nats_group import NatsLedger, position_of
from switchgear.events.brokers.nats_headers import seconds_of
from switchgear.events.brokers.nats_publisher import NatsPublisher, Topic
from switchgear.events.brokers.nats_reader import Readers
from switchgear.events.brokers.nats_search import search
from switchgear.events.brokers.port import (
    BrokerUnavailable,
    Capabilities,
    Delivery,
    Lag,
    Partition,
    Record,
    TopicRefused,
)
from switchgear.model.outcome import Unknown

if TYPE_CHECKING:
    from nats.aio.msg import Msg

__all__ = ["NatsBroker", "partitions_of"]

_PARTITIONS: Final = 8
_NOT_FOUND: Final = 404
_NAME_TAKEN: Final = 10058
_NANO: Final = 1_000_000_000
_WINDOW: Final = 120.0
_AT_ONCE: Final = 32
_FRAME: Final = 4_000
"""Bytes of a message beside those of a record's headers and value, about."""


class NatsBroker:
    """A connection to the NATS that `settings` describe.

    `partitions` is asserted for existing topics and used for new ones; None takes what is there
    and makes 8. A stream that is created keeps records for `retention` (7 days) on `replicas`
    servers; one that exists keeps its own settings. `within` bounds a publish in seconds.
    `max_bytes` is the largest record, headers and value together; a server whose `max_payload` has
    no room for that is refused.
    """

    def __init__(
        self,
        settings: NatsSettings,
        *,
        partitions: int | None = None,
        retention: timedelta = timedelta(days=7),
        replicas: int = 1,
        within: float = 15.0,
        max_bytes: int = 1_000_000,
    ) -> None:
        self.capabilities = Capabilities(
            durable=True,
            ordered=True,
            groups=True,
            replay=True,
            exact_lag=True,
            retention=None,
            max_bytes=max_bytes,
        )
        self._settings = settings
        self._partitions = partitions
        self._age = retention
        self._replicas = replicas
        self._max_bytes = max_bytes
        self._connection = NatsConnection(settings)
        self._bucket = Bucket(self._connection, replicas=replicas)
        self._publisher = NatsPublisher(self._connection, self._topic, within=within)
        self._topics: dict[str, Topic] = {}
        self._seen: dict[str, int] = {}
        """The partitions of topics that were there once. One of them that is deleted is not made
        again by itself: whoever did that may be about to make it in another way."""
        self._finding = asyncio.Lock()
        self._subscriptions: set[LeasedSubscription] = set()

    async def publish(self, records: Sequence[Record]) -> None:
        """Publish `records` in order; return once the stream has them on disk.

        A NATS server writes to the disk every two minutes by default and answers before it:
        `sync_interval: always` in its configuration makes it wait, and so do three replicas.
        """
        check_size(records, self._max_bytes)
        if not records:
            return
        try:
            await self._publisher.publish(records)
        except (BrokerError, BrokerUnavailable, Unknown):
            for record in records:  # its stream may have been deleted
                self._topics.pop(record.topic, None)
            raise

    async def subscribe(
        self, group: str, topics: Sequence[str], *, lease: float = 5.0
    ) -> LeasedSubscription:
        """Join `group`; topics that do not exist yet are created."""
        found = {topic: await self._topic(topic) for topic in topics}
        readers = Readers(self._connection, found)
        ledger = NatsLedger(
            self._bucket,
            group,
            f"{os.getpid()}-{secrets.token_hex(6)}",
            {topic: one.partitions for topic, one in found.items()},
            readers,
            lease=lease,
        )
        subject = self._bucket.subject(ledger.key)

        def closed(subscription: LeasedSubscription) -> None:
            self._subscriptions.discard(subscription)
            self._connection.unwatch(subject, changed)
            readers.close()

        subscription = LeasedSubscription(ledger, readers, group, lease=lease, closed=closed)
        readers.notify, readers.fail = subscription.notice, subscription.fail

        def changed(message: Msg) -> None:
            epoch = ledger.notice(message.data)
            if epoch is not None:
                readers.epochs[group] = epoch
                subscription.notice()

        try:
            await self._connection.watch(subject, changed)
            await subscription.start()
        except BaseException:
            closed(subscription)
            with suppress(BrokerUnavailable):  # its lease ends by itself
                await ledger.leave(None)
            raise
        self._subscriptions.add(subscription)
        return subscription

    async def retention(self, topics: Sequence[str]) -> float | None:
        """Return the longest age that the streams of these topics keep; None if one has no end."""
        kept = [(await self._topic(topic)).retention for topic in topics]
        ages = [age for age in kept if age is not None]
        return max(ages) if ages and len(ages) == len(kept) else None

    async def lag(self, group: str, topics: Sequence[str]) -> Lag:
        """Return how far `group` is behind; exact, as of the replica that answers."""
        if not topics:
            await self._connection.ask("INFO")
            return Lag(0, None)
        events, oldest = 0, None
        for topic in topics:
            found = await self._topic(topic)
            now, behind = await self._behind(group, topic, found)
            for count, published in behind:
                events += count
                age = max(0.0, now - published)
                oldest = age if oldest is None else max(oldest, age)
        return Lag(events, oldest)

    async def search(self, text: bytes, topics: Sequence[str], limit: int) -> Sequence[Delivery]:
        """Return records of `topics` with `text` in headers or value; see `events/trace.py`."""
        found = {topic: await self._topic(topic) for topic in topics}
        return await search(self._connection, found, text, limit)

    async def close(self) -> None:
        """Leave every group and close the connection. Closing twice is allowed."""
        await self._publisher.close()
        for subscription in list(self._subscriptions):
            with suppress(BrokerUnavailable):  # its lease ends by itself
                await subscription.close()
        await self._connection.close()

    # topics

    async def _topic(self, topic: str) -> Topic:
        found = self._topics.get(topic)
        if found is None:
            async with self._finding:
                found = self._topics.get(topic) or await self._find(topic)
                self._topics[topic] = found
                self._seen[topic] = found.partitions
        return found

    async def _find(self, topic: str) -> Topic:
        """Find a topic's stream, or create it. Raises `TopicRefused` or `BrokerError`."""
        await self._connection.client()
        most = self._connection.max_payload
        if most < self._max_bytes + _FRAME:
            # otherwise an outbox would take what it can never get rid of
            raise BrokerError(
                f"NATS takes messages of {most} bytes, and events may have {self._max_bytes}.",
                fix=f"Add max_bytes={max(most - _FRAME, 0)} to the broker's URL, or raise "
                "max_payload of the server.",
            )
        try:
            return await self._stream_of(topic)
        except BrokerError as error:
            raise TopicRefused.of(topic, error) from error

    async def _stream_of(self, topic: str) -> Topic:
        """Find a topic's stream by its subject, or create it."""
        subject = f"{self._settings.prefix}{topic}"
        name = await self._name(subject)
        if name is None and topic in self._seen:
            raise BrokerError(
                f"the stream for {subject} is gone.",
                fix="Create it again, or restart the service to have that done.",
            )
        if name is None:
            await self._create(subject)
            name = await self._name(subject)
        if name is None:
            raise BrokerError(
                f"NATS has no stream for {subject}, and another one has the name "
                f"{_stream(subject)}.",
                fix=f"Create a stream with the subjects {subject}.0, {subject}.1 and so on.",
            )
        config = (await self._connection.info(name))["config"]
        found = partitions_of(config, subject)
        if found is None:
            raise BrokerError(
                f"the stream {name} does not list the partitions of {subject} as its subjects.",
                fix=f"Its subjects have to be {subject}.0, {subject}.1 and so on, one a partition.",
            )
        if found != self._seen.get(topic, found):
            raise BrokerError(
                f"the topic {topic} has {found} partitions, and had {self._seen[topic]} when this "
                "service began to use it.",
                fix="A key would change its partition. See docs/how-to/rearrange-a-topic.md; a "
                "restart takes the new number.",
            )
        if self._partitions is not None and found != self._partitions:
            raise BrokerError(
                f"the topic {topic} has {found} partitions, and {self._partitions} were asked for.",
                fix="A key would change its partition. "
                "Leave the number out to take the topic's own.",
            )
        missing = [one for one in ("allow_atomic", "allow_direct") if not config.get(one)]
        if missing:
            server = str((await self._connection.client()).connected_server_version).strip("<>")
            raise BrokerError(
                f"the stream {name} is without {' and '.join(missing)}, on {server}.",
                fix="Set it in the stream's configuration; atomic batches need NATS 2.12 or newer.",
            )
        age, most = config.get("max_age") or 0, config.get("max_msg_size", -1)
        return Topic(
            stream=name,
            subject=subject,
            partitions=found,
            window=(config.get("duplicate_window") or 0) / _NANO,
            retention=age / _NANO if age else None,
            max_bytes=most if most > 0 else None,
        )

    async def _name(self, subject: str) -> str | None:
        found = await self._connection.ask("STREAM.NAMES", {"subject": f"{subject}.0"})
        if "error" in found:
            raise failure(found["error"], f"looking for {subject}")
        return next(iter(found.get("streams") or []), None)

    async def _create(self, subject: str) -> None:
        count = self._partitions or _PARTITIONS
        name = _stream(subject)
        wanted = {
            "name": name,
            "subjects": [f"{subject}.{number}" for number in range(count)],
            "retention": "limits",
            "storage": "file",
            "max_age": int(self._age.total_seconds() * _NANO),
            "duplicate_window": int(min(_WINDOW, self._age.total_seconds()) * _NANO),
            "num_replicas": self._replicas,
            "allow_direct": True,
            "allow_atomic": True,
        }
        made = await self._connection.ask(f"STREAM.CREATE.{name}", wanted)
        # another process may have been quicker, with other settings perhaps
        if "error" in made and made["error"].get("err_code") != _NAME_TAKEN:
            raise failure(made["error"], f"creating the stream {name}")

    # lag

    async def _behind(
        self, group: str, topic: str, found: Topic
    ) -> tuple[float, list[tuple[int, float]]]:
        """Return the time, and for each partition behind how many records and when one came."""
        most = asyncio.Semaphore(_AT_ONCE)

        async def position(number: int) -> int:
            async with most:
                place, _ = await position_of(self._bucket, group, Partition(topic, number))
                return place.position

        async def pending(number: int, position: int) -> tuple[int, float] | None:
            async with most:
                # beyond the end it will begin again, see `nats_group.py`
                return await self._pending(found, number, position if position <= last else 0)

        numbers = range(found.partitions)
        positions = await asyncio.gather(*(position(number) for number in numbers))
        # after them: a position may move with the end
        info = await self._connection.info(found.stream)
        last = info["state"]["last_seq"]
        done = await asyncio.gather(*map(pending, numbers, positions))
        return seconds_of(info["ts"]), [one for one in done if one is not None]

    async def _pending(self, topic: Topic, number: int, position: int) -> tuple[int, float] | None:
        """Ask for the record at a position or behind it; the answer says how many follow."""
        wanted = {
            "seq": position + 1,
            "next_by_subj": f"{topic.subject}.{number}",
            "batch": 1,
        }
        answer = await self._connection.request(
            f"$JS.API.DIRECT.GET.{topic.stream}", json.dumps(wanted).encode()
        )
        headers: Mapping[str, str] = answer.headers or {}
        if "Nats-Num-Pending" in headers and "Nats-Time-Stamp" in headers:
            return int(headers["Nats-Num-Pending"]) + 1, seconds_of(headers["Nats-Time-Stamp"])
        if status(answer) == str(_NOT_FOUND):
            return None
        raise BrokerUnavailable(f"NATS does not say what is in {topic.stream}: {headers}")


def partitions_of(config: Mapping[str, Any], subject: str) -> int | None:
    """Return how many partitions of a topic a stream has; None if it does not list them all."""
    subjects: Collection[str] = config.get("subjects") or ()
    parts = [one.rpartition(".") for one in subjects]
    numbers = {number for topic, _, number in parts if topic == subject}
    count = len(numbers)
    return count if count and numbers == {str(number) for number in range(count)} else None


def _stream(subject: str) -> str:
    return subject.replace(".", "_")
