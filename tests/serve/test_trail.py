"""Three services in a row, over real doors: whoever stands at the edge can name the first cause."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, suppress

import httpx
import pytest

from switchgear.call.client import connect
from switchgear.model.outcome import Unavailable, Unknown
from switchgear.model.trail import read
from switchgear.policy.breaker import Breaker
from switchgear.policy.policy import Policy
from switchgear.policy.retry import Retry
from tests.patience import longer
from tests.ports import reserved_port
from tests.serve.test_grpc import request_with_timeout
from tests.serve.world import Do, Handler, Inventory, serving

OPERATION = "acme.inventory.v1.Inventory/do"
PATIENT = Policy(retry=None, deadline=60)


class Passing(Handler):
    """Asks the next service to do it."""

    def __init__(self, below):
        super().__init__()
        self.below = below

    async def do(self, request):
        return await self.below.do(request)


class Row:
    """gateway -> orders -> inventory; each hop over the wire that the test names."""

    def __init__(self, *, inventory, wires=("grpc", "http"), orders=None, gateway=None):
        self.leaf = inventory
        self.wires = wires
        self.orders = orders or Policy(retry=Retry(base=0.001, cap=0.001), deadline=20)
        self.gateway = gateway or Policy(deadline=40)

    async def __aenter__(self):
        self._stack = AsyncExitStack()
        enter = self._stack.enter_async_context
        if isinstance(self.leaf, Handler):
            url = (await enter(serving(self.leaf))).url(self.wires[1])
        else:
            url = f"{self.wires[1]}://127.0.0.1:{reserved_port()}"
        below = await enter(connect(Inventory, url, self.orders, caller="orders"))
        served = await enter(serving(Passing(below)))
        url = served.url(self.wires[0])
        below = await enter(connect(Inventory, url, self.gateway, caller="gateway"))
        self.edge = await enter(serving(Passing(below)))
        self.client = await enter(httpx.AsyncClient(timeout=60))
        return self

    async def __aexit__(self, *error):
        await self._stack.aclose()

    async def ask(self, what, **headers):
        return await self.client.post(
            f"{self.edge.http}/v1/do", json={"what": what}, headers=headers, timeout=60
        )


def first_cause(caplog):
    """The last line that was logged is the edge's: each door logs after the one below."""
    record = [one for one in caplog.records if one.name == "switchgear.serve"][-1]
    assert f"first cause: orders -> {OPERATION}" in record.getMessage()
    assert f"; then gateway -> {OPERATION}" in record.getMessage()
    return record.fields["first_cause"], record.fields["reason"]


@pytest.mark.parametrize("wires", [("http", "grpc"), ("grpc", "http")])
async def test_the_edge_names_a_leaf_that_is_down(wires, caplog):
    async with Row(inventory=None, wires=wires) as row:
        answer = await row.ask("x")
    assert first_cause(caplog) == (f"orders -> {OPERATION}", "connect")
    assert "unavailable (connect) after 3 attempts" in caplog.records[-1].getMessage()
    # nobody outside is told what is inside
    assert (answer.status_code, "switchgear-trail" in answer.headers) == (500, False)
    assert "orders" not in answer.text


@pytest.mark.parametrize("wires", [("http", "grpc"), ("grpc", "http")])
async def test_the_edge_names_a_leaf_that_is_slow(wires, caplog):
    # where all share one deadline, calls end before their request: see `test_dispatch.py`
    orders, gateway = Policy(deadline=0.8, retry=None), Policy(deadline=60)
    async with Row(inventory=Handler(), wires=wires, orders=orders, gateway=gateway) as row:
        while (await row.ask("x")).status_code != 200:
            pass  # until it is connected, which is not what is asked here
        caplog.clear()
        answer = await row.ask("wait")
    assert first_cause(caplog) == (f"orders -> {OPERATION}", "timeout")
    assert answer.status_code == 500


async def test_the_edge_names_the_policy_that_decided(caplog):
    orders = Policy(breaker=Breaker(consecutive=1), retry=None, deadline=20)
    async with Row(inventory=None, orders=orders) as row:
        await row.ask("x")
        caplog.clear()
        await row.ask("x")
    assert first_cause(caplog) == (f"orders -> {OPERATION}", "breaker-open")
    assert "after 0 attempts" in caplog.records[-1].getMessage()


