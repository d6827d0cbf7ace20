"""Notifications: tells customers how their orders go. It calls nobody and nobody calls it."""

from shop.contracts import OrderCancelled, OrderConfirmed, OrderPlaced
from switchgear import Service, Transaction

SCHEMA = [
    """
    CREATE TABLE notification (
        number INTEGER PRIMARY KEY AUTOINCREMENT, order_id TEXT NOT NULL, customer TEXT NOT NULL,
        text TEXT NOT NULL
    )
    """,
]

app = Service("notifications", schema=SCHEMA)

# One name is one subscription: what happens to one order is told in the order in which it happened.


@app.on(OrderPlaced, name="notify", on_failure="park_key", emits=[])
async def thank(event: OrderPlaced, tx: Transaction) -> None:
    await notify(tx, event.order_id, event.customer, "Thank you for your order.")


@app.on(OrderConfirmed, name="notify", on_failure="park_key", emits=[])
async def announce(event: OrderConfirmed, tx: Transaction) -> None:
    text = f"Your order is on its way: {event.tracking}."
    await notify(tx, event.order_id, event.customer, text)


@app.on(OrderCancelled, name="notify", on_failure="park_key", emits=[])
async def regret(event: OrderCancelled, tx: Transaction) -> None:
    text = f"We could not carry out your order: {event.reason}"
    await notify(tx, event.order_id, event.customer, text)


async def notify(tx: Transaction, order_id: str, customer: str, text: str) -> None:
    """Put a message in the out-tray; it commits together with the note that the event was seen."""
    await tx.execute(
        "INSERT INTO notification (order_id, customer, text) VALUES (?, ?, ?)",
        order_id,
        customer,
        text,
    )
