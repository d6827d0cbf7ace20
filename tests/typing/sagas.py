"""Sagas: what a type checker sees, and what it refuses. Each ignored line must be an error."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, assert_type

from switchgear.database.sqlite import Sqlite
from switchgear.model.outcome import Unknown
from switchgear.saga import Context, Done, Engine, Run, Saga


@dataclass(frozen=True)
class Order:
    order_id: str


@dataclass(frozen=True)
class Reservation:
    number: int


@dataclass(frozen=True)
class Payment:
    number: int


@dataclass(frozen=True)
class Shipment:
    number: int


checkout = Saga("checkout", version=1, deadline=timedelta(minutes=15))


@checkout.undo(runbook="runbooks/release.md")
async def release(order: Order, done: Reservation | Unknown, ctx: Context) -> None: ...


@release.undoes
async def reserve(order: Order, ctx: Context) -> Reservation:
    return Reservation(1)


@checkout.undo(runbook="runbooks/refund.md")
async def refund(order: Order, done: Payment | Unknown, ctx: Context) -> None:
    if isinstance(done, Unknown):
        assert_type(done.key, str | None)
    else:
        assert_type(done, Payment)


@refund.undoes
async def debit(order: Order, held: Annotated[Reservation, reserve], ctx: Context) -> Payment:
    assert_type(held, Reservation)
    assert_type(ctx.result(reserve), Reservation)
    return Payment(held.number)


@checkout.undo()
async def forget(order: Order, done: Unknown | None, ctx: Context) -> None: ...


@forget.undoes
async def note(order: Order, ctx: Context) -> None: ...


@checkout.undo()
async def undo_maybe(order: Order, done: Payment | Unknown | None, ctx: Context) -> None: ...


@undo_maybe.undoes
async def maybe(order: Order, ctx: Context) -> Payment | None:
    return None


@checkout.pivot(give_up=timedelta(hours=4), runbook="runbooks/ship.md")
async def ship(order: Order, paid: Payment, ctx: Context) -> Shipment:
    return Shipment(paid.number)


@checkout.retriable(give_up=timedelta(days=7))
async def confirm(order: Order, ctx: Context) -> None:
    assert_type(ctx.result(maybe), Payment | None)
    assert_type(ctx.key, str)


@checkout.undone(runbook="runbooks/cancel.md")
async def cancel(order: Order, why: str, ctx: Context) -> None: ...


@checkout.read
async def look(order: Order) -> int:
    return 1


checkout.path((reserve | note | maybe) >> look >> debit >> ship >> confirm)


async def used(engine: Engine, database: Sqlite, run: Run, ctx: Context) -> None:
    async with database.transaction() as tx:
        assert_type(await engine.start(tx, checkout, Order("o-1"), id="o-1"), Run)
    done = await run.result(within=2)
    assert_type(done, Done)
    assert_type(done.result(ship), Shipment)
    assert_type(done.result(maybe), Payment | None)
    # a step is called like the function that it was made from
    assert_type(await reserve(Order("o-1"), ctx), Reservation)
    assert_type(await ship(Order("o-1"), Payment(1), ctx), Shipment)
    assert_type(await refund(Order("o-1"), Payment(1), ctx), None)


# --- refused -----------------------------------------------------------------------------------


@checkout.undo(runbook="runbooks/a.md")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
async def without_unknown(order: Order, done: Reservation, ctx: Context) -> None: ...


@checkout.undo(runbook="runbooks/a.md")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
async def with_more(
    order: Order, done: Reservation | Unknown, paid: Payment, ctx: Context
) -> None: ...


@checkout.undo(runbook="runbooks/a.md")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
def not_async(order: Order, done: Reservation | Unknown, ctx: Context) -> None: ...


@checkout.undone()  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
async def told_no_reason(order: Order, ctx: Context) -> None: ...


@refund.undoes  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
async def other_result(order: Order, ctx: Context) -> Reservation:
    return Reservation(1)


@refund.undoes  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
async def other_input(order: Payment, ctx: Context) -> Payment:
    return order


@forget.undoes  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
async def some_result(order: Order, ctx: Context) -> Payment:
    return Payment(1)


checkout.pivot(runbook="runbooks/ship.md")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
checkout.retriable()  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
Saga("checkout")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
checkout.path(release >> reserve)  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue, reportUnknownArgumentType]


async def misused(engine: Engine, done: Done, run: Run, ctx: Context) -> None:
    await engine.start(1, checkout, Order("o-1"))  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await run.result()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await reserve(Payment(1), ctx)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    shipped: Payment = done.result(ship)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    held: Payment = ctx.result(reserve)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    del shipped, held
