"""What the type checkers accept of contracts, and what they refuse.

Run by mypy and pyright (`test_typing.py`), never by Python. A line that a checker must refuse is
marked; both checkers complain about a mark that nothing needs, so the refusal is proved.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Protocol, TypeVar, assert_type

from switchgear.contract.codec import from_builtins, from_json, from_parts, from_proto, to_json
from switchgear.contract.enums import Enum
from switchgear.contract.event import event, event_of
from switchgear.contract.kinds import Float32, Int32, UInt64
from switchgear.contract.message import Message, field, replace
from switchgear.contract.money import Money
from switchgear.contract.refusal import Refusal
from switchgear.contract.service import command, contract_of, query, service
from switchgear.model.outcome import Status

T = TypeVar("T")


class Colour(Enum):
    UNKNOWN = 0
    RED = 1


class Line(Message, package="shop.v1", reserved=[4, "old", range(10, 20)]):
    sku: str = field(1)
    quantity: Int32 = field(2, default=1)
    note: str | None = field(3, default=None)


class Order(Message):
    order_id: str = field(1)
    lines: list[Line] = field(2, default_factory=list)
    by_sku: dict[str, Line] = field(3, default_factory=dict)
    colour: Colour = field(4, default=Colour.RED)
    total: Money | None = field(5, default=None)
    count: UInt64 = field(6, default=0, strings=True)
    ratio: Float32 = field(7, default=0.5)
    price: Decimal = field(8, default=Decimal(0))
    placed: datetime = field(9, default=datetime(2026, 1, 1, tzinfo=UTC))
    pause: timedelta = field(10, default=timedelta(0))


class OutOfStock(Refusal, package="shop.v1", status=Status.NOT_FOUND):
    sku: str = field(1)
    left: int = field(2, default=0)


# Constructors: keywords only, of the declared types, all that have no default.

line = Line(sku="a")
Line(sku="a", quantity=2, note="soon")
Line()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Line("a")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Line(sku=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Line(sku="a", size=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Order(order_id="1", lines=["a"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
OutOfStock(sku="a")
OutOfStock()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
OutOfStock(sku=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class Wrong(Message):
    number: int = field(1, default="x")  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    ids: list[int] = field(2, default_factory=list[str])  # type: ignore[arg-type]  # pyright: ignore[reportAssignmentType]


# Fields: readable with their types, and not to be changed.

order = Order(order_id="1", lines=[line])
assert_type(order.lines, list[Line])
assert_type(order.by_sku, dict[str, Line])
assert_type(order.total, Money | None)
assert_type(order.count, int)
assert_type(order.ratio, float)
assert_type(line.note, str | None)
assert_type(order.colour, Colour)
assert_type(order.colour.is_open, bool)
assert_type(OutOfStock(sku="a").left, int)
order.order_id = "2"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]

# Functions keep the class.

assert_type(from_json(Order, b"{}"), Order)
assert_type(from_proto(Order, b""), Order)
assert_type(from_builtins(Order, {}), Order)
assert_type(from_parts(Order, b"", {}), Order)
assert_type(to_json(order), bytes)
assert_type(replace(order, order_id="2"), Order)
assert_type(OutOfStock.from_message(OutOfStock(sku="a").to_message()), OutOfStock)
assert_type(Money.of("1.50", "EUR") + Money.of(1, "EUR"), Money)
from_json(str, b"{}")  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]


@event("shop.orders", key="order_id")
class OrderPlaced(Message):
    order_id: str = field(1)


assert_type(OrderPlaced(order_id="1"), OrderPlaced)
assert_type(event_of(OrderPlaced).topic, str)

# Services: methods keep their types under the decorators.


@service("shop.inventory.v1")
class Inventory(Protocol):
    @query("GET /v1/stock/{sku}")
    async def stock(self, request: Line) -> Order: ...

    @command("POST /v1/reservations", keyed=True, refuses=[OutOfStock])
    async def reserve(self, request: Order) -> Line: ...

    @query("GET /v1/watch/{sku}")
    def watch(self, request: Line) -> AsyncIterator[Order]: ...


@service("shop.bad.v1")
class Bad(Protocol):
    @query("GET /v1/a")  # type: ignore[type-var]  # pyright: ignore[reportArgumentType, reportUntypedFunctionDecorator]
    async def no_request(self) -> Line: ...

    @query("GET /v1/b")  # type: ignore[type-var]  # pyright: ignore[reportArgumentType, reportUntypedFunctionDecorator]
    async def no_message(self, request: Line) -> int: ...

    @command("POST /v1/c", refuses=[Line])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    async def no_refusal(self, request: Line) -> Line: ...


class Handler(Inventory):
    async def stock(self, request: Line) -> Order:
        return Order(order_id=request.sku)

    async def reserve(self, request: Order) -> Line:
        raise OutOfStock(sku=request.order_id)

    async def watch(self, request: Line) -> AsyncIterator[Order]:
        yield Order(order_id=request.sku)


class Partial(Inventory):
    async def stock(self, request: Line) -> Order:
        return Order(order_id=request.sku)


class Mistyped(Handler):
    async def stock(self, request: Line) -> Line:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        return request


handler: Inventory = Handler()
Partial()  # type: ignore[abstract]  # pyright: ignore[reportAbstractUsage]
assert_type(contract_of(Inventory).full_name, str)


def client(contract: Callable[..., T]) -> T:
    """The shape of the typed client's factory."""
    return contract()


async def calls() -> None:
    inventory = client(Inventory)
    assert_type(inventory, Inventory)
    assert_type(await inventory.stock(line), Order)
    assert_type(await inventory.reserve(order), Line)
    await inventory.stock(order)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    async for each in inventory.watch(line):
        assert_type(each, Order)
    try:
        await inventory.reserve(order)
    except OutOfStock as refusal:
        assert_type(refusal.sku, str)
