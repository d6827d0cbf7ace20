"""A member of a group on SQS.

The rules:

- What was received is *out*: invisible to others, and with it all of its message group, until it
  is deleted or its time is up. So whoever has a message of a key out owns the key. The key's
  partition is assigned with its first message, and ends when all that came was committed.
- A commit deletes. SQS refuses to delete what has been out for too long, and so do we: then it is
  another member's (`LeaseLost`).
- A heartbeat extends what is out, in time for it to be certain. A message that could not be
  extended in time takes its partition with it: what runs is abandoned, and the rest given back.
- The time of a message begins when SQS hands it out, which may be at any moment of a request that
  waits. It is out for the lease and the wait together, counted from the beginning of the request,
  so that a lease is certainly left; after that, the lease is counted from each heartbeat.
- Receiving is asked for by `poll`: nothing is received that nobody has room for, but for what the
  requests that are on their way bring.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from switchgear.errors import BrokerError
from switchgear.events.brokers.port import (
    BrokerUnavailable,
    Delivery,
    LeaseLost,
    Partition,
    Polled,
)
from switchgear.events.brokers.sqs_client import SqsClient, failed_entry
from switchgear.events.brokers.sqs_queues import Queue
from switchgear.events.brokers.sqs_wire import BATCH, delivery_of

__all__ = ["SqsSubscription"]

_CERTAIN: Final = 0.8
"""The part of a lease during which its owner acts on it without asking again."""
_UNNAMED: Final = {"Code": "no answer", "Message": "SQS does not say what became of it"}
_REQUESTS: Final = 4
"""Requests for messages of one queue that run side by side, while they come back full."""


@dataclass(slots=True, eq=False)
class _Out:
    """One message that is out."""

    queue: str
    receipt: str
    delivery: Delivery
    certain: float
    """Until when it is certainly ours, on the loop's clock."""
    gone: float
    """From when on it is certainly not ours any more, if it is not extended."""


@dataclass(slots=True, eq=False)
class _Owned:
    """What is out of one message group, by offset."""

    group: str
    newest: int = -1
    out: dict[int, _Out] = field(default_factory=dict)


