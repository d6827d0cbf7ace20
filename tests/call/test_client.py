"""The typed client, over both wires, against real doors."""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio
from tests.patience import longer
from tests.serve.world import (
    Adjust,
    Colour,
    Do,
    Empty,
    GetStock,
    Inventory,
    Line,
    OutOfStock,
    Reserve,
    Stock,
    serving,
)

from switchgear.call.ask import ask
from switchgear.call.client import AskedWrongly, client, client_over, close, connect, edges_of
from switchgear.call.tls import Secret, Tls
from switchgear.database.port import commits
from switchgear.errors import ConfigError, ContractError
from switchgear.model.context import Context, Priority, bind, keyed
from switchgear.model.edge import Pattern
from switchgear.model.outcome import Ok, Reason, Rejected, Status, Unavailable, Unknown
from switchgear.policy.fallback import Fallback, Stale
from switchgear.policy.policy import Policy
from switchgear.policy.retry import Retry

pytestmark = pytest.mark.asyncio(loop_scope="module")

QUICK = Policy(deadline=60.0, retry=Retry(base=0.001, cap=0.001))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server():
    async with serving() as served:
        yield served


@pytest.fixture
def world(server):
    server.handler.reset()
    return server


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["http", "grpc"])
async def inventory(server, request):
    async with connect(Inventory, server.url(request.param), QUICK, caller="tests") as made:
        yield made


def order(sku="tea"):
    return Reserve(order_id="1", lines=[Line(sku=sku, quantity=2)], colour=Colour.RED)


async def test_the_url_is_the_only_difference(world, inventory):
    request = GetStock(sku="grün/tea ?#%", colours=[Colour.RED], least=3)
    assert await inventory.stock(request) == Stock(sku="grün/tea ?#%", available=4)
    assert (await inventory.reserve(order())).pieces == 2
    assert await inventory.adjust(Adjust(sku="a/b", by=-4)) == Stock(sku="a/b", available=-4)
    assert await inventory.do(Do(what="nothing")) == Empty()
    assert (await inventory.summary(Empty())).sku == "*"


async def test_a_refusal_is_raised_typed(inventory):
    with pytest.raises(OutOfStock) as caught:
        await inventory.reserve(order("gone"))
    assert (caught.value.sku, caught.value.available) == ("gone", 3)
    assert caught.value.where == "acme.inventory.v1.Inventory/reserve"


async def test_what_the_handler_turns_away_is_rejected(inventory):
    with pytest.raises(Rejected) as caught:
        await inventory.stock(GetStock(sku="nothing"))
    assert caught.value.status is Status.NOT_FOUND
    assert caught.value.what == "There is no such article."


async def test_a_failure_is_unknown_and_a_plain_command_is_not_repeated(world, inventory):
    for what in ("raise", "unknown", "rejected"):
        world.handler.reset()
        with pytest.raises(Unknown) as caught:
            await inventory.do(Do(what=what))
        assert caught.value.reason is Reason.SERVER_ERROR
        assert world.handler.ran == [what]


async def test_a_layer_below_that_gave_up_is_final(world, inventory):
    with pytest.raises(Unknown) as caught:
        await inventory.do(Do(what="unavailable"))
    assert caught.value.final
    assert world.handler.ran == ["unavailable"]


async def test_time_and_the_rest_of_the_context_ride_along(inventory):
    outer = Context(attempt=1, priority=Priority.CRITICAL, traceparent="00-" + "a" * 32)
    with bind(outer):
        seen = await inventory.seen(Empty())
    assert 10 < seen.left < 60.1
    assert (seen.caller, seen.attempt, seen.priority) == ("tests", 1, "critical")
    assert seen.traceparent == outer.traceparent
    with bind(Context(deadline=asyncio.get_running_loop().time() + 50.0, attempt=3)):
        seen = await inventory.seen(Empty())
    assert 0 < seen.left < 50.1
    assert seen.attempt == 3


async def test_the_callee_stops_when_the_time_is_over(world, inventory):
    for deadline in longer(1.0):
        with pytest.raises((Unavailable, Unknown)) as caught:
            await ask(inventory.do, Do(what="wait"), deadline=deadline)
        if world.handler.began.is_set():
            break
    assert isinstance(caught.value, Unknown)
    assert caught.value.reason is Reason.TIMEOUT
    await asyncio.wait_for(world.handler.cancelled.wait(), 60)


