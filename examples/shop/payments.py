"""Payments: one wallet a customer; every movement is a row, and the rows add up to the balance."""

from shop.contracts import (
    Debit,
    GetWallet,
    InsufficientFunds,
    Payment,
    Payments,
    Refund,
    Refunded,
    Wallet,
)
from shop.euros import cents_of, euros
from switchgear import Service

SCHEMA = [
    """
    CREATE TABLE wallet (customer TEXT PRIMARY KEY, cents INTEGER NOT NULL CHECK (cents >= 0));
    CREATE TABLE payment (
        order_id TEXT PRIMARY KEY, customer TEXT NOT NULL, cents INTEGER NOT NULL,
        refunded INTEGER NOT NULL DEFAULT 0
    )
    """,
]

app = Service("payments", schema=SCHEMA)

WELCOME = 100_000
"""Cents in a new customer's wallet: this shop is generous, and its books are easy to check."""


@app.serves
class Handler(Payments):
    async def wallet(self, request: GetWallet) -> Wallet:
        async with app.transaction() as tx:
            rows = await tx.execute("SELECT cents FROM wallet WHERE customer = ?", request.customer)
        cents = rows[0][0] if rows else WELCOME
        return Wallet(customer=request.customer, balance=euros(cents))

    async def debit(self, request: Debit) -> Payment:
        cents = cents_of(request.amount)
        async with app.transaction() as tx:
            await tx.execute(
                "INSERT OR IGNORE INTO wallet VALUES (?, ?)", request.customer, WELCOME
            )
            rows = await tx.execute(
                "UPDATE wallet SET cents = cents - ?1 WHERE customer = ?2 AND cents >= ?1 "
                "RETURNING cents",
                cents,
                request.customer,
            )
            if not rows:
                left = await tx.execute(
                    "SELECT cents FROM wallet WHERE customer = ?", request.customer
                )
                raise InsufficientFunds(balance=euros(left[0][0]))
            await tx.execute(
                "INSERT INTO payment (order_id, customer, cents) VALUES (?, ?, ?)",
                request.order_id,
                request.customer,
                cents,
            )
        return Payment(payment_id=f"pay-{request.order_id}", amount=request.amount)

    async def refund(self, request: Refund) -> Refunded:
        async with app.transaction() as tx:
            rows = await tx.execute(
                "UPDATE payment SET refunded = 1 WHERE order_id = ? AND refunded = 0 "
                "RETURNING customer, cents",
                request.order_id,
            )
            for customer, cents in rows:
                await tx.execute(
                    "UPDATE wallet SET cents = cents + ? WHERE customer = ?", cents, customer
                )
        return Refunded(amount=euros(rows[0][1]) if rows else None)
