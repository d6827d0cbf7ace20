"""The queue of work items, as a person at a terminal meets it: through the database alone."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from switchgear.database.port import Database
from switchgear.database.sqlite import Sqlite
from switchgear.errors import SagaError
from switchgear.model.outcome import Refused
from switchgear.saga import (
    Backoff,
    Engine,
    Fate,
    Held,
    NoSuchSaga,
    SagaUndone,
    SagaUnfinished,
    Side,
    StateMoved,
    runbook,
)
from switchgear.saga.state import What
from tests.saga.shop import (
    UNAVAILABLE,
    UNKNOWN,
    Book,
    Clock,
    Order,
    OutOfStock,
    Shipment,
    checkout,
    eventually,
)


async def queued(engine: Engine, database: Sqlite, saga, name: str = "o-1") -> None:
    async with database.transaction() as tx:
        run = await engine.start(tx, saga, Order(name), id=name)
    with pytest.raises(SagaUnfinished, match="waits for a person"):
        await run.result(within=60)


async def test_an_undo_that_fails_waits_with_its_runbook_and_goes_on_when_told(
    database: Sqlite, book: Book
) -> None:
    book.will("ship", OutOfStock(sku="A-1"))
    book.will("refund", UNAVAILABLE)
    saga = checkout(book)
    async with Engine(database, [saga]) as engine:
        await queued(engine, database, saga)
        assert book.names == ["reserve", "debit", "ship", "refund", "refund"]

        [item] = await runbook.list_items(database)
        assert (item.id, item.saga_id, item.saga) == ("o-1/refund", "o-1", "checkout")
        assert (item.step, item.side) == ("debit", Side.UNDO)
        assert item.runbook == "runbooks/refund.md"
        assert "Call whoever is on duty" in item.instructions

        evidence = await runbook.show(database, "o-1/refund")
        assert evidence == await runbook.show(database, "o-1")
        assert (evidence.saga, evidence.version, evidence.status) == ("checkout", 1, "queued")
        assert evidence.input == '{"order_id":"o-1","amount":10}'
        assert evidence.named(Fate.DONE) == ("reserve", "debit")
        assert evidence.named(Fate.ABSENT) == ("ship",)
        assert evidence.named(Fate.WAITING) == ("confirm",)
        debit = evidence.steps[1]
        assert (debit.name, debit.undo, debit.result) == ("debit", "refund", '{"number":10}')
        assert [(each.side, each.attempt, each.what) for each in debit.attempts] == [
            ("do", 1, What.OK),
            ("undo", 1, What.UNAVAILABLE),
            ("undo", 2, What.UNAVAILABLE),
        ]
        assert debit.attempts[2].failure is not None
        assert debit.attempts[2].failure.what == "nobody is there"
        assert debit.attempts[2].failure.reason == "connect"
        ship = evidence.steps[2].attempts[0].failure
        assert ship is not None
        assert (ship.kind, ship.fields) == ("tests.saga.OutOfStock", {"sku": "A-1"})

        book.will("refund", None)
        closed = await runbook.retry(database, "o-1", "ann", "the API is back")
        assert (closed.action, closed.actor, closed.reason) == ("retry", "ann", "the API is back")
        with pytest.raises(SagaUndone):
            await engine.get("o-1").result(within=60)
        assert book.names[-2:] == ["refund", "release"]
        assert book.of("refund")[-1].ctx.attempt == 3
        assert await runbook.list_items(database) == []
        assert [each.id for each in await runbook.list_items(database, closed=True)] == [
            "o-1/refund"
        ]
        decision = (await runbook.show(database, "o-1")).steps[1].attempts[3].decision
        assert decision is not None
        assert (decision.actor, decision.reason) == ("ann", "the API is back")


async def test_it_opens_again_if_it_fails_again(database: Sqlite, book: Book) -> None:
    book.will("ship", Refused("no"))
    book.will("refund", Refused("never"))
    saga = checkout(book)
    async with Engine(database, [saga]) as engine:
        await queued(engine, database, saga)
        for _ in range(2):
            await runbook.retry(database, "o-1", "ann", "once more")

            async def is_open() -> bool:
                return bool(await runbook.list_items(database))

            await eventually(is_open)
        [item] = await runbook.list_items(database)
    assert item.action is None
    assert book.names.count("refund") == 3


async def test_actions_are_idempotent_and_refused_when_the_saga_has_moved(
    database: Sqlite, book: Book
) -> None:
    book.will("ship", Refused("no"))
    book.will("refund", Refused("never"))
    saga = checkout(book)
    async with Engine(database, [saga]) as engine:
        await queued(engine, database, saga)
    # nobody works: what is decided is decided by the database alone
    first = await runbook.resolve(database, "o-1/refund", "ann", "paid back by hand")
    again = await runbook.resolve(database, "o-1/refund", "ann", "paid back by hand")
    assert first == again
    for actor, reason in (("bob", "paid back by hand"), ("ann", "otherwise")):
        with pytest.raises(StateMoved, match=r"closed: resolve by ann: paid back by hand"):
            await runbook.resolve(database, "o-1", actor, reason)
    with pytest.raises(StateMoved):
        await runbook.retry(database, "o-1", "ann", "paid back by hand")
    async with Engine(database, [saga]) as engine:
        with pytest.raises(SagaUndone):
            await engine.get("o-1").result(within=60)
    assert book.names == ["reserve", "debit", "ship", "refund", "release"]


async def test_skip_goes_on_and_says_so(database: Sqlite, book: Book) -> None:
    book.will("ship", Refused("no"))
    book.will("refund", Refused("never"))
    saga = checkout(book)
    async with Engine(database, [saga]) as engine:
        await queued(engine, database, saga)
        await runbook.skip(database, "o-1", "ann", "written off")
        with pytest.raises(SagaUndone):
            await engine.get("o-1").result(within=60)
    evidence = await runbook.show(database, "o-1")
    assert evidence.named(Fate.SKIPPED) == ("debit",)
    assert evidence.status == "undone"


class TestPivot:
    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def saga(self, book: Book, clock: Clock):
        async def late() -> None:
            clock.now += 2 * 3600
            raise UNKNOWN

        book.will("ship", UNKNOWN, late)
        at_once = Backoff(attempts=2, first=0.0, most=0.0)
        return checkout(book, give_up=timedelta(hours=1), retry=at_once)

    async def test_it_is_asked_again_until_it_gives_up(
        self, database: Sqlite, book: Book, clock: Clock, saga
    ) -> None:
        async with Engine(database, [saga], clock=clock) as engine:
            await queued(engine, database, saga)
            assert len(book.of("ship")) == 2
            assert len({call.ctx.key for call in book.of("ship")}) == 1
            [item] = await runbook.list_items(database)
            assert (item.id, item.step, item.side) == ("o-1/ship", "ship", Side.DO)
            with pytest.raises(StateMoved, match="a pivot cannot be skipped"):
                await runbook.skip(database, "o-1", "ann", "no")
            book.will("ship", None)
            await runbook.retry(database, "o-1", "ann", "it answers again")
            done = await engine.get("o-1").result(within=60)
        assert done.result(saga.steps["ship"]) == Shipment(3)

    async def test_it_can_be_aborted(
        self, database: Sqlite, book: Book, clock: Clock, saga
    ) -> None:
        async with Engine(database, [saga], clock=clock) as engine:
            await queued(engine, database, saga)
            await runbook.abort(database, "o-1", "ann", "no parcel left the house")
            with pytest.raises(SagaUndone, match="aborted by a person"):
                await engine.get("o-1").result(within=60)
        assert book.names[-2:] == ["refund", "release"]

    async def test_it_can_be_resolved_with_its_result(
        self, database: Sqlite, book: Book, clock: Clock, saga
    ) -> None:
        async with Engine(database, [saga], clock=clock) as engine:
            await queued(engine, database, saga)
            with pytest.raises(SagaError, match="not JSON"):
                await runbook.resolve(database, "o-1", "ann", "by hand", "{")
            await runbook.resolve(database, "o-1", "ann", "by hand", '{"number": 7}')
            done = await engine.get("o-1").result(within=60)
        assert done.result(saga.steps["ship"]) == Shipment(7)
        assert book.of("confirm")[0].done == Shipment(7)


async def test_a_retriable_step_can_be_skipped(database: Sqlite, book: Book) -> None:
    book.will("confirm", Refused("never"))
    saga = checkout(book)
    async with Engine(database, [saga]) as engine:
        await queued(engine, database, saga)
        with pytest.raises(StateMoved, match="only a pivot"):
            await runbook.abort(database, "o-1", "ann", "no")
        await runbook.skip(database, "o-1", "ann", "told them by phone")
        done = await engine.get("o-1").result(within=60)
    with pytest.raises(LookupError):
        done.result(saga.steps["confirm"])


async def test_a_result_that_is_needed_must_be_given(database: Sqlite, book: Book) -> None:
    from switchgear.saga import Context, Saga

    book.will("first", Refused("never"))
    saga = Saga("two", version=1, runbook="runbooks/ship.md")

    @saga.retriable(give_up=timedelta(hours=1))
    async def first(order: Order, ctx: Context) -> Shipment:
        await book.called("first", ctx)
        return Shipment(1)

    @saga.retriable(give_up=timedelta(hours=1))
    async def second(order: Order, shipped: Shipment, ctx: Context) -> None:
        await book.called("second", ctx, shipped)

    saga.path(first >> second)
    async with Engine(database, [saga]) as engine:
        await queued(engine, database, saga)
        with pytest.raises(StateMoved, match="second needs its result"):
            await runbook.skip(database, "o-1", "ann", "no")
        with pytest.raises(SagaError, match=r"second needs the result.*--result"):
            await runbook.resolve(database, "o-1", "ann", "by hand")
        await runbook.resolve(database, "o-1", "ann", "by hand", '{"number": 5}')
        await engine.get("o-1").result(within=60)
    assert book.of("second")[0].done == Shipment(5)


class TestRefused:
    async def test_without_tables(self, database: Sqlite) -> None:
        with pytest.raises(SagaError, match="no tables for sagas"):
            await runbook.list_items(database)
        await database.migrate("other", ("CREATE TABLE t (a TEXT)",))
        with pytest.raises(SagaError, match="no tables for sagas"):
            await runbook.show(database, "o-1")

    async def test_with_older_tables(self, database: Sqlite) -> None:
        await Engine(database).prepare()
        await database.write(
            lambda connection: connection.execute("UPDATE switchgear_schema SET version = 99")
        )
        with pytest.raises(SagaError, match="version 99"):
            await runbook.list_items(database)

    async def test_what_is_not_there(self, database: Sqlite, book: Book) -> None:
        saga = checkout(book)
        async with Engine(database, [saga]) as engine:
            async with database.transaction() as tx:
                run = await engine.start(tx, saga, Order("o-1"), id="o-1")
            await run.result(within=60)
            with pytest.raises(NoSuchSaga, match="no saga and no work item o-2"):
                await runbook.retry(database, "o-2", "ann", "why")
            with pytest.raises(NoSuchSaga):
                await runbook.show(database, "o-2")
            with pytest.raises(StateMoved, match="o-1 has no work item; it is done"):
                await runbook.retry(database, "o-1", "ann", "why")

    @pytest.mark.parametrize(("actor", "reason"), [("", "why"), ("ann", " ")])
    async def test_without_an_actor_or_a_reason(
        self, database: Sqlite, actor: str, reason: str
    ) -> None:
        with pytest.raises(SagaError, match="actor and a reason"):
            await runbook.retry(database, "o-1", actor, reason)

    async def test_several_items(self, database: Sqlite, book: Book) -> None:
        from switchgear.saga import Context, Saga

        saga = Saga("wide", version=1, runbook="runbooks/ship.md")

        @saga.retriable(give_up=timedelta(hours=1))
        async def left(order: Order, ctx: Context) -> None:
            raise Refused("never")

        @saga.retriable(give_up=timedelta(hours=1))
        async def right(order: Order, ctx: Context) -> None:
            raise Refused("never")

        saga.path(left | right)
        async with Engine(database, [saga]) as engine:
            await queued(engine, database, saga)
            with pytest.raises(SagaError, match="several work items"):
                await runbook.skip(database, "o-1", "ann", "why")
            await runbook.skip(database, "o-1/left", "ann", "why")
            await runbook.skip(database, "o-1/right", "ann", "why")
            await engine.get("o-1").result(within=60)

    async def test_while_a_worker_is_at_work(self, database: Sqlite, book: Book) -> None:
        from switchgear.saga import Context, Saga

        go = asyncio.Event()
        book.will("slow", go)
        saga = Saga(
            "wide", version=1, runbook="runbooks/ship.md", retry=Backoff(first=60.0, most=60.0)
        )

        @saga.retriable(give_up=timedelta(hours=1))
        async def stuck(order: Order, ctx: Context) -> None:
            await book.until("slow")
            raise Refused("never")

        @saga.retriable(give_up=timedelta(hours=1))
        async def slow(order: Order, ctx: Context) -> None:
            await book.called("slow", ctx)
            if len(book.calls) == 1:
                raise UNAVAILABLE

        saga.path(stuck | slow)
        async with Engine(database, [saga]) as engine:
            async with database.transaction() as tx:
                await engine.start(tx, saga, Order("o-1"), id="o-1")

            async def is_open() -> bool:
                return bool(await runbook.list_items(database))

            await eventually(is_open)
            with pytest.raises(StateMoved, match="at work on saga o-1 right now"):
                await runbook.skip(database, "o-1", "ann", "why")
            go.set()

            # the branch that failed rests until its next attempt: now a person can act
            async def skipped() -> bool:
                try:
                    await runbook.skip(database, "o-1", "ann", "why")
                except StateMoved:
                    return False
                return True

            await eventually(skipped)
            assert (await engine.get("o-1").state()).status == "running"


async def test_a_runbook_that_is_gone_by_then(database: Sqlite, book: Book, tmp_path: Path) -> None:
    from switchgear.saga import Context, Saga

    file = tmp_path / "gone.md"
    file.write_text("Call someone.")
    saga = Saga("one", version=1, runbook=str(file))

    @saga.retriable(give_up=timedelta(hours=1))
    async def only(order: Order, ctx: Context) -> None:
        raise Refused("never")

    saga.path(only)
    file.unlink()
    async with Engine(database, [saga]) as engine:
        await queued(engine, database, saga)
    [item] = await runbook.list_items(database)
    assert "cannot be read" in item.instructions


class TestRefuted:
    """Shipped, then the payment bounced."""

    async def shipped(self, database: Database, engine: Engine, saga) -> None:
        async with database.transaction() as tx:
            run = await engine.start(tx, saga, Order("o-1"), id="o-1")
        await run.result(within=60)

    async def test_what_it_settles_waits_for_nobody(
        self, any_database: Database, book: Book
    ) -> None:
        book.will("confirm", OutOfStock(sku="A-1"))
        book.will("refund", OutOfStock(sku="A-1"))
        saga = checkout(book)
        async with Engine(any_database, [saga]) as engine:
            run = await engine.begin(saga, Order("o-1"), id="o-1")
            with pytest.raises(SagaUnfinished, match="waits for a person"):
                await run.result(within=60)
            await runbook.refute(any_database, "o-1", "ship", "ann", "the parcel came back")

            async def refund_waits() -> bool:
                items = await runbook.list_items(any_database)
                return [item.id for item in items] == ["o-1/refund"]

            await eventually(refund_waits)
            (closed,) = await runbook.list_items(any_database, closed=True)
            assert (closed.id, closed.action, closed.actor) == ("o-1/confirm", "left", "the saga")
            # the saga has one item, so its id is enough
            await runbook.resolve(any_database, "o-1", "ann", "by hand")
            with pytest.raises(SagaUndone):
                await run.result(within=60)

    async def test_after_the_end(self, any_database: Database, book: Book) -> None:
        saga = checkout(book)
        async with Engine(any_database, [saga]) as engine:
            await self.shipped(any_database, engine, saga)
            told = await runbook.refute(any_database, "o-1", "debit", "bank", "cheque 7 bounced")
            assert told == "undoing"

            async def is_queued() -> bool:
                return (await engine.get("o-1").state()).status == "queued"

            await eventually(is_queued)
            # once more is the same, whoever says it
            assert await runbook.refute(any_database, "o-1", "debit", "ann", "again") == "queued"
            items = await runbook.list_items(any_database)
            assert [(item.id, item.runbook) for item in items] == [
                ("o-1/confirm", "runbooks/confirm.md"),
                ("o-1/ship", "runbooks/ship.md"),
            ]
            evidence = await runbook.show(any_database, "o-1")
            assert evidence.named(Fate.REFUTED) == ("debit",)
            assert evidence.steps[1].attempts[-1].decision == runbook.Decision(
                "bank", "cheque 7 bounced"
            )
            with pytest.raises(StateMoved, match="no undo that could be tried again"):
                await runbook.retry(any_database, "o-1/ship", "ann", "?")
            await runbook.skip(any_database, "o-1/confirm", "ann", "told the customer")
            back = await runbook.resolve(any_database, "o-1/ship", "ann", "the parcel is back")
            assert back.status == "undoing"
            with pytest.raises(SagaUndone, match="refuted by bank: cheque 7 bounced"):
                await engine.get("o-1").result(within=60)
        assert book.names == ["reserve", "debit", "ship", "confirm", "release"]

    async def test_by_an_event_in_its_transaction(self, database: Sqlite, book: Book) -> None:
        saga = checkout(book)
        held = asyncio.Event()
        book.will("ship", held)
        async with Engine(database, [saga]) as engine:
            async with database.transaction() as tx:
                run = await engine.start(tx, saga, Order("o-1"), id="o-1")
            await book.until("ship")

            async def bounced() -> str:
                async with database.transaction() as tx:
                    debit = saga.steps["debit"]
                    return await engine.refute(tx, "o-1", debit, actor="bank", evidence="bounced")

            with pytest.raises(Held):
                await bounced()
            with pytest.raises(Held):
                await runbook.refute(database, "o-1", "debit", "bank", "bounced", within=0.1)
            held.set()
            await run.result(within=60)
            assert await bounced() == "undoing"
            with pytest.raises(SagaUnfinished):
                await run.result(within=60)

    async def test_bad_input(self, database: Sqlite, book: Book) -> None:
        saga = checkout(book)
        async with Engine(database, [saga]) as engine:
            await self.shipped(database, engine, saga)
        with pytest.raises(NoSuchSaga, match="no saga o-2"):
            await runbook.refute(database, "o-2", "debit", "ann", "x")
        with pytest.raises(StateMoved, match="no step pack"):
            await runbook.refute(database, "o-1", "pack", "ann", "x")
        with pytest.raises(SagaError, match="needs an actor and a reason"):
            await runbook.refute(database, "o-1", "debit", "ann", " ")


@pytest.mark.parametrize(
    ("version", "says"),
    [
        (1, r"at version 1, and this release works with \d.*carries out what is missing \(2, "),
        (99, r"at version 99, and this release knows \d.*Use the release"),
    ],
)
async def test_tables_of_another_release(
    database: Sqlite, book: Book, version: int, says: str
) -> None:
    await Engine(database, [checkout(book)]).prepare()
    async with database.transaction() as tx:
        sql = "UPDATE switchgear_schema SET version = ? WHERE component = 'sagas'"
        await tx.run(sql, version)
    with pytest.raises(SagaError, match=says):
        await runbook.retry(database, "o-1", "ann", "now")
    with pytest.raises(SagaError, match=says):
        await runbook.list_items(database)
