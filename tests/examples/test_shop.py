"""The shop's services, each in a test of its own: no socket, no sleep, fakes of what it calls."""

import pytest

from shop import analytics, gateway, inventory, notifications, orders, payments, shipping
from shop.contracts import (
    Debit,
    EmptyOrder,
    GetOrder,
    GetStock,
    GetWallet,
    InsufficientFunds,
    Inventory,
    Line,
    OrderCancelled,
    OrderConfirmed,
    OrderPlaced,
    Orders,
    OrderState,
    OutOfStock,
    Payment,
    Payments,
    PlaceOrder,
    Refund,
    Refunded,
    Release,
    Released,
    Reservation,
    Reserve,
    Ship,
    Shipment,
    Shipping,
    Stock,
    Undeliverable,
    Wallet,
)
from shop.euros import cents_of, euros
from switchgear import Rejected, keyed
from switchgear.policy.breaker import Circuit, State, Ticket
from switchgear.testing import testing


class Warehouse(Inventory):
    def __init__(self):
        self.asked = []
        self.out_of = None

    async def stock(self, request: GetStock) -> Stock:
        return Stock(sku=request.sku, available=1, reserved=0)

    async def reserve(self, request: Reserve) -> Reservation:
        self.asked.append("reserve")
        if self.out_of is not None:
            raise OutOfStock(sku=self.out_of, available=0)
        return Reservation(order_id=request.order_id, pieces=2)

    async def release(self, request: Release) -> Released:
        self.asked.append("release")
        return Released(pieces=2)


class Bank(Payments):
    def __init__(self, asked):
        self.asked = asked

    async def wallet(self, request: GetWallet) -> Wallet:
        return Wallet(customer=request.customer, balance=euros(0))

    async def debit(self, request: Debit) -> Payment:
        self.asked.append("debit")
        return Payment(payment_id="p", amount=request.amount)

    async def refund(self, request: Refund) -> Refunded:
        self.asked.append("refund")
        return Refunded(amount=None)


class Carrier(Shipping):
    def __init__(self, asked):
        self.asked = asked
        self.refuses = False

    async def ship(self, request: Ship) -> Shipment:
        self.asked.append("ship")
        if self.refuses:
            raise Undeliverable(reason="nobody lives there")
        return Shipment(tracking="t-1")


def tea(quantity=2):
    return PlaceOrder(customer="ada", lines=[Line(sku="tea", quantity=quantity, price=euros(450))])


@pytest.fixture
async def shop():
    warehouse = Warehouse()
    bank, carrier = Bank(warehouse.asked), Carrier(warehouse.asked)
    fakes = {Inventory: warehouse, Payments: bank, Shipping: carrier}
    async with testing(orders.app, fakes=fakes) as t:
        t.warehouse, t.carrier, t.asked = warehouse, carrier, warehouse.asked
        yield t


async def test_an_order_goes_through_and_its_events_tell_it(shop):
    client = shop.client(Orders)
    accepted = await client.place(tea())
    await shop.settle()
    status = await client.order(GetOrder(order_id=accepted.order_id))
    assert (status.state, status.tracking) == (OrderState.CONFIRMED, "t-1")
    assert status.total == euros(900)
    assert shop.asked == ["reserve", "debit", "ship"]
    assert shop.published == [
        OrderPlaced(order_id=accepted.order_id, customer="ada", total=euros(900)),
        OrderConfirmed(order_id=accepted.order_id, customer="ada", tracking="t-1"),
    ]


async def test_a_refused_parcel_undoes_everything_in_reverse(shop):
    shop.carrier.refuses = True
    client = shop.client(Orders)
    accepted = await client.place(tea())
    await shop.settle()
    status = await client.order(GetOrder(order_id=accepted.order_id))
    assert status.state is OrderState.CANCELLED
    assert "nobody lives there" in status.reason
    assert shop.asked == ["reserve", "debit", "ship", "refund", "release"]
    assert isinstance(shop.published[-1], OrderCancelled)


