"""The shop's books: read from the services' own files after the fact, and added up.

The files are opened read-only. What is read is plain data, and what is said about it are pure
functions, so that a test can tamper with the data and see the statement fail.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from switchgear.drills.report import Invariant

__all__ = [
    "CANCELLED",
    "CONFIRMED",
    "Books",
    "Notice",
    "Order",
    "Payment",
    "all_ended",
    "money",
    "notices",
    "parcels",
    "read_books",
    "rows",
    "stock",
    "told",
]

PLACED: Final = 1
CONFIRMED: Final = 2
CANCELLED: Final = 3

_OPENING: Final = "Thank you"
_ENDINGS: Final = {CONFIRMED: "Your order is on its way", CANCELLED: "We could not carry out"}
_EXAMPLES: Final = 3


@dataclass(frozen=True, slots=True)
class Order:
    """A row of orders."""

    customer: str
    cents: int
    state: int
    tracking: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Payment:
    """A row of payments."""

    customer: str
    cents: int
    refunded: bool


@dataclass(frozen=True, slots=True)
class Notice:
    """A row of the out-tray, in the order in which it was written."""

    order_id: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """What the services' databases say at one moment."""

    orders: Mapping[str, Order]
    wallets: Mapping[str, int]
    payments: Mapping[str, Payment]
    available: Mapping[str, int]
    reserved: Mapping[tuple[str, str], int]
    """Pieces by order and article."""
    shipments: Mapping[str, int]
    """Pieces by order."""
    notices: Sequence[Notice]
    counted: tuple[int, int, int, int]
    """What analytics counted: placed, confirmed, cancelled, cents ordered."""

    def ended(self, state: int) -> set[str]:
        """Return the orders in a state."""
        return {order_id for order_id, order in self.orders.items() if order.state == state}


def rows(file: Path, sql: str, *args: object) -> list[tuple[Any, ...]]:
    """Read rows from a service's database without being able to change it."""
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        return connection.execute(sql, args).fetchall()


def read_books(folder: Path) -> Books:
    """Read the books of all services; `folder` holds their databases."""
    return Books(
        orders={
            order_id: Order(*rest)
            for order_id, *rest in rows(
                folder / "orders.db",
                "SELECT order_id, customer, cents, state, tracking, reason FROM orders",
            )
        },
        wallets=dict(rows(folder / "payments.db", "SELECT customer, cents FROM wallet")),
        payments={
            order_id: Payment(customer, cents, bool(refunded))
            for order_id, customer, cents, refunded in rows(
                folder / "payments.db", "SELECT order_id, customer, cents, refunded FROM payment"
            )
        },
        available=dict(rows(folder / "inventory.db", "SELECT sku, available FROM stock")),
        reserved={
            (order_id, sku): pieces
            for order_id, sku, pieces in rows(
                folder / "inventory.db", "SELECT order_id, sku, quantity FROM reserved"
            )
        },
        shipments=dict(rows(folder / "shipping.db", "SELECT order_id, pieces FROM shipment")),
        notices=[
            Notice(*row)
            for row in rows(
                folder / "notifications.db",
                "SELECT order_id, text FROM notification ORDER BY number",
            )
        ],
        counted=rows(
            folder / "analytics.db", "SELECT placed, confirmed, cancelled, cents FROM tally"
        )[0],
    )


def all_ended(books: Books) -> Invariant:
    """Look for orders that are neither confirmed nor cancelled."""
    open_orders = [key for key, order in books.orders.items() if order.state == PLACED]
    confirmed, cancelled = len(books.ended(CONFIRMED)), len(books.ended(CANCELLED))
    return Invariant(
        "every order is confirmed or cancelled, none is left in the middle",
        not open_orders and confirmed + cancelled == len(books.orders),
        f"{confirmed} confirmed, {cancelled} cancelled{_such_as(open_orders, 'open')}",
    )


