"""Keyed commands and a failing database, seen from both doors."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Protocol

import asyncpg
import grpc
import httpx
import pytest

from switchgear.call.ask import ask
from switchgear.call.client import connect
from switchgear.contract.codec import to_proto
from switchgear.contract.message import Message, field, replace
from switchgear.contract.refusal import Refusal
from switchgear.contract.service import command, service
from switchgear.database.port import Database
from switchgear.database.sqlite import Sqlite
from switchgear.model.context import current
from switchgear.model.outcome import Reason, Rejected, Unavailable, Unknown
from switchgear.policy.policy import Policy
from switchgear.policy.retry import Retry
from switchgear.serve import kept
from switchgear.serve.idempotency import Idempotency, unit
from tests.patience import longer
from tests.serve.conftest import opened
from tests.serve.world import serving

PATIENT = Policy(retry=None, deadline=60)


class Buy(Message, package="acme.shop.v1"):
    what: str = field(1)
    how: str = field(2, default="")


class Bought(Message, package="acme.shop.v1"):
    number: int = field(1)
    key: str | None = field(2)


class SoldOut(Refusal, package="acme.shop.v1"):
    """There is none left."""

    sku: str = field(1)


@service("acme.shop.v1")
class Shop(Protocol):
    @command("POST /v1/purchases", keyed=True, refuses=[SoldOut])
    async def buy(self, request: Buy) -> Bought: ...

    @command("POST /v1/notes")
    async def note(self, request: Buy) -> Bought: ...


class Handler(Shop):
    def __init__(self, database: Database) -> None:
        self.database = database
        self.runs = 0
        self.began = asyncio.Event()
        self.go = asyncio.Event()
        self.go.set()

    async def buy(self, request: Buy) -> Bought:
        self.runs += 1
        self.began.set()
        await self.go.wait()
        async with unit(self.database) as tx:
            await tx.run("INSERT INTO done VALUES (?)", request.what)
            if request.what == "gone":
                raise SoldOut(sku="gone")
        return Bought(number=self.runs, key=current().key)

    async def note(self, request: Buy) -> Bought:
        self.runs += 1
        async with unit(self.database) as tx:
            await tx.run("INSERT INTO done VALUES (?)", request.what)
        if request.how == "again":
            async with unit(self.database) as tx:
                await tx.run("INSERT INTO done VALUES (?)", request.what)
        return Bought(number=self.runs, key=current().key)


class Both:
    """One handler at both doors, asked by foreign clients."""

    def __init__(self, served, http, channel) -> None:
        self.handler: Handler = served.handler
        self.served = served
        self.http = http
        self.channel = channel

    async def rest(self, path="purchases", key="k", **body):
        headers = {"idempotency-key": key} if key else {}
        return await self.http.post(f"/v1/{path}", json=body, headers=headers)

    async def grpc(self, key="k", **body):
        call = self.channel.unary_unary("/acme.shop.v1.Shop/Buy")
        return await call(to_proto(Buy(**body)), metadata=(("idempotency-key", key),))


async def both(database: Database, **settings) -> AsyncIterator[Both]:
    idempotency = Idempotency(database, **settings)
    async with serving(Handler(database), idempotency=idempotency) as served:
        target = served.grpc.removeprefix("grpc://")
        async with (
            httpx.AsyncClient(base_url=served.http, timeout=60) as http,
            grpc.aio.insecure_channel(target) as channel,
        ):
            yield Both(served, http, channel)


@pytest.fixture
async def database(tmp_path):
    database = Sqlite(tmp_path / "shop.db", busy=0.1)
    await with_a_table(database)
    yield database
    await database.close()


async def with_a_table(database):
    async with database.transaction() as tx:
        await tx.run("CREATE TABLE done (what TEXT)")


@pytest.fixture
async def doors(database):
    async for one in both(database, wait=0.1):
        yield one


async def done(database):
    async with database.transaction() as tx:
        return [row[0] for row in await tx.run("SELECT what FROM done")]


async def test_a_duplicate_gets_the_stored_reply_at_either_door(doors, database):
    first = await doors.rest(what="tea")
    assert first.json() == {"number": 1, "key": "k"}
    assert (await doors.rest(what="tea")).json() == first.json()
    assert await doors.grpc(what="tea") == to_proto(Bought(number=1, key="k"))
    assert (doors.handler.runs, await done(database)) == (1, ["tea"])


async def test_a_duplicate_gets_the_stored_refusal_at_either_door(doors, database):
    for _ in range(2):
        answer = await doors.rest(what="gone")
        assert answer.status_code == 422
        assert answer.json()["refusal"] == {"sku": "gone"}
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await doors.grpc(what="gone")
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert (
        b"acme.shop.v1.SoldOut" in dict(caught.value.trailing_metadata())["grpc-status-details-bin"]
    )
    assert (doors.handler.runs, await done(database)) == (1, [])


async def test_another_message_is_422_and_failed_precondition(doors):
    await doors.rest(what="tea")
    answer = await doors.rest(what="coffee")
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:switchgear:error:SG411")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await doors.grpc(what="coffee")
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    # the client does not take it for the refusal that has the same status
    async with connect(Shop, doors.served.http, PATIENT) as shop:
        with pytest.raises(Rejected):
            await ask(shop.buy, Buy(what="coffee"), key="k")


async def test_one_in_progress_is_409_and_aborted(doors):
    doors.handler.go.clear()
    first = asyncio.create_task(doors.rest(what="tea"))
    await doors.handler.began.wait()
    answer = await doors.rest(what="tea")
    assert (answer.status_code, answer.headers["retry-after"]) == (409, "1")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await doors.grpc(what="tea")
    assert caught.value.code() is grpc.StatusCode.ABORTED
    assert dict(caught.value.trailing_metadata())["grpc-retry-pushback-ms"] == "1000"
    for url in (doors.served.http, doors.served.grpc):
        async with connect(Shop, url, PATIENT) as shop:
            with pytest.raises(Unknown) as unknown:
                await ask(shop.buy, Buy(what="tea"), key="k")
            assert unknown.value.retry_after == 1.0
    doors.handler.go.set()
    assert (await first).status_code == 200
    assert doors.handler.runs == 1


async def test_without_a_key_it_is_carried_out_each_time(doors, database):
    for number in (1, 2):
        assert (await doors.rest(key=None, what="tea")).json() == {"number": number, "key": None}
    assert await done(database) == ["tea", "tea"]


@pytest.mark.parametrize("scheme", ["http", "grpc"])
async def test_our_client_sends_one_key_for_all_attempts_of_a_call(doors, database, scheme):
    retry = Retry(base=0.001, cap=0.001)
    async with connect(Shop, doors.served.url(scheme), Policy(retry=retry, deadline=60)) as shop:
        assert (await shop.buy(Buy(what="tea"))).number == 1
        assert (await shop.buy(Buy(what="tea"))).number == 2
    assert await done(database) == ["tea", "tea"]


@pytest.mark.parametrize("keyed", [True, False])
async def test_a_locked_database_is_503_with_the_mark(doors, database, keyed):
    path, scheme = ("purchases", "grpc") if keyed else ("notes", "http")
    assert (await doors.rest(path, key="first", what="tea")).status_code == 200
    other = sqlite3.connect(database.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        answer = await doors.rest(path, what="tea")
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert answer.headers["switchgear-outcome"] == "not-executed"
        assert "locked" not in answer.text
        async with connect(Shop, doors.served.url(scheme), PATIENT) as shop:
            with pytest.raises(Unavailable) as caught:
                await (shop.buy if keyed else shop.note)(Buy(what="tea"))
            assert (caught.value.reason, caught.value.retry_after) == (Reason.NOT_EXECUTED, 1.0)
    finally:
        other.close()
    assert await done(database) == ["tea"]


@pytest.mark.parametrize(("scheme", "keyed"), [("http", True), ("grpc", False)])
async def test_a_lock_that_outlasts_the_caller_is_told_before_his_deadline(tmp_path, scheme, keyed):
    """SQLite would wait for longer than the caller, who would not hear that nothing was done."""
    database = Sqlite(tmp_path / "shop.db", busy=60.0)
    await with_a_table(database)
    async for doors in both(database, wait=60.0):
        assert (await doors.rest(key="first", what="tea")).status_code == 200
        for deadline in longer(3.0):
            policy = Policy(deadline=deadline, retry=None)
            async with connect(Shop, doors.served.url(scheme), policy) as shop:
                with closing(sqlite3.connect(database.path, isolation_level=None)) as other:
                    other.execute("BEGIN IMMEDIATE")
                    with pytest.raises((Unavailable, Unknown)) as caught:
                        await (shop.buy if keyed else shop.note)(Buy(what="tea"))
            if caught.value.reason is not Reason.TIMEOUT:
                break  # a tenth of the time was enough for telling
        assert isinstance(caught.value, Unavailable)
        assert caught.value.reason is Reason.NOT_EXECUTED
    await database.close()


async def test_locked_after_a_commit_is_500_without_the_mark(doors, database):
    holders = []

    def lock():
        holder = sqlite3.connect(database.path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        holders.append(holder)

    class Locking:
        """Another process takes the lock between the handler's two transactions."""

        dialect = "sqlite"

        def transaction(self):
            if doors.handler.runs and not holders and self.opened:
                lock()
            self.opened = True
            return database.transaction()

        opened = False

    doors.handler.database = Locking()
    answer = await doors.rest("notes", what="tea", how="again")
    holders[0].close()
    assert answer.status_code == 500
    assert "switchgear-outcome" not in answer.headers
    assert await done(database) == ["tea"]


