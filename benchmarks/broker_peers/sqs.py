"""SQS, on ElasticMQ as a stand-in: the raw client (botocore, in threads, which ours stands on).

FastStream has no SQS. aiobotocore takes one narrow range of botocore's versions, and not the one
that is installed here.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

from broker_peers.load import PUBLISHERS, Meter, Subjects, by_publishers, ours, records

from switchgear import broker_of
from switchgear.events.brokers.port import Broker, Record

BATCH = 10
RECEIVERS = 4
"""Requests for messages side by side; ours has as many at most."""
FIFO = {
    "FifoQueue": "true",
    "DeduplicationScope": "messageGroup",
    "FifoThroughputLimit": "perMessageGroupId",
}


class SqsPeers:
    """botocore; each run has a FIFO queue of its own, with the key as message group."""

    def __init__(self, endpoint: str) -> None:
        from botocore.config import Config
        from botocore.session import Session

        self._client = Session().create_client(
            "sqs",
            region_name="elasticmq",
            endpoint_url=endpoint,
            aws_access_key_id="x",
            aws_secret_access_key="x",  # noqa: S106  the stand-in takes any
            config=Config(max_pool_connections=PUBLISHERS),
        )
        self._threads = ThreadPoolExecutor(PUBLISHERS)

    async def raw_publish(self, count: int) -> float:
        url = await self._fresh()
        return await by_publishers(
            count, lambda record: self._call("send_message", QueueUrl=url, **entry(record))
        )

    async def raw_consume(self, count: int) -> float:
        url = await self._fresh()
        await self._fill(url, records(count))
        meter = Meter(count)

        async def receive() -> None:
            while not meter.done.is_set():
                answer = await self._call(
                    "receive_message",
                    QueueUrl=url,
                    MaxNumberOfMessages=BATCH,
                    WaitTimeSeconds=1,
                    MessageAttributeNames=["All"],
                    MessageSystemAttributeNames=["All"],
                )
                found = answer.get("Messages", [])
                if found:
                    done = [
                        {"Id": str(number), "ReceiptHandle": one["ReceiptHandle"]}
                        for number, one in enumerate(found)
                    ]
                    await self._call("delete_message_batch", QueueUrl=url, Entries=done)
                    meter.seen(len(found))

        receiving = [asyncio.create_task(receive()) for _ in range(RECEIVERS)]
        await meter.done.wait()
        took = meter.took()
        await asyncio.gather(*receiving)
        return took

    def close(self) -> None:
        self._threads.shutdown()
        self._client.close()

    async def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        work = getattr(self._client, operation)
        return dict(await loop.run_in_executor(self._threads, lambda: work(**arguments)))

    async def _fresh(self) -> str:
        name = f"b{secrets.token_hex(6)}.fifo"
        made = await self._call("create_queue", QueueName=name, Attributes=FIFO)
        return str(made["QueueUrl"])

    async def _fill(self, url: str, given: Sequence[Record]) -> None:
        for first in range(0, len(given), BATCH):
            entries = [
                {"Id": str(number), **entry(record)}
                for number, record in enumerate(given[first : first + BATCH])
            ]
            await self._call("send_message_batch", QueueUrl=url, Entries=entries)


def entry(record: Record) -> dict[str, Any]:
    headers = {"DataType": "String", "StringValue": json.dumps(dict(record.headers))}
    return {
        "MessageBody": record.value.decode(),
        "MessageGroupId": record.key or "",
        "MessageDeduplicationId": record.headers["ce-id"],
        "MessageAttributes": {"headers": headers},
    }


@asynccontextmanager
async def sqs_subjects(url: str) -> AsyncIterator[Subjects]:
    (endpoint,) = parse_qs(urlsplit(url).query)["endpoint"]
    peers = SqsPeers(endpoint)

    def connect() -> Broker:
        prefix = f"prefix=b{secrets.token_hex(6)}-"
        return broker_of(f"{url}&{prefix}&create=true&discover=0.2&wait=1")

    subjects = ours(connect)
    subjects["publish"]["raw (botocore)"] = peers.raw_publish
    subjects["consume"]["raw (botocore)"] = peers.raw_consume
    yield subjects
    peers.close()
