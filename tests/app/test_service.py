"""A service: what it declares, and what it does once it runs."""

from __future__ import annotations

import asyncio
import functools
import socket
import sqlite3
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from tests.certificates import certificate

from switchgear import (
    Arrival,
    ContractError,
    DatabaseUnavailable,
    DeclarationError,
    Edge,
    EventDeclarationError,
    Message,
    Pattern,
    Policy,
    PolicyError,
    Refusal,
    Rejected,
    Saga,
    SagaError,
    Service,
    Sqlite,
    Status,
    StepContext,
    Transaction,
    Unknown,
    command,
    connect,
    current,
    event,
    field,
    keyed,
    query,
    service,
)
from switchgear.app.callee import ServiceNotRunning
from switchgear.app.resources import InjectionError
from switchgear.app.runtime import Runtime
from switchgear.config import Config, load, without_file
from switchgear.errors import BrokerError, ConfigError, OperationError
from switchgear.events.brokers.port import BrokerUnavailable
from switchgear.events.bus import Health as EventHealth
from switchgear.model.outcome import Reason
from switchgear.testing import testing


class GetFlour(Message):
    kind: str = field(1)


class Flour(Message):
    kilos: int = field(1)


@service("bakery.mill.v1")
class Mill(Protocol):
    @query("GET /v1/flour/{kind}")
    async def flour(self, request: GetFlour) -> Flour: ...


class Bake(Message):
    loaf: str = field(1)


class Baked(Message):
    loaf: str = field(1)
    by: str = field(2)


class NoFlour(Refusal):
    kilos: int = field(1)


class GetShelf(Message):
    pass


class Shelf(Message):
    loaves: list[str] = field(1)


@service("bakery.oven.v1")
class Oven(Protocol):
    @command("POST /v1/loaves", keyed=True, refuses=[NoFlour])
    async def bake(self, request: Bake) -> Baked: ...

    @query("GET /v1/shelf")
    async def shelf(self, request: GetShelf) -> Shelf: ...


@event("bakery.loaves", key="loaf")
class LoafBaked(Message):
    loaf: str = field(1)


@event("bakery.sales", key="loaf")
class LoafSold(Message):
    loaf: str = field(1)


SCHEMA = ["CREATE TABLE shelf (loaf TEXT PRIMARY KEY, note TEXT DEFAULT '{}')"]


class Thermometer:
    def __init__(self) -> None:
        self.read = 0


def bakery() -> Service:
    """Return a service with one of everything."""
    app = Service("bakery", schema=SCHEMA, version="1.0")
    mill = app.calls(Mill, Policy(deadline=20.0))

    @app.resource
    async def thermometer() -> AsyncIterator[Thermometer]:
        yield Thermometer()

    @app.serves
    class Handler(Oven):
        def __init__(self, thermometer: Thermometer, database: Sqlite) -> None:
            self.thermometer = thermometer
            self.database = database

        async def bake(self, request: Bake) -> Baked:
            self.thermometer.read += 1
            flour = await mill.flour(GetFlour(kind="rye"))
            if flour.kilos < 1:
                raise NoFlour(kilos=flour.kilos)
            async with app.transaction() as tx:
                await tx.execute("INSERT INTO shelf (loaf) VALUES (?)", request.loaf)
                tx.publish(LoafBaked(loaf=request.loaf))
            return Baked(loaf=request.loaf, by=current().caller or "")

        async def shelf(self, request: GetShelf) -> Shelf:
            rows = await self.database.read(
                lambda connection: connection.execute("SELECT loaf FROM shelf").fetchall()
            )
            return Shelf(loaves=[row[0] for row in rows])

    @app.on(LoafSold, name="clear", on_failure="park_key")
    async def clear(event: LoafSold, tx: Transaction, thermometer: Thermometer) -> None:
        thermometer.read += 1
        await tx.execute("DELETE FROM shelf WHERE loaf = ?", event.loaf)

    return app


class FullMill(Mill):
    def __init__(self, kilos: int = 9) -> None:
        self.kilos = kilos
        self.asked_by: list[str | None] = []

    async def flour(self, request: GetFlour) -> Flour:
        self.asked_by.append(current().caller)
        return Flour(kilos=self.kilos)


