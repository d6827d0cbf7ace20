"""A member of a group on RabbitMQ: who the others are, what it owns, and what it has read.

RabbitMQ knows nothing of partitions, so the rules of `group.py` decide and RabbitMQ is the witness:

- A member *is* a queue that only its connection can have. Each beat tells all members what it owns,
  through an exchange of the group, and asks RabbitMQ for the others' queues: one that is gone was a
  member. RabbitMQ ends a connection that is silent for two to three heartbeats.
- What is told goes through another connection. RabbitMQ stops reading from one that publishes when
  it is short of memory or disk, and consumers have to go on acknowledging then.
- To own a partition is to have its *owner queue*, which only one connection can have, and to be
  the consumer of the group's queue. That one has a single active consumer: whatever a former
  owner had not acknowledged goes back, in order, before another gets anything.
- Deliveries are numbered, from a number that grows with the clock, so that no two ownerships use
  the same. A commit acknowledges all below, and is certain when RabbitMQ has answered on that
  channel afterwards. A channel that has ended commits nothing: `LeaseLost`.
- Whoever reads a queue takes `PREFETCH` records, always. What a reader gives back, RabbitMQ puts
  behind what others gave back before, so one that took fewer would turn the two around (seen on
  3.10); nobody leaves anything behind who takes as many as the one before.
- What is owned is read once its queue answers (`rabbitmq_asking.py`), beside the beats. One that
  does not stays its owner's, counts in his share, and is asked again now and then.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from switchgear.errors import BrokerError
from switchgear.events.brokers.group import Beat, Lease, Member, plan
from switchgear.events.brokers.leased import LeasedSubscription
from switchgear.events.brokers.port import BrokerUnavailable, Delivery, Partition
from switchgear.events.brokers.rabbitmq_asking import unanswered
from switchgear.events.brokers.rabbitmq_client import (
    LOGGER,
    RabbitSettings,
    connect,
    import_aiormq,
    open_channel,
    talking,
)
from switchgear.events.brokers.rabbitmq_owned import Owned
from switchgear.events.brokers.rabbitmq_publisher import Link

if TYPE_CHECKING:
    from aiormq.abc import AbstractConnection, DeliveredMessage
    from aiormq.channel import Channel

__all__ = ["EVERYBODY", "Asked", "Counted", "Here", "Left", "RabbitMember", "heartbeat"]

T = TypeVar("T")

EVERYBODY: Final = "everybody"
"""The routing key on a group's exchange of what is for all members; another one is a queue."""
_ALIVE: Final = float("inf")
_CLOSE: Final = 5.0
_PATIENCE: Final = 5.0
"""Seconds within which a queue has to answer before it is read."""
_AGAIN: Final = 1.0
_AGAIN_MOST: Final = 30.0
"""Seconds after which one that did not is asked again."""
_PAUSE: Final = 0.05
_PAUSE_MOST: Final = 2.0
_TELL: Final = 0.3
"""The part of a heartbeat that telling may take: who owns something has to beat again in time."""
_PER_MILLISECOND: Final = 20
"""Bits of an offset below the millisecond in which its partition was claimed."""


class Here(msgspec.Struct, tag="here", frozen=True):
    """A member tells that it lives, what it reads and what it owns."""

    member: str
    topics: frozenset[str]
    owns: frozenset[Partition]


class Left(msgspec.Struct, tag="left", frozen=True):
    """A member has given everything up."""

    member: str


class Asked(msgspec.Struct, tag="asked", frozen=True):
    """Somebody wants to know the lag; the answer is `Counted`, to where the message says."""


class Counted(msgspec.Struct, tag="counted", frozen=True):
    """What an owner's partitions are behind."""

    partitions: Sequence[tuple[Partition, int, float | None]]
    """The events of each, and when the first of them was published."""


_NEWS: Final = msgspec.json.Decoder(Here | Left | Asked)


