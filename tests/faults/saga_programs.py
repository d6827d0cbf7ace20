"""The programs that test_saga_postgres.py kills: a worker, and the participant that it asks."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from itertools import count

import asyncpg

from switchgear.database.port import Database, Transaction
from switchgear.database.postgres import Postgres
from switchgear.errors import DatabaseError
from switchgear.model.context import Context as Bound
from switchgear.model.context import bind, current, derived_key
from switchgear.model.outcome import Reason, Refused, Unavailable, Unknown
from switchgear.saga import Backoff, Context, Engine
from switchgear.saga.barrier import Barrier
from tests.faults.test_saga_kill import Order, Receipt, checkout

LEASE = 1.0
BATCH = 15
BACKLOG = 500
"""With more sagas under way none is started: they have to end within the test's patience."""
OPEN = "SELECT COUNT(*) FROM switchgear_sagas WHERE ended IS NULL"
PATIENT = Backoff(attempts=100_000, first=0.01, factor=1.5, most=0.1)


class Remote:
    """The way to the participant: one connection for each request."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def call(self, ctx: Context, change: int) -> Receipt:
        key = derived_key(f"ledger/{ctx.step}")
        request = {"key": key, "saga": ctx.id, "step": ctx.step, "change": change}
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError as error:
            raise Unavailable(reason=Reason.CONNECT) from error
        try:
            writer.write(json.dumps(request).encode() + b"\n")
            line = await reader.readline()
        except OSError as error:
            raise Unknown(reason=Reason.RESET) from error
        finally:
            writer.close()
        if not line:
            raise Unknown(reason=Reason.RESET)
        if line != b"ok\n":
            raise Refused(line.decode())
        return Receipt(key or "")


@asynccontextmanager
async def opened(url: str, name: str) -> AsyncIterator[Database]:
    """Open a database; wait for a server that is down."""
    address = f"{url.rpartition('/')[0]}/{name}"
    pool = None
    while pool is None:
        with suppress(OSError, asyncpg.PostgresError):
            pool = await asyncpg.create_pool(address, min_size=0, max_size=8)
        await asyncio.sleep(0.05)
    try:
        yield Postgres(pool)
    finally:
        await pool.close()


async def participate(url: str, port: int) -> None:
    """Answer requests, each in a transaction behind a barrier."""
    async with opened(url, "ledger") as database:
        await serve(database, port)


async def serve(database: Database, port: int) -> None:
    barrier = Barrier()

    async def write(tx: Transaction, saga: str, step: str, change: int) -> Receipt:
        key = current().key or ""
        sql = "INSERT INTO ledger (saga, step, change, key) VALUES (?, ?, ?, ?)"
        await tx.run(sql, saga, step, change, key)
        return Receipt(key)

    guarded = {1: barrier.do(write), -1: barrier.undo(absent=Receipt(""))(write)}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = json.loads(await reader.readline() or "{}")
            with bind(replace(Bound(), key=request["key"])):
                async with database.transaction() as tx:
                    change = request["change"]
                    await guarded[change](tx, request["saga"], request["step"], change)
            writer.write(b"ok\n")
        except Refused as no:
            writer.write(f"{no}\n".encode())
        except (OSError, KeyError, Unavailable, Unknown, DatabaseError):
            pass  # closed without an answer
        finally:
            writer.close()

    server = None
    while server is None:  # the one before it is gone, and its port may not be yet
        with suppress(OSError):
            server = await asyncio.start_server(answer, "127.0.0.1", port)
        await asyncio.sleep(0.01)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await server.serve_forever()


async def work(url: str, port: int, first: int) -> None:
    """Drive all sagas there are; from number `first` on start more without end, if it is not 0."""
    async with opened(url, "sagas") as database:
        await drive(database, port, first)


async def drive(database: Database, port: int, first: int) -> None:
    saga = checkout(Remote(port), PATIENT)
    jump = 0.0  # what the worker's clock is wrong by
    engine = Engine(
        database, [saga], concurrency=32, lease=LEASE, poll=0.1, clock=lambda: time.time() + jump
    )
    async with engine:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        for number in count(first, BATCH) if first else ():
            with suppress(Unavailable, Unknown):
                async with database.transaction() as tx:
                    many = BATCH if (await tx.execute(OPEN))[0][0] < BACKLOG else 0
                    for order in (Order(f"o-{n}", n) for n in range(number, number + many)):
                        await tx.execute("INSERT INTO orders VALUES ($1)", order.order_id)
                        await engine.start(tx, saga, order, id=order.order_id)
            await asyncio.sleep(random.random() / 20)
            jump = random.uniform(-2.0, 2.0)
        await asyncio.Event().wait()