def settings(folder: Path, **more: str) -> Config:
    return without_file({"SWITCHGEAR_SYSTEM_DATA": str(folder), **more}, folder)


# --- declaring ------------------------------------------------------------------------------


def test_its_edges_are_readable_without_running() -> None:
    edges = bakery().edges()
    assert [(edge.name, edge.pattern, edge.keyed) for edge in edges] == [
        ("bakery -> bakery.mill.v1.Mill/flour", Pattern.QUERY, False),
        ("bakery.clear -> bakery.sales.LoafSold", Pattern.EVENT, False),
    ]
    assert isinstance(edges[0], Edge)
    assert edges[0].policy["deadline"] == 20.0


def test_a_callee_says_that_nobody_is_there_yet() -> None:
    app = Service("shop")
    mill = app.calls(Mill)
    with pytest.raises(ServiceNotRunning, match="Mill cannot be called: the service shop is not"):
        _ = mill.flour
    with pytest.raises(ServiceNotRunning, match=r"shop is not running.*switchgear\.testing"):
        app.transaction()
    assert repr(mill) == "<Mill as called by shop>"


def test_a_name_that_no_file_could_list() -> None:
    with pytest.raises(DeclarationError, match="'The Shop' is not a name"):
        Service("The Shop")


def test_a_handler_has_to_implement_a_contract() -> None:
    app = Service("shop")
    with pytest.raises(ContractError, match="implements no contract"):
        app.serves(Thermometer)

    class Half(Oven):
        async def shelf(self, request: GetShelf) -> Shelf:
            return Shelf(loaves=[])

    with pytest.raises(ContractError, match="does not implement bake"):
        app.serves(Half)


def test_a_handler_of_plain_functions_is_refused() -> None:
    class Blocking(Oven):
        def shelf(self, request: GetShelf) -> Shelf:  # type: ignore[override]
            return Shelf(loaves=[])

        async def bake(self, request: Bake) -> Baked:
            raise NotImplementedError

    with pytest.raises(ContractError, match=r"plain function.*\n?.*async def"):
        Service("shop").serves(Blocking)


def test_a_decorated_handler_is_what_it_decorates() -> None:
    def traced(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any) -> Any:
            return function(*args)

        return wrapper

    class Traced(Oven):
        @traced
        async def shelf(self, request: GetShelf) -> Shelf:
            return Shelf(loaves=[])

        @traced
        async def bake(self, request: Bake) -> Baked:
            raise NotImplementedError

    assert Service("shop").serves(Traced) is Traced


def test_what_is_no_policy_saga_or_schema_is_refused_where_it_is_declared() -> None:
    app = Service("shop")
    with pytest.raises(PolicyError, match="3 is no policy"):
        app.calls(Oven, 3)  # type: ignore[arg-type]
    with pytest.raises(DeclarationError, match="'checkout' is no saga"):
        app.runs("checkout")  # type: ignore[arg-type]
    with pytest.raises(DeclarationError, match="schema is one text"):
        Service("shop", schema="CREATE TABLE loaf (id TEXT)")


def test_handlers_of_one_name_share_a_subscription() -> None:
    app = Service("shop")

    @app.on(LoafBaked, name="count", on_failure="skip")
    async def count(event: LoafBaked) -> None: ...

    with pytest.raises(EventDeclarationError, match=r"on_failure is block_key.*is skip"):

        @app.on(LoafSold, name="count", on_failure="block_key")
        async def sold(event: LoafSold) -> None: ...

    with pytest.raises(EventDeclarationError, match=r"handles bakery\.loaves\.LoafBaked under"):

        @app.on(LoafBaked, name="count", on_failure="skip")
        async def again(event: LoafBaked) -> None: ...


def test_a_reaction_is_async_and_takes_the_event() -> None:
    app = Service("shop")
    with pytest.raises(EventDeclarationError, match="not async"):

        @app.on(LoafBaked, name="count", on_failure="skip")
        def count(event: LoafBaked) -> None: ...

    with pytest.raises(EventDeclarationError, match="takes no event"):

        @app.on(LoafBaked, name="count", on_failure="skip")
        async def nothing() -> None: ...


