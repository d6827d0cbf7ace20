"""`switchgear events trace`: the story of a chain of events on real services."""

from __future__ import annotations

import asyncio
import importlib
import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from tests.saga.choreography.shop import OrderPlaced, Shop
from tests.servers import address

from switchgear.app.target import load_target
from switchgear.cli.main import main
from switchgear.config import load
from switchgear.model.context import Context, bind
from switchgear.testing import Testing, testing

NAMES = ("orders", "inventory", "payments", "shipping", "notifications")
MODULE = f"""
from tests.saga.choreography.shop import Shop

shop = Shop()
{", ".join(NAMES)} = (shop.services[name] for name in {NAMES})
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """A system of five services that react to each other, in a module of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "trace_shop.py").write_text(MODULE)
    (tmp_path / "switchgear.toml").write_text(
        "\n".join(f'[services.{name}]\napp = "trace_shop:{name}"' for name in NAMES)
    )
    found = load_target("trace_shop:shop")
    assert isinstance(found, Shop)
    found.says.clear()
    found.breaks.clear()
    return found


async def played(shop: Shop, order: str) -> str:
    """Place an order, let it come to rest, and return the id of the event that began it."""
    async with running(shop, order) as started:
        broker = started[0].runtime.broker
        records = await broker.search(order.encode(), [], 100)  # type: ignore[attr-defined]
        return next(one.headers["ce-id"] for one in records if one.partition.topic == "shop.orders")


@asynccontextmanager
async def running(shop: Shop, order: str) -> AsyncIterator[list[Testing]]:
    """Place an order, let it come to rest, and give the services."""
    config = load()
    async with AsyncExitStack() as stack:
        started = [
            await stack.enter_async_context(testing(service, config=config))
            for service in shop.services.values()
        ]
        async with started[0].transaction() as tx:
            tx.publish(OrderPlaced(order_id=order))
        for _ in range(8):  # the longest chain has seven events
            for one in started:
                await one.settle(within=60)
        yield started


def typed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(("events", *arguments))
    said = capsys.readouterr()
    return said.err if end.value.code else said.out


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit):
        main(arguments)
    return capsys.readouterr().out


def told(capsys: pytest.CaptureFixture[str], given: str) -> tuple[str, list[tuple[str, str, str]]]:
    story = json.loads(typed(capsys, "trace", given, "--json"))
    assert story["unread"] is None
    assert story["missing"] == []
    lines = [
        ("  " * one["depth"] + one["step"], one["kind"], one["state"]) for one in story["lines"]
    ]
    return story["status"], lines


