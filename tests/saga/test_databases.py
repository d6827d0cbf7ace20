"""The engine on every database of the port: PostgreSQL and SQLite, by asyncpg and SQLAlchemy."""

from __future__ import annotations

import asyncio
import json
import sqlite3

import pytest

from switchgear.contract.event import event
from switchgear.contract.message import Message, field
from switchgear.database.port import Database, Row, Transaction, Value
from switchgear.database.postgres import PostgresTransaction
from switchgear.database.sqlalchemy import SqlAlchemyTransaction
from switchgear.database.sqlite import SqliteTransaction
from switchgear.events.outbox import Outbox
from switchgear.model.context import Context as Bound
from switchgear.model.context import bind
from switchgear.model.outcome import Refused, Unknown
from switchgear.saga import (
    Context,
    Engine,
    NotCommitted,
    Run,
    Saga,
    SagaConflict,
    SagaLocked,
    SagaUndone,
    SagaUnfinished,
    Step,
    runbook,
)
from switchgear.saga.context import half_step_of
from switchgear.saga.plan import Side
from switchgear.saga.stores.units import Units
from tests.saga.shop import UNKNOWN, Book, Order, OutOfStock, Shipment, checkout, eventually


async def begin(engine: Engine, database: Database, saga: Saga, name: str = "o-1") -> Run:
    async with database.transaction() as tx:
        return await engine.start(tx, saga, Order(name), id=name)


def engine_on(database: Database, *sagas: Saga, **settings: float) -> Engine:
    return Engine(database, sagas, poll=0.05, **settings)  # type: ignore[arg-type]


async def test_done(any_database: Database, book: Book) -> None:
    saga = checkout(book)
    async with engine_on(any_database, saga) as engine:
        done = await (await begin(engine, any_database, saga)).result(within=60)
    ship: Step[..., Shipment] = saga.steps["ship"]
    assert done.result(ship) == Shipment(3)
    assert book.names == ["reserve", "debit", "ship", "confirm"]


async def test_undone(any_database: Database, book: Book) -> None:
    book.will("debit", UNKNOWN, Refused("no"))
    saga = checkout(book)
    async with engine_on(any_database, saga) as engine:
        with pytest.raises(SagaUndone):
            await (await begin(engine, any_database, saga)).result(within=60)
    assert book.names == ["reserve", "debit", "debit", "refund", "release"]


async def test_queued_and_retried(any_database: Database, book: Book) -> None:
    book.will("ship", Refused("no"))
    book.will("refund", Refused("never"), None)
    saga = checkout(book)
    async with engine_on(any_database, saga) as engine:
        run = await begin(engine, any_database, saga)
        with pytest.raises(SagaUnfinished):
            await run.result(within=60)
        [item] = await runbook.list_items(any_database)
        assert item.id == "o-1/refund"
        assert (await runbook.show(any_database, item.id)).status == "queued"
        await runbook.retry(any_database, item.id, "ann", "it is back")
        await runbook.retry(any_database, item.id, "ann", "it is back")
        with pytest.raises(SagaUndone):
            await run.result(within=60)
    assert book.names[-2:] == ["refund", "release"]


async def test_what_is_large(any_database: Database) -> None:
    saga = Saga("large", version=1, runbook="runbooks/release.md")
    undone: list[str | Unknown] = []

    @saga.undo()
    async def forget(order: Order, done: str | Unknown, ctx: Context) -> None:
        undone.append(done)

    @forget.undoes
    async def draw(order: Order, ctx: Context) -> str:
        return "x" * 3_000_000

    @saga.read
    async def look(order: Order, ctx: Context) -> None:
        raise OutOfStock(sku="y" * 200_000)

    saga.path(draw >> look)
    async with engine_on(any_database, saga) as engine:
        with pytest.raises(SagaUndone):
            await (await begin(engine, any_database, saga)).result(within=60)
    assert undone == ["x" * 3_000_000], "results are as large as the database takes"
    (attempt,) = (await runbook.show(any_database, "o-1")).steps[1].attempts
    assert attempt.failure is not None
    assert attempt.failure.fields is None
    assert len(attempt.failure.what) <= 4_000


@event("sagas.bookings", key="order_id")
class Booked(Message):
    order_id: str = field(1)


@event("sagas.bookings", key="order_id")
class Cancelled(Message):
    order_id: str = field(1)