# --- running, in a test ---------------------------------------------------------------------


async def test_a_command_writes_and_publishes_in_one_commit() -> None:
    mill = FullMill()
    async with testing(bakery(), fakes={Mill: mill}) as t:
        oven = t.client(Oven, caller="ann")
        assert await oven.bake(Bake(loaf="rye")) == Baked(loaf="rye", by="ann")
        assert t.published == [LoafBaked(loaf="rye")]
        assert await oven.shelf(GetShelf()) == Shelf(loaves=["rye"])
    assert mill.asked_by == ["bakery"]


async def test_what_fails_is_neither_written_nor_published() -> None:
    async with testing(bakery(), fakes={Mill: FullMill()}) as t:
        oven = t.client(Oven)
        await oven.bake(Bake(loaf="rye"))
        with pytest.raises(Unknown):
            await oven.bake(Bake(loaf="rye"))  # it is there already
        assert t.published == [LoafBaked(loaf="rye")]
        async with t.transaction() as tx:
            assert await tx.execute("SELECT loaf, note FROM shelf") == [("rye", "{}")]


async def test_a_refusal_is_typed() -> None:
    async with testing(bakery(), fakes={Mill: FullMill(kilos=0)}) as t:
        with pytest.raises(NoFlour) as caught:
            await t.client(Oven).bake(Bake(loaf="rye"))
        assert caught.value.kilos == 0
        assert t.published == []


async def test_a_keyed_command_is_carried_out_once() -> None:
    app = bakery()
    async with testing(app, fakes={Mill: FullMill()}) as t:
        oven = t.client(Oven)
        with keyed("monday"):
            first = await oven.bake(Bake(loaf="rye"))
        with keyed("monday"):
            assert await oven.bake(Bake(loaf="rye")) == first
        assert t.published == [LoafBaked(loaf="rye")]


async def test_events_are_handled_with_what_is_injected() -> None:
    async with testing(bakery(), fakes={Mill: FullMill()}) as t:
        oven = t.client(Oven)
        await oven.bake(Bake(loaf="rye"))
        await oven.bake(Bake(loaf="spelt"))
        await t.deliver(LoafSold(loaf="rye"))
        assert await oven.shelf(GetShelf()) == Shelf(loaves=["spelt"])


async def test_before_hooks_authenticate_and_get_what_they_need() -> None:
    app = bakery()

    @app.before
    async def authenticate(arrival: Arrival, thermometer: Thermometer) -> str | None:
        thermometer.read += 1
        if arrival.headers.get("authorization") != "Bearer sesame":
            raise Rejected("Who are you?", status=Status.UNAUTHENTICATED)
        return "ali"

    async with testing(app, fakes={Mill: FullMill()}) as t:
        with pytest.raises(Rejected, match="Who are you"):
            await t.client(Oven).shelf(GetShelf())
        known = t.client(Oven, headers={"authorization": "Bearer sesame"})
        assert (await known.bake(Bake(loaf="rye"))).by == "ali"


async def test_what_nobody_provides_is_said_at_start() -> None:
    app = Service("shop")

    @app.serves
    class Handler(Mill):
        def __init__(self, thermometer: Thermometer) -> None: ...

        async def flour(self, request: GetFlour) -> Flour:
            return Flour(kilos=1)

    with pytest.raises(InjectionError, match=r"thermometer is a Thermometer, which nobody"):
        async with testing(app):
            pass
    with pytest.raises(ServiceNotRunning):
        _ = app.runtime


async def test_a_client_and_the_database_can_be_injected(tmp_path: Path) -> None:
    app = Service("shop")
    app.calls(Mill)

    @app.resource
    async def database() -> AsyncIterator[Sqlite]:
        own = Sqlite(tmp_path / "mine.db")
        yield own
        await own.close()

    @app.serves
    class Handler(Oven):
        def __init__(self, mill: Mill, database: Sqlite) -> None:
            self.mill = mill
            self.database = database

        async def bake(self, request: Bake) -> Baked:
            flour = await self.mill.flour(GetFlour(kind="rye"))
            return Baked(loaf=request.loaf, by=f"{flour.kilos} {self.database.path.name}")

        async def shelf(self, request: GetShelf) -> Shelf:
            return Shelf(loaves=[])

    async with testing(app, fakes={Mill: FullMill()}) as t:
        baked = await t.client(Oven).bake(Bake(loaf="rye"))
        assert baked.by == "9 mine.db"
    with sqlite3.connect(tmp_path / "mine.db") as connection:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema")}
    connection.close()
    assert "switchgear_outbox" in tables


