"""Shipping: hands a parcel to a carrier, once per order."""

from shop.contracts import Ship, Shipment, Shipping, Undeliverable
from switchgear import Service

SCHEMA = ["CREATE TABLE shipment (order_id TEXT PRIMARY KEY, pieces INTEGER NOT NULL)"]

app = Service("shipping", schema=SCHEMA)

LARGEST_PARCEL = 500
"""Pieces; nobody carries more in one parcel."""


@app.serves
class Handler(Shipping):
    async def ship(self, request: Ship) -> Shipment:
        if request.pieces > LARGEST_PARCEL:
            raise Undeliverable(reason=f"more than {LARGEST_PARCEL} pieces in one parcel")
        async with app.transaction() as tx:
            await tx.execute("INSERT INTO shipment VALUES (?, ?)", request.order_id, request.pieces)
        return Shipment(tracking=f"trk-{request.order_id}")
