"""The outbox on PostgreSQL: what it costs who writes, and how fast and how soon it is relayed.

    python benchmarks/outbox.py [insert] [relay] [latency] [--rounds 5] [--events 20000]
                                [--json FILE]
    python benchmarks/outbox.py backlog --rows 10000000

A server of its own is started on loopback, with fsync on. Each figure is the median of the rounds
(least to most), and a ratio is taken within a round.

- `insert`: transactions of one event each on one connection: `Outbox.publish` beside an INSERT of
  the same row, by the same driver; and both inside a transaction that writes a row of its own.
- `relay`: a backlog is relayed on one connection to a broker that only counts, by our relay and by
  faststream-outbox (its subscriber with 100 rows a fetch and 16 workers, and one after the other).
- `latency`: for ten seconds, 1,000 events a second, ten to a transaction; from after the commit
  until the handler of a consumer has it, through the embedded log. For faststream-outbox its own
  subscriber is the consumer, so that its way has no broker in it.
- `backlog`: as `relay`, for `--rows` rows, and the rate of each tenth of them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Self

import asyncpg

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from services import make

from switchgear import Bus, Message, broker_of, event, field
from switchgear.database.postgres import Postgres
from switchgear.database.sqlite import Sqlite
from switchgear.events.brokers.port import Record
from switchgear.events.outbox import Outbox, Prepared
from switchgear.events.relay import Relay

RATE, SECONDS, TOGETHER = 1000, 10, 10
FILL = """
    INSERT INTO switchgear_outbox (topic, key, event, headers, data, created)
    SELECT 'bench.orders', 'order-' || i % 1000, 'e-' || i, convert_to($2, 'UTF8'),
    convert_to('{"order_id":"order-' || i % 1000 || '","sent":1790000000.123456}', 'UTF8'),
    extract(epoch FROM now()) FROM generate_series(1, $1) AS i
