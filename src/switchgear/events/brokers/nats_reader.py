"""Reading partitions of a stream ahead, each through a consumer of its own that keeps no state.

JetStream's consumers here only deliver: no acknowledgements, in memory, gone when nobody pulls. One
begins at the position that the group has, and where anything may have been lost (the connection, a
gap in its count, silence) it is replaced by one that begins behind what arrived last.

- One pull is open at a time, for as many records as there is room for. It waits at the server, so
  a record that is published arrives at once, and an idle reader costs a heartbeat now and then.
- What arrived and was not asked for yet is bounded in records and bytes; the reader of a paused
  partition fills up to there and pulls no more.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from switchgear.errors import BrokerError
from switchgear.events.brokers.nats_client import NatsConnection, failure, import_nats
from switchgear.events.brokers.nats_headers import headers_of
from switchgear.events.brokers.nats_publisher import Topic
from switchgear.events.brokers.port import BrokerUnavailable, Delivery, Partition

if TYPE_CHECKING:
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

__all__ = ["Readers"]

_AHEAD: Final = 4_000
"""Records that all readers of a member hold together, about."""
_AHEAD_LEAST: Final = 100
_AHEAD_MOST: Final = 1_000
_BYTES: Final = 16_000_000
_EXPIRES: Final = 30.0
_HEARTBEAT: Final = 5.0
_SILENT: Final = 2.5
"""Heartbeats that may be missing before a consumer counts as lost."""
_UNUSED: Final = 20.0
"""Seconds after which the server removes a consumer that nobody pulls from."""
_AGAIN: Final = 0.2
_AGAIN_MOST: Final = 2.0
_NANO: Final = 1_000_000_000
_RECORD: Final = "$JS.ACK."
_METADATA: Final = 9
"""Tokens of a record's reply subject, where no domain and account are named (ADR-15 of NATS)."""