async def test_a_resource_can_need_the_service_s_database() -> None:
    app = Service("shop", schema=SCHEMA)

    class Shelves:
        def __init__(self, loaves: list[str]) -> None:
            self.loaves = loaves

    @app.resource
    async def shelves(database: Sqlite) -> Shelves:
        await database.write(lambda one: one.execute("INSERT INTO shelf (loaf) VALUES ('rye')"))
        rows = await database.read(lambda one: one.execute("SELECT loaf FROM shelf").fetchall())
        return Shelves([row[0] for row in rows])

    @app.serves
    class Handler(Oven):
        def __init__(self, shelves: Shelves) -> None:
            self.shelves = shelves

        async def bake(self, request: Bake) -> Baked:
            return Baked(loaf=request.loaf, by="")

        async def shelf(self, request: GetShelf) -> Shelf:
            return Shelf(loaves=self.shelves.loaves)

    async with testing(app) as t:
        assert await t.client(Oven).shelf(GetShelf()) == Shelf(loaves=["rye"])


async def test_a_resource_that_cannot_be_made_is_named() -> None:
    app = Service("shop")

    @app.resource
    async def thermometer() -> Thermometer:
        raise ConnectionRefusedError("no such thing on the wire")

    with pytest.raises(
        OperationError, match=r"resource thermometer could not be made: ConnectionRefusedError: no"
    ):
        async with testing(app):
            pass


async def test_two_databases_need_a_mark(tmp_path: Path) -> None:
    def with_databases(*, marked: bool) -> Service:
        app = Service("shop")

        @app.resource(database=marked)
        async def first() -> AsyncIterator[Sqlite]:
            async with opened(tmp_path / "first.db") as found:
                yield found

        @app.resource
        async def second() -> AsyncIterator[Sqlite]:
            async with opened(tmp_path / "second.db") as found:
                yield found

        return app

    with pytest.raises(DeclarationError, match="first and second are databases"):
        async with testing(with_databases(marked=False)):
            pass
    async with testing(with_databases(marked=True)) as t:
        database = t.runtime.database
        assert isinstance(database, Sqlite)
        assert database.path.name == "first.db"


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Sqlite]:
    found = Sqlite(path)
    try:
        yield found
    finally:
        await found.close()


async def test_a_service_runs_once_at_a_time_and_again_after(tmp_path: Path) -> None:
    app = bakery()
    for _ in range(2):
        async with testing(app, fakes={Mill: FullMill()}) as t:
            with pytest.raises(DeclarationError, match="already running"):
                await Runtime(app, settings(tmp_path)).start()
            await t.client(Oven).bake(Bake(loaf="rye"))


# --- sagas ----------------------------------------------------------------------------------


class Order(Message):
    loaf: str = field(1)


def with_saga(runbooks: Path) -> tuple[Service, Saga, list[str]]:
    app = bakery()
    happened: list[str] = []
    (runbooks / "call.md").write_text("Call the miller.")
    sale = Saga("sale", version=1, deadline=timedelta(minutes=5), runbook=str(runbooks / "call.md"))

    @sale.undo()
    async def give_back(order: Order, done: Baked | Unknown, ctx: StepContext) -> None:
        happened.append(f"give back {order.loaf}")

    @give_back.undoes
    async def take(order: Order, ctx: StepContext) -> Baked:
        happened.append(f"take {order.loaf}, attempt {ctx.attempt}")
        if order.loaf == "slow" and ctx.attempt == 1:
            raise OSError("the shelf is stuck")
        return Baked(loaf=order.loaf, by=ctx.key)

    @sale.retriable(give_up=timedelta(days=1))
    async def thank(order: Order, ctx: StepContext) -> None:
        async with app.transaction() as tx:
            tx.publish(LoafSold(loaf=order.loaf))

    sale.path(take >> thank)
    app.runs(sale)
    return app, sale, happened


