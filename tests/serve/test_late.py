"""Answers that went well and took their time: whoever stands at the edge can name where it went."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import grpc
import httpx
import pytest
import requests

from switchgear.call import aio
from switchgear.call.answer import new_machine
from switchgear.call.client import connect
from switchgear.call.guard import Guard
from switchgear.contract.codec import to_proto
from switchgear.contract.service import contract_of
from switchgear.model.context import Context, bind
from switchgear.model.outcome import Ok, Reason, Rejected, Unavailable, Unknown
from switchgear.model.trail import Hop, Spent, read
from switchgear.policy.policy import Policy
from switchgear.serve.arrival import Arrival
from switchgear.serve.late import Lateness
from tests.serve.world import Do, Empty, GetStock, Handler, Inventory, serving

DO = contract_of(Inventory).operations["do"]
WATCH = contract_of(Inventory).operations["watch"]
OPERATION = DO.full_name
NAMED = (("switchgear-caller", "page"),)


# --- what is late, without a clock ---------------------------------------------------------------


def answered(lateness, took, *, left=None, named=False, operation=DO, spent=None, at=100.0):
    arrival = Arrival(
        operation=operation,
        door="http",
        pairs=NAMED if named else (),
        context=Context(None if left is None else at + left),
        received=at,
        spent=spent or Spent(),
    )
    lateness.answered(arrival, at + took)
    return arrival.trail


def lines(caplog):
    return [one for one in caplog.records if "answered late" in one.getMessage()]


@pytest.mark.parametrize(
    ("took", "left", "latency", "trail", "line"),
    [
        (0.09, 1.0, {}, False, False),
        (0.11, 1.0, {}, True, False),
        (0.60, 1.0, {}, True, False),
        (0.024, 0.03, {}, False, False),  # nobody asks where so little went
        (9.0, None, {}, False, False),
        (0.30, 1.0, {OPERATION: 0.2}, True, True),
        (0.30, 9.0, {OPERATION: 0.2}, True, True),
        (0.30, None, {"acme.inventory.v1.Inventory": 0.2}, True, True),
        (0.30, None, {"": 0.2}, True, True),
        (0.30, None, {"": 0.2, OPERATION: 0.4}, False, False),
        (0.30, None, {"other.v1.Service/do": 0.2}, False, False),
    ],
)
def test_a_service_is_told_before_it_is_late(caplog, took, left, latency, trail, line):
    found = answered(Lateness(latency), took, left=left, named=True)
    assert bool(found) is trail
    assert bool(lines(caplog)) is line


@pytest.mark.parametrize(
    ("took", "left", "line"), [(0.49, 1.0, False), (0.51, 1.0, True), (99.0, None, False)]
)
def test_at_the_edge_half_of_the_time_is_late(caplog, took, left, line):
    assert answered(Lateness({}), took, left=left) == ()  # nobody outside is told
    assert bool(lines(caplog)) is line


def test_a_stream_takes_as_long_as_its_reader_likes(caplog):
    assert answered(Lateness({"": 0.1}), 9.0, left=10.0, named=True, operation=WATCH) == ()
    assert not lines(caplog)


def test_the_trail_leads_to_the_one_call_that_took_most():
    spent = Spent()
    spent.answered("a", '"orders -> x/y";o=ok;r=slow;n=1;ms=280')
    spent.answered("b", None)
    spent.took("a", Hop("gateway -> orders/place", "ok", "slow", 2, 0.29))
    spent.took("b", Hop("gateway -> b", "ok", "slow", 1, 0.2))
    found = answered(Lateness({}), 0.5, left=1.0, named=True, spent=spent)
    assert [hop.edge for hop in found] == ["orders -> x/y", "gateway -> orders/place"]
    # of the whole it was less than half: it is the handler, or many calls
    (own,) = answered(Lateness({}), 0.6, left=1.0, named=True, spent=spent)
    assert (own.edge, own.outcome, own.reason) == (OPERATION, "ok", "slow")


def test_a_flood_is_one_line_in_ten_seconds(caplog):
    lateness = Lateness({"": 0.1})
    for number in range(30):
        answered(lateness, 0.2, at=100.0 + number)
    told = [one.getMessage() for one in lines(caplog)]
    assert len(told) == 3
    assert told[0].endswith(", 200 ms)")
    assert told[1].endswith("; 9 more since the last line")


# --- over the wires ------------------------------------------------------------------------------


class Slow(Handler):
    """Takes its time, and then does it."""

    def __init__(self, took):
        super().__init__()
        self.took = took

    async def do(self, request):
        await asyncio.sleep(self.took)
        return Empty()


class Passing(Handler):
    """Asks the next service to do it."""

    def __init__(self, below):
        super().__init__()
        self.below = below

    async def do(self, request):
        return await self.below.do(request)


class Patient(Passing):
    """Puts up with the failure of the next service."""

    async def do(self, request):
        try:
            return await self.below.do(request)
        except Unknown:
            return Empty()


LONG = Policy(deadline=60, retry=None)
SHORT = Policy(deadline=5, retry=None)
"""Of which what is slow here takes more than a tenth."""


@asynccontextmanager
async def connected(url, caller, policy=SHORT):
    """A client that has its connection: what that takes is no part of an answer's time."""
    async with connect(Inventory, url, policy, caller=caller) as inventory:
        while True:
            with contextlib.suppress(Unavailable, Unknown):
                await inventory.stock(GetStock(sku="tea"))
                break
        yield inventory


