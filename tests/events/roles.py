"""Producer, relay and consumer as processes of their own, to be killed at any moment.

    python -m tests.events.roles producer|relay|consumer BROKER-URL DATABASE-URL SEED

A database URL is `sqlite:///path` or `postgresql://...`.
"""

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache

from switchgear.database.port import Database, DatabaseUnavailable
from switchgear.database.sqlite import Sqlite
from switchgear.events.brokers.url import broker_of
from switchgear.events.bus import Bus
from switchgear.model.outcome import Unknown
from tests.events.world import OrderPlaced

KEYS = [f"k{number}" for number in range(8)]
LEASE = 1.0


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    if url.startswith("sqlite:///"):
        database = Sqlite(url.removeprefix("sqlite:///"))
        yield database
        await database.close()
    else:
        import asyncpg

        from switchgear.database.postgres import Postgres

        async with asyncpg.create_pool(url, min_size=1, max_size=4) as pool:
            yield Postgres(pool)


async def prepare(database: Database) -> None:
    """Create the tables of the test."""
    serial = "BIGSERIAL" if database.dialect == "postgres" else "INTEGER"
    for statement in (
        "CREATE TABLE entity (key TEXT PRIMARY KEY, version BIGINT NOT NULL)",
        f"CREATE TABLE effects (id {serial} PRIMARY KEY, key TEXT, number BIGINT)",
    ):
        async with database.transaction() as tx:
            await tx.run(statement)
    async with database.transaction() as tx:
        for key in KEYS:
            await tx.run("INSERT INTO entity VALUES (?, 0)", key)


async def producer(bus: Bus, dice: random.Random) -> None:
    """Raise the version of a random key and publish it, in one transaction; some are undone."""
    await bus.outbox.migrate(bus.database)
    while True:
        try:
            async with bus.database.transaction() as tx:
                for key in sorted(dice.sample(KEYS, dice.randint(1, 3))):
                    rows = await tx.run(
                        "UPDATE entity SET version = version + 1 WHERE key = ? RETURNING version",
                        key,
                    )
                    await bus.publish(tx, OrderPlaced(order_id=key, number=rows[0][0]))
                if dice.random() < 0.1:
                    raise ZeroDivisionError  # noqa: TRY301  it rolls back
            say_once()
        except (ZeroDivisionError, DatabaseUnavailable, Unknown):
            pass
        await asyncio.sleep(0.001)


async def relay(bus: Bus, dice: random.Random) -> None:
    await bus.start()
    say_once()
    await asyncio.Event().wait()


async def consumer(bus: Bus, dice: random.Random) -> None:
    """Write each event's number, or fail now and then."""

    @bus.on(OrderPlaced, name="ledger", on_failure="block_key", backoff=0.005)
    async def ledger(event, tx):
        await tx.run(
            "INSERT INTO effects (key, number) VALUES (?, ?)", event.order_id, event.number
        )
        if dice.random() < 0.05:
            raise ConnectionError("now and then")

    await bus.start()
    say_once()
    await asyncio.Event().wait()


@cache
def say_once() -> None:
    """Tell whoever started this process that it works."""
    sys.stdout.write("works\n")
    sys.stdout.flush()


async def main(role: str, broker: str, url: str, seed: str) -> None:
    async with opened(url) as database:
        bus = Bus(broker_of(broker), database, "shop", lease=LEASE)
        await {"producer": producer, "relay": relay, "consumer": consumer}[role](
            bus, random.Random(int(seed))
        )


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
