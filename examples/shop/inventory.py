"""Inventory: reserves all lines of an order, or none."""

from shop.contracts import (
    GetStock,
    Inventory,
    OutOfStock,
    Release,
    Released,
    Reservation,
    Reserve,
    Stock,
)
from switchgear import Rejected, Service, Sqlite, Status

SCHEMA = [
    """
    CREATE TABLE stock (sku TEXT PRIMARY KEY, available INTEGER NOT NULL CHECK (available >= 0));
    CREATE TABLE reserved (
        order_id TEXT NOT NULL, sku TEXT NOT NULL, quantity INTEGER NOT NULL,
        PRIMARY KEY (order_id, sku)
    );
    INSERT INTO stock VALUES ('tea', 100000), ('cup', 100000), ('pot', 100000)
    """,
]

app = Service("inventory", schema=SCHEMA)


@app.serves
class Handler(Inventory):
    def __init__(self, database: Sqlite) -> None:
        self.database = database

    async def stock(self, request: GetStock) -> Stock:
        rows = await self.database.read(
            lambda connection: connection.execute(
                "SELECT available, (SELECT total(quantity) FROM reserved WHERE sku = :sku) "
                "FROM stock WHERE sku = :sku",
                {"sku": request.sku},
            ).fetchall()
        )
        if not rows:
            raise Rejected(f"There is no article {request.sku!r}.", status=Status.NOT_FOUND)
        available, reserved = rows[0]
        return Stock(sku=request.sku, available=available, reserved=int(reserved))

    async def reserve(self, request: Reserve) -> Reservation:
        async with app.transaction() as tx:
            for line in request.lines:
                rows = await tx.execute(
                    "UPDATE stock SET available = available - ?1 "
                    "WHERE sku = ?2 AND available >= ?1 RETURNING available",
                    line.quantity,
                    line.sku,
                )
                if not rows:
                    left = await tx.execute("SELECT available FROM stock WHERE sku = ?", line.sku)
                    raise OutOfStock(sku=line.sku, available=left[0][0] if left else 0)
                await tx.execute(
                    "INSERT INTO reserved VALUES (?, ?, ?) "
                    "ON CONFLICT DO UPDATE SET quantity = quantity + excluded.quantity",
                    request.order_id,
                    line.sku,
                    line.quantity,
                )
        pieces = sum(line.quantity for line in request.lines)
        return Reservation(order_id=request.order_id, pieces=pieces)

    async def release(self, request: Release) -> Released:
        async with app.transaction() as tx:
            rows = await tx.execute(
                "DELETE FROM reserved WHERE order_id = ? RETURNING sku, quantity", request.order_id
            )
            for sku, quantity in rows:
                await tx.execute(
                    "UPDATE stock SET available = available + ? WHERE sku = ?", quantity, sku
                )
        return Released(pieces=sum(quantity for _, quantity in rows))
