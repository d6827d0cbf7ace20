"""A whole service on PostgreSQL: its doors, a keyed command, an event, a saga, and `kill -9`.

The parts have tests of their own; here `database = "postgresql://"` in the file is all that says
where they are to keep what they know.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import httpx
import pytest

from switchgear.app.up import Supervisor
from switchgear.config import load
from switchgear.errors import OperationError

KIOSK = """
import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from switchgear import (
    Message, Saga, Service, StepContext, Transaction, Unknown, command, current, event, field,
    query, service,
)

class Order(Message):
    order_id: str = field(1)

class Accepted(Message):
    order_id: str = field(1)
    number: int = field(2)

class Found(Message):
    done: list[str] = field(1)

@event("kiosk.orders", key="order_id")
class OrderPlaced(Message):
    order_id: str = field(1)

@service("kiosk.v1")
class Kiosk(Protocol):
    @command("POST /v1/orders", keyed=True)
    async def place(self, request: Order) -> Accepted: ...
    @query("GET /v1/orders/{order_id}")
    async def order(self, request: Order) -> Found: ...

app = Service("kiosk", schema=[
    "CREATE TABLE orders (number {serial}, order_id TEXT);"
    "CREATE TABLE done (order_id TEXT, what TEXT, key TEXT UNIQUE)"
])

async def note(order_id: str, what: str) -> None:
    async with app.transaction() as tx:
        await tx.execute(
            "INSERT INTO done VALUES ($1, $2, $3) ON CONFLICT (key) DO NOTHING",
            order_id, what, current().key,
        )

selling = Saga("selling", version=1, deadline=timedelta(minutes=5))

@selling.undo(runbook="runbook.md")
async def unpack(order: Order, done: Accepted | Unknown, ctx: StepContext) -> None: ...

@unpack.undoes
async def pack(order: Order, ctx: StepContext) -> Accepted:
    await note(order.order_id, "packed")
    while not Path("go").exists():
        await asyncio.sleep(0.01)
    return Accepted(order_id=order.order_id, number=1)

@selling.retriable(give_up=timedelta(days=1), runbook="runbook.md")
async def hand_over(order: Order, packed: Accepted, ctx: StepContext) -> None:
    await note(order.order_id, "handed over")

selling.path(pack >> hand_over)
app.runs(selling)

@app.serves
class Handler(Kiosk):
    async def place(self, request: Order) -> Accepted:
        async with app.transaction() as tx:
            [(number,)] = await tx.execute(
                "INSERT INTO orders (order_id) VALUES ($1) RETURNING number", request.order_id
            )
            tx.publish(OrderPlaced(order_id=request.order_id))
            await tx.start(selling, request, id=request.order_id)
        return Accepted(order_id=request.order_id, number=number)

    async def order(self, request: Order) -> Found:
        async with app.transaction() as tx:
            rows = await tx.execute(
                "SELECT what FROM done WHERE order_id = $1 ORDER BY what", request.order_id
            )
        return Found(done=[what for (what,) in rows])

@app.on(OrderPlaced, name="hear", on_failure="park_key")
async def hear(event: OrderPlaced, tx: Transaction) -> None:
    await tx.execute("INSERT INTO done VALUES ($1, 'heard', NULL)", event.order_id)
"""
TOML = """
[system]
name = "kiosk"
[services.kiosk]
app = "kiosk:app"
http = "127.0.0.1:0"
database = "{url}"
"""


def system(folder: Path, url: str) -> Supervisor:
    (folder / "kiosk.py").write_text(KIOSK)
    (folder / "runbook.md").write_text("# What to do\n")
    (folder / "switchgear.toml").write_text(TOML.format(url=url))
    return Supervisor(load(folder / "switchgear.toml"))


def files(folder: Path) -> list[Path]:
    return list(folder.glob("**/kiosk.db*"))


async def test_all_of_a_service_is_kept_in_postgresql(tmp_path: Path, postgres_url: str) -> None:
    key = {"idempotency-key": "monday"}
    async with system(tmp_path, postgres_url) as up, httpx.AsyncClient(timeout=60) as http:
        kiosk = up["kiosk"]

        async def until(*wanted: str) -> None:
            async with asyncio.timeout(60):
                while True:
                    answer = await http.get(f"http://{kiosk.http}/v1/orders/a")
                    if answer.json()["done"] == list(wanted):
                        return
                    await asyncio.sleep(0.01)

        async def place() -> object:
            order = {"order_id": "a"}
            answer = await http.post(f"http://{kiosk.http}/v1/orders", json=order, headers=key)
            assert answer.status_code == 200, answer.text
            return answer.json()

        assert await place() == {"order_id": "a", "number": 1}
        await until("heard", "packed")  # and the saga's step goes on and on
        kiosk.kill()
        await kiosk.wait()
        await kiosk.start()
        await kiosk.wait_ready()
        assert await place() == {"order_id": "a", "number": 1}, "the reply that was stored"
        (tmp_path / "go").touch()
        await until("handed over", "heard", "packed")
        ready = (await http.get(f"http://{kiosk.http}/readyz")).json()
        assert ready["parts"]["database"] == "ok"
        await kiosk.terminate()
    connection = await asyncpg.connect(postgres_url)
    assert await connection.fetchval("SELECT COUNT(*) FROM orders") == 1
    assert await connection.fetchval("SELECT status FROM switchgear_sagas") == "done"
    await connection.close()
    assert files(tmp_path) == [], "nothing of it is in a file"


async def test_a_server_that_is_not_there_is_one_line_without_the_password(tmp_path: Path) -> None:
    with pytest.raises(OperationError) as caught:
        await system(tmp_path, "postgresql://me:secret@127.0.0.1:1/kiosk").start()
    said = str(caught.value)
    assert "services.kiosk.database: the database cannot be reached" in said
    assert "secret" not in said
    assert "Traceback" not in said
