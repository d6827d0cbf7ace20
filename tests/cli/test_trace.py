"""`switchgear events trace`: the story of a chain of events on real services."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from tests.saga.choreography.shop import OrderPlaced, Shop

from switchgear.app.target import load_target
from switchgear.cli.main import main
from switchgear.config import load
from switchgear.testing import testing

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
                await one.settle()
        broker = started[0].runtime.broker
        records = await broker.search(order.encode(), [], 100)  # type: ignore[attr-defined]
        return next(one.headers["ce-id"] for one in records if one.partition.topic == "shop.orders")


def typed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(("events", *arguments))
    said = capsys.readouterr()
    return said.err if end.value.code else said.out


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
