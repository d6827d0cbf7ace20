"""The queues: one FIFO queue for each group and topic, found by its name.

The name says topic and group, so publishers find the groups of a topic by the beginning of the
name. They look again every `discover` seconds: a queue that was just created gets nothing before.
Whoever creates one therefore waits for that long.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from switchgear.errors import BrokerError
from switchgear.events.brokers.port import TopicRefused
from switchgear.events.brokers.sqs_client import LOGGER, SqsClient
from switchgear.events.brokers.sqs_wire import queue_name, topic_prefix

__all__ = ["KEPT", "Queue", "SqsQueues"]

KEPT: Final = 14 * 86_400
"""Seconds for which a queue that we create keeps a message: as long as SQS does."""
_ATTRIBUTES: Final = {
    "FifoQueue": "true",
    "MessageRetentionPeriod": str(KEPT),
    # together they are what AWS calls high throughput
    "DeduplicationScope": "messageGroup",
    "FifoThroughputLimit": "perMessageGroupId",
}
_SMALLEST: Final = 262_144
"""What a queue takes that does not say how much."""
_PAGE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Queue:
    """One queue, as its attributes describe it."""

    url: str
    topic: str
    max_bytes: int
    """Of one message, as SQS counts them."""
    kept: float
    """Seconds for which a message is kept, whether it was read or not."""


class SqsQueues:
    """What queues there are. `create` creates a group's queue that is missing."""

    def __init__(self, client: SqsClient, prefix: str, *, create: bool, discover: float) -> None:
        self._client = client
        self._prefix = prefix
        self._create = create
        self._discover = discover
        self._known: dict[str, tuple[float, list[Queue]]] = {}
        self._told: set[str] = set()
        self._found: dict[str, str] = {}

    async def of_topic(self, topic: str) -> Sequence[Queue]:
        """Return the queues of every group of `topic`, as of `discover` seconds ago at most."""
        until, found = self._known.get(topic, (0.0, []))
        if time.monotonic() < until:
            return found
        looked = time.monotonic()
        begin = topic_prefix(self._prefix, topic)
        urls = [url for url in await self._urls(begin) if url.endswith(".fifo")]
        known = {one.url: one for one in found}
        new = [url for url in urls if url not in known]
        try:
            looks = await asyncio.gather(*(self._look(topic, url) for url in new))
        except BrokerError as error:
            raise TopicRefused.of(topic, error) from error
        known |= {one.url: one for one in looks}
        queues = [known[url] for url in urls]
        if not queues and topic not in self._told:
            self._told.add(topic)
            LOGGER.warning(
                "no group has a queue for %s (%s*.fifo): what is published to it goes nowhere",
                topic,
                begin,
            )
        self._known[topic] = (looked + self._discover, queues)
        return queues

    def forget(self, topic: str) -> None:
        """Look again before the next publish."""
        self._known.pop(topic, None)

    async def of_group(self, topic: str, group: str) -> Queue:
        """Return the queue of a group, created if need be. Raises `BrokerError`."""
        name = queue_name(self._prefix, topic, group)
        url = await self.url(name)
        if url is None:
            if not self._create:
                raise BrokerError(
                    f"SQS has no queue {name}, of {group} for {topic}.",
                    fix="Create it, or add create=true to the broker's URL to have it created.",
                )
            made = await self._client.call("create_queue", QueueName=name, Attributes=_ATTRIBUTES)
            url = str(made["QueueUrl"])
            self.forget(topic)
            await asyncio.sleep(self._discover)
        return await self._look(topic, url)

    async def waiting(self, topic: str, group: str) -> int:
        """Return about how many messages a group's queue has, those that are out included."""
        url = await self.url(queue_name(self._prefix, topic, group))
        if url is None:
            return 0
        names = [
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        ]
        found = await self._attributes(url, names)
        return sum(int(found.get(name, 0)) for name in names)

    async def url(self, name: str) -> str | None:
        """Return the URL of the queue of that name; None if there is none."""
        if name not in self._found:
            urls = await self._urls(name)
            self._found |= {url.rpartition("/")[2]: url for url in urls}
        return self._found.get(name)

    async def _urls(self, begin: str) -> list[str]:
        urls: list[str] = []
        more: dict[str, Any] = {}
        while True:
            found = await self._client.call(
                "list_queues", QueueNamePrefix=begin, MaxResults=_PAGE, **more
            )
            urls += found.get("QueueUrls", [])
            if "NextToken" not in found:
                return urls
            more = {"NextToken": found["NextToken"]}

    async def _look(self, topic: str, url: str) -> Queue:
        found = await self._attributes(url, ["All"])
        name = url.rpartition("/")[2]
        if "RedrivePolicy" in found:
            raise BrokerError(
                f"the queue {name} has a dead-letter queue.",
                fix="Remove its redrive policy: it takes an event out and lets the key's next ones "
                "pass. on_failure says what happens to an event that fails, in order.",
            )
        return Queue(
            url,
            topic,
            int(found.get("MaximumMessageSize", _SMALLEST)),
            float(found.get("MessageRetentionPeriod", KEPT)),
        )

    async def _attributes(self, url: str, names: Sequence[str]) -> dict[str, str]:
        answer = await self._client.call(
            "get_queue_attributes", QueueUrl=url, AttributeNames=list(names)
        )
        found: dict[str, str] = answer.get("Attributes", {})
        return found
