"""Customers of the shop: they order, press the button again if no answer comes, and wait.

They know the shop from outside: its pages, an idempotency key per click, and patience.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from switchgear.drills.load import Answer, Visitors
from switchgear.drills.stand import System, until
from switchgear.errors import OperationError

__all__ = ["Customers", "Ordered"]

AGAIN: Final = 0.2
"""Seconds until a customer presses the button again, or looks again how the order stands."""


@dataclass(frozen=True, slots=True)
class Ordered:
    """What became of one order, as its customer saw it."""

    order_id: str
    """Empty where nobody took the order."""
    state: str
    """`confirmed` or `cancelled`; empty where the customer never saw it end."""
    took: float
    """Seconds from the click until the customer saw how the order ended, or gave up."""
    clicks: int
    """How often the customer sent the order, each time with the same key."""


class Customers:
    """Places orders in a shop and looks how they end."""

    def __init__(self, shop: System, visitors: Visitors, within: float = 30.0) -> None:
        self._shop = shop
        self._visitors = visitors
        self._within = within
        """Seconds after which a customer gives up."""

    async def order(self, key: str, customer: str, basket: Mapping[str, int]) -> Ordered:
        """Order at the gateway, where a piece costs 4.50, and wait for the end."""
        url = self._shop.url("gateway", f"/orders?customer={customer}")
        return await self._order(url, dict(basket), key, self._shop.url("gateway", "/orders/"))

    async def order_directly(
        self, key: str, customer: str, basket: Mapping[str, int], *, cents: int = 450
    ) -> Ordered:
        """Order at the REST door of orders, at a price a piece, and wait for the end."""
        price = {"currency_code": "EUR", "units": cents // 100, "nanos": cents % 100 * 10_000_000}
        lines = [{"sku": sku, "quantity": pieces, "price": price} for sku, pieces in basket.items()]
        url = self._shop.url("orders", "/v1/orders")
        return await self._order(url, {"customer": customer, "lines": lines}, key, f"{url}/")

    async def _order(self, url: str, body: object, key: str, page: str) -> Ordered:
        began = time.monotonic()
        clicks = 0

        async def click() -> Answer | None:
            nonlocal clicks
            clicks += 1
            answer = await self._visitors.post(
                url, body, headers={"Idempotency-Key": key}, patience=5.0
            )
            return answer if answer.good else None

        accepted, _ = await until(click, self._within, every=AGAIN)
        if accepted is None:
            return Ordered("", "", time.monotonic() - began, clicks)
        order_id = accepted.body["order_id"]

        async def ended() -> str:
            answer = await self._visitors.get(page + order_id)
            state = str(answer.body["state"]).lower() if answer.good else ""
            return state if state in ("confirmed", "cancelled") else ""

        state, _ = await until(ended, self._within, every=AGAIN / 2)
        return Ordered(order_id, state, time.monotonic() - began, clicks)

    async def wallet(self, customer: str) -> Decimal:
        """Return what a customer's wallet holds, in euros, by asking payments."""
        body = await self._asked("payments", f"/v1/wallets/{customer}")
        balance = body["balance"]
        return Decimal(balance["units"]) + Decimal(balance["nanos"]) / 10**9

    async def in_stock(self, sku: str) -> int:
        """Return how much of an article can be sold, by asking inventory."""
        return int((await self._asked("inventory", f"/v1/stock/{sku}"))["available"])

    # `Any`: each service answers with a message of its own
    async def _asked(self, service: str, path: str) -> Mapping[str, Any]:
        answer = await self._visitors.get(self._shop.url(service, path))
        if not answer.good:
            raise OperationError(
                f"{service} answers {answer.status} to {path}.", fix="The drill needs its answer."
            )
        found: Mapping[str, Any] = answer.body
        return found
