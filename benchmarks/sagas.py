"""Four-step sagas a second on SQLite: ours beside DBOS, in one run on one machine.

    python benchmarks/sagas.py [--sagas 300] [--clients 64] [--rounds 5] [--json FILE]

Every variant keeps its record on SQLite with synchronous=FULL and runs the same four steps, which
do nothing but return a small result. Each round runs every variant once, in turn, each in a fresh
process on a fresh file; the ratio is taken within a round, and its spread is over the rounds.

- `ours`: started by `engine.start` in a transaction of its own, which cannot share its commit.
- `ours, shared`: started by `engine.start_sync` in a unit of `Sqlite.write`, which can.
- `dbos`: `start_workflow_async` on a file in WAL mode, which suits it better than its default.
- `dbos, default`: the same in rollback-journal mode, as DBOS opens a file itself.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

VARIANTS = ("ours", "ours, shared", "dbos", "dbos, default")


@dataclass(frozen=True)
class Order:
    order_id: str
    amount: int


@dataclass(frozen=True)
class Reservation:
    number: int


@dataclass(frozen=True)
class Payment:
    number: int


@dataclass(frozen=True)
class Shipment:
    number: int


async def in_parallel(
    count: int, clients: int, one: Callable[[int], Awaitable[None]]
) -> tuple[float, list[float]]:
    """Run `one` for each number, `clients` at a time; return the seconds, whole and each."""
    numbers = iter(range(count))
    each: list[float] = []

    async def client() -> None:
        for number in numbers:
            began = time.perf_counter()
            await one(number)
            each.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return time.perf_counter() - began, each


async def ours(folder: Path, count: int, clients: int, *, shared: bool) -> dict[str, float]:
    from switchgear.database.sqlite import Sqlite
    from switchgear.model.outcome import Unknown
    from switchgear.saga import Context, Engine, Saga

    runbook = folder / "runbook.md"
    runbook.write_text("Call someone.")
    checkout = Saga("checkout", version=1, deadline=timedelta(minutes=15), runbook=str(runbook))

    @checkout.undo()
    async def release(order: Order, done: Reservation | Unknown, ctx: Context) -> None: ...

    @release.undoes
    async def reserve(order: Order, ctx: Context) -> Reservation:
        return Reservation(1)

    @checkout.undo()
    async def refund(order: Order, done: Payment | Unknown, ctx: Context) -> None: ...

    @refund.undoes
    async def debit(order: Order, ctx: Context) -> Payment:
        return Payment(2)

    @checkout.pivot(give_up=timedelta(hours=1))
    async def ship(order: Order, paid: Payment, ctx: Context) -> Shipment:
        return Shipment(3)

    @checkout.retriable(give_up=timedelta(hours=1))
    async def confirm(order: Order, ctx: Context) -> None: ...

    checkout.path(reserve >> debit >> ship >> confirm)

    database = Sqlite(folder / "ours.db", synchronous="FULL")
    async with Engine(database, [checkout], concurrency=clients) as engine:

        async def one(number: int) -> None:
            order = Order(f"o-{number}", 42)
            if shared:
                run = await database.write(
                    lambda connection: engine.start_sync(
                        connection, checkout, order, id=order.order_id
                    )
                )
                engine.wake()
            else:
                async with database.transaction() as tx:
                    run = await engine.start(tx, checkout, order, id=order.order_id)
            done = await run.result(within=60)
            assert done.result(ship) == Shipment(3)

        await in_parallel(clients, clients, lambda n: one(-1 - n))
        seconds, each = await in_parallel(count, clients, one)
    await database.close()
    return {"rate": count / seconds, "p50": statistics.median(each)}


async def dbos(folder: Path, count: int, clients: int, *, wal: bool) -> dict[str, float]:
    from dbos import DBOS, SetWorkflowID

    file = folder / "dbos.db"
    if wal:
        with sqlite3.connect(file) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
    DBOS(
        config={
            "name": "bench",
            "system_database_url": f"sqlite:///{file}",
            "log_level": "ERROR",
            "run_admin_server": False,
        }
    )

    @DBOS.step()
    async def reserve(order: dict[str, object]) -> dict[str, int]:
        return {"number": 1}

    @DBOS.step()
    async def debit(order: dict[str, object]) -> dict[str, int]:
        return {"number": 2}

    @DBOS.step()
    async def ship(order: dict[str, object], paid: dict[str, int]) -> dict[str, int]:
        return {"number": 3}

    @DBOS.step()
    async def confirm(order: dict[str, object]) -> None: ...

    @DBOS.workflow()
    async def checkout(order: dict[str, object]) -> dict[str, int]:
        await reserve(order)
        paid = await debit(order)
        shipped = await ship(order, paid)
        await confirm(order)
        return shipped

    DBOS.launch()

    async def one(number: int) -> None:
        order: dict[str, object] = {"order_id": f"o-{number}", "amount": 42}
        with SetWorkflowID(f"o-{number}"):
            handle = await DBOS.start_workflow_async(checkout, order)
        assert await handle.get_result(polling_interval_sec=0.01) == {"number": 3}

    await in_parallel(clients, clients, lambda n: one(-1 - n))
    seconds, each = await in_parallel(count, clients, one)
    with sqlite3.connect(file) as connection:
        # a new connection's default, which DBOS does not change
        assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL
    DBOS.destroy()
    return {"rate": count / seconds, "p50": statistics.median(each)}


def run_one(variant: str, count: int, clients: int) -> dict[str, float]:
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if variant.startswith("ours"):
            return asyncio.run(ours(folder, count, clients, shared="shared" in variant))
        return asyncio.run(dbos(folder, count, clients, wal="default" not in variant))


def in_process(variant: str, count: int, clients: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", variant, "--sagas", str(count)]
    result = subprocess.run(
        [*command, "--clients", str(clients)],
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ},
    )
    if result.returncode:
        raise SystemExit(result.stderr)
    figures: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return figures


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sagas", type=int, default=300)
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 64])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", choices=VARIANTS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(run_one(asked.one, asked.sagas, asked.clients[0])))
        return
    figures = []
    for clients in asked.clients:
        count = asked.sagas if clients > 1 else max(asked.sagas // 3, 1)
        rounds = [
            {variant: in_process(variant, count, clients) for variant in VARIANTS}
            for _ in range(asked.rounds)
        ]
        print(f"\n{clients} client(s), {count} sagas of four steps, synchronous=FULL, ", end="")
        print(f"median of {asked.rounds} rounds (least to most)")
        for variant in VARIANTS:
            rates = [each[variant]["rate"] for each in rounds]
            times = [each[variant]["p50"] * 1000 for each in rounds]
            ratios = [each[variant]["rate"] / each["dbos"]["rate"] for each in rounds]
            print(
                f"  {variant:14} {spread(rates):>28} sagas/s   p50 {spread(times):>22} ms   "
                f"{spread(ratios)} x dbos"
            )
            figures.append(
                {
                    "clients": clients,
                    "variant": variant,
                    "rates": rates,
                    "ms": times,
                    "ratios": ratios,
                }
            )
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
