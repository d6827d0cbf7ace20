"""The embedded broker: a partitioned log in one SQLite file, shared by the processes of a machine.

It keeps everything the port asks for, without a server: durable publishes (`synchronous=FULL`),
consumer groups with leases, replay, exact lag. It is for one machine: SQLite's locks do not work
over network file systems.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import secrets
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final, TypeVar

from switchgear.database.port import DatabaseUnavailable
from switchgear.database.sqlite import Sqlite, Synchronous
from switchgear.events.brokers import sqlite_arrange as arrange
from switchgear.events.brokers import sqlite_log as log
from switchgear.events.brokers.batching import Batching, check_size
from switchgear.events.brokers.leased import LeasedSubscription
from switchgear.events.brokers.port import (
    BrokerUnavailable,
    Capabilities,
    Delivery,
    Lag,
    Partition,
    Record,
)
from switchgear.events.brokers.sqlite_group import SqliteLedger
from switchgear.events.troubles import Troubles
from switchgear.events.watch import Watch
from switchgear.model.outcome import Unknown

__all__ = ["SqliteBroker"]

_T = TypeVar("_T")

_INLINE: Final = 64
"""Up to so many records are read on the event loop: a thread costs more than they do."""
_PARTITIONS: Final = 8
_CLEAN_EVERY: Final = 30.0
_CLEAN_PAUSE: Final = 0.02


class SqliteBroker:
    """A log in the file `path`, created with its tables at the first use.

    `partitions` is asserted for existing topics and used for new ones; None takes what is there
    and makes 8. `retention` (7 days) and `retention_bytes` (per partition, unbounded) bound what is
    kept after every group has read it; a group that nobody has joined for `forget` (7 days) holds
    nothing back. `max_bytes` is the largest record, headers and value together; the default is
    Kafka's, so that what fits here fits there. `synchronous` is SQLite's.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        partitions: int | None = None,
        retention: timedelta = timedelta(days=7),
        retention_bytes: int | None = None,
        forget: timedelta = timedelta(days=7),
        max_bytes: int = 1_000_000,
        synchronous: Synchronous = "FULL",
    ) -> None:
        self.capabilities = Capabilities(
            durable=synchronous == "FULL",
            ordered=True,
            groups=True,
            replay=True,
            exact_lag=True,
            retention=retention.total_seconds(),
            max_bytes=max_bytes,
        )
        self.path = Path(path)
        self.heads: Mapping[int, int] = {}
        self.epochs: Mapping[str, int] = {}
        self._max_bytes = max_bytes
        self._partitions = partitions
        self._retention = log.Retention(
            retention.total_seconds(), retention_bytes, forget.total_seconds()
        )
        self._database = Sqlite(self.path, synchronous=synchronous)
        self._watch = Watch(self._database, self.refresh)
        self._eyes: sqlite3.Connection | None = None
        self._opening = asyncio.Lock()
        self._topics: dict[str, tuple[int, ...]] = {}
        self._subscriptions: set[LeasedSubscription] = set()
        self._batching = Batching(self._append)
        self._cleaning: asyncio.Task[None] | None = None
        self._spread = itertools.count(secrets.randbelow(1024))
        self._troubles = Troubles("the log", random.random)

    def __repr__(self) -> str:
        return f"SqliteBroker({str(self.path)!r})"

    async def publish(self, records: Sequence[Record]) -> None:
        """Append `records`; those of concurrent calls share a commit."""
        check_size(records, self._max_bytes)
        if records:
            await self._open()
            await self._batching.publish(records)

    async def subscribe(
        self, group: str, topics: Sequence[str], *, lease: float = 5.0
    ) -> LeasedSubscription:
        """Join `group`; topics that do not exist yet are created."""
        await self._open()
        try:
            partitions = await self._write(
                lambda connection: {
                    topic: log.topic_parts(
                        connection,
                        topic,
                        # of what is known it was asked; it may have got more meanwhile
                        None if topic in self._topics else self._partitions,
                        _PARTITIONS,
                    )
                    for topic in topics
                }
            )
        except Unknown as error:  # repeating it is harmless
            raise BrokerUnavailable(str(error), cause=error) from error
        self._topics.update(partitions)
        member = f"{os.getpid()}-{secrets.token_hex(6)}"
        ledger = SqliteLedger(self._database, group, member, partitions, lease=lease)
        subscription = LeasedSubscription(
            ledger, self, group, lease=lease, closed=self._subscriptions.discard
        )
        await subscription.start()
        self._subscriptions.add(subscription)
        self.refresh()
        return subscription

    async def retention(self, topics: Sequence[str]) -> float | None:  # noqa: ARG002  all the same
        """Return for how many seconds records are kept after they were read."""
        return self.capabilities.retention

    async def lag(self, group: str, topics: Sequence[str]) -> Lag:
        """Return how far `group` is behind; exact."""
        await self._open()
        try:
            return await self._database.read(lambda one: log.lag(one, group, topics))
        except DatabaseUnavailable as error:
            raise BrokerUnavailable(str(error), cause=error) from error

    async def hold(self, topic: str, seconds: float) -> Mapping[str, int]:
        """Take nothing for `topic` for so long; return who is behind. See `events/arrange.py`."""
        await self._open()
        return await self._write(lambda one: arrange.hold(one, topic, seconds))

    async def release(self, topic: str, partitions: int | None = None) -> None:
        """Take records for `topic` again, with more partitions; see `events/arrange.py`."""
        await self._open()
        await self._write(lambda one: arrange.release(one, topic, partitions))
        self.refresh()

    async def search(self, text: bytes, topics: Sequence[str], limit: int) -> Sequence[Delivery]:  # noqa: ARG002  all
        """Return records of all topics with `text` in headers or value; see `events/trace.py`."""
        await self._open()
        try:
            return await self._database.read(lambda one: log.search(one, text, limit))
        except DatabaseUnavailable as error:
            raise BrokerUnavailable(str(error), cause=error) from error

    async def clean(self) -> int:
        """Delete what need not be kept, in small steps, and return how many records that were.

        It runs by itself every 30 seconds.
        """
        await self._open()
        removed = 0
        while await self._database.read(lambda one: log.expire(one, self._retention, dry=True)):
            removed += await self._write(lambda one: log.expire(one, self._retention))
            await asyncio.sleep(_CLEAN_PAUSE)  # let publishers in between two steps
        return removed

    async def close(self) -> None:
        """Stop watching and close the file. Closing twice is allowed."""
        await self._batching.close()
        if self._cleaning is not None:
            self._cleaning.cancel()
            await asyncio.gather(self._cleaning, return_exceptions=True)
            self._cleaning = None
        self._watch.stop()
        for subscription in list(self._subscriptions):
            await subscription.close()
        await self._database.close()
        if self._eyes is not None:
            self._eyes.close()
            self._eyes = None

    def refresh(self) -> None:
        """Look at heads and epochs, and tell the subscriptions that they concern."""
        if self._eyes is None:
            return
        try:
            self.heads, self.epochs = log.heads(self._eyes)
        except sqlite3.OperationalError:
            # busy while another process recovers the log: the next look will do
            asyncio.get_running_loop().call_later(_CLEAN_PAUSE, self.refresh)
            return
        for subscription in self._subscriptions:
            subscription.notice()

    async def read(
        self, wanted: Sequence[tuple[Partition, int, int]], limit: int
    ) -> list[Delivery]:
        """Read records for a subscription: few of them here, many in a reader thread."""
        behind = sum(self.heads.get(part, 0) - position for _, part, position in wanted)
        try:
            if self._eyes is not None and min(behind, limit) <= _INLINE:
                return log.read(self._eyes, wanted, min(limit, _INLINE))
            return await self._database.read(lambda one: log.read(one, wanted, limit))
        except (DatabaseUnavailable, sqlite3.OperationalError) as error:
            raise BrokerUnavailable(str(error), cause=error) from error

    def _is_open(self) -> bool:
        return self._eyes is not None

    async def _open(self) -> None:
        if self._is_open():
            return
        async with self._opening:
            if self._is_open():
                return
            try:
                await self._database.migrate("broker", log.SCHEMA)
            except (DatabaseUnavailable, Unknown) as error:
                raise BrokerUnavailable(str(error), cause=error) from error
            eyes = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            eyes.execute("PRAGMA query_only=ON")
            self._eyes = eyes
            self._watch.start()
            self._cleaning = asyncio.create_task(self._clean_forever(), name="retention")

    async def _write(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        try:
            return await self._database.write(work)
        except DatabaseUnavailable as error:
            raise BrokerUnavailable(str(error), cause=error) from error

    async def _append(self, records: Sequence[Record]) -> None:
        spread = next(self._spread)
        appended = await self._write(
            lambda connection: log.append(
                connection,
                records,
                self._topics,
                at=time.time(),
                spread=spread,
                partitions=self._partitions,
                default=_PARTITIONS,
            )
        )
        self._topics.update(appended.topics)
        self.refresh()

    async def _clean_forever(self) -> None:
        while True:
            await asyncio.sleep(_CLEAN_EVERY)
            try:
                await self.clean()
                self._troubles.over("retention")
            except (BrokerUnavailable, DatabaseUnavailable, Unknown):
                pass  # then the next time
            except Exception as error:  # noqa: BLE001  reported; else the log would grow for ever
                self._troubles.report("retention", error)
