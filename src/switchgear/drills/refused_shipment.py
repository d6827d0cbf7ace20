"""The carrier refuses a parcel when stock is reserved and money is taken already.

Act 1: what was done is undone, the last thing first: refund, then release.
Act 2: the same while refunding does not work. The saga stops in front of a person, with the
runbook; the person has payments mended, retries, and the saga ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from switchgear.drills.books import Books
from switchgear.drills.control import Entry, Faults
from switchgear.drills.customers import Customers, Ordered
from switchgear.drills.load import Visitors
from switchgear.drills.operator import Operator
from switchgear.drills.report import Report
from switchgear.drills.stand import Stand, System, until
from switchgear.model.signal import SignalKind
from switchgear.saga.runbook import Evidence, WorkItem

__all__ = ["drill", "entries_of", "order_of"]

PIECES: Final = 600
"""More than any carrier takes in one parcel."""
SKU: Final = "tea"
WITHIN: Final = 30.0
ATTEMPTS: Final = 4
"""How often the drill's shop tries an undo before it asks a person; ten times by default."""

ACT_1: Final = "refused"
ACT_2: Final = "refused, refunds down"

_REFUND: Final = "Payments/refund"
_RELEASE: Final = "Inventory/release"


@dataclass(frozen=True, slots=True)
class _Holdings:
    """What a customer and the shop have."""

    wallet: Decimal
    stock: int

    @classmethod
    async def now(cls, customers: Customers, customer: str) -> _Holdings:
        return cls(await customers.wallet(customer), await customers.in_stock(SKU))


async def drill(stand: Stand) -> Report:
    """Have a shipment refused: once with everything else well, once with refunds down."""
    report = Report(
        "refused-shipment", "the carrier refuses the parcel; and in act 2 refunds are down as well"
    )
    async with (
        stand.system(
            "shop",
            faulty=["inventory", "payments"],
            env={"orders": {"SHOP_UNDO_ATTEMPTS": str(ATTEMPTS)}},
        ) as shop,
        Visitors() as visitors,
    ):
        customers = Customers(shop, visitors, WITHIN)
        first = await _refused(stand, shop, customers, report)
        second = await _refunds_down(stand, shop, customers, report)
        books = shop.books()
    _holding_figures(report, {ACT_1: first, ACT_2: second})
    _book_checks(report, books)
    report.shows = (
        "An undo is written before its step, runs in reverse, and where it cannot it becomes a "
        "piece of work for a person: stopped in the open, not lost in a log."
    )
    return report


async def _refused(
    stand: Stand, shop: System, customers: Customers, report: Report
) -> dict[str, _Holdings]:
    before = await _Holdings.now(customers, "ann")
    stand.say("a parcel that no carrier takes")
    order = await customers.order_directly("act-1", "ann", {SKU: PIECES}, cents=1)
    after = await _Holdings.now(customers, "ann")
    asked = order_of(entries_of(shop))
    report.figure("undone, in this order", ", ".join(asked), variant=ACT_1)
    report.figure("from click to cancelled", order.took, "s", variant=ACT_1)
    report.check(
        "the order is cancelled", order.state == "cancelled", f"it is {order.state or '?'}"
    )
    report.check(
        "refund ran before release",
        list(dict.fromkeys(asked)) == ["refund", "release"],  # one without an answer is repeated
        f"payments and inventory were asked for: {', '.join(asked) or 'nothing'}",
    )
    report.check("wallet and stock are where they were", before == after, _told(before, after))
    return {"before": before, "after": after}