async def test_keys_are_given_derived_or_fresh(inventory):
    first, second = await inventory.seen_keyed(Empty()), await inventory.seen_keyed(Empty())
    assert first.key != second.key
    assert len(first.key) == 32
    with keyed("order-1"):
        derived = [(await inventory.seen_keyed(Empty())).key for _ in range(2)]
    name = "order-1/acme.inventory.v1.Inventory/seen_keyed"
    assert derived == [name, f"{name}#2"]
    answer = await ask(inventory.seen_keyed, Empty(), key="mine")
    assert (answer.value.key, answer.attempts, answer.degraded) == ("mine", 1, False)


async def test_a_stream(world, inventory):
    assert [one.available async for one in inventory.watch(GetStock(sku="tea"))] == [0, 1, 2]
    with pytest.raises(OutOfStock):
        async for _ in inventory.watch(GetStock(sku="refused")):
            pass
    stream = inventory.watch(GetStock(sku="gone"))
    assert [(await anext(stream)).available for _ in range(2)] == [0, 1]
    with pytest.raises(OutOfStock) as caught:
        await anext(stream)
    assert caught.value.available == 2
    with pytest.raises(Unknown):
        async for _ in inventory.watch(GetStock(sku="broken")):
            pass


async def test_a_stream_that_is_left_is_given_up(world, inventory):
    stream = inventory.watch(GetStock(sku="endless"))
    async for _ in stream:
        break
    await stream.aclose()
    await asyncio.wait_for(world.handler.cancelled.wait(), 60)


async def test_a_stream_keeps_the_deadline_of_the_context(world, inventory):
    seen = []
    for deadline in longer(1.0):
        with bind(Context(deadline=asyncio.get_running_loop().time() + deadline)):
            with pytest.raises((Unavailable, Unknown)) as caught:
                async for one in inventory.watch(GetStock(sku="endless")):
                    seen += [one]
        if seen:
            break
    assert isinstance(caught.value, Unknown)
    assert caught.value.reason is Reason.TIMEOUT


async def test_a_client_is_asked_rightly(world, inventory):
    with pytest.raises(AskedWrongly, match="keyed=True"):
        await ask(inventory.do, Do(what="x"), key="k")
    with pytest.raises(AskedWrongly, match="not one answer"):
        await ask(inventory.watch, GetStock(sku="x"))
    with pytest.raises(AskedWrongly, match="not GetStock"):
        await inventory.stock(Empty())
    with pytest.raises(AskedWrongly, match="is not a client"):
        await ask(world.handler.stock, GetStock(sku="x"))
    assert world.handler.ran == []


async def test_an_effect_elsewhere_is_an_effect(inventory):
    with commits() as effects:
        await inventory.stock(GetStock(sku="tea"))
        assert effects.count == 0
        with pytest.raises(OutOfStock):
            await inventory.reserve(order("gone"))
        assert effects.count == 0
        await inventory.reserve(order())
        assert effects.count == 1
        with pytest.raises(Unknown):
            await inventory.do(Do(what="raise"))
        assert effects.count == 2


@pytest.mark.parametrize("scheme", ["http", "grpc"])
async def test_an_edge_may_know_better(world, scheme):
    treat = {503: "unavailable", Status.UNAVAILABLE: "unavailable"}
    policy = Policy(retry=None, deadline=60)
    async with connect(Inventory, world.url(scheme), policy, treat=treat) as made:
        with pytest.raises(Unavailable):
            await made.do(Do(what="unavailable"))


@pytest.mark.parametrize("scheme", ["http", "grpc"])
async def test_a_token_is_sent_and_never_shown(monkeypatch, tmp_path, scheme):
    tokens = []

    async def authenticate(request):
        tokens.append(request.headers["authorization"])

    path = tmp_path / "token"
    path.write_text("from-file\n")
    monkeypatch.setenv("STOCK_TOKEN", "from-env")
    async with serving(before=[authenticate]) as world:
        for secret in (Secret.env("STOCK_TOKEN"), Secret.file(path)):
            async with connect(Inventory, world.url(scheme), QUICK, token=secret) as made:
                await made.stock(GetStock(sku="tea"))
                assert "from-" not in f"{secret!r} {secret} {vars(type(made))}"
    assert tokens == ["Bearer from-env", "Bearer from-file"]


