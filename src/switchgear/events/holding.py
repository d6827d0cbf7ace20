"""Holding a topic back in the outboxes, for brokers that cannot: Kafka, RabbitMQ, NATS, SQS.

A hold is a row in the database of each service that publishes. Relays read those rows with each
*beat* (`shares.py`), which is between two batches, and publish nothing of a held topic from then
on. So when a relay has beaten after the row was there, nothing of the topic is under way through
it, and nothing will be. A beat shows, because it moves the relay's `expires`. A relay without
events does not beat; it may not publish without a beat either, once its leases have run out. What
it had begun before that is over when the topic has no rows any more, or after `_UNDERWAY` seconds.

The number of partitions is not ours to change there: the broker's own tool does it while the topic
is held, and services look at it when they start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from switchgear.database.port import Database
from switchgear.errors import BrokerError
from switchgear.events.brokers.port import Broker, BrokerUnavailable
from switchgear.events.sql import now

__all__ = ["OutboxHolds", "its_own_tool"]

_LOOK: Final = 0.05
_UNDERWAY: Final = 60.0
"""Seconds within which every adapter's publish ends, in one way or another."""


class OutboxHolds:
    """The holds of a system whose broker has none; see `Arrangeable` for what it does.

    `outboxes` are the databases of the services that publish, by name; `groups` are those that read
    the topic.
    """

    def __init__(
        self, broker: Broker, outboxes: Mapping[str, Database], groups: Iterable[str]
    ) -> None:
        self._broker = broker
        self._outboxes = outboxes
        self._groups = sorted(groups)
        self._held: set[str] = set()

    async def hold(self, topic: str, seconds: float) -> Mapping[str, int]:
        """Let no relay publish `topic` for so long; return who is behind, and how far.

        The first time, it waits until nothing of it is under way. Raises `BrokerUnavailable` if the
        broker cannot tell who is behind.
        """
        databases = self._outboxes.values()
        await asyncio.gather(*(_hold(database, topic, seconds) for database in databases))
        if topic not in self._held:
            await asyncio.gather(*(_quiet(database, topic) for database in databases))
            self._held.add(topic)
        behind = {}
        for group in self._groups:
            lag = await self._broker.lag(group, [topic])
            if lag.silent:
                names = ", ".join(sorted(map(str, lag.silent)))
                raise BrokerUnavailable(f"how far {group} is in {names} is not told")
            if lag.events:
                behind[group] = lag.events
        return behind

    async def release(self, topic: str, partitions: int | None = None) -> None:
        """Let `topic` be published again. Raises `BrokerError` for another number of partitions."""
        if partitions is not None:
            raise its_own_tool()
        self._held.discard(topic)
        for database in self._outboxes.values():
            async with database.transaction() as tx:
                await tx.run("DELETE FROM switchgear_outbox_hold WHERE topic = ?", topic)


def its_own_tool() -> BrokerError:
    """Return what is raised where another number of partitions is asked for."""
    return BrokerError(
        "this broker's own tool changes the number of partitions.",
        fix="Hold the topic, use the tool when everybody has read it, restart the services, and "
        "release it; docs/how-to/rearrange-a-topic.md has the steps.",
    )


async def _hold(database: Database, topic: str, seconds: float) -> None:
    async with database.transaction() as tx:
        clock = now(tx.dialect)
        await tx.run(
            "INSERT INTO switchgear_outbox_hold (topic, expires) "  # noqa: S608  a constant
            f"VALUES (?, {clock} + ?) ON CONFLICT (topic) DO UPDATE SET expires = excluded.expires "
            "WHERE excluded.expires > switchgear_outbox_hold.expires",
            topic,
            seconds,
        )


async def _quiet(database: Database, topic: str) -> None:
    """Wait until nothing of a topic that is held by now is under way."""
    before = {name: expires for name, expires, _ in await _members(database)}
    while True:
        found = await _members(database)
        # as of before: a row that is not there was published, by whoever had it
        waits = await _waits(database, topic)
        if not any(
            over < 0 or (waits and over < _UNDERWAY)
            for name, expires, over in found
            if before.get(name) == expires
        ):
            return
        await asyncio.sleep(_LOOK)


async def _members(database: Database) -> Sequence[tuple[str, float, float]]:
    """Return each relay, when its leases end, and for how long that has been over."""
    async with database.reading() as tx:
        rows = await tx.run(
            f"SELECT id, expires, {now(tx.dialect)} - expires FROM switchgear_relay_member"  # noqa: S608  a constant
        )
    return [(name, expires, over) for name, expires, over in rows]


async def _waits(database: Database, topic: str) -> bool:
    async with database.reading() as tx:
        sql = "SELECT 1 FROM switchgear_outbox WHERE topic = ? LIMIT 1"
        return bool(await tx.run(sql, topic))
