"""Signals as spans: what is whose child, here and across real doors."""

from __future__ import annotations

import asyncio
import threading
from itertools import pairwise

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.events.world import OrderPlaced, until
from tests.serve.world import Do, Handler, Inventory, serving

from switchgear.call.client import connect
from switchgear.call.guard import Guard
from switchgear.database.sqlite import Sqlite
from switchgear.events.brokers.sqlite import SqliteBroker
from switchgear.events.bus import Bus
from switchgear.model.context import Context, bind, current, trace_of
from switchgear.model.outcome import Unknown
from switchgear.model.signal import Signal, SignalKind, emit, listening
from switchgear.policy.breaker import Breaker
from switchgear.policy.hedge import Hedge
from switchgear.policy.policy import Policy
from switchgear.policy.retry import Retry
from switchgear.saga.definition import Saga
from switchgear.saga.engine import Engine
from switchgear.telemetry import traced

OPERATION = "acme.inventory.v1.Inventory/do"
KIND = trace.SpanKind


@pytest.fixture
def spans(monkeypatch):
    """The spans that have ended, in the order of their ends."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    with traced("orders"):
        yield exporter.get_finished_spans
    assert not trace.get_current_span().get_span_context().is_valid
    provider.shutdown()


def traceparent(span):
    found = span.context
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags:02x}"


def guard(**parts):
    parts.setdefault("retry", Retry(base=0.001, cap=0.001))
    parts.setdefault("deadline", 60)
    return Guard("stock", Policy(**parts))


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_attempts_are_children_of_their_call(spans, kind):
    g, sent = guard(), []

    def ask():
        sent.append(trace_of(current())[0])
        if len(sent) == 1:
            raise ConnectionResetError

    @g(repeatable=True)
    async def in_a_task():
        ask()

    if kind == "async":
        await in_a_task()
    else:
        await asyncio.to_thread(g(repeatable=True)(ask))
    first, second, call = spans()
    assert [one.kind for one in (first, second, call)] == [
        KIND.CLIENT,
        KIND.CLIENT,
        KIND.INTERNAL,
    ]
    assert first.parent == second.parent == call.context
    assert call.parent is None
    # what is sent meanwhile names the attempt
    assert sent == [traceparent(first), traceparent(second)]
    assert (first.name, first.attributes["error.type"]) == ("stock", "reset")
    assert first.status.status_code is trace.StatusCode.ERROR
    assert second.status.status_code is trace.StatusCode.UNSET
    assert second.attributes["switchgear.attempts"] == 2
    assert call.attributes["switchgear.outcome"] == "ok"
    assert call.attributes["switchgear.service"] == "orders"


async def test_what_came_in_is_the_parent(spans):
    came = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with bind(Context(traceparent=came, tracestate="x=1")):
        await guard()(asyncio.sleep)(0)
    attempt, call = spans()
    assert f"{call.parent.trace_id:032x}" == came.split("-")[1]
    assert f"{call.parent.span_id:016x}" == came.split("-")[2]
    assert attempt.context.trace_state["x"] == "1"


async def test_other_spans_are_parents_and_children(spans):
    tracer = trace.get_tracer("team")
    with tracer.start_as_current_span("page") as page:

        @guard()
        async def stock():
            with tracer.start_as_current_span("look"):
                pass

        await stock()
        assert trace.get_current_span() is page
    look, attempt, call, ended = spans()
    assert look.parent == attempt.context
    assert call.parent == ended.context == page.get_span_context()


async def test_a_span_ends_however_its_call_does(spans):
    @guard()
    async def wrong():
        raise KeyError("x")

    @guard()
    async def forever():
        await asyncio.Event().wait()

    with pytest.raises(KeyError):
        await wrong()
    task = asyncio.create_task(forever())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [one.attributes["switchgear.outcome"] for one in spans()] == ["raised"] * 2 + [
        "cancelled"
    ] * 2


async def test_rivals_are_spans_beside_each_other(spans):
    g = guard(hedge=Hedge(after=0.01))
    begun = []

    @g(repeatable=True)
    async def stock():
        begun.append(1)
        if len(begun) == 1:
            await asyncio.Event().wait()

    await stock()
    while len(spans()) < 3:  # the loser is cancelled, and not waited for
        await asyncio.sleep(0)
    winner, *others = spans()
    (call,) = [one for one in others if one.kind is KIND.INTERNAL]
    (loser,) = [one for one in others if one.kind is KIND.CLIENT]
    assert winner.parent == loser.parent == call.context
    assert loser.attributes["switchgear.outcome"] == "cancelled"


async def test_a_change_of_state_is_an_event_of_the_span_in_progress(spans):
    @guard(breaker=Breaker(consecutive=1), retry=None)
    async def broken():
        raise ConnectionResetError

    with pytest.raises(Unknown):
        await broken()
    _, call = spans()
    assert [one.name for one in call.events] == ["breaker.opened"]
    assert call.attributes["switchgear.trail"].startswith("first cause: stock: unknown (reset)")


@pytest.mark.parametrize("scheme", ["http", "grpc"])
async def test_one_trace_goes_through_doors(spans, scheme):
    class Passing(Handler):
        def __init__(self, below):
            super().__init__()
            self.below = below

        async def do(self, request):
            return await self.below.do(request)

    policy = Policy(retry=None, deadline=60)
    async with (
        serving(Handler()) as leaf,
        connect(Inventory, leaf.url(scheme), policy, caller="orders") as below,
        serving(Passing(below)) as served,
        connect(Inventory, served.url(scheme), policy, caller="gateway") as inventory,
    ):
        await inventory.do(Do(what="x"))
    found = spans()
    names = {(one.kind, one.attributes.get("switchgear.subject")): one for one in found}
    served_spans = [one for one in found if one.kind is KIND.SERVER]
    outer, inner = names[KIND.INTERNAL, f"gateway -> {OPERATION}"], served_spans[0]
    chain = [
        outer,
        names[KIND.CLIENT, f"gateway -> {OPERATION}"],
        served_spans[1],
        names[KIND.INTERNAL, f"orders -> {OPERATION}"],
        names[KIND.CLIENT, f"orders -> {OPERATION}"],
        inner,
    ]
    assert len(found) == len(chain)
    assert len({one.context.trace_id for one in found}) == 1
    for parent, child in pairwise(chain):
        assert child.parent.span_id == parent.context.span_id
    assert outer.name == chain[1].name == OPERATION
    if scheme == "http":
        assert inner.name == "POST /v1/do"
        assert inner.attributes["http.response.status_code"] == 200
    else:
        assert inner.name == OPERATION
        assert inner.attributes["rpc.response.status_code"] == "OK"


async def test_one_trace_goes_through_events(spans, tmp_path):
    broker = SqliteBroker(tmp_path / "broker.db", partitions=1)
    database = Sqlite(tmp_path / "service.db")
    bus = Bus(broker, database, "orders")
    asked = []

    @guard()
    async def mail():
        asked.append(1)

    @bus.on(OrderPlaced, name="mail", on_failure="skip")
    async def react(event, tx):
        await mail()

    await bus.start()
    with trace.get_tracer("team").start_as_current_span("page") as page:
        async with database.transaction() as tx:
            await bus.publish(tx, OrderPlaced(order_id="a", number=1))
    await until(lambda: len(spans()) == 4)
    await bus.stop()
    await broker.close()
    await database.close()
    _, attempt, call, event = spans()
    assert (event.name, event.kind) == ("process test.orders", KIND.CONSUMER)
    assert event.parent.span_id == page.get_span_context().span_id
    assert call.parent == event.context
    assert attempt.parent == call.context
    assert event.attributes["messaging.consumer.group.name"] == "orders.mail"


async def test_one_trace_goes_through_a_saga(spans, tmp_path):
    database = Sqlite(tmp_path / "service.db")
    saga = Saga("checkout", version=1, runbook="runbooks/checkout.md")

    @saga.read
    async def look(number: int) -> None:
        await guard()(asyncio.sleep)(0)

    saga.path(look)
    async with Engine(database, [saga]) as engine:
        with trace.get_tracer("team").start_as_current_span("page") as page:
            async with database.transaction() as tx:
                run = await engine.start(tx, saga, 1, id="o-1")
        await run.result(within=60)
    await database.close()
    page_span, attempt, call, step = spans()
    assert (step.name, step.attributes["switchgear.side"]) == ("checkout look", "do")
    assert step.parent.span_id == page.get_span_context().span_id == page_span.context.span_id
    assert (call.parent, attempt.parent) == (step.context, call.context)


def test_events_and_steps_are_spans_too(spans):
    came = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    emit(Signal(SignalKind.EVENT_BEGAN, "mail", {"topic": "orders", "traceparent": came}, 7))
    emit(Signal(SignalKind.EVENT_ENDED, "mail", {"outcome": "failed"}, 7))
    emit(Signal(SignalKind.SAGA_STEP_BEGAN, "checkout", {"step": "pay", "side": "do"}, 8))
    emit(Signal(SignalKind.SAGA_STEP_ENDED, "checkout", {"step": "pay", "outcome": "ok"}, 8))
    event, step = spans()
    assert (event.name, event.kind, event.attributes["error.type"]) == (
        "process orders",
        KIND.CONSUMER,
        "failed",
    )
    assert f"{event.parent.span_id:016x}" == came.split("-")[2]
    assert (step.name, step.kind, step.parent) == ("checkout pay", KIND.INTERNAL, None)


def test_an_end_without_a_begin_and_in_another_thread_is_no_harm(spans):
    emit(Signal(SignalKind.CALL_ENDED, "stock", {"outcome": "ok"}))
    emit(Signal(SignalKind.CALL_BEGAN, "stock", {}, 9))
    mine = trace.get_current_span()
    ended = Signal(SignalKind.CALL_ENDED, "stock", {"outcome": "ok"}, 9)
    thread = threading.Thread(target=emit, args=(ended,))
    thread.start()
    thread.join()
    assert [one.name for one in spans()] == ["stock"]
    assert trace.get_current_span() is mine
    from opentelemetry import context

    context.attach(context.Context())


def test_without_an_sdk_nobody_listens(monkeypatch):
    stand_in = trace.ProxyTracerProvider()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: stand_in)
    with traced("orders"):
        assert not listening()
