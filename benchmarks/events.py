"""Events on the embedded defaults: from the commit of the producer to the commit of the consumer.

Two databases and one broker file, `synchronous=FULL`, one publishing and one consuming process in
one: what is measured is the outbox, the relay, the log, the lanes, the inbox and the handler's own
insert. No peer does the same on SQLite; the raw rate of single commits is printed for scale.

    python benchmarks/events.py [--events 20000] [--rounds 5] [--batch 100]
"""

import argparse
import asyncio
import sqlite3
import statistics
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

from switchgear import Bus, Message, Sqlite, broker_of, event, field


@event("bench.orders", key="order_id")
class Placed(Message):
    order_id: str = field(1)
    sent: float = field(2)


async def world(folder: Path, stack: AsyncExitStack, seen: list[float], done: asyncio.Event, want):
    broker = broker_of(f"sqlite:///{folder / 'broker.db'}")
    stack.push_async_callback(broker.close)
    producer, consumer = Sqlite(folder / "producer.db"), Sqlite(folder / "consumer.db")
    for database in (producer, consumer):
        stack.push_async_callback(database.close)
    await consumer.migrate("bench", ["CREATE TABLE seen (order_id TEXT, sent {real})"])
    out, into = Bus(broker, producer, "producer"), Bus(broker, consumer, "consumer")

    def note(sent: float) -> None:
        seen.append(time.perf_counter() - sent)
        if len(seen) == want[0]:
            done.set()

    async def handle(placed: Placed, tx) -> None:
        await tx.run("INSERT INTO seen VALUES (?, ?)", placed.order_id, placed.sent)
        tx.after_commit(lambda: note(placed.sent))

    into.on(Placed, name="count", on_failure="block_key", handler=handle)
    for bus in (out, into):
        await bus.start()
        stack.push_async_callback(bus.stop)
    return producer, out


async def publish(database, bus, events) -> None:
    async with database.transaction() as tx:
        await bus.publish(tx, *events)


async def one_round(events: int, batch: int) -> tuple[float, float, float]:
    with tempfile.TemporaryDirectory() as name:
        async with AsyncExitStack() as stack:
            seen: list[float] = []
            done, want = asyncio.Event(), [200]
            database, bus = await world(Path(name), stack, seen, done, want)
            for number in range(200):
                await publish(
                    database, bus, [Placed(order_id=str(number), sent=time.perf_counter())]
                )
                await asyncio.sleep(0.01)
            await done.wait()
            quiet = sorted(seen[50:])
            seen.clear()
            done.clear()
            want[0] = events
            began = time.perf_counter()
            for first in range(0, events, batch):
                chunk = [
                    Placed(order_id=str(n % 1000), sent=began)
                    for n in range(first, min(first + batch, events))
                ]
                await publish(database, bus, chunk)
            await done.wait()
            rate = events / (time.perf_counter() - began)
            return quiet[len(quiet) // 2] * 1e3, quiet[int(len(quiet) * 0.99)] * 1e3, rate


def raw_commits() -> float:
    with tempfile.TemporaryDirectory() as name:
        connection = sqlite3.connect(f"{name}/a.db", isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE t (a)")
        began = time.perf_counter()
        for _ in range(1000):
            connection.execute("INSERT INTO t VALUES (1)")
        took = time.perf_counter() - began
        connection.close()
        return 1000 / took


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=100)
    given = parser.parse_args()
    results = [asyncio.run(one_round(given.events, given.batch)) for _ in range(given.rounds)]
    print(
        f"SQLite, synchronous=FULL, 1 publisher in transactions of {given.batch}, 1 consumer with "
        f"inbox; {given.rounds} rounds, median (least to most)"
    )
    for name, unit, values in (
        ("commit to commit, p50, one event every 10 ms", "ms", [r[0] for r in results]),
        ("commit to commit, p99, one event every 10 ms", "ms", [r[1] for r in results]),
        (f"sustained, {given.events} events over 1,000 keys", "/s", [r[2] for r in results]),
        ("for scale: raw single commits", "/s", [raw_commits() for _ in range(3)]),
    ):
        print(
            f"{name:48} {statistics.median(values):10.1f} {unit} "
            f"({min(values):.1f} to {max(values):.1f})"
        )


if __name__ == "__main__":
    main()
