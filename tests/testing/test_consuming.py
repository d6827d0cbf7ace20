"""What tests of a consumer call, send and read is recorded, and nothing else."""

from __future__ import annotations

import resource
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import pytest

from switchgear import (
    Message,
    Refusal,
    Service,
    Transaction,
    command,
    event,
    field,
    query,
    service,
)
from switchgear.contract.check.consumers import Consumer, read_consumers, write_consumer
from switchgear.contract.codec import to_json, to_proto
from switchgear.errors import OperationError, UnreadableContract
from switchgear.testing import consuming, testing

pytest_plugins = ["pytester"]


class Gone(Refusal, package="rec.v1"):
    sku: str = field(1)


class Ask(Message, package="rec.v1"):
    sku: str = field(1)
    colour: str = field(2, default="")


class Shelf(Message, package="rec.v1"):
    row: int = field(1)
    side: str = field(2, default="left")


class Stock(Message, package="rec.v1"):
    available: int = field(1)
    shelves: list[Shelf] = field(2, default_factory=list)
    note: str = field(3, default="")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stock) and self.available == other.available

    __hash__ = None  # type: ignore[assignment]


@event("rec.sold", key="sku")
class Sold(Message, package="rec.v1"):
    sku: str = field(1)
    size: int = field(2, default=1)


@service("rec.v1")
class Shop(Protocol):
    @query("GET /v1/stock/{sku}", refuses=[Gone])
    async def stock(self, request: Ask) -> Stock: ...
    @query("GET /v1/all")
    def every(self, request: Ask) -> AsyncIterator[Stock]: ...
    @command("POST /v1/drop")
    async def drop(self, request: Ask) -> Stock: ...


app = Service("recorded")


@app.serves
class Served(Shop):
    async def stock(self, request: Ask) -> Stock:
        if request.colour == "red":
            raise Gone(sku=request.sku)
        return Stock(available=3, shelves=[Shelf(row=1), Shelf(row=2)])

    async def every(self, request: Ask) -> AsyncIterator[Stock]:
        yield Stock(available=1)

    async def drop(self, request: Ask) -> Stock:
        return Stock(available=0)


@app.on(Sold, name="sold", on_failure="park_key")
async def sold(event: Sold, tx: Transaction) -> None:
    assert event.size


STOCK = {"rec.v1.Shop.Stock", "GET /v1/stock/{sku}", "rec.v1.Ask.sku"}


async def recorded(body) -> set[str]:
    async with testing(app) as t:
        with consuming() as seen:
            await body(t)
        return seen.names


async def test_what_is_called_sent_and_read() -> None:
    async def body(t) -> None:
        reply = await t.client(Shop).stock(Ask(sku="a"))
        assert reply.available == 3
        assert [one.row for one in reply.shelves] == [1, 2]

    read = {"rec.v1.Stock.available", "rec.v1.Stock.shelves", "rec.v1.Shelf.row"}
    assert await recorded(body) == STOCK | read


async def test_streams_and_refusals() -> None:
    async def body(t) -> None:
        async for one in t.client(Shop).every(Ask(sku="")):
            assert one.available
        with pytest.raises(Gone):
            await t.client(Shop).stock(Ask(sku="a", colour="red"))

    assert await recorded(body) == STOCK | {
        *("rec.v1.Shop.Every", "GET /v1/all", "rec.v1.Stock.available"),
        *("rec.v1.Ask.colour", "rec.v1.Gone"),
    }


async def test_what_is_looked_at_as_a_whole() -> None:
    async def compared(t) -> None:
        assert await t.client(Shop).stock(Ask(sku="a")) == Stock(available=3)

    async def told_apart(t) -> None:
        assert await t.client(Shop).stock(Ask(sku="a")) != Stock(available=4)

    async def inside(t) -> None:
        reply = await t.client(Shop).stock(Ask(sku="a"))
        assert reply.shelves != [Shelf(row=1)]
        assert reply.shelves[0] != Shelf(row=2)

    async def passed_on(t) -> None:
        to_proto(await t.client(Shop).stock(Ask(sku="a")))

    for body in (compared, told_apart, passed_on):
        assert await recorded(body) >= STOCK | {"rec.v1.Stock"}
    assert "rec.v1.Shelf" in await recorded(inside)


