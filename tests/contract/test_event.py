from __future__ import annotations

from datetime import datetime

import pytest

from switchgear.contract.enums import Enum
from switchgear.contract.event import event, event_of, key_of
from switchgear.contract.message import Message, field
from switchgear.errors import EventDeclarationError


class Region(Enum):
    NORTH = 0


@event("shop.orders", key="order_id")
class OrderPlaced(Message):
    order_id: str = field(1)


@event("shop.regions", key="region")
class RegionOpened(Message):
    region: Region = field(1)


@event("shop.ticks", unordered=True)
class Tick(Message):
    number: int = field(1)


class NoEvent(Message):
    number: int = field(1)


def test_what_is_declared() -> None:
    contract = event_of(OrderPlaced)
    assert contract.type == "shop.orders.OrderPlaced"
    assert (contract.topic, contract.key, contract.message) == (
        "shop.orders",
        "order_id",
        OrderPlaced,
    )
    assert event_of(OrderPlaced(order_id="7")) is contract
    assert event_of(Tick).key is None


def test_keys_are_text() -> None:
    assert key_of(OrderPlaced(order_id="7")) == "7"
    assert key_of(RegionOpened(region=Region.NORTH)) == "NORTH"
    assert key_of(RegionOpened(region=Region(9))) == "9"
    assert key_of(Tick(number=1)) is None


def test_what_is_no_event() -> None:
    with pytest.raises(EventDeclarationError, match="not declared as an event"):
        event_of(NoEvent)


def test_mistakes_are_told() -> None:
    with pytest.raises(EventDeclarationError, match="does not say which events must stay in order"):

        @event("shop.orders")
        class Neither(Message):
            a: str = field(1)

    with pytest.raises(EventDeclarationError, match="Both key= and unordered=True"):

        @event("shop.orders", key="a", unordered=True)
        class Both(Message):
            a: str = field(1)

    with pytest.raises(EventDeclarationError, match=r"key b is not a field.*Use one of: a"):

        @event("shop.orders", key="b")
        class NoSuchKey(Message):
            a: str = field(1)

    with pytest.raises(EventDeclarationError, match="cannot order events"):

        @event("shop.orders", key="a")
        class ListKey(Message):
            a: list[str] = field(1)

    with pytest.raises(EventDeclarationError, match="cannot order events"):

        @event("shop.orders", key="a")
        class OptionalKey(Message):
            a: str | None = field(1)

    with pytest.raises(EventDeclarationError, match="cannot order events"):

        @event("shop.orders", key="a")
        class TimeKey(Message):
            a: datetime = field(1)

    with pytest.raises(EventDeclarationError, match="is not the name of a topic"):

        @event("shop orders", unordered=True)
        class BadTopic(Message):
            a: str = field(1)

    with pytest.raises(EventDeclarationError, match="An event is a message"):

        @event("shop.orders", unordered=True)  # type: ignore[type-var]
        class NoMessage:
            pass
