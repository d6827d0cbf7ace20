"""The worker outlives what nobody expected, and its end has a bound."""

from __future__ import annotations

import asyncio
import logging

import asyncpg
import pytest

from switchgear.database.port import Database
from switchgear.database.postgres import Postgres
from switchgear.database.sqlite import Sqlite
from switchgear.saga import Engine, Run, Saga, worker
from tests.saga.shop import Book, Order, checkout, eventually


async def begin(engine: Engine, database: Database, saga: Saga, name: str = "o-1") -> Run:
    async with database.transaction() as tx:
        return await engine.start(tx, saga, Order(name), id=name)


async def rename(database: Database, table: str, name: str) -> None:
    """Make a statement fail with an error that is on nobody's list, or take that back."""
    async with database.transaction() as tx:
        await tx.run(f"ALTER TABLE {table} RENAME TO {name}")


async def test_work_goes_on_after_an_error_that_nobody_expected(
    any_database: Database, book: Book, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "switchgear.saga")
    saga = checkout(book)
    async with Engine(any_database, [saga], poll=0.05) as engine:
        await rename(any_database, "switchgear_sagas", "elsewhere")
        engine.wake()
        await eventually(lambda: "cannot be used now" in caplog.text)
        await rename(any_database, "elsewhere", "switchgear_sagas")
        await (await begin(engine, any_database, saga)).result(within=60)
        assert engine.running
    assert "Traceback" in caplog.text


async def test_what_an_attempt_answered_is_not_lost_to_one(
    any_database: Database, book: Book, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "switchgear.saga")
    go = asyncio.Event()
    book.will("debit", go)
    saga = checkout(book)
    # one beat, at the beginning: only the saga's own line meets the error
    async with Engine(any_database, [saga], poll=0.05, lease=3600.0) as engine:
        run = await begin(engine, any_database, saga)
        await book.until("debit")
        await rename(any_database, "switchgear_saga_journal", "elsewhere")
        go.set()
        await eventually(lambda: "cannot be used now" in caplog.text)
        await rename(any_database, "elsewhere", "switchgear_saga_journal")
        await run.result(within=60)
    assert book.names == ["reserve", "debit", "ship", "confirm"]


async def test_a_database_that_says_nothing_does_not_hold_up_the_stop(
    database: Sqlite, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.Event()

    async def silence(unit: object) -> None:
        asked.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(worker, "_HALT", 0.01)
    async with Engine(database, [checkout(book)]) as engine:
        monkeypatch.setattr(engine._worker._store, "read", silence)
        engine.wake()
        await asked.wait()
        async with asyncio.timeout(60):
            await engine.stop(within=0)
        assert not engine.running


async def test_a_step_that_swallows_its_cancellation_does_not_hold_up_the_stop(
    database: Sqlite, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = asyncio.Event()

    async def stubborn() -> None:
        while not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                continue

    monkeypatch.setattr(worker, "_HALT", 0.01)
    book.will("debit", stubborn)
    saga = checkout(book)
    async with Engine(database, [saga]) as engine:
        await begin(engine, database, saga)
        await book.until("debit")
        async with asyncio.timeout(60):
            await engine.stop(within=0)
        assert not engine.running
        go.set()


async def test_a_store_that_fails_is_left_alone_for_a_moment(
    database: Sqlite, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    async def fails(unit: object) -> None:
        asked.append(unit)
        raise LookupError("nobody expected it")

    monkeypatch.setattr(worker, "_PAUSE", 3600.0)
    engine = Engine(database, [checkout(book)])
    await engine.prepare()
    monkeypatch.setattr(engine._worker._store, "apart", fails)
    async with engine:
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(asked) == 1
        monkeypatch.undo()


async def test_a_saga_whose_row_somebody_holds_is_asked_for_again_later(
    postgres_url: str, book: Book
) -> None:
    saga = checkout(book)
    async with asyncpg.create_pool(postgres_url, min_size=1, max_size=4) as pool:
        database = Postgres(pool)
        engine = Engine(database, [saga], poll=7.0)
        await engine.prepare()
        await begin(engine, database, saga)
        async with pool.acquire() as held, held.transaction():
            await held.execute("SELECT 1 FROM switchgear_sagas FOR UPDATE")
            assert await engine._worker._claim(0.0) == 7.0
        async with engine:
            await engine.get("o-1").result(within=60)
