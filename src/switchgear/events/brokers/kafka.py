"""Apache Kafka as a broker, through librdkafka.

Groups are Kafka's own: the consumer protocol of KIP-848 where the broker has it, else the classic
one with cooperative rebalances. Topics are the team's: one that does not exist is refused, unless
`partitions` says how to create it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from switchgear.errors import BrokerError
from switchgear.events.brokers.batching import check_size
from switchgear.events.brokers.kafka_client import (
    LOGGER,
    KafkaSettings,
    causes_of_silence,
    failure,
    import_kafka,
)
from switchgear.events.brokers.kafka_group import KafkaSubscription
from switchgear.events.brokers.kafka_limits import ALONE, Limits, Sending
from switchgear.events.brokers.kafka_publisher import KafkaPublisher
from switchgear.events.brokers.kafka_search import search
from switchgear.events.brokers.port import (
    BrokerUnavailable,
    Capabilities,
    Delivery,
    Lag,
    Record,
    RecordTooLarge,
    TopicRefused,
)
from switchgear.model.outcome import Reason, Unknown

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
    from confluent_kafka.admin import AdminClient

__all__ = ["KafkaBroker"]

_ANSWER: Final = 10.0
_PEEK: Final = 2.0
_CREATED: Final = 10.0
_PAUSE: Final = 0.05
_AWAY: Final = 1.0
"""Seconds for which a question without an answer stands for the next ones: each takes `_ANSWER`."""


class KafkaBroker:
    """A connection to the cluster at `servers` (`host:port`, separated by commas).

    `partitions` is asserted for existing topics and creates those that are missing, with the
    cluster's replication; None creates none. `prefix` stands before the names of topics and groups,
    so that several systems can share a cluster. `protocol` is `consumer` (KIP-848) or `classic`.
    `within` bounds a publish in seconds. `options` are librdkafka's own.
    """

    def __init__(
        self,
        servers: str,
        *,
        partitions: int | None = None,
        prefix: str = "",
        protocol: str | None = None,
        within: float = 15.0,
        max_bytes: int = 900_000,
        options: Mapping[str, Any] | None = None,
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
        client = {"bootstrap.servers": servers, "client.id": "switchgear"} | dict(options or {})
        self._settings = KafkaSettings(client, prefix, protocol)
        self._partitions = partitions
        self._within = within
        self._max_bytes = max_bytes
        self._limits = Limits(self._settings)
        self._publishers: dict[Sending, KafkaPublisher] = {}
        """See `kafka_limits.py`."""
        self._known: set[str] = set()
        self._seen: set[str] = set()
        """Topics that were there once. One of them that is deleted is not made again by itself:
        whoever did that may be about to make it in another way."""
        self._ensuring = asyncio.Lock()
        self._away_until = 0.0
        self._subscriptions: set[KafkaSubscription] = set()
        self._admin: AdminClient | None = None
        self._troubles: deque[KafkaError] = deque(maxlen=100)
        """What became of the administration's connections lately."""
        self._looking = threading.Lock()
        self._onlookers: dict[str, Consumer] = {}
        """By group: what asks where it is, and reads there, without joining it."""

    async def publish(self, records: Sequence[Record]) -> None:
        """Publish `records` in order; return once the replicas in sync have them."""
        size = check_size(records, self._max_bytes)
        topics = {record.topic for record in records}
        await self.learn(topics)
        if not self._limits.fits(topics, size):
            await self._check(records)
        suspect = self._limits.suspect(records)
        if suspect is not None and len(records) > 1:
            raise suspect
        taken: list[Record] = []
        try:
            for sending, some in self._limits.parted(records).items():
                left = some if suspect else await self._publisher(sending).publish(some)
                taken += some[len(left) :]  # as many as that
                if left:
                    await self._one_by_one(left, taken)
        except (BrokerError, BrokerUnavailable, Unknown) as error:
            self._known -= topics  # one may have been deleted, and then nothing is confirmed
            if isinstance(error, BrokerError):
                self._limits.forget(topics)  # if it was the size, that has been lowered
            if taken and not isinstance(error, TopicRefused | Unknown):
                raise Unknown(str(error), reason=Reason.RESET, cause=error) from error
            raise

    async def _check(self, records: Sequence[Record]) -> None:
        """Raise `RecordTooLarge` if the topic of a record does not take it."""
        over = self._limits.over(records)
        if over is not None and self._limits.stale(over.topic):  # it may have been raised
            self._limits.forget({over.topic})
            await self.learn({over.topic})
            over = self._limits.over(records)
        if over is not None:
            raise over

    async def _one_by_one(self, records: Sequence[Record], taken: list[Record]) -> None:
        """Publish what was refused for its size together, and add to `taken` what Kafka takes.

        What it refuses alone is remembered, and its key waits. Then raises `RecordTooLarge`.
        """
        publisher = self._publisher(ALONE)
        refused: dict[tuple[str, str | None], RecordTooLarge] = {}
        until = time.monotonic() + self._within
        for record in records:
            place = record.topic, record.key
            if record.key is not None and place in refused:
                continue
            if time.monotonic() > until:
                raise Unknown(
                    f"Kafka did not confirm within {self._within:g} s", reason=Reason.TIMEOUT
                )
            if await publisher.publish([record]):
                refused[place] = self._limits.refuse(record)
            else:
                self._limits.accept(record)
                taken.append(record)
        if refused:
            raise next(iter(refused.values()))
        if len(records) > 1:
            self._limits.shrink({record.topic for record in records})

    async def learn(self, topics: Collection[str]) -> None:
        """Ask what these topics take; see `Limiting`."""
        await self._ensure(topics)
        unknown = self._limits.unknown(topics)
        if unknown:
            admin = self._administration()
            await asyncio.to_thread(self._limits.ask, admin, unknown)

    def room(self, topic: str, key: str | None) -> int | None:
        """Return how many bytes an event may have there; see `Limiting`."""
        return self._limits.room(topic, key)

    async def subscribe(
        self, group: str, topics: Sequence[str], *, lease: float = 5.0
    ) -> KafkaSubscription:
        """Join `group`. With the consumer protocol the length of a lease is the broker's setting.

        Raises `BrokerError` for a topic that does not exist, or has other partitions than asked.
        """
        await self._ensure(topics)
        subscription = KafkaSubscription(
            self._settings, group, topics, lease=lease, closed=self._subscriptions.discard
        )
        subscription.start()
        self._subscriptions.add(subscription)
        return subscription

    async def retention(self, topics: Sequence[str]) -> float | None:
        """Return the longest `retention.ms` of these topics, in seconds; None if one has no end."""
        await self._ensure(topics)
        return await asyncio.to_thread(self._retention, topics)

    async def lag(self, group: str, topics: Sequence[str]) -> Lag:
        """Return how far `group` is behind; exact, where topics have no transactions."""
        if not topics:
            await asyncio.to_thread(self._reach)
            return Lag(0, None)
        await self._ensure(topics)
        return await asyncio.to_thread(self._lag, group, topics)

    async def search(self, text: bytes, topics: Sequence[str], limit: int) -> Sequence[Delivery]:
        """Return records of `topics` with `text` in headers or value; see `events/trace.py`."""
        await self._ensure(topics)
        return await asyncio.to_thread(self._search, text, topics, limit)

    def _search(self, text: bytes, topics: Sequence[str], limit: int) -> list[Delivery]:
        kafka = import_kafka()
        parts = [part for topic in topics for part in self._parts(topic)]
        admin = self._administration()
        try:
            ends = admin.list_offsets({one: kafka.admin.OffsetSpec.latest() for one in parts})
            starts = admin.list_offsets({one: kafka.admin.OffsetSpec.earliest() for one in parts})
            spans = {
                kafka.TopicPartition(
                    one.topic, one.partition, starts[one].result(_ANSWER).offset
                ): ends[one].result(_ANSWER).offset
                for one in parts
            }
        except kafka.KafkaException as error:
            raise failure(error.args[0], "asking where topics begin and end") from error
        except TimeoutError as error:
            raise BrokerUnavailable("Kafka does not answer", cause=error) from error
        return search(self._settings, spans, text, limit)

    async def close(self) -> None:
        """Leave every group and close the connections. Closing twice is allowed."""
        for subscription in list(self._subscriptions):
            await subscription.close()
        for publisher in self._publishers.values():
            await publisher.close()
        self._admin = None
        await asyncio.to_thread(self._look_away)

    # topics

    def _publisher(self, sending: Sending) -> KafkaPublisher:
        found = self._publishers.get(sending)
        if found is None:
            found = self._publishers[sending] = KafkaPublisher(
                self._settings, sending, within=self._within, max_bytes=self._max_bytes
            )
        return found

    async def _ensure(self, topics: Collection[str]) -> None:
        if self._known.issuperset(topics):
            return
        async with self._ensuring:
            for topic in sorted(set(topics) - self._known):
                if time.monotonic() < self._away_until:
                    raise BrokerUnavailable("Kafka did not answer just now")
                try:
                    await asyncio.to_thread(self._look_at, topic)
                except BrokerUnavailable:
                    self._away_until = time.monotonic() + _AWAY
                    raise
                self._known.add(topic)
                self._seen.add(topic)

    def _look_at(self, topic: str) -> None:
        """Find a topic, or create it if the settings say how. Raises `BrokerError`."""
        found = self._count(topic)
        seen = topic in self._seen
        if not found and not seen and self._partitions is not None:
            self._create(topic, self._partitions)
            until = time.monotonic() + _CREATED
            while not self._is_served(topic) and time.monotonic() < until:
                time.sleep(_PAUSE)
            found = self._count(topic)
        if not found:
            raise TopicRefused(
                topic,
                f"Kafka has no topic {self._settings.prefix}{topic}.",
                fix="Create it again: it was there."
                if seen
                else "Create it, or give `partitions` in the broker's URL to have it created.",
            )
        if not seen and self._partitions is not None and found != self._partitions:
            raise TopicRefused(
                topic,
                f"the topic {topic} has {found} partitions, and {self._partitions} were asked for.",
                fix="A key would change its partition. "
                "Leave the number out to take the topic's own.",
            )

    def _count(self, topic: str) -> int:
        kafka = import_kafka()
        name = self._settings.prefix + topic
        try:
            found = self._administration().list_topics(name, timeout=_ANSWER).topics[name]
        except kafka.KafkaException as error:
            raise self._unreached(error, f"looking for {name}") from error
        if found.error is None:
            return len(found.partitions)
        if found.error.code() == kafka.KafkaError.UNKNOWN_TOPIC_OR_PART:
            return 0
        raise failure(found.error, f"looking for {name}", topic)

    def _is_served(self, topic: str) -> bool:
        """Tell whether every partition of a topic that was just created has its leader."""
        kafka = import_kafka()
        spec = kafka.admin.OffsetSpec.latest()
        asked = self._administration().list_offsets(dict.fromkeys(self._parts(topic), spec))
        try:
            return bool([one.result(_ANSWER) for one in asked.values()])
        except kafka.KafkaException:
            return False

    def _parts(self, topic: str) -> list[TopicPartition]:
        kafka = import_kafka()
        name = self._settings.prefix + topic
        return [kafka.TopicPartition(name, number) for number in range(self._count(topic))]

    def _create(self, topic: str, partitions: int) -> None:
        kafka = import_kafka()
        wanted = kafka.admin.NewTopic(self._settings.prefix + topic, partitions)
        (made,) = self._administration().create_topics([wanted]).values()
        try:
            made.result(_ANSWER)
        except kafka.KafkaException as error:
            # another process may have been quicker
            if error.args[0].code() != kafka.KafkaError.TOPIC_ALREADY_EXISTS:
                raise failure(error.args[0], f"creating {topic}", topic) from error

    def _retention(self, topics: Sequence[str]) -> float | None:
        kafka = import_kafka()
        kind = kafka.admin.ConfigResource.Type.TOPIC
        asked = self._administration().describe_configs(
            [kafka.admin.ConfigResource(kind, self._settings.prefix + topic) for topic in topics]
        )
        try:
            kept = [int(one.result(_ANSWER)["retention.ms"].value) for one in asked.values()]
        except kafka.KafkaException as error:
            raise failure(error.args[0], "asking how long topics are kept") from error
        return None if not kept or min(kept) < 0 else max(kept) / 1000

    # lag

    def _lag(self, group: str, topics: Sequence[str]) -> Lag:
        kafka = import_kafka()
        admin = self._administration()
        parts = [part for topic in topics for part in self._parts(topic)]
        with self._looking:
            try:
                ends = admin.list_offsets({one: kafka.admin.OffsetSpec.latest() for one in parts})
                starts = admin.list_offsets(
                    {one: kafka.admin.OffsetSpec.earliest() for one in parts}
                )
                onlooker = self._onlooker(group)
                done = _committed(onlooker, parts)
                behind = {}
                for one in parts:
                    start = starts[one].result(_ANSWER).offset
                    at = max(start, done.get((one.topic, one.partition), start))
                    end = ends[one].result(_ANSWER).offset
                    if end > at:
                        behind[kafka.TopicPartition(one.topic, one.partition, at)] = end - at
                oldest = _oldest(onlooker, list(behind)) if behind else None
            except kafka.KafkaException as error:
                if _is_fatal(error.args[0]) and group in self._onlookers:
                    self._onlookers.pop(group).close()
                raise failure(error.args[0], "asking for the lag") from error
            except TimeoutError as error:
                raise BrokerUnavailable("Kafka does not answer", cause=error) from error
            return Lag(sum(behind.values()), oldest)

    def _onlooker(self, group: str) -> Consumer:
        if group not in self._onlookers:
            settings = {
                "fetch.message.max.bytes": 100_000,
                **self._settings.client,
                "group.id": self._settings.prefix + group,
                "group.protocol": "classic",  # nothing is asked of it: it never joins
                "enable.auto.commit": False,
            }
            self._onlookers[group] = import_kafka().Consumer(settings, logger=LOGGER)
        return self._onlookers[group]

    def _look_away(self) -> None:
        with self._looking:
            for onlooker in self._onlookers.values():
                onlooker.close()
            self._onlookers.clear()

    def _reach(self) -> None:
        kafka = import_kafka()
        try:
            self._administration().list_topics(timeout=_ANSWER)
        except kafka.KafkaException as error:
            raise self._unreached(error, "connecting") from error

    def _unreached(self, error: KafkaException, doing: str) -> Exception:
        """Return the error of a question that went unanswered, with what its connections say."""
        self._troubles.clear()
        self._administration().poll(0)
        found = {one.code(): one for one in self._troubles}
        causes = [found[code] for code in causes_of_silence() if code in found]
        return failure(causes[0] if causes else error.args[0], doing)

    def _administration(self) -> AdminClient:
        if self._admin is None:
            settings = {"error_cb": self._troubles.append} | dict(self._settings.client)
            self._admin = import_kafka().admin.AdminClient(settings, logger=LOGGER)
        return self._admin


