"""RabbitMQ as a broker: a quorum queue for each group and partition, on any RabbitMQ from 3.10 on.

A topic is an exchange; the key's partition is the routing key, and the exchange's name for what no
group asked for tells how many partitions there are. A queue keeps what its group has not done, and
nothing else: a new group reads from when it was declared. `groups` are declared, with their
queues, before the first record of their topics is published.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final

import msgspec

from switchgear.errors import BrokerError
from switchgear.events.brokers.batching import check_size
from switchgear.events.brokers.hashing import partition_of
from switchgear.events.brokers.leased import LeasedSubscription
from switchgear.events.brokers.port import (
    BrokerUnavailable,
    Capabilities,
    Lag,
    Partition,
    Record,
    TopicRefused,
)
from switchgear.events.brokers.rabbitmq_asking import unanswered
from switchgear.events.brokers.rabbitmq_client import (
    LOGGER,
    RabbitSettings,
    delivery_of,
    import_aiormq,
    talking,
)
from switchgear.events.brokers.rabbitmq_group import (
    EVERYBODY,
    Asked,
    Counted,
    RabbitMember,
)
from switchgear.events.brokers.rabbitmq_owned import PREFETCH
from switchgear.events.brokers.rabbitmq_publisher import Link, RabbitPublisher
from switchgear.events.waiting import wait_until
from switchgear.model.outcome import Reason, Unknown

if TYPE_CHECKING:
    from aiormq.abc import DeliveredMessage

__all__ = ["RabbitBroker"]

_PARTITIONS: Final = 8
_QUEUE: Final[Mapping[str, Any]] = {
    "x-queue-type": "quorum",
    "x-single-active-consumer": True,
    # from 4.0 on an event would be dropped after 20 members have died with it
    "x-delivery-limit": 2_000_000_000,
    # a limit that a policy adds would drop the oldest
    "x-overflow": "reject-publish",
}
_CURRENT: Final = re.compile(r"current is .*switchgear\.unheard-of-(\d+)'")
_ASK: Final = 1.0
_ASK_MOST: Final = 10.0
_PEEK: Final = 2.0
_ASKED: Final = 30.0


class RabbitBroker:
    """A connection to the cluster that `settings` tell of.

    `partitions` is asserted for existing topics and used for new ones; None takes what is there
    and makes 8. `groups` are the topics of groups that have to get what is published from now on,
    whether they have been there or not. `within` bounds a publish in seconds. `max_bytes` is the
    largest record, headers and value together.
    """

    def __init__(
        self,
        settings: RabbitSettings,
        *,
        partitions: int | None = None,
        groups: Mapping[str, Collection[str]] | None = None,
        within: float = 15.0,
        max_bytes: int = 1_000_000,
    ) -> None:
        self.capabilities = Capabilities(
            durable=True,
            ordered=True,
            groups=True,
            replay=False,
            exact_lag=True,
            retention=0.0,
            max_bytes=max_bytes,
        )
        self._settings = settings
        self._wanted = partitions
        self._groups = dict(groups or {})
        self._max_bytes = max_bytes
        self._link = Link(settings, "switchgear")
        self._publisher = RabbitPublisher(settings, within=within)
        self._topics: dict[str, int] = {}
        self._declaring = asyncio.Lock()
        self._peeking = asyncio.Lock()
        self._next = itertools.count()
        self._warned: set[str] = set()
        self._asking: dict[str, tuple[float, asyncio.Task[frozenset[str]]]] = {}
        """By group: which queues do not answer, and until when that is not asked again."""
        self._subscriptions: set[LeasedSubscription] = set()

    async def publish(self, records: Sequence[Record]) -> None:
        """Publish `records` in order; return once every queue that gets them has them.

        Raises `Unknown`, `BrokerUnavailable`, `RecordTooLarge`, `TopicRefused`, or `BrokerError`.
        """
        check_size(records, self._max_bytes)
        if not records:
            return
        topics = {record.topic for record in records}
        for topic in sorted(topics - self._topics.keys()):
            await self._ensure(topic)
        places = []
        for record in records:
            count = self._topics[record.topic]
            number = (
                next(self._next) % count if record.key is None else partition_of(record.key, count)
            )
            places.append((record, number))
        try:
            unheard = await self._publisher.publish(places)
        except BrokerError:
            self._forget(topics)  # perhaps it was deleted: it is looked for again
            raise
        if unheard:
            self._tell_unheard(unheard)

    async def subscribe(
        self, group: str, topics: Sequence[str], *, lease: float = 5.0
    ) -> LeasedSubscription:
        """Join `group`. A new group reads what is published from now on.

        RabbitMQ notices a silent member after about a `lease`, and after 2 to 3 seconds at least.
        Raises `BrokerError` for a topic that has other partitions than asked.
        """
        member = RabbitMember(
            self._settings,
            self._link,
            group,
            lambda: self._declare(group, topics),
            lease=lease,
            closed=self._subscriptions.discard,
        )
        try:
            await member.subscription.start()
        except BaseException:
            await member.leave(None)  # or it would own partitions that nobody reads
            raise
        self._subscriptions.add(member.subscription)
        return member.subscription

    async def declare(self, group: str, topics: Sequence[str]) -> None:
        """Let `group` get what is published to `topics` from now on, before any member is there."""
        await self._declare(group, topics)

    async def retention(self, topics: Sequence[str]) -> float | None:
        """Return 0: what a group has done is not kept."""
        del topics
        return 0.0

    async def lag(self, group: str, topics: Sequence[str]) -> Lag:
        """Return how far `group` is behind; nothing, if it was never declared.

        A queue tells what waits in it, and the owner of a partition what it has not committed. One
        without a leader tells nothing: its partition is `silent`.
        """
        if not topics:
            await self._link.connection()
            return Lag(0, None)
        partitions = [
            Partition(topic, number)
            for topic in topics
            for number in range(await self._ensure(topic))
        ]
        until = time.monotonic() + _ASK_MOST
        while True:
            found, missing, empty = await self._count(group, partitions)
            if not missing:
                break
            if time.monotonic() > until:
                names = ", ".join(sorted(map(str, missing)))
                raise BrokerUnavailable(f"{group}: the owner of {names} does not tell its lag")
        events = sum(count for count, _ in found)
        oldest = min((at for _, at in found if at is not None), default=None)
        age = None if oldest is None or not events else max(0.0, time.time() - oldest)
        return Lag(events, age, await self._silent(group, empty))

    async def close(self) -> None:
        """Leave every group and close the connections. Closing twice is allowed."""
        asking = [task for _, task in self._asking.values()]
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        async with AsyncExitStack() as ending:  # each of them, whatever fails
            ending.push_async_callback(self._link.close)
            ending.push_async_callback(self._publisher.close)
            for subscription in self._subscriptions:
                ending.push_async_callback(subscription.close)

    # topics and groups

    async def _ensure(self, topic: str) -> int:
        """Find or declare a topic with the groups that have to get it; return its partitions."""
        async with self._declaring:
            if topic not in self._topics:
                await self._link.connection()  # what is refused here concerns every topic
                try:
                    self._topics[topic] = await self._declared(topic)
                except BrokerError as error:
                    raise TopicRefused.of(topic, error) from error
            return self._topics[topic]

    async def _declared(self, topic: str) -> int:
        count = await self._exchange(topic)
        for group in sorted(self._groups):
            if topic in self._groups[group]:
                await self._queues(group, topic, count)
        return count

    async def _declare(self, group: str, topics: Sequence[str]) -> Mapping[str, int]:
        counts = {topic: await self._ensure(topic) for topic in topics}
        for topic, count in counts.items():
            await self._queues(group, topic, count)
        return counts

    async def _exchange(self, topic: str) -> int:
        count = self._wanted or _PARTITIONS
        try:
            await self._exchange_of(topic, count)
        except BrokerError as error:
            found = _CURRENT.search(str(error))
            if found is None:
                raise
            count = int(found[1])
            if self._wanted is not None:
                raise BrokerError(
                    f"the topic {topic} has {count} partitions, and {self._wanted} were asked for.",
                    fix="A key would change its partition. "
                    "Leave the number out to take the topic's own.",
                ) from error
            await self._exchange_of(topic, count)
        return count

    async def _exchange_of(self, topic: str, count: int) -> None:
        """Declare a topic. RabbitMQ compares the exchange for the unheard, and so the number."""
        unheard = self._settings.unheard(count)
        async with self._link.aside() as channel, talking(f"declaring the topic {topic}"):
            await channel.exchange_declare(
                self._settings.exchange(topic),
                exchange_type="direct",
                durable=True,
                arguments={"alternate-exchange": unheard},
            )
            await channel.exchange_declare(unheard, exchange_type="fanout", durable=True)

    async def _queues(self, group: str, topic: str, count: int) -> None:
        async with self._link.aside() as channel, talking(f"declaring {topic} for {group}"):
            for number in range(count):
                queue = self._settings.queue(group, Partition(topic, number))
                await channel.queue_declare(queue, durable=True, arguments=dict(_QUEUE))
                await channel.queue_bind(queue, self._settings.exchange(topic), str(number))

    def _forget(self, topics: Collection[str]) -> None:
        for topic in topics:
            self._topics.pop(topic, None)

    def _tell_unheard(self, topics: Collection[str]) -> None:
        """Take note that events went to no queue. Raises `Unknown` if a group was to get them."""
        promised = {topic for heard in self._groups.values() for topic in heard} & set(topics)
        if promised:
            self._forget(promised)
            raise Unknown(
                f"the queues of {', '.join(sorted(promised))} are gone; they are declared again",
                reason=Reason.SERVER_ERROR,
            )
        for topic in set(topics) - self._warned:
            self._warned.add(topic)
            LOGGER.warning("no group is declared for %s: what is published to it is gone", topic)

    # lag

    async def _count(
        self, group: str, partitions: Sequence[Partition]
    ) -> tuple[list[tuple[int, float | None]], Collection[Partition], Sequence[Partition]]:
        """Return events and first publish of each partition, and the partitions nobody told of.

        With those that nobody reads and that have no events, as far as RabbitMQ says.
        """
        found: list[tuple[int, float | None]] = []
        owned: set[Partition] = set()
        empty: list[Partition] = []
        for partition, (events, consumers) in (await self._waiting(group, partitions)).items():
            if consumers:
                owned.add(partition)
            elif events:
                async with self._peeking:
                    at = await self._peek(group, partition)
                if at is None:
                    owned.add(partition)  # somebody has it by now
                else:
                    found.append((events, at))
            else:
                empty.append(partition)
        if owned:
            for partition, events, at in await self._ask(group, owned):
                if partition in owned:
                    owned.discard(partition)
                    found.append((events, at))
        return found, owned, empty

    async def _silent(self, group: str, empty: Sequence[Partition]) -> frozenset[Partition]:
        """Return those of which RabbitMQ says the same because their queue does not answer.

        As of half a minute ago at most. Who does not wait for the answer finds it the next time.
        """
        if not empty:
            return frozenset()
        queues = {self._settings.queue(group, partition): partition for partition in empty}
        until, task = self._asking.get(group, (0.0, None))
        if task is None or time.monotonic() > until:
            work = unanswered(self._settings, list(queues), within=_PEEK)
            task = asyncio.create_task(work, name=f"asking the queues of {group}")
            self._asking[group] = time.monotonic() + _ASKED, task
        try:
            silent = await asyncio.shield(task)
        except (BrokerUnavailable, BrokerError):
            self._asking.pop(group, None)
            raise
        return frozenset(queues[one] for one in silent & queues.keys())

    async def _waiting(
        self, group: str, partitions: Sequence[Partition]
    ) -> Mapping[Partition, tuple[int, int]]:
        """Return how many records wait in each queue that there is, and its consumers."""
        found = {}
        async with AsyncExitStack() as opened:
            channel = await opened.enter_async_context(self._link.aside())
            for partition in partitions:
                queue = self._settings.queue(group, partition)
                try:
                    async with talking(f"counting {partition} of {group}"):
                        told = await channel.queue_declare(queue, passive=True)
                except BrokerError as error:
                    if not isinstance(
                        error.__cause__, import_aiormq().exceptions.ChannelNotFoundEntity
                    ):
                        raise
                    # RabbitMQ has closed the other one
                    channel = await opened.enter_async_context(self._link.aside())
                    continue
                found[partition] = told.message_count or 0, told.consumer_count or 0
        return found

    async def _ask(
        self, group: str, owned: Collection[Partition]
    ) -> Sequence[tuple[Partition, int, float | None]]:
        """Ask the members what they own; return what was told in time."""
        told: list[tuple[Partition, int, float | None]] = []
        complete = asyncio.Event()
        number = secrets.token_hex(8)

        async def answered(message: DeliveredMessage) -> None:
            if message.header.properties.correlation_id == number:
                told.extend(msgspec.json.decode(message.body, type=Counted).partitions)
                if {partition for partition, _, _ in told}.issuperset(owned):
                    complete.set()

        from pamqp.commands import Basic  # noqa: PLC0415  an optional dependency

        exchange = self._settings.members(group)
        me = self._settings.asker(number)
        async with self._link.aside(me) as channel, talking(f"asking the members of {group}"):
            await channel.queue_bind(me, exchange, me)
            await channel.basic_consume(me, answered, no_ack=True)
            await channel.basic_publish(
                msgspec.json.encode(Asked()),
                exchange=exchange,
                routing_key=EVERYBODY,
                properties=Basic.Properties(reply_to=me, correlation_id=number),
            )
            await wait_until(complete, _ASK)
        return told

    async def _peek(self, group: str, partition: Partition) -> float | None:
        """Return when the first record of a queue without an owner was published.

        It is read as its owner would, alone and with as many others, and all are given back. None
        if somebody else has become the owner.
        """
        seen: asyncio.Future[float] = asyncio.get_running_loop().create_future()

        async def arrived(message: DeliveredMessage) -> None:
            if not seen.done():
                seen.set_result(delivery_of(partition, 0, message).published)

        owner = self._settings.owner(group, partition)
        try:
            async with self._link.aside(owner) as channel:
                async with talking(f"looking into {partition} of {group}"):
                    await channel.basic_qos(prefetch_count=PREFETCH)
                    await channel.basic_consume(self._settings.queue(group, partition), arrived)
                async with asyncio.timeout(_PEEK):
                    return await seen
        except TimeoutError:
            return None
        except BrokerUnavailable as error:
            if isinstance(error.__cause__, import_aiormq().exceptions.ChannelLockedResource):
                return None
            raise