@pytest.mark.parametrize("wires", [("http", "grpc"), ("grpc", "http")])
async def test_the_edge_names_where_the_time_of_a_late_answer_went(wires, caplog):
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        leaf = await enter(serving(Slow(0.6)))
        orders = await enter(connected(leaf.url(wires[0]), "orders"))
        middle = await enter(serving(Passing(orders)))
        gateway = await enter(connected(middle.url(wires[1]), "gateway"))
        edge = await enter(serving(Passing(gateway), latency={OPERATION: 0.2}))
        client = await enter(httpx.AsyncClient(timeout=60))
        answer = await client.post(f"{edge.http}/v1/do", json={"what": "x"})
        assert (answer.status_code, "switchgear-trail" in answer.headers) == (200, False)
        (line,) = lines(caplog)
        assert line.levelno == logging.WARNING
        trail = read(line.fields["trail"])
        edges = [OPERATION, f"orders -> {OPERATION}", f"gateway -> {OPERATION}"]
        assert [hop.edge for hop in trail] == edges
        assert {(hop.outcome, hop.reason) for hop in trail} == {("ok", "slow")}
        took = [*(hop.seconds for hop in trail), line.fields["seconds"] + 0.001]  # they are rounded
        assert took == sorted(took)
        assert line.fields["first_cause"] == OPERATION


async def test_a_failure_that_was_put_up_with_took_its_time_too(caplog):
    policy = Policy(deadline=0.6, retry=None)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        leaf = await enter(serving(Slow(60)))
        orders = await enter(connected(leaf.url("http"), "orders", policy))
        edge = await enter(serving(Patient(orders), latency={"": 0.1}))
        page = await enter(connect(Inventory, edge.url("http"), LONG, caller="page"))
        assert await page.do(Do(what="x")) == Empty()
    (line,) = lines(caplog)
    assert line.fields["first_cause"] == f"orders -> {OPERATION}"
    assert line.fields["reason"] == Reason.TIMEOUT


async def test_a_guarded_function_does_not_hide_the_call_that_it_makes(caplog):
    class Guarded(Passing):
        async def do(self, request):
            guard = Guard("warehouse", Policy(deadline=4, retry=None))
            return await guard(self.below.do)(request)

    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        leaf = await enter(serving(Slow(0.6)))
        orders = await enter(connected(leaf.url("http"), "orders"))
        edge = await enter(serving(Guarded(orders), latency={"": 0.1}))
        page = await enter(connect(Inventory, edge.url("http"), LONG, caller="page"))
        await page.do(Do(what="x"))
    (line,) = lines(caplog)
    trail = read(line.fields["trail"])
    assert [hop.edge for hop in trail] == [OPERATION, f"orders -> {OPERATION}", "warehouse"]


def by_httpx(guard, served):
    with httpx.Client(transport=guard.httpx_sync()) as client:
        client.post(f"{served.http}/v1/do", json={"what": "x"}).raise_for_status()


def by_requests(guard, served):
    with requests.Session() as session:
        session.mount("http://", guard.requests())
        session.post(f"{served.http}/v1/do", json={"what": "x"}).raise_for_status()


def by_grpc(guard, served):
    with guard.grpc(grpc.insecure_channel(served.grpc.removeprefix("grpc://"))) as channel:
        channel.unary_unary(DO.grpc_path)(to_proto(Do(what="x")))


async def by_aio(guard, served):
    target = served.grpc.removeprefix("grpc://")
    async with guard.grpc(grpc.aio.insecure_channel(target)) as channel:
        await channel.unary_unary(DO.grpc_path)(to_proto(Do(what="x")))


async def by_httpx_async(guard, served):
    async with httpx.AsyncClient(transport=guard.httpx(), timeout=60) as client:
        (await client.post(f"{served.http}/v1/do", json={"what": "x"})).raise_for_status()


async def by_aiohttp(guard, served):
    async with aiohttp.ClientSession(middlewares=[guard.aiohttp()]) as session:
        url = f"{served.http}/v1/do"
        async with session.post(url, json={"what": "x"}) as answer:
            answer.raise_for_status()


@pytest.mark.parametrize(
    "ask", [by_httpx, by_requests, by_grpc, by_aio, by_httpx_async, by_aiohttp]
)
async def test_guards_of_others_clients_read_it_too(ask):
    spent = Spent()
    guard = Guard("inventory", Policy(deadline=4, retry=None), caller="orders")
    async with serving(Slow(0.5)) as served:
        with bind(Context(spent=spent)):
            if asyncio.iscoroutinefunction(ask):
                await ask(guard, served)
            else:
                await asyncio.to_thread(ask, guard, served)
    assert [hop.edge for hop in spent.trail] == [OPERATION, "inventory"]
    assert spent.below == {}


@pytest.mark.parametrize("end", [Ok(1), Rejected("no"), Unknown(reason=Reason.TIMEOUT)])
async def test_what_a_call_was_told_is_forgotten_with_the_call(end):
    """A stream may make calls for days."""
    spent, machine = Spent(), new_machine("inventory", Policy(retry=None))

    async def attempt(step):
        spent.answered(step.call, '"below";o=ok;r=slow;n=1;ms=1')
        return end

    with contextlib.suppress(Rejected, Unknown):
        await aio.drive(machine, attempt, context=Context(spent=spent))
    assert spent.below == {}