async def test_what_a_step_publishes_names_the_step(any_database: Database) -> None:
    outbox = Outbox("orders")
    await outbox.migrate(any_database)
    saga = Saga("booking", version=1, runbook="runbooks/release.md")

    @saga.undo()
    async def cancel(order: Order, done: Unknown | None, ctx: Context) -> None:
        async with any_database.transaction() as tx:
            await outbox.publish(tx, Cancelled(order_id=order.order_id))

    @cancel.undoes
    async def book(order: Order, ctx: Context) -> None:
        async with any_database.transaction() as tx:
            await outbox.publish(tx, Booked(order_id=order.order_id))

    @saga.read
    async def look(order: Order, ctx: Context) -> None:
        raise Refused("no")

    saga.path(book >> look)
    async with engine_on(any_database, saga) as engine:
        with bind(Bound(correlation="c-1", causation="e-1")):
            run = await begin(engine, any_database, saga, "o/1")
        with pytest.raises(SagaUndone):
            await run.result(within=60)
    async with any_database.reading() as tx:
        rows = await tx.run("SELECT headers FROM switchgear_outbox ORDER BY id")
    found = [json.loads(headers) for (headers,) in rows]
    assert [(one["ce-correlationid"], one["ce-causationid"]) for one in found] == [
        ("c-1", "saga/o%2F1/book/do"),
        ("c-1", "saga/o%2F1/book/undo"),
    ]
    halves = [half_step_of(one["ce-causationid"]) for one in found]
    assert halves == [("o/1", "book", Side.DO), ("o/1", "book", Side.UNDO)]
    assert (await runbook.show(any_database, "o/1")).correlation == "c-1"


def test_what_is_no_key_of_a_step() -> None:
    for key in ("o-1", "saga/o-1/book", "saga/o-1/book/do/Inventory.reserve", "saga/a/b/c/do"):
        assert half_step_of(key) is None


