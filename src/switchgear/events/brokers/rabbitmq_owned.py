"""One partition that a member of a group on RabbitMQ owns: what it has read and acknowledged."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from switchgear.events.brokers.port import BrokerUnavailable, Delivery, Partition
from switchgear.events.brokers.rabbitmq_client import delivery_of, talking

if TYPE_CHECKING:
    from aiormq.abc import DeliveredMessage
    from aiormq.channel import Channel

__all__ = ["PREFETCH", "Owned"]

PREFETCH: Final = 500
"""Records of a partition that its owner holds at most and has not acknowledged. Never to become
less: what a reader gives back, RabbitMQ puts behind what others gave back before."""


@dataclass(slots=True, eq=False)
class Owned:
    """A partition, from when its owner queue is ours."""

    partition: Partition
    queue: str
    generation: int
    channel: Channel
    base: int
    """The offset of the first delivery; their tags count from 1."""
    reading: bool = False
    """Whether its queue has answered, and gives us its records."""
    silent: bool = False
    """Whether its queue was said not to answer."""
    told: bool = False
    """Whether a beat has told the subscription of it. Before that it may still know the former
    ownership of this partition, and would take these records for that one's."""
    received: int = 0
    acknowledged: int = 0
    waiting: deque[Delivery] = field(default_factory=deque)
    published: deque[float] = field(default_factory=deque)
    """Of what is not acknowledged."""
    committing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One commit after the other: one that was cancelled goes on, and RabbitMQ closes the channel
    on which a record is acknowledged twice."""

    async def read(self, group: str, arrived: Callable[[], None]) -> None:
        """Begin to read the queue; `arrived` is called after each record.

        Raises `BrokerUnavailable`, or `BrokerError` if RabbitMQ refuses.
        """

        async def take(message: DeliveredMessage) -> None:
            delivery = delivery_of(self.partition, self.base + self.received, message)
            self.received += 1
            self.waiting.append(delivery)
            self.published.append(delivery.published)
            arrived()

        async with talking(f"reading {self.partition} as {group}"):
            await self.channel.basic_qos(prefetch_count=PREFETCH)
            await self.channel.basic_consume(self.queue, take)
        self.reading = True

    async def acknowledge(self, group: str, position: int) -> bool:
        """Acknowledge what is below `position`; False if the partition is lost."""
        async with self.committing:
            return await self._acknowledge(group, position)

    async def _acknowledge(self, group: str, position: int) -> bool:
        tag = min(position - self.base, self.received)
        if tag <= self.acknowledged:
            return True
        channel = self.channel
        try:
            async with talking(f"committing {self.partition} as {group}"):
                await channel.basic_ack(tag, multiple=True, wait=False)
                # answered after the acknowledgement was carried out, or not at all
                await channel.basic_qos(prefetch_count=PREFETCH)
        except BrokerUnavailable:
            if channel.is_closed:
                return False
            raise
        while self.acknowledged < tag:
            self.acknowledged += 1
            self.published.popleft()
        return True

    async def count(self) -> tuple[Partition, int, float | None]:
        """Return how many events wait in the queue or are not acknowledged: never too few.

        With the time at which the first of them was published.
        """
        async with talking(f"counting {self.partition}"):
            waiting = await self.channel.queue_declare(self.queue, passive=True)
            # what had left the queue when it was counted has arrived before this answer
            await self.channel.basic_qos(prefetch_count=PREFETCH)
        events = (waiting.message_count or 0) + self.received - self.acknowledged
        oldest = self.published[0] if self.published else (time.time() if events else None)
        return self.partition, events, oldest
