"""A service that is a release behind: what it does not know it keeps, and passes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

import httpx
import pytest

from switchgear.call.ask import ask
from switchgear.call.client import connect
from switchgear.contract.codec import to_proto
from switchgear.contract.enums import Enum
from switchgear.contract.event import event
from switchgear.contract.message import Message, field
from switchgear.contract.service import command, service
from switchgear.database.sqlite import Sqlite
from switchgear.events.brokers.sqlite import SqliteBroker
from switchgear.events.bus import Bus
from switchgear.model.outcome import Unknown
from switchgear.model.signal import SignalKind, subscribe
from switchgear.policy.policy import Policy
from tests.events.world import until
from tests.serve.world import serving

PATIENT = Policy(deadline=60)


class OldState(Enum, package="passing.v1", wire_name="State"):
    NEW = 0


class OldItem(Message, package="passing.v1", wire_name="Item"):
    sku: str = field(1)
    colour: str = field(2, default="", deprecated=True)


class OldOrder(Message, package="passing.v1", wire_name="Order"):
    id: str = field(1)
    item: OldItem = field(2)
    state: OldState = field(3, default=OldState.NEW)


class Old:
    @event("passing.told", key="id")
    class Told(Message, package="passing.v1"):
        id: str = field(1)
        order: OldOrder = field(2)

    @event("passing.passed", key="id")
    class Passed(Message, package="passing.v1"):
        id: str = field(1)
        order: OldOrder = field(2)

    @service("passing.v1")
    class Orders(Protocol):
        @command("POST /v1/orders")
        async def place(self, request: OldOrder) -> OldOrder: ...
        @command("POST /v1/keyed", keyed=True)
        async def keyed(self, request: OldOrder) -> OldOrder: ...
        @command()
        def many(self, requests: AsyncIterator[OldOrder]) -> AsyncIterator[OldOrder]: ...


class NewState(Enum, package="passing.v1", wire_name="State"):
    NEW = 0
    SENT = 7


class NewItem(Message, package="passing.v1", wire_name="Item"):
    sku: str = field(1)
    colour: str = field(2, default="", deprecated=True)
    gift: str = field(9, default="")


class NewOrder(Message, package="passing.v1", wire_name="Order"):
    id: str = field(1)
    item: NewItem = field(2)
    state: NewState = field(3, default=NewState.NEW)
    note: str = field(8, default="")


class New:
    @event("passing.told", key="id")
    class Told(Message, package="passing.v1"):
        id: str = field(1)
        order: NewOrder = field(2)

    @event("passing.passed", key="id")
    class Passed(Message, package="passing.v1"):
        id: str = field(1)
        order: NewOrder = field(2)

    @service("passing.v1")
    class Orders(Protocol):
        @command("POST /v1/orders")
        async def place(self, request: NewOrder) -> NewOrder: ...
        @command("POST /v1/keyed", keyed=True)
        async def keyed(self, request: NewOrder) -> NewOrder: ...
        @command()
        def many(self, requests: AsyncIterator[NewOrder]) -> AsyncIterator[NewOrder]: ...


ORDER = NewOrder(
    id="1", item=NewItem(sku="tea", gift="a card"), state=NewState.SENT, note="at the back door"
)


class Leaf(New.Orders):
    """Knows everything, and answers what it was asked."""

    async def place(self, request: NewOrder) -> NewOrder:
        return request

    async def keyed(self, request: NewOrder) -> NewOrder:
        return request

    async def many(self, requests: AsyncIterator[NewOrder]) -> AsyncIterator[NewOrder]:
        async for one in requests:
            yield one


class Middle(Old.Orders):
    """Passes on, and knows less."""

    def __init__(self, below: Any) -> None:
        self.below = below
        self.seen: list[OldOrder] = []

    async def place(self, request: OldOrder) -> OldOrder:
        self.seen.append(request)
        reply: OldOrder = await self.below.place(request)
        return reply

    async def keyed(self, request: OldOrder) -> OldOrder:
        self.seen.append(request)
        reply: OldOrder = await self.below.keyed(request)
        return reply

    async def many(self, requests: AsyncIterator[OldOrder]) -> AsyncIterator[OldOrder]:
        async for one in self.below.many(requests):
            yield one


@asynccontextmanager
async def row(below: str = "grpc") -> AsyncIterator[tuple[Any, Middle]]:
    """Serve the old one in front of the new one."""
    async with serving(Leaf()) as leaf, connect(Old.Orders, leaf.url(below), PATIENT) as client:
        middle = Middle(client)
        async with serving(middle) as served:
            yield served, middle


@pytest.mark.parametrize("name", ["place", "keyed"])
async def test_over_grpc_nothing_is_lost(name: str) -> None:
    async with (
        row() as (served, middle),
        connect(New.Orders, served.url("grpc"), PATIENT) as orders,
    ):
        ask = getattr(orders, name)
        assert await ask(ORDER) == ORDER
        (seen,) = middle.seen
        assert (seen.state.is_open, seen.state.value) == (True, 7)


async def test_nor_in_a_stream_of_either_direction() -> None:
    async def some() -> AsyncIterator[NewOrder]:
        yield ORDER
        yield ORDER

    async with (
        row() as (served, _),
        connect(New.Orders, served.url("grpc"), PATIENT) as orders,
    ):
        assert [one async for one in orders.many(some())] == [ORDER, ORDER]


async def test_over_rest_members_are_kept_and_what_a_request_adds_is_not() -> None:
    # whoever asks over REST may be anybody: what this service cannot check it does not pass on
    body = {"id": "1", "item": {"sku": "tea", "gift": "a card"}, "state": 7, "note": "x"}
    async with row("http") as (served, middle), httpx.AsyncClient(timeout=60) as client:
        answer = await client.post(f"{served.http}/v1/orders", json=body)
        # the leaf has a name for the number; the old one has none, and passes it on
        assert answer.status_code == 200
        assert answer.json()["state"] == "SENT"
        assert middle.seen[0].state.value == 7
        assert to_proto(middle.seen[0]) == to_proto(
            OldOrder(id="1", item=OldItem(sku="tea"), state=OldState(7))
        )
        refused = await client.post(f"{served.http}/v1/orders", json={**body, "state": "SENT"})
        assert (refused.status_code, refused.json()["pointer"]) == (400, "/state")


async def test_a_name_that_only_the_callee_knows_has_no_number_for_a_caller_over_grpc() -> None:
    async with (
        row("http") as (served, _),
        connect(Old.Orders, served.url("grpc"), PATIENT) as orders,
    ):
        with pytest.raises(Unknown):
            await orders.place(OldOrder(id="1", item=OldItem(sku="tea"), state=OldState(7)))


async def test_a_stored_reply_keeps_it(caplog: pytest.LogCaptureFixture) -> None:
    order = OldOrder(id="1", item=OldItem(sku="tea"), state=OldState(7))
    async with (
        row("http") as (served, middle),
        connect(Old.Orders, served.url("http"), PATIENT) as orders,
    ):
        replies = [(await ask(orders.keyed, order, key="k")).value for _ in range(2)]
    assert len(middle.seen) == 1
    assert replies[0] == replies[1]
    assert (repr(replies[0].state), replies[0].state.is_open) == ("OldState.SENT", True)
    assert not [one for one in caplog.records if one.levelname == "ERROR"]


@pytest.mark.parametrize("scheme", ["http", "grpc"])
async def test_what_is_deprecated_and_used_is_counted_at_either_door(scheme: str) -> None:
    order = OldOrder(id="1", item=OldItem(sku="tea", colour="red"))
    heard: list[Any] = []
    async with (
        row() as (served, _),
        connect(Old.Orders, served.url(scheme), PATIENT, caller="page") as orders,
    ):
        with subscribe(heard.append):
            await orders.place(order)
    used = [one.detail for one in heard if one.kind is SignalKind.DEPRECATED_USED]
    # at the door of the one in the middle, and at that of the leaf
    assert [(one["field"], one["door"]) for one in used] == [
        ("passing.v1.Item.colour", scheme),
        ("passing.v1.Item.colour", "grpc"),
    ]
    assert used[0]["caller"] == "page"


# --- events --------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["protobuf", "json"])
async def test_an_event_that_is_passed_on(tmp_path: Any, encoding: Any) -> None:
    broker = SqliteBroker(tmp_path / "broker.db", partitions=1)
    databases = [Sqlite(tmp_path / f"{name}.db") for name in ("new", "old")]
    new, old = (
        Bus(broker, database, name, format=encoding)
        for database, name in zip(databases, ("new", "old"), strict=True)
    )
    arrived: list[New.Passed] = []
    heard: list[Any] = []

    @old.on(Old.Told, name="pass", on_failure="skip")
    async def passing(told: Old.Told, tx: Any) -> None:
        await old.publish(tx, Old.Passed(id=told.id, order=told.order))

    @new.on(New.Passed, name="read", on_failure="skip")
    async def reading(passed: New.Passed, tx: Any) -> None:
        arrived.append(passed)

    item = NewItem(sku="tea", gift="a card", colour="red")
    order = NewOrder(id="1", item=item, state=NewState.SENT, note="x")
    with subscribe(heard.append):
        for bus in (new, old):
            await bus.start()
        async with new.database.transaction() as tx:
            await new.publish(tx, New.Told(id="1", order=order))
        await until(lambda: arrived)
        for bus in (new, old):
            await bus.stop()
    if encoding == "json":  # a field that JSON names and nobody knows is not there any more
        order = NewOrder(id="1", item=NewItem(sku="tea", colour="red"), state=NewState.SENT)
    assert arrived == [New.Passed(id="1", order=order)]
    used = [one for one in heard if one.kind is SignalKind.EVENT_DEPRECATED_USED]
    assert [(one.subject, one.detail["field"], one.detail["caller"]) for one in used] == [
        ("old.pass", "passing.v1.Item.colour", "new"),
        ("new.read", "passing.v1.Item.colour", "old"),
    ]
    await broker.close()
    for database in databases:
        await database.close()