def money(books: Books, welcome: int) -> Invariant:
    """Compare wallets and payments with what customers began with, to the cent.

    Each order that was confirmed has paid its total once, and no other order has paid.
    """
    kept = {key: paid for key, paid in books.payments.items() if not paid.refunded}
    began = welcome * len(books.wallets)
    now = sum(books.wallets.values()) + sum(paid.cents for paid in kept.values())
    wrong = [
        customer
        for customer, cents in books.wallets.items()
        if cents != welcome - sum(paid.cents for paid in kept.values() if paid.customer == customer)
    ]
    confirmed = books.ended(CONFIRMED)
    wrong += confirmed ^ kept.keys()
    wrong += [key for key in confirmed & kept.keys() if kept[key].cents != books.orders[key].cents]
    return Invariant(
        "money adds up to the cent: only confirmed orders are paid, each once",
        now == began and not wrong,
        f"{_euros(now)} of {_euros(began)}, in {len(books.wallets)} wallets and "
        f"{len(kept)} payments{_such_as(wrong, 'wrong')}",
    )


def stock(books: Books, opening: Mapping[str, int]) -> Invariant:
    """Compare shelves and reservations with what there was, to the piece.

    Only confirmed orders hold a reservation, and each of them does.
    """
    held: Counter[str] = Counter()
    for (_, sku), pieces in books.reserved.items():
        held[sku] += pieces
    wrong = [
        sku for sku, began in opening.items() if books.available.get(sku, 0) + held[sku] != began
    ]
    wrong += {order_id for order_id, _ in books.reserved} ^ books.ended(CONFIRMED)
    now = sum(books.available.values()) + held.total()
    return Invariant(
        "stock adds up to the piece: only confirmed orders hold a reservation",
        not wrong,
        f"{now} of {sum(opening.values())} pieces, {held.total()} of them reserved"
        f"{_such_as(wrong, 'wrong')}",
    )


def parcels(books: Books) -> Invariant:
    """Compare parcels with confirmed orders, and their pieces with what was reserved."""
    pieces: Counter[str] = Counter()
    for (order_id, _), count in books.reserved.items():
        pieces[order_id] += count
    wrong = books.ended(CONFIRMED) ^ books.shipments.keys()
    wrong |= {key for key, sent in books.shipments.items() if sent != pieces[key]}
    return Invariant(
        "one parcel for every confirmed order, and none for any other",
        not wrong,
        f"{len(books.shipments)} parcels{_such_as(sorted(wrong), 'wrong')}",
    )


def notices(books: Books) -> tuple[Invariant, Invariant]:
    """Look whether each order was thanked for once, its end told once, and in this order."""
    texts: dict[str, list[str]] = {order_id: [] for order_id in books.orders}
    for notice in books.notices:
        texts.setdefault(notice.order_id, []).append(notice.text)
    not_once, not_in_order = [], []
    for order_id, found in texts.items():
        order = books.orders.get(order_id)
        ending = _ENDINGS.get(order.state, "") if order else ""
        expected = [_OPENING, ending] if ending else [_OPENING]
        if (
            order is None
            or len(found) != len(expected)
            or not all(any(text.startswith(start) for text in found) for start in expected)
        ):
            not_once.append(order_id)
        elif not found[0].startswith(_OPENING):
            not_in_order.append(order_id)
    return (
        Invariant(
            "every order has each of its notifications exactly once",
            not not_once,
            f"{len(books.notices)} for {len(books.orders)} orders{_such_as(not_once, 'wrong')}",
        ),
        Invariant(
            "the notifications of each order are in order",
            not not_in_order,
            f"{len(not_in_order)} of {len(texts)} orders out of order",
        ),
    )


def told(books: Books) -> Invariant:
    """Compare what analytics counted, which only hears events, with the orders' own book."""
    states = Counter(order.state for order in books.orders.values())
    own = (
        len(books.orders),
        states[CONFIRMED],
        states[CANCELLED],
        sum(order.cents for order in books.orders.values()),
    )
    return Invariant(
        "analytics, which only hears events, has counted every order once",
        books.counted == own,
        f"{_told(own)}" if books.counted == own else f"{_told(books.counted)}; it is {_told(own)}",
    )


def _told(counts: tuple[int, int, int, int]) -> str:
    placed, confirmed, cancelled, cents = counts
    return f"{placed} placed, {confirmed} confirmed, {cancelled} cancelled, {_euros(cents)}"


def _euros(cents: int) -> str:
    return f"{cents / 100:,.2f} EUR".replace(",", "\N{NO-BREAK SPACE}")


def _such_as(names: Sequence[str], what: str) -> str:
    if not names:
        return ""
    more = ", ..." if len(names) > _EXAMPLES else ""
    return f"; {len(names)} {what}: {', '.join(names[:_EXAMPLES])}{more}"
