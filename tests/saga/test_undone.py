"""The undo of the start: last of all, told why, and handed to a person like any undo."""

from dataclasses import dataclass
from datetime import timedelta

import pytest

from switchgear.database.sqlite import Sqlite
from switchgear.errors import SagaDefinitionError
from switchgear.model.outcome import Rejected, Unknown
from switchgear.saga import Backoff, Saga, StepContext
from switchgear.saga.engine import Engine
from switchgear.saga.errors import SagaUndone, SagaUnfinished
from switchgear.saga.explain import explain
from switchgear.saga.runbook import list_items, retry
from tests.saga.shop import Order, Reservation

QUICK = Backoff(attempts=2, first=0.0, most=0.0)


class Shop:
    def __init__(self):
        self.seen = []
        self.shut = False
        saga = self.saga = Saga(
            "checkout", version=1, runbook="runbooks/release.md", retry=QUICK, undo_retry=QUICK
        )

        @saga.undo()
        async def release(order: Order, done: Reservation | Unknown, ctx: StepContext) -> None:
            self.seen.append("release")

        @release.undoes
        async def reserve(order: Order, ctx: StepContext) -> Reservation:
            self.seen.append("reserve")
            return Reservation(1)

        @saga.pivot(give_up=timedelta(hours=1))
        async def ship(order: Order, ctx: StepContext) -> None:
            self.seen.append("ship")
            if order.amount > 10:
                raise Rejected("too heavy")

        @saga.undone()
        async def cancel(order: Order, why: str, ctx: StepContext) -> None:
            self.seen.append((why, ctx.key))
            if self.shut:
                raise Rejected("shut")

        saga.path(reserve >> ship)


@dataclass
class World:
    engine: Engine
    database: Sqlite
    shop: Shop


@pytest.fixture
async def world(database):
    shop = Shop()
    async with Engine(database, sagas=[shop.saga]) as engine:
        yield World(engine, database, shop)


async def start(world, order):
    async with world.database.transaction() as tx:
        return await world.engine.start(tx, world.shop.saga, order, id=order.order_id)


async def test_it_runs_last_and_is_told_why(world):
    run = await start(world, Order("a", 50))
    with pytest.raises(SagaUndone):
        await run.result(within=60)
    assert world.shop.seen == [
        "reserve",
        "ship",
        "release",
        ("ship: rejected: too heavy", "saga/a/start/undo"),
    ]


async def test_a_saga_that_goes_through_never_runs_it(world):
    run = await start(world, Order("a"))
    await run.result(within=60)
    assert world.shop.seen == ["reserve", "ship"]


async def test_it_becomes_a_work_item_when_it_fails(world):
    world.shop.shut = True
    run = await start(world, Order("a", 50))
    with pytest.raises(SagaUnfinished, match=r"queued|person"):
        await run.result(within=60)
    [item] = await list_items(world.database)
    world.shop.shut = False
    await retry(world.database, item.id, actor="ada", reason="open again")
    with pytest.raises(SagaUndone):
        await run.result(within=60)


def test_explain_shows_it_last():
    told = explain(Shop().saga, fails="ship")
    assert [each.undo for each in told.undone] == ["release", "cancel"]


def test_its_signature_is_checked():
    saga = Saga("checkout", version=1, runbook="runbooks/release.md")
    with pytest.raises(SagaDefinitionError, match="exactly the input, the reason"):

        @saga.undone()
        async def cancel(order: Order, done: Reservation | Unknown, ctx: StepContext) -> None: ...


def test_the_path_ends_the_definition():
    saga = Shop().saga
    with pytest.raises(SagaDefinitionError, match="after the path"):

        @saga.undone()
        async def late(order: Order, why: str, ctx: StepContext) -> None: ...
