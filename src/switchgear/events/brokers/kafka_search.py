"""Reading the topics of Kafka from their beginning to their present end, by no group's account."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from switchgear.events.brokers.kafka_client import (
    LOGGER,
    KafkaSettings,
    failure,
    headers_of,
    import_kafka,
    text,
)
from switchgear.events.brokers.port import BrokerUnavailable, Delivery, Partition

if TYPE_CHECKING:
    from confluent_kafka import Message, TopicPartition

__all__ = ["search"]

_ANSWER: Final = 10.0
"""Seconds for which the brokers may be silent."""
_BATCH: Final = 500
_WAIT: Final = 0.1


def search(
    settings: KafkaSettings,
    ends: Mapping[TopicPartition, int],
    wanted: bytes,
    limit: int,
) -> list[Delivery]:
    """Return records with `wanted` in their headers or value, of the partitions in `ends`.

    `ends` are where to begin, and the offsets up to which to read. Nothing is committed, and no
    group is joined. Blocks: call it in a thread. Raises `BrokerUnavailable`.
    """
    kafka = import_kafka()
    consumer = kafka.Consumer(
        {
            **settings.client,
            "group.id": f"{settings.prefix}switchgear-search",  # never joined
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        },
        logger=LOGGER,
    )
    found: list[Delivery] = []
    left = {(one.topic, one.partition): end for one, end in ends.items() if end > one.offset}
    try:
        consumer.assign([one for one in ends if (one.topic, one.partition) in left])
        answered = time.monotonic()
        while left and len(found) < limit:
            batch = consumer.consume(_BATCH, _WAIT)  # waits for all of it, or for so long
            if batch:
                answered = time.monotonic()
            elif time.monotonic() > answered + _ANSWER:
                raise BrokerUnavailable("Kafka does not answer while its topics are read")
            for message in batch:
                place = message.topic(), message.partition()
                error = message.error()
                if error is not None and error.code() != kafka.KafkaError._PARTITION_EOF:  # noqa: SLF001  its name
                    raise failure(error, "reading the topics")
                if error is not None or message.offset() + 1 >= left.get(place, 0):
                    left.pop(place, None)
                if error is None and _holds(message, wanted):
                    found.append(_delivery(message, settings.prefix))
    finally:
        consumer.close()
    return found[:limit]


def _holds(message: Message, wanted: bytes) -> bool:
    raw: Any = message.headers() or []  # a list of pairs, whatever the stubs say
    values = [value for _, value in raw]
    return any(wanted in value for value in (*values, message.value() or b"") if value)


def _delivery(message: Message, prefix: str) -> Delivery:
    key: bytes | str | None = message.key()
    return Delivery(
        Partition((message.topic() or "").removeprefix(prefix), message.partition() or 0),
        message.offset() or 0,
        None if key is None else text(key),
        headers_of(message),
        message.value() or b"",
        message.timestamp()[1] / 1000,
    )
