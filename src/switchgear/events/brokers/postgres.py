"""PostgreSQL as a broker: the same partitioned log as the embedded one, for many machines.

It is for a team that has PostgreSQL and does not want a second system to run. The log's tables may
be in a database of their own or in one that services use. Other processes' records are noticed by
asking, every 5 ms while there is work and down to every 50 ms when there is none; `notify` makes it
immediate by NOTIFY, which puts all commits that publish in the whole server behind one lock.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

from switchgear.database.port import DatabaseUnavailable
from switchgear.database.postgres import Postgres
from switchgear.errors import BrokerError, MissingExtra
from switchgear.events.brokers import postgres_arrange as arrange
from switchgear.events.brokers import postgres_log as log
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
from switchgear.events.brokers.postgres_group import PostgresLedger
from switchgear.events.troubles import Troubles
from switchgear.model.outcome import Unknown

if TYPE_CHECKING:
    import asyncpg

    from switchgear.events.brokers.postgres_log import Connection

__all__ = ["PostgresBroker"]

T = TypeVar("T")

_PARTITIONS: Final = 8
_ASK: Final = 0.005
_ASK_IDLE: Final = 0.05
_ASK_GONE: Final = 1.0
_ANSWER: Final = 10.0
"""Seconds for which a statement's answer is waited for: a server may vanish without a word."""
_CLEAN_EVERY: Final = 30.0
_CLEAN_PAUSE: Final = 0.02
_STOPPED: Final = "idle_in_transaction_session_timeout"
_STOPPED_FOR: Final = "5s"
_CHANNEL: Final = "switchgear_log"


