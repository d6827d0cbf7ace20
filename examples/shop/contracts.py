"""The words that the shop's services share. The number of a field is the wire: never reuse one."""

from typing import Protocol

from switchgear import Enum, Message, Money, Refusal, command, event, field, query, service

# --- inventory -----------------------------------------------------------------------------


class Line(Message):
    """One line of an order."""

    sku: str = field(1)
    quantity: int = field(2)
    price: Money = field(3)
    """What one piece costs."""


class GetStock(Message):
    sku: str = field(1)


class Stock(Message):
    """What can be sold now; pieces reserved by open orders are not counted."""

    sku: str = field(1)
    available: int = field(2)
    reserved: int = field(3)


class Reserve(Message):
    order_id: str = field(1)
    lines: list[Line] = field(2)


class Reservation(Message):
    order_id: str = field(1)
    pieces: int = field(2)


class Release(Message):
    order_id: str = field(1)


class Released(Message):
    """`pieces` is 0 where the order had reserved nothing."""

    pieces: int = field(1)


class OutOfStock(Refusal):
    """There is not enough of one article; nothing was reserved."""

    sku: str = field(1)
    available: int = field(2)


@service("shop.inventory.v1")
class Inventory(Protocol):
    """What is in the warehouse and what is promised to whom."""

    @query("GET /v1/stock/{sku}")
    async def stock(self, request: GetStock) -> Stock:
        """Tell how much of one article can be sold."""
        ...

    @command("POST /v1/reservations", keyed=True, refuses=[OutOfStock])
    async def reserve(self, request: Reserve) -> Reservation:
        """Reserve all lines of an order, or none."""
        ...

    @command("POST /v1/reservations/{order_id}/release", keyed=True)
    async def release(self, request: Release) -> Released:
        """Give back what an order reserved."""
        ...


# --- payments ------------------------------------------------------------------------------


class GetWallet(Message):
    customer: str = field(1)


class Wallet(Message):
    customer: str = field(1)
    balance: Money = field(2)


class Debit(Message):
    order_id: str = field(1)
    customer: str = field(2)
    amount: Money = field(3)


class Payment(Message):
    payment_id: str = field(1)
    amount: Money = field(2)


class Refund(Message):
    order_id: str = field(1)


class Refunded(Message):
    """`amount` is absent where the order had not been paid."""

    amount: Money | None = field(1)


class InsufficientFunds(Refusal):
    """The wallet holds less than the amount; nothing was taken."""

    balance: Money = field(1)


@service("shop.payments.v1")
class Payments(Protocol):
    """Wallets of customers."""

    @query("GET /v1/wallets/{customer}")
    async def wallet(self, request: GetWallet) -> Wallet:
        """Tell what a customer's wallet holds."""
        ...

    @command("POST /v1/payments", keyed=True, refuses=[InsufficientFunds])
    async def debit(self, request: Debit) -> Payment:
        """Take the amount of an order from a wallet."""
        ...

    @command("POST /v1/payments/{order_id}/refund", keyed=True)
    async def refund(self, request: Refund) -> Refunded:
        """Give back what was taken for an order."""
        ...


# --- shipping ------------------------------------------------------------------------------


class Ship(Message):
    order_id: str = field(1)
    customer: str = field(2)
    pieces: int = field(3)


class Shipment(Message):
    tracking: str = field(1)


class Undeliverable(Refusal):
    """No carrier takes this parcel; nothing was sent."""

    reason: str = field(1)


@service("shop.shipping.v1")
class Shipping(Protocol):
    """Parcels. One that is on its way cannot be called back."""

    @command("POST /v1/shipments", keyed=True, refuses=[Undeliverable])
    async def ship(self, request: Ship) -> Shipment:
        """Hand a parcel to a carrier."""
        ...


# --- orders --------------------------------------------------------------------------------


class OrderState(Enum):
    UNSPECIFIED = 0
    PLACED = 1
    CONFIRMED = 2
    CANCELLED = 3


class PlaceOrder(Message):
    customer: str = field(1)
    lines: list[Line] = field(2)


class Accepted(Message):
    """The order is in the books; ask `GET /v1/orders/{order_id}` how it ends."""

    order_id: str = field(1)
    ask: str = field(2)


class GetOrder(Message):
    order_id: str = field(1)


class OrderStatus(Message):
    order_id: str = field(1)
    state: OrderState = field(2)
    total: Money = field(3)
    tracking: str | None = field(4)
    reason: str | None = field(5)
    """Why it was cancelled."""


class EmptyOrder(Refusal):
    """An order needs at least one line, and every line at least one piece."""


@service("shop.orders.v1")
class Orders(Protocol):
    """Orders from the click to the parcel."""

    @command("POST /v1/orders", keyed=True, refuses=[EmptyOrder])
    async def place(self, request: PlaceOrder) -> Accepted:
        """Take an order. It is answered at once; its outcome is a query and an event."""
        ...

    @query("GET /v1/orders/{order_id}")
    async def order(self, request: GetOrder) -> OrderStatus:
        """Tell how an order stands."""
        ...


# Everything about one order shares a topic and a key, so that it arrives in order.


@event("shop.orders", key="order_id")
class OrderPlaced(Message):
    order_id: str = field(1)
    customer: str = field(2)
    total: Money = field(3)


@event("shop.orders", key="order_id", after=OrderPlaced)
class OrderConfirmed(Message):
    order_id: str = field(1)
    customer: str = field(2)
    tracking: str = field(3)


@event("shop.orders", key="order_id", after=OrderPlaced)
class OrderCancelled(Message):
    order_id: str = field(1)
    customer: str = field(2)
    reason: str = field(3)