async def test_a_line_and_the_turn_that_it_is_stand_or_fall_together(
    any_database: Database, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    saga, alone = checkout(book), any_database.alone

    async def single(sql: str, *args: Value) -> list[Row]:
        # where they are two statements, neither may be committed by itself
        assert "switchgear_saga_journal" not in sql or "UPDATE switchgear_sagas" in sql
        return await alone(sql, *args)

    monkeypatch.setattr(any_database, "alone", single)
    async with engine_on(any_database, saga) as engine:
        run = await begin(engine, any_database, saga)
        await run.result(within=60)


async def test_it_starts_only_with_its_transaction(any_database: Database, book: Book) -> None:
    saga = checkout(book)
    async with engine_on(any_database, saga) as engine:

        async def fail() -> None:
            async with any_database.transaction() as tx:
                await engine.start(tx, saga, Order("o-1"), id="o-1")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        with pytest.raises(NotCommitted):
            await engine.get("o-1").result(within=1)
        run = await begin(engine, any_database, saga)
        await run.result(within=60)
        async with any_database.transaction() as tx:
            await engine.start(tx, saga, Order("o-1"), id="o-1")
            with pytest.raises(SagaConflict):
                await engine.start(tx, saga, Order("o-1", 7), id="o-1")
    assert len(book.calls) == 4


async def test_many_by_two_workers_each_effect_once(any_database: Database) -> None:
    books = [Book(), Book()]
    sagas = [checkout(each) for each in books]
    starter = engine_on(any_database, sagas[0])
    await starter.prepare()
    for number in range(30):
        await begin(starter, any_database, sagas[0], f"o-{number}")
    async with (
        engine_on(any_database, sagas[0], concurrency=4, lease=60.0) as first,
        engine_on(any_database, sagas[1], concurrency=4, lease=60.0) as second,
    ):
        for number in range(30):
            await first.get(f"o-{number}").result(within=60)
        more = [
            begin(engine, any_database, saga, f"p-{number}")
            for number in range(10)
            for engine, saga in [(first, sagas[0]), (second, sagas[1])][number % 2 :][:1]
        ]
        for run in await asyncio.gather(*more):
            await run.result(within=60)
    keys = [call.ctx.key for each in books for call in each.calls]
    assert len(keys) == len(set(keys)) == 160


async def test_a_worker_that_lost_its_lease_writes_nothing(
    any_database: Database, book: Book, caplog: pytest.LogCaptureFixture
) -> None:
    go = asyncio.Event()
    book.will("debit", go, None)
    saga = checkout(book)
    async with engine_on(any_database, saga) as engine:
        run = await begin(engine, any_database, saga)
        await book.until("debit")
        async with any_database.transaction() as tx:
            await tx.run("UPDATE switchgear_sagas SET owner = 'x/1/1/a', fence = 9, wake = 1.0")
        go.set()
        await eventually(lambda: "held by another worker" in caplog.text)
        # it is taken up under the next fence, and the step is asked again with the same key
        await run.result(within=60)
    assert [call.ctx.attempt for call in book.of("debit")] == [1, 2]
    evidence = await runbook.show(any_database, "o-1")
    assert [len(step.attempts) for step in evidence.steps] == [1, 1, 1, 1]
    assert len(evidence.interruptions) == 1


async def test_in_a_transaction_that_the_team_opened_itself(
    any_database: Database, book: Book
) -> None:
    """Its driver does not tell when it was committed: the saga is left to whoever looks first."""
    saga = checkout(book)
    async with engine_on(any_database, saga) as engine:
        async with any_database.transaction() as tx:
            if isinstance(tx.connection, sqlite3.Connection):
                run = await begin_by_hand(tx, engine, saga)
            else:
                run = await engine.start(tx.connection, saga, Order("o-1"), id="o-1")
            [(owner,)] = await tx.run("SELECT owner FROM switchgear_sagas")
            assert owner is None
        await run.result(within=60)


async def begin_by_hand(tx: Transaction, engine: Engine, saga: Saga) -> Run:
    assert isinstance(tx, SqliteTransaction)
    return await tx.step(
        lambda connection: engine.start_sync(connection, saga, Order("o-1"), id="o-1")
    )


async def test_a_saga_whose_start_nobody_was_told_of(any_database: Database, book: Book) -> None:
    """It is held by this worker, which finds out when it extends its leases."""
    saga = checkout(book)
    async with engine_on(any_database, saga, lease=2.0) as engine:
        async with any_database.transaction() as tx:
            run = await engine.start(tx, saga, Order("o-1"), id="o-1")
            assert isinstance(tx, SqliteTransaction | PostgresTransaction | SqlAlchemyTransaction)
            tx._callbacks.clear()
        await run.result(within=60)
    assert book.names == ["reserve", "debit", "ship", "confirm"]


async def test_stopped_and_taken_up(any_database: Database, book: Book) -> None:
    book.will("debit", asyncio.Event(), None)
    saga = checkout(book)
    async with engine_on(any_database, saga, lease=60.0) as engine:
        run = await begin(engine, any_database, saga)
        await book.until("debit")
        await engine.stop(within=0.01)
    async with engine_on(any_database, saga) as second:
        await second.get(run.id).result(within=60)


async def test_two_processes_prepare_at_once(any_database: Database, book: Book) -> None:
    saga = checkout(book)
    await asyncio.gather(*(engine_on(any_database, saga).prepare() for _ in range(3)))


async def test_the_claim_uses_an_index(any_database: Database, book: Book) -> None:
    await engine_on(any_database, checkout(book)).prepare()
    units = Units(any_database.dialect)
    plans = []
    async with any_database.transaction() as tx:
        if any_database.dialect == "postgres":
            await tx.run("SET LOCAL enable_seqscan = off")
        unit = units.due(["a", "b"])
        sql, args = next(unit)
        prefix = "EXPLAIN QUERY PLAN " if any_database.dialect == "sqlite" else "EXPLAIN "
        plans += [str(row) for row in await tx.run(prefix + sql, *args)]
        sql, args = next(units.extend("me", 1.0))
        plans += [str(row) for row in await tx.run(prefix + sql, *args)]
    told = " ".join(plans)
    assert "switchgear_sagas_wake" in told
    assert "switchgear_sagas_owner" in told


class TestBegin:
    """Sagas that are started by themselves share a commit, and are what they are otherwise."""

    async def test_many_at_once(self, any_database: Database, book: Book) -> None:
        saga = checkout(book)
        async with Engine(any_database, [saga]) as engine:
            begun = [engine.begin(saga, Order(f"o-{n}"), id=f"o-{n}") for n in range(40)]
            for run in await asyncio.gather(*begun):
                await run.result(within=60)
            again = await engine.begin(saga, Order("o-3"), id="o-3")
            await again.result(within=60)
            with pytest.raises(SagaConflict, match="another input"):
                await engine.begin(saga, Order("o-3", amount=99), id="o-3")
        assert len(book.of("reserve")) == 40

    async def test_the_same_twice_in_one_group(self, any_database: Database, book: Book) -> None:
        saga = checkout(book)
        async with Engine(any_database, [saga]) as engine:
            same = [engine.begin(saga, Order("o-1"), id="o-1") for _ in range(5)]
            other = engine.begin(saga, Order("o-1", amount=99), id="o-1")
            *runs, refused = await asyncio.gather(*same, other, return_exceptions=True)
            assert isinstance(refused, SagaConflict)
            for run in runs:
                assert isinstance(run, Run)
                await run.result(within=60)
        assert len(book.of("reserve")) == 1

    async def test_one_that_is_refused_takes_no_other_with_it(
        self, any_database: Database, book: Book
    ) -> None:
        saga = checkout(book)
        single = Saga("single", version=1, runbook="runbooks/ship.md")

        @single.read
        async def look(order: Order, ctx: Context) -> None:
            await book.called("look", ctx)

        single.lock("order", lambda order: order.order_id, held="refuse")
        single.path(look)
        hold = asyncio.Event()
        book.will("look", hold)
        async with Engine(any_database, [saga, single]) as engine:
            first, refused, other = await asyncio.gather(
                engine.begin(single, Order("o"), id="s-1"),
                engine.begin(single, Order("o"), id="s-2"),
                engine.begin(saga, Order("o"), id="o-1"),
                return_exceptions=True,
            )
            assert isinstance(refused, SagaLocked)
            hold.set()
            for run in (first, other):
                assert isinstance(run, Run)
                await run.result(within=60)