async def test_events_that_are_delivered() -> None:
    async def body(t) -> None:
        await t.deliver(Sold(sku="a"))

    assert await recorded(body) == {"rec.v1.Sold.size"}


async def test_nothing_is_left_behind() -> None:
    async def body(t) -> None:
        assert (await t.client(Shop).stock(Ask(sku="a"))).note == ""

    assert "rec.v1.Stock.note" in await recorded(body)
    assert "__getattribute__" not in vars(Stock)
    assert Stock(available=1, note="a") == Stock(available=1, note="b")
    assert Shelf(row=1) == Shelf(row=1)
    assert Shelf(row=1) != Shelf(row=2)
    assert to_json(Stock(available=1))


async def test_a_message_of_ones_own_is_not_read_of_a_reply() -> None:
    async def body(t) -> None:
        await t.client(Shop).drop(Ask(sku="a"))
        assert Stock(available=1).note == ""

    assert await recorded(body) == {"rec.v1.Shop.Drop", "POST /v1/drop", "rec.v1.Ask.sku"}


def test_the_file_keeps_the_others_and_adds(tmp_path: Path) -> None:
    path = tmp_path / "inner" / "consumers.toml"
    web, app_ = Consumer("web", "2", ("a.A.b",)), Consumer('the "app"', "1", ("a.A",))
    write_consumer(path, web)
    write_consumer(path, app_)
    write_consumer(path, Consumer("web", "2", ("a.A.c",)))
    assert read_consumers(path) == [app_, Consumer("web", "2", ("a.A.b", "a.A.c"))]
    write_consumer(path, Consumer("web", "2", ("a.A.d",)), anew=True)
    assert read_consumers(path) == [app_, Consumer("web", "2", ("a.A.d",))]
    path.write_text("x = 1\n")
    with pytest.raises(UnreadableContract):
        write_consumer(path, web)
    assert path.read_text() == "x = 1\n"


def test_a_file_that_cannot_be_written(tmp_path: Path, pytester: pytest.Pytester) -> None:
    web = Consumer("web", "2", ("a.A.b",))
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "consumers.toml"):
        with pytest.raises(OperationError, match="it cannot be written") as raised:
            write_consumer(path, web)
        assert raised.value.where == str(path)
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    result = pytester.runpytest(
        *("-p", "switchgear.testing.plugin", "--consumer", "web==2", f"--consumes={tmp_path}")
    )
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *SG220*it cannot be written*"])


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "consumers.toml"
    write_consumer(path, Consumer("web", "2", ("a.A.b",)))
    before = path.read_bytes()
    more = Consumer("web", "2", tuple(f"a.A.field_{number}" for number in range(9_999)))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OperationError, match="it cannot be written"):
            write_consumer(path, more)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before


def test_as_a_plugin(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    pytester.makepyfile(
        """
        import asyncio
        from tests.testing.test_consuming import Ask, Shop, app, testing

        def test_it():
            async def body():
                async with testing(app) as t:
                    assert (await t.client(Shop).stock(Ask(sku="a"))).available == 3
            asyncio.run(body())
        """
    )
    arguments = ["-p", "switchgear.testing.plugin", "-p", "no:cacheprovider"]
    given = [*arguments, "--consumes", "web.toml", "--consumer", "web==2.3"]
    assert pytester.runpytest_inprocess(*given).ret == 0
    (one,) = read_consumers(pytester.path / "web.toml")
    assert (one.name, one.version) == ("web", "2.3")
    assert set(one.consumes) == STOCK | {"rec.v1.Stock.available"}
    assert pytester.runpytest_inprocess(*given[:-2]).ret == pytest.ExitCode.USAGE_ERROR