class SqsSubscription:
    """One member of a group. The broker makes it; see `Subscription` for what it does."""

    def __init__(
        self,
        client: SqsClient,
        group: str,
        queues: Sequence[Queue],
        *,
        lease: float,
        wait: int,
        closed: Callable[[SqsSubscription], None],
    ) -> None:
        self.group = group
        self._client = client
        self._queues = queues
        self._lease = lease
        self._wait = wait
        self._on_closed = closed
        self._owned: dict[Partition, _Owned] = {}
        self._waiting: deque[Delivery] = deque()
        self._assigned: dict[Partition, int] = {}
        self._lost: set[Partition] = set()
        self._paused: set[Partition] = set()
        self._requests: dict[str, set[asyncio.Task[None]]] = {one.url: set() for one in queues}
        self._width = dict.fromkeys(self._requests, 1)
        self._news = asyncio.Event()
        self._failure: Exception | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._beating: asyncio.Task[None] | None = None
        self._closed = False

    async def start(self) -> None:
        """Receive for the first time, which shows whether that is allowed; begin to extend."""
        self._beating = asyncio.create_task(self._beat(), name=f"lease {self.group}")
        try:
            await asyncio.gather(*(self._request(queue, wait=0) for queue in self._queues))
        except BaseException:
            await self.close()  # otherwise what came would be extended, and nobody has it
            raise
        if self._failure is not None:
            failure = self._failure
            await self.close()
            raise failure

    async def poll(self, limit: int, wait: float) -> Polled:
        """Return changes of ownership and records; see `Subscription.poll`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        while True:
            self._news.clear()
            if self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure
            deliveries = list(self._next(limit))
            if deliveries or self._assigned or self._lost:
                told = Polled(self._assigned, lost=frozenset(self._lost), deliveries=deliveries)
                self._assigned, self._lost = {}, set()
                return told
            if limit > 0:
                self._ask()
            remaining = deadline - loop.time()
            if remaining <= 0:
                return Polled()
            with suppress(TimeoutError):
                async with asyncio.timeout(remaining):
                    await self._news.wait()

    def owns(self, partition: Partition) -> bool:
        """Tell whether all that is out of `partition` is certainly still ours."""
        found = self._owned.get(partition)
        now = asyncio.get_running_loop().time()
        return found is not None and all(now < one.certain for one in found.out.values())

    def oldest(self) -> float | None:
        """Return the age in seconds of the oldest record that is out; None if nothing is."""
        published = [
            one.delivery.published for found in self._owned.values() for one in found.out.values()
        ]
        return max(0.0, time.time() - min(published)) if published else None

    async def commit(self, positions: Mapping[Partition, int]) -> None:
        """Delete what is below the positions; see `Subscription.commit`."""
        now = asyncio.get_running_loop().time()
        lost = {partition for partition in positions if partition not in self._owned}
        done: list[_Out] = []
        for partition in positions.keys() - lost:
            found = [
                one
                for offset, one in self._owned[partition].out.items()
                if offset < positions[partition]
            ]
            if any(now >= one.gone for one in found):
                self._lose(partition)
                lost.add(partition)
            else:
                done += found
        failures = await asyncio.gather(
            *(self._delete(batch, lost) for batch in _batches(done)), return_exceptions=True
        )
        for failure in failures:
            if isinstance(failure, BaseException):
                raise failure  # before a loss, after which the others count as committed
        if lost:
            raise LeaseLost(self.group, lost)

    def pause(self, partitions: Collection[Partition]) -> None:
        """Deliver nothing more of `partitions` for now."""
        self._paused.update(partitions)

    def resume(self, partitions: Collection[Partition]) -> None:
        """Deliver from `partitions` again."""
        self._paused.difference_update(partitions)
        self._news.set()

    async def release(self, partitions: Collection[Partition]) -> None:
        """Give `partitions` up, with what is out of them."""
        found = [self._owned.pop(one) for one in partitions if one in self._owned]
        for partition in partitions:
            self._assigned.pop(partition, None)
        await self._give_back(one for owned in found for one in owned.out.values())

    async def close(self) -> None:
        """Leave the group: everything that is out is given back. Closing twice is allowed."""
        if self._beating is None:
            return
        self._closed = True
        tasks = [self._beating, *(one for some in self._requests.values() for one in some)]
        self._beating = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *self._background, return_exceptions=True)
        await self.release(list(self._owned))
        self._on_closed(self)

    # receiving

    def _next(self, limit: int) -> Iterator[Delivery]:
        """Take what waits and is still ours, at most `limit` records."""
        behind: list[Delivery] = []
        while self._waiting and limit > 0:
            delivery = self._waiting.popleft()
            found = self._owned.get(delivery.partition)
            out = found.out.get(delivery.offset) if found is not None else None
            if out is None or out.delivery is not delivery:
                continue
            if delivery.partition in self._paused:
                behind.append(delivery)
                continue
            limit -= 1
            yield delivery
        self._waiting.extendleft(reversed(behind))

    def _ask(self) -> None:
        for queue in self._queues:
            while len(self._requests[queue.url]) < self._width[queue.url]:
                self._request(queue, wait=self._wait)

    def _request(self, queue: Queue, *, wait: int) -> asyncio.Task[None]:
        work = self._receive(queue, wait=wait)
        task = asyncio.create_task(work, name=f"receive {self.group}")
        requests = self._requests[queue.url]
        requests.add(task)
        task.add_done_callback(partial(self._received, requests))
        return task

    def _received(self, requests: set[asyncio.Task[None]], task: asyncio.Task[None]) -> None:
        # in this order: who is woken by the news asks again
        requests.discard(task)
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self._failure = error
        self._news.set()

    async def _receive(self, queue: Queue, *, wait: int) -> None:
        try:
            began, messages = await self._client.receive(
                queue.url,
                wait=wait,
                visibility=self._seconds + wait,
                wanted=lambda: not self._closed,
            )
        except (BrokerUnavailable, BrokerError) as error:
            self._failure = error
            return
        if len(messages) == BATCH:
            self._width[queue.url] = min(_REQUESTS, self._width[queue.url] + 1)
        elif not messages:
            self._width[queue.url] = 1
        certain = began + wait + self._lease * _CERTAIN
        gone = began + wait + self._seconds
        others = [
            out
            for message in messages
            if not self._take(out := _out(queue, message, certain, gone), _group(message))
        ]
        if others:
            await self._give_back(others, after=1)

    def _take(self, out: _Out, group: str) -> bool:
        """Own a message that came; tell whether it could be."""
        delivery = out.delivery
        found = self._owned.get(delivery.partition)
        if found is not None and found.group != group:
            return False  # two keys of one hash: one after the other
        if found is not None and delivery.offset <= found.newest:
            # it came again, so its time was up: what we have of the key is not ours any more
            self._lose(delivery.partition)
            found = None
        if found is None:
            found = self._owned[delivery.partition] = _Owned(group)
            self._assigned[delivery.partition] = delivery.offset
        found.newest = delivery.offset
        found.out[delivery.offset] = out
        self._waiting.append(delivery)
        return True

    # keeping

    @property
    def _seconds(self) -> int:
        """The lease in whole seconds, which is what SQS takes."""
        return max(1, math.ceil(self._lease))

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._lease / 5)
            soon = loop.time() + self._lease * _CERTAIN / 2
            due = [
                one
                for found in self._owned.values()
                for one in found.out.values()
                if one.certain < soon
            ]
            await asyncio.gather(*map(self._extend, _batches(due)))
            now = loop.time()
            for partition, found in list(self._owned.items()):
                if any(now >= one.gone for one in found.out.values()):
                    self._lose(partition)

    async def _extend(self, batch: Sequence[_Out]) -> None:
        began = asyncio.get_running_loop().time()
        try:
            failed = await self._each("change_message_visibility_batch", batch, self._seconds)
        except BrokerUnavailable:
            return  # again soon; `owns` ends by itself
        except BrokerError as error:
            self._failure = error
            self._news.set()
            return
        for one in batch:
            if one not in failed:
                one.certain = began + self._lease * _CERTAIN
                one.gone = began + self._seconds
            elif failed_entry(failed[one], "extend a lease") is None and self._has(one):
                self._lose(one.delivery.partition)

    def _has(self, out: _Out) -> bool:
        found = self._owned.get(out.delivery.partition)
        return found is not None and found.out.get(out.delivery.offset) is out

    def _lose(self, partition: Partition) -> None:
        found = self._owned.pop(partition)
        self._assigned.pop(partition, None)
        self._lost.add(partition)
        self._news.set()
        task = asyncio.create_task(self._give_back(found.out.values()))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _delete(self, batch: Sequence[_Out], lost: set[Partition]) -> None:
        failed = await self._each("delete_message_batch", batch)
        for one in batch:
            partition = one.delivery.partition
            found = self._owned.get(partition)
            if found is None or found.out.get(one.delivery.offset) is not one:
                continue
            if one not in failed:
                del found.out[one.delivery.offset]
                if not found.out:
                    del self._owned[partition]
            elif failed_entry(failed[one], "delete an event") is None:
                self._lose(partition)
                lost.add(partition)
        for entry in failed.values():
            if (error := failed_entry(entry, "delete an event")) is not None:
                raise error

    async def _give_back(self, out: Iterable[_Out], *, after: int = 0) -> None:
        """Let others have it, `after` so many seconds."""
        for batch in _batches(out):
            with suppress(BrokerUnavailable, BrokerError):  # its time ends by itself
                await self._each("change_message_visibility_batch", batch, after)

    async def _each(
        self, operation: str, batch: Sequence[_Out], visibility: int | None = None
    ) -> dict[_Out, Mapping[str, Any]]:
        """Do one thing to messages of one queue; return those for which it failed, and how.

        What the answer does not name has failed too.
        """
        more = {} if visibility is None else {"VisibilityTimeout": visibility}
        answer = await self._client.call(
            operation,
            QueueUrl=batch[0].queue,
            Entries=[
                {"Id": str(number), "ReceiptHandle": one.receipt, **more}
                for number, one in enumerate(batch)
            ],
        )
        failed = {entry["Id"]: entry for entry in answer.get("Failed", [])}
        done = {entry["Id"] for entry in answer.get("Successful", [])}
        return {
            one: failed.get(number, _UNNAMED)
            for number, one in zip(map(str, range(len(batch))), batch, strict=True)
            if number not in done
        }


def _out(queue: Queue, message: Mapping[str, Any], certain: float, gone: float) -> _Out:
    delivery = delivery_of(queue.topic, message)
    return _Out(queue.url, message["ReceiptHandle"], delivery, certain, gone)


def _group(message: Mapping[str, Any]) -> str:
    return str(message["Attributes"]["MessageGroupId"])


def _batches(out: Iterable[_Out]) -> Iterator[list[_Out]]:
    """Cut into batches of one queue each."""
    queues: dict[str, list[_Out]] = {}
    for one in out:
        queues.setdefault(one.queue, []).append(one)
    for some in queues.values():
        for start in range(0, len(some), BATCH):
            yield some[start : start + BATCH]
