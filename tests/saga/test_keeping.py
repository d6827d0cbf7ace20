"""Finished sagas are kept for a time, archived and deleted; and however many there are, they cost
the work that is going on nothing."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path

import pytest

from switchgear.database.port import Database
from switchgear.database.sqlite import Sqlite
from switchgear.errors import SagaDefinitionError
from switchgear.model.outcome import Refused
from switchgear.saga import Engine, NoSuchSaga, Saga, SagaUnfinished, runbook
from switchgear.saga.keeping import Keeper
from switchgear.saga.stores import store_of
from switchgear.saga.stores.units import Units
from tests.saga.shop import Book, Clock, Order, checkout, eventually

DAY = 86_400


def keeper(database: Database, saga: Saga, archive: Path | None = None) -> Keeper:
    units = Units(database.dialect)
    return Keeper(store_of(database), units, {saga.plan.id: saga}, archive)


async def ended(database: Database, engine: Engine, saga: Saga, names: list[str]) -> None:
    for name in names:
        async with database.transaction() as tx:
            run = await engine.start(tx, saga, Order(name), id=name)
        await run.result(within=60)


async def count(database: Database, table: str) -> int:
    async with database.transaction() as tx:
        return (await tx.run(f"SELECT COUNT(*) FROM switchgear_{table}"))[0][0]


async def test_kept_then_archived_then_deleted(
    any_database: Database, book: Book, tmp_path: Path
) -> None:
    clock = Clock()
    saga = checkout(book, keep=timedelta(days=30))
    async with Engine(any_database, [saga], clock=clock) as engine:
        await ended(any_database, engine, saga, ["o-1", "o-2"])
        clock.now += 20 * DAY
        await ended(any_database, engine, saga, ["o-3"])
    keeping = keeper(any_database, saga, tmp_path / "archive")
    assert await keeping.sweep(clock.now + 10 * DAY - 1) == 0
    assert await keeping.sweep(clock.now + 10 * DAY + 1) == 2
    assert [await count(any_database, name) for name in ("sagas", "saga_journal")] == [1, 4]
    [file] = (tmp_path / "archive").iterdir()
    told = [json.loads(line) for line in file.read_text().splitlines()]
    assert [each["id"] for each in told] == ["o-1", "o-2"]
    assert told[0]["status"] == "done"
    assert [step["name"] for step in told[0]["steps"]] == ["reserve", "debit", "ship", "confirm"]
    assert file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(NoSuchSaga):
        await runbook.refute(any_database, "o-1", "debit", "bank", "bounced")
    assert (await runbook.show(any_database, "o-3")).status == "done"


async def test_what_has_not_ended_is_kept(database: Sqlite, book: Book) -> None:
    clock = Clock()
    book.will("ship", Refused("no"))
    book.will("refund", Refused("never"))
    saga = checkout(book, keep=timedelta(days=1))
    async with Engine(database, [saga], clock=clock) as engine:
        with pytest.raises(SagaUnfinished):
            await ended(database, engine, saga, ["o-1"])
    assert await keeper(database, saga).sweep(clock.now + 100 * DAY) == 0
    assert (await runbook.show(database, "o-1")).status == "queued"


async def test_for_ever_is_the_default_and_others_sagas_are_left_alone(
    database: Sqlite, book: Book
) -> None:
    clock = Clock()
    saga = checkout(book)
    async with Engine(database, [saga], clock=clock) as engine:
        await ended(database, engine, saga, ["o-1"])
    other = checkout(book, name="other", keep=timedelta(days=1))
    for each in (saga, other):
        assert await keeper(database, each).sweep(clock.now + 10_000 * DAY) == 0
    with pytest.raises(SagaDefinitionError, match="its keep is"):
        checkout(book, keep=timedelta())


async def test_an_engine_does_it_and_goes_on_when_it_cannot(
    database: Sqlite, book: Book, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    saga = checkout(book, keep=timedelta(days=1))
    async with Engine(database, [saga], clock=clock) as engine:
        await ended(database, engine, saga, ["o-1"])
    clock.now += 2 * DAY

    async def first_is_gone() -> bool:
        async with database.transaction() as tx:
            return not await tx.run("SELECT 1 FROM switchgear_sagas WHERE id = 'o-1'")

    (tmp_path / "file").write_text("")
    async with Engine(database, [saga], clock=clock, archive=tmp_path / "file") as engine:
        await ended(database, engine, saga, ["o-2"])
        await eventually(lambda: "cannot be archived, and are kept" in caplog.text)
    assert await count(database, "sagas") == 2
    async with Engine(database, [saga], clock=clock) as engine:
        await ended(database, engine, saga, ["o-3"])
        await eventually(first_is_gone)
    assert await count(database, "sagas") == 2


async def test_the_work_goes_on_while_very_many_are_put_away(
    database: Sqlite, book: Book, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def slowly(*_: object) -> int:
        asked.set()
        await go.wait()
        return 0

    monkeypatch.setattr(Keeper, "sweep", slowly)
    saga = checkout(book, keep=timedelta(days=1))
    async with Engine(database, [saga], archive=tmp_path / "archive") as engine:
        await asked.wait()
        other = Engine(database, [saga])
        await other.prepare()
        await other.begin(saga, Order("o-1"), id="o-1")  # it does not work: this one finds it
        await engine.get("o-1").result(within=60)
        go.set()


async def test_a_walk_ends_and_begins_again(database: Sqlite, book: Book) -> None:
    saga = checkout(book, keep=timedelta(days=1))
    await Engine(database, [saga]).prepare()
    await fill(database, saga, 1_200)
    keeping = keeper(database, saga)
    assert await keeping.sweep(DAY) == 0
    assert await keeping.sweep(2 * DAY) == 1_200
    assert await count(database, "sagas") == 0


async def fill(database: Database, saga: Saga, number: int) -> None:
    """Write finished sagas that ended at 1."""
    async with database.transaction() as tx:
        sql = (
            "INSERT INTO switchgear_sagas "
            "(id, definition, input, context, status, began, ended, fence) "
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
            "SELECT 'f-' || i, ?, ?, ?, 'done', 0, 1, 1 FROM n"
        )
        await tx.run(sql, number, saga.plan.id, b"{}", b"{}")


async def test_finished_sagas_are_in_no_index_that_is_asked_for_work(
    any_database: Database, book: Book
) -> None:
    """The plan of each question that a worker asks again and again, with many finished sagas."""
    saga = checkout(book)
    await Engine(any_database, [saga]).prepare()
    await fill(any_database, saga, 5_000)
    units = Units(any_database.dialect)
    definitions = (saga.plan.id,)
    questions = {
        "due": units.due(definitions),
        "claim": units.claim(definitions, "me", 1.0, 10, 0.0),
        "extend": units.extend("me", 1.0),
        "owners": units.owners(),
        "strangers": units.strangers(("x/1/y",)),
    }
    explain = "EXPLAIN QUERY PLAN " if any_database.dialect == "sqlite" else "EXPLAIN "
    async with any_database.transaction() as tx:
        if any_database.dialect == "postgres":
            await tx.run("ANALYZE switchgear_sagas")
        for name, unit in questions.items():
            sql, args = next(unit)
            plan = " ".join(str(row) for row in await tx.run(explain + sql, *args))
            assert "switchgear_sagas_wake" in plan or "switchgear_sagas_owner" in plan, (name, plan)
