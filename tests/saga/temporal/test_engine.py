"""The engine on a real Temporal server: what starts, how it ends, and what a person does."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import timedelta
from functools import partial

import msgspec
import pytest
from msgspec.structs import replace
from temporalio.client import WorkflowExecutionStatus
from temporalio.exceptions import ApplicationError

from switchgear.errors import SagaError
from switchgear.model.outcome import Unavailable, Unknown
from switchgear.model.signal import Signal, SignalKind, subscribe
from switchgear.saga import (
    Backoff,
    Context,
    Engine,
    Fate,
    NoSuchSaga,
    NotCommitted,
    Saga,
    SagaConflict,
    SagaUndone,
    SagaUnfinished,
    StateMoved,
    TemporalRefused,
)
from switchgear.saga.definition import Step
from switchgear.saga.state import What
from switchgear.saga.story import Decision
from switchgear.saga.temporal import Place
from switchgear.saga.temporal.cluster import Cluster
from switchgear.saga.temporal.desk import TemporalDesk
from switchgear.saga.temporal.place import connect
from switchgear.saga.temporal.wire import Action, Refutation
from tests.patience import longer
from tests.saga.shop import (
    UNKNOWN,
    Book,
    Order,
    OutOfStock,
    Payment,
    Reservation,
    Shipment,
    checkout,
    eventually,
)
from tests.saga.temporal.conftest import Service, Working


async def test_done(service: Service, working: Working, book: Book) -> None:
    saga = checkout(book)
    async with working(saga) as engine:
        async with service.database.transaction() as tx:
            run = await engine.start(tx, saga, Order("o-1"), id="o-1")
        done = await run.result(within=120)
        assert done.result(saga.steps["ship"]) == Shipment(3)
        assert book.names == ["reserve", "debit", "ship", "confirm"]
        assert book.of("ship")[0].done == Payment(10)
        assert book.of("confirm")[0].done == Shipment(3)
        assert [call.ctx.key for call in book.calls][:2] == [
            "saga/o-1/reserve/do",
            "saga/o-1/debit/do",
        ]
        assert book.calls[0].bound.key == "saga/o-1/reserve/do"
        assert book.calls[0].bound.correlation == "o-1"
        state = await run.state()
    assert (state.status, set(state.steps.values())) == ("done", {Fate.DONE})
    assert (state.saga, state.version) == ("checkout", 1)
    assert state.ended is not None
    assert await service.replay(1) == 1


async def test_signals_come_from_the_loop_of_the_worker(working: Working, book: Book) -> None:
    heard: list[tuple[SignalKind, object]] = []
    loops = set()

    def hear(signal: Signal) -> None:
        heard.append((signal.kind, signal.detail.get("step")))
        loops.add(asyncio.get_running_loop())

    book.will("ship", OutOfStock(sku="A-1"))
    saga = checkout(book)
    with subscribe(hear):
        async with working(saga) as engine:
            run = await engine.begin(saga, Order("o-1"), id="o-1")
            with pytest.raises(SagaUndone):
                await run.result(within=120)
            await eventually(lambda: (SignalKind.SAGA_ENDED, None) in heard)
            await run.state()  # asked again, the workflow does not report again
    assert loops == {asyncio.get_running_loop()}
    told = [each for each in heard if not each[0].value.startswith("saga.step-")]
    kinds = [kind for kind, _ in told if kind.value.startswith("saga.")]
    assert kinds.count(SignalKind.SAGA_STARTED) == 1
    assert kinds.count(SignalKind.SAGA_COMPENSATING) == 1
    assert kinds.count(SignalKind.SAGA_ENDED) == 1
    steps = [step for kind, step in heard if kind is SignalKind.SAGA_STEP]
    assert steps == ["reserve", "debit", "ship", "debit", "reserve"]


async def test_undone_by_a_refusal(working: Working, book: Book) -> None:
    book.will("ship", OutOfStock(sku="A-1"))
    saga = checkout(book)
    async with working(saga) as engine:
        run = await engine.begin(saga, Order("o-1"), id="o-1")
        with pytest.raises(SagaUndone, match="turned round at step ship: refused") as caught:
            await run.result(within=120)
    assert book.names == ["reserve", "debit", "ship", "refund", "release"]
    assert book.of("refund")[0].done == Payment(10)
    assert book.of("release")[0].done == Reservation(1)
    assert isinstance(caught.value.refusal, OutOfStock)
    assert caught.value.refusal.sku == "A-1"


async def test_an_undo_is_told_what_is_not_known(working: Working, book: Book) -> None:
    book.will("debit", UNKNOWN)
    saga = checkout(book)
    async with working(saga) as engine:
        run = await engine.begin(saga, Order("o-1"), id="o-1")
        with pytest.raises(SagaUndone):
            await run.result(within=120)
    assert book.names == ["reserve", "debit", "debit", "refund", "release"]
    told = book.of("refund")[0].done
    assert isinstance(told, Unknown)
    assert (told.key, told.attempts) == ("saga/o-1/debit/do", 2)
    assert [call.ctx.attempt for call in book.of("debit")] == [1, 2]


class TestStart:
    async def test_only_with_its_transaction(
        self, service: Service, working: Working, book: Book
    ) -> None:
        saga = checkout(book)
        async with working(saga) as engine:
            with contextlib.suppress(ZeroDivisionError):
                async with service.database.transaction() as tx:
                    run = await engine.start(tx, saga, Order("o-1"), id="o-1")
                    raise ZeroDivisionError
            with pytest.raises(NotCommitted):
                await run.result(within=120)
            with pytest.raises(NotCommitted):
                await run.state()
        assert not book.calls

    async def test_the_same_twice_is_one_saga(self, working: Working, book: Book) -> None:
        saga, other = checkout(book), checkout(book, name="other")
        async with working(saga, other) as engine:
            for _ in range(2):
                run = await engine.begin(saga, Order("o-1"), id="o-1")
                await run.result(within=120)
            assert book.names.count("reserve") == 1
            with pytest.raises(SagaConflict, match="started with another input"):
                await engine.begin(saga, Order("o-1", 11), id="o-1")
            with pytest.raises(SagaConflict, match=r"is that of a saga checkout.*other-o-1"):
                await engine.begin(other, Order("o-1"), id="o-1")

    async def test_what_was_committed_before_a_crash_starts_later(
        self, service: Service, working: Working, book: Book
    ) -> None:
        saga = checkout(book)
        idle = service.make(saga)  # it commits the start, and never comes to hand it on
        await idle.prepare()
        run = await idle.begin(saga, Order("o-1"), id="o-1")
        with pytest.raises(SagaUnfinished, match="has not ended yet"):
            await run.result(within=0)
        with pytest.raises(SagaConflict, match="another input"):
            await idle.begin(saga, Order("o-1", 11), id="o-1")
        async with working(saga) as engine:
            await engine.get("o-1").result(within=120)

    async def test_an_id_that_is_taken_on_the_cluster(
        self, service: Service, working: Working, book: Book, caplog: pytest.LogCaptureFixture
    ) -> None:
        saga = checkout(book)
        idle = service.make(saga)
        await idle.prepare()
        idle._cluster = None  # it cannot be asked just now
        run = await idle.begin(saga, Order("o-1"), id="o-1")
        client = service.cluster.client
        await client.start_workflow("other", id=f"{service.name}/o-1", task_queue="nobody")
        with caplog.at_level(logging.ERROR):
            async with working(saga) as engine:
                await eventually(lambda: "o-1 was committed and cannot start" in caplog.text)
                with pytest.raises(SagaConflict, match="the id of a workflow that is no saga"):
                    await engine.begin(saga, Order("o-1"), id="o-1")
                assert run.id == "o-1"
        await client.get_workflow_handle(f"{service.name}/o-1").terminate()

    async def test_an_id_that_another_saga_has(
        self, service: Service, working: Working, book: Book, caplog: pytest.LogCaptureFixture
    ) -> None:
        saga = checkout(book)
        idle = service.make(saga)
        await idle.prepare()
        async with working(saga) as engine:
            await (await engine.begin(saga, Order("o-1"), id="o-1")).result(within=120)
            cluster, idle._cluster = idle._cluster, None  # it cannot be asked just now
            run = await idle.begin(saga, Order("o-1", 11), id="o-1")
            idle._cluster = cluster
            # it never is the other's result, whether or not it was handed on yet
            for _ in range(2):
                with pytest.raises(SagaConflict, match="another input"):
                    await run.result(within=120)
                with pytest.raises(SagaConflict, match="another input"):
                    await run.state()
                await eventually(lambda: "o-1 was committed and cannot start" in caplog.text)
            await idle.get("o-1").result(within=120)  # that of the saga that has the id

    async def test_what_began_in_the_database_is_told_of(
        self, service: Service, book: Book, caplog: pytest.LogCaptureFixture
    ) -> None:
        saga = checkout(book)
        embedded = Engine(service.database, [saga])
        await embedded.prepare()
        await embedded.begin(saga, Order("o-1"), id="o-1")
        await service.make(saga).prepare()
        assert "1 saga(s) that began in the database" in caplog.text

    async def test_while_temporal_is_away(
        self, service: Service, book: Book, caplog: pytest.LogCaptureFixture
    ) -> None:
        saga = checkout(book)
        service.place = Place.of("temporal://127.0.0.1:9/default")
        async with service.make(saga) as engine:
            run = await engine.begin(saga, Order("o-1"), id="o-1")
            with pytest.raises(SagaUnfinished):
                await run.result(within=0.1)
            with pytest.raises(Unavailable, match="has not been reached"):
                await engine.get("o-2").result(within=0.1)
            await eventually(lambda: "cannot be used now" in caplog.text)
        assert not book.calls

    async def test_a_lock_is_refused(self, service: Service) -> None:
        locked = Saga("locked", version=1)
        locked.lock("order", lambda order: str(order.order_id))

        @locked.read
        async def look(order: Order, ctx: Context) -> None: ...

        locked.path(look)
        with pytest.raises(TemporalRefused, match="declares the lock order"):
            service.make(locked)
        with pytest.raises(TemporalRefused, match="is not a name for a service"):
            service.make(service="a/b")

    async def test_what_cannot_be_started(self, working: Working, book: Book) -> None:
        saga, other = checkout(book), checkout(book, name="other")
        async with working(saga) as engine:
            with pytest.raises(SagaError, match="not one of this engine's"):
                await engine.begin(other, Order("o-1"), id="o-1")
            with pytest.raises(SagaError, match="at most 1000000"):
                await engine.begin(saga, Order("o" * 1_000_001), id="o-1")
            with pytest.raises(SagaError, match="is not an id"):
                await engine.begin(saga, Order("o-1"), id="")


class TestDeadline:
    async def test_before_the_pivot(self, working: Working) -> None:
        for seconds in longer(4.0):
            book = Book()
            book.will("debit", asyncio.Event())
            saga = checkout(book, deadline=timedelta(seconds=seconds))
            async with working(saga) as engine:
                run = await engine.begin(saga, Order("o-1"), id=f"o-{seconds:g}")
                with pytest.raises(SagaUndone, match="deadline|longer than it may"):
                    await run.result(within=120)
            if "debit" in book.names:  # the machine was quick enough to come so far
                break
        assert book.names == ["reserve", "debit", "refund", "release"]
        assert isinstance(book.of("refund")[0].done, Unknown)

    async def test_after_the_pivot(self, working: Working) -> None:
        for seconds in longer(4.0):
            book, held = Book(), asyncio.Event()
            book.will("ship", held)
            saga = checkout(book, deadline=timedelta(seconds=seconds))
            async with working(saga) as engine:
                run = await engine.begin(saga, Order("o-1"), id=f"o-{seconds:g}")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(seconds + 10):
                        await book.until("ship")
                if "ship" not in book.names:  # the machine was too slow to come so far
                    continue
                with pytest.raises(SagaUnfinished):
                    await run.result(within=seconds + 0.5)
                held.set()
                await run.result(within=120)
                break
        assert book.names == ["reserve", "debit", "ship", "confirm"]

    async def test_of_what_no_worker_has_attempted(
        self, service: Service, working: Working, book: Book
    ) -> None:
        saga = checkout(book, deadline=timedelta(seconds=0.5))
        idle = service.make(saga)
        await idle.prepare()
        run = await idle.begin(saga, Order("o-1"), id="o-1")
        queue = service.cluster.queue(saga.plan.id)
        relay = asyncio.create_task(idle._relay.run(service.cluster))
        async with service.cluster.interpreted(queue):  # nobody attempts a step
            with pytest.raises(SagaUndone, match="its deadline passed"):
                await run.result(within=120)
            state = await run.state()
        idle._relay.stop()
        await relay
        assert state.steps["reserve"] is Fate.ABSENT
        assert not book.calls


class TestCancelled:
    async def test_before_the_pivot_it_is_undone(
        self, service: Service, working: Working, book: Book
    ) -> None:
        held = asyncio.Event()
        book.will("debit", held)
        saga = checkout(book)
        async with working(saga) as engine:
            run = await engine.begin(saga, Order("o-1"), id="o-1")
            await book.until("debit")
            await service.cluster.client.get_workflow_handle(f"{service.name}/o-1").cancel()
            with pytest.raises(SagaUnfinished):  # what is attempted is not cut short
                await run.result(within=0.3)
            held.set()
            with pytest.raises(SagaUndone, match="cancelled by Temporal"):
                await run.result(within=120)
        assert book.names == ["reserve", "debit", "refund", "release"]

    async def test_an_undo_is_shielded(
        self, service: Service, working: Working, book: Book
    ) -> None:
        held = asyncio.Event()
        book.will("ship", OutOfStock(sku="A-1"))
        book.will("refund", held)
        saga = checkout(book)
        async with working(saga) as engine:
            run = await engine.begin(saga, Order("o-1"), id="o-1")
            await book.until("refund")
            await service.cluster.client.get_workflow_handle(f"{service.name}/o-1").cancel()
            with pytest.raises(SagaUnfinished):
                await run.result(within=0.3)
            held.set()
            with pytest.raises(SagaUndone, match="at step ship"):
                await run.result(within=120)
            handle = service.cluster.client.get_workflow_handle(f"{service.name}/o-1")
            found = await handle.describe()
        assert found.status is WorkflowExecutionStatus.COMPLETED
        assert book.names == ["reserve", "debit", "ship", "refund", "release"]

    async def test_after_the_pivot_it_means_nothing(
        self, service: Service, working: Working, book: Book
    ) -> None:
        held = asyncio.Event()
        book.will("confirm", held)
        saga = checkout(book)
        async with working(saga) as engine:
            run = await engine.begin(saga, Order("o-1"), id="o-1")
            await book.until("confirm")
            await service.cluster.client.get_workflow_handle(f"{service.name}/o-1").cancel()
            with pytest.raises(SagaUnfinished):
                await run.result(within=0.3)
            held.set()
            await run.result(within=120)
        assert book.names == ["reserve", "debit", "ship", "confirm"]


class TestWorkers:
    async def test_what_is_cut_short_is_attempted_by_the_next(
        self, working: Working, book: Book
    ) -> None:
        book.will("debit", asyncio.Event(), None)
        saga = checkout(book)
        async with working(saga) as engine:
            run = await engine.begin(saga, Order("o-1"), id="o-1")
            await book.until("debit")
            await engine.stop(within=0)
        async with working(saga) as engine:
            await engine.get("o-1").result(within=120)
        assert run.id == "o-1"
        assert book.names == ["reserve", "debit", "debit", "ship", "confirm"]
        assert [call.ctx.attempt for call in book.of("debit")] == [1, 2]

    async def test_another_version_is_left_alone(
        self, service: Service, working: Working, book: Book, caplog: pytest.LogCaptureFixture
    ) -> None:
        old, new = checkout(book), checkout(book, version=2)
        book.will("reserve", asyncio.Event(), None)
        async with working(old) as engine:
            await engine.begin(old, Order("o-1"), id="o-1")
            await book.until("reserve")
            await engine.stop(within=0)
        with caplog.at_level(logging.WARNING):
            async with working(new) as engine:
                await eventually(lambda: "version 1 are left alone" in caplog.text)
                run = await engine.begin(new, Order("o-2"), id="o-2")
                await run.result(within=120)
                with pytest.raises(SagaUnfinished):
                    await engine.get("o-1").result(within=0)
        async with working(new, old) as engine:
            await engine.get("o-1").result(within=120)
            assert (await engine.get("o-1").state()).version == 1

    async def test_a_long_history_is_continued(
        self, service: Service, working: Working, book: Book
    ) -> None:
        quick = Backoff(attempts=12, first=0.001, factor=1.0, most=0.001)
        book.will("debit", *[UNKNOWN] * 10, None)
        saga = checkout(book, retry=quick)
        async with working(saga, events=40) as engine:
            run = await engine.begin(saga, Order("o-1"), id="o-1")
            await run.result(within=120)
            record = await service.cluster.ended("o-1")
        assert [call.ctx.attempt for call in book.of("debit")] == list(range(1, 12))
        assert len(record.lines) == 10 + 4
        assert await service.replay(2) > 1

    # one alone, and two together
    @pytest.mark.parametrize("size", [1_000_100, 600_000])
    async def test_results_that_are_too_large(
        self, service: Service, working: Working, size: int
    ) -> None:
        undone = []
        saga = Saga("large", version=1)

        @saga.undo(runbook="../runbooks/release.md")
        async def drop(order: Order, done: Reservation | Unknown, ctx: Context) -> None:
            undone.append(order.order_id)

        @drop.undoes
        async def first(order: Order, ctx: Context) -> Reservation:
            return Reservation(1)

        @saga.read
        async def left(order: Order, ctx: Context) -> str:
            return "x" * size

        @saga.read
        async def right(order: Order, ctx: Context) -> str:
            return "x" * size

        saga.path(first >> (left | right))
        async with working(saga) as engine:
            run = await engine.begin(saga, Order("o-1"), id="o-1")
            with pytest.raises(SagaUndone, match="step (left|right): .*at most 1000000"):
                await run.result(within=120)
        assert undone == ["o-1"]
        assert await service.replay(1) == 1

    async def test_many_attempts_that_carry_much(self, working: Working) -> None:
        saga = Saga("wide", version=1)

        @saga.read
        async def first(order: Order, ctx: Context) -> str:
            return "x" * 990_000

        def look_at(number: int) -> Step[..., int]:
            async def look(order: Order, ctx: Context) -> int:
                return number

            look.__name__ = f"look{number}"
            return saga.read(look)

        looks = look_at(0) | look_at(1) | look_at(2) | look_at(3) | look_at(4)
        saga.path(first >> looks)
        async with working(saga) as engine:
            run = await engine.begin(saga, Order("o-1"), id="o-1")
            done = await run.result(within=120)
            assert [done.result(saga.steps[f"look{each}"]) for each in range(5)] == [*range(5)]

    async def test_what_cannot_be_read_is_left_until_it_can(
        self, service: Service, working: Working, book: Book, caplog: pytest.LogCaptureFixture
    ) -> None:
        saga = checkout(book)
        idle = service.make(saga)
        await idle.prepare()
        run = await idle.begin(saga, Order("o-1"), id="o-1")
        saga.input._decoder = msgspec.json.Decoder(Payment)  # as if a field had gone
        async with working(saga):
            await eventually(lambda: "cannot be read" in caplog.text)
            with pytest.raises(SagaUnfinished):
                await run.result(within=0.5)
            assert (await run.state()).steps["reserve"] is Fate.BEGUN
        assert not book.calls

    async def test_terminated(self, service: Service, working: Working, book: Book) -> None:
        book.will("debit", asyncio.Event())
        saga = checkout(book)
        async with working(saga) as engine:
            run = await engine.begin(saga, Order("o-1"), id="o-1")
            await book.until("debit")
            handle = service.cluster.client.get_workflow_handle(f"{service.name}/o-1")
            await handle.terminate("by mistake")
            with pytest.raises(SagaUnfinished, match="was terminated on Temporal"):
                await run.result(within=120)
            with pytest.raises(StateMoved, match="was terminated on Temporal"):
                await engine.refute(None, "o-1", "reserve", actor="me", evidence="it")
            shown = await TemporalDesk(Cluster(await connect(service.place), service.name)).show(
                "o-1"
            )
            assert (shown.status, shown.named(Fate.DONE)) == ("terminated", ("reserve",))
            await engine.stop(within=0)


class TestOperated:
    async def test_nobody_can_be_told(
        self, service: Service, working: Working, book: Book, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def hook(item: object) -> None:
            raise ApplicationError("no such channel", non_retryable=True)

        book.will("ship", OutOfStock(sku="A-1"))
        book.will("refund", OutOfStock(sku="A-1"), None)
        saga = checkout(book)
        async with working(saga, notify=hook) as engine:
            run = await engine.begin(saga, Order("o-1"), id="o-1")
            await eventually(lambda: "nobody was told of o-1/refund" in caplog.text)
            action = Action("o-1/refund", What.RETRY, Decision("me", "the bank is back"))
            await service.cluster.act("o-1", action)
            with pytest.raises(SagaUndone):
                await run.result(within=120)

    async def test_an_item_is_listed_also_in_the_next_history(
        self, service: Service, working: Working, book: Book
    ) -> None:
        book.will("ship", OutOfStock(sku="A-1"))
        book.will("refund", *[OutOfStock(sku="A-1")] * 9)
        saga = checkout(book)
        handle = service.cluster.client.get_workflow_handle(f"{service.name}/o-1")
        listed: list[str] = []

        async def waits(attempts: int) -> bool:
            seen = await service.cluster.see("o-1")
            listed[:] = [item.id for item in seen.items]
            return len(book.of("refund")) == attempts and seen.status == "queued"

        async with working(saga, events=60) as engine:
            run = await engine.begin(saga, Order("o-1"), id="o-1")
            with pytest.raises(SagaUnfinished, match="waits for a person"):
                await run.result(within=120)
            first = (await handle.describe()).run_id
            for attempt in range(2, 10):
                action = Action("o-1/refund", What.RETRY, Decision("me", f"attempt {attempt}"))
                await service.cluster.act("o-1", action)
                await eventually(partial(waits, attempt))
                assert listed == ["o-1/refund"]
            assert (await handle.describe()).run_id != first

    async def test_a_refutation_that_says_nothing_new_after_the_end(
        self, service: Service, working: Working, book: Book
    ) -> None:
        saga = checkout(book)
        handle = service.cluster.client.get_workflow_handle(f"{service.name}/o-1")
        by = {"actor": "bank", "evidence": "it bounced"}
        async with working(saga) as engine:
            await (await engine.begin(saga, Order("o-1"), id="o-1")).result(within=120)
            first = (await handle.describe()).run_id
            with pytest.raises(StateMoved, match="cannot be refuted"):
                await engine.refute(None, "o-1", "nothing", **by)
            assert (await handle.describe()).run_id == first
        desk = TemporalDesk(service.cluster)
        shown = await desk.show("o-1")
        assert (shown.status, shown.ended is None) == ("done", False)
        assert shown.correlation == "o-1"
        # no worker is there: the engine interprets it itself
        idle = service.make(saga)
        await idle.prepare()
        assert await idle.refute(None, "o-1", "debit", **by) in {"undoing", "queued"}
        again = (await handle.describe()).run_id
        assert again != first
        async with working(saga) as engine:
            for name in ("confirm", "ship"):
                action = Action(f"o-1/{name}", What.RESOLVE, Decision("me", "taken back"))
                await service.cluster.act("o-1", action)
            with pytest.raises(SagaUndone):
                await engine.get("o-1").result(within=120)
            assert await engine.refute(None, "o-1", "debit", **by) == "undone"
            assert (await handle.describe()).run_id == again

    async def test_a_work_item(self, service: Service, working: Working, book: Book) -> None:
        told = []

        async def hook(item: object) -> None:
            told.append(item)

        book.will("ship", OutOfStock(sku="A-1"))
        book.will("refund", OutOfStock(sku="A-1"), None)
        saga = checkout(book)
        async with working(saga, notify=hook) as engine:
            run = await engine.begin(saga, Order("o-1"), id="o-1")
            with pytest.raises(SagaUnfinished, match="waits for a person"):
                await run.result(within=120)
            assert (await run.state()).status == "queued"
            await eventually(lambda: len(told) == 1)
            assert told[0].id == "o-1/refund"
            assert "refund" in told[0].instructions.lower()
            seen = await service.cluster.see("o-1")
            assert [each.id for each in seen.items] == ["o-1/refund"]
            wrong = Action("o-1", What.ABORT, Decision("me", "why not"))
            with pytest.raises(StateMoved, match="only a pivot can be aborted"):
                await service.cluster.act("o-1", wrong)
            with pytest.raises(SagaError, match="needs an actor and a reason"):
                await service.cluster.act("o-1", Action("o-1", What.RETRY, Decision("me", " ")))
            action = Action("o-1/refund", What.RETRY, Decision("me", "the bank is back"))
            item = await service.cluster.act("o-1", action)
            assert (item.action, item.actor) == ("retry", "me")
            with pytest.raises(SagaUndone):
                await run.result(within=120)
        assert book.names[-3:] == ["refund", "refund", "release"]

    async def test_taken_twice_is_taken_once(
        self, service: Service, working: Working, book: Book
    ) -> None:
        held = asyncio.Event()
        book.will("confirm", OutOfStock(sku="A-1"))
        book.will("refund", OutOfStock(sku="A-1"))
        book.will("release", held)
        saga = checkout(book)
        async with working(saga) as engine:
            run = await engine.begin(saga, Order("o-1"), id="o-1")
            with pytest.raises(SagaUnfinished, match="waits for a person"):
                await run.result(within=120)
            refuted = Refutation("ship", Decision("me", "it came back"))
            seen = await service.cluster.see("o-1")
            for _ in range(2):
                assert await service.cluster.refute(seen, refuted) in {"undoing", "queued"}

            async def refund_waits() -> bool:
                seen = await service.cluster.see("o-1")
                return [each.id for each in seen.items] == ["o-1/refund"]

            await eventually(refund_waits)
            action = Action("o-1/refund", What.RESOLVE, Decision("me", "by hand"))
            for _ in range(2):
                item = await service.cluster.act("o-1", action)
                assert item.closed is not None
            with pytest.raises(StateMoved, match="is closed: resolve by me"):
                other = Action("o-1/refund", What.SKIP, Decision("me", "by hand"))
                await service.cluster.act("o-1", other)
            with pytest.raises(NoSuchSaga, match="no work item o-1/nothing"):
                await service.cluster.act("o-1", replace(action, item="o-1/nothing"))
            held.set()
            with pytest.raises(SagaUndone, match="refuted by me"):
                await run.result(within=120)

    async def test_refuted_after_the_end(
        self, service: Service, working: Working, book: Book
    ) -> None:
        saga = checkout(book)
        async with working(saga) as engine:
            run = await engine.begin(saga, Order("o-1"), id="o-1")
            await run.result(within=120)
            async with service.database.transaction() as tx:
                status = await engine.refute(
                    tx, "o-1", saga.steps["debit"], actor="bank", evidence="it bounced"
                )
            assert status in {"undoing", "queued"}
            with pytest.raises(SagaUnfinished, match="waits for a person"):
                await run.result(within=120)
            seen = await service.cluster.see("o-1")
            assert {each.id for each in seen.items} == {"o-1/ship", "o-1/confirm"}
            for name in ("confirm", "ship"):
                action = Action(f"o-1/{name}", What.RESOLVE, Decision("me", "taken back"))
                await service.cluster.act("o-1", action)
            with pytest.raises(SagaUndone, match="refuted by bank: it bounced"):
                await run.result(within=120)
            assert book.names[-1] == "release"
            assert "refund" not in book.names
            # the same id is still the same saga
            await engine.begin(saga, Order("o-1"), id="o-1")
        assert await service.replay(2) == 2
