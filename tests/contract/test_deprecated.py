"""What is deprecated and used is counted, at every door."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from switchgear.call.client import client_over
from switchgear.contract.deprecated import uses_of
from switchgear.contract.enums import Enum, member
from switchgear.contract.message import Message, field
from switchgear.contract.service import command, service
from switchgear.model.signal import Signal, SignalKind, subscribe
from switchgear.serve.dispatch import Dispatcher
from switchgear.testing.wire import DirectWire


class Mood(Enum, package="aging.v1", prefix="MOOD_"):
    UNKNOWN = 0
    GOOD = 1
    MEH = member(2, deprecated=True)


class Inner(Message, package="aging.v1"):
    old: str = field(1, default="", deprecated=True)
    mood: Mood = field(2, default=Mood.UNKNOWN)


class Order(Message, package="aging.v1"):
    id: str = field(1)
    note: str | None = field(2, default=None, deprecated=True)
    count: int = field(3, default=0, deprecated=True)
    tags: list[str] = field(4, default_factory=list, deprecated=True)
    inner: list[Inner] = field(5, default_factory=list)
    by_name: dict[str, Order] = field(6, default_factory=dict)
    size: int = field(7, presence=True, default=5, deprecated=True)


class Plain(Message, package="aging.v1"):
    id: str = field(1)


@service("aging.v1")
class Orders(Protocol):
    @command("POST /v1/orders")
    async def place(self, request: Order) -> Plain: ...
    @command()
    async def many(self, requests: AsyncIterator[Order]) -> Plain: ...
    @command("POST /v1/plain")
    async def plain(self, request: Plain) -> Plain: ...


class Handler(Orders):
    async def place(self, request: Order) -> Plain:
        return Plain(id=request.id)

    async def many(self, requests: AsyncIterator[Order]) -> Plain:
        return Plain(id=",".join([one.id async for one in requests]))

    async def plain(self, request: Plain) -> Plain:
        return request


def used(message: Message) -> set[str]:
    find = uses_of(type(message))
    assert find is not None
    return {name.removeprefix("aging.v1.") for name in find(message)}


def test_only_what_says_something_is_used() -> None:
    assert uses_of(Plain) is None
    assert used(Order(id="1")) == set()
    assert used(Order(id="1", size=5, note="", inner=[Inner(mood=Mood.GOOD)])) == {"Order.note"}
    deep = Order(id="2", count=1, tags=["a"], size=6, inner=[Inner(old="x", mood=Mood.MEH)])
    assert used(Order(id="1", by_name={"deep": deep})) == {
        *("Order.count", "Order.tags", "Order.size", "Inner.old", "Mood.MOOD_MEH"),
    }


async def test_a_request_that_uses_it_is_reported_with_its_caller() -> None:
    orders = client_over(Orders, DirectWire(Dispatcher([Handler()]), "web"))
    seen: list[Signal] = []
    with subscribe(seen.append):
        await orders.place(Order(id="1"))
        await orders.place(Order(id="1", note="n", count=2))
        await orders.plain(Plain(id="1"))

        async def some() -> AsyncIterator[Order]:
            yield Order(id="1")
            yield Order(id="2", count=1)

        await orders.many(some())
    told = [one for one in seen if one.kind is SignalKind.DEPRECATED_USED]
    assert [(one.subject, one.detail["field"], one.detail["caller"]) for one in told] == [
        ("aging.v1.Orders/place", "aging.v1.Order.count", "web"),
        ("aging.v1.Orders/place", "aging.v1.Order.note", "web"),
        ("aging.v1.Orders/many", "aging.v1.Order.count", "web"),
    ]