async def _refunds_down(
    stand: Stand, shop: System, customers: Customers, report: Report
) -> dict[str, _Holdings]:
    before = await _Holdings.now(customers, "bob")
    shop.faults("payments").set(refund=Faults(fail=True))
    stand.say("the same with refunds down, until a person is asked")
    operator = Operator(shop)
    ordering = asyncio.create_task(customers.order_directly("act-2", "bob", {SKU: PIECES}, cents=1))
    try:
        items, waited = await until(operator.items, WITHIN)
        shown = [await operator.show(item) for item in items]
        during = await _Holdings.now(customers, "bob")
        asked = order_of(entries_of(shop))[2:]
        tried = asked.count("refund")
        stand.say("refunds work again; the person retries")
        shop.faults("payments").set()
        for item in items:
            await operator.retry(item, "payments takes refunds again")
        order = await ordering
    finally:
        ordering.cancel()
        await asyncio.gather(ordering, return_exceptions=True)
    after = await _Holdings.now(customers, "bob")
    undone = order_of(entries_of(shop))[2 + len(asked) :]
    left = await operator.items()
    report.figure("undone, in this order", ", ".join(undone), variant=ACT_2)
    report.figure("from click to cancelled", order.took, "s", variant=ACT_2)
    report.figure("from click to a person", waited, "s", variant=ACT_2)
    report.figure("requests for the refund by then", tried, variant=ACT_2)
    report.figure("what the person has in hand", _runbook(items), variant=ACT_2)
    _person_checks(report, order, items, shown, left)
    report.check(
        "with refunds down, nothing was given back before the person acted",
        during.wallet < before.wallet and during.stock < before.stock,
        _told(before, during),
    )
    report.check(
        "after the retry, wallet and stock are where they were",
        before == after,
        _told(before, after),
    )
    return {"before": before, "while it waits": during, "after": after}


def _person_checks(
    report: Report,
    order: Ordered,
    items: Sequence[WorkItem],
    shown: Sequence[Evidence],
    left: Sequence[WorkItem],
) -> None:
    told = [
        item
        for item in items
        if item.step == "debit" and "switchgear saga retry" in item.instructions
    ]
    report.check(
        "with refunds down, one saga waits in front of a person, with its runbook",
        len(items) == len(told) == 1,
        f"{len(items)} work item, runbook {_runbook(items)}",
    )
    statuses = [evidence.status for evidence in shown]
    report.check(
        "`switchgear saga show` says that it is queued, and what was attempted",
        statuses == ["queued"]
        and all(step.attempts for step in shown[0].steps if step.name == "debit"),
        f"{', '.join(statuses) or 'nothing'} is shown",
    )
    report.check(
        "after the retry the saga ends and nothing waits any more",
        order.state == "cancelled" and not left,
        f"the order is {order.state or 'in the middle'}, {len(left)} work items",
    )


def _book_checks(report: Report, books: Books) -> None:
    refunded = sum(payment.refunded for payment in books.payments.values())
    report.check(
        "in the books: each payment was refunded, nothing is reserved, no parcel left",
        refunded == len(books.payments) == len(books.orders)
        and not books.reserved
        and not books.shipments,
        f"{refunded} of {len(books.payments)} payments refunded, {len(books.reserved)} "
        f"reservations, {len(books.shipments)} parcels",
    )


def entries_of(shop: System) -> list[Entry]:
    """Return what payments and inventory were asked for, in the order in which they answered."""
    entries = [*shop.signals("payments"), *shop.signals("inventory")]
    return sorted(
        (entry for entry in entries if entry.kind == SignalKind.REQUEST_ENDED),
        key=lambda entry: entry.at,
    )


def order_of(entries: Sequence[Entry]) -> list[str]:
    """Return which undos the services were asked for, in the order in which they had done them."""
    return [
        entry.subject.rpartition("/")[2]
        for entry in entries
        if entry.subject.endswith((_REFUND, _RELEASE))
    ]


def _runbook(items: Sequence[WorkItem]) -> str:
    return ", ".join(item.runbook for item in items) or "none"


def _told(before: _Holdings, after: _Holdings) -> str:
    return (
        f"wallet {before.wallet:.2f} then {after.wallet:.2f} EUR, "
        f"stock {before.stock} then {after.stock} pieces"
    )


def _holding_figures(report: Report, acts: Mapping[str, Mapping[str, _Holdings]]) -> None:
    for what, unit in (("wallet", "EUR"), ("stock", "pieces")):
        for when in ("before", "while it waits", "after"):
            for variant, holdings in acts.items():
                if when in holdings:
                    value = holdings[when].stock if what == "stock" else holdings[when].wallet
                    kept = value if isinstance(value, int) else float(value)
                    report.figure(f"{what} {when}", kept, unit, variant=variant)
