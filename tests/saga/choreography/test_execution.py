"""What is explained equals what happens, for every failure point, on real services."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from switchgear import Message, Service, Transaction, event, field
from switchgear.app.declared import declared
from switchgear.app.reaction import OnFailure
from switchgear.config import Config, without_file
from switchgear.config.source import variable
from switchgear.saga.choreography.chain import merged, short
from switchgear.saga.choreography.explain import GIVES_UP, Explanation, explain, explain_all
from switchgear.saga.choreography.reach import routes
from switchgear.testing import testing
from switchgear.testing.service import Testing
from tests.saga.choreography.shop import Broken, OrderPlaced, Shop

EVENT = "shop.orders.OrderPlaced"


ORIGIN = "orders (OrderPlaced)"
UNDOES = {
    "orders.turn_down": ORIGIN,
    "orders.cancel": ORIGIN,
    "inventory.release": "inventory.reserve",
    "inventory.take_back": "inventory.reserve",
    "payments.give_back": "payments.charge",
}
REFUSALS = {"OutOfStock", "PaymentRefused", "Undeliverable"}


class Point(NamedTuple):
    """A failure point, played through with one order."""

    order: str
    told: Explanation
    chatty: bool = True
    """Whether handlers publish what they may, beyond what the case is about."""
    leads_to: str = ""
    """A handler that may run: in this play the others choose so that it does."""


def points(shop: Shop) -> list[Point]:
    """Let orders fail at each point: the others silent, or talking, or leading somewhere."""
    found = []
    for number, told in enumerate(explain_all(shop.chain, EVENT)):
        case = {one.name: short(one.published) for one in told.before}
        if told.how != GIVES_UP:
            case[told.fails] = short(told.how)
        silent = {step.name: "" for step in shop.chain.steps}
        plays = [Point(f"{number}-silent", told, chatty=False), Point(f"{number}-talking", told)]
        plays += [Point(f"{number}-{name}", told, leads_to=name) for name in told.perhaps]
        for point in plays:
            others = {} if point.chatty else silent
            if point.leads_to:
                others = way(shop, point.leads_to, case)
            shop.says[point.order] = {**others, **case}
            if told.how == GIVES_UP:
                shop.breaks[point.order] = told.fails
                shop.says[point.order].pop(told.fails, None)
        found += plays
    return found


def way(shop: Shop, name: str, case: dict[str, str]) -> dict[str, str]:
    """Return what handlers publish on a way to `name` on which the case holds."""
    step = shop.chain.step(name, shop.chain.steps)
    for path in routes(shop.chain, EVENT, step).ways:
        heard = [one.event for one in (*path, step)][1:]
        says = {one.name: short(event) for one, event in zip(path, heard, strict=True)}
        if all(case.get(one, event) == event for one, event in says.items()):
            return says
    raise AssertionError(f"{name} cannot run in this case")


@asynccontextmanager
async def running(services: dict[str, Service], folder: Path) -> AsyncIterator[dict[str, Testing]]:
    """Run services on one broker, each with a database of its own."""
    async with AsyncExitStack() as stack:
        started = {}
        for name, service in services.items():
            started[name] = await stack.enter_async_context(
                testing(service, config=settings(name, folder))
            )
        yield started


def settings(name: str, folder: Path) -> Config:
    url = f"sqlite:///{folder}/{{}}.db?synchronous=OFF"
    broker = variable("system", "broker"), url.format("broker")
    own = variable("services", name, "database"), url.format(name)
    return without_file(dict([broker, own]), folder)


async def done(services: dict[str, Testing]) -> dict[str, set[str]]:
    """Return the handlers whose work is committed, by order."""
    found: dict[str, set[str]] = {}
    for name, one in services.items():
        async with one.transaction() as tx:
            for handler, order in await tx.run("SELECT handler, order_id FROM did"):
                found.setdefault(order, set()).add(f"{name}.{handler}")
    return found


async def quiet(services: dict[str, Testing]) -> None:
    """Wait until no service has anything left to do."""
    while True:
        for one in services.values():
            await one.settle(within=120)
        healths = [await one.runtime.bus.health() for one in services.values()]
        if not any(one.unpublished for one in healths) and not any(
            part.lag for one in healths for part in one.subscriptions.values()
        ):
            return


def check(point: Point, ran: set[str], says: dict[str, str]) -> None:
    """Check that who ran is who was told to run, and that what was undone is what was told."""
    told = point.told
    certain = {one.name for one in told.before[1:]} | {*told.beside}
    if told.how != GIVES_UP:
        certain.add(told.fails)
    assert not ran & {*told.never, *told.waits}
    assert certain <= ran <= certain | {*told.perhaps}
    if point.leads_to:
        assert point.leads_to in ran
        return
    effects = {ORIGIN} | {one for one in ran if says.get(one) not in REFUSALS} - UNDOES.keys()
    undone = {UNDOES[one] for one in ran & UNDOES.keys()} & effects
    all_told = {each.undone for each in told.undone}
    if point.chatty:
        assert undone == all_told
    else:
        assert ran == certain
        assert undone == {each.undone for each in told.undone if each.certain}
        assert {each.name for each in told.stays} == effects - all_told
    assert {each.undo for each in told.undone if each.certain} <= ran


@pytest.mark.parametrize("on_failure", ["park_key", "skip"])
async def test_every_failure_point(on_failure: str, tmp_path: Path) -> None:
    shop = Shop(on_failure)
    cases = points(shop)
    assert len({(one.told.fails, one.told.how, one.told.before) for one in cases}) == 14
    assert sum(bool(one.leads_to) for one in cases) > 10
    async with running(shop.services, tmp_path) as services:
        async with services["orders"].transaction() as tx:
            tx.publish(*(OrderPlaced(order_id=point.order) for point in cases))
        await quiet(services)
        ran = await done(services)
        parked = {
            (event.key, event.consumer, event.cause)
            for one in services.values()
            for event in await one.runtime.bus.parked.list(limit=1_000)
        }
    for point in cases:
        check(point, ran[point.order], shop.says[point.order])
        told = point.told
        waits = {one for one in parked if one[0] == point.order}
        if told.how == GIVES_UP:
            assert told.ends == {"park_key": "parked", "skip": "skipped"}[on_failure]
            assert told.attempts == 2
            assert waits == {(point.order, told.subscription, "failed")}
        else:
            assert not waits


async def test_a_key_that_is_blocked(tmp_path: Path) -> None:
    shop = Shop("block_key")
    cases = [one for one in points(shop) if one.told.how == GIVES_UP and not one.chatty]
    async with running(shop.services, tmp_path) as services:
        async with services["orders"].transaction() as tx:
            tx.publish(*(OrderPlaced(order_id=point.order) for point in cases))
        expected = sum(len(one.told.before) - 1 + len(one.told.beside) for one in cases)
        async with asyncio.timeout(60):
            while sum(map(len, (await done(services)).values())) < expected:
                await asyncio.sleep(0)
            while True:
                healths = [await one.runtime.bus.health() for one in services.values()]
                subscriptions = {
                    name: one for health in healths for name, one in health.subscriptions.items()
                }
                blocked = {name: one.blocked_keys for name, one in subscriptions.items()}
                wanted: dict[str, int] = dict.fromkeys(blocked, 0)
                for case in cases:
                    wanted[case.told.subscription] += 1
                if blocked == wanted:
                    break
        ran = await done(services)
        for point in cases:
            assert point.told.ends == "blocked"
            assert point.told.attempts is None
            check(point, ran.get(point.order, set()), shop.says[point.order])


@event("shop.orders", key="order_id", after=OrderPlaced)
class OrderChanged(Message):
    order_id: str = field(1)


@pytest.mark.parametrize("on_failure", ["park_key", "skip"])
async def test_what_waits_in_the_same_queue(on_failure: OnFailure, tmp_path: Path) -> None:
    audit, desk = Service("audit"), Service("desk")
    seen: list[str] = []

    @audit.on(OrderPlaced, name="keep", on_failure=on_failure, attempts=1, emits=[])
    async def keep(event: OrderPlaced, tx: Transaction) -> None:
        raise Broken

    @audit.on(OrderChanged, name="keep", on_failure=on_failure, attempts=1, emits=[])
    async def note(event: OrderChanged, tx: Transaction) -> None:
        seen.append(event.order_id)

    @desk.on(OrderPlaced, name="work", on_failure=on_failure, emits=[OrderChanged])
    async def work(event: OrderPlaced, tx: Transaction) -> None:
        tx.publish(OrderChanged(order_id=event.order_id))

    desk.publishes(OrderPlaced)
    services = {"audit": audit, "desk": desk}
    chain = merged(map(declared, services.values()))
    (told,) = explain(chain, EVENT, chain.step("audit.keep", chain.steps))
    async with running(services, tmp_path) as started:
        async with started["desk"].transaction() as tx:
            tx.publish(OrderPlaced(order_id="1"))
        await quiet(started)
        parked = [one.cause for one in await started["audit"].runtime.bus.parked.list()]
    if on_failure == "skip":
        assert (told.waits, told.perhaps) == ((), ("audit.note",))
        assert (seen, parked) == (["1"], ["failed"])
    else:
        assert (told.waits, told.perhaps) == (("audit.note",), ())
        assert (seen, parked) == ([], ["failed", "behind"])
        assert "Waits behind it, if its event comes: audit.note." in told.text()
