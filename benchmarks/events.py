"""Events on the embedded defaults: from the publish of a producer to the commit of a consumer.

    python benchmarks/events.py [--events 30000] [--rounds 3] [--batch 100] [--one-process]

The producer with its outbox and relay is one process, the consumer with its inbox another; each
has its own database file, and the broker is a third file. Every file is `synchronous=FULL`. What is
measured is the whole way: the producer's transaction, the relay, the log, the lanes, the inbox, and
an insert by the handler, up to the consumer's commit.

- latency: one event every 10 ms, each in its own transaction; from before that transaction begins
  until after the consumer's commit.
- sustained: transactions of `--batch` events over 1,000 keys, as fast as they go; from before the
  first until the last is committed by the consumer.
- log: publishing straight to the broker in batches of 500 records of 300 bytes, and by 64
  publishers of one record each.

No peer does the same on SQLite; single commits of the same disk are printed for scale.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from switchgear import Bus, Message, Sqlite, broker_of, event, field
from switchgear.events.brokers.port import Record
from switchgear.events.brokers.sqlite import SqliteBroker

WARM = 100
QUIET = 300


@event("bench.orders", key="order_id")
class Placed(Message):
    order_id: str = field(1)
    sent: float = field(2)


def placed(key: object, sent: float) -> Placed:
    return Placed(order_id=f"order-{key}", sent=sent)


class Consumer:
    """Handles events and keeps the latency of each; `count` is how many have been committed."""

    def __init__(self, folder: Path) -> None:
        self.latencies: list[float] = []
        self._database = Sqlite(folder / "consumer.db")
        self._broker = broker_of(f"sqlite:///{folder / 'broker.db'}")
        self._bus = Bus(self._broker, self._database, "consumer")
        self._bus.on(Placed, name="count", on_failure="block_key", handler=self._handle)

    async def _handle(self, event: Placed, tx) -> None:
        await tx.execute("INSERT INTO seen VALUES (?, ?)", event.order_id, event.sent)
        tx.after_commit(lambda: self.latencies.append(time.time() - event.sent))

    async def start(self) -> None:
        await self._database.migrate("bench", ["CREATE TABLE seen (order_id TEXT, sent {real})"])
        await self._bus.start()

    async def until(self, count: int) -> None:
        while len(self.latencies) < count:  # noqa: ASYNC110  the loop costs less than a signal
            await asyncio.sleep(0.002)

    async def stop(self) -> None:
        await self._bus.stop()
        await self._broker.close()
        await self._database.close()


async def consume(folder: Path, events: int) -> None:
    """The consuming process: it tells on its output when it is ready and what it measured."""
    consumer = Consumer(folder)
    await consumer.start()
    print("ready", flush=True)
    await consumer.until(WARM + QUIET)
    print(json.dumps(sorted(consumer.latencies[WARM:])), flush=True)
    await consumer.until(WARM + QUIET + events)
    print(time.time(), flush=True)
    await consumer.stop()


async def produce(folder: Path, events: int, batch: int, lines) -> tuple[list[float], float]:
    """Publish slowly, then as fast as possible; return the quiet latencies and the rate."""
    broker = broker_of(f"sqlite:///{folder / 'broker.db'}")
    database = Sqlite(folder / "producer.db")
    bus = Bus(broker, database, "producer")
    await bus.start()

    async def publish(*some: Placed) -> None:
        async with database.transaction() as tx:
            await bus.publish(tx, *some)

    for number in range(WARM + QUIET):
        await publish(placed(number, time.time()))
        await asyncio.sleep(0.01)
    quiet = json.loads(await lines())
    began = time.time()
    for first in range(0, events, batch):
        sent = time.time()
        await publish(*(placed(n % 1000, sent) for n in range(first, min(first + batch, events))))
    rate = events / (float(await lines()) - began)
    await bus.stop()
    await broker.close()
    await database.close()
    return quiet, rate


def two_processes(events: int, batch: int) -> tuple[list[float], float]:
    with tempfile.TemporaryDirectory() as name:
        consumer = subprocess.Popen(
            [sys.executable, __file__, "--consume", name, "--events", str(events)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert consumer.stdout is not None
        consumer.stdout.readline()
        read = consumer.stdout.readline
        try:
            return asyncio.run(produce(Path(name), events, batch, lambda: asyncio.to_thread(read)))
        finally:
            consumer.wait()
            consumer.stdout.close()


def one_process(events: int, batch: int) -> tuple[list[float], float]:
    async def both(folder: Path) -> tuple[list[float], float]:
        consumer = Consumer(folder)
        await consumer.start()
        asked = iter((WARM + QUIET, WARM + QUIET + events))

        async def line() -> str:
            await consumer.until(next(asked))
            if len(consumer.latencies) == WARM + QUIET:
                return json.dumps(sorted(consumer.latencies[WARM:]))
            return str(time.time())

        try:
            return await produce(folder, events, batch, line)
        finally:
            await consumer.stop()

    with tempfile.TemporaryDirectory() as name:
        return asyncio.run(both(Path(name)))


async def log_rates(folder: Path) -> tuple[float, float, float]:
    """Batched publishes, single publishes of 64 publishers, and the p50 of those in ms."""
    broker = SqliteBroker(folder / "log.db")
    value = b"x" * 300

    def records(first: int, count: int) -> list[Record]:
        return [
            Record("bench", f"k{n % 1000}", {"ce-id": str(n)}, value)
            for n in range(first, first + count)
        ]

    await broker.publish(records(0, 100))
    began = time.perf_counter()
    for first in range(0, 50_000, 500):
        await broker.publish(records(first, 500))
    batched = 50_000 / (time.perf_counter() - began)
    waits: list[float] = []

    async def publisher() -> None:
        for number in range(200):
            at = time.perf_counter()
            await broker.publish(records(number, 1))
            waits.append(time.perf_counter() - at)

    began = time.perf_counter()
    await asyncio.gather(*(publisher() for _ in range(64)))
    single = 64 * 200 / (time.perf_counter() - began)
    await broker.close()
    return batched, single, statistics.median(waits) * 1e3


def raw_commits() -> float:
    with tempfile.TemporaryDirectory() as name:
        connection = sqlite3.connect(f"{name}/a.db", isolation_level=None)
        for statement in ("journal_mode=WAL", "synchronous=FULL"):
            connection.execute(f"PRAGMA {statement}")
        connection.execute("CREATE TABLE t (a)")
        began = time.perf_counter()
        for _ in range(500):
            connection.execute("INSERT INTO t VALUES (1)")
        took = time.perf_counter() - began
        connection.close()
        return 500 / took


def show(name: str, values: list[float], unit: str) -> None:
    print(
        f"{name:58} {statistics.median(values):10.1f} {unit:3} "
        f"({min(values):.1f} to {max(values):.1f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=30_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--one-process", action="store_true")
    parser.add_argument("--consume", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.consume:
        asyncio.run(consume(Path(given.consume), given.events))
        return
    run = one_process if given.one_process else two_processes
    ways, logs, commits = [], [], []
    for number in range(given.rounds):
        print(f"round {number + 1} of {given.rounds}", file=sys.stderr)
        ways.append(run(given.events, given.batch))
        with tempfile.TemporaryDirectory() as name:
            logs.append(asyncio.run(log_rates(Path(name))))
        commits.append(raw_commits())
    print(
        f"SQLite, synchronous=FULL, {'one process' if given.one_process else 'two processes'}, "
        f"1 producer in transactions of {given.batch}, 1 consumer with inbox, {os.cpu_count()} "
        f"cores with load {os.getloadavg()[0]:.1f}; median of {given.rounds} rounds (least to most)"
    )
    show(
        "publish to commit, p50, one event every 10 ms",
        [w[0][QUIET // 2] * 1e3 for w in ways],
        "ms",
    )
    show("publish to commit, p99", [w[0][QUIET * 99 // 100] * 1e3 for w in ways], "ms")
    show(f"sustained, {given.events} events over 1,000 keys", [w[1] for w in ways], "/s")
    show("log alone, batches of 500", [one[0] for one in logs], "/s")
    show("log alone, 64 publishers of one record", [one[1] for one in logs], "/s")
    show("log alone, 64 publishers, p50 of a publish", [one[2] for one in logs], "ms")
    show("for scale: single commits of one row", commits, "/s")


if __name__ == "__main__":
    main()
