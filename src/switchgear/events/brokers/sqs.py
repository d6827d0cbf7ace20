"""Amazon SQS as a broker: one FIFO queue for each group and topic, the key as message group.

SQS has no topics, no partitions and no log. So:

- A publisher sends each record to the queue of every group of its topic (`sqs_queues.py`). A
  repeat has the same deduplication id, so a publish that reached only some queues is repeated
  to all.
- A key is a partition of its own: SQS gives nothing more of a message group while a message of it
  is out. Who receives it owns the key until all that came was committed, that is, deleted.
- A new group has no past. What was published before its queue was there is not in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from switchgear.errors import BrokerError
from switchgear.events.brokers.batching import check_size
from switchgear.events.brokers.port import (
    BrokerUnavailable,
    Capabilities,
    Lag,
    Record,
    RecordTooLarge,
    TopicRefused,
)
from switchgear.events.brokers.sqs_client import SqsClient, SqsSettings, failed_entry
from switchgear.events.brokers.sqs_group import SqsSubscription
from switchgear.events.brokers.sqs_queues import KEPT, Queue, SqsQueues
from switchgear.events.brokers.sqs_wire import Message, message_of, waves
from switchgear.model.outcome import Reason, Unknown

__all__ = ["WAIT", "SqsBroker"]

WAIT: Final = 5
"""Seconds for which a request waits for messages, unless the URL says otherwise."""
_BATCH_BYTES: Final = 1_048_576
_SIDE_BY_SIDE: Final = 8


class SqsBroker:
    """SQS in one region and account.

    `create` creates queues that are missing; without it they are refused. `discover` is after how
    many seconds a publisher looks for new groups again, and `wait` for how many a request waits for
    messages (0 to 20). `max_bytes` is the largest event, headers and data; a queue whose
    own limit is lower refuses earlier.
    """

    def __init__(
        self,
        settings: SqsSettings,
        *,
        create: bool = False,
        discover: float = 5.0,
        wait: int = WAIT,
        max_bytes: int = 250_000,
    ) -> None:
        self.capabilities = Capabilities(
            durable=True,
            ordered=True,
            groups=True,
            replay=False,
            exact_lag=False,
            retention=None,
            max_bytes=max_bytes,
            partitions=False,
        )
        self._max_bytes = max_bytes
        self._wait = wait
        self._client = SqsClient(settings)
        self._queues = SqsQueues(self._client, settings.prefix, create=create, discover=discover)
        self._subscriptions: set[SqsSubscription] = set()
        self._sending = asyncio.Semaphore(_SIDE_BY_SIDE)

    async def publish(self, records: Sequence[Record]) -> None:
        """Send `records` to the queues of every group of their topics; return once all have them.

        Raises `RecordTooLarge` before anything is sent, `BrokerUnavailable` if nothing was,
        `Unknown` if some may be there, and `TopicRefused` if a queue takes none, whatever others
        have taken.
        """
        check_size(records, self._max_bytes)
        topics: dict[str, list[Message]] = {}
        for record in records:
            topics.setdefault(record.topic, []).append(message_of(record))
        found = await asyncio.gather(*map(self._queues.of_topic, topics))
        work = [(queue, topics[queue.topic]) for queues in found for queue in queues]
        for queue, messages in work:
            largest = max(message.size for message in messages)
            if largest > queue.max_bytes:
                raise RecordTooLarge(queue.topic, largest, queue.max_bytes)
        done = await asyncio.gather(
            *(self._fill_or_refuse(queue, messages) for queue, messages in work),
            return_exceptions=True,
        )
        for (queue, _), one in zip(work, done, strict=True):
            if one is not None:
                self._queues.forget(queue.topic)
        _raise(done)

    async def subscribe(
        self, group: str, topics: Sequence[str], *, lease: float = 5.0
    ) -> SqsSubscription:
        """Join `group`. What a member that dies had received comes again after `lease` and `wait`.

        Raises `BrokerError` for a queue that does not exist, or that has a dead-letter queue.
        """
        queues = await asyncio.gather(*(self._queues.of_group(topic, group) for topic in topics))
        subscription = SqsSubscription(
            self._client,
            group,
            queues,
            lease=lease,
            wait=self._wait,
            closed=self._subscriptions.discard,
        )
        await subscription.start()
        self._subscriptions.add(subscription)
        return subscription

    async def retention(self, topics: Sequence[str]) -> float | None:
        """Return for how long the queues of these topics keep a message, read or not."""
        found = await asyncio.gather(*map(self._queues.of_topic, topics))
        return max((queue.kept for queues in found for queue in queues), default=float(KEPT))

    async def lag(self, group: str, topics: Sequence[str]) -> Lag:
        """Return about how far `group` is behind. `oldest` is of what this process has received."""
        if not topics:
            await self._queues.url("switchgear")  # it answers, and that is all
            return Lag(0, None)
        counts = await asyncio.gather(*(self._queues.waiting(topic, group) for topic in topics))
        ages = [one.oldest() for one in self._subscriptions if one.group == group]
        oldest = max((age for age in ages if age is not None), default=None)
        return Lag(sum(counts), oldest if sum(counts) else None)

    async def close(self) -> None:
        """Leave every group and let the threads end. Closing twice is allowed."""
        for subscription in list(self._subscriptions):
            await subscription.close()
        self._client.close()

    async def _fill_or_refuse(self, queue: Queue, messages: Sequence[Message]) -> None:
        try:
            await self._fill(queue, messages)
        except BrokerError as error:
            raise TopicRefused.of(queue.topic, error) from error

    async def _fill(self, queue: Queue, messages: Sequence[Message]) -> None:
        """Send messages to one queue, a key's one after the other."""
        taken: list[None] = []
        for batches in waves(messages, min(queue.max_bytes, _BATCH_BYTES)):
            done = await asyncio.gather(
                *(self._send(queue, [messages[at] for at in batch]) for batch in batches),
                return_exceptions=True,
            )
            _raise(taken + done)
            taken = [None]

    async def _send(self, queue: Queue, messages: Sequence[Message]) -> None:
        async with self._sending:
            answer = await self._client.call(
                "send_message_batch",
                QueueUrl=queue.url,
                Entries=[message.entry(number) for number, message in enumerate(messages)],
            )
        taken = {entry["Id"] for entry in answer.get("Successful", [])}
        failed = {entry["Id"]: entry for entry in answer.get("Failed", [])}
        _raise(
            [
                None if number in taken else _not_taken(failed.get(number))
                for number in map(str, range(len(messages)))
            ]
        )


def _not_taken(entry: Mapping[str, Any] | None) -> Exception | None:
    if entry is not None:
        return failed_entry(entry, "send an event")
    return Unknown("SQS does not say whether it has an event", reason=Reason.SERVER_ERROR)


def _raise(done: Sequence[BaseException | None]) -> None:
    """Raise what came of several sends, if one of them failed; None is one that did not.

    A refusal comes first: to repeat does not help. What is away for all is certainly not done.
    """
    errors = [one for one in done if one is not None]
    for error in errors:
        if isinstance(error, BrokerError):
            raise error
    for error in errors:
        if not isinstance(error, BrokerUnavailable):
            raise error
        if len(errors) < len(done):
            raise Unknown(f"a part is done ({error})", reason=Reason.SERVER_ERROR) from error
    if errors:
        raise errors[0]
