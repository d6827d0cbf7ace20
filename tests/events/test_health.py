"""What a service says of its events: signals, readiness, gauges."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from switchgear import Message, Service, Signal, SignalKind, subscribe
from switchgear.events import health
from switchgear.events.bus import Bus
from switchgear.testing import testing
from tests.events.world import OrderPlaced, until

STATES = {
    SignalKind.EVENT_STUCK,
    SignalKind.EVENT_MOVING,
    SignalKind.EVENT_STALE,
    SignalKind.EVENT_FRESH,
}


@pytest.fixture
async def bus(broker, database):  # type: ignore[no-untyped-def]
    made = Bus(broker, database, "orders")
    yield made
    await made.stop(0.1)


async def publish(bus: Bus, *events: Message) -> None:
    async with bus.database.transaction() as tx:
        await bus.publish(tx, *events)


async def test_a_handler_that_hangs_is_stuck_and_stale_until_it_goes_on(bus: Bus) -> None:
    ends, told = asyncio.Event(), list[Signal]()

    @bus.on(OrderPlaced, name="x", on_failure="skip", fresh_within=0.001, stuck_after=0.001)
    async def hang(event: OrderPlaced, tx: Any) -> None:
        await ends.wait()

    async def found() -> health.SubscriptionHealth:
        return (await bus.health()).subscriptions["orders.x"]

    async def stuck() -> bool:
        one = await found()
        return one.stuck is not None and one.stale is not None

    async def well() -> bool:
        one = await found()
        return one.stuck is one.stale is None and not one.lag

    with subscribe(told.append):
        await bus.start()
        await found()
        assert not [one for one in told if one.kind in STATES]
        await publish(bus, OrderPlaced(order_id="a", number=1))
        await until(stuck)
        ends.set()
        await until(well)
    kinds = [one.kind for one in told if one.kind in STATES]
    assert {*kinds[:2]} == {SignalKind.EVENT_STUCK, SignalKind.EVENT_STALE}
    assert {*kinds[-2:]} == {SignalKind.EVENT_MOVING, SignalKind.EVENT_FRESH}
    assert all(one.subject == "orders.x" for one in told if one.kind in STATES)


async def test_the_numbers_are_told_now_and_then(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_EVERY", 0.005)
    monkeypatch.setattr(health, "_SHARE", 0)
    told: list[Signal] = []

    @bus.on(OrderPlaced, name="x", on_failure="park_key", attempts=1)
    async def fail(event: OrderPlaced, tx: Any) -> None:
        raise ValueError

    with subscribe(told.append):
        await bus.start()
        await publish(bus, OrderPlaced(order_id="a", number=1))
        lag = await until(
            lambda: [
                one
                for one in told
                if one.kind is SignalKind.EVENT_LAG and one.detail["parked_keys"]
            ]
        )
    assert lag[0].subject == "orders.x"
    assert {*lag[0].detail} == {
        "events",
        "oldest",
        "blocked",
        "parked",
        "parked_keys",
        "blocked_keys",
        "stuck",
        "silent",
    }
    (outbox, *_) = (one for one in told if one.kind is SignalKind.OUTBOX_BACKLOG)
    assert outbox.subject == "orders"
    assert {*outbox.detail} == {"events", "oldest"}


async def test_a_defect_in_looking_is_told_and_it_looks_again(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "_EVERY", 0.005)
    looked: list[int] = []
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))

    async def broken() -> None:
        looked.append(1)
        raise KeyError("what nobody expected")

    monkeypatch.setattr(bus._health, "look", broken)
    await bus.start()
    await until(lambda: len(looked) > 1)
    assert told[0]["message"] == "orders: the look at its events failed"


async def test_ready_all_the_same_with_the_detail() -> None:
    app, ends = Service("orders"), asyncio.Event()

    @app.on(OrderPlaced, name="x", on_failure="skip", fresh_within=0.001, stuck_after=0.001)
    async def hang(event: OrderPlaced) -> None:
        await ends.wait()

    async with testing(app) as t:
        state = t.runtime.health
        delivered = asyncio.create_task(t.deliver(OrderPlaced(order_id="a", number=1)))

        async def told() -> Any:
            assert state.check is not None
            await state.check()
            found: Any = state.details["subscriptions"]
            one = found["orders.x"]
            # they go by two clocks, so one may be told a look before the other
            return one if one["stuck"] and one["stale"] else None

        one = await until(told)
        assert one["stale"] > 0.001
        assert (one["lag"], one["parked"]) == (1, 0)
        assert state.ready
        ends.set()
        await delivered