async def test_a_saga_that_is_not_declared_is_not_started(tmp_path: Path) -> None:
    _, sale, _ = with_saga(tmp_path)
    async with testing(bakery(), fakes={Mill: FullMill()}) as t:

        async def sell() -> None:
            async with t.transaction() as tx:
                await tx.start(sale, Order(loaf="rye"), id="1")

        with pytest.raises(SagaError, match=r"does not run the saga sale.*app\.runs\(sale\)"):
            await sell()


async def test_a_saga_starts_with_the_commit_and_settles(tmp_path: Path) -> None:
    app, sale, happened = with_saga(tmp_path)
    async with testing(app, fakes={Mill: FullMill()}) as t:

        async def change_ones_mind() -> None:
            async with t.transaction() as tx:
                await tx.start(sale, Order(loaf="none"), id="0")
                raise RuntimeError("changed my mind")

        with pytest.raises(RuntimeError, match="changed my mind"):
            await change_ones_mind()
        async with t.transaction() as tx:
            run = await tx.start(sale, Order(loaf="slow"), id="1")
        await t.settle()
        state = await run.state()
        assert state.status == "done"
        assert happened == ["take slow, attempt 1", "take slow, attempt 2"]
        assert t.published == [LoafSold(loaf="slow")]
        assert (await app.sagas.get("1").state()).saga == "sale"
    assert [edge.name for edge in app.edges()][-2:] == [
        "bakery -> sale/take",
        "bakery -> sale/thank",
    ]


async def test_a_service_whose_sagas_nobody_drives_is_not_ready(tmp_path: Path) -> None:
    app, _, _ = with_saga(tmp_path)
    async with testing(app, fakes={Mill: FullMill()}):
        health = app.runtime.health
        await app.runtime._check()
        assert health.parts == {"database": "ok"}
        await app.sagas.stop(within=0)
        await app.runtime._check()
        assert not health.ready
        assert "nobody drives them" in health.parts["sagas"]


async def test_sagas_are_worked_off_as_the_settings_say(tmp_path: Path) -> None:
    def archived() -> list[Path]:
        return list(tmp_path.glob("old/sagas-*.jsonl"))

    app = without_calls()
    sale = Saga("look", version=1, keep=timedelta(milliseconds=1))

    @sale.read
    async def look(order: Order, ctx: StepContext) -> None: ...

    sale.path(look)
    app.runs(sale)
    config = settings(
        tmp_path,
        SWITCHGEAR_SERVICES_MILL_SAGAS_LEASE="0.3",
        SWITCHGEAR_SERVICES_MILL_SAGAS_ARCHIVE=str(tmp_path / "old"),
    )
    runtime = Runtime(app, config)
    await runtime.start()
    async with runtime.transaction() as tx:
        run = await tx.start(sale, Order(loaf="rye"), id="1")
    await run.result(within=60)
    async with asyncio.timeout(60):  # a sweep comes with each renewal of the lease
        while not archived():
            await asyncio.sleep(0.02)
    await runtime.stop()


# --- doors ----------------------------------------------------------------------------------


