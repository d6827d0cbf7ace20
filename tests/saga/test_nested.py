"""A saga inside another is one saga: one journal, one order of undoing, one set of rules."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

import pytest

from switchgear.database.sqlite import Sqlite
from switchgear.errors import SagaDefinitionError
from switchgear.model.outcome import Refused, Unknown
from switchgear.saga import Context, Engine, Saga, SagaUndone, runbook
from switchgear.saga.explain import explain
from tests.saga.shop import QUICK, Book, Order, Payment, Reservation, Shipment


@dataclass(frozen=True)
class Parcel:
    order_id: str
    place: int


@dataclass(frozen=True)
class Box:
    place: int


def parcel(order: Order, reserved: Reservation) -> Parcel:
    return Parcel(order.order_id, reserved.number)


def delivery(book: Book) -> Saga:
    delivery = Saga("delivery", version=1, runbook="runbooks/ship.md", retry=QUICK)

    @delivery.undo()
    async def unpack(parcel: Parcel, done: Box | Unknown, ctx: Context) -> None:
        await book.called("unpack", ctx, (parcel, done))

    @unpack.undoes
    async def pack(parcel: Parcel, ctx: Context) -> Box:
        await book.called("pack", ctx, parcel)
        return Box(parcel.place)

    @delivery.pivot(give_up=timedelta(hours=1))
    async def send(parcel: Parcel, box: Annotated[Box, pack], ctx: Context) -> Shipment:
        await book.called("send", ctx, (parcel, box, ctx.result(pack)))
        return Shipment(box.place)

    delivery.path(pack >> send)
    return delivery


def checkout(book: Book, inner: Saga) -> Saga:
    checkout = Saga("checkout", version=1, runbook="runbooks/refund.md", retry=QUICK)

    @checkout.undo()
    async def release(order: Order, done: Reservation | Unknown, ctx: Context) -> None:
        await book.called("release", ctx, done)

    @release.undoes
    async def reserve(order: Order, ctx: Context) -> Reservation:
        await book.called("reserve", ctx)
        return Reservation(7)

    @checkout.retriable(give_up=timedelta(hours=1))
    async def confirm(order: Order, sent: Shipment, ctx: Context) -> None:
        await book.called("confirm", ctx, sent)

    checkout.path(reserve >> inner.within(parcel) >> confirm)
    return checkout


async def run(database: Sqlite, saga: Saga) -> None:
    async with Engine(database, [saga]) as engine:
        async with database.transaction() as tx:
            run = await engine.start(tx, saga, Order("o-1"), id="o-1")
        await run.result(within=60)


async def test_its_steps_see_their_own_input_and_results(database: Sqlite, book: Book) -> None:
    saga = checkout(book, delivery(book))
    assert list(saga.steps) == ["reserve", "delivery.pack", "delivery.send", "confirm"]
    assert saga.plan.step["delivery.pack"].needs == ("reserve",)
    await run(database, saga)
    assert book.names == ["reserve", "pack", "send", "confirm"]
    assert book.of("pack")[0].done == Parcel("o-1", 7)
    assert book.of("pack")[0].ctx.key == "saga/o-1/delivery.pack/do"
    assert book.of("send")[0].done == (Parcel("o-1", 7), Box(7), Box(7))
    assert book.of("confirm")[0].done == Shipment(7)


async def test_it_is_undone_with_the_rest(database: Sqlite, book: Book) -> None:
    book.will("send", Refused("no such address"))
    book.will("unpack", Refused("sealed"))
    saga = checkout(book, delivery(book))
    told = [each.undo for each in explain(saga, "delivery.send").undone]
    assert told == ["delivery.unpack", "release"]
    with pytest.raises(Exception, match="waits for a person"):
        await run(database, saga)
    [item] = await runbook.list_items(database)
    assert (item.id, item.runbook) == ("o-1/delivery.unpack", "runbooks/ship.md")
    await runbook.resolve(database, item.id, "ann", "cut open")
    with pytest.raises(SagaUndone, match="no such address"):
        await run(database, saga)
    assert book.names == ["reserve", "pack", "send", "unpack", "release"]
    assert book.of("unpack")[0].done == (Parcel("o-1", 7), Box(7))


def within(book: Book, depth: int) -> Saga:
    """Sagas in sagas, all of one input."""
    inner: Saga | None = None
    for level in range(depth):
        saga = Saga(f"level.{level}", version=1, runbook=RUNBOOK, retry=QUICK)
        do = step_of(saga, book, level)
        saga.path(do if inner is None else inner >> do)
        inner = saga
    assert inner is not None
    return inner


def step_of(saga: Saga, book: Book, level: int):
    @saga.undo()
    async def back(order: Order, done: Payment | Unknown, ctx: Context) -> None:
        await book.called(f"back{level}", ctx)

    @back.undoes
    async def there(order: Order, ctx: Context) -> Payment:
        await book.called(f"there{level}", ctx)
        return Payment(level)

    return there


async def test_sagas_in_sagas_in_sagas(database: Sqlite, book: Book) -> None:
    saga = within(book, 3)
    assert list(saga.steps) == ["level.1.level.0.there", "level.1.there", "there"]
    book.will("there2", Refused("no"))
    with pytest.raises(SagaUndone):
        await run(database, saga)
    assert book.names == ["there0", "there1", "there2", "back1", "back0"]


async def test_what_makes_the_input_of_a_saga_in_a_saga(database: Sqlite, book: Book) -> None:
    saga = Saga("shop.outer", version=1, runbook=RUNBOOK, retry=QUICK)

    @saga.read
    async def look(given: str, ctx: Context) -> Order:
        return Order(given)

    def order(given: str, found: Order) -> Order:
        return Order(found.order_id + "!")

    saga.path(look >> checkout(book, delivery(book)).within(order))
    assert saga.plan.step["checkout.delivery.send"].needs == (
        "checkout.delivery.pack",
        "look",
        "checkout.reserve",
    )
    async with Engine(database, [saga]) as engine:
        async with database.transaction() as tx:
            run = await engine.start(tx, saga, "o-1", id="o-1")
        await run.result(within=60)
    assert book.of("pack")[0].done == Parcel("o-1!", 7)


RUNBOOK = __file__.replace("test_nested.py", "runbooks/ship.md")


class TestRefusedAtImport:
    def outer(self, book: Book) -> tuple[Saga, object]:
        saga = Saga("outer", version=1, runbook=RUNBOOK)
        return saga, step_of(saga, book, 0)

    def test_another_input(self, book: Book) -> None:
        saga, there = self.outer(book)
        with pytest.raises(SagaDefinitionError, match=r"its input is Parcel.*within"):
            saga.path(there >> delivery(book))

    def test_a_function_that_makes_something_else(self, book: Book) -> None:
        def box(order: Order) -> Box:
            return Box(1)

        saga, there = self.outer(book)
        with pytest.raises(SagaDefinitionError, match=r"returns Box, and the input .* is Parcel"):
            saga.path(there >> delivery(book).within(box))

    def test_a_function_that_awaits(self, book: Book) -> None:
        async def asks(order: Order) -> Parcel:
            return Parcel("", 1)

        with pytest.raises(SagaDefinitionError, match="is a coroutine function"):
            delivery(book).within(asks)

    def test_a_function_that_needs_what_nobody_returned(self, book: Book) -> None:
        saga, there = self.outer(book)
        with pytest.raises(SagaDefinitionError, match="needs a Reservation, which no step"):
            saga.path(there >> delivery(book).within(parcel))

    def test_a_step_after_the_nested_pivot_that_has_an_undo(self, book: Book) -> None:
        saga, there = self.outer(book)

        def empty(order: Order) -> Parcel:
            return Parcel("", 1)

        with pytest.raises(SagaDefinitionError, match="does not come before it"):
            saga.path(delivery(book).within(empty) >> there)

    def test_twice_and_itself(self, book: Book) -> None:
        saga, there = self.outer(book)
        inner = within(book, 1)
        with pytest.raises(SagaDefinitionError, match="saga level.0 is in the path twice"):
            saga.path(inner >> there >> inner)
        with pytest.raises(SagaDefinitionError, match="in its own path"):
            saga.path(there >> saga)

    def test_an_undo_of_its_start(self, book: Book) -> None:
        inner = Saga("inner", version=1, runbook=RUNBOOK)

        @inner.undone()
        async def cancel(order: Order, why: str, ctx: Context) -> None: ...

        inner.path(step_of(inner, book, 1))
        saga, there = self.outer(book)
        with pytest.raises(SagaDefinitionError, match=r"Move cancel to outer"):
            saga.path(there >> inner)

    def test_without_a_path(self, book: Book) -> None:
        saga, there = self.outer(book)
        with pytest.raises(SagaDefinitionError, match="it has no path"):
            saga.path(there >> Saga("empty", version=1))
