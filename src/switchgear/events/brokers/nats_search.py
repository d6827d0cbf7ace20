"""Reading all that a stream keeps, by nobody's group: direct gets in batches (ADR-31 of NATS).

The server keeps nothing for it. Each batch says where the next one begins, and how much follows.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from switchgear.events.brokers.nats_client import NatsConnection, import_nats, status
from switchgear.events.brokers.nats_headers import headers_of, seconds_of
from switchgear.events.brokers.nats_publisher import Topic
from switchgear.events.brokers.port import BrokerUnavailable, Delivery, Partition

if TYPE_CHECKING:
    from nats.aio.msg import Msg

__all__ = ["search"]

_BATCH: Final = 500
_BYTES: Final = 8_000_000
_ANSWER: Final = 5.0
_END: Final = "204"
_NOTHING: Final = "404"


async def search(
    connection: NatsConnection, topics: Mapping[str, Topic], text: bytes, limit: int
) -> list[Delivery]:
    """Return records with `text` in headers or value, at most `limit`, topic by topic."""
    arrived: asyncio.Queue[Msg] = asyncio.Queue()
    inbox, subscription = await connection.listen(arrived.put_nowait)
    found: list[Delivery] = []
    asked = 0
    try:
        for name, topic in topics.items():
            place: int | None = 1
            while place is not None and len(found) < limit:
                asked += 1
                wanted = {
                    "seq": place,
                    "next_by_subj": f"{topic.subject}.*",
                    "batch": _BATCH,
                    "max_bytes": max(_BYTES, 2 * connection.max_payload),
                }
                await connection.send(
                    f"$JS.API.DIRECT.GET.{topic.stream}",
                    json.dumps(wanted).encode(),
                    reply=f"{inbox}.{asked}",
                )
                records, place = await _batch(arrived, name, place)
                found += [one for one in records if _has(one, text)]
    finally:
        with suppress(import_nats().errors.Error):
            await subscription.unsubscribe()
    return found[:limit]


async def _batch(
    arrived: asyncio.Queue[Msg], topic: str, place: int
) -> tuple[list[Delivery], int | None]:
    """Return the records of a batch, and where the next one begins; None: there is none."""
    records: list[Delivery] = []
    while True:
        try:
            async with asyncio.timeout(_ANSWER):
                message = await arrived.get()
        except TimeoutError as error:
            raise BrokerUnavailable(
                f"NATS gives no more of {topic} within {_ANSWER:g} s", cause=error
            ) from error
        headers: Mapping[str, str] = message.headers or {}
        if "Nats-Sequence" in headers:
            number = headers["Nats-Subject"].rpartition(".")[2]
            place = int(headers["Nats-Sequence"]) + 1
            key, ours = headers_of(headers)
            at = seconds_of(headers["Nats-Time-Stamp"])
            partition = Partition(topic, int(number))
            records.append(Delivery(partition, place - 2, key, ours, message.data, at))
        elif status(message) == _END:
            return records, place if int(headers.get("Nats-Num-Pending", "0")) else None
        elif status(message) == _NOTHING:
            return records, None
        else:
            raise BrokerUnavailable(f"NATS does not give what {topic} holds: {headers}")


def _has(record: Delivery, text: bytes) -> bool:
    return text in record.value or any(text in one.encode() for one in record.headers.values())
