"""Notifications are down while customers order. Nobody who orders may notice.

Events wait in the log of the broker. When their consumer is back it works through what waited,
and is killed once in the middle of that: what it had done stays done, and is not done again.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final

from switchgear.drills.books import CONFIRMED, notices, rows
from switchgear.drills.customers import Customers, Ordered
from switchgear.drills.load import Visitors
from switchgear.drills.report import Report
from switchgear.drills.stand import Stand, System, until
from switchgear.drills.statistics import quantile

__all__ = ["drill"]

FIRST: Final = 5
"""Orders that open the connections, and are not measured."""
BEFORE: Final = 25
MEANWHILE: Final = 100
"""Orders placed while notifications is up, and while it is down; so many a second:"""
RATE: Final = 20.0
UP: Final = "while it is up"
DOWN: Final = "while it is down"
PER_ORDER: Final = 2
"""Notifications for an order that goes well: thanks, and that it is on its way."""
WITHIN: Final = 30.0


async def drill(stand: Stand) -> Report:
    """Take notifications away, order, and bring it back."""
    report = Report("consumer-down", "notifications is stopped while customers place orders")
    async with stand.system("shop") as shop, Visitors() as visitors:
        customers = Customers(shop, visitors)
        await _orders(customers, "first", FIRST)
        stand.say(f"{BEFORE} orders while notifications is up")
        with_it = await _orders(customers, "up", BEFORE)
        await until(lambda: _written(shop, (FIRST + BEFORE) * PER_ORDER), WITHIN)
        await shop["notifications"].terminate()
        stand.say(f"{MEANWHILE} orders while notifications is down")
        without = await _orders(customers, "down", MEANWHILE)
        missing = PER_ORDER * (FIRST + BEFORE + MEANWHILE) - _count(shop.folder)
        stand.say(f"notifications is back, {missing} wait for it")
        halfway, took = await _catch_up(shop, missing)
        books = shop.books()
    for variant, orders in ((UP, with_it), (DOWN, without)):
        times = [order.took for order in orders]
        confirmed = sum(order.state == "confirmed" for order in orders)
        report.figure("orders placed", len(orders), variant=variant)
        report.figure("of these confirmed", confirmed, variant=variant)
        report.figure("from click to confirmed, p50", quantile(times, 0.5), "s", variant=variant)
        report.figure("from click to confirmed, p99", quantile(times, 0.99), "s", variant=variant)
    report.figure("notifications that waited", missing, variant=DOWN)
    report.figure("written when it was killed again", halfway, variant=DOWN)
    report.figure("until all were written", took, "s", variant=DOWN)
    placed = len(books.orders)
    confirmed = len(books.ended(CONFIRMED))
    report.check(
        "every order placed while notifications was down is confirmed",
        all(order.state == "confirmed" for order in without) and confirmed == placed,
        f"{confirmed} of {placed} in the books of orders",
    )
    report.check(
        "what was to be told waited, and nothing of it was told meanwhile",
        missing == MEANWHILE * PER_ORDER,
        f"{missing} of {MEANWHILE * PER_ORDER} were missing when the last order was confirmed",
    )
    report.invariants += notices(books)
    report.shows = (
        "An event is committed with the row that it is about and waits for whoever is not there: "
        "the consumer's outage costs time in its own out-tray, and nothing anywhere else."
    )
    return report


async def _orders(customers: Customers, name: str, count: int) -> list[Ordered]:
    async def one(number: int) -> Ordered:
        await asyncio.sleep(number / RATE)
        key = f"{name}-{number}"
        return await customers.order(key, f"customer-{key}", {"tea": 1, "cup": 2})

    return list(await asyncio.gather(*map(one, range(count))))


async def _catch_up(shop: System, missing: int) -> tuple[int, float]:
    """Start notifications, kill it on the way, start it again.

    Return what it had written when it was killed, and the seconds until it had written all.
    """
    before = _count(shop.folder)
    service = shop["notifications"]
    began = time.monotonic()
    await service.start()
    await until(lambda: _written(shop, before + 1), WITHIN, every=0.001)
    service.kill()
    await service.wait()
    halfway = _count(shop.folder) - before
    await service.start()
    await until(lambda: _written(shop, before + missing), WITHIN)
    took = time.monotonic() - began
    # one that is written twice may come late
    await asyncio.sleep(0.5)
    return halfway, took


async def _written(shop: System, count: int) -> bool:
    return _count(shop.folder) >= count


def _count(folder: Path) -> int:
    return int(rows(folder / "notifications.db", "SELECT count(*) FROM notification")[0][0])