"""
HEADERS = json.dumps(
    {
        "ce-specversion": "1.0",
        "ce-id": "01999999-aaaa-7bbb-8ccc-dddddddddddd",
        "ce-source": "orders",
        "ce-type": "bench.Placed",
        "ce-time": "2026-01-01T00:00:00.000000Z",
        "content-type": "application/json",
    }
)
PLAIN = (
    "INSERT INTO switchgear_outbox (topic, key, event, headers, data, created) "
    "VALUES ($1, $2, $3, $4, $5, $6)"
)


@event("bench.orders", key="order_id")
class Placed(Message):
    order_id: str = field(1)
    sent: float = field(2)


class Counting:
    """A broker that does nothing."""

    def __init__(self) -> None:
        self.count = 0

    async def publish(self, records: Sequence[Record]) -> None:
        self.count += len(records)


async def insert(url: str, events: int) -> dict[str, float]:
    """Return the median of the microseconds that a transaction takes."""
    async with asyncpg.create_pool(url, min_size=1, max_size=2) as pool:
        outbox = Outbox("orders")
        await outbox.migrate(Postgres(pool))
        await pool.execute("CREATE TABLE orders (id BIGSERIAL PRIMARY KEY, amount BIGINT)")
        async with pool.acquire() as one:

            async def plain(row: Prepared) -> None:
                await one.execute(PLAIN, *row)

            async def published(row: Prepared) -> None:
                await outbox.publish(one, Placed(order_id="order-7", sent=time.time()))

            async def timed(write: Callable[[Prepared], Awaitable[None]], *, own: bool) -> float:
                row = outbox.prepare(Placed(order_id="order-7", sent=time.time()))
                began = time.perf_counter()
                async with one.transaction():
                    if own:
                        await one.execute("INSERT INTO orders (amount) VALUES (42)")
                    await write(row)
                return (time.perf_counter() - began) * 1e6

            found: dict[str, list[float]] = {}
            for _ in range(events):  # in turn, so that each meets the same moments of the disk
                for name, write, own in (
                    ("plain", plain, False),
                    ("outbox", published, False),
                    ("own and plain", plain, True),
                    ("own and outbox", published, True),
                ):
                    found.setdefault(name, []).append(await timed(write, own=own))
            return {name: statistics.median(times) for name, times in found.items()}


async def drained(url: str, rows: int, parts: int) -> list[float]:
    """Return the events a second in each part of a backlog."""
    async with asyncpg.create_pool(url, min_size=1, max_size=1) as pool:
        await Outbox("orders").migrate(Postgres(pool))
        await pool.execute(FILL, rows, HEADERS, timeout=3600)
        broker, rates = Counting(), []
        relay = Relay(Postgres(pool), broker)  # type: ignore[arg-type]  it only publishes
        began, since = time.perf_counter(), 0
        await relay.start()
        while since < rows:
            await asyncio.sleep(0.005)
            now = time.perf_counter()
            if broker.count - since >= rows // parts or broker.count == rows:
                rates.append((broker.count - since) / (now - began))
                began, since = now, broker.count
        await relay.stop()
        return rates


async def relay(url: str, events: int) -> dict[str, float]:
    """Return events a second."""
    ours = await drained(url, events, 1)
    return {
        "ours": ours[0],
        "faststream-outbox, 16 workers": await peer_relay(url, events // 10, 16),
        "faststream-outbox, in order": await peer_relay(url, events // 10, 1),
    }


async def peer_relay(url: str, events: int, workers: int) -> float:
    count, done = 0, asyncio.Event()

    async def handle(body: dict[str, object]) -> None:
        nonlocal count
        count += 1
        if count == events:
            done.set()

    async with Peer(url, f"outbox_{workers}", handle, workers) as peer:
        await peer.publish([{"order_id": f"order-{n % 1000}", "sent": 1.5} for n in range(events)])
        began = time.perf_counter()
        await peer.broker.start()
        await done.wait()
        return events / (time.perf_counter() - began)


class Peer:
    """faststream-outbox on a table of its own."""

    def __init__(self, url: str, table: str, handle: object, workers: int) -> None:
        from faststream_outbox import OutboxBroker, make_outbox_table
        from sqlalchemy import MetaData
        from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

        self._metadata = MetaData()
        self._engine = create_async_engine(
            url.replace("postgresql", "postgresql+asyncpg"), pool_size=40
        )
        made = make_outbox_table(self._metadata, table_name=table)
        self.broker = OutboxBroker(self._engine, outbox_table=made)
        self.broker.subscriber(
            "orders",
            max_workers=workers,
            fetch_batch_size=100,
            terminal_flush_batch_size=100,
            min_fetch_interval=0.005,
            max_fetch_interval=0.05,
        )(handle)
        self.session = async_sessionmaker(self._engine, expire_on_commit=False)

    async def __aenter__(self) -> Self:
        async with self._engine.begin() as connection:
            await connection.run_sync(self._metadata.create_all)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.broker.stop()
        await self._engine.dispose()

    async def publish(self, bodies: Sequence[object]) -> None:
        async with self.session() as session, session.begin():
            await self.broker.publish_batch(*bodies, queue="orders", session=session)


async def latency(url: str, folder: Path) -> dict[str, float]:
    """Return milliseconds at the median and at the 99th percentile."""
    ours, peer = await our_latency(url, folder), await peer_latency(url)
    found = {"ours": ours, "faststream-outbox": peer}
    return {
        f"{name}, p{share}": statistics.quantiles(times, n=100)[share - 1] * 1000
        for name, times in found.items()
        for share in (50, 99)
    }


async def our_latency(url: str, folder: Path) -> list[float]:
    committed: dict[str, float] = {}
    times: list[float] = []
    async with asyncpg.create_pool(url, min_size=8, max_size=24) as pool:
        broker = broker_of(f"sqlite:///{folder / 'broker.db'}?synchronous=FULL")
        producer = Bus(broker, Postgres(pool), "orders")
        database = Sqlite(folder / "consumer.db")
        consumer = Bus(broker, database, "shipping")

        async def handle(event: Placed, tx: object) -> None:
            times.append(time.perf_counter() - committed.pop(event.order_id, time.perf_counter()))

        consumer.on(Placed, name="count", on_failure="skip", handler=handle)
        await producer.start()
        await consumer.start()

        async def one(number: int) -> None:
            async with producer.database.transaction() as tx:
                names = [f"o-{number}-{n}" for n in range(TOGETHER)]
                events = [Placed(order_id=name, sent=0.0) for name in names]
                await producer.outbox.publish(tx, *events)
            committed.update(dict.fromkeys(names, time.perf_counter()))

        await at_rate(one, lambda: len(times))
        await consumer.stop()
        await producer.stop()
        await broker.close()
        await database.close()
    return times


async def peer_latency(url: str) -> list[float]:
    committed: dict[str, float] = {}
    times: list[float] = []

    async def handle(body: dict[str, str]) -> None:
        times.append(time.perf_counter() - committed.pop(body["order_id"], time.perf_counter()))

    async with Peer(url, "outbox_soon", handle, 16) as peer:
        await peer.broker.start()

        async def one(number: int) -> None:
            names = [f"o-{number}-{n}" for n in range(TOGETHER)]
            await peer.publish([{"order_id": name} for name in names])
            committed.update(dict.fromkeys(names, time.perf_counter()))

        await at_rate(one, lambda: len(times))
    return times


async def at_rate(one: Callable[[int], Awaitable[None]], arrived: Callable[[], int]) -> None:
    """Begin transactions of `TOGETHER` when they are due; wait until all have arrived."""
    loop = asyncio.get_running_loop()
    began, running = loop.time(), []
    for number in range(RATE * SECONDS // TOGETHER):
        await asyncio.sleep(began + number * TOGETHER / RATE - loop.time())
        running.append(loop.create_task(one(number)))
    await asyncio.gather(*running)
    for _ in range(6000):
        if arrived() >= RATE * SECONDS:
            return
        await asyncio.sleep(0.01)


def spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):,.1f} ({min(values):,.1f} to {max(values):,.1f})"


MODES = {"insert": "µs a transaction", "relay": "events/s", "latency": "ms"}


def report(mode: str, rounds: Sequence[dict[str, float]]) -> None:
    print(f"\n{mode}, {MODES[mode]}, median of {len(rounds)} rounds (least to most)")
    names = list(rounds[0])
    for index, name in enumerate(names):
        # the row by itself, or with one of the team's own; for the rest the first is ours
        base = names[index - index % 2] if mode != "relay" else names[0]
        ratios = [each[name] / each[base] for each in rounds]
        figures = spread([each[name] for each in rounds])
        print(f"  {name:30} {figures:>36}   {statistics.median(ratios):.3f} x {base}")


async def run(mode: str, url: str, folder: Path, asked: argparse.Namespace) -> dict[str, float]:
    """Run one round of a mode in a database of its own."""
    name = f"bench_{time.time_ns()}"
    server = await asyncpg.connect(url)
    await server.execute(f"CREATE DATABASE {name}")
    own = f"{url.rpartition('/')[0]}/{name}"
    try:
        match mode:
            case "insert":
                return await insert(own, asked.events // 20)
            case "relay":
                return await relay(own, asked.events)
            case "latency":
                return await latency(own, folder)
            case _:
                rates = await drained(own, asked.rows, 10)
                return {f"tenth {n}": rate for n, rate in enumerate(rates, 1)}
    finally:
        await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modes", nargs="*", metavar="insert|relay|latency|backlog")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    if unknown := set(asked.modes) - {*MODES, "backlog"}:
        parser.error(f"there is no {', '.join(unknown)}.")
    logging.disable(logging.WARNING)
    told = {}
    with tempfile.TemporaryDirectory() as data:
        server = make("postgresql", Path(data))
        try:
            for mode in asked.modes or MODES:
                rounds = []
                for _ in range(asked.rounds if mode in MODES else 1):
                    with tempfile.TemporaryDirectory() as folder:
                        rounds.append(asyncio.run(run(mode, server.url, Path(folder), asked)))
                told[mode] = rounds
                if mode in MODES:
                    report(mode, rounds)
                else:
                    rates = ", ".join(f"{rate:,.0f}" for rate in rounds[0].values())
                    print(f"\nbacklog of {asked.rows:,}: {rates} events/s in each tenth")
        finally:
            server.kill()
    if asked.json:
        asked.json.write_text(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
