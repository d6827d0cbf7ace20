"""Holding a topic back in the outboxes, for brokers that cannot: Kafka, RabbitMQ, NATS, SQS.

A hold is a row in the database of each service that publishes. Relays read those rows with each
*beat* (`shares.py`), which is between two batches, and publish nothing of a held topic from then
on. So when a relay has beaten after the row was there, nothing of the topic is under way through
it, and nothing will be. A beat shows, because it moves the relay's `expires`. A relay without
events does not beat; it may not publish without a beat either, once its leases have run out. What
it had begun before that is over when the topic has no rows any more, or after `UNDERWAY` seconds.
A relay of a release that knows no holds would go on: while there is one, nothing can be held.

Whoever waits renews the hold. One that has lapsed meanwhile, because it was short or this process
was stopped, is none: relays have published since, and all begins again.

The number of partitions is not ours to change there: the broker's own tool does it while the topic
is held, and services look at it when they start.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final

from switchgear.database.port import Database
from switchgear.errors import BrokerError, OperationError
from switchgear.events.brokers.port import Broker, BrokerUnavailable
from switchgear.events.shares import HEEDS, UNDERWAY, locked
from switchgear.events.sql import now

__all__ = ["WITHIN", "NotSettled", "OutboxHolds", "beaten", "its_own_tool"]

_LOOK: Final = 0.05
WITHIN: Final = 2.0 * UNDERWAY
"""Seconds for which relays are waited for."""
_RENEW: Final = 5.0
"""Seconds after which a hold is renewed while we wait, at most; a third of it, if that is less."""
_LEAST: Final = 1.0
"""Seconds of a hold that is renewed, at least."""


class NotSettled(BrokerError):
    """A topic could not be rearranged: somebody has not handled all of it yet."""

    code = "SG623"


class OutboxHolds:
    """The holds of a system whose broker has none; see `Arrangeable` for what it does.

    `outboxes` are the databases of the services that publish, by name; `groups` are those that read
    the topic. `within` is for how many seconds relays are waited for at most: one that was killed
    may have something under way for a minute after its leases.
    """

    def __init__(
        self,
        broker: Broker,
        outboxes: Mapping[str, Database],
        groups: Iterable[str],
        *,
        within: float = WITHIN,
    ) -> None:
        self._broker = broker
        self._outboxes = outboxes
        self._groups = sorted(groups)
        self._within = within
        self._held: set[str] = set()

    async def hold(self, topic: str, seconds: float) -> Mapping[str, int]:
        """Let no relay publish `topic` for so long; return who is behind, and how far.

        The first time, and when a hold has lapsed, it waits until nothing of it is under way.
        Raises `BrokerUnavailable` if the broker cannot tell who is behind, `NotSettled` if relays
        could not be waited for, and `OperationError` while there is one that knows no holds; what
        was not held before is not held then.
        """
        until = time.monotonic() + self._within
        fresh = not await self._renew(topic, seconds)
        try:
            return await self._settled(topic, seconds, until, lapsed=fresh)
        except (NotSettled, OperationError):
            if fresh:
                await self.release(topic)
            raise

    async def release(self, topic: str, partitions: int | None = None) -> None:
        """Let `topic` be published again. Raises `BrokerError` for another number of partitions."""
        if partitions is not None:
            raise its_own_tool()
        self._held.discard(topic)
        for database in self._outboxes.values():
            async with database.transaction() as tx:
                await tx.run("DELETE FROM switchgear_outbox_hold WHERE topic = ?", topic)

    async def _settled(
        self, topic: str, seconds: float, until: float, *, lapsed: bool
    ) -> Mapping[str, int]:
        """Return who is behind; the topic is quiet before, and held all the while."""
        while True:
            if lapsed or topic not in self._held:
                self._held.discard(topic)
                await self._quiet(topic, seconds, until)
                self._held.add(topic)
            behind = await self._behind(topic)
            # the broker may have taken long to tell
            lapsed = not await self._renew(topic, seconds)
            if not lapsed:
                return behind
            if time.monotonic() > until:
                raise NotSettled(
                    f"the hold of {topic} for {seconds:g} seconds ends before it is known who is "
                    "behind.",
                    fix="Hold it for longer.",
                )

    async def _renew(self, topic: str, seconds: float) -> bool:
        """Hold the topic in every outbox; tell whether it was held in each."""
        databases = self._outboxes.values()
        return all(await asyncio.gather(*(_hold(each, topic, seconds) for each in databases)))

    async def _quiet(self, topic: str, seconds: float, until: float) -> None:
        """Wait until nothing of a topic that is held by now is under way."""

        async def renew() -> bool:
            await self._all_heed()
            return await self._renew(topic, max(seconds, _LEAST))

        await self._all_heed()
        await beaten(
            self._outboxes,
            topic,
            until=until,
            renew=renew,
            every=min(seconds / 3.0, _RENEW),
            underway=UNDERWAY,
        )

    async def _all_heed(self) -> None:
        """Raise `OperationError` while there is a relay that knows no holds."""
        for name, database in self._outboxes.items():
            relays = await _relays(database)
            old = [one for one, _, over in relays if over < 0 and not one.startswith(HEEDS)]
            if old:
                raise OperationError(
                    f"the relay {', '.join(sorted(old))} is of an earlier release, and holds "
                    "nothing back.",
                    where=f"the outbox of {name}",
                    fix="Let every process of the service run this release, and do it again.",
                )

    async def _behind(self, topic: str) -> Mapping[str, int]:
        behind = {}
        for group in self._groups:
            lag = await self._broker.lag(group, [topic])
            if lag.silent:
                names = ", ".join(sorted(map(str, lag.silent)))
                raise BrokerUnavailable(f"how far {group} is in {names} is not told")
            if lag.events:
                behind[group] = lag.events
        return behind


def its_own_tool() -> BrokerError:
    """Return what is raised where another number of partitions is asked for."""
    return BrokerError(
        "this broker's own tool changes the number of partitions.",
        fix="Hold the topic, use the tool when everybody has read it, restart the services, and "
        "release it; docs/how-to/rearrange-a-topic.md has the steps.",
    )


async def _hold(database: Database, topic: str, seconds: float) -> bool:
    """Hold a topic for so long, or longer if it is already; tell whether it was."""
    async with database.transaction() as tx:
        # a beat that has read the holds before is over, and shows
        await locked(tx)
        clock = now(tx.dialect)
        held = await tx.run(
            f"SELECT 1 FROM switchgear_outbox_hold WHERE topic = ? AND expires > {clock}",  # noqa: S608  a constant
            topic,
        )
        await tx.run(
            "INSERT INTO switchgear_outbox_hold (topic, expires) "  # noqa: S608  a constant
            f"VALUES (?, {clock} + ?) ON CONFLICT (topic) DO UPDATE SET expires = excluded.expires "
            "WHERE excluded.expires > switchgear_outbox_hold.expires",
            topic,
            seconds,
        )
    return bool(held)


async def beaten(
    databases: Mapping[str, Database],
    topic: str,
    *,
    until: float,
    renew: Callable[[], Awaitable[bool]],
    every: float,
    underway: float = 0.0,
) -> None:
    """Wait until every relay has beaten, or its leases have run out: it knows what is written now.

    With `underway`, also until nothing of `topic` can be on its way any more that one without
    leases had begun before: for so many seconds after them, while there are rows of it. `renew` is
    called each `every` seconds; if it tells that a hold had lapsed, all begins again. Raises
    `NotSettled` at `until`, a time of the monotonic clock.
    """
    left = dict(databases)
    before = await _beats(databases)
    renew_at = time.monotonic() + every
    while left:
        if time.monotonic() >= renew_at:
            if not await renew():
                left, before = dict(databases), await _beats(databases)
            renew_at = time.monotonic() + every
        waited: list[str] = []
        for name, database in list(left.items()):
            found = await _relays(database)
            # as of before: a row that is not there was published, by whoever had it
            waits = await _waits(database, topic)
            relays = [
                relay
                for relay, expires, over in found
                if before[name].get(relay) == expires and (over < 0 or (waits and over < underway))
            ]
            waited += [f"{relay} of {name}" for relay in relays]
            if not relays:
                del left[name]
        if waited and time.monotonic() > until:
            raise NotSettled(
                f"the relay {', '.join(sorted(waited))} may still be publishing to {topic}.",
                fix="Do it again. One that was killed is waited for for a minute, and for longer "
                "if the clock of its database was set back.",
            )
        if left:
            await asyncio.sleep(_LOOK)


async def _beats(databases: Mapping[str, Database]) -> Mapping[str, Mapping[str, float]]:
    """Return for each outbox when the leases of its relays end, which moves with every beat."""
    return {
        name: {relay: expires for relay, expires, _ in await _relays(database)}
        for name, database in databases.items()
    }


async def _relays(database: Database) -> Sequence[tuple[str, float, float]]:
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
