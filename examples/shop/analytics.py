"""Analytics: counts orders and turnover from the same events, at its own pace."""

from typing import Protocol

from shop.contracts import OrderCancelled, OrderConfirmed, OrderPlaced
from shop.euros import cents_of, euros
from switchgear import Message, Money, Service, Sqlite, Transaction, field, query, service

SCHEMA = [
    """
    CREATE TABLE tally (
        one INTEGER PRIMARY KEY CHECK (one = 1), placed INTEGER NOT NULL,
        confirmed INTEGER NOT NULL, cancelled INTEGER NOT NULL, cents INTEGER NOT NULL
    );
    INSERT INTO tally VALUES (1, 0, 0, 0, 0)
    """,
]

app = Service("analytics", schema=SCHEMA)


class GetReport(Message):
    pass


class Report(Message):
    placed: int = field(1)
    confirmed: int = field(2)
    cancelled: int = field(3)
    ordered: Money = field(4)


@service("shop.analytics.v1")
class Analytics(Protocol):
    @query("GET /v1/report")
    async def report(self, request: GetReport) -> Report:
        """Tell what has been ordered so far."""
        ...


@app.serves
class Handler(Analytics):
    def __init__(self, database: Sqlite) -> None:
        self.database = database

    async def report(self, request: GetReport) -> Report:
        placed, confirmed, cancelled, cents = await self.database.read(
            lambda connection: connection.execute(
                "SELECT placed, confirmed, cancelled, cents FROM tally"
            ).fetchone()
        )
        return Report(placed=placed, confirmed=confirmed, cancelled=cancelled, ordered=euros(cents))


@app.on(OrderPlaced, name="count", on_failure="skip", emits=[])
async def count_placed(event: OrderPlaced, tx: Transaction) -> None:
    await tx.execute(
        "UPDATE tally SET placed = placed + 1, cents = cents + ?", cents_of(event.total)
    )


@app.on(OrderConfirmed, name="count", on_failure="skip", emits=[])
async def count_confirmed(event: OrderConfirmed, tx: Transaction) -> None:
    await tx.execute("UPDATE tally SET confirmed = confirmed + 1")


@app.on(OrderCancelled, name="count", on_failure="skip", emits=[])
async def count_cancelled(event: OrderCancelled, tx: Transaction) -> None:
    await tx.execute("UPDATE tally SET cancelled = cancelled + 1")