def test_what_was_refused_and_taken_back(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    shop.says["refused-order"] = {"payments.charge": "PaymentRefused"}
    first = asyncio.run(played(shop, "refused-order"))
    status, lines = told(capsys, first)
    assert status == "at rest"
    assert lines == [
        ("OrderPlaced", "event", "published"),
        ("  inventory.reserve", "handler", "done"),
        ("  notifications.thank", "handler", "done"),
        ("  StockReserved", "event", "published"),
        ("    payments.charge", "handler", "done"),
        ("    PaymentRefused", "event", "published"),
        ("      inventory.release", "undo", "done"),
        ("      StockReleased", "event", "published"),
        ("        orders.cancel", "undo", "done"),
    ]
    shown = typed(capsys, "trace", first)
    assert shown.splitlines()[0].startswith(f"{first}: at rest, began ")
    assert "      inventory.release" in shown


def test_what_is_parked_and_corrected(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    shop.breaks["parked-order"] = "payments.charge"
    first = asyncio.run(played(shop, "parked-order"))
    status, lines = told(capsys, first)
    assert status == "waits for a person"
    assert lines[-2:] == [
        ("  StockReserved", "event", "published"),
        ("    payments.charge", "handler", "parked"),
    ]
    shown = typed(capsys, "trace", first)
    assert "Broken: payments.charge (tried 2 times)" in shown
    parked = json.loads(typed(capsys, "parked", "--json"))
    # by the id of any event of the chain
    assert told(capsys, parked["headers"]["ce-id"])[1] == lines
    name = f"payments/{parked['id']}"
    typed(capsys, "discard", name, "--reason", "given up", "--actor", "ann")
    status, lines = told(capsys, first)
    assert (status, lines[-1]) == ("at rest", ("    payments.charge", "handler", "discarded"))
    assert "by ann: given up" in typed(capsys, "trace", first)


def test_of_what_nothing_is_found(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(played(shop, "other-order"))
    said = typed(capsys, "trace", "0" * 32)
    assert "nothing is found of '00000000" in said
    # an event's key is no correlation
    assert "nothing is found of 'other-order'" in typed(capsys, "trace", "other-order")


def _rabbitmq() -> str:
    return f"{address('rabbitmq')}?partitions=1&prefix=t{secrets.token_hex(6)}."


def _sqs() -> str:
    quick = "create=true&discover=0.05&wait=1"
    return f"{address('sqs')}&prefix=t{secrets.token_hex(6)}-&{quick}"


@pytest.mark.parametrize(("scheme", "url"), [("amqp", _rabbitmq), ("sqs", _sqs)])
def test_a_broker_that_is_not_searched(
    shop: Shop,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    scheme: str,
    url: Callable[[], str],
) -> None:
    """Told is what the databases hold, what was looked at, and what was not."""
    monkeypatch.setenv("SWITCHGEAR_SYSTEM_BROKER", url())
    shop.breaks["parked-order"] = "payments.charge"

    async def play() -> None:
        async with running(shop, "parked-order"):
            pass

    asyncio.run(play())
    headers = json.loads(typed(capsys, "parked", "--json"))["headers"]
    first = headers["ce-correlationid"]
    # by the correlation, and by the id of the event that waits
    for given in (first, headers["ce-id"]):
        story = json.loads(typed(capsys, "trace", given, "--json"))
        assert story["status"] == "waits for a person"
        assert story["missing"] == [first]
        assert story["unread"].startswith(f"a broker at {scheme}:// is not searched")
        assert not story["looked_at"]["log"]
        held = ["outbox", "parked events and their audit", "inbox"]
        assert story["looked_at"]["databases"]["payments"] == held
        lines = [(one["step"], one["kind"], one["state"]) for one in story["lines"]]
        assert lines == [
            (first, "event", "not found"),
            ("inventory.reserve", "handler", "done"),
            ("notifications.thank", "handler", "done"),
            ("StockReserved", "event", "published"),
            ("payments.charge", "handler", "parked"),
        ]
    shown = " ".join(typed(capsys, "trace", first).split())
    assert "Looked at: " in shown
    assert "payments (outbox, parked events and their audit, inbox)" in shown
    assert f"Incomplete: a broker at {scheme}:// is not searched" in shown
    said = typed(capsys, "trace", "0" * 32)
    assert "nothing is found of" in said
    assert "is not searched" in said


SAGA = """
from switchgear import Message, Refused, Saga, Service, StepContext, Unknown, event, field

class Order(Message):
    order_id: str = field(1)

@event("traced.payments", key="order_id")
class Charged(Message):
    order_id: str = field(1)

@event("traced.payments", key="order_id")
class Repaid(Message):
    order_id: str = field(1)

app = Service("tills")
app.publishes(Charged, Repaid)
checkout = Saga("checkout", version=1, runbook="book.md")

@checkout.undo()
async def refund(order: Order, done: Unknown | None, ctx: StepContext) -> None:
    async with app.transaction() as tx:
        tx.publish(Repaid(order_id=order.order_id))

@refund.undoes
async def debit(order: Order, ctx: StepContext) -> None:
    async with app.transaction() as tx:
        tx.publish(Charged(order_id=order.order_id))

@checkout.read
async def look(order: Order, ctx: StepContext) -> None:
    raise Refused("no")

checkout.path(debit >> look)
app.runs(checkout)
"""


def test_the_events_of_a_saga(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "book.md").write_text("Ring them.")
    (tmp_path / "trace_tills.py").write_text(SAGA)
    (tmp_path / "switchgear.toml").write_text('[services.tills]\napp = "trace_tills:app"\n')
    module = importlib.import_module("trace_tills")

    async def ended() -> None:
        async with testing(module.app, config=load()) as till:
            with bind(Context(correlation="c-7")):
                async with till.transaction() as tx:
                    await tx.start(module.checkout, module.Order(order_id="o-7"), id="o-7")
            await till.settle(within=60)
            assert (await module.app.sagas.get("o-7").state()).status == "undone"

    asyncio.run(ended())
    assert "correlation: c-7" in shown(capsys, "saga", "show", "o-7")
    status, lines = told(capsys, "c-7")
    assert status == "at rest"
    assert lines == [
        ("debit", "step", ""),
        ("  Charged", "event", "published"),
        ("debit", "undo", ""),
        ("  Repaid", "event", "published"),
    ]
    # by the id of the saga
    assert told(capsys, "o-7") == (status, lines)
    assert "saga o-7" in typed(capsys, "trace", "o-7")