def heartbeat(lease: float) -> int:
    """Return the heartbeat, in seconds, for which RabbitMQ notices a silent member in a lease."""
    return max(1, round(lease * 0.4))


class RabbitMember:
    """Ledger and view of one subscription; see `leased.py`.

    `declare` makes sure that the group's queues exist, and returns the partitions of the topics.
    `link` is for what is told.
    """

    def __init__(
        self,
        settings: RabbitSettings,
        link: Link,
        group: str,
        declare: Callable[[], Awaitable[Mapping[str, int]]],
        *,
        lease: float,
        closed: Callable[[LeasedSubscription], None],
    ) -> None:
        self.group = group
        self._settings = settings
        self._link = link
        self._declare = declare
        self._beat = heartbeat(lease)
        self.subscription = LeasedSubscription(
            self, self, group, lease=2.0 * self._beat, closed=closed
        )
        self._partitions: list[Partition] = []
        self._topics: dict[str, list[int]] = {}
        self._connection: AbstractConnection | None = None
        self._closing: asyncio.Future[object] | None = None
        self._control: Channel | None = None
        self._voice: Channel | None = None
        self._me = ""
        self._others: dict[str, Here] = {}
        self._owned: dict[int, Owned] = {}
        self._generation = 0
        self._epoch = 0
        self._lost = False
        self._joined = False
        self._failures = 0
        self._waking = False
        self._trouble: BrokerUnavailable | None = None
        """What went wrong when a partition was to be read."""
        self._beginning: set[asyncio.Task[None]] = set()
        self._background: set[asyncio.Task[Any]] = set()

    # the view

    @property
    def heads(self) -> Mapping[int, int]:
        """Offset after the last delivery, of what is owned."""
        return {
            part: found.base + found.received for part, found in self._owned.items() if found.told
        }

    @property
    def epochs(self) -> Mapping[str, int]:
        """A number that grows with what is heard of others, and with every loss."""
        return {self.group: self._epoch}

    def refresh(self) -> None:
        """Do nothing: what is delivered is known."""

    async def read(
        self, wanted: Sequence[tuple[Partition, int, int]], limit: int
    ) -> list[Delivery]:
        """Take what was delivered, of each partition up to an even share."""
        taken: list[Delivery] = []
        for left, (_, part, _) in zip(range(len(wanted), 0, -1), wanted, strict=True):
            found = self._owned.get(part)
            if found is not None and found.told:
                share = min(-(-(limit - len(taken)) // left), len(found.waiting))
                taken += [found.waiting.popleft() for _ in range(share)]
        return taken

    # the ledger

    async def beat(self) -> Beat:
        """Tell that this member lives, learn who else does, and claim what is due."""
        if self._lost:
            # told before anything else is tried, which may take long
            self._lost = False
            return self._nothing()
        try:
            control = await self._join()
            if control is None:
                return self._nothing()
            # heard by RabbitMQ now, so it does not end this connection within two heartbeats
            async with talking(f"beating as {self.group}", within=2.0 * self._beat):
                await control.queue_declare(self._me, passive=True)
            if self._trouble is not None:
                raise self._trouble
            self._failures = 0
            await self._tell_all()
            return await self._claim_due()
        except (BrokerUnavailable, BrokerError) as error:
            had = bool(self._owned) or self._lost
            await self._disconnect()
            self._lost, self._trouble = False, None
            if had:
                return self._nothing()  # that is told first
            self._failures += 1
            if not self._joined:
                raise
            # what was refused later, say while RabbitMQ starts, is tried again for ever
            away = _away(error)
            self.subscription.fail(away)
            raise away from error

    async def commit(
        self, positions: Mapping[Partition, tuple[int, int, int]]
    ) -> Collection[Partition]:
        """Acknowledge everything below the positions; return the partitions that are lost."""
        # the driver closes a channel whose question is cancelled, and all would be read again
        done = await asyncio.gather(
            *(asyncio.shield(self._do(self._acknowledge(*place))) for place in positions.values())
        )
        return [partition for partition, kept in zip(positions, done, strict=True) if not kept]

    async def leave(self, parts: Collection[int] | None) -> None:
        """Give `parts` up; with None, everything and the connection too."""
        if parts is None:
            try:
                await self._say_goodbye()
            except (BrokerUnavailable, BrokerError) as error:
                LOGGER.info("%s: the others were not told of a leave: %s", self.group, error)
            finally:
                await self._disconnect()
            return
        given = [found for part in parts if (found := self._owned.pop(part, None)) is not None]
        async with talking(f"releasing as {self.group}"):
            for found in given:
                await found.channel.close()
                if self._control is not None:
                    await self._control.queue_delete(
                        self._settings.owner(self.group, found.partition)
                    )
        await self._tell_all()

    # the connection

    async def _join(self) -> Channel | None:
        """Return the channel of this member; None if it has just joined, and the others answer."""
        if self._control is not None and not self._control.is_closed:
            return self._control
        await self._disconnect()
        if self._joined and self._failures:
            await asyncio.sleep(min(_PAUSE * 2.0 ** min(self._failures, 10), _PAUSE_MOST))
        counts = await self._declare()
        self._partitions = [
            Partition(topic, number) for topic in counts for number in range(counts[topic])
        ]
        self._topics = {topic: [] for topic in counts}
        for part, partition in enumerate(self._partitions):
            self._topics[partition.topic].append(part)
        connection = await connect(self._settings, f"switchgear {self.group}", heartbeat=self._beat)
        self._connection = connection
        self._closing = connection.closing
        self._closing.add_done_callback(lambda _: self._on_lost(connection))
        control = await open_channel(connection)
        exchange = self._settings.members(self.group)
        self._me = self._settings.member(secrets.token_hex(8))
        self._others = {}
        async with talking(f"joining {self.group}"):
            await control.exchange_declare(exchange, exchange_type="direct", durable=True)
            await control.queue_declare(self._me, exclusive=True)
            await control.queue_bind(self._me, exchange, EVERYBODY)
            await control.queue_bind(self._me, exchange, self._me)
            await control.basic_consume(self._me, self._on_news, no_ack=True)
        self._control = control
        self._joined = True
        await self._tell_all()
        return None

    async def _say_goodbye(self) -> None:
        if self._joined:
            await self._tell(Left(self._me))
        voice, self._voice = self._voice, None
        if voice is not None and not voice.is_closed:
            # a server that is short of memory does not hear it
            async with talking(f"leaving {self.group}", within=_CLOSE):
                await voice.close()

    async def _disconnect(self) -> None:
        """End the connection; RabbitMQ gives back what was not acknowledged."""
        connection, self._connection = self._connection, None
        self._control = None
        self._owned.clear()
        for task in self._beginning:
            task.cancel()
        await asyncio.gather(*self._beginning, return_exceptions=True)
        if connection is not None and not connection.is_closed:
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE):
                    await connection.close()

    def _on_lost(self, connection: AbstractConnection) -> None:
        if self._connection is connection:
            self._connection = self._control = None
            self._owned.clear()
            self._lost = True
            self._changed()

    def _on_channel_lost(self, part: int, found: Owned) -> None:
        if self._owned.get(part) is found:
            del self._owned[part]
            self._changed()

    def _nothing(self) -> Beat:
        return Beat({}, frozenset(), settled=False, epoch=self._epoch)

    def _do(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    def _changed(self) -> None:
        self._epoch += 1
        self.subscription.notice()

    # the others

    async def _on_news(self, message: DeliveredMessage) -> None:
        if not message.body:
            return  # somebody asks RabbitMQ whether this queue is here
        try:
            news = _NEWS.decode(message.body)
        except msgspec.DecodeError as error:
            LOGGER.warning("%s: what another member says is not understood: %s", self.group, error)
            return
        if isinstance(news, Asked):
            asked = message.header.properties
            if asked.reply_to:
                self._do(self._answer(asked.reply_to, asked.correlation_id))
        elif isinstance(news, Left):
            if self._others.pop(news.member, None) is not None:
                self._changed()
        elif news.member != self._me and self._others.get(news.member) != news:
            self._others[news.member] = news
            self._changed()

    async def _tell_all(self) -> None:
        """Tell the members what is owned, and forget those whose queue is gone."""
        owns = frozenset(one.partition for one in self._owned.values())
        await self._tell(Here(self._me, frozenset(self._topics), owns), ask=list(self._others))

    async def _tell(self, news: Here | Left, *, ask: Sequence[str] = ()) -> None:
        """Tell all members, if that can be done now, and ask for the queues of some of them."""
        exchange = self._settings.members(self.group)
        try:
            async with talking(f"telling {self.group}", within=_TELL * self._beat):
                voice = await self._speaking()
                _, *answers = await asyncio.gather(
                    voice.basic_publish(
                        msgspec.json.encode(news), exchange=exchange, routing_key=EVERYBODY
                    ),
                    *(
                        voice.basic_publish(b"", exchange=exchange, routing_key=one, mandatory=True)
                        for one in ask
                    ),
                )
        except BrokerUnavailable as error:
            LOGGER.info("%s: the others are told later: %s", self.group, error)
            return
        for other, answer in zip(ask, answers, strict=True):
            # it came back: there is no such queue
            if hasattr(answer, "delivery") and self._others.pop(other, None) is not None:
                self._changed()

    async def _speaking(self) -> Channel:
        if self._voice is None or self._voice.is_closed:
            self._voice = await self._link.channel(confirms=True)
        return self._voice

    # ownership

    async def _claim_due(self) -> Beat:
        epoch = self._epoch
        leases: dict[int, Lease] = {}
        for part, partition in enumerate(self._partitions):
            for other in self._others.values():
                if partition in other.owns:
                    leases[part] = Lease(other.member, 0, _ALIVE, 0)
        for part, found in self._owned.items():
            leases[part] = Lease(self._me, found.generation, _ALIVE, found.base)
        members = [Member(one.member, one.topics, _ALIVE) for one in self._others.values()]
        due = plan(members, leases, self._me, self._topics, now=0.0, lease=_ALIVE)
        claims = [part for part in due.leases if part not in self._owned]
        claimed = [one for part in claims if (one := await self._claim(part)) is not None]
        if claimed:
            await self._tell_all()
            self._begin(claimed)
        # nothing was read of these: nobody has anything to finish
        unread = [
            part
            for part, found in self._owned.items()
            if found.partition in due.excess and not found.reading
        ]
        if unread:
            await self.leave(unread)
        owned = {}
        for part, found in self._owned.items():
            if found.reading:
                found.told = True
                owned[found.partition] = part, found.generation, found.base
        kept = len(self._owned) == len(due.owned) - len(unread)
        settled = due.settled and len(claimed) == len(claims) and kept
        return Beat(owned, due.excess & owned.keys(), settled, epoch)

    async def _claim(self, part: int) -> Owned | None:
        """Try to become the owner of a partition."""
        if self._connection is None:
            raise BrokerUnavailable(f"{self.group}: the connection to RabbitMQ was lost")
        partition = self._partitions[part]
        channel = await open_channel(self._connection)
        known = import_aiormq().exceptions
        try:
            async with talking(f"claiming {partition} as {self.group}"):
                await channel.queue_declare(
                    self._settings.owner(self.group, partition), exclusive=True
                )
        except BrokerUnavailable as error:
            if isinstance(error.__cause__, known.ChannelLockedResource):
                return None  # another's, who has not told yet, or whose end is not noticed yet
            raise
        self._generation += 1
        base = int(time.time() * 1000) << _PER_MILLISECOND
        queue = self._settings.queue(self.group, partition)
        found = self._owned[part] = Owned(partition, queue, self._generation, channel, base)
        channel.closing.add_done_callback(lambda _: self._on_channel_lost(part, found))
        # its queue was deleted; not awaited, because the answer comes through who calls this
        channel.on_consumer_cancel_callbacks.add(lambda _: self._do(channel.close()))
        return found

    # reading

    def _begin(self, claimed: Sequence[Owned]) -> None:
        task = asyncio.create_task(self._read_all(claimed), name=f"begin {self.group}")
        self._beginning.add(task)
        task.add_done_callback(self._begun)

    def _begun(self, task: asyncio.Task[None]) -> None:
        self._beginning.discard(task)
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self.subscription.fail(error)  # a bug: say so there
            # nobody reads what it had claimed: the next beat connects, and claims it anew
            self._trouble = BrokerUnavailable(str(error), cause=error)

    async def _read_all(self, claimed: Sequence[Owned]) -> None:
        """Begin to read what was claimed, each partition once its queue answers.

        Beside the beats: a queue that does not answer costs nobody the others.
        """
        pause = _AGAIN
        while claimed := [one for one in claimed if one in self._owned.values()]:
            try:
                silent = await unanswered(
                    self._settings, [one.queue for one in claimed], within=_PATIENCE
                )
            except (BrokerUnavailable, BrokerError) as error:
                self.subscription.fail(_away(error))
            else:
                for one in claimed:
                    self._tell_silence(one, silent=one.queue in silent)
                    if one.queue not in silent:
                        await self._read(one)
            claimed = [one for one in claimed if not one.reading]
            if claimed:
                await asyncio.sleep(pause)
                pause = min(2.0 * pause, _AGAIN_MOST)

    async def _read(self, found: Owned) -> None:
        try:
            await found.read(self.group, self._wake_soon)
        except BrokerUnavailable as error:
            # without its channel it is claimed again
            LOGGER.info("%s: %s is read later: %s", self.group, found.partition, error)
        except BrokerError as error:
            # say the queue was deleted: the next beat connects and declares it again
            self._trouble = _away(error)
        self._changed()

    def _tell_silence(self, found: Owned, *, silent: bool) -> None:
        if silent == found.silent:
            return
        found.silent = silent
        if silent:
            LOGGER.warning(
                "%s: the queue %s does not answer, so nobody reads %s; other partitions go on",
                self.group,
                found.queue,
                found.partition,
            )
        else:
            LOGGER.warning("%s: the queue %s answers again", self.group, found.queue)

    async def _acknowledge(self, part: int, generation: int, position: int) -> bool:
        found = self._owned.get(part)
        if found is None or found.generation != generation:
            return False
        return await found.acknowledge(self.group, position)

    def _wake_soon(self) -> None:
        """Wake whoever polls, once for all that arrived in this turn of the loop."""
        if not self._waking:
            self._waking = True
            asyncio.get_running_loop().call_soon(self._wake)

    def _wake(self) -> None:
        self._waking = False
        self.subscription.notice()

    # lag

    async def _answer(self, to: str, number: str | None) -> None:
        """Count what is owned, and tell whoever asked."""
        from pamqp.commands import Basic  # noqa: PLC0415  an optional dependency

        # whoever asked asks again
        with suppress(BrokerUnavailable, BrokerError):
            counted = await asyncio.gather(
                *(one.count() for one in self._owned.values() if one.reading)
            )
            async with talking(f"telling the lag of {self.group}"):
                voice = await self._speaking()
                await voice.basic_publish(
                    msgspec.json.encode(Counted(counted)),
                    exchange=self._settings.members(self.group),
                    routing_key=to,
                    properties=Basic.Properties(correlation_id=number),
                )


def _away(error: BrokerUnavailable | BrokerError) -> BrokerUnavailable:
    """Return what is raised for an error after the start: what was refused is tried again."""
    if isinstance(error, BrokerUnavailable):
        return error
    return BrokerUnavailable(str(error), cause=error)
