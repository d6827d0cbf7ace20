"""The gateway: an ordinary FastAPI application that adopts one piece at a time.

It is no `Service` and serves no contract: it calls the shop through typed clients, and that is
all it takes from the library.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import FastAPI, Header, Request
from fastapi.responses import JSONResponse

from shop.contracts import EmptyOrder, GetOrder, GetStock, Inventory, Line, Orders, PlaceOrder
from shop.euros import euros
from switchgear import (
    Breaker,
    CallError,
    Fallback,
    Policy,
    Rejected,
    Retry,
    Stale,
    ask,
    client,
    close,
    keyed,
)

PAGE = Policy(deadline=0.3, fallback=Fallback(stale=Stale(max_age=300)))
"""What the checkout page may cost: 0.3 s a question, then what it was told last."""

ORDERS = Policy(breaker=Breaker(open=0.5, longest=1.0, ramp=1.0))
"""A service of ours is back soon after it was killed: look again within a second.

The default waits for 30 s, which is meant for a callee that is broken, not restarted.
"""

UNGUARDED = Policy(
    deadline=None, retry=Retry(attempts=3), budget=None, breaker=None, limit=None, fallback=None
)
"""What most systems have: retries and nothing else. The drills put it beside `PAGE`."""

inventory = client(
    Inventory,
    os.environ.get("INVENTORY_URL", "grpc://127.0.0.1:7002"),
    UNGUARDED if os.environ.get("SHOP_GUARDS") == "off" else PAGE,
    caller="gateway",
)
orders = client(
    Orders, os.environ.get("ORDERS_URL", "grpc://127.0.0.1:7001"), ORDERS, caller="gateway"
)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Close the clients when the gateway stops; they connect by themselves when first used."""
    yield
    await close(inventory)
    await close(orders)


api = FastAPI(title="The shop", lifespan=lifespan)


@api.exception_handler(CallError)
async def call_failed(_: Request, error: CallError) -> JSONResponse:
    """Answer what went wrong behind us without showing how it is built."""
    if isinstance(error, EmptyOrder):
        return JSONResponse({"error": "An order needs something in it."}, 400)
    if isinstance(error, Rejected):
        return JSONResponse({"error": error.what}, 404 if error.status == "NOT_FOUND" else 400)
    return JSONResponse({"error": "Please try again in a moment."}, 503)


@api.get("/checkout/{customer}")
async def checkout_page(customer: str) -> dict[str, object]:
    """Show what is in stock. It asks three times in sequence, as pages do."""
    stock: dict[str, int] = {}
    degraded = False
    for sku in ("tea", "cup", "pot"):
        answer = await ask(inventory.stock, GetStock(sku=sku))
        stock[sku] = answer.value.available
        degraded = degraded or answer.degraded
    return {"customer": customer, "stock": stock, "degraded": degraded}


@api.get("/imprint")
async def imprint() -> dict[str, str]:
    """Show a page that needs nobody else."""
    return {"shop": "Tea and Cups", "made with": "switchgear"}


@api.post("/orders", status_code=202)
async def place(
    basket: dict[str, int],
    customer: str,
    idempotency_key: Annotated[str | None, Header()] = None,
) -> dict[str, str]:
    """Place an order: `{"tea": 2}` at one price, to keep the example short."""
    lines = [Line(sku=sku, quantity=pieces, price=euros(450)) for sku, pieces in basket.items()]
    request = PlaceOrder(customer=customer, lines=lines)
    if idempotency_key is None:
        accepted = await orders.place(request)
    else:
        with keyed(idempotency_key):
            accepted = await orders.place(request)
    return {"order_id": accepted.order_id, "ask": f"/orders/{accepted.order_id}"}


@api.get("/orders/{order_id}")
async def order(order_id: str) -> dict[str, object]:
    """Tell how an order stands."""
    status = await orders.order(GetOrder(order_id=order_id))
    return {
        "order_id": status.order_id,
        "state": status.state.name.lower(),
        "total": str(status.total.amount),
        "tracking": status.tracking,
        "reason": status.reason,
    }
