"""The books of a shop in which all is well hold; each way of tampering with them is reported."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from switchgear.drills import books as book
from switchgear.drills.books import CANCELLED, CONFIRMED, Books, Notice, Order, Payment

WELCOME = 1000
OPENING = {"tea": 100, "cup": 100}

GOOD = Books(
    orders={
        "a": Order("ann", 300, CONFIRMED, "trk-a", None),
        "b": Order("bob", 900, CANCELLED, None, "no carrier"),
        "c": Order("bob", 200, CONFIRMED, "trk-c", None),
    },
    wallets={"ann": 700, "bob": 800},
    payments={
        "a": Payment("ann", 300, False),
        "b": Payment("bob", 900, True),
        "c": Payment("bob", 200, False),
    },
    available={"tea": 97, "cup": 98},
    reserved={("a", "tea"): 1, ("a", "cup"): 2, ("c", "tea"): 2},
    shipments={"a": 3, "c": 2},
    notices=[
        Notice("a", "Thank you for your order."),
        Notice("b", "Thank you for your order."),
        Notice("a", "Your order is on its way: trk-a."),
        Notice("b", "We could not carry out your order: no carrier"),
        Notice("c", "Thank you for your order."),
        Notice("c", "Your order is on its way: trk-c."),
    ],
    counted=(3, 2, 1, 1400),
)

CHECKS: dict[str, Callable[[Books], bool]] = {
    "ended": lambda books: book.all_ended(books).holds,
    "money": lambda books: book.money(books, WELCOME).holds,
    "stock": lambda books: book.stock(books, OPENING).holds,
    "parcels": lambda books: book.parcels(books).holds,
    "once": lambda books: book.notices(books)[0].holds,
    "in order": lambda books: book.notices(books)[1].holds,
    "told": lambda books: book.told(books).holds,
}

ORDER_A = GOOD.orders["a"]
PAYMENT_A = GOOD.payments["a"]

TAMPERED = {
    "an order left in the middle": (
        "ended",
        replace(GOOD, orders={**GOOD.orders, "a": replace(ORDER_A, state=book.PLACED)}),
    ),
    "a cent more in a wallet": ("money", replace(GOOD, wallets={"ann": 701, "bob": 800})),
    "a cent moved between wallets": ("money", replace(GOOD, wallets={"ann": 701, "bob": 799})),
    "a payment taken twice": (
        "money",
        replace(GOOD, payments={**GOOD.payments, "d": Payment("ann", 300, False)}),
    ),
    "a cancelled order not refunded": (
        "money",
        replace(GOOD, payments={**GOOD.payments, "b": Payment("bob", 900, False)}),
    ),
    "a confirmed order not paid": (
        "money",
        replace(GOOD, payments={**GOOD.payments, "a": replace(PAYMENT_A, refunded=True)}),
    ),
    "a payment of another amount": (
        "money",
        replace(GOOD, orders={**GOOD.orders, "a": replace(ORDER_A, cents=301)}),
    ),
    "a piece lost": ("stock", replace(GOOD, available={"tea": 96, "cup": 98})),
    "a reservation of a cancelled order": (
        "stock",
        replace(
            GOOD,
            reserved={**GOOD.reserved, ("b", "tea"): 1},
            available={"tea": 96, "cup": 98},
        ),
    ),
    "no parcel for a confirmed order": ("parcels", replace(GOOD, shipments={"a": 3})),
    "a parcel for a cancelled order": (
        "parcels",
        replace(GOOD, shipments={"a": 3, "b": 1, "c": 2}),
    ),
    "a parcel with too little in it": ("parcels", replace(GOOD, shipments={"a": 2, "c": 2})),
    "a notification twice": ("once", replace(GOOD, notices=[*GOOD.notices, GOOD.notices[0]])),
    "a notification missing": ("once", replace(GOOD, notices=GOOD.notices[1:])),
    "a notification for nobody's order": (
        "once",
        replace(GOOD, notices=[*GOOD.notices, Notice("x", "Thank you for your order.")]),
    ),
    "the end before the thanks": ("in order", replace(GOOD, notices=GOOD.notices[::-1])),
    "an event counted twice": ("told", replace(GOOD, counted=(4, 2, 1, 1400))),
    "an event not counted": ("told", replace(GOOD, counted=(3, 1, 1, 1400))),
}


@pytest.mark.parametrize("check", CHECKS)
def test_good_books_hold(check):
    assert CHECKS[check](GOOD)


@pytest.mark.parametrize("name", TAMPERED)
def test_tampered_books_do_not_hold(name):
    check, books = TAMPERED[name]
    assert not CHECKS[check](books)


def test_what_is_wrong_is_named():
    _, books = TAMPERED["no parcel for a confirmed order"]
    assert book.parcels(books).detail == "1 parcels; 1 wrong: c"


def test_files_are_read_without_being_changed(tmp_path: Path):
    file = tmp_path / "stock.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(
            "CREATE TABLE stock (sku, available); INSERT INTO stock VALUES ('tea', 3)"
        )
        assert book.rows(file, "SELECT available FROM stock WHERE sku = ?", "tea") == [(3,)]
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            book.rows(file, "UPDATE stock SET available = 4")
