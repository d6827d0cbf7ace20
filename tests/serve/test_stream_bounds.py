"""What bounds a stream, and what a stream that fails says: over both wires the same."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from time import monotonic

import httpx
import pytest

from switchgear.call.client import connect, core_of
from switchgear.model.context import Context, bind
from switchgear.model.outcome import Reason, Unavailable, Unknown
from switchgear.model.signal import SignalKind, subscribe
from switchgear.model.trail import read
from switchgear.policy.admission import Admission
from switchgear.policy.breaker import Breaker, Evidence, State
from switchgear.policy.policy import Policy
from switchgear.serve.dispatch import Dispatcher
from switchgear.serve.grpc import Grpc
from tests.patience import longer
from tests.serve.test_streams import Handler as Uploading
from tests.serve.test_streams import Piece, Uploads
from tests.serve.world import GetStock, Handler, Inventory, OutOfStock, Stock, serving

SCHEMES = ["http", "grpc"]
PATIENT = Policy(deadline=60)
OPERATION = "acme.inventory.v1.Inventory/watch"


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


@asynccontextmanager
async def watching(scheme, handler, policy=PATIENT, **settings):
    """A client of the handler at one of its doors."""
    async with serving(handler, **settings) as served:
        async with connect(Inventory, served.url(scheme), policy, caller="page") as inventory:
            yield inventory, served


# --- a stream that fails -------------------------------------------------------------------------


class Passing(Handler):
    """Passes on what the next service streams."""

    def __init__(self, below):
        super().__init__()
        self.below = below

    async def watch(self, request):
        async for stock in self.below.watch(request):
            yield stock


@pytest.mark.parametrize("wires", [("http", "grpc"), ("grpc", "http")])
async def test_the_edge_names_where_a_stream_broke(wires, caplog):
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        leaf = await enter(serving(Handler()))
        orders = await enter(connect(Inventory, leaf.url(wires[0]), PATIENT, caller="orders"))
        middle = await enter(serving(Passing(orders)))
        gateway = await enter(connect(Inventory, middle.url(wires[1]), PATIENT, caller="gateway"))
        with pytest.raises(Unknown) as caught:
            async for _ in gateway.watch(GetStock(sku="broken")):
                pass
        hops = caught.value.trail
        edges = [f"orders -> {OPERATION}", f"gateway -> {OPERATION}"]
        assert [hop.edge for hop in hops] == edges
        assert caught.value.where == OPERATION
        (line,) = [one for one in caplog.records if one.getMessage().startswith(f"{OPERATION} f")][
            1:
        ]
        assert line.fields["first_cause"] == f"orders -> {OPERATION}"
        # at the edge of the system nobody is told
        async with httpx.AsyncClient(timeout=60) as stranger:
            url = f"{middle.http}/v1/watch/broken"
            told = await stranger.get(url, headers={"accept": "text/event-stream"})
            assert "event: problem" in told.text
            assert "orders" not in told.text
            told = await stranger.get(url, headers={"switchgear-caller": "page"})
        last = told.text.splitlines()[-1]
        assert '"switchgear-trail":"\\"orders -> ' in last


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_stream_that_fails_is_a_failed_call(scheme):
    breaker = Breaker(threshold=0.9, confidence=None, evidence=[Evidence(600, 5)])
    heard = []
    policy = Policy(breaker=breaker, budget=None, deadline=60)
    async with watching(scheme, Handler(), policy) as (inventory, _):
        with subscribe(heard.append):
            for _ in range(5):
                with pytest.raises(Unknown):
                    async for _ in inventory.watch(GetStock(sku="broken")):
                        pass
            with pytest.raises(Unavailable) as caught:
                await anext(inventory.watch(GetStock(sku="fine")))
        assert caught.value.reason is Reason.BREAKER_OPEN
    failed = [one for one in heard if one.kind is SignalKind.STREAM_FAILED]
    assert len(failed) == 5
    assert failed[0].subject == f"page -> {OPERATION}"
    assert failed[0].detail["outcome"] == "unknown"
    assert "first cause" in failed[0].detail["trail"]


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_one_that_ends_well_or_with_a_no_or_is_left_is_none(scheme):
    async with watching(scheme, Handler(), Policy(breaker=Breaker(consecutive=1), deadline=60)) as (
        inventory,
        _,
    ):
        for sku in ("fine", "gone", "endless"):
            with suppress(OutOfStock):
                async for stock in inventory.watch(GetStock(sku=sku)):
                    if stock.available == 2:
                        break
        assert core_of(inventory).lines["watch"].machine.state is State.CLOSED


async def test_what_the_requests_of_a_conversation_ran_into_is_not_the_callees():
    async def asking():
        yield Piece(number=1)
        raise Unknown("elsewhere", reason=Reason.RESET, where="other.v1.Service/op")

    dispatcher = Dispatcher([Uploading()])
    door = Grpc(dispatcher)
    policy = Policy(breaker=Breaker(consecutive=1), deadline=60)
    async with connect(Uploads, f"grpc://127.0.0.1:{await door.start()}", policy) as uploads:
        with pytest.raises(Unknown, match="elsewhere"):
            async for _ in uploads.echo(asking()):
                pass
        assert core_of(uploads).lines["echo"].machine.state is State.CLOSED
    await door.stop(0)


# --- deadlines -----------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_deadline_in_the_middle_ends_both_sides(scheme):
    policy = Policy(breaker=Breaker(consecutive=1), deadline=60)
    for deadline in longer(1.5):
        handler, seen = Handler(), []
        async with watching(scheme, handler, policy) as (inventory, _):
            with bind(Context(deadline=monotonic() + deadline)):
                with pytest.raises((Unavailable, Unknown)) as caught:
                    async for stock in inventory.watch(GetStock(sku="endless")):
                        seen += [stock.available]
            if len(seen) < 3:
                continue
            assert seen == [0, 1, 2]
            assert caught.value.reason is Reason.TIMEOUT
            assert [hop.edge for hop in caught.value.trail][-1] == f"page -> {OPERATION}"
            await asyncio.wait_for(handler.cancelled.wait(), 60)
            # how long it lasts was the reader's choice: that says nothing about the callee
            assert core_of(inventory).lines["watch"].machine.state is State.CLOSED
            break
    assert isinstance(caught.value, Unknown)


async def test_whoever_asks_by_hand_is_told_who_took_the_time():
    async with serving(Handler()) as served, httpx.AsyncClient(timeout=60) as client:
        for deadline in longer(0.2):
            timeout = f"{deadline * 1000:.0f}"
            headers = {"switchgear-caller": "page", "switchgear-timeout": timeout}
            answer = await client.get(f"{served.http}/v1/watch/endless", headers=headers)
            *replies, last = answer.text.splitlines()
            if len(replies) == 3:
                break
    assert len(replies) == 3
    problem = httpx.Response(200, text=last).json()["@problem"]
    (hop,) = read(problem["switchgear-trail"])
    assert (problem["status"], hop.edge, hop.reason) == (504, OPERATION, "timeout")


# --- limits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_reader_that_leaves_gives_its_place_back(scheme):
    handler = Handler()
    admission = Admission(concurrency=1, queue=0, reserve=0)
    policy = Policy(retry=None, breaker=None, deadline=60)
    async with watching(scheme, handler, policy, admission=admission) as (inventory, served):
        first = inventory.watch(GetStock(sku="endless"))
        assert (await anext(first)).available == 0
        with pytest.raises(Unavailable) as caught:
            await anext(inventory.watch(GetStock(sku="fine")))
        assert caught.value.reason is Reason.NOT_EXECUTED
        await first.aclose()
        await asyncio.wait_for(handler.cancelled.wait(), 60)
        turnstile = served.dispatcher._desks[OPERATION].turnstile
        await until(lambda: not turnstile.in_flight)
        assert [one.available async for one in inventory.watch(GetStock(sku="fine"))] == [0, 1, 2]


# --- back-pressure -------------------------------------------------------------------------------


class Flood(Handler):
    """Streams as much as it is allowed to."""

    SIZE = 64 * 1024

    async def watch(self, request):
        try:
            for number in range(100_000):
                self.ran.append("watch")
                yield Stock(sku="x" * self.SIZE, available=number)
        finally:
            self.cancelled.set()


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_slow_reader_holds_the_handler_back(scheme):
    handler = Flood()
    async with watching(scheme, handler) as (inventory, _):
        replies = inventory.watch(GetStock(sku="x"))
        assert (await anext(replies)).available == 0
        before = -1
        while before != len(handler.ran):  # until nothing more is taken
            before = len(handler.ran)
            await asyncio.sleep(0.1)
        # what the sockets' buffers, the windows of HTTP/2 and the client hold, and no more
        assert before * Flood.SIZE < 24 * 1024 * 1024
        assert (await anext(replies)).available == 1
        await replies.aclose()
        await asyncio.wait_for(handler.cancelled.wait(), 60)


# --- heartbeats ----------------------------------------------------------------------------------


class Quiet(Handler):
    """Says nothing until it is released, and then says what it is told."""

    async def watch(self, request):
        self.began.set()
        await self.release.wait()
        if request.sku == "broken":
            raise ValueError("hunter2")
        yield Stock(sku="tea", available=1)


@pytest.mark.parametrize("sku", ["tea", "broken"])
async def test_a_silent_stream_of_events_has_a_pulse(sku):
    handler = Quiet()
    async with (
        serving(handler, rest={"heartbeat": 0.02}) as served,
        httpx.AsyncClient(timeout=60) as client,
    ):
        url, headers = f"{served.http}/v1/watch/{sku}", {"accept": "text/event-stream"}
        async with client.stream("GET", url, headers=headers, timeout=60) as answer:
            assert answer.status_code == 200
            assert answer.headers["cache-control"] == "no-store"
            read = answer.aiter_lines()
            for _ in range(3):
                assert (await anext(read), await anext(read)) == (":", "")
            handler.release.set()
            told = [line async for line in read if line not in (":", "")]
    if sku == "tea":
        assert told == ['data: {"sku":"tea","available":1}', "event: end", "data: {}"]
    else:  # too late for a status of its own
        assert told[0] == "event: problem"
        assert '"status":500' in told[1]


async def test_json_lines_and_streams_that_were_not_begun_have_none():
    handler = Quiet()
    admission = Admission(concurrency=1, queue=1, interval=0.2, target=0.2, reserve=0)
    async with (
        serving(handler, rest={"heartbeat": 0.01}, admission=admission) as served,
        httpx.AsyncClient(timeout=60) as client,
    ):
        url = f"{served.http}/v1/watch/tea"
        asked = asyncio.create_task(client.get(url))
        await handler.began.wait()
        # it waits for a place, and its status is its own
        shed = await client.get(url, headers={"accept": "text/event-stream"})
        assert shed.status_code == 429
        handler.release.set()
        assert (await asked).text == '{"sku":"tea","available":1}\n'
