"""How large a record the topics of Kafka take: `max.message.bytes`, less what is put around it.

Kafka measures a batch of records, as it is sent, and refuses all of it. librdkafka fills batches up
to one size for the whole producer. So a topic that takes less than that size gets a producer whose
batches fit, and a record that does not fit alone is refused before it is sent, with both sizes.

Where the producer compresses, what a record will have is not known beforehand: then only the size
that holds for every topic is looked at, and the broker has the last word. What it has refused is
remembered, and sent alone from then on: in company it would have others published again with it.

The source of the framing: the record batch of Kafka's message format, version 2.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from switchgear.events.brokers.batching import FRAME, size_of
from switchgear.events.brokers.kafka_client import KafkaSettings, failure, import_kafka
from switchgear.events.brokers.port import BrokerUnavailable, Record, RecordTooLarge

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

__all__ = ["ALONE", "Limits", "Sending"]

_ANSWER: Final = 10.0
_USUAL_BATCH: Final = 1_000_000
"""librdkafka's own `batch.size`."""
_BATCH: Final = 61
_RECORD: Final = 39
"""Lengths, times and attributes: seven numbers of at most five bytes, and what they add up to."""
_HEADER: Final = FRAME
"""Two lengths, of a name under 64 bytes and a value under 8 KB."""
_FRESH: Final = 10.0
"""Seconds after which a limit that turns something away is asked for again."""
_REFUSED: Final = 600.0
"""Seconds for which a refused record is remembered."""
_REFUSED_MOST: Final = 1_000
_SMALLER: Final = 10
"""By how much batches become smaller that were refused though each of their records fits."""


class Sending(NamedTuple):
    """How records are sent: what a producer has for all that goes through it."""

    batch: int
    """The bytes that go together."""
    gapless: bool
    """Whether nothing is sent any more after a refusal."""
    known: bool
    """Whether what is too large is known before it is sent."""


ALONE: Final = Sending(1, gapless=False, known=False)
"""How records are sent one by one."""


class Limits:
    """What the topics of one cluster take, as far as that was asked for."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._prefix = settings.prefix
        self._batch = int(settings.client.get("batch.size", _USUAL_BATCH))
        compressed = {"compression.type", "compression.codec"} & settings.client.keys()
        self._counts = all(settings.client[one] == "none" for one in compressed)
        self._topics: dict[str, int] = {}
        self._asked_at: dict[str, float] = {}
        self._batches: dict[str, int] = {}
        """By topic: the size of batches, where the larger ones were refused."""
        self._refused: dict[int, float] = {}
        """By the hash of a record: until when it is remembered."""

    def unknown(self, topics: Collection[str]) -> set[str]:
        """Return those that are to be asked for."""
        return set(topics) - self._asked_at.keys()

    def forget(self, topics: Collection[str]) -> None:
        """Ask for these again: the broker has refused what should have passed."""
        for topic in topics:
            self._asked_at.pop(topic, None)

    def room(self, topic: str, key: str | None) -> int | None:
        """Return how many bytes headers and value may have; None: that is not known."""
        most = self._topics.get(topic)
        return None if most is None or not self._counts else most - _framing(key, {})

    def fits(self, topics: Collection[str], size: int) -> bool:
        """Tell whether these topics take all that `check_size` says has `size` bytes at most."""
        limits = [self._topics[topic] for topic in topics if topic in self._topics]
        return not self._counts or not limits or size + _BATCH + _RECORD <= min(limits)

    def over(self, records: Sequence[Record]) -> RecordTooLarge | None:
        """Return what is wrong with the first record that its topic would not take."""
        for record in records if self._counts else ():
            most = self._topics.get(record.topic)
            if most is not None:
                size = size_of(record)
                limit = most - _framing(record.key, record.headers)
                if size > limit:
                    return RecordTooLarge(record.topic, size, limit)
        return None

    def stale(self, topic: str) -> bool:
        """Tell whether the limit may have been raised since it was asked for."""
        return time.monotonic() - self._asked_at.get(topic, 0.0) > _FRESH

    def parted(self, records: Sequence[Record]) -> Mapping[Sending, Sequence[Record]]:
        """Return the records by how they are sent; order is kept."""
        found: dict[Sending, list[Record]] = {}
        by_topic: dict[str, list[Record]] = {}
        for record in records:
            some = by_topic.get(record.topic)
            if some is None:
                some = by_topic[record.topic] = found.setdefault(self._sending(record.topic), [])
            some.append(record)
        return found

    def _sending(self, topic: str) -> Sending:
        most = self._topics.get(topic)
        size = self._batches.get(topic, self._batch)
        known = self._counts and most is not None
        return Sending(size if most is None else min(size, most), gapless=True, known=known)

    def refuse(self, record: Record) -> RecordTooLarge:
        """Remember that the broker has refused a record that it got alone; return the error."""
        self._refused.pop(_mark(record), None)
        self._refused[_mark(record)] = time.monotonic() + _REFUSED
        while len(self._refused) > _REFUSED_MOST:
            del self._refused[next(iter(self._refused))]
        return RecordTooLarge(record.topic, size_of(record), None)

    def accept(self, record: Record) -> None:
        """Forget that a record was refused: the broker has taken it."""
        self._refused.pop(_mark(record), None)

    def suspect(self, records: Sequence[Record]) -> RecordTooLarge | None:
        """Return what was wrong, lately, with one of the records."""
        now = time.monotonic()
        while self._refused and self._refused[oldest := next(iter(self._refused))] < now:
            del self._refused[oldest]
        for record in records if self._refused else ():
            if _mark(record) in self._refused:
                return RecordTooLarge(record.topic, size_of(record), None)
        return None

    def shrink(self, topics: Collection[str]) -> None:
        """Send smaller batches: one was refused, and none of its records alone."""
        for topic in topics:
            size = self._batches.get(topic, self._batch) // _SMALLER
            self._batches[topic] = max(1, size)

    def ask(self, admin: AdminClient, topics: Collection[str]) -> None:
        """Ask the cluster. Whoever may not ask learns nothing, and the broker has the last word."""
        kafka = import_kafka()
        kind = kafka.admin.ConfigResource.Type.TOPIC
        named = {kafka.admin.ConfigResource(kind, self._prefix + one): one for one in topics}
        for resource, asked in admin.describe_configs(list(named)).items():
            topic = named[resource]
            try:
                self._topics[topic] = int(asked.result(_ANSWER)["max.message.bytes"].value)
            except kafka.KafkaException as error:
                code = error.args[0].code()
                if code not in {
                    kafka.KafkaError.TOPIC_AUTHORIZATION_FAILED,
                    kafka.KafkaError.CLUSTER_AUTHORIZATION_FAILED,
                }:
                    raise failure(error.args[0], "asking what it takes", topic) from error
                self._topics.pop(topic, None)
            except TimeoutError as error:
                raise BrokerUnavailable("Kafka does not answer", cause=error) from error
            self._asked_at[topic] = time.monotonic()


def _mark(record: Record) -> int:
    return hash((record.topic, record.key, record.value, frozenset(record.headers.items())))


def _framing(key: str | None, headers: Mapping[str, str]) -> int:
    """Return the bytes that a batch of one such record has beside its headers and value."""
    return _BATCH + _RECORD + len((key or "").encode()) + _HEADER * len(headers)
