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
from switchgear.testing import testing
from switchgear.testing.service import Testing
from tests.saga.choreography.shop import Broken, OrderPlaced, Shop

EVENT = "shop.orders.OrderPlaced"


class Point(NamedTuple):
    """A failure point, played through with one order."""

    order: str
    told: Explanation
    chatty: bool
    """Whether handlers publish what they may, beyond what the case is about."""


def points(shop: Shop) -> list[Point]:
    """Let one order fail at each point, with the others silent, and with the others talking."""
    found = []
    for number, told in enumerate(explain_all(shop.chain, EVENT)):
        for chatty in (False, True):
            point = Point(f"{number}-{chatty}", told, chatty)
            path = {one.name: short(one.published) for one in told.before}
            if told.how != GIVES_UP:
                path[told.fails] = short(told.how)
            others = {} if chatty else {step.name: "" for step in shop.chain.steps}
            shop.says[point.order] = {**others, **path}
            if told.how == GIVES_UP:
                shop.breaks[point.order] = told.fails
                shop.says[point.order].pop(told.fails, None)
            found.append(point)
    return found


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
            await one.settle()
        healths = [await one.runtime.bus.health() for one in services.values()]
        if not any(one.unpublished for one in healths) and not any(
            part.lag for one in healths for part in one.subscriptions.values()
        ):
            return


def check(point: Point, ran: set[str]) -> None:
    """Check that who ran is who was told to run."""
    told = point.told
    certain = {one.name for one in told.before[1:]} | {*told.beside}
    if told.how != GIVES_UP:
        certain.add(told.fails)
    if point.chatty:
        assert certain <= ran <= certain | {*told.perhaps}
    else:
        assert ran == certain
    assert not ran & {*told.never, *told.waits}
    undos = {each.undo for each in told.undone if each.certain or point.chatty}
    assert undos <= ran
    stays = {each.name for each in told.stays if each.name != "orders (OrderPlaced)"}
    undone = {each.undone for each in told.undone}
    assert stays <= ran
    assert not stays & undone


@pytest.mark.parametrize("on_failure", ["park_key", "skip"])
async def test_every_failure_point(on_failure: str, tmp_path: Path) -> None:
    shop = Shop(on_failure)
    cases = points(shop)
    assert len({(one.told.fails, one.told.how, one.told.before) for one in cases}) == 14
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
        check(point, ran[point.order])
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
        async with asyncio.timeout(20):
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
            check(point, ran.get(point.order, set()))


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
