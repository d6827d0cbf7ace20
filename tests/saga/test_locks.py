"""One saga at a time about one thing: from the commit that starts it to the one that ends it."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta

import asyncpg
import pytest

from switchgear.database.port import Database
from switchgear.database.postgres import Postgres
from switchgear.database.sqlite import Sqlite
from switchgear.errors import SagaDefinitionError, SagaError
from switchgear.model.outcome import Refused, Unknown
from switchgear.saga import (
    Context,
    Engine,
    Run,
    Saga,
    SagaLocked,
    SagaUndone,
    SagaUnfinished,
    runbook,
)
from tests.saga.shop import QUICK, Book, Clock, Order, Payment, eventually

RUNBOOK = __file__.replace("test_locks.py", "runbooks/ship.md")


def change(book: Book, **settings) -> Saga:
    """A saga of one step about an order."""
    saga = Saga("change", version=1, runbook=RUNBOOK, retry=QUICK, undo_retry=QUICK)

    @saga.undo()
    async def back(order: Order, done: Payment | Unknown, ctx: Context) -> None:
        await book.called(f"back {ctx.id}", ctx)

    @back.undoes
    async def there(order: Order, ctx: Context) -> Payment:
        await book.called(ctx.id, ctx)
        return Payment(1)

    @saga.read
    async def look(order: Order, ctx: Context) -> None:
        await book.called(f"look {ctx.id}", ctx)

    saga.lock("order", lambda order: order.order_id, **settings)
    saga.path(there >> look)
    return saga


async def start(engine: Engine, database: Database, saga: Saga, name: str, of: str = "o") -> Run:
    async with database.transaction() as tx:
        return await engine.start(tx, saga, Order(of), id=name)


async def test_the_next_waits_for_its_turn(any_database: Database, book: Book) -> None:
    saga = change(book)
    ends = asyncio.Event()
    book.will("a", ends, None)
    async with Engine(any_database, [saga]) as engine:
        runs = [await start(engine, any_database, saga, name) for name in "abc"]
        again = await start(engine, any_database, saga, "b")
        other = await start(engine, any_database, saga, "d", of="another")
        await other.result(within=60)
        assert (await again.state()).status == "waiting"
        shown = await runbook.show(any_database, "c")
        assert (shown.status, shown.waits_for) == ("waiting", (("order/o", "a"),))
        with pytest.raises(SagaUnfinished, match="waits for a lock"):
            await runs[1].result(within=0)
        ends.set()
        for run in runs:
            await run.result(within=60)
    mine = [name for name in book.names if "d" not in name]
    assert mine == ["a", "look a", "b", "look b", "c", "look c"]


async def test_or_is_refused(any_database: Database, book: Book) -> None:
    saga = change(book, held="refuse")
    ends = asyncio.Event()
    book.will("a", ends)
    async with Engine(any_database, [saga]) as engine:
        run = await start(engine, any_database, saga, "a")
        with pytest.raises(SagaLocked, match=r"saga a holds the lock order/o"):
            await start(engine, any_database, saga, "b")
        async with any_database.transaction() as tx:  # a team may catch it, and commit
            with pytest.raises(SagaLocked):
                await engine.start(tx, saga, Order("o"), id="b")
        await start(engine, any_database, saga, "a")  # the same saga is the same saga
        ends.set()
        await run.result(within=60)
        await (await start(engine, any_database, saga, "b")).result(within=60)


async def test_it_is_kept_while_a_person_is_waited_for(database: Sqlite, book: Book) -> None:
    saga = change(book)
    book.will("look a", Refused("no"))
    book.will("back a", Refused("never"))
    async with Engine(database, [saga]) as engine:
        first = await start(engine, database, saga, "a")
        with pytest.raises(SagaUnfinished, match="waits for a person"):
            await first.result(within=60)
        second = await start(engine, database, saga, "b")
        assert (await second.state()).status == "waiting"
        # it ends here, by the database alone, and hands the lock on
        assert (await runbook.resolve(database, "a", "ann", "by hand")).status == "undone"
        await second.result(within=60)


async def test_it_survives_its_worker(database: Sqlite, book: Book) -> None:
    saga = change(book)
    book.will("a", asyncio.Event(), None)
    async with Engine(database, [saga]) as engine:
        await start(engine, database, saga, "a")
        await book.until("a")
        await start(engine, database, saga, "b")
        await engine.stop(within=0)
    async with Engine(database, [saga]) as engine:
        await engine.get("b").result(within=60)
    assert book.names.index("look a") < book.names.index("b")


@dataclass(frozen=True)
class Transfer:
    source: str
    target: str


async def test_many_at_once_never_meet_and_never_wait_in_a_circle(any_database: Database) -> None:
    inside: Counter[str] = Counter()
    saga = Saga("transfer", version=1, runbook=RUNBOOK, retry=QUICK)

    @saga.read
    async def move(given: Transfer, ctx: Context) -> None:
        both = {given.source, given.target}
        inside.update(both)
        assert all(inside[name] == 1 for name in both)
        await asyncio.sleep(0)
        inside.subtract(both)

    saga.lock("source", lambda given: given.source)
    saga.lock("target", lambda given: given.target)
    saga.path(move)
    pairs = [Transfer(f"s{n % 3}", f"t{n % 2}") for n in range(24)]
    async with Engine(any_database, [saga]) as engine:

        async def one(number: int, given: Transfer) -> Run:
            async with any_database.transaction() as tx:
                return await engine.start(tx, saga, given, id=f"m-{number}")

        runs = await asyncio.gather(*(one(n, given) for n, given in enumerate(pairs)))
        for run in runs:
            await run.result(within=60)
    assert not +inside


async def test_the_deadline_counts_while_it_waits(database: Sqlite, book: Book) -> None:
    clock = Clock()
    saga = change(book)
    saga.deadline = timedelta(minutes=1)
    ends = asyncio.Event()
    book.will("a", ends)
    async with Engine(database, [saga], clock=clock) as engine:
        await start(engine, database, saga, "a")
        await book.until("a")
        second = await start(engine, database, saga, "b")
        clock.now += 120
        ends.set()
        with pytest.raises(SagaUndone, match="deadline"):
            await second.result(within=60)
    assert "b" not in book.names


async def test_bad_input(database: Sqlite, book: Book) -> None:
    saga = Saga("odd", version=1, runbook=RUNBOOK)

    @saga.read
    async def look(order: Order, ctx: Context) -> None: ...

    with pytest.raises(SagaDefinitionError, match="is not a name"):
        saga.lock("order/o", lambda order: order.order_id)
    saga.lock("order", lambda order: order.amount)
    with pytest.raises(SagaDefinitionError, match="declared twice"):
        saga.lock("order", lambda order: order.order_id)
    saga.path(look)
    with pytest.raises(SagaDefinitionError, match="after the path"):
        saga.lock("wallet", lambda order: order.order_id)
    async with Engine(database, [saga]) as engine:
        with pytest.raises(SagaError, match="the id of the lock order is 10"):
            await start(engine, database, saga, "a")
    outer = Saga("outer", version=1, runbook=RUNBOOK)
    with pytest.raises(SagaDefinitionError, match="Declare the lock order in outer"):
        outer.path(saga)


async def test_two_that_start_one_saga_at_once_wait_once(postgres_url: str, book: Book) -> None:
    saga = change(book)
    ends = asyncio.Event()
    book.will("a", ends, None)
    async with asyncpg.create_pool(postgres_url, min_size=1, max_size=8) as pool:
        database = Postgres(pool)

        async def one_waits() -> bool:
            return bool(await pool.fetch("SELECT 1 FROM pg_locks WHERE NOT granted"))

        async with Engine(database, [saga]) as engine:
            await start(engine, database, saga, "a")
            async with database.transaction() as tx:
                await engine.start(tx, saga, Order("o"), id="b")
                again = asyncio.create_task(start(engine, database, saga, "b"))
                await eventually(one_waits)
            run = await again
            waits = await pool.fetch("SELECT saga FROM switchgear_saga_lock_waits")
            assert [row["saga"] for row in waits] == ["b"]
            ends.set()
            await run.result(within=60)
            await (await start(engine, database, saga, "c")).result(within=60)


async def test_a_saga_that_an_earlier_release_let_wait_twice_runs(
    any_database: Database, book: Book
) -> None:
    saga = change(book)
    ends = asyncio.Event()
    book.will("a", ends, None)
    async with Engine(any_database, [saga]) as engine:
        await start(engine, any_database, saga, "a")
        run = await start(engine, any_database, saga, "b")
        async with any_database.transaction() as tx:
            await tx.run(
                "INSERT INTO switchgear_saga_lock_waits (name, saga) VALUES ('order/o', 'b')"
            )
        ends.set()
        await run.result(within=60)


async def test_what_an_earlier_release_blocked_is_freed_at_the_start(
    any_database: Database, book: Book
) -> None:
    saga = change(book)
    ends = asyncio.Event()
    book.will("a", ends, None)
    async with Engine(any_database, [saga]) as engine:
        await (await start(engine, any_database, saga, "over", of="q")).result(within=60)
        await start(engine, any_database, saga, "a")
        await book.until("a")
        await start(engine, any_database, saga, "b")
        await start(engine, any_database, saga, "c")
        await engine.stop(within=0)
    held = "UPDATE switchgear_saga_locks SET saga = 'b' WHERE name = 'order/o'"
    async with any_database.transaction() as tx:
        await tx.run(held)  # it has inherited the lock, and waits for it all the same
        await tx.run("DELETE FROM switchgear_sagas WHERE id = 'a'")
        await tx.run("INSERT INTO switchgear_saga_locks (name, saga) VALUES ('order/q', 'over')")
        await tx.run("INSERT INTO switchgear_saga_locks (name, saga) VALUES ('order/r', 'deleted')")
        waits = "INSERT INTO switchgear_saga_lock_waits (name, saga) VALUES ('order/o', ?)"
        await tx.run(waits, "over")
        await tx.run(waits, "deleted")
    async with Engine(any_database, [saga]) as engine:
        await start(engine, any_database, saga, "d", of="q")
        await start(engine, any_database, saga, "e", of="r")
        for name in "bcde":
            await engine.get(name).result(within=60)
        await (await start(engine, any_database, saga, "f")).result(within=60)
