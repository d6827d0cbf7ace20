"""The relay: reads the outbox, publishes in order, deletes what is published.

The rules:

- A key is leased to one relay at a time, with the others of its part (`shares.py`). Any number of
  relays may run. What a relay that is gone held, others take over when they find events and its
  leases have expired or were given back. An idle relay writes nothing.
- Rows are read in the order of their serials among those that are *visible*, and deleted after the
  broker has them. There is no stored position, so a transaction that commits late with an early
  serial is found by the next read (`floor.py`). Of two events of which one was committed before the
  other was written, the first has the lower serial and is visible whenever the second is: it goes
  first.
- A crash between publishing and deleting publishes again, with the same ids, which inboxes
  recognise. So does a relay that was paused, lost its lease and wakes up: it repeats, in order,
  what its successor publishes, and the first copy of each event still stands in order.
- While the broker is down the relay waits, with growing pauses, and reads nothing.
- An event that is too large for its topic holds back its key, and no other. A topic that the broker
  refuses holds back its own events, and no others (`refused.py`). So does one that somebody holds
  back (`holding.py`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from switchgear.database.port import Database, Row
from switchgear.database.sqlite import Sqlite
from switchgear.errors import BrokerError
from switchgear.events.brokers.port import Broker, Record, RecordTooLarge, TopicRefused
from switchgear.events.pending import Backlog, Pending
from switchgear.events.refused import Refused
from switchgear.events.shares import HEEDS, Shares
from switchgear.events.structured import unpacked
from switchgear.events.waiting import wait_until
from switchgear.events.watch import Watch
from switchgear.model.outcome import Unavailable, Unknown
from switchgear.model.signal import Signal, SignalKind, emit, listening

__all__ = ["Backlog", "Relay"]

_log = logging.getLogger("switchgear.relay")

_POLL: Final = 0.005
_POLL_IDLE: Final = 0.25
_PAUSE: Final = 0.1
_PAUSE_MOST: Final = 10.0
_WATCHED: Final = 1.0
_UNSETTLED: Final = 0.1
_FIRST_BATCH: Final = 50
_MEMORY: Final = 8_000_000
"""Bytes that one batch should not exceed by much, going by the size of the batch before."""
_HEADERS: Final = msgspec.json.Decoder(dict[str, str])


class Relay:
    """Publishes the outbox of `database` to `broker`, shared with the other relays of the database.

    `lease` is how many seconds a relay may be silent before others take over; `batch` how many
    events go to the broker together. PostgreSQL is polled every 5 ms while there is work and every
    250 ms when idle; a SQLite file tells by itself. `wake` makes either immediate.
    """

    def __init__(
        self,
        database: Database,
        broker: Broker,
        *,
        lease: float = 5.0,
        batch: int = 1000,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._database = database
        self._broker = broker
        self._lease = lease
        self._batch = batch
        self._draw = draw
        self._pending = Pending(database)
        self._refused = Refused()
        self._shares = Shares(database, f"{HEEDS}{os.getpid()}-{secrets.token_hex(6)}", lease)
        self._woken = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._watch = Watch(database, self._woken.set) if isinstance(database, Sqlite) else None
        self._held_until = 0.0
        self._beat_at = 0.0
        self._size = _FIRST_BATCH
        self._full = False
        self._failures = 0
        self.error: str | None = None
        """Why nothing can be published at present; None while all is well."""
        self.broken = False
        """Whether `error` is one that nobody expected."""

    async def start(self) -> None:
        """Begin to publish in the background. The outbox's tables exist already."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        if self._watch is not None:
            self._watch.start()
        self._task = asyncio.create_task(self._run(), name="relay")

    def wake(self) -> None:
        """Look into the outbox now. May be called from any thread."""
        if self._loop is None or self._loop.is_closed():
            return
        if threading.get_ident() == self._thread:
            self._woken.set()
        else:
            self._loop.call_soon_threadsafe(self._woken.set)

    async def stop(self, within: float = 10.0) -> None:
        """Publish what is committed, at most for `within` seconds; then give the lease back."""
        task, self._task = self._task, None
        if task is None:
            return
        self._stopping.set()
        self._woken.set()
        _, late = await asyncio.wait([task], timeout=within)
        if late:
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if self._watch is not None:
            self._watch.stop()
        await self._give_back()
        if not task.cancelled():
            task.result()

    async def backlog(self) -> Backlog:
        """Return how many events wait, and since when."""
        return await self._pending.backlog()

    def _report(self, error: Exception) -> None:
        self.error = f"{type(error).__qualname__}: {error}"
        self.broken = True
        asyncio.get_running_loop().call_exception_handler(
            {"message": "the relay failed, and tries again", "exception": error}
        )

    async def _run(self) -> None:
        idle = _POLL
        while True:
            self._woken.clear()
            stopping = self._stopping.is_set()
            try:
                published = await self._turn()
                self._failures = 0
                self.error = self._refused.why or self._held
                self.broken = False
            except (Unavailable, Unknown, BrokerError) as error:
                published = 0
                self._failures += 1
                self.error = str(error)
                # rows may be there again below what was read: a restart of the server, a new key
                self._pending.front()
                if self._stopping.is_set():
                    return
                await self._pause()
                continue
            except Exception as error:  # noqa: BLE001  reported; else nothing is published any more
                self._failures += 1
                self._report(error)
                if self._stopping.is_set():
                    return
                await self._pause()
                continue
            if stopping and not (published or self._full):
                return
            # one that began before the stop may have looked before the last commit
            if self._full or self._stopping.is_set():
                continue
            idle = _POLL if published else min(idle * 1.2, _POLL_IDLE)
            await self._sleep(idle)

    async def _turn(self) -> int:
        """Publish one batch of what is ours; return how many events that was."""
        self._full = False
        if self._refused.again(time.monotonic()):
            self._pending.front()
        rows = await self._read()
        if time.monotonic() >= self._beat_at and (rows or await self._others_wait()):
            await self._beat()
            rows = await self._read()
        if not rows or time.monotonic() >= self._held_until:
            return 0
        self._full = len(rows) >= self._size
        size = sum(len(row[4]) for row in rows)
        self._size = max(1, min(self._batch, _MEMORY * len(rows) // max(size, 1)))
        published: list[Row] = []
        whole = False
        try:
            whole = await self._publish(rows, published)
        finally:
            # also where the rest could not be: what the broker has is not sent again
            await self._delete(published, whole=whole, gaps=len(published) < len(rows))
        return len(published)

    async def _publish(self, rows: Sequence[Row], published: list[Row]) -> bool:
        """Publish what the broker takes, each topic in order, and add it to `published`.

        Tells whether all was tried: not if the leases ended on the way. A batch with an event that
        is too large is refused before any of it is sent, so whose event it is shows in its halves.
        """
        waiting = self._refused.parted(rows)
        while waiting and time.monotonic() < self._held_until:
            some = waiting.pop(0)
            if self._refused.any:
                some = [row for row in some if not self._refused.holds(row)]
            if not some:
                continue
            try:
                await self._broker.publish(
                    [Record(row[1], row[2], _HEADERS.decode(row[3]), row[4]) for row in some]
                )
            except RecordTooLarge as error:
                if len(some) == 1:
                    self._refused.add(some[0], error, time.monotonic())
                else:
                    middle = len(some) // 2
                    waiting[:0] = [some[:middle], some[middle:]]
            except TopicRefused as error:
                if self._refused.add_topic(some, error, time.monotonic()):
                    _log.warning("%s In the outbox all of %s waits.", error, error.topic)
                waiting.insert(0, some)  # the others of it
            else:
                published += some
                for topic in self._refused.taken(some):
                    _log.info("%s is published again", topic)
        return not waiting

    async def _delete(self, published: list[Row], *, whole: bool, gaps: bool) -> None:
        """Delete what is published of a batch, and tell of it; `whole`: the rest is held back.

        `gaps`: not all of the batch is published.
        """
        if published:
            published.sort(key=_serial)
            gaps = gaps or self._refused.any or bool(self._shares.held)
            await self._pending.delete(published, gaps=gaps)
        if not whole:
            self._pending.front()
        if listening():
            for row in published:
                _tell(row)

    async def _read(self) -> Sequence[Row]:
        if not self._shares.parts or time.monotonic() >= self._held_until:
            return []
        parts = None if self._shares.all else self._shares.parts
        return await self._pending.read(parts, self._size, self._refused, self._shares.held)

    @property
    def _held(self) -> str | None:
        """What is held back, if anything is."""
        topics = ", ".join(sorted(self._shares.held))
        return f"held back until it has been rearranged: {topics}" if topics else None

    async def _others_wait(self) -> bool:
        """Tell whether events wait that are not ours: whoever has them may be gone."""
        held = self._shares.all and time.monotonic() < self._held_until
        return not held and await self._pending.any()

    async def _beat(self) -> None:
        """Renew what is held, and take and give what is due."""
        began, held = time.monotonic(), self._shares.held
        if await self._shares.beat() or self._shares.held != held:
            self._pending.front()
        self._held_until = began + self._lease
        self._beat_at = began + (self._lease / 3 if self._shares.settled else _UNSETTLED)

    async def _give_back(self) -> None:
        try:
            await self._shares.leave()
        except (Unavailable, Unknown):
            return  # it expires by itself

    async def _pause(self) -> None:
        most = min(_PAUSE * 2.0 ** min(self._failures - 1, 10), _PAUSE_MOST)
        await wait_until(self._stopping, most * (1.0 - self._draw() / 2))

    async def _sleep(self, idle: float) -> None:
        await wait_until(self._woken, _WATCHED if self._watch is not None else idle)


def _serial(row: Row) -> int:
    number: int = row[0]
    return number


def _tell(row: Row) -> None:
    headers, _ = unpacked(_HEADERS.decode(row[3]), row[4])
    emit(
        Signal(
            SignalKind.EVENT_PUBLISHED,
            headers["ce-type"],
            {
                "event": headers["ce-id"],
                "source": headers["ce-source"],
                "topic": row[1],
                "key": row[2],
            },
        )
    )
