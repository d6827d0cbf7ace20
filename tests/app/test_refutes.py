"""What a service declares about its sagas: the event that refutes a step, and who is told."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from switchgear import (
    Message,
    Rejected,
    Saga,
    Service,
    StepContext,
    Unknown,
    event,
    field,
)
from switchgear.errors import DeclarationError
from switchgear.saga import Fate, runbook
from switchgear.saga.evidence import WorkItem
from switchgear.testing import testing
from switchgear.testing.service import Testing


class Order(Message):
    order_id: str = field(1)


@event("bank.payments", key="order_id")
class PaymentBounced(Message):
    order_id: str = field(1)
    why: str = field(2)


class Shop:
    def __init__(self, runbooks: Path) -> None:
        (runbooks / "help.md").write_text("Call the customer.")
        self.undone: list[str] = []
        self.stuck = False
        self.app = Service("shop")
        self.checkout = Saga(
            "checkout",
            version=1,
            deadline=timedelta(minutes=5),
            runbook=str(runbooks / "help.md"),
        )

        @self.checkout.undo()
        async def release(order: Order, done: Unknown | None, ctx: StepContext) -> None:
            if self.stuck:
                raise Rejected("the store is shut")
            self.undone.append("release")

        @release.undoes
        async def reserve(order: Order, ctx: StepContext) -> None: ...

        @self.checkout.undo()
        async def refund(order: Order, done: Unknown | None, ctx: StepContext) -> None:
            self.undone.append("refund")

        @refund.undoes
        async def debit(order: Order, ctx: StepContext) -> None: ...

        self.checkout.path(reserve >> debit)
        self.app.runs(self.checkout)
        self.app.refutes(
            PaymentBounced,
            debit,
            name="bounced",
            id=lambda event: event.order_id,
            evidence=lambda event: event.why,
        )


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


async def ordered(t: Testing, shop: Shop) -> None:
    async with t.transaction() as tx:
        await tx.start(shop.checkout, Order(order_id="o-1"), id="o-1")
    await t.settle()


async def test_it_turns_the_saga_round_once(shop: Shop) -> None:
    async with testing(shop.app) as t:
        await ordered(t, shop)
        assert (await shop.app.sagas.get("o-1").state()).status == "done"
        bounced = PaymentBounced(order_id="o-1", why="no funds")
        await t.deliver(bounced, bounced)
        await t.settle()
        assert (await shop.app.sagas.get("o-1").state()).status == "undone"
        evidence = await runbook.show(t.runtime.database, "o-1")
    assert shop.undone == ["release"]
    assert evidence.named(Fate.REFUTED) == ("debit",)
    decision = evidence.steps[1].attempts[-1].decision
    assert decision is not None
    assert decision.actor.startswith("event ")
    assert decision.actor.endswith("PaymentBounced")
    assert decision.reason == "no funds"


async def test_it_is_a_reaction_like_any(shop: Shop) -> None:
    edges = [edge for edge in shop.app.edges() if edge.caller == "shop.bounced"]
    assert [edge.callee for edge in edges] == ["bank.payments"]


async def test_who_is_told_can_publish_an_event(shop: Shop) -> None:
    told: list[str] = []

    @shop.app.notifies
    async def waits(item: WorkItem) -> None:
        async with shop.app.transaction() as tx:
            tx.publish(PaymentBounced(order_id=item.saga_id, why=item.step))
        told.append(item.id)

    with pytest.raises(DeclarationError, match="somebody is notified already"):
        shop.app.notifies(waits)
    shop.stuck = True
    async with testing(shop.app) as t:
        await ordered(t, shop)
        await t.deliver(PaymentBounced(order_id="o-1", why="no funds"))
        await t.settle()
        assert (await shop.app.sagas.get("o-1").state()).status == "queued"
        async with asyncio.timeout(60):
            while not told:
                await asyncio.sleep(0.01)
    assert told == ["o-1/release"]
    assert t.published[0] == PaymentBounced(order_id="o-1", why="reserve")
