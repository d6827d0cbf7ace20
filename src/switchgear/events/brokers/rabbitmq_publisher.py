"""Publishing to RabbitMQ: confirmed by every queue, and never out of order by a retry.

- One channel, written to by one call at a time: each queue gets the records in that order. When the
  connection is lost each queue has a beginning of them; whoever repeats does so from the first, and
  the first copies are in order.
- What is not confirmed in time is given up together with all that is outstanding, and the
  connection with it.
- A full queue turns records away one by one, and a later record of the same key may fit again. For
  a minute after that has happened, records of one partition wait for each other's confirmation.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Collection, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from switchgear.errors import BrokerError
from switchgear.events.brokers.port import BrokerUnavailable, Record, RecordTooLarge, TopicRefused
from switchgear.events.brokers.rabbitmq_client import (
    LOGGER,
    RabbitSettings,
    connect,
    import_aiormq,
    open_channel,
    properties_of,
    talking,
)
from switchgear.model.outcome import Reason, Unknown

if TYPE_CHECKING:
    from aiormq.abc import AbstractConnection
    from aiormq.channel import Channel

__all__ = ["Link", "RabbitPublisher", "waves"]

Place = tuple[Record, int]
"""A record and its partition."""

_HEARTBEAT: Final = 10
_CLOSE: Final = 5.0
_END: Final = 1.0
"""Seconds for which one who leaves waits for what ends behind him."""
_CAREFUL: Final = 60.0
_WRITE: Final = 128_000
"""Bytes after which a writer waits until the network has taken them."""
_HEADERS_MOST: Final = 100_000
"""Headers go in one frame, of 128 KiB by default."""
_NAME_MOST: Final = 128


class Link:
    """One connection that is opened when it is needed, and again after it was lost."""

    def __init__(self, settings: RabbitSettings, name: str) -> None:
        self._settings = settings
        self._name = name
        self._opening = asyncio.Lock()
        self._connection: AbstractConnection | None = None
        self._background: set[asyncio.Task[None]] = set()

    async def connection(self) -> AbstractConnection:
        """Return the connection. Raises `BrokerUnavailable`, or `BrokerError` if it is refused."""
        async with self._opening:
            if self._connection is None or self._connection.is_closed:
                self._connection = await connect(self._settings, self._name, heartbeat=_HEARTBEAT)
            return self._connection

    async def channel(self, *, confirms: bool = False) -> Channel:
        """Open a channel on it."""
        return await open_channel(await self.connection(), confirms=confirms)

    @asynccontextmanager
    async def aside(self, queue: str | None = None) -> AsyncIterator[Channel]:
        """Open a channel for a while, and `queue`, which nobody else can have meanwhile.

        Both end however this is left, in a task that nobody cancels: a queue that stayed would be
        there as long as the connection, and nobody else could have it. Raises `BrokerUnavailable`,
        or `BrokerError` if it is refused.
        """
        channel = await self.channel()
        declaring = self._do(_declare(channel, queue))
        try:
            await asyncio.shield(declaring)
            yield channel
        finally:
            ending = self._do(self._end(channel, queue, declaring))
            await asyncio.wait({ending}, timeout=_END)

    async def close(self) -> None:
        """End the connection, and with it everything that waits on it."""
        if self._connection is not None:
            await self._hang_up(self._connection)
        if self._background:
            await asyncio.wait(self._background, timeout=_CLOSE)

    async def _hang_up(self, connection: AbstractConnection) -> None:
        if self._connection is connection:
            self._connection = None
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE):
                await connection.close()

    async def _end(
        self, channel: Channel, queue: str | None, declaring: asyncio.Task[None]
    ) -> None:
        """End what was opened aside; what cannot be ended ends with the connection."""
        await asyncio.wait({declaring})
        failed = declaring.exception()
        try:
            async with talking("ending what was opened aside"):
                await channel.close()
                if queue is not None and failed is None:
                    # after what was read on the channel was given back
                    other = await open_channel(channel.connection)
                    await other.queue_delete(queue)
                    await other.close()
        except (BrokerUnavailable, BrokerError) as error:
            failed = error
        else:
            if failed is None or not isinstance(failed.__cause__, TimeoutError):
                return  # without an answer, the queue may be there
        if not channel.connection.is_closed:
            LOGGER.warning("the connection is closed, or what is on it would stay: %s", failed)
            await self._hang_up(channel.connection)

    def _do(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task


class RabbitPublisher:
    """Publishes on a connection of its own; `within` bounds a publish in seconds."""

    def __init__(self, settings: RabbitSettings, *, within: float) -> None:
        self._settings = settings
        self._within = within
        self._link = Link(settings, "switchgear publishing")
        self._opening = asyncio.Lock()
        self._channel: Channel | None = None
        self._ids = itertools.count(1)
        self._given_up: Channel | None = None
        self._ending: asyncio.Task[None] | None = None
        self._careful_until = 0.0

    async def publish(self, places: Sequence[Place]) -> Collection[str]:
        """Publish in order; return the topics of which some record went to no queue at all.

        Raises `Unknown` if not all are confirmed, `BrokerUnavailable`, or `BrokerError`.
        """
        _check_headers(places)
        unheard: set[str] = set()
        careful = asyncio.get_running_loop().time() < self._careful_until
        for wave in waves(places) if careful else [places]:
            unheard.update(await self._send(wave))
        return unheard

    async def close(self) -> None:
        """Close the connection; whoever waits for a confirmation gets `Unknown`."""
        self._channel = None
        await self._link.close()

    async def _send(self, places: Sequence[Place]) -> Collection[str]:
        known = import_aiormq().exceptions
        channel = await self._open()
        waiting: list[asyncio.Future[Any]] = []
        try:
            async with asyncio.timeout(self._within):
                async with channel.lock:
                    if self._channel is not channel:
                        raise BrokerUnavailable("publishing: the connection was given up")
                    try:
                        await self._write(channel, places, waiting)
                    except BaseException:
                        # the numbers of what was not sent would be those of what comes next
                        self._channel = None
                        self._ending = asyncio.create_task(channel.close())
                        raise
                await asyncio.wait(waiting)
        except TimeoutError:
            await self._give_up(channel)
            raise Unknown(
                f"RabbitMQ did not confirm within {self._within:g} s", reason=Reason.TIMEOUT
            ) from None
        except (known.AMQPError, known.ChannelInvalidStateError, OSError) as error:
            if waiting:
                raise await self._ended(error, places) from error
            raise BrokerUnavailable("publishing: the connection was lost", cause=error) from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise _lost(None) from None
        return await self._outcome(places, waiting)

    async def _write(
        self,
        channel: Channel,
        places: Sequence[Place],
        waiting: list[asyncio.Future[Any]],
    ) -> None:
        """Write all, and put what each is confirmed by into `waiting`.

        The driver's own method takes a task for each message, and 64 of them a turn of the loop.
        """
        from aiormq.abc import ChannelFrame  # noqa: PLC0415  an optional dependency
        from pamqp.commands import Basic  # noqa: PLC0415
        from pamqp.header import ContentHeader  # noqa: PLC0415

        at = time.time()
        buffer: list[bytes] = []
        size = 0
        for record, number in places:
            identity = f"{next(self._ids):x}"
            properties = properties_of(record.key, record.headers, at)
            frames = [
                Basic.Publish(
                    exchange=self._settings.exchange(record.topic),
                    routing_key=str(number),
                    mandatory=True,
                ),
                ContentHeader(
                    properties=Basic.Properties(message_id=identity, **properties),
                    body_size=len(record.value),
                ),
                *_bodies(record.value, channel.max_content_size),
            ]
            payload = ChannelFrame.marshall(channel.number, frames).payload
            channel.delivery_tag += 1
            confirmation = channel.create_future()
            channel.confirmations[channel.delivery_tag] = confirmation
            channel.message_id_delivery_tag[identity] = channel.delivery_tag
            confirmation.add_done_callback(_forget(channel, identity))
            waiting.append(confirmation)
            buffer.append(payload)
            size += len(payload)
            if size > _WRITE:
                drained = channel.create_future()
                await channel.write_queue.put(ChannelFrame(b"".join(buffer), False, drained))
                await drained
                buffer, size = [], 0
        if buffer:
            await channel.write_queue.put(ChannelFrame(b"".join(buffer), False))

    async def _outcome(
        self, places: Sequence[Place], waiting: Sequence[asyncio.Future[Any]]
    ) -> Collection[str]:
        known = import_aiormq().exceptions
        turned_away = 0
        unheard = set()
        for (record, _), confirmation in zip(places, waiting, strict=True):
            error = None if confirmation.cancelled() else confirmation.exception()
            if isinstance(error, known.DeliveryError):
                turned_away += 1
            elif error is not None or confirmation.cancelled():
                raise await self._ended(error, places)
            elif hasattr(confirmation.result(), "delivery"):
                unheard.add(record.topic)
        if turned_away:
            self._careful_until = asyncio.get_running_loop().time() + _CAREFUL
            raise Unknown(
                f"RabbitMQ turned {turned_away} of {len(places)} events away: a queue is full",
                reason=Reason.NOT_EXECUTED,
            )
        return unheard

    async def _ended(self, error: BaseException | None, places: Sequence[Place]) -> Unknown:
        """Return what is raised when the channel ended after something was written to it.

        Raises `BrokerError` if RabbitMQ ended it because of these records, and not because of those
        of another call: all that is outstanding ends with the channel.
        """
        known = import_aiormq().exceptions
        refusals = (
            known.ChannelAccessRefused,
            known.ChannelNotFoundEntity,
            known.ChannelPreconditionFailed,
        )
        if isinstance(error, refusals):
            says = " ".join(map(str, error.args))
            for record, _ in places:
                ours = f"'{self._settings.exchange(record.topic)}'" in says
                if ours or f"message size {len(record.value)} " in says:
                    try:
                        async with talking(f"publishing to {record.topic}"):
                            raise error
                    except BrokerError as refusal:
                        if not ours:
                            raise
                        raise TopicRefused.of(record.topic, refusal) from error
        return _lost(error)

    async def _open(self) -> Channel:
        async with self._opening:
            if self._channel is None or self._channel.is_closed:
                self._channel = await self._link.channel(confirms=True)
            return self._channel

    async def _give_up(self, channel: Channel) -> None:
        """Let all that is outstanding fail, together; the first who finds out does it."""
        if self._given_up is not channel:
            self._given_up = channel
            LOGGER.warning("what RabbitMQ does not confirm is given up, and published again")
            await self.close()


def waves(places: Iterable[Place]) -> list[list[Place]]:
    """Return the places in groups, each with one of a partition at most, in their order."""
    found: list[list[Place]] = []
    depth: dict[tuple[str, int], int] = {}
    for record, number in places:
        level = depth.get((record.topic, number), 0)
        depth[record.topic, number] = level + 1
        if level == len(found):
            found.append([])
        found[level].append((record, number))
    return found


async def _declare(channel: Channel, queue: str | None) -> None:
    if queue is not None:
        async with talking(f"declaring the queue {queue}"):
            await channel.queue_declare(queue, exclusive=True)


def _check_headers(places: Sequence[Place]) -> None:
    for record, _ in places:
        size = len((record.key or "").encode())
        for name, value in record.headers.items():
            size += len(name) + len(value.encode())
            if len(name.encode()) > _NAME_MOST:
                raise BrokerError(
                    f"an event for {record.topic} has a header whose name has more than "
                    f"{_NAME_MOST} bytes, which AMQP does not take.",
                    fix="Give it a shorter name.",
                )
        if size > _HEADERS_MOST:
            raise RecordTooLarge(record.topic, size, _HEADERS_MOST)


def _bodies(value: bytes, most: int) -> list[Any]:
    from pamqp.body import ContentBody  # noqa: PLC0415  an optional dependency

    return [ContentBody(value[at : at + most]) for at in range(0, len(value), most)]


def _forget(channel: Channel, identity: str) -> Any:
    return lambda _: channel.message_id_delivery_tag.pop(identity, None)


def _lost(error: BaseException | None) -> Unknown:
    return Unknown(
        "the connection to RabbitMQ was lost before it confirmed",
        reason=Reason.RESET,
        cause=error,
    )