async def test_a_secret_that_is_not_there_is_said_so(tmp_path):
    with pytest.raises(ConfigError, match="SG_NOT_SET"):
        Secret.env("SG_NOT_SET").reveal()
    with pytest.raises(ConfigError, match="nowhere"):
        Secret.file(tmp_path / "nowhere").reveal()


@pytest.mark.parametrize(
    ("url", "settings", "why"),
    [
        ("inventory:7001", {}, "how to reach"),
        ("ftp://x:1", {}, "how to reach"),
        ("grpc://x", {}, "no port"),
        ("grpc://x:99999", {}, "not a URL"),
        ("grpc://x:1/path", {}, "has a path"),
        ("http://", {}, "no host"),
        ("http://x/?a=1", {}, "a query"),
        ("http://me:secret@x/", {}, "contains credentials"),
        ("http://x/", {"tls": Tls()}, "not encrypted"),
        ("http://shop.example/", {"token": Secret.env("T")}, "unencrypted"),
        ("grpc://x:1", {"operations": {"stok": Policy()}}, "no operation stok"),
    ],
)
async def test_what_cannot_work_is_said_at_once(url, settings, why):
    with pytest.raises(ConfigError, match=why) as caught:
        client(Inventory, url, **settings)
    assert "secret@" not in str(caught.value)


async def test_a_client_needs_a_contract():
    with pytest.raises(ContractError):
        client(dict, "http://x/")


async def test_one_operation_may_have_a_policy_of_its_own():
    own = Policy(deadline=9.0)
    made = client(Inventory, "http://127.0.0.1:1", caller="orders", operations={"stock": own})
    edges = {edge.operation.rpartition("/")[2]: edge for edge in edges_of(made)}
    assert edges["stock"].policy["deadline"] == 9.0
    assert edges["summary"].policy["deadline"] == 1.0
    assert edges["reserve"].pattern is Pattern.COMMAND
    assert edges["reserve"].keyed
    assert edges["reserve"].name == "orders -> acme.inventory.v1.Inventory/reserve"
    assert repr(made) == "<client of acme.inventory.v1.Inventory>"


class Scripted:
    """A wire that answers what it is told."""

    def __init__(self, *outcomes):
        self.outcomes = list(outcomes)
        self.keys = []
        self.closed = False

    async def send(self, operation, request, attempt, context):
        self.keys.append(attempt.key)
        return self.outcomes.pop(0)

    async def close(self):
        self.closed = True


def unknown():
    return Unknown("lost", reason=Reason.RESET)


async def test_only_what_is_safe_is_repeated():
    stock = Stock(sku="a", available=1)
    wire = Scripted(unknown(), Unavailable("no", reason=Reason.CONNECT), Ok(stock))
    made = client_over(Inventory, wire, QUICK)
    answer = await ask(made.stock, GetStock(sku="a"))
    assert (answer.value, answer.attempts) == (stock, 3)
    wire.outcomes = [unknown(), Ok(Empty())]
    with pytest.raises(Unknown) as caught:
        await made.do(Do(what="x"))
    assert (caught.value.attempts, len(wire.outcomes)) == (1, 1)
    wire.outcomes = [Unavailable("no", reason=Reason.CONNECT), Ok(Empty())]
    assert await made.do(Do(what="x")) == Empty()
    wire.outcomes, wire.keys = [unknown(), unknown(), unknown()], []
    with pytest.raises(Unknown) as caught:
        await made.reserve(order())
    assert len(wire.keys) == 3
    assert {caught.value.key} == set(wire.keys)
    await close(made)
    assert wire.closed
    with pytest.raises(AskedWrongly, match="closed"):
        await made.stock(GetStock(sku="a"))


async def test_a_stale_answer_is_visible():
    stock = Stock(sku="a", available=1)
    policy = Policy(retry=None, fallback=Fallback(stale=Stale()))
    made = client_over(Inventory, Scripted(Ok(stock), unknown(), unknown()), policy)
    assert not (await ask(made.stock, GetStock(sku="a"))).degraded
    answer = await ask(made.stock, GetStock(sku="a"))
    assert (answer.value, answer.degraded) == (stock, True)
    with pytest.raises(Unknown):
        await made.stock(GetStock(sku="b"))
