"""The parcel has left, the order is confirmed, and then the bank says that the payment bounced.

The step that was recorded as done is refuted, after the saga's end. What cannot be undone stands in
front of a person, and what stands below it waits for the decision: nobody sells the stock of a
parcel that is on its way.
Act 1: the parcel is called back, and its stock can be sold again.
Act 2: the parcel stays where it is, and so does everything that it stands on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from switchgear.drills.customers import Customers, Ordered
from switchgear.drills.load import Visitors
from switchgear.drills.operator import Operator
from switchgear.drills.refused_shipment import entries_of, order_of
from switchgear.drills.report import Report
from switchgear.drills.stand import Stand, System, until
from switchgear.saga.runbook import WorkItem

__all__ = ["drill"]

PIECES: Final = 3
SKU: Final = "tea"
WITHIN: Final = 30.0
CALLED_BACK: Final = "called back"
STAYS: Final = "stays"


@dataclass(frozen=True, slots=True)
class _Act:
    """One order whose payment bounced."""

    order: Ordered
    asked: Sequence[WorkItem]
    waited: float
    stock: tuple[int, int, int]
    """Before the order, while the person thinks, and at the end."""
    undone_before: Sequence[str]
    """Which undos had run before the person decided."""
    undone: Sequence[str]
    status: str


async def drill(stand: Stand) -> Report:
    """Have two payments bounce after their parcels have left."""
    report = Report("shipped-then-bounced", "the payment bounces after the parcel has left")
    async with (
        # nothing is broken: these two are to say what they were asked for
        stand.system("shop", faulty=["inventory", "payments"]) as shop,
        Visitors() as visitors,
    ):
        customers = Customers(shop, visitors, WITHIN)
        operator = Operator(shop)
        stand.say("the payment bounces; the parcel is called back")
        back = await _bounced(shop, customers, operator, "ann", back=True)
        stand.say("another bounces; its parcel stays where it is")
        stays = await _bounced(shop, customers, operator, "bob", back=False)
        left = await operator.items()
        books = shop.books()
    _checks(report, {CALLED_BACK: back, STAYS: stays})
    report.check(
        "nothing waits any more, and no payment was paid back that never arrived",
        not left and not any(payment.refunded for payment in books.payments.values()),
        f"{len(left)} work items, "
        f"{sum(payment.refunded for payment in books.payments.values())} refunds",
    )
    report.check(
        "in the books: the reservation of the parcel that stays is kept, and no other",
        {order_id for order_id, _ in books.reserved} <= {stays.order.order_id},
        f"{len(books.reserved)} reservations",
    )
    report.shows = (
        "What was recorded as done can turn out not to hold. Then what can be undone is undone in "
        "reverse order, and what cannot is a decision for a person, made in the open."
    )
    return report


async def _bounced(
    shop: System, customers: Customers, operator: Operator, customer: str, *, back: bool
) -> _Act:
    before = await customers.in_stock(SKU)
    already = len(order_of(entries_of(shop)))
    order = await customers.order_directly(f"bounced-{customer}", customer, {SKU: PIECES})
    await operator.refute(order.order_id, "debit", "the bank: no funds")

    async def both() -> list[WorkItem]:
        items = await operator.items()
        return items if len(items) > 1 else []

    asked, waited = await until(both, WITHIN)
    undone_before = order_of(entries_of(shop))[already:]
    during = await customers.in_stock(SKU)
    for item in asked:
        if item.step == "ship" and back:
            await operator.resolve(item, "the parcel is here again")
        else:
            await operator.skip(item, "told the customer")

    async def ended() -> str:
        status = await operator.status(order.order_id)
        return status if status in {"done", "undone"} else ""

    status, _ = await until(ended, WITHIN)
    after = await customers.in_stock(SKU)
    return _Act(
        order=order,
        asked=asked,
        waited=waited,
        stock=(before, during, after),
        undone_before=undone_before,
        undone=order_of(entries_of(shop))[already:],
        status=status,
    )


def _checks(report: Report, acts: dict[str, _Act]) -> None:
    for variant, act in acts.items():
        before, during, after = act.stock
        report.figure("from the news to a person", act.waited, "s", variant=variant)
        report.figure(
            "in front of a person", ", ".join(each.step for each in act.asked), variant=variant
        )
        report.figure("undone, in this order", ", ".join(act.undone) or "-", variant=variant)
        report.figure("stock before", before, "pieces", variant=variant)
        report.figure("stock while the person decides", during, "pieces", variant=variant)
        report.figure("stock after", after, "pieces", variant=variant)
        report.check(
            f"{variant}: the order had been confirmed, and the saga turned round all the same",
            act.order.state == "confirmed" and act.status == "undone",
            f"the order was {act.order.state or '?'}, the saga is {act.status or '?'}",
        )
        report.check(
            f"{variant}: the parcel and the confirmation stand in front of a person",
            {each.step for each in act.asked} == {"ship", "confirm"},
            ", ".join(each.id for each in act.asked) or "nothing does",
        )
        report.check(
            f"{variant}: nothing was undone before the person decided",
            not act.undone_before and during == before - PIECES,
            f"undone: {', '.join(act.undone_before) or 'nothing'}; stock {before} then {during}",
        )
    back, stays = acts[CALLED_BACK], acts[STAYS]
    report.check(
        "called back: the stock can be sold again; the refuted payment is not refunded",
        set(back.undone) == {"release"} and back.stock[2] == back.stock[0],
        f"undone: {', '.join(back.undone) or 'nothing'}; stock {back.stock[0]}, {back.stock[2]}",
    )
    report.check(
        "stays: what the parcel stands on stays with it",
        not stays.undone and stays.stock[2] == stays.stock[0] - PIECES,
        f"undone: {', '.join(stays.undone) or 'nothing'}; stock {stays.stock[0]}, {stays.stock[2]}",
    )
