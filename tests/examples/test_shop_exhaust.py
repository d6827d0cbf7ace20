"""The shop's checkout through every pair of failures: its own steps, clients, keys and doors."""

import pytest

from shop import orders
from shop.contracts import (
    Debit,
    GetStock,
    GetWallet,
    Inventory,
    Line,
    Payment,
    Payments,
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
    Wallet,
)
from shop.euros import euros
from switchgear.saga.exhaust import Violation, World, exhaust
from switchgear.testing import testing

ORDER = orders.Order(
    order_id="o-1",
    customer="ada",
    lines=[Line(sku="tea", quantity=1, price=euros(450))],
    total=euros(450),
)


class Participants(Inventory, Payments, Shipping):
    """All of them; each effect is that of the step under whose key it is asked for."""

    def __init__(self, world):
        self.world = world
        self.refunds = True

    async def stock(self, request: GetStock) -> Stock:
        raise NotImplementedError

    async def wallet(self, request: GetWallet) -> Wallet:
        raise NotImplementedError

    async def reserve(self, request: Reserve) -> Reservation:
        self.world.do()
        return Reservation(order_id=request.order_id, pieces=1)

    async def release(self, request: Release) -> Released:
        return Released(pieces=int(self.world.undo()))

    async def debit(self, request: Debit) -> Payment:
        self.world.do()
        return Payment(payment_id="p", amount=request.amount)

    async def refund(self, request: Refund) -> Refunded:
        if self.refunds:
            self.world.undo()
        return Refunded(amount=None)

    async def ship(self, request: Ship) -> Shipment:
        self.world.do()
        return Shipment(tracking="t-1")


@pytest.fixture
async def parts():
    world = World()
    parts = Participants(world)
    async with testing(
        orders.app, fakes={Inventory: parts, Payments: parts, Shipping: parts}, remember=False
    ):
        yield parts


async def test_it_is_done_undone_or_in_front_of_a_person(parts):
    report = await exhaust(
        orders.checkout, parts.world, ORDER, faults=1, unseen=["confirm"], refute=["debit"]
    )
    assert set(report.ends) == {"done", "undone", "queued"}


async def test_a_refund_that_pays_nothing_back_is_found(parts):
    parts.refunds = False
    with pytest.raises(Violation, match="taken back while that of debit stands") as found:
        await exhaust(orders.checkout, parts.world, ORDER, faults=1, unseen=["confirm"])
    assert found.value.trail[-2:] == ("debit undo: answered", "reserve undo: answered")