@asynccontextmanager
async def served(application: object) -> AsyncIterator[str]:
    """Serve an ASGI application with uvicorn, as a team would."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        config = uvicorn.Config(application, log_config=None)  # type: ignore[arg-type]
        server = uvicorn.Server(config)
        task = asyncio.create_task(server._serve([held]))
        while not server.started:
            await asyncio.sleep(0.005)
        try:
            yield f"http://127.0.0.1:{held.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


def without_calls() -> Service:
    app = Service("mill")

    @app.serves
    class Handler(Mill):
        async def flour(self, request: GetFlour) -> Flour:
            return Flour(kilos=len(request.kind))

    return app


async def test_the_asgi_application_goes_into_any_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    app = without_calls()
    async with served(app.asgi) as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        assert (await client.get("/v1/flour/rye")).json() == {"kilos": 3}
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.get("/openapi.json")).json()["info"]["title"] == "mill"
    with pytest.raises(ServiceNotRunning):
        _ = app.runtime


async def test_it_is_mounted_in_fastapi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mill = without_calls()
    api = FastAPI(lifespan=mill.lifespan)
    api.mount("/mill", mill.asgi)

    @api.get("/")
    async def home() -> str:
        return "home"

    async with served(api) as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        assert (await client.get("/mill/v1/flour/spelt")).json() == {"kilos": 5}
        assert (await client.get("/mill/readyz")).json()["parts"] == {"database": "ok"}
        assert (await client.get("/")).json() == "home"


async def test_both_doors_answer_and_close(tmp_path: Path) -> None:
    app = without_calls()
    config = settings(
        tmp_path,
        SWITCHGEAR_SERVICES_MILL_HTTP="127.0.0.1:0",
        SWITCHGEAR_SERVICES_MILL_GRPC="127.0.0.1:0",
    )
    runtime = Runtime(app, config)
    await runtime.start()
    await runtime.open_doors()
    http, grpc = (runtime.doors[kind].address for kind in ("http", "grpc"))
    for url in (f"http://{http}", f"grpc://{grpc}"):
        async with connect(Mill, url, Policy(deadline=60)) as mill:
            assert await mill.flour(GetFlour(kind="rye")) == Flour(kilos=3)
    async with httpx.AsyncClient(base_url=f"http://{http}", timeout=60) as client:
        ready = (await client.get("/readyz")).json()
    assert ready["parts"] == {"database": "ok"}
    assert ready["relay"] == "ok"
    await runtime.stop()
    for address in (http, grpc):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((address.host, address.port)).close()


async def test_a_database_that_is_gone_is_not_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone() -> None:
        raise DatabaseUnavailable("postgresql://ann:sesame@db is gone")

    app = without_calls()
    runtime = Runtime(app, settings(tmp_path, SWITCHGEAR_SERVICES_MILL_HTTP="127.0.0.1:0"))
    await runtime.start()
    await runtime.open_doors()
    monkeypatch.setattr(runtime, "_probe", gone)
    async with httpx.AsyncClient(
        base_url=f"http://{runtime.doors['http'].address}", timeout=60
    ) as client:
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        said = answer.json()["parts"]["database"]
        assert "DatabaseUnavailable" in said
        assert "ann:***@db" in said
        assert (await client.get("/livez")).status_code == 200
    await runtime.stop()


async def _raise(error: Exception) -> EventHealth:
    raise error


async def test_a_service_whose_events_meet_a_bug_is_not_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = without_calls()
    runtime = Runtime(app, settings(tmp_path, SWITCHGEAR_SERVICES_MILL_HTTP="127.0.0.1:0"))
    await runtime.start()
    await runtime.open_doors()
    async with httpx.AsyncClient(
        base_url=f"http://{runtime.doors['http'].address}", timeout=60
    ) as client:
        monkeypatch.setattr(runtime.bus._health, "broken", lambda: "relay: LookupError: a bug")
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["parts"]["events"] == "relay: LookupError: a bug"
        monkeypatch.undo()

        async def away() -> EventHealth:
            raise BrokerUnavailable("db://u:sesame@h is away")

        monkeypatch.setattr(runtime.bus, "health", away)
        answer = await client.get("/readyz")
        assert answer.json()["parts"] == {"database": "ok"}
        assert "sesame" not in answer.text
        assert runtime.health.details == {"broker": "db://u:***@h is away"}
        monkeypatch.undo()
        assert (await client.get("/readyz")).json()["parts"] == {"database": "ok"}

        for error, says in (
            (BrokerError("you may not."), "you may not"),
            (Unknown("perhaps", reason=Reason.TIMEOUT), "perhaps"),
        ):
            monkeypatch.setattr(runtime.bus, "health", partial(_raise, error))
            assert (await client.get("/readyz")).json()["parts"] == {"database": "ok"}
            assert says in str(runtime.health.details["broker"])
        monkeypatch.setattr(runtime.bus, "health", partial(_raise, LookupError("a bug")))
        answer = await client.get("/readyz")
        assert answer.json()["parts"] == {"database": "ok", "events": "LookupError: a bug"}
        assert answer.status_code == 503
        monkeypatch.setattr(runtime.bus, "health", partial(_raise, DatabaseUnavailable("gone")))
        assert "gone" in (await client.get("/readyz")).json()["parts"]["database"]
    await runtime.stop()


async def test_a_grpc_port_in_use_is_said_and_everything_closed(tmp_path: Path) -> None:
    app = without_calls()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        runtime = Runtime(app, settings(tmp_path, SWITCHGEAR_SERVICES_MILL_GRPC=str(port)))
        await runtime.start()
        with pytest.raises(OperationError, match=rf"services\.mill\.grpc: .*:{port} is in use"):
            await runtime.open_doors()
    with pytest.raises(ServiceNotRunning):
        _ = app.runtime


async def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    runtime = Runtime(without_calls(), settings(tmp_path / "file" / "data"))
    with pytest.raises(OperationError, match=r"cannot open the database .*mill\.db.*Check that"):
        await runtime.start()


async def test_a_broker_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    broker = f"sqlite:///{tmp_path}/file/broker.db"
    runtime = Runtime(without_calls(), settings(tmp_path, SWITCHGEAR_SYSTEM_BROKER=broker))
    with pytest.raises(OperationError, match=r"cannot open the database .*broker\.db.*Check that"):
        await runtime.start()


# --- who is called --------------------------------------------------------------------------


async def test_a_callee_is_found_by_its_settings(tmp_path: Path) -> None:
    mill = Runtime(without_calls(), settings(tmp_path, SWITCHGEAR_SERVICES_MILL_GRPC="127.0.0.1:0"))
    await mill.start()
    await mill.open_doors()
    config = settings(
        tmp_path,
        SWITCHGEAR_SERVICES_BAKERY_CALLS_BAKERY_MILL_V1_MILL=f"grpc://{mill.doors['grpc'].address}",
        SWITCHGEAR_SERVICES_BAKERY_HTTP="127.0.0.1:0",
    )
    oven = Runtime(bakery(), config)
    await oven.start()
    await oven.open_doors()
    url = f"http://{oven.doors['http'].address}"
    async with connect(Oven, url, Policy(deadline=60), caller="ann") as client:
        assert (await client.bake(Bake(loaf="rye"))).loaf == "rye"
    await oven.stop()
    await mill.stop()


async def test_a_contract_that_nobody_serves(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"services\.bakery\.calls: no service of the system"):
        await Runtime(bakery(), settings(tmp_path)).start()


async def test_doors_and_clients_speak_tls(tmp_path: Path) -> None:
    chain, key = certificate(tmp_path)
    mill = Runtime(
        without_calls(),
        settings(
            tmp_path,
            SWITCHGEAR_SERVICES_MILL_GRPC="127.0.0.1:0",
            SWITCHGEAR_SERVICES_MILL_HTTP="127.0.0.1:0",
            SWITCHGEAR_SERVICES_MILL_CERTIFICATE=str(chain),
            SWITCHGEAR_SERVICES_MILL_KEY=str(key),
        ),
    )
    await mill.start()
    await mill.open_doors()
    file = tmp_path / "switchgear.toml"
    file.write_text(
        '[services.bakery]\napp = "a:b"\nhttp = "127.0.0.1:0"\n[services.bakery.calls]\n'
        f'"bakery.mill.v1.Mill" = {{ url = "grpcs://{mill.doors["grpc"].address}", '
        'ca = "chain.pem" }\n'
    )
    oven = Runtime(bakery(), load(file, {"SWITCHGEAR_SYSTEM_DATA": str(tmp_path / "data")}))
    await oven.start()
    await oven.open_doors()
    async with connect(Oven, f"http://{oven.doors['http'].address}", Policy(deadline=60)) as client:
        assert (await client.bake(Bake(loaf="rye"))).loaf == "rye"
    trust = ssl.create_default_context(cafile=str(chain))
    async with httpx.AsyncClient(verify=trust, timeout=60) as plain:
        answer = await plain.get(f"https://{mill.doors['http'].address}/v1/flour/rye")
        assert answer.json() == {"kilos": 3}
    await oven.stop()
    await mill.stop()