class _Reader:
    """Reads one partition ahead."""

    def __init__(
        self,
        connection: NatsConnection,
        partition: Partition,
        topic: Topic,
        generation: int,
        position: int,
        *,
        arrived: Callable[[], None],
        refused: Callable[[Exception], None],
    ) -> None:
        self.generation = generation
        self.room = _AHEAD_MOST
        self.bytes = _BYTES
        self._connection = connection
        self._partition = partition
        self._stream = topic.stream
        self._subject = f"{topic.subject}.{partition.number}"
        self._arrived = arrived
        self._refused = refused
        self._waiting: deque[Delivery] = deque()
        self._size = 0
        self._next = position
        self._count = 0
        self._open = 0
        self._inbox = ""
        self._subscription: Subscription | None = None
        self._pulls = 0
        self._pulling = False
        self._consumer = ""
        self._lost = True
        self.beyond = False
        """The stream ends before the next record: to be claimed anew."""
        self._heard = 0.0
        self._moved = asyncio.Event()
        self._task = asyncio.create_task(self._read(), name=f"read {partition}")
        self._task.add_done_callback(self._ended)

    @property
    def head(self) -> int:
        """Offset behind what waits here; 0 if nothing does."""
        return self._waiting[-1].offset + 1 if self._waiting else 0

    def take(self, position: int, limit: int) -> list[Delivery]:
        """Return at most `limit` of what waits, from `position` on."""
        found: list[Delivery] = []
        while self._waiting and len(found) < limit:
            one = self._waiting.popleft()
            self._size -= len(one.value)
            if one.offset >= position:
                found.append(one)
        self._moved.set()
        return found

    def lose(self) -> None:
        """Begin again behind what arrived last."""
        self._lost = True
        self._moved.set()

    def stop(self) -> asyncio.Task[None]:
        """Drop what waits, and return the task, which ends soon."""
        self._waiting.clear()
        self._task.cancel()
        return self._task

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):  # a defect: told where somebody waits for records
            self._refused(error)

    async def _read(self) -> None:
        pause = _AGAIN
        while True:
            try:
                await self._begin()
                pause = _AGAIN
                await self._follow()
            except BrokerUnavailable:
                pass  # the connection's requests say so where somebody waits
            except BrokerError as error:
                self._refused(error)
                pause = _AGAIN_MOST
            finally:
                await self._end()
            await asyncio.sleep(pause)
            pause = min(pause * 2, _AGAIN_MOST)

    async def _begin(self) -> None:
        """Make a consumer that begins at the next record."""
        self._lost = self._pulling = False
        self._count = 0
        self.beyond = self._next > 0 and self._next > await _last(self._connection, self._stream)
        if self.beyond:
            raise BrokerUnavailable(f"the stream {self._stream} ends before {self._next}")
        self._inbox, self._subscription = await self._connection.listen(self._take)
        self._consumer = f"switchgear-{secrets.token_hex(8)}"
        config = {
            "name": self._consumer,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": self._next + 1,
            "ack_policy": "none",
            "filter_subject": self._subject,
            "inactive_threshold": int(_UNUSED * _NANO),
            "mem_storage": True,
            "num_replicas": 1,
        }
        made = await self._connection.ask(
            f"CONSUMER.CREATE.{self._stream}.{self._consumer}.{self._subject}",
            {"stream_name": self._stream, "config": config},
        )
        if "error" in made:
            raise failure(made["error"], f"reading {self._subject}")

    async def _end(self) -> None:
        """Let the server forget the consumer; it would by itself, after a while."""
        subscription, self._subscription = self._subscription, None
        with contextlib.suppress(import_nats().errors.Error, BrokerUnavailable):
            if subscription is not None:
                await subscription.unsubscribe()
                await self._connection.send(
                    f"$JS.API.CONSUMER.DELETE.{self._stream}.{self._consumer}"
                )

    async def _follow(self) -> None:
        """Pull whenever there is room, until something was lost."""
        loop = asyncio.get_running_loop()
        while not self._lost:
            self._moved.clear()
            free = self.room - len(self._waiting)
            if not self._pulling and free >= self.room // 2 and self._size < self.bytes:
                await self._pull(free)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_HEARTBEAT):
                    await self._moved.wait()
            if self._pulling and loop.time() - self._heard > _HEARTBEAT * _SILENT:
                break
        self._look_why()

    async def _pull(self, count: int) -> None:
        self._open = count
        self._heard = asyncio.get_running_loop().time()
        self._pulling = True
        self._pulls += 1
        wanted = {
            "batch": count,
            "max_bytes": self.bytes,
            "expires": int(_EXPIRES * _NANO),
            "idle_heartbeat": int(_HEARTBEAT * _NANO),
        }
        await self._connection.send(
            f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}",
            json.dumps(wanted).encode(),
            reply=f"{self._inbox}.{self._pulls}",
        )

    def _take(self, message: Msg) -> None:
        self._heard = asyncio.get_running_loop().time()
        if not message.reply.startswith(_RECORD):
            self._told(message)
            return
        tokens = message.reply.split(".")
        if len(tokens) > _METADATA:
            tokens = tokens[2:]
        if tokens[3] != self._consumer:
            return  # one that was replaced
        sequence, count, published = int(tokens[5]), int(tokens[6]), int(tokens[7])
        if count != self._count + 1:
            self.lose()
            return
        self._count = count
        key, headers = headers_of(message.headers)
        place = sequence - 1
        self._waiting.append(
            Delivery(self._partition, place, key, headers, message.data, published / _NANO)
        )
        self._size += len(message.data)
        self._next = place + 1
        self._open -= 1
        if not self._open:
            self._pulling = False
            self._moved.set()
        if len(self._waiting) == 1:
            self._arrived()

    def _told(self, message: Msg) -> None:
        """Take a message of the server itself, by its status (ADR-13 of NATS)."""
        found: Mapping[str, Any] = message.headers or {}
        status, why = found.get("Status"), str(found.get("Description", "")).lower()
        if status == "100" or not message.subject.endswith(f".{self._pulls}"):
            return  # a heartbeat, or the end of a pull that is known to have ended
        self._pulling = False
        if status in {"404", "408"} or (status == "409" and ("batch" in why or "maxbytes" in why)):
            self._moved.set()  # the pull has ended: another one
        else:
            self.lose()  # the consumer is gone, or its leader is

    def _look_why(self) -> None:
        """Raise `BrokerError` if nothing comes because this user may not pull."""
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}".lower()
        refusal = self._connection.forbidden.pop(subject, None)
        if refusal is not None:
            raise refusal


