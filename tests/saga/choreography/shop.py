"""A shop without a leader: five services that react to each other's events.

orders places; inventory reserves or says OutOfStock; payments charges or says PaymentRefused;
shipping ships or says Undeliverable, and then all of it is taken back in reverse.
"""

from __future__ import annotations

from typing import Any

from switchgear import Message, Service, Transaction, event, field
from switchgear.app.declared import declared
from switchgear.saga.choreography.chain import merged


@event("shop.orders", key="order_id")
class OrderPlaced(Message):
    order_id: str = field(1)


@event("shop.stock", key="order_id")
class StockReserved(Message):
    order_id: str = field(1)


@event("shop.stock", key="order_id")
class OutOfStock(Message):
    order_id: str = field(1)


@event("shop.stock", key="order_id", after=StockReserved)
class StockReleased(Message):
    order_id: str = field(1)


@event("shop.payments", key="order_id")
class PaymentTaken(Message):
    order_id: str = field(1)


@event("shop.payments", key="order_id")
class PaymentRefused(Message):
    order_id: str = field(1)


@event("shop.payments", key="order_id", after=PaymentTaken)
class PaymentReturned(Message):
    order_id: str = field(1)


@event("shop.shipping", key="order_id")
class Shipped(Message):
    order_id: str = field(1)


@event("shop.shipping", key="order_id")
class Undeliverable(Message):
    order_id: str = field(1)


SCHEMA = ["CREATE TABLE did (handler TEXT NOT NULL, order_id TEXT NOT NULL)"]


class Broken(Exception):
    """What a handler raises that keeps failing."""


class Shop:
    """The five services, fresh. What a handler does about an order is looked up by its id."""

    def __init__(self, on_failure: str = "park_key") -> None:
        self.breaks: dict[str, str] = {}
        """The handler that keeps failing, by order."""
        self.says: dict[str, dict[str, str]] = {}
        """What handlers publish instead of their first event, by order; "" is nothing."""
        names = ("orders", "inventory", "payments", "shipping", "notifications")
        self.services = {name: Service(name, schema=SCHEMA) for name in names}
        self._on_failure = on_failure
        self.services["orders"].publishes(OrderPlaced)
        for name in names[1:]:
            self.services[name].publishes()
        reserve = self._on("inventory", "reserve", OrderPlaced, [StockReserved, OutOfStock])
        charge = self._on("payments", "charge", StockReserved, [PaymentTaken, PaymentRefused])
        self._on("shipping", "ship", PaymentTaken, [Shipped, Undeliverable])
        self._on("payments", "give_back", Undeliverable, [PaymentReturned], charge)
        self._on("inventory", "release", PaymentRefused, [StockReleased], reserve)
        self._on("inventory", "take_back", PaymentReturned, [StockReleased], reserve)
        self._on("orders", "close", Shipped, [])
        self._on("orders", "turn_down", OutOfStock, [], OrderPlaced)
        self._on("orders", "cancel", StockReleased, [], OrderPlaced)
        self._on("notifications", "thank", OrderPlaced, [])
        self.chain = merged(declared(service) for service in self.services.values())

    def _on(
        self,
        service: str,
        handler: str,
        heard: type[Message],
        emits: list[type[Message]],
        undoes: Any = (),
    ) -> Any:
        name = f"{service}.{handler}"
        by_name = {one.__name__: one for one in emits}
        usual = emits[0].__name__ if emits else ""

        async def handle(event: Any, tx: Transaction) -> None:
            await tx.run("INSERT INTO did VALUES (?, ?)", handler, event.order_id)
            said = self.says.get(event.order_id, {}).get(name, usual)
            if said:
                tx.publish(by_name[said](order_id=event.order_id))
            if self.breaks.get(event.order_id) == name:
                raise Broken(name)

        handle.__name__ = handle.__qualname__ = handler
        return self.services[service].on(
            heard,
            name=handler.replace("_", "-"),
            on_failure=self._on_failure,  # type: ignore[arg-type]
            attempts=2,
            backoff=0.001,
            emits=emits,
            undoes=undoes,
        )(handle)
