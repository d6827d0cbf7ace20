"""The same four-step saga by us and by each peer; the steps do nothing but return a small result.

A variant is an asynchronous context manager: it opens what it needs at a place (a folder for
SQLite and for a peer's own store, a URL for PostgreSQL) and gives a function that carries out one
saga, whose number it is told, and checks how it ended.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from services.ports import free_port

One = Callable[[int], Awaitable[None]]
Variant = Callable[[str, Path, int], AbstractAsyncContextManager[One]]


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


def checkout(folder: Path) -> tuple[Any, Any]:
    """Return our saga, and its pivot."""
    from switchgear.model.outcome import Unknown
    from switchgear.saga import Context, Saga

    runbook = folder / "runbook.md"
    runbook.write_text("Call someone.")
    saga = Saga("checkout", version=1, deadline=timedelta(minutes=15), runbook=str(runbook))

    @saga.undo()
    async def release(order: Order, done: Reservation | Unknown, ctx: Context) -> None: ...

    @release.undoes
    async def reserve(order: Order, ctx: Context) -> Reservation:
        return Reservation(1)

    @saga.undo()
    async def refund(order: Order, done: Payment | Unknown, ctx: Context) -> None: ...

    @refund.undoes
    async def debit(order: Order, ctx: Context) -> Payment:
        return Payment(2)

    @saga.pivot(give_up=timedelta(hours=1))
    async def ship(order: Order, paid: Payment, ctx: Context) -> Shipment:
        return Shipment(3)

    @saga.retriable(give_up=timedelta(hours=1))
    async def confirm(order: Order, ctx: Context) -> None: ...

    saga.path(reserve >> debit >> ship >> confirm)
    return saga, ship


@asynccontextmanager
async def ours(url: str, folder: Path, clients: int, *, begun: bool) -> AsyncIterator[One]:
    """Start each saga by `engine.begin`, or in a transaction of its own, as a handler does."""
    from switchgear.saga import Engine

    saga, ship = checkout(folder)
    async with (
        _database(url, folder) as database,
        Engine(database, [saga], concurrency=clients + 8) as engine,
    ):

        async def one(number: int) -> None:
            order = Order(f"o-{number}", 42)
            if begun:
                run = await engine.begin(saga, order, id=order.order_id)
            else:
                async with database.transaction() as tx:
                    run = await engine.start(tx, saga, order, id=order.order_id)
            assert (await run.result(within=60)).result(ship) == Shipment(3)

        yield one


@asynccontextmanager
async def _database(url: str, folder: Path) -> AsyncIterator[Any]:
    if not url:
        from switchgear.database.sqlite import Sqlite

        database = Sqlite(folder / "ours.db", synchronous="FULL")
        yield database
        await database.close()
        return
    import asyncpg

    from switchgear.database.postgres import Postgres

    async with asyncpg.create_pool(url, min_size=4, max_size=20) as pool:
        yield Postgres(pool)


@asynccontextmanager
async def dbos(url: str, folder: Path, clients: int, *, wal: bool = True) -> AsyncIterator[One]:
    """DBOS; on a SQLite file in WAL mode, which suits it better than its own default."""
    from dbos import DBOS, SetWorkflowID

    file = folder / "dbos.db"
    if wal and not url:
        with sqlite3.connect(file) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
    DBOS(
        config={
            "name": "bench",
            "system_database_url": url or f"sqlite:///{file}",
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

    yield one
    DBOS.destroy()


@asynccontextmanager
async def bare(url: str, folder: Path, clients: int) -> AsyncIterator[One]:
    """No saga, but the five commits that one has, each a row of 200 bytes, on own connections."""
    import asyncpg

    async with asyncpg.create_pool(url, min_size=clients, max_size=clients) as pool:
        await pool.execute("CREATE TABLE bare (at BIGSERIAL PRIMARY KEY, data BYTEA NOT NULL)")

        async def one(_: int) -> None:
            async with pool.acquire() as connection:
                for _ in range(5):
                    await connection.execute("INSERT INTO bare (data) VALUES ($1)", bytes(200))

        yield one


@asynccontextmanager
async def restate(url: str, folder: Path, clients: int) -> AsyncIterator[One]:
    """Restate: its server, whose log is synced, and our steps in another process of its SDK."""
    import httpx

    limits = httpx.Limits(max_connections=None)
    with _restate_processes(folder) as (ingress, admin, service):
        async with httpx.AsyncClient(timeout=60, limits=limits) as http:
            deployment = {"uri": f"http://127.0.0.1:{service}"}
            await _until_posted(http, f"http://127.0.0.1:{admin}/deployments", deployment)

            async def one(number: int) -> None:
                answer = await http.post(
                    f"http://127.0.0.1:{ingress}/checkout/run",
                    json={"order_id": f"o-{number}", "amount": 42},
                    headers={"idempotency-key": f"o-{number}"},
                )
                assert answer.json() == {"number": 3}, answer.text

            yield one


@contextmanager
def _restate_processes(folder: Path) -> Iterator[tuple[int, int, int]]:
    """Start the server and the worker; give the ports of the ingress, admin and worker."""
    ingress, admin, node, service = (free_port() for _ in range(4))
    ports = {
        "RESTATE_INGRESS__BIND_PORT": str(ingress),
        "RESTATE_ADMIN__BIND_PORT": str(admin),
        "RESTATE_BIND_PORT": str(node),
    }
    said = {"RESTATE_ADVERTISED_HOST": "127.0.0.1", "RESTATE_DISABLE_TELEMETRY": "true"}
    listens = ["--bind-ip", "127.0.0.1", "--listen-mode", "tcp", "--base-dir", str(folder)]
    server = subprocess.Popen(
        [str(restate_server()), *listens],
        env={**os.environ, **ports, **said, "DO_NOT_TRACK": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # what npm installs starts the server as a child
    )
    steps = Path(__file__).with_name("restate_steps.py")
    worker = subprocess.Popen([sys.executable, str(steps), str(service)], start_new_session=True)
    try:
        yield ingress, admin, service
    finally:
        for process in (worker, server):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


async def _until_posted(http: Any, url: str, body: Mapping[str, object]) -> None:
    import httpx

    async with asyncio.timeout(90):
        while True:
            try:
                if (await http.post(url, json=body)).is_success:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.2)


def restate_server() -> str | None:
    """Return the program of Restate's server, from npm's @restatedev/restate-server."""
    return os.environ.get("RESTATE_SERVER") or shutil.which("restate-server")


@asynccontextmanager
async def temporal(url: str, folder: Path, clients: int, *, own: bool) -> AsyncIterator[One]:
    """Temporal, with a workflow of its own kind or with our saga (`own`)."""
    from peers import temporal as peer

    async with (peer.ours if own else peer.plain)(url, folder, clients) as one:
        yield one


def temporal_server() -> bool:
    """Tell whether Temporal's client is installed and a server of it is here."""
    try:
        from peers.temporal import is_here
    except ImportError:
        return False
    return is_here()


VARIANTS: Mapping[str, Mapping[str, Variant]] = {
    "sqlite": {
        "ours": partial(ours, begun=False),
        "begun": partial(ours, begun=True),
        "dbos": dbos,
        "dbos, default": partial(dbos, wal=False),
        "temporal": partial(temporal, own=False),
        "on temporal": partial(temporal, own=True),
    },
    "postgres": {
        "ours": partial(ours, begun=False),
        "begun": partial(ours, begun=True),
        "dbos": dbos,
        "bare": bare,
        "restate": restate,
    },
}


def variants(store: str) -> list[str]:
    """Return the variants that can run here."""
    needs: Mapping[str, Callable[[], object]] = {
        "restate": restate_server,
        "temporal": temporal_server,
        "on temporal": temporal_server,
    }
    return [name for name in VARIANTS[store] if name not in needs or needs[name]()]
