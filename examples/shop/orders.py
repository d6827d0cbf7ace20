"""Orders: takes an order, and sees it through as a saga."""

import os
from datetime import timedelta
from uuid import uuid4

from shop.contracts import (
    Accepted,
    Debit,
    EmptyOrder,
    GetOrder,
    Inventory,
    Line,
    OrderCancelled,
    OrderConfirmed,
    OrderPlaced,
    Orders,
    OrderState,
    OrderStatus,
    Payment,
    Payments,
    PlaceOrder,
    Refund,
    Release,
    Reservation,
    Reserve,
    Ship,
    Shipment,
    Shipping,
)
from shop.euros import cents_of, euros
from switchgear import (
    Message,
    Money,
    Policy,
    Rejected,
    Saga,
    Service,
    Sqlite,
    Status,
    StepContext,
    Transaction,
    Unknown,
    field,
)
from switchgear.saga import Backoff

SCHEMA = [
    """
    CREATE TABLE orders (
        order_id TEXT PRIMARY KEY, customer TEXT NOT NULL, cents INTEGER NOT NULL,
        state INTEGER NOT NULL, tracking TEXT, reason TEXT
    )
    """,
]

app = Service("orders", schema=SCHEMA)

inventory = app.calls(Inventory, Policy(deadline=2.0))
payments = app.calls(Payments, Policy(deadline=2.0))
shipping = app.calls(Shipping, Policy(deadline=2.0))

app.publishes(OrderPlaced, OrderConfirmed, OrderCancelled)


class Order(Message):
    """What the checkout works on."""

    order_id: str = field(1)
    customer: str = field(2)
    lines: list[Line] = field(3)
    total: Money = field(4)


# --- the checkout: all of it, or none of it ---------------------------------------------------

UNDO = Backoff(attempts=int(os.environ.get("SHOP_UNDO_ATTEMPTS", "10")), first=0.5, most=60.0)
"""How often an undo is tried, two minutes in all, before a person is asked."""

checkout = Saga("checkout", version=1, deadline=timedelta(minutes=15), undo_retry=UNDO)


@checkout.undo(runbook="runbooks/release.md")
async def release(order: Order, done: Reservation | Unknown, ctx: StepContext) -> None:
    await inventory.release(Release(order_id=order.order_id))


@release.undoes
async def reserve(order: Order, ctx: StepContext) -> Reservation:
    return await inventory.reserve(Reserve(order_id=order.order_id, lines=order.lines))


@checkout.undo(runbook="runbooks/refund.md")
async def refund(order: Order, done: Payment | Unknown, ctx: StepContext) -> None:
    await payments.refund(Refund(order_id=order.order_id))


@refund.undoes
async def debit(order: Order, ctx: StepContext) -> Payment:
    return await payments.debit(
        Debit(order_id=order.order_id, customer=order.customer, amount=order.total)
    )


@checkout.pivot(give_up=timedelta(hours=4), runbook="runbooks/ship.md")
async def ship(order: Order, reserved: Reservation, ctx: StepContext) -> Shipment:
    return await shipping.ship(
        Ship(order_id=order.order_id, customer=order.customer, pieces=reserved.pieces)
    )


@checkout.retriable(give_up=timedelta(days=7), runbook="runbooks/confirm.md")
async def confirm(order: Order, shipment: Shipment, ctx: StepContext) -> None:
    async with app.transaction() as tx:
        if await close(tx, order, OrderState.CONFIRMED, tracking=shipment.tracking):
            tx.publish(
                OrderConfirmed(
                    order_id=order.order_id, customer=order.customer, tracking=shipment.tracking
                )
            )


@checkout.undone(runbook="runbooks/cancel.md")
async def cancel(order: Order, reason: str, ctx: StepContext) -> None:
    """Close an order of which everything was undone, and say why."""
    async with app.transaction() as tx:
        if await close(tx, order, OrderState.CANCELLED, reason=reason):
            tx.publish(
                OrderCancelled(order_id=order.order_id, customer=order.customer, reason=reason)
            )


checkout.path(reserve >> debit >> ship >> confirm)

app.runs(checkout)


# --- the service ------------------------------------------------------------------------------


async def close(
    tx: Transaction,
    order: Order,
    state: OrderState,
    *,
    tracking: str | None = None,
    reason: str | None = None,
) -> bool:
    """Move a placed order to its end; False where a repeated step finds it there already."""
    rows = await tx.execute(
        "UPDATE orders SET state = ?, tracking = ?, reason = ? WHERE order_id = ? AND state = ? "
        "RETURNING order_id",
        state.value,
        tracking,
        reason,
        order.order_id,
        OrderState.PLACED.value,
    )
    return bool(rows)


@app.serves
class Handler(Orders):
    def __init__(self, database: Sqlite) -> None:
        self.database = database

    async def place(self, request: PlaceOrder) -> Accepted:
        if not request.lines or any(line.quantity < 1 for line in request.lines):
            raise EmptyOrder
        order_id = str(uuid4())
        cents = sum(cents_of(line.price) * line.quantity for line in request.lines)
        order = Order(
            order_id=order_id, customer=request.customer, lines=request.lines, total=euros(cents)
        )
        async with app.transaction() as tx:
            await tx.execute(
                "INSERT INTO orders (order_id, customer, cents, state) VALUES (?, ?, ?, ?)",
                order_id,
                request.customer,
                cents,
                OrderState.PLACED.value,
            )
            tx.publish(OrderPlaced(order_id=order_id, customer=request.customer, total=order.total))
            await tx.start(checkout, order, id=order_id)
        return Accepted(order_id=order_id, ask=f"/v1/orders/{order_id}")

    async def order(self, request: GetOrder) -> OrderStatus:
        rows = await self.database.read(
            lambda connection: connection.execute(
                "SELECT cents, state, tracking, reason FROM orders WHERE order_id = ?",
                (request.order_id,),
            ).fetchall()
        )
        if not rows:
            raise Rejected(f"There is no order {request.order_id!r}.", status=Status.NOT_FOUND)
        cents, state, tracking, reason = rows[0]
        return OrderStatus(
            order_id=request.order_id,
            state=OrderState(state),
            total=euros(cents),
            tracking=tracking,
            reason=reason,
        )
