"""The engine on SQLite files: what starts, what is recorded, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from switchgear.database.port import Database
from switchgear.database.sqlite import Sqlite
from switchgear.errors import SagaDefinitionError, SagaError
from switchgear.model.context import Context as Bound
from switchgear.model.context import Priority, bind, derived_key
from switchgear.model.outcome import Reason, Refused, Rejected, Unknown
from switchgear.model.signal import Signal, SignalKind, subscribe
from switchgear.saga import (
    Backoff,
    Context,
    Engine,
    Fate,
    NotCommitted,
    Run,
    Saga,
    SagaConflict,
    SagaUndone,
    SagaUnfinished,
    StepFailed,
    runbook,
)
from tests.saga.shop import (
    QUICK,
    UNAVAILABLE,
    UNKNOWN,
    Book,
    Clock,
    Order,
    OutOfStock,
    Payment,
    Reservation,
    Shipment,
    checkout,
    eventually,
)


async def begin(engine: Engine, database: Database, saga: Saga, name: str = "o-1") -> Run:
    async with database.transaction() as tx:
        return await engine.start(tx, saga, Order(name), id=name)


async def test_done(database: Sqlite, book: Book) -> None:
    saga = checkout(book)
    async with Engine(database, [saga]) as engine:
        run = await begin(engine, database, saga)
        done = await run.result(within=60)
        assert done.result(saga.steps["ship"]) == Shipment(3)
        assert book.names == ["reserve", "debit", "ship", "confirm"]
        assert book.of("ship")[0].done == Payment(10)
        assert book.of("confirm")[0].done == Shipment(3)
        state = await run.state()
    assert (state.status, set(state.steps.values())) == ("done", {Fate.DONE})
    assert (state.saga, state.version) == ("checkout", 1)
    assert state.ended is not None


async def test_n_steps_cost_n_plus_one_commits(database: Sqlite, book: Book) -> None:
    saga = checkout(book)
    # one beat, at the beginning, whose writes are over when what it leaves alone was looked for
    async with Engine(database, [saga], lease=3600.0) as engine:
        await eventually(lambda: engine._worker._due > 0)
        said: list[str] = []
        await database.write(lambda connection: connection.set_trace_callback(said.append))
        said.clear()
        run = await begin(engine, database, saga)
        await run.result(within=60)
        await database.write(lambda connection: connection.set_trace_callback(None))
    commits = said.count("COMMIT")
    # the team's own, one for each of four steps, and the one that removes the callback
    assert commits <= 4 + 1 + 1


async def test_it_starts_only_with_its_transaction(database: Sqlite, book: Book) -> None:
    saga = checkout(book)
    async with Engine(database, [saga]) as engine:

        async def fail() -> None:
            async with database.transaction() as tx:
                run = await engine.start(tx, saga, Order("o-1"), id="o-1")
                with pytest.raises(NotCommitted, match="Ask after the transaction"):
                    await run.result(within=60)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        run = engine.get("o-1")
        with pytest.raises(NotCommitted):
            await run.result(within=60)
        with pytest.raises(NotCommitted):
            await run.state()
    assert not book.calls


async def test_the_same_start_twice_is_one_saga(database: Sqlite, book: Book) -> None:
    saga, other = checkout(book), checkout(book, name="other")
    async with Engine(database, [saga, other]) as engine:
        for _ in range(2):
            run = await begin(engine, database, saga)
            await run.result(within=60)
        assert book.names.count("reserve") == 1
        async with database.transaction() as tx:
            with pytest.raises(SagaConflict, match="started with another input"):
                await engine.start(tx, saga, Order("o-1", 11), id="o-1")
            with pytest.raises(SagaConflict, match=r"is that of a saga checkout.*other-o-1"):
                await engine.start(tx, other, Order("o-1"), id="o-1")


class TestUndone:
    async def test_by_a_refusal(self, database: Sqlite, book: Book) -> None:
        book.will("ship", OutOfStock(sku="A-1"))
        saga = checkout(book)
        async with Engine(database, [saga]) as engine:
            run = await begin(engine, database, saga)
            with pytest.raises(SagaUndone) as caught:
                await run.result(within=60)
            assert book.names == ["reserve", "debit", "ship", "refund", "release"]
            assert book.of("refund")[0].done == Payment(10)
            assert book.of("release")[0].done == Reservation(1)
            assert caught.value.step == "ship"
            assert isinstance(caught.value.refusal, OutOfStock)
            assert caught.value.refusal.sku == "A-1"
            # the same from the record, as another process would read it
            with pytest.raises(SagaUndone, match="turned round at step ship: refused"):
                await engine.get("o-1").result(within=0)
            state = await run.state()
        assert state.status == "undone"
        assert state.steps["ship"] is Fate.ABSENT
        assert state.steps["confirm"] is Fate.WAITING

    async def test_by_an_unavailable_step(self, database: Sqlite, book: Book) -> None:
        book.will("debit", UNAVAILABLE)
        saga = checkout(book)
        async with Engine(database, [saga]) as engine:
            with pytest.raises(SagaUndone, match="unavailable: nobody is there"):
                await (await begin(engine, database, saga)).result(within=60)
        assert book.names == ["reserve", "debit", "debit", "release"]

    async def test_by_an_unknown_outcome(self, database: Sqlite, book: Book) -> None:
        book.will("debit", UNKNOWN)
        saga = checkout(book)
        async with Engine(database, [saga]) as engine:
            with pytest.raises(SagaUndone):
                await (await begin(engine, database, saga)).result(within=60)
        assert book.names == ["reserve", "debit", "debit", "refund", "release"]
        first, second = book.of("debit")
        assert first.ctx.key == second.ctx.key == "saga/o-1/debit/do"
        assert (first.ctx.attempt, second.ctx.attempt) == (1, 2)
        [refund] = book.of("refund")
        assert refund.ctx.key == "saga/o-1/debit/undo"
        assert isinstance(refund.done, Unknown)
        assert (refund.done.key, refund.done.attempts) == ("saga/o-1/debit/do", 2)
        assert refund.done.reason is Reason.TIMEOUT
        assert "the reply was lost" in str(refund.done)
        assert isinstance(refund.done.__cause__, StepFailed)

    async def test_by_a_bug_which_is_never_taken_for_a_refusal(
        self, database: Sqlite, book: Book
    ) -> None:
        book.will("reserve", ZeroDivisionError("a bug"))
        saga = checkout(book)
        async with Engine(database, [saga]) as engine:
            with pytest.raises(SagaUndone, match="a bug"):
                await (await begin(engine, database, saga)).result(within=60)
        assert book.names == ["reserve", "reserve", "release"]
        evidence = await runbook.show(database, "o-1")
        attempt = evidence.steps[0].attempts[0]
        assert attempt.failure is not None
        assert attempt.failure.kind == "ZeroDivisionError"
        assert "test_engine" not in (attempt.failure.trace or "")
        assert "shop.py" in (attempt.failure.trace or "")

    async def test_by_a_result_that_cannot_be_recorded(self, database: Sqlite, book: Book) -> None:
        saga = Saga("odd", version=1, retry=QUICK, undo_retry=QUICK)

        class Handle:
            pass

        @saga.undo(runbook="runbooks/release.md")
        async def close(order: Order, done: Handle | Unknown, ctx: Context) -> None:
            await book.called("close", ctx, done)

        @close.undoes
        async def open_(order: Order, ctx: Context) -> Handle:
            await book.called("open", ctx)
            return Handle()

        saga.path(open_)
        async with Engine(database, [saga]) as engine:
            with pytest.raises(SagaUndone, match=r"Handle cannot be recorded as Handle"):
                await (await begin(engine, database, saga)).result(within=60)
        assert book.names == ["open", "close"]
        assert isinstance(book.calls[1].done, Unknown)

    async def test_by_the_deadline(self, database: Sqlite, book: Book) -> None:
        clock = Clock()

        async def nearly_late() -> None:
            clock.now += 15 * 60 - 0.1

        async def hang() -> None:
            clock.now += 1.0
            await asyncio.Event().wait()

        book.will("reserve", nearly_late)
        book.will("debit", hang)
        saga = checkout(book)
        async with Engine(database, [saga], clock=clock) as engine:
            with pytest.raises(SagaUndone, match="took longer"):
                await (await begin(engine, database, saga)).result(within=60)
        assert book.names == ["reserve", "debit", "refund", "release"]
        assert isinstance(book.of("refund")[0].done, Unknown)

    async def test_by_the_deadline_between_attempts(self, database: Sqlite, book: Book) -> None:
        clock = Clock()

        async def late() -> None:
            clock.now += 1000.0

        book.will("reserve", late)
        saga = checkout(book)
        async with Engine(database, [saga], clock=clock) as engine:
            with pytest.raises(SagaUndone, match="done after the deadline"):
                await (await begin(engine, database, saga)).result(within=60)
        assert book.names == ["reserve", "release"]


class TestPartial:
    """A step that sends two commands may have done something before it fails."""

    async def run(self, database: Sqlite, book: Book, error: Exception, commands: int) -> list[str]:
        async def send() -> None:
            for _ in range(commands):
                derived_key("inventory/reserve")
            raise error

        book.will("debit", send)
        saga = checkout(book, retry=Backoff(attempts=1))
        async with Engine(database, [saga]) as engine:
            with pytest.raises(SagaUndone):
                await (await begin(engine, database, saga)).result(within=60)
        return book.names

    @pytest.mark.parametrize("error", [UNAVAILABLE, Refused("no"), Rejected("not so")])
    async def test_one_command_says_all(self, database: Sqlite, book: Book, error) -> None:
        assert await self.run(database, book, error, 1) == ["reserve", "debit", "release"]

    @pytest.mark.parametrize("error", [UNAVAILABLE, Refused("no"), Rejected("not so")])
    async def test_the_last_of_two_does_not(self, database: Sqlite, book: Book, error) -> None:
        assert await self.run(database, book, error, 2) == ["reserve", "debit", "refund", "release"]

    async def test_nor_does_one_after_a_commit(
        self, database: Sqlite, book: Book, tmp_path: Path
    ) -> None:
        own = Sqlite(tmp_path / "own.db")

        async def commit() -> None:
            await own.write(lambda connection: connection.execute("CREATE TABLE t (a)"))
            raise UNAVAILABLE

        book.will("debit", commit)
        saga = checkout(book, retry=Backoff(attempts=1))
        async with Engine(database, [saga]) as engine:
            with pytest.raises(SagaUndone):
                await (await begin(engine, database, saga)).result(within=60)
        assert book.names == ["reserve", "debit", "refund", "release"]
        await own.close()


class TestContext:
    async def test_a_step_inherits_nothing_of_the_request_but_what_it_should(
        self, database: Sqlite, book: Book
    ) -> None:
        request = Bound(
            deadline=time.monotonic() + 3600,
            attempt=3,
            key="request-key",
            priority=Priority.CRITICAL,
            traceparent="00-1-2-01",
            tracestate="a=b",
            caller="gateway",
            correlation="c-1",
        )
        book.will("debit", UNKNOWN, None)
        saga = checkout(book)
        async with Engine(database, [saga]) as engine:
            with bind(request):
                run = await begin(engine, database, saga)
            await run.result(within=60)
        bound = book.of("reserve")[0].bound
        assert bound.key == "saga/o-1/reserve/do"
        assert bound.attempt == 1
        assert (bound.correlation, bound.causation) == ("c-1", "saga/o-1/reserve/do")
        assert (bound.traceparent, bound.tracestate) == ("00-1-2-01", "a=b")
        assert bound.priority is Priority.CRITICAL
        assert bound.caller is None
        assert bound.deadline is not None
        assert request.deadline is not None
        assert bound.deadline < request.deadline - 60  # that of the attempt
        # the same after it was read back from the database
        again = book.of("debit")[1].bound
        assert again.attempt == 2
        assert (again.correlation, again.traceparent) == ("c-1", "00-1-2-01")

    async def test_the_deadline_rides_along_until_the_pivot(
        self, database: Sqlite, book: Book
    ) -> None:
        saga = checkout(book, deadline=timedelta(seconds=20))
        clock = Clock()
        began = asyncio.get_running_loop().time()
        async with Engine(database, [saga], clock=clock) as engine:
            await (await begin(engine, database, saga)).result(within=60)
        until = datetime.fromtimestamp(clock.now + 20, UTC)
        told = {call.name: call.ctx.deadline for call in book.calls}
        assert told == {"reserve": until, "debit": until, "ship": None, "confirm": None}
        left = {call.name: call.bound.deadline for call in book.calls}
        ended = asyncio.get_running_loop().time()
        assert left["reserve"] is not None
        assert left["ship"] is not None
        assert began + 20 <= left["reserve"] <= ended + 20
        assert left["reserve"] + 5 < left["ship"]

    async def test_without_a_correlation_it_is_the_sagas_id(
        self, database: Sqlite, book: Book
    ) -> None:
        saga = checkout(book)
        async with Engine(database, [saga]) as engine:
            await (await begin(engine, database, saga)).result(within=60)
        assert book.calls[0].bound.correlation == "o-1"

    async def test_an_id_with_a_slash_cannot_be_taken_for_another_key(
        self, database: Sqlite, book: Book
    ) -> None:
        saga = checkout(book)
        async with Engine(database, [saga]) as engine:
            run = await begin(engine, database, saga, "eu/1 2")
            await run.result(within=60)
        assert book.calls[0].ctx.key == "saga/eu%2F1%202/reserve/do"
        assert book.calls[0].ctx.id == "eu/1 2"


class TestBranches:
    def saga(self, book: Book) -> Saga:
        saga = Saga("trip", version=1, retry=QUICK, undo_retry=QUICK, runbook="runbooks/release.md")

        @saga.undo()
        async def leave(order: Order, done: Reservation | Unknown, ctx: Context) -> None:
            await book.called("leave", ctx, done)

        @leave.undoes
        async def hotel(order: Order, ctx: Context) -> Reservation:
            await book.called("hotel", ctx)
            return Reservation(1)

        @saga.undo()
        async def walk(order: Order, done: Payment | Unknown, ctx: Context) -> None:
            await book.called("walk", ctx, done)

        @walk.undoes
        async def flight(order: Order, ctx: Context) -> Payment:
            await book.called("flight", ctx)
            return Payment(2)

        @saga.read
        async def look(order: Order, *, room: Reservation, seat: Payment) -> int:
            return room.number + seat.number

        saga.path((hotel | flight) >> look)
        return saga

    async def test_they_run_side_by_side_and_join(self, database: Sqlite, book: Book) -> None:
        async def wait_for_flight() -> None:
            await book.until("flight")

        async def wait_for_hotel() -> None:
            await book.until("hotel")

        book.will("hotel", wait_for_flight)
        book.will("flight", wait_for_hotel)
        saga = self.saga(book)
        async with Engine(database, [saga]) as engine:
            done = await (await begin(engine, database, saga)).result(within=60)
        assert done.result(saga.steps["look"]) == 3

    async def test_a_sibling_is_awaited_before_undoing_starts(
        self, database: Sqlite, book: Book
    ) -> None:
        refused, done = asyncio.Event(), asyncio.Event()

        async def refuse() -> None:
            await book.until("flight")
            refused.set()
            raise Refused("full")

        book.will("hotel", refuse)
        book.will("flight", done)
        saga = self.saga(book)
        async with Engine(database, [saga]) as engine:
            run = await begin(engine, database, saga)
            await refused.wait()

            async def undoing() -> bool:
                return (await run.state()).status == "undoing"

            await eventually(undoing)
            assert book.names == ["hotel", "flight"]
            done.set()
            with pytest.raises(SagaUndone):
                await run.result(within=60)
        assert book.names == ["hotel", "flight", "walk"]
        assert book.of("walk")[0].done == Payment(2)

    async def test_one_waits_for_its_next_attempt_while_the_other_runs(
        self, database: Sqlite, book: Book
    ) -> None:
        async def wait() -> None:
            await eventually(lambda: len(book.of("flight")) == 2)

        book.will("hotel", wait)
        book.will("flight", UNAVAILABLE, None)
        saga = self.saga(book)
        async with Engine(database, [saga]) as engine:
            await (await begin(engine, database, saga)).result(within=60)
        assert sorted(book.names) == ["flight", "flight", "hotel"]

    async def test_a_stopped_worker_leaves_both_in_doubt(
        self, database: Sqlite, book: Book
    ) -> None:
        book.will("hotel", asyncio.Event(), None)
        book.will("flight", asyncio.Event(), None)
        saga = self.saga(book)
        engine = Engine(database, [saga])
        await engine.prepare()
        working = asyncio.create_task(engine.run())
        await eventually(lambda: engine.running)
        run = await begin(engine, database, saga)
        await book.until("flight")
        await engine.stop(within=0.01)
        await working
        async with Engine(database, [saga]) as second:
            await second.get(run.id).result(within=60)
        assert sorted(book.names) == ["flight", "flight", "hotel", "hotel"]
        assert [call.ctx.attempt for call in book.of("hotel")] == [1, 2]

    async def test_one_that_ends_does_not_hide_that_the_other_was_cut_short(
        self, database: Sqlite, book: Book
    ) -> None:
        async def end_when_told_to_stop() -> None:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

        book.will("hotel", asyncio.Event(), UNAVAILABLE)
        book.will("flight", end_when_told_to_stop)
        saga = self.saga(book)
        engine = Engine(database, [saga])
        await engine.prepare()
        working = asyncio.create_task(engine.run())
        await eventually(lambda: engine.running)
        run = await begin(engine, database, saga)
        await book.until("flight")
        await engine.stop(within=0.01)
        await working
        async with Engine(database, [saga]) as second:
            with pytest.raises(SagaUndone):
                await second.get(run.id).result(within=60)
        # in doubt, though its second and third attempt were certainly not carried out
        assert sorted(book.names) == ["flight", "hotel", "hotel", "hotel", "leave", "walk"]


class TestStop:
    async def test_a_running_attempt_ends_and_the_saga_goes_on_elsewhere(
        self, database: Sqlite, book: Book
    ) -> None:
        release = asyncio.Event()
        book.will("debit", release)
        saga = checkout(book)
        engine = Engine(database, [saga], lease=60.0)
        await engine.prepare()
        working = asyncio.create_task(engine.run())
        await eventually(lambda: engine.running)
        run = await begin(engine, database, saga)
        await book.until("debit")
        stopping = asyncio.create_task(engine.stop(within=60))
        await eventually(lambda: not engine.running)
        release.set()
        await stopping
        await working
        assert book.names == ["reserve", "debit"]
        async with Engine(database, [saga]) as second:  # at once: the lease was released
            await second.get(run.id).result(within=60)
        assert book.names == ["reserve", "debit", "ship", "confirm"]
        assert not (await runbook.show(database, "o-1")).interruptions

    async def test_an_attempt_that_does_not_end_counts_as_interrupted(
        self, database: Sqlite, book: Book
    ) -> None:
        book.will("debit", asyncio.Event(), UNAVAILABLE)
        saga = checkout(book, retry=Backoff(attempts=1))
        engine = Engine(database, [saga], lease=60.0)
        await engine.prepare()
        working = asyncio.create_task(engine.run())
        await eventually(lambda: engine.running)
        run = await begin(engine, database, saga)
        await book.until("debit")
        await engine.stop(within=0.01)
        await working
        async with Engine(database, [saga]) as second:
            with pytest.raises(SagaUndone):
                await second.get(run.id).result(within=60)
        # in doubt, though its second attempt was certainly not carried out
        assert book.names == ["reserve", "debit", "debit", "refund", "release"]
        assert len((await runbook.show(database, "o-1")).interruptions) == 1

    async def test_cancelling_run_releases_as_well(self, database: Sqlite, book: Book) -> None:
        book.will("debit", asyncio.Event(), None)
        saga = checkout(book)
        engine = Engine(database, [saga], lease=60.0)
        await engine.prepare()
        working = asyncio.create_task(engine.run())
        await eventually(lambda: engine.running)
        run = await begin(engine, database, saga)
        await book.until("debit")
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
        async with Engine(database, [saga]) as second:
            await second.get(run.id).result(within=60)

    async def test_an_undo_is_resumed(self, database: Sqlite, book: Book) -> None:
        book.will("ship", Refused("no"))
        book.will("refund", asyncio.Event(), None)
        saga = checkout(book)
        engine = Engine(database, [saga], lease=60.0)
        await engine.prepare()
        working = asyncio.create_task(engine.run())
        await eventually(lambda: engine.running)
        run = await begin(engine, database, saga)
        await book.until("refund")
        await engine.stop(within=0.01)
        await working
        async with Engine(database, [saga]) as second:
            with pytest.raises(SagaUndone):
                await second.get(run.id).result(within=60)
        assert book.names[-3:] == ["refund", "refund", "release"]
        assert book.of("refund")[1].ctx.attempt == 2

    async def test_stop_of_an_engine_that_does_not_run(self, database: Sqlite) -> None:
        await Engine(database).stop()

    async def test_it_runs_once(self, database: Sqlite) -> None:
        async with Engine(database) as engine:
            with pytest.raises(SagaError, match="runs already"):
                await engine.run()


class TestSharing:
    async def test_a_worker_takes_up_what_another_left_when_the_lease_runs_out(
        self, database: Sqlite, book: Book
    ) -> None:
        saga = checkout(book)
        first = Engine(database, [saga])
        await first.prepare()
        await begin(first, database, saga)
        # a worker of another machine claimed it, and was never seen again
        await database.write(
            lambda connection: connection.execute(
                "UPDATE switchgear_sagas SET owner = 'elsewhere/1/1/a', fence = 1, wake = 1e12"
            )
        )
        async with Engine(database, [saga]) as second:
            with pytest.raises(SagaUnfinished, match="has not ended yet; it is running"):
                await second.get("o-1").result(within=0.05)
            # its lease runs out
            await database.write(
                lambda connection: connection.execute("UPDATE switchgear_sagas SET wake = 0")
            )
            await second.get("o-1").result(within=60)
        assert len((await runbook.show(database, "o-1")).interruptions) == 1

    async def test_a_dead_process_of_this_machine_is_not_waited_for(
        self, database: Sqlite, book: Book
    ) -> None:
        from switchgear.saga.identity import identity, is_dead

        machine = identity().split("/")[0]
        dead = f"{machine}/4194304/1/a"
        assert is_dead(dead)
        assert not is_dead(identity())
        assert not is_dead("elsewhere/4194304/1/a")
        assert not is_dead("nonsense")
        saga = checkout(book)
        first = Engine(database, [saga])
        await first.prepare()
        await begin(first, database, saga)
        await database.write(
            lambda connection: connection.execute(
                "UPDATE switchgear_sagas SET owner = ?, fence = 1, wake = 1e12", (dead,)
            )
        )
        async with Engine(database, [saga]) as second:
            await second.get("o-1").result(within=60)

    async def test_a_worker_that_lost_its_lease_writes_nothing(
        self, database: Sqlite, book: Book, caplog: pytest.LogCaptureFixture
    ) -> None:
        go = asyncio.Event()
        book.will("debit", go, None)
        saga = checkout(book)
        async with Engine(database, [saga]) as engine:
            await begin(engine, database, saga)
            await book.until("debit")
            # paused for longer than its lease: another worker has claimed the saga
            await database.write(
                lambda connection: connection.execute(
                    "UPDATE switchgear_sagas SET owner = 'elsewhere/1/1/a', fence = fence + 1, "
                    "wake = 1e12"
                )
            )
            go.set()
            await eventually(lambda: "held by another worker" in caplog.text)
            evidence = await runbook.show(database, "o-1")
        assert book.names == ["reserve", "debit"]
        assert [len(step.attempts) for step in evidence.steps] == [1, 0, 0, 0]

    async def test_two_engines_share_the_work(self, database: Sqlite, tmp_path: Path) -> None:
        books = [Book(), Book()]
        sagas = [checkout(each) for each in books]
        # neither gets on before the other has taken something up
        books[0].will("reserve", lambda: books[1].until("reserve"))
        books[1].will("reserve", lambda: books[0].until("reserve"))
        other = Sqlite(database.path)
        starter = Engine(database, sagas[:1])
        await starter.prepare()
        for number in range(40):
            await begin(starter, database, sagas[0], f"o-{number}")
        async with (
            Engine(database, sagas[:1], concurrency=4, lease=60.0) as first,
            Engine(other, sagas[1:], concurrency=4, lease=60.0),
        ):
            for number in range(40):
                await first.get(f"o-{number}").result(within=60)
        keys = [call.ctx.key for book in books for call in book.calls]
        assert len(keys) == len(set(keys)) == 160
        await other.close()

    async def test_more_sagas_than_room(self, database: Sqlite, book: Book) -> None:
        saga = checkout(book)
        async with Engine(database, [saga], concurrency=2) as engine:
            runs = [await begin(engine, database, saga, f"o-{number}") for number in range(9)]
            for run in runs:
                await run.result(within=60)
        assert len(book.calls) == 36

    async def test_another_version_is_left_alone_and_named(
        self, database: Sqlite, book: Book, caplog: pytest.LogCaptureFixture
    ) -> None:
        old, new = checkout(book), checkout(book, version=2)
        starter = Engine(database, [old])
        await starter.prepare()
        await begin(starter, database, old)
        async with Engine(database, [new]) as engine:
            await (await begin(engine, database, new, "o-2")).result(within=60)
            await eventually(lambda: "left alone" in caplog.text)
            assert "1 unfinished saga(s) checkout version 1 are left alone" in caplog.text
            # a run can be asked for its state without the definition: the plan is stored
            assert (await engine.get("o-1").state()).status == "running"
        assert {call.ctx.id for call in book.calls} == {"o-2"}
        async with Engine(database, [old, new]) as engine:
            await engine.get("o-1").result(within=60)

    async def test_a_saga_that_waits_holds_no_lease(self, database: Sqlite, book: Book) -> None:
        clock = Clock()
        book.will("debit", UNAVAILABLE, None)
        saga = checkout(book, retry=Backoff(attempts=2, first=300.0, factor=1.0, most=300.0))
        async with Engine(database, [saga], clock=clock) as engine:
            run = await begin(engine, database, saga)
            await book.until("debit")
            await eventually(lambda: database.read(_is_free))
            clock.now += 300.0
            await database.write(
                lambda connection: connection.execute("UPDATE switchgear_sagas SET wake = 0")
            )
            await run.result(within=60)


def _is_free(connection: sqlite3.Connection) -> bool:
    row: tuple[str | None] = connection.execute("SELECT owner FROM switchgear_sagas").fetchone()
    return row[0] is None


class TestStartingElsewhere:
    async def test_in_a_sqlite3_transaction(self, database: Sqlite, book: Book) -> None:
        saga = checkout(book)
        async with Engine(database, [saga]) as engine:

            def work() -> Run:
                connection = sqlite3.connect(database.path)
                with connection:
                    run = engine.start_sync(connection, saga, Order("o-1"), id="o-1")
                    again = engine.start_sync(connection, saga, Order("o-1"), id="o-1")
                    assert again.id == run.id
                    with pytest.raises(SagaConflict):
                        engine.start_sync(connection, saga, Order("o-2"), id="o-1")
                connection.close()
                return run

            run = await asyncio.to_thread(work)
            await run.result(within=60)
            with pytest.raises(SagaError, match="not a connection that does not await"):
                engine.start_sync(object(), saga, Order("o-2"), id="o-2")

    async def test_in_a_unit_that_shares_its_commit(self, database: Sqlite, book: Book) -> None:
        saga = checkout(book)
        async with Engine(database, [saga]) as engine:
            run = await database.write(
                lambda connection: engine.start_sync(connection, saga, Order("o-1"), id="o-1")
            )
            engine.wake()
            await run.result(within=60)


class TestMisuse:
    async def test_tables_must_be_there(self, database: Sqlite, book: Book) -> None:
        saga = checkout(book)
        async with database.transaction() as tx:
            with pytest.raises(SagaError, match="prepare"):
                await Engine(database, [saga]).start(tx, saga, Order("o-1"), id="o-1")

    @pytest.mark.parametrize("wrong", ["", "x" * 201, "a\nb"])
    async def test_ids(self, database: Sqlite, book: Book, wrong: str) -> None:
        saga = checkout(book)
        async with Engine(database, [saga]) as engine, database.transaction() as tx:
            with pytest.raises(SagaError, match="is not an id"):
                await engine.start(tx, saga, Order("o-1"), id=wrong)

    async def test_input_and_saga(self, database: Sqlite, book: Book) -> None:
        saga = checkout(book)
        async with Engine(database, [saga]) as engine, database.transaction() as tx:
            with pytest.raises(SagaError, match=r"input is a Payment.*Give it a Order"):
                await engine.start(tx, saga, Payment(1), id="o-1")
            with pytest.raises(SagaError, match=r"cannot be recorded"):
                await engine.start(tx, saga, Order("o-1", "much"), id="o-1")  # type: ignore[arg-type]
            with pytest.raises(SagaError, match=r"version 2 of saga checkout is not one"):
                await engine.start(tx, checkout(book, version=2), Order("o-1"), id="o-1")

    async def test_an_input_that_can_no_longer_be_read(
        self, database: Sqlite, book: Book, caplog: pytest.LogCaptureFixture
    ) -> None:
        saga = checkout(book)
        starter = Engine(database, [saga])
        await starter.prepare()
        await begin(starter, database, saga)
        await database.write(
            lambda connection: connection.execute("UPDATE switchgear_sagas SET input = '{}'")
        )
        async with Engine(database, [saga]):
            await eventually(lambda: "cannot be read" in caplog.text)
        assert not book.calls


async def test_a_locked_database_is_waited_for(
    tmp_path: Path, book: Book, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "switchgear.saga")
    database = Sqlite(tmp_path / "sagas.db", busy=0.02)
    go = asyncio.Event()
    book.will("debit", go)
    saga = checkout(book)
    async with Engine(database, [saga]) as engine:
        run = await begin(engine, database, saga)
        await book.until("debit")
        other = sqlite3.connect(database.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        go.set()
        await eventually(lambda: "cannot be used now" in caplog.text)
        other.execute("ROLLBACK")
        other.close()
        await run.result(within=60)
    assert book.names == ["reserve", "debit", "ship", "confirm"]
    await database.close()


async def test_signals(database: Sqlite, book: Book) -> None:
    heard: list[Signal] = []
    book.will("ship", Refused("no"))
    book.will("release", Refused("never"))
    saga = checkout(book)
    with subscribe(heard.append):
        async with Engine(database, [saga]) as engine:
            with pytest.raises(SagaUnfinished):
                await (await begin(engine, database, saga)).result(within=60)
            await runbook.resolve(database, "o-1", "ann", "by hand")
            with pytest.raises(SagaUndone):
                await engine.get("o-1").result(within=60)
            book.will("ship", None)
            await (await begin(engine, database, saga, "o-2")).result(within=60)
    heard = [signal for signal in heard if signal.kind is not SignalKind.SAGA_WAITING]
    mine = [signal for signal in heard if signal.detail["id"] == "o-1"]
    attempts = {SignalKind.SAGA_STEP_BEGAN, SignalKind.SAGA_STEP_ENDED}
    begun = [signal for signal in mine if signal.kind is SignalKind.SAGA_STEP_BEGAN]
    ended = [signal for signal in mine if signal.kind is SignalKind.SAGA_STEP_ENDED]
    assert [signal.id for signal in begun] == [signal.id for signal in ended]
    assert [(one.detail["step"], one.detail["outcome"]) for one in ended] == [
        ("reserve", "ok"),
        ("debit", "ok"),
        ("ship", "refused"),
        ("debit", "ok"),
        ("reserve", "refused"),
    ]
    mine = [signal for signal in mine if signal.kind not in attempts]
    assert [signal.kind for signal in mine if signal.kind is not SignalKind.SAGA_STEP] == [
        SignalKind.SAGA_STARTED,
        SignalKind.SAGA_COMPENSATING,
        SignalKind.SAGA_QUEUED,
    ]
    steps = [signal for signal in mine if signal.kind is SignalKind.SAGA_STEP]
    assert [(signal.detail["step"], signal.detail["side"]) for signal in steps] == [
        ("reserve", "do"),
        ("debit", "do"),
        ("ship", "do"),
        ("debit", "undo"),
        ("reserve", "undo"),
    ]
    assert {signal.subject for signal in heard} == {"checkout"}
    ended = [signal for signal in heard if signal.kind is SignalKind.SAGA_ENDED]
    assert [signal.detail["status"] for signal in ended] == ["done"]


class TestChangedDefinitions:
    def changed(self, book: Book, version: int = 1) -> Saga:
        saga = Saga("checkout", version=version, runbook="runbooks/release.md")

        @saga.read
        async def look(order: Order, ctx: Context) -> None:
            await book.called("look", ctx)

        saga.path(look)
        return saga

    async def test_under_the_same_version_it_is_refused(self, database: Sqlite, book: Book) -> None:
        saga = checkout(book)
        starter = Engine(database, [saga])
        await starter.prepare()
        await begin(starter, database, saga)
        with pytest.raises(SagaDefinitionError, match=r"1 saga\(s\) of version 1.*version 2"):
            await Engine(database, [self.changed(book)]).prepare()
        async with Engine(database, [saga, self.changed(book, 2)]) as engine:
            await engine.get("o-1").result(within=60)
        # once they have ended, nobody minds
        await Engine(database, [self.changed(book)]).prepare()

    async def test_also_while_a_person_is_waited_for(
        self, any_database: Database, book: Book
    ) -> None:
        saga = checkout(book)
        book.will("ship", Refused("no"))
        book.will("refund", Refused("never"))
        async with Engine(any_database, [saga]) as engine:
            run = await begin(engine, any_database, saga)
            with pytest.raises(SagaUnfinished, match="waits for a person"):
                await run.result(within=60)
        with pytest.raises(SagaDefinitionError, match=r"1 saga\(s\) of version 1.*version 2"):
            await Engine(any_database, [self.changed(book)]).prepare()

    async def test_what_nobody_could_undo_is_not_refuted(
        self, database: Sqlite, book: Book
    ) -> None:
        saga = checkout(book)
        async with Engine(database, [saga]) as engine:
            await (await begin(engine, database, saga)).result(within=60)
        newer = Engine(database, [self.changed(book, 2)])
        await newer.prepare()
        told = {"actor": "bank", "evidence": "bounced"}
        async with database.transaction() as tx:
            with pytest.raises(SagaError, match=r"began under version 1.*nobody would go on"):
                await newer.refute(tx, "o-1", "confirm", **told)
        assert (await runbook.show(database, "o-1")).status == "done"

    async def test_two_of_one_version(self, database: Sqlite, book: Book) -> None:
        with pytest.raises(SagaDefinitionError, match="two definitions of saga checkout"):
            Engine(database, [checkout(book), self.changed(book)])


async def test_what_a_step_raises_is_kept_whatever_it_says(database: Sqlite, book: Book) -> None:
    book.will("debit", ValueError("\udc80\0 " + "x" * 10_000))
    saga = checkout(book)
    async with Engine(database, [saga]) as engine:
        with pytest.raises(SagaUndone):
            await (await begin(engine, database, saga)).result(within=60)
    failure = (await runbook.show(database, "o-1")).steps[1].attempts[0].failure
    assert failure is not None
    assert len(failure.what) == 4000


async def test_a_step_that_cancels_itself_may_have_been_done(database: Sqlite, book: Book) -> None:
    book.will("debit", asyncio.CancelledError(), None)
    saga = checkout(book)
    async with Engine(database, [saga]) as engine:
        await (await begin(engine, database, saga)).result(within=60)
    assert book.names.count("debit") == 2


async def test_what_queued_a_saga_is_named_and_a_bug_in_a_step_leaves_its_trace(
    database: Sqlite, book: Book, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "switchgear.saga")
    heard: list[Signal] = []
    book.will("debit", Refused("no"))
    book.will("release", ZeroDivisionError("by zero"))
    saga = checkout(book)
    with subscribe(heard.append):
        async with Engine(database, [saga]) as engine:
            run = await begin(engine, database, saga)
            with pytest.raises(SagaUnfinished):
                await run.result(within=60)
    [queued] = [signal for signal in heard if signal.kind is SignalKind.SAGA_QUEUED]
    assert queued.detail["error"] == "ZeroDivisionError: by zero"
    traces = [one.getMessage() for one in caplog.records if "none of the outcomes" in one.msg]
    assert len(traces) == 2  # of two attempts
    assert all("Traceback" in told and "reserve (undo)" in told for told in traces)
