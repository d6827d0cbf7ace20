"""A member of a Kafka group: a thread that talks to librdkafka, and a loop that asks it.

The thread reads ahead, up to a bound, and then waits until half of it is taken. Meanwhile it asks
now and then, for one record, so that it stays in the group. Only where that lasts does it pause its
partitions: librdkafka then forgets what it has fetched, and takes most of a second after the end of
a pause until it fetches again. The rules where the two meet:

- The broker assigns. What it wants back is told (`revoking`), and the thread answers the broker
  when all of it was released; until then nobody else gets it, for at most `_HANDOVER` seconds.
- What was lost is told (`lost`) and no longer committed. A commit is fenced by the broker: it
  carries the member's epoch.
- A thread that did not run for longer than a lease (the machine slept) owns nothing for certain
  until the broker has taken a commit from it again.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from switchgear.events.brokers.kafka_client import (
    LOGGER,
    KafkaSettings,
    failure,
    headers_of,
    import_kafka,
    text,
)
from switchgear.events.brokers.port import (
    BrokerUnavailable,
    Delivery,
    LeaseLost,
    Partition,
    Polled,
)

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

__all__ = ["KafkaSubscription"]

_ASK: Final = 0.05
_BATCH: Final = 500
_AHEAD: Final = 2_000
"""Records that are read ahead."""
_AHEAD_BYTES: Final = 16_000_000
_FULL: Final = 1.0
"""Seconds for which enough may wait before the partitions are paused."""
_HANDOVER: Final = 30.0
_COMMITTED: Final = 10.0
_REJOIN: Final = 1.0
_CERTAIN: Final = 0.8
"""The part of a lease during which its owner acts on it without asking again."""
_SESSION_LEAST: Final = 6.0
"""What brokers accept at least as the session timeout of the classic protocol, by default."""


class _Fatal(Exception):
    """The consumer cannot go on: another one has to be made."""

    def __init__(self, error: KafkaError) -> None:
        super().__init__(error.str())
        codes = import_kafka().KafkaError
        self.unknown = error.code() == codes._UNSUPPORTED_FEATURE or (  # noqa: SLF001  its name
            "API version not supported" in error.str()  # the code only says that it is fatal
        )
        """The brokers do not know the protocol."""


@dataclass(slots=True)
class _Owned:
    position: int
    """The committed position; it never goes back."""
    waiting: deque[Delivery] = field(default_factory=deque)
    paused: bool = False


class KafkaSubscription:
    """One member of a group. The broker makes it; see `Subscription` for what it does."""

    def __init__(
        self,
        settings: KafkaSettings,
        group: str,
        topics: Sequence[str],
        *,
        lease: float,
        closed: Callable[[KafkaSubscription], None],
    ) -> None:
        self.group = group
        self._kafka = import_kafka()
        self._settings = settings
        self._topics = topics
        self._lease = lease
        self._on_closed = closed
        self._loop = asyncio.get_running_loop()
        self._owned: dict[Partition, _Owned] = {}
        self._assigned: dict[Partition, int] = {}
        self._names: dict[tuple[str, int], Partition] = {}
        """By topic and number on the wire."""
        self._revoking: set[Partition] = set()
        self._lost: set[Partition] = set()
        self._ahead = 0
        self._ahead_bytes = 0
        self._sent = self._sent_bytes = 0
        """What the thread has handed over; the loop counts what it has taken over, and is late."""
        self._got = self._got_bytes = 0
        self._turn = 0
        self._news = asyncio.Event()
        self._failure: Exception | None = None
        self._lock = threading.Condition()
        self._asked_back: set[Partition] = set()
        """Guarded by the lock: what the thread waits for to be released."""
        self._wishes: deque[Callable[[Consumer], None]] = deque()
        """What the thread is to do. The driver lets one thread in at a time, and starves others."""
        self._alive_at = time.monotonic()
        self._certain = True
        self._ending = False
        self._full_since: float | None = None
        """Since when enough waits."""
        self._held = False
        """Whether the thread has paused the partitions for that reason."""
        self._thread = threading.Thread(target=self._work, name=f"kafka {group}", daemon=True)

    def start(self) -> None:
        """Join the group."""
        self._thread.start()

    # the loop's side

    async def poll(self, limit: int, wait: float) -> Polled:
        """Return changes of ownership and records; see `Subscription.poll`."""
        deadline = self._loop.time() + wait
        while True:
            self._news.clear()
            if self._failure is not None:
                failed, self._failure = self._failure, None
                raise failed
            deliveries = self._take(limit)
            if deliveries or self._assigned or self._revoking or self._lost:
                return self._told(deliveries)
            remaining = deadline - self._loop.time()
            if remaining <= 0:
                return Polled()
            with suppress(TimeoutError):
                async with asyncio.timeout(remaining):
                    await self._news.wait()

    def owns(self, partition: Partition) -> bool:
        """Tell whether the partition is certainly still this member's."""
        recent = time.monotonic() - self._alive_at < self._lease * _CERTAIN
        return partition in self._owned and recent and self._certain

    async def commit(self, positions: Mapping[Partition, int]) -> None:
        """Record positions durably; see `Subscription.commit`."""
        lost = positions.keys() - self._owned.keys()
        held = {
            partition: position
            for partition, position in positions.items()
            if partition not in lost and position > self._owned[partition].position
        }
        if held:
            await self._in_thread(lambda consumer: self._commit(consumer, held))
            for partition, position in held.items():
                if partition in self._owned:
                    self._owned[partition].position = position
        if lost:
            raise LeaseLost(self.group, lost)

    def pause(self, partitions: Collection[Partition]) -> None:
        """Deliver nothing from `partitions` for now."""
        self._set_paused(partitions, paused=True)

    def resume(self, partitions: Collection[Partition]) -> None:
        """Deliver from `partitions` again."""
        self._set_paused(partitions, paused=False)
        self._news.set()

    async def release(self, partitions: Collection[Partition]) -> None:
        """Give up what the broker has asked back."""
        for partition in partitions:
            self._forget(partition)
        with self._lock:
            self._asked_back.difference_update(partitions)
            self._lock.notify()

    async def close(self) -> None:
        """Leave the group. Closing twice is allowed."""
        with self._lock:
            self._ending = True
            self._lock.notify()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)
        self._owned.clear()
        self._on_closed(self)

    async def _in_thread(self, work: Callable[[Consumer], None]) -> None:
        """Let the thread do `work`, and wait for it."""
        done: asyncio.Future[None] = self._loop.create_future()

        def wish(consumer: Consumer) -> None:
            try:
                work(consumer)
            except Exception as error:  # noqa: BLE001  raised where it is waited for
                self._tell(_settle, done, error)
            else:
                self._tell(_settle, done, None)

        self._wish(wish)
        if not self._thread.is_alive():
            raise BrokerUnavailable(f"{self.group} has left Kafka")
        await done

    def _wish(self, work: Callable[[Consumer], None]) -> None:
        self._wishes.append(work)
        with self._lock:
            self._lock.notify()

    def _take(self, limit: int) -> list[Delivery]:
        """Take records that wait, from another partition first each time."""
        names = [one for one, found in self._owned.items() if found.waiting and not found.paused]
        if not names or limit <= 0:
            return []
        self._turn = (self._turn + 1) % len(names)
        taken: list[Delivery] = []
        for left, name in zip(
            range(len(names), 0, -1), names[self._turn :] + names[: self._turn], strict=True
        ):
            waiting = self._owned[name].waiting
            share = -(-(limit - len(taken)) // left)
            taken += [waiting.popleft() for _ in range(min(share, len(waiting)))]
        self._ahead -= len(taken)
        self._ahead_bytes -= sum(len(one.value) for one in taken)
        if self._full_since is not None and self._has_room():
            with self._lock:
                self._lock.notify()
        return taken

    def _told(self, deliveries: Sequence[Delivery]) -> Polled:
        told = Polled(self._assigned, frozenset(self._revoking), frozenset(self._lost), deliveries)
        self._assigned, self._revoking, self._lost = {}, set(), set()
        return told

    def _set_paused(self, partitions: Collection[Partition], *, paused: bool) -> None:
        """Hold records back here at once, and tell the thread to fetch no more of them."""
        changed = [one for one in partitions if one in self._owned]
        for partition in changed:
            found = self._owned[partition]
            if found.paused != paused:
                found.paused = paused
                # what waits behind a pause is no reason to read nothing else ahead
                self._count(found.waiting, -1 if paused else 1)
        names = self._wire(changed)
        self._wish(lambda consumer: consumer.pause(names) if paused else consumer.resume(names))

    def _count(self, waiting: Collection[Delivery], sign: int) -> None:
        self._ahead += sign * len(waiting)
        self._ahead_bytes += sign * sum(len(one.value) for one in waiting)

    def _forget(self, partition: Partition) -> None:
        found = self._owned.pop(partition, None)
        self._assigned.pop(partition, None)
        self._revoking.discard(partition)
        if found is not None and not found.paused:
            self._count(found.waiting, -1)

    def _begin(self, positions: Mapping[Partition, int]) -> None:
        for partition, position in positions.items():
            self._owned[partition] = _Owned(position)
            self._assigned[partition] = position
            self._lost.discard(partition)
        self._certain = True
        self._news.set()

    def _ask_back(self, partitions: Collection[Partition]) -> None:
        self._revoking.update(partitions)
        self._news.set()

    def _lose(self, partitions: Collection[Partition]) -> None:
        for partition in partitions:
            if partition in self._owned:
                self._forget(partition)
                self._lost.add(partition)
        self._news.set()

    def _arrive(
        self, arrived: Mapping[Partition, Sequence[Delivery]], count: int, size: int
    ) -> None:
        self._got += count
        self._got_bytes += size
        for partition, deliveries in arrived.items():
            found = self._owned.get(partition)
            if found is not None:
                found.waiting.extend(deliveries)
                if not found.paused:
                    self._count(deliveries, 1)
        self._news.set()

    def _fail(self, error: Exception) -> None:
        self._failure = error
        self._news.set()

    # the thread's side

    def _join(self, protocol: str) -> Consumer:
        settings: dict[str, Any] = {
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 100,
            "queued.max.messages.kbytes": 32_768,
            **self._settings.client,
            "group.id": self._settings.prefix + self.group,
            "group.protocol": protocol,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
        }
        if protocol == "classic":
            settings["partition.assignment.strategy"] = "cooperative-sticky"
            session = max(self._lease, _SESSION_LEAST)
            settings.setdefault("session.timeout.ms", int(session * 1000))
            settings.setdefault("heartbeat.interval.ms", int(session * 1000 / 3))
        consumer: Consumer = self._kafka.Consumer(settings, logger=LOGGER)
        consumer.subscribe(
            [self._settings.prefix + topic for topic in self._topics],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )
        return consumer

    def _work(self) -> None:
        protocol = self._settings.protocol or "consumer"
        while not self._ending:
            try:
                consumer = self._join(protocol)
                try:
                    self._serve(consumer)
                finally:
                    self._follow_wishes(consumer)
                    consumer.close()
            except _Fatal as error:
                if self._settings.protocol is None and protocol == "consumer" and error.unknown:
                    LOGGER.info("the brokers of %s have no KIP-848: classic protocol", self.group)
                    protocol = "classic"
                    continue
                self._tell(self._fail, BrokerUnavailable(str(error), cause=error))
                time.sleep(_REJOIN)
            except Exception as error:  # noqa: BLE001  raised where somebody waits for it
                self._tell(self._fail, error)
                time.sleep(_REJOIN)

    def _serve(self, consumer: Consumer) -> None:
        self._alive_at = time.monotonic()
        self._full_since, self._held = None, False
        while not self._ending:
            self._tick(consumer)
            self._follow_wishes(consumer)
            full = self._bound(consumer)
            first = consumer.poll(0 if full else _ASK)
            if first is not None:
                self._hand_over([first, *(() if full else consumer.consume(_BATCH, 0))])

    def _tick(self, consumer: Consumer) -> None:
        """Take note that the thread runs; after a long sleep, ask the broker who we are."""
        slept = time.monotonic() - self._alive_at
        if slept > self._lease * _CERTAIN:
            self._certain = False
        if not self._certain:
            with suppress(self._kafka.KafkaException):
                ours = consumer.assignment()
                if ours:
                    # committing what is committed changes nothing, and is refused if we are out
                    known = consumer.committed(ours, timeout=_COMMITTED)
                    for one in known:
                        one.offset = max(0, one.offset)
                    consumer.commit(offsets=known, asynchronous=False)
                self._certain = True
        self._alive_at = time.monotonic()

    def _follow_wishes(self, consumer: Consumer) -> None:
        while self._wishes:
            with suppress(self._kafka.KafkaException):  # not ours any more: nothing to do
                self._wishes.popleft()(consumer)

    def _bound(self, consumer: Consumer) -> bool:
        """Tell whether enough waits, once it has waited for a moment for that to change."""
        now = time.monotonic()
        if self._full_since is None and self._share() >= 1:
            self._full_since = now
        with self._lock:
            if self._full_since is not None and not self._has_room() and not self._wishes:
                self._lock.wait(_ASK)
        if self._full_since is None:
            return False
        if self._has_room():
            self._full_since = None
            if self._held:
                self._held = False
                # what was assigned just now, and held with the others, the loop may not know yet
                paused = {one for one, found in list(self._owned.items()) if found.paused}
                ours = consumer.assignment()
                consumer.resume([one for one in ours if self._partition(one) not in paused])
            return False
        if not self._held and now - self._full_since > _FULL:
            self._held = True
            consumer.pause(consumer.assignment())
        return True

    def _share(self) -> float:
        count = self._ahead + self._sent - self._got
        size = self._ahead_bytes + self._sent_bytes - self._got_bytes
        return max(count / _AHEAD, size / _AHEAD_BYTES)

    def _has_room(self) -> bool:
        return self._share() < 0.5  # noqa: PLR2004  half

    def _hand_over(self, messages: Sequence[Message]) -> None:
        arrived: dict[Partition, list[Delivery]] = {}
        for message in messages:
            error = message.error()
            if error is None:
                delivery = self._delivery(message)
                arrived.setdefault(delivery.partition, []).append(delivery)
            elif error.fatal() or error.code() == self._kafka.KafkaError._FATAL:  # noqa: SLF001  as below
                raise _Fatal(error)
            elif error.code() != self._kafka.KafkaError._PARTITION_EOF:  # noqa: SLF001  its name
                self._tell(self._fail, failure(error, f"reading as {self.group}"))
        if arrived:
            size = sum(len(one.value) for some in arrived.values() for one in some)
            self._sent += len(messages)
            self._sent_bytes += size
            self._tell(self._arrive, arrived, len(messages), size)

    def _delivery(self, message: Message) -> Delivery:
        key = message.key()
        return Delivery(
            self._named(message.topic() or "", message.partition() or 0),
            message.offset() or 0,
            None if key is None else text(key),
            headers_of(message),
            _bytes(message.value()),
            message.timestamp()[1] / 1000,
        )

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        positions = {self._partition(one): 0 for one in partitions}
        # without an answer librdkafka asks again by itself, and reading begins in the right place
        with suppress(self._kafka.KafkaException):
            for one in consumer.committed(partitions, timeout=_COMMITTED) if partitions else ():
                positions[self._partition(one)] = max(0, one.offset)
        # told first: no record arrives before its partition is known
        self._tell(self._begin, positions)
        consumer.incremental_assign(partitions)
        if self._held and partitions:
            consumer.pause(partitions)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        names = {self._partition(one) for one in partitions}
        if not self._ending:
            with self._lock:
                self._asked_back |= names
            self._tell(self._ask_back, names)
            until = time.monotonic() + _HANDOVER
            while time.monotonic() < until:
                self._alive_at = time.monotonic()
                # not under the lock: a commit takes a while, and the loop would wait for it
                self._follow_wishes(consumer)
                with self._lock:
                    if not self._waits_for(names):
                        break
                    if not self._wishes:
                        self._lock.wait(_ASK)
            with self._lock:
                self._asked_back -= names
        self._tell(self._lose, names)
        consumer.incremental_unassign(partitions)

    def _waits_for(self, names: set[Partition]) -> bool:
        return bool(self._asked_back & names) and not self._ending

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._tell(self._lose, [self._partition(one) for one in partitions])
        consumer.incremental_unassign(partitions)

    def _commit(self, consumer: Consumer, positions: Mapping[Partition, int]) -> None:
        codes = self._kafka.KafkaError
        try:
            done = consumer.commit(offsets=self._wire(positions, positions), asynchronous=False)
        except self._kafka.KafkaException as caught:
            error = caught.args[0]
        else:
            refused = [one.error for one in done or [] if one.error is not None]
            if not refused:
                return
            error = refused[0]
        gone = {
            codes.UNKNOWN_MEMBER_ID,
            codes.ILLEGAL_GENERATION,
            codes.FENCED_MEMBER_EPOCH,
            codes._ASSIGNMENT_LOST,  # noqa: SLF001  its name
        }
        if error.code() in gone:
            raise LeaseLost(self.group, positions.keys())
        raise failure(error, f"committing as {self.group}")

    def _tell(self, what: Callable[..., None], *args: object) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(what, *args)

    def _partition(self, one: TopicPartition) -> Partition:
        return self._named(one.topic, one.partition)

    def _named(self, topic: str, number: int) -> Partition:
        found = self._names.get((topic, number))
        if found is None:
            name = topic[len(self._settings.prefix) :]
            found = self._names[topic, number] = Partition(name, number)
        return found

    def _wire(
        self, partitions: Collection[Partition], positions: Mapping[Partition, int] | None = None
    ) -> list[TopicPartition]:
        return [
            self._kafka.TopicPartition(
                self._settings.prefix + one.topic,
                one.number,
                *(() if positions is None else (positions[one],)),
            )
            for one in partitions
        ]


def _settle(done: asyncio.Future[None], error: Exception | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)


def _bytes(value: bytes | str | None) -> bytes:
    return value.encode() if isinstance(value, str) else value or b""