async def test_a_duplicate_gets_the_stored_answer_and_places_nothing(shop):
    client = shop.client(Orders)
    with keyed("click-1"):
        first = await client.place(tea())
    with keyed("click-1"):
        again = await client.place(tea())
    assert first == again
    with keyed("click-1"), pytest.raises(Rejected):
        await client.place(tea(3))
    await shop.settle()
    assert shop.asked == ["reserve", "debit", "ship"]


async def test_an_empty_order_is_refused(shop):
    with pytest.raises(EmptyOrder):
        await shop.client(Orders).place(PlaceOrder(customer="ada", lines=[]))
    with pytest.raises(Rejected):
        await shop.client(Orders).order(GetOrder(order_id="nowhere"))


async def test_inventory_reserves_all_lines_or_none():
    async with testing(inventory.app) as t:
        client = t.client(Inventory)
        lines = [
            Line(sku="tea", quantity=5, price=euros(1)),
            Line(sku="cup", quantity=1_000_000, price=euros(1)),
        ]
        with pytest.raises(OutOfStock) as refused:
            await client.reserve(Reserve(order_id="a", lines=lines))
        assert (refused.value.sku, refused.value.available) == ("cup", 100_000)
        assert (await client.stock(GetStock(sku="tea"))).reserved == 0

        await client.reserve(Reserve(order_id="b", lines=lines[:1]))
        stock = await client.stock(GetStock(sku="tea"))
        assert (stock.available, stock.reserved) == (99_995, 5)
        assert (await client.release(Release(order_id="b"))).pieces == 5
        assert (await client.release(Release(order_id="b"))).pieces == 0
        assert (await client.stock(GetStock(sku="tea"))).available == 100_000


async def test_payments_take_and_give_back_to_the_cent():
    async with testing(payments.app) as t:
        client = t.client(Payments)

        async def balance():
            return cents_of((await client.wallet(GetWallet(customer="ada"))).balance)

        await client.debit(Debit(order_id="a", customer="ada", amount=euros(99_999)))
        assert await balance() == 1
        with pytest.raises(InsufficientFunds):
            await client.debit(Debit(order_id="b", customer="ada", amount=euros(2)))
        assert (await client.refund(Refund(order_id="b"))).amount is None
        assert (await client.refund(Refund(order_id="a"))).amount == euros(99_999)
        assert await balance() == 100_000


async def test_shipping_refuses_what_nobody_carries():
    async with testing(shipping.app) as t:
        client = t.client(Shipping)
        with pytest.raises(Undeliverable, match="500"):
            await client.ship(Ship(order_id="a", customer="ada", pieces=501))
        shipment = await client.ship(Ship(order_id="a", customer="ada", pieces=1))
        assert shipment.tracking == "trk-a"


async def test_notifications_and_analytics_react_to_events_once():
    placed = OrderPlaced(order_id="a", customer="ada", total=euros(900))
    confirmed = OrderConfirmed(order_id="a", customer="ada", tracking="t-1")
    async with testing(notifications.app) as t:
        await t.deliver(placed, confirmed)
        async with t.transaction() as tx:
            texts = await tx.execute("SELECT text FROM notification ORDER BY number")
        assert [text.split()[0] for (text,) in texts] == ["Thank", "Your"]
    async with testing(analytics.app) as t:
        await t.deliver(placed, confirmed)
        report = await t.client(analytics.Analytics).report(analytics.GetReport())
        assert (report.placed, report.confirmed, report.cancelled) == (1, 1, 0)
        assert report.ordered == euros(900)


def test_the_gateway_looks_soon_whether_orders_is_back():
    """It is killed and started again: nobody is turned away for half a minute because of that."""
    circuit = Circuit(gateway.ORDERS.breaker, lambda: 0.0, lambda kind, detail: None)
    back = 20.0
    for tenth in range(int(back * 10)):
        ticket = circuit.admit(tenth / 10)
        if isinstance(ticket, Ticket):
            circuit.failed(tenth / 10, ticket, 0.0)
    assert circuit.state is State.OPEN
    assert isinstance(circuit.admit(back + gateway.ORDERS.breaker.longest), Ticket)