async def test_a_service_of_the_system_is_told_and_adds_its_own_edge():
    async with Row(inventory=None) as row:
        answer = await row.ask("x", **{"switchgear-caller": "page"})
        trail = read(answer.headers["switchgear-trail"])
        assert [hop.edge for hop in trail] == [f"orders -> {OPERATION}", f"gateway -> {OPERATION}"]
        assert [hop.outcome for hop in trail] == ["unavailable", "unknown"]
        assert trail[0].seconds <= trail[1].seconds
        for scheme in ("http", "grpc"):
            url = row.edge.url(scheme)
            async with connect(Inventory, url, PATIENT, caller="page") as inventory:
                with pytest.raises((Unavailable, Unknown)) as raised:
                    await inventory.do(Do(what="x"))
            assert [hop.edge.partition(" ")[0] for hop in raised.value.trail] == [
                "orders",
                "gateway",
                "page",
            ]
            assert f"first cause: orders -> {OPERATION}" in str(raised.value)


class Slow(Handler):
    async def do(self, request):
        self.began.set()
        await asyncio.Event().wait()


async def test_a_handler_that_takes_too_long_is_named_itself(caplog):
    slow = Slow()
    async with serving(slow) as served, httpx.AsyncClient(timeout=120) as client:
        for timeout in longer(0.3):
            headers = {"switchgear-caller": "page", "switchgear-timeout": f"{timeout * 1000:.0f}"}
            caplog.clear()
            answer = await client.post(f"{served.http}/v1/do", json={"what": "x"}, headers=headers)
            if slow.began.is_set():
                break
    assert answer.status_code == 504
    (hop,) = read(answer.headers["switchgear-trail"])
    assert (hop.edge, hop.reason) == (OPERATION, "timeout")
    assert late(caplog) == [f"{OPERATION} was not carried out in time (first cause: {hop})"]


async def test_one_that_grpc_cuts_is_logged_too(caplog):
    for timeout in longer(1.0):
        slow = Slow()
        async with serving(slow) as served:
            host, port = served.grpc.removeprefix("grpc://").split(":")
            # by hand: a client's library gives up by its own clock, and then it is the client's end
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(request_with_timeout(f"{timeout:.0f}S", "Do", b"\x0a\x01x"))
            with suppress(TimeoutError):
                await asyncio.wait_for(slow.began.wait(), timeout + 1)
            if slow.began.is_set():
                async with asyncio.timeout(120):
                    while not late(caplog):
                        await asyncio.sleep(0.001)
            writer.close()
        if slow.began.is_set():
            break
    (line,) = late(caplog)
    assert f"first cause: {OPERATION}: unknown (timeout)" in line


async def test_one_whose_caller_left_before_is_not_late(caplog):
    policy = Policy(deadline=60, retry=None)
    handler = Handler()
    async with serving(handler) as served:
        async with connect(Inventory, served.url("grpc"), policy, caller="page") as inventory:
            task = asyncio.create_task(inventory.do(Do(what="wait")))
            await handler.began.wait()
            task.cancel()
            await handler.cancelled.wait()
    assert late(caplog) == []


def late(caplog):
    return [one.getMessage() for one in caplog.records if "in time" in one.getMessage()]


async def test_a_failure_that_a_handler_wraps_keeps_its_trail(caplog):
    class Wrapping(Passing):
        async def do(self, request):
            try:
                return await self.below.do(request)
            except Unavailable as error:
                raise ValueError("hunter2") from error

    url = f"http://127.0.0.1:{reserved_port()}"
    async with connect(Inventory, url, PATIENT, caller="orders") as below:
        async with serving(Wrapping(below)) as served, httpx.AsyncClient(timeout=60) as client:
            answer = await client.post(f"{served.http}/v1/do", json={"what": "x"})
    assert answer.status_code == 500
    (record,) = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert record.fields["first_cause"] == f"orders -> {OPERATION}"