async def _last(connection: NatsConnection, stream: str) -> int:
    """Return the number of a stream's last record, which may be gone by now; 0: none yet."""
    return int((await connection.info(stream))["state"]["last_seq"])


class Readers:
    """The readers of one member: what a `LeasedSubscription` sees of the log."""

    def __init__(self, connection: NatsConnection, topics: Mapping[str, Topic]) -> None:
        self.epochs: dict[str, int] = {}
        self.notify: Callable[[], None] = lambda: None
        """Called when records wait where none did; set before the first partition is owned."""
        self.fail: Callable[[Exception], None] = lambda _: None
        """Called when a partition cannot be read; set likewise."""
        self._connection = connection
        self._topics = topics
        self._readers: dict[int, _Reader] = {}
        self._ending: set[asyncio.Task[None]] = set()
        connection.listeners.add(self._lose)

    @property
    def heads(self) -> Mapping[int, int]:
        """Offset behind what has arrived, by partition."""
        return {part: reader.head for part, reader in self._readers.items()}

    @property
    def beyond(self) -> Collection[int]:
        """Where the next record is behind the end of the stream, by partition."""
        return [part for part, reader in self._readers.items() if reader.beyond]

    async def last(self, topic: str) -> int:
        """Return the number of the topic's last record, which may be gone by now; 0: none yet."""
        return await _last(self._connection, self._topics[topic].stream)

    def refresh(self) -> None:
        """Nothing has to be looked up: it is delivered."""

    async def read(
        self, wanted: Sequence[tuple[Partition, int, int]], limit: int
    ) -> list[Delivery]:
        """Return at most `limit` of the records that have arrived, an equal share of each."""
        await asyncio.sleep(0)  # or who asks without a pause would keep the others from arriving
        found: list[Delivery] = []
        share = max(1, limit // len(wanted))
        for least in (share, limit):  # then what others have left
            for _, part, position in wanted:
                reader = self._readers.get(part)
                room = min(least, limit - len(found))
                if reader is None or not room:
                    continue
                found += reader.take(position, room)
        return found

    def own(self, owned: Mapping[Partition, tuple[int, int, int]]) -> None:
        """Read these and no others: id, generation and position, by partition."""
        self.drop(
            [
                part
                for part, reader in self._readers.items()
                if not any(held[:2] == (part, reader.generation) for held in owned.values())
            ]
        )
        for partition, (part, generation, position) in owned.items():
            if part not in self._readers:
                self._readers[part] = _Reader(
                    self._connection,
                    partition,
                    self._topics[partition.topic],
                    generation,
                    position,
                    arrived=self.notify,
                    refused=self.fail,
                )
        share = max(1, len(self._readers))
        for reader in self._readers.values():
            reader.room = max(_AHEAD_LEAST, min(_AHEAD_MOST, _AHEAD // share))
            # a record over what a pull takes would never be delivered
            reader.bytes = max(_BYTES // share, 2 * self._connection.max_payload)

    def drop(self, parts: Collection[int]) -> None:
        """Read these no more."""
        for part in list(parts):
            reader = self._readers.pop(part, None)
            if reader is not None:
                ending = reader.stop()
                self._ending.add(ending)
                ending.add_done_callback(self._ending.discard)

    def close(self) -> None:
        """Read nothing any more."""
        self._connection.listeners.discard(self._lose)
        self.drop(self._readers)

    def _lose(self) -> None:
        for reader in self._readers.values():
            reader.lose()
