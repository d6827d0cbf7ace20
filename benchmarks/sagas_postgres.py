"""Four-step sagas on PostgreSQL: ours beside DBOS and beside bare commits, in one run.

    python benchmarks/sagas_postgres.py [--sagas 300] [--clients 1 64] [--rounds 3] [--json FILE]

A server of its own is started on loopback, with fsync on. Each round runs every variant once, in
turn, each in a fresh process on an empty database; the ratio is taken within a round, and its
spread is over the rounds. WAL bytes and fsyncs are those of the server while the sagas ran.

- `ours`: each saga is started in a transaction of its own, as a handler does.
- `begun`: each is started by `engine.begin`, which shares its commit with others.
- `dbos`: `start_workflow_async` with the same four steps.
- `bare`: no saga at all, but the five commits that one has, each a row of 200 bytes, on as many
  connections as there are clients: what the server allows without sharing commits.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import asyncpg

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from sagas import Order, Payment, Reservation, Shipment, in_parallel, spread
from services import make

VARIANTS = ("ours", "begun", "dbos", "bare")
Figures = dict[str, float]
One = Callable[[int], Awaitable[None]]


async def measured(url: str, count: int, clients: int, one: One) -> Figures:
    """Warm up, then run `one` for each number and return what it took."""
    await in_parallel(clients, clients, lambda n: one(-1 - n))
    server = await asyncpg.connect(url)
    before = await written(server)
    seconds, each = await in_parallel(count, clients, one)
    after = await written(server)
    await server.close()
    return {
        "rate": count / seconds,
        "p50": statistics.median(each) * 1000,
        "wal": (after[0] - before[0]) / count,
        "fsyncs": (after[1] - before[1]) / count,
    }


async def written(server: asyncpg.Connection) -> tuple[int, int]:
    """Return the bytes of WAL and the fsyncs of it so far."""
    await server.execute("SELECT pg_stat_force_next_flush()")
    await asyncio.sleep(0.2)  # backends report when they have been idle
    row = await server.fetchrow(
        "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn, wal_sync FROM pg_stat_wal"
    )
    return int(row[0]), int(row[1])


async def ours(url: str, count: int, clients: int, *, begun: bool = False) -> Figures:
    from switchgear.database.postgres import Postgres
    from switchgear.model.outcome import Unknown
    from switchgear.saga import Context, Engine, Saga

    with tempfile.NamedTemporaryFile(suffix=".md") as runbook:
        checkout = Saga("checkout", version=1, deadline=timedelta(minutes=15), runbook=runbook.name)

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

    pool = await asyncpg.create_pool(url, min_size=4, max_size=20)
    database = Postgres(pool)
    async with Engine(database, [checkout], concurrency=clients + 8) as engine:

        async def one(number: int) -> None:
            order = Order(f"o-{number}", 42)
            if begun:
                run = await engine.begin(checkout, order, id=order.order_id)
            else:
                async with database.transaction() as tx:
                    run = await engine.start(tx, checkout, order, id=order.order_id)
            assert (await run.result(within=60)).result(ship) == Shipment(3)

        figures = await measured(url, count, clients, one)
    await pool.close()
    return figures


async def dbos(url: str, count: int, clients: int) -> Figures:
    from dbos import DBOS, SetWorkflowID

    DBOS(
        config={
            "name": "bench",
            "system_database_url": url,
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

    figures = await measured(url, count, clients, one)
    DBOS.destroy()
    return figures


async def bare(url: str, count: int, clients: int) -> Figures:
    pool = await asyncpg.create_pool(url, min_size=clients, max_size=clients)
    await pool.execute("CREATE TABLE bare (at BIGSERIAL PRIMARY KEY, data BYTEA NOT NULL)")

    async def one(_: int) -> None:
        async with pool.acquire() as connection:
            for _ in range(5):
                await connection.execute("INSERT INTO bare (data) VALUES ($1)", bytes(200))

    figures = await measured(url, count, clients, one)
    await pool.close()
    return figures


def run_one(variant: str, url: str, count: int, clients: int) -> Figures:
    logging.disable(logging.WARNING)
    run = {"ours": ours, "begun": partial(ours, begun=True), "dbos": dbos, "bare": bare}[variant]
    return asyncio.run(run(url, count, clients))


def in_process(variant: str, url: str, count: int, clients: int) -> Figures:
    """Run a variant in a fresh process on an empty database."""
    base, name = url.rpartition("/")[0], f"bench_{time.time_ns()}"

    async def administer(sql: str) -> None:
        connection = await asyncpg.connect(url)
        await connection.execute(sql)
        await connection.close()

    asyncio.run(administer(f"CREATE DATABASE {name}"))
    command = [sys.executable, __file__, "--one", variant, "--url", f"{base}/{name}"]
    result = subprocess.run(
        [*command, "--sagas", str(count), "--clients", str(clients)],
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ},
    )
    asyncio.run(administer(f"DROP DATABASE {name} WITH (FORCE)"))
    if result.returncode:
        raise SystemExit(result.stderr)
    figures: Figures = json.loads(result.stdout.splitlines()[-1])
    return figures


def report(clients: int, count: int, rounds: list[dict[str, Figures]]) -> list[dict[str, object]]:
    print(f"\n{clients} client(s), {count} sagas of four steps, fsync on, ", end="")
    print(f"median of {len(rounds)} rounds (least to most)")
    told: list[dict[str, object]] = []
    for variant in VARIANTS:
        figures = {
            name: [each[variant][name] for each in rounds]
            for name in ("rate", "p50", "wal", "fsyncs")
        }
        ratios = [each[variant]["rate"] / each["dbos"]["rate"] for each in rounds]
        print(
            f"  {variant:5} {spread(figures['rate']):>26} sagas/s  p50 {spread(figures['p50']):>20}"
            f" ms  {statistics.median(figures['wal']):>6.0f} B of WAL and "
            f"{statistics.median(figures['fsyncs']):.2f} fsyncs a saga  {spread(ratios)} x dbos"
        )
        told.append({"clients": clients, "variant": variant, "ratios": ratios, **figures})
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sagas", type=int, default=300)
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 64])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", choices=VARIANTS, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(run_one(asked.one, asked.url, asked.sagas, asked.clients[0])))
        return
    told = []
    with tempfile.TemporaryDirectory() as folder:
        server = make("postgresql", Path(folder))
        try:
            for clients in asked.clients:
                count = asked.sagas if clients > 1 else max(asked.sagas // 3, 1)
                rounds = [
                    {each: in_process(each, server.url, count, clients) for each in VARIANTS}
                    for _ in range(asked.rounds)
                ]
                told += report(clients, count, rounds)
        finally:
            server.kill()
    if asked.json:
        asked.json.write_text(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