def _committed(onlooker: Consumer, parts: Sequence[TopicPartition]) -> dict[tuple[str, int], int]:
    """Return where the group is, by topic and partition.

    Asked as a consumer: librdkafka's administration ends the process where the group's coordinator
    has moved (confluentinc/librdkafka#5040).
    """
    if not parts:
        return {}
    found = onlooker.committed(list(parts), timeout=_ANSWER)
    for one in found:
        if one.error is not None:
            raise import_kafka().KafkaException(one.error)
    return {(one.topic, one.partition): one.offset for one in found if one.offset >= 0}


def _is_fatal(error: KafkaError) -> bool:
    """Tell whether whoever met this error is of no more use."""
    return error.fatal() or error.code() == import_kafka().KafkaError._FATAL  # noqa: SLF001  its name


def _oldest(onlooker: Consumer, places: list[TopicPartition]) -> float | None:
    """Return the age of the oldest record among the first ones at `places`."""
    missing = {(one.topic, one.partition) for one in places}
    oldest: float | None = None
    until = time.monotonic() + _PEEK
    try:
        onlooker.assign(places)
        while missing and time.monotonic() < until:
            message = onlooker.poll(0.1)
            error = None if message is None else message.error()
            if error is not None and _is_fatal(error):
                raise import_kafka().KafkaException(error)
            if message is None or error is not None:
                continue
            missing.discard((message.topic(), message.partition()))
            at = message.timestamp()[1] / 1000
            oldest = at if oldest is None else min(oldest, at)
    finally:
        onlooker.unassign()
    return None if oldest is None else max(0.0, time.time() - oldest)
