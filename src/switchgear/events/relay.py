"""The relay: reads the outbox, publishes in order, deletes what is published.

The rules:

- One relay of a database publishes at a time: it holds a lease, by the database's clock, and
  renews it while it works. Another takes over when it finds events and the lease has expired or
  was given back. An idle relay writes nothing.
- Rows are read in the order of their serials among those that are *visible*, and deleted after the
  broker has them. There is no remembered position, so a transaction that commits late with an
  early serial is found by the next read. Of two events of which one was committed before the other
  was written, the first has the lower serial and is visible whenever the second is: it goes first.
- A crash between publishing and deleting publishes again, with the same ids, which inboxes
  recognise. So does a relay that was paused, lost its lease and wakes up: it repeats, in order,
  what its successor publishes, and the first copy of each event still stands in order.
- While the broker is down the relay waits, with growing pauses, and reads nothing.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import msgspec

from switchgear.database.port import Database, Row
from switchgear.database.sqlite import Sqlite
from switchgear.errors import BrokerError
from switchgear.events.brokers.port import Broker, Record
from switchgear.events.sql import execute_many, marks, now
from switchgear.events.structured import unpacked
from switchgear.events.watch import Watch
from switchgear.model.outcome import Unavailable, Unknown
from switchgear.model.signal import Signal, SignalKind, emit, listening

__all__ = ["Backlog", "Relay"]

_POLL: Final = 0.05
_POLL_IDLE: Final = 0.25
_PAUSE: Final = 0.1
_PAUSE_MOST: Final = 10.0
_WATCHED: Final = 1.0
_FIRST_BATCH: Final = 50
_MEMORY: Final = 8_000_000
"""Bytes that one batch should not exceed by much, going by the size of the batch before."""
_HEADERS: Final = msgspec.json.Decoder(dict[str, str])


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits in an outbox."""

    events: int
    oldest: float | None
    """Age in seconds of the oldest; None if there is none."""


class Relay:
    """Publishes the outbox of `database` to `broker`, one relay per database at a time.

    `lease` is how many seconds a relay may be silent before another takes over; `batch` how many
    events go to the broker together. PostgreSQL is polled every 50 ms while there is work and every
    250 ms when idle; a SQLite file tells by itself. `wake` makes either immediate.
    """

    def __init__(
        self,
        database: Database,
        broker: Broker,
        *,
        lease: float = 5.0,
        batch: int = 500,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._database = database
        self._broker = broker
        self._lease = lease
        self._batch = batch
        self._draw = draw
        self._holder = f"{os.getpid()}-{secrets.token_hex(6)}"
        self._woken = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._watch = Watch(database, self._woken.set) if isinstance(database, Sqlite) else None
        self._held_until = 0.0
        self._renew_at = 0.0
        self._look_at = 0.0
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
        async with self._database.reading() as tx:
            rows = await tx.run(
                f"SELECT count(*), {now(tx.dialect)} - min(created) FROM switchgear_outbox"  # noqa: S608  constant
            )
        count, oldest = rows[0]
        return Backlog(count, None if oldest is None else max(0.0, oldest))

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
            try:
                published = await self._turn()
                self._failures = 0
                self.error = None
                self.broken = False
            except (Unavailable, Unknown, BrokerError) as error:
                published = 0
                self._failures += 1
                self.error = str(error)
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
            if self._full or (published and self._stopping.is_set()):
                continue
            if self._stopping.is_set():
                return
            idle = _POLL if published else min(idle * 1.2, _POLL_IDLE)
            await self._sleep(idle)

    async def _turn(self) -> int:
        """Publish one batch, if the lease is ours; return how many events that was."""
        self._full = False
        if time.monotonic() < self._look_at:
            return 0
        rows = await self._read()
        if not rows:
            return 0
        if time.monotonic() >= self._renew_at and not await self._acquire():
            self._look_at = time.monotonic() + self._lease / 3
            return 0
        if time.monotonic() >= self._held_until:
            return 0
        self._full = len(rows) >= self._size
        await self._broker.publish(
            [Record(row[1], row[2], _HEADERS.decode(row[3]), row[4]) for row in rows]
        )
        await self._delete(rows)
        size = sum(len(row[4]) for row in rows)
        self._size = max(1, min(self._batch, _MEMORY * len(rows) // max(size, 1)))
        if listening():
            for row in rows:
                _tell(row)
        return len(rows)

    async def _acquire(self) -> bool:
        """Take or renew the lease; tell whether it is ours."""
        began = time.monotonic()
        clock = now(self._database.dialect)
        async with self._database.transaction() as tx:
            rows = await tx.run(
                "INSERT INTO switchgear_relay (name, holder, generation, expires) "  # noqa: S608  constant
                f"VALUES ('outbox', ?, 1, {clock} + ?) ON CONFLICT (name) DO UPDATE SET "
                "holder = excluded.holder, expires = excluded.expires, generation = "
                "switchgear_relay.generation + "
                "CASE WHEN switchgear_relay.holder = excluded.holder THEN 0 ELSE 1 END "
                "WHERE switchgear_relay.holder = excluded.holder "
                f"OR switchgear_relay.expires < {clock} RETURNING generation",
                self._holder,
                self._lease,
            )
        if rows:
            self._renew_at = began + self._lease / 3
            self._held_until = began + self._lease
        return bool(rows)

    async def _give_back(self) -> None:
        try:
            async with self._database.transaction() as tx:
                await tx.run("DELETE FROM switchgear_relay WHERE holder = ?", self._holder)
        except (Unavailable, Unknown):
            return  # it expires by itself

    async def _read(self) -> Sequence[Row]:
        sql = "SELECT id, topic, key, headers, data FROM switchgear_outbox ORDER BY id LIMIT ?"
        async with self._database.reading() as tx:
            return await tx.run(sql, self._size)

    async def _delete(self, rows: Sequence[Row]) -> None:
        if isinstance(self._database, Sqlite):
            # serials are in the order of the commits here: nothing unread is in between
            span = (rows[0][0], rows[-1][0])
            sql = "DELETE FROM switchgear_outbox WHERE id BETWEEN ? AND ?"
            await self._database.write(lambda one: execute_many(one, sql, [span]))
            return
        async with self._database.transaction() as tx:
            await tx.run(
                f"DELETE FROM switchgear_outbox WHERE id IN ({marks(len(rows))})",  # noqa: S608  marks
                *(row[0] for row in rows),
            )

    async def _pause(self) -> None:
        most = min(_PAUSE * 2.0 ** min(self._failures - 1, 10), _PAUSE_MOST)
        await _wait(self._stopping, most * (1.0 - self._draw() / 2))

    async def _sleep(self, idle: float) -> None:
        others = self._look_at - time.monotonic()
        if others > 0.0:
            await _wait(self._stopping, others)  # the lease is another's: no commit changes that
        else:
            await _wait(self._woken, _WATCHED if self._watch is not None else idle)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


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
