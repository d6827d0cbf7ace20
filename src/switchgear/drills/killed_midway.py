"""The orders service is killed again and again, with SIGKILL, while its sagas run.

Some orders go well, some are refused by the wallet, some by the carrier: sagas are killed on their
way forward and on their way back. Customers whose click got no answer click again, with the same
key. At the end the books of seven services are added up.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from switchgear.drills import books as book
from switchgear.drills.books import Books, rows
from switchgear.drills.control import Faults
from switchgear.drills.customers import Customers, Ordered
from switchgear.drills.load import Visitors
from switchgear.drills.operator import Operator
from switchgear.drills.report import Report
from switchgear.drills.stand import Stand, System, until
from switchgear.drills.statistics import quantile

__all__ = ["drill"]

ORDERS: Final = 120
RATE: Final = 10.0
KILLS: Final = 7
WITHIN: Final = 60.0
TERMINAL: Final = {"done", "undone"}
SEED: Final = 1

KINDS: Final = ("goes well", "wallet too small", "parcel too large")
_SHARES: Final = (70, 15, 15)
_ENDS: Final = {
    "goes well": "confirmed",
    "wallet too small": "cancelled",
    "parcel too large": "cancelled",
}


@dataclass(slots=True)
class _Kills:
    """What was under way at each kill."""

    forward: int = 0
    """Sagas on their way forward, over all kills."""
    back: int = 0
    """Sagas on their way back."""
    down: list[float] = field(default_factory=list)
    """Seconds until the service was ready again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _End:
    """What there is to judge when the last order has ended."""

    kinds: Sequence[str]
    ordered: Sequence[Ordered]
    kills: _Kills
    opening: Mapping[str, int]
    """Pieces of each article before the first order."""
    welcome: int
    """Cents in a new customer's wallet."""
    books: Books
    sagas: Mapping[str, int]
    """How many sagas are in which state."""


async def drill(stand: Stand) -> Report:
    """Kill orders while customers order, and add up the books."""
    report = Report("killed-midway", f"the orders service gets kill -9, {KILLS} times, mid-saga")
    chance = Random(SEED)  # noqa: S311  no secret
    kinds = chance.choices(KINDS, _SHARES, k=ORDERS)
    async with (
        stand.system("shop", faulty=["inventory", "payments", "shipping"]) as shop,
        Visitors() as visitors,
    ):
        # steps that take a moment, so that the kills find sagas in the middle
        for service in ("inventory", "payments", "shipping"):
            shop.faults(service).set(**{"*": Faults(sleep=0.1)})
        customers = Customers(shop, visitors, WITHIN)
        opening = dict(rows(shop.folder / "inventory.db", "SELECT sku, available FROM stock"))
        welcome = round(await customers.wallet("nobody") * 100)
        placing = asyncio.gather(*(_one(customers, *each) for each in enumerate(kinds)))
        try:
            kills = await _kill(stand, shop, chance)
            stand.say("the last orders come to their end")
            ordered = await placing
        finally:
            placing.cancel()
            await asyncio.gather(placing, return_exceptions=True)
        await until(lambda: _heard(shop), WITHIN)
        end = _End(
            kinds=kinds,
            ordered=ordered,
            kills=kills,
            opening=opening,
            welcome=welcome,
            books=shop.books(),
            sagas=Operator(shop).states(),
        )
    _figures(report, end)
    _checks(report, end)
    return report


async def _one(customers: Customers, number: int, kind: str) -> Ordered:
    await asyncio.sleep(number / RATE)
    key = f"click-{number}"
    customer = f"customer-{number}"
    if kind == "wallet too small":
        return await customers.order(key, customer, {"tea": 300})
    if kind == "parcel too large":
        # at the gateway's price the wallet would be too small first
        return await customers.order_directly(key, customer, {"cup": 600}, cents=1)
    return await customers.order(key, customer, {"tea": 1, "cup": 2, "pot": 1})


async def _kill(stand: Stand, shop: System, chance: Random) -> _Kills:
    """Kill the orders service, start it again, and let it work for a moment, again and again."""
    kills = _Kills()
    operator = Operator(shop)
    orders = shop["orders"]
    for number in range(1, KILLS + 1):
        await asyncio.sleep(chance.uniform(0.6, 1.6))
        stand.say(f"kill -9 of orders, {number} of {KILLS}")
        orders.kill()
        await orders.wait()
        began = time.monotonic()
        states = operator.states()
        kills.forward += states.get("running", 0)
        kills.back += states.get("undoing", 0)
        await orders.start()
        await orders.wait_ready()
        kills.down.append(time.monotonic() - began)
    return kills


async def _heard(shop: System) -> bool:
    """Tell whether those who only hear events have heard of every order's end."""
    books = shop.books()
    return book.told(books).holds and all(one.holds for one in book.notices(books))


def _figures(report: Report, end: _End) -> None:
    kills = end.kills
    for kind in KINDS:
        own = [order for order, its in zip(end.ordered, end.kinds, strict=True) if its == kind]
        states = Counter(order.state for order in own)
        took = [order.took for order in own]
        report.figure("orders placed", len(own), variant=kind)
        report.figure("of these confirmed", states["confirmed"], variant=kind)
        report.figure("of these cancelled", states["cancelled"], variant=kind)
        report.figure("clicks", sum(order.clicks for order in own), variant=kind)
        report.figure("from click to end, p50", quantile(took, 0.5), "s", variant=kind)
        report.figure("from click to end, p99", quantile(took, 0.99), "s", variant=kind)
    for name, value, unit in (
        ("kills", KILLS, ""),
        ("sagas met on their way forward", kills.forward, ""),
        ("sagas met on their way back", kills.back, ""),
        ("from kill to ready, p50", quantile(kills.down, 0.5), "s"),
    ):
        report.figure(name, value, unit, variant=KINDS[0], section="The orders service")


def _checks(report: Report, end: _End) -> None:
    ordered, books, sagas = end.ordered, end.books, end.sagas
    met = end.kills.forward + end.kills.back
    report.check(
        "the kills met sagas in the middle of their way",
        met >= KILLS,
        f"{met} of them in {KILLS} kills",
    )
    ids = {order.order_id for order in ordered}
    report.check(
        "one order for every click, however often it was sent",
        ids == books.orders.keys() and len(ids) == len(ordered),
        f"{len(ids)} orders known to {len(ordered)} customers, {len(books.orders)} in the books",
    )
    as_meant = sum(
        order.state == _ENDS[kind] for order, kind in zip(ordered, end.kinds, strict=True)
    )
    report.check(
        "every order ends as it has to: good ones confirmed, refused ones cancelled",
        as_meant == len(ordered),
        f"{as_meant} of {len(ordered)}",
    )
    report.invariants.append(book.all_ended(books))
    report.check(
        "every saga is in one terminal state, and none waits for a person",
        sagas.keys() <= TERMINAL and sum(sagas.values()) == len(books.orders),
        ", ".join(f"{count} {state}" for state, count in sorted(sagas.items())),
    )
    report.invariants += [
        book.money(books, end.welcome),
        book.stock(books, end.opening),
        book.parcels(books),
        *book.notices(books),
        book.told(books),
    ]
    report.shows = (
        "A saga is journaled before and after every step and started in the commit of its order: "
        "killed anywhere, it goes on from there, and asks again under the same key."
    )