class PostgresBroker:
    """A log in the database at `url`, whose tables are created at the first use.

    `partitions` is asserted for existing topics and used for new ones; None takes what is there
    and makes 8. `retention` (7 days) bounds what is kept after every group has read it; a group
    that nobody has joined for `forget` (7 days) holds nothing back. `max_bytes` is the largest
    record, headers and value together. `connections` is how many are opened at most, and `options`
    go to `asyncpg.create_pool`; without its `command_timeout` a statement may take 10 seconds.
    """

    def __init__(
        self,
        url: str,
        *,
        partitions: int | None = None,
        retention: timedelta = timedelta(days=7),
        forget: timedelta = timedelta(days=7),
        max_bytes: int = 1_000_000,
        notify: bool = False,
        connections: int = 8,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.capabilities = Capabilities(
            durable=True,
            ordered=True,
            groups=True,
            replay=True,
            exact_lag=True,
            retention=retention.total_seconds(),
            max_bytes=max_bytes,
        )
        self.heads: Mapping[int, int] = {}
        self.epochs: Mapping[str, int] = {}
        self._url = url
        given = dict(options or {})
        # who stops in the middle of a transaction must not hold up everybody who publishes
        settings = {_STOPPED: _STOPPED_FOR} | dict(given.pop("server_settings", {}))
        # `Any`: what the driver takes is its own affair
        usual: dict[str, Any] = {"min_size": 1, "max_size": connections, "command_timeout": _ANSWER}
        self._options = usual | given | {"server_settings": settings}
        self._max_bytes = max_bytes
        self._partitions = partitions
        self._age = retention.total_seconds()
        self._forget = forget.total_seconds()
        self._notify = notify
        self._pool: asyncpg.Pool | None = None
        self._database: Postgres | None = None
        self._weak = False
        self._opening = asyncio.Lock()
        self._topics: dict[str, tuple[int, ...]] = {}
        self._subscriptions: set[LeasedSubscription] = set()
        self._batching = Batching(self._append)
        self._woken = asyncio.Event()
        self._background: list[asyncio.Task[None]] = []
        self._spread = itertools.count(secrets.randbelow(1024))
        self._troubles = Troubles("the log", random.random)

    async def publish(self, records: Sequence[Record]) -> None:
        """Append `records`; those of concurrent calls share a commit."""
        check_size(records, self._max_bytes)
        for record in records:
            if record.key is not None and "\0" in record.key:
                raise BrokerError(
                    f"an event for {record.topic} has a key with the character NUL, which "
                    "PostgreSQL does not take.",
                    fix="Use a key without it.",
                )
        if records:
            await self._batching.publish(records)

    async def subscribe(
        self, group: str, topics: Sequence[str], *, lease: float = 5.0
    ) -> LeasedSubscription:
        """Join `group`; topics that do not exist yet are created."""
        parts = {topic: await self._parts(topic) for topic in topics}
        member = f"{os.getpid()}-{secrets.token_hex(6)}"
        ledger = PostgresLedger(self, group, member, parts, lease=lease)
        subscription = LeasedSubscription(
            ledger, self, group, lease=lease, closed=self._subscriptions.discard
        )
        await subscription.start()
        self._subscriptions.add(subscription)
        if not self._background:
            for work, name in ((self._watch(), "watch"), (self._clean_forever(), "retention")):
                self._background.append(asyncio.create_task(work, name=name))
        self.refresh()
        return subscription

    async def retention(self, topics: Sequence[str]) -> float | None:  # noqa: ARG002  all the same
        """Return for how many seconds records are kept after they were read."""
        return self.capabilities.retention

    async def lag(self, group: str, topics: Sequence[str]) -> Lag:
        """Return how far `group` is behind; exact."""
        return await self._look_up(lambda one: log.lag(one, group, topics))

    async def hold(self, topic: str, seconds: float) -> Mapping[str, int]:
        """Take nothing for `topic` for so long; return who is behind. See `events/arrange.py`."""
        return await self.within(lambda one: arrange.hold(one, topic, seconds))

    async def release(self, topic: str, partitions: int | None = None) -> None:
        """Take records for `topic` again, with more partitions; see `events/arrange.py`."""
        await self.within(lambda one: arrange.release(one, topic, partitions))

    async def search(self, text: bytes, topics: Sequence[str], limit: int) -> Sequence[Delivery]:  # noqa: ARG002  all
        """Return records of all topics with `text` in headers or value; see `events/trace.py`."""
        return await self._look_up(lambda one: log.search(one, text, limit))

    async def clean(self) -> int:
        """Delete what need not be kept, in small steps, and return how many records that were.

        It runs by itself every 30 seconds in each process that has subscriptions.
        """
        removed = 0
        while step := await self.within(
            lambda one: log.expire(one, age=self._age, forget=self._forget)
        ):
            removed += step
            await asyncio.sleep(_CLEAN_PAUSE)
        return removed

    async def close(self) -> None:
        """Leave every group and close the connections. Closing twice is allowed."""
        await self._batching.close()
        for subscription in list(self._subscriptions):
            with suppress(BrokerUnavailable):  # its lease ends by itself
                await subscription.close()
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        self._background.clear()
        if self._pool is not None:
            with suppress(TimeoutError):  # the pool ends its connections then
                async with asyncio.timeout(_ANSWER):
                    await self._pool.close()
            self._pool = self._database = None

    def refresh(self) -> None:
        """Look at heads and epochs soon."""
        self._woken.set()

    async def read(
        self, wanted: Sequence[tuple[Partition, int, int]], limit: int
    ) -> list[Delivery]:
        """Read records for a subscription."""
        return await self._look_up(lambda one: log.read(one, wanted, limit))

    async def within(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run `work` in a transaction; not for what must not be done twice."""
        try:
            return await self._transact(work)
        except Unknown as error:
            raise BrokerUnavailable(str(error), cause=error) from error

    async def _look_up(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run `work`, which is one statement that reads."""
        database = await self._open()
        try:
            async with database.reading() as reader:
                return await work(reader.connection)
        except DatabaseUnavailable as error:
            raise BrokerUnavailable(f"PostgreSQL is away: {error.what}", cause=error) from error

    async def _transact(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        database = await self._open()
        try:
            async with database.transaction() as tx:
                return await work(tx.connection)
        except DatabaseUnavailable as error:
            raise BrokerUnavailable(error.what, cause=error) from error

    async def _open(self) -> Postgres:
        if self._database is None:
            async with self._opening:
                if self._database is None:
                    self._database = await self._connect()
        return self._database

    async def _connect(self) -> Postgres:
        try:
            import asyncpg  # noqa: PLC0415  an optional dependency
        except ImportError as error:
            raise MissingExtra("asyncpg", "postgres") from error
        try:
            pool = await asyncpg.create_pool(self._url, **self._options)
            try:
                database = Postgres(pool)
                await database.migrate("log", log.STEPS)
                # an acknowledged publish has to survive a crash, whatever the database's default is
                self._weak = await pool.fetchval("SHOW synchronous_commit") == "off"
            except BaseException:
                pool.terminate()  # the next attempt opens another
                raise
        except (
            asyncpg.InvalidAuthorizationSpecificationError,
            asyncpg.InvalidCatalogNameError,
            asyncpg.InsufficientPrivilegeError,
        ) as error:
            raise BrokerError(
                f"PostgreSQL refuses it: {error}.",
                fix="Correct the user, password, database or sslmode in the broker's URL, or give "
                "the user the right to create tables there.",
            ) from error
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise BrokerUnavailable(
                f"PostgreSQL cannot be reached: {error}", cause=error
            ) from error
        except (DatabaseUnavailable, Unknown) as error:
            raise BrokerUnavailable(error.what, cause=error) from error
        self._pool = pool
        return database

    async def _parts(self, topic: str) -> tuple[int, ...]:
        found = self._topics.get(topic)
        if found is None:
            found = await self.within(
                lambda one: log.topic_parts(one, topic, self._partitions, _PARTITIONS)
            )
            self._topics[topic] = found
        return found

    def learn(self, topics: Mapping[str, tuple[int, ...]]) -> None:
        """Take note of the partitions that topics have by now."""
        self._topics.update(topics)

    async def _append(self, records: Sequence[Record]) -> None:
        while True:
            try:
                return await self._append_to_known(records)
            except log.Rearranged as error:
                topics = [error.topic]
                self.learn(await self._look_up(lambda one: log.parts_of(one, topics)))  # noqa: B023  at once

    async def _append_to_known(self, records: Sequence[Record]) -> None:
        topics = {topic: await self._parts(topic) for topic in {one.topic for one in records}}

        async def work(connection: Connection) -> None:
            if self._weak:
                await connection.execute("SET LOCAL synchronous_commit = on")
            await log.append(connection, records, topics, next(self._spread))
            if self._notify:
                await connection.execute(f"NOTIFY {_CHANNEL}")

        await self._transact(work)
        self.refresh()

    async def _watch(self) -> None:
        """Look at heads and epochs, on one connection, again and again."""
        idle = _ASK
        while True:
            try:
                database = await self._open()
                async with database.reading() as reader:
                    connection = reader.connection
                    if self._notify:
                        await connection.add_listener(_CHANNEL, lambda *_: self._woken.set())
                    while True:
                        self._woken.clear()
                        changed = await self._look(connection)
                        idle = _ASK if changed else min(idle * 1.1, _ASK_IDLE)
                        with suppress(TimeoutError):
                            async with asyncio.timeout(idle):
                                await self._woken.wait()
            except (BrokerUnavailable, DatabaseUnavailable):
                await asyncio.sleep(_ASK_GONE)
            except Exception as error:  # noqa: BLE001  told where somebody waits for it
                for subscription in self._subscriptions:
                    subscription.fail(error)
                await asyncio.sleep(_ASK_GONE)

    async def _look(self, connection: Connection) -> bool:
        parts = [part for parts in self._topics.values() for part in parts]
        groups = [one.group for one in self._subscriptions]
        found, epochs = await log.heads(connection, parts, groups)
        changed = found != self.heads or epochs != self.epochs
        self.heads, self.epochs = found, epochs
        if changed:
            for subscription in self._subscriptions:
                subscription.notice()
        return changed

    async def _clean_forever(self) -> None:
        while True:
            await asyncio.sleep(_CLEAN_EVERY)
            try:
                await self.clean()
                self._troubles.over("retention")
            except BrokerUnavailable:
                pass  # then the next time
            except Exception as error:  # noqa: BLE001  reported; else the log would grow for ever
                self._troubles.report("retention", error)