async def test_a_connection_lost_during_the_commit_is_500(postgres):
    admin = await asyncpg.connect(postgres)
    await admin.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    await admin.execute("CREATE TABLE done (what TEXT)")
    await admin.execute(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_sleep(10); RETURN NULL; END $$"
    )
    # a deferred trigger runs inside COMMIT
    await admin.execute(
        "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON done DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION slow()"
    )
    async with opened("asyncpg", postgres) as database:
        async for doors in both(database):
            asked = asyncio.create_task(doors.rest(what="tea"))
            kill = (
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE query LIKE 'COMMIT%' AND wait_event = 'PgSleep' "
                "AND datname = current_database()"
            )
            while not await admin.fetch(kill):
                await asyncio.sleep(0.005)
            answer = await asked
            assert answer.status_code == 500
            assert "switchgear-outcome" not in answer.headers
    await admin.close()


async def test_two_authenticated_callers_may_choose_one_key(database):
    async def authenticate(request):
        return request.headers["authorization"]

    settings = {"before": [authenticate], "idempotency": Idempotency(database)}
    async with serving(Handler(database), **settings) as served:
        for number, who in enumerate(("alice", "bob", "alice"), 1):
            headers = {"authorization": who, "idempotency-key": "k"}
            async with httpx.AsyncClient(base_url=served.http, headers=headers, timeout=60) as http:
                found = (await http.post("/v1/purchases", json={"what": "tea"})).json()
                assert found == {"number": min(number, 2) if who == "bob" else 1, "key": f"{who}/k"}
    assert await done(database) == ["tea", "tea"]


def test_equal_messages_have_equal_bytes():
    assert (
        kept.canonical(Buy(what="tea"))
        == kept.canonical(Buy(what="tea", how=""))
        == b'{"what":"tea"}'
    )
    assert kept.canonical(replace(Buy(what="tea"), how="x")) != kept.canonical(Buy(what="tea"))
    assert kept.canonical(Bought(number=0, key="")) == b'{"key":""}'
    assert kept.canonical(Bought(number=0, key=None)) == b"{}"


class BoughtSince(Message, package="acme.shop.v1"):
    """What `Bought` is after the next release."""

    number: int = field(1)
    key: str | None = field(2)
    gift: bool = field(3)


def test_a_reply_is_kept_for_the_next_release(monkeypatch):
    data = kept.write(Bought(number=7, key="k"))
    assert kept.read(Bought, data) == Bought(number=7, key="k")
    assert kept.read(BoughtSince, data) == BoughtSince(number=7, key="k", gift=False)
    monkeypatch.setattr(kept, "_has_protobuf", lambda: False)
    plain = kept.write(Bought(number=7, key="k"))
    assert plain.startswith(b"j{")
    assert kept.read(Bought, plain) == Bought(number=7, key="k")
