"""A subscription on every kind of database: the inbox and the handler's writes commit together."""

import asyncio
import contextlib
from collections import Counter

import asyncpg
import pytest

from switchgear.database.postgres import Postgres
from switchgear.database.sqlalchemy import SqlAlchemy
from switchgear.database.sqlite import Sqlite
from switchgear.events.bus import Bus
from switchgear.events.parked import NotParked
from switchgear.model.context import current
from tests.events.world import OrderPlaced, until
from tests.servers import emptied

KINDS = ["sqlite", "postgres", "sqlalchemy-postgres", "sqlalchemy-sqlite"]


@pytest.fixture(params=KINDS)
async def any_database(request, tmp_path):
    kind = request.param
    if "postgres" in kind:
        server = request.getfixturevalue("postgres_server")
        await emptied(server)
    if kind == "sqlite":
        opened = Sqlite(tmp_path / "any.db")
        yield opened
        await opened.close()
    elif kind == "postgres":
        import asyncpg

        async with asyncpg.create_pool(server.url, min_size=1, max_size=8) as pool:
            yield Postgres(pool)
    else:
        from sqlalchemy.ext.asyncio import create_async_engine

        if kind == "sqlalchemy-sqlite":
            engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'any.db'}")
            _begin_immediate(engine)
        else:
            engine = create_async_engine(server.url.replace(":", "+asyncpg:", 1))
        yield SqlAlchemy(engine)
        await engine.dispose()


def _begin_immediate(engine):
    """Let transactions begin as SQLAlchemy's manual says they should on SQLite."""
    from sqlalchemy import event

    @event.listens_for(engine.sync_engine, "connect")
    def connect(connection, _):
        connection.isolation_level = None

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection):
        connection.exec_driver_sql("BEGIN IMMEDIATE")


@pytest.fixture
async def bus(any_database, broker):
    # a table has no order of its own: PostgreSQL fills its pages from several connections at once
    serial = "INTEGER" if any_database.dialect == "sqlite" else "BIGSERIAL"
    async with any_database.transaction() as tx:
        await tx.run(
            f"CREATE TABLE effects (id {serial} PRIMARY KEY, key TEXT NOT NULL, "
            "number BIGINT NOT NULL)"
        )
    made = Bus(broker, any_database, "service")
    yield made
    await made.stop()


async def publish(bus, *events):
    async with bus.database.transaction() as tx:
        await bus.publish(tx, *events)


async def effects(bus):
    async with bus.database.transaction() as tx:
        return [tuple(row) for row in await tx.run("SELECT key, number FROM effects ORDER BY id")]


def placed(key, number):
    return OrderPlaced(order_id=key, number=number)


INSERT = "INSERT INTO effects (key, number) VALUES (?, ?)"


async def test_events_take_effect_once_and_in_order(bus):
    @bus.on(OrderPlaced, name="react", on_failure="block_key")
    async def react(event, tx):
        await tx.run(INSERT, event.order_id, event.number)

    await bus.start()
    for first in range(0, 60, 20):
        await publish(bus, *(placed("abcd"[n % 4], n) for n in range(first, first + 20)))
    await until(lambda: _count(bus, 60))
    found = await effects(bus)
    for key in "abcd":
        numbers = [number for name, number in found if name == key]
        assert numbers == sorted(numbers)
    await until(lambda: _settled(bus))
    assert len(await effects(bus)) == 60


async def test_the_write_of_a_failed_attempt_is_undone_and_others_stay(bus):
    attempts = Counter()

    @bus.on(OrderPlaced, name="react", on_failure="block_key", backoff=0.01)
    async def react(event, tx):
        attempts[event.order_id] += 1
        await tx.run(INSERT, event.order_id, event.number)
        if event.order_id == "b" and attempts["b"] < 3:
            raise ConnectionError("again")

    await bus.start()
    await publish(bus, *(placed(key, 1) for key in "abcde"))
    await until(lambda: _count(bus, 5))
    assert attempts["b"] == 3
    assert sorted(await effects(bus)) == [(key, 1) for key in "abcde"]


async def test_a_statement_that_fails_is_the_events_failure(bus):
    @bus.on(OrderPlaced, name="react", on_failure="park_key", attempts=2, backoff=0.01)
    async def react(event, tx):
        await tx.run(INSERT, event.order_id, event.number or None)

    await bus.start()
    await publish(bus, placed("a", 1), placed("b", 0), placed("b", 2), placed("c", 3))
    await until(lambda: _parked(bus, 2))
    await until(lambda: _count(bus, 2))
    assert sorted(await effects(bus)) == [("a", 1), ("c", 3)]
    first, second = await bus.parked.list()
    assert (first.cause, second.cause) == ("failed", "behind")
    assert "null" in first.error.lower()
    await bus.parked.discard(first.id, reason="it never was", actor="me")
    await bus.parked.redrive(consumer="service.react")
    await until(lambda: _count(bus, 3))
    assert await bus.parked.count() == (0, 0)


async def test_what_a_handler_publishes_is_published_if_it_commits(bus):
    failed = []

    @bus.on(OrderPlaced, name="react", on_failure="block_key", backoff=0.01)
    async def react(event, tx):
        if event.number < 3:
            tx.publish(placed(event.order_id, event.number + 1))
        await tx.run(INSERT, event.order_id, event.number)
        if not failed:
            failed.append(event)
            raise ConnectionError("again")

    await bus.start()
    await publish(bus, placed("a", 1))
    await until(lambda: _count(bus, 3))
    await until(lambda: _settled(bus))
    assert await effects(bus) == [("a", 1), ("a", 2), ("a", 3)]


async def test_slow_handlers_of_different_keys_run_beside_each_other(bus):
    running, most = 0, 0
    four = asyncio.Event()

    @bus.on(OrderPlaced, name="react", on_failure="block_key", concurrency=4)
    async def react(event):
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 4:
            four.set()
        await four.wait()
        await asyncio.sleep(0.01)
        running -= 1

    await bus.start()
    await publish(bus, *(placed(f"k{number}", 1) for number in range(30)))
    await until(lambda: _settled(bus))
    assert most == 4


async def test_on_postgresql_a_commit_that_is_refused_is_blamed_on_its_event(pool, broker):
    """A deferred constraint speaks up at the commit, when several events share it."""
    bus = Bus(broker, Postgres(pool), "service")
    await pool.execute("CREATE TABLE parent (id TEXT PRIMARY KEY)")
    await pool.execute(
        "CREATE TABLE child (id TEXT REFERENCES parent DEFERRABLE INITIALLY DEFERRED)"
    )
    await pool.execute("INSERT INTO parent VALUES ('a'), ('c'), ('d')")

    @bus.on(OrderPlaced, name="react", on_failure="park_key", attempts=2, backoff=0.01)
    async def react(event, tx):
        await tx.execute("INSERT INTO child VALUES ($1)", event.order_id)

    await bus.start()
    bus._consumers["service.react"]._pace._mean = 0.001  # they share a transaction
    await publish(bus, *(placed(key, 1) for key in "abcd"))
    await until(lambda: _parked(bus, 1))
    await until(lambda: _settled(bus))
    (parked,) = await bus.parked.list()
    assert (parked.key, parked.attempts) == ("b", 2)
    assert "ForeignKeyViolationError" in parked.error
    assert await pool.fetchval("SELECT count(*) FROM child") == 3
    await bus.stop()


@pytest.mark.parametrize("direct", [False, True], ids=["tx", "connection"])
async def test_of_events_that_share_a_transaction_one_is_undone_alone(pool, broker, direct):
    bus = Bus(broker, Postgres(pool), "service")
    await pool.execute("CREATE TABLE seen (id TEXT, number INT)")
    calls = Counter()

    @bus.on(OrderPlaced, name="react", on_failure="block_key", backoff=0.01)
    async def react(event, tx):
        calls[event.order_id] += 1
        execute = tx.connection.execute if direct else tx.execute
        if event.order_id != "quiet":
            await execute("INSERT INTO seen VALUES ($1, $2)", event.order_id, event.number)
        if event.order_id == "c" and calls["c"] <= 2:
            raise ConnectionError("again")

    await bus.start()
    bus._consumers["service.react"]._pace._mean = 0.001  # they share a transaction
    await publish(bus, *(placed(key, 1) for key in ["a", "b", "quiet", "c", "d"] * 2))
    await until(lambda: _settled(bus))
    found = Counter(row[0] for row in await pool.fetch("SELECT id FROM seen"))
    assert found == {"a": 2, "b": 2, "c": 2, "d": 2}
    assert calls["c"] >= 4
    await bus.stop()


async def test_an_event_whose_handler_catches_what_aborts_its_transaction_is_not_lost(pool, broker):
    bus = Bus(broker, Postgres(pool), "service")
    await pool.execute("CREATE TABLE seen (id TEXT PRIMARY KEY)")

    @bus.on(OrderPlaced, name="react", on_failure="park_key", attempts=2, backoff=0.01)
    async def react(event, tx):
        await tx.execute("INSERT INTO seen VALUES ($1)", event.order_id)
        if event.order_id == "b":
            with contextlib.suppress(asyncpg.UniqueViolationError):
                await tx.execute("INSERT INTO seen VALUES ('b')")

    await bus.start()
    bus._consumers["service.react"]._pace._mean = 0.001  # they share a transaction
    await publish(bus, *(placed(key, 1) for key in "abcd"))
    await until(lambda: _parked(bus, 1))
    await until(lambda: _settled(bus))
    (parked,) = await bus.parked.list()
    assert (parked.key, parked.attempts) == ("b", 2)
    assert "nothing was committed" in parked.error
    assert sorted(row[0] for row in await pool.fetch("SELECT id FROM seen")) == ["a", "c", "d"]
    await bus.stop()


async def test_on_postgresql_handlers_get_the_drivers_own_connection(pool, broker):
    bus = Bus(broker, Postgres(pool), "service")
    seen = []

    @bus.on(OrderPlaced, name="react", on_failure="block_key")
    async def react(event, tx):
        seen.append(await tx.connection.fetchval("SELECT $1::text", event.order_id))

    await bus.start()
    await publish(bus, placed("a", 1))
    await until(lambda: seen == ["a"])
    await bus.stop()


async def test_with_sqlalchemy_handlers_get_the_session(postgres_url, broker):
    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

    engine = create_async_engine(postgres_url.replace(":", "+asyncpg:", 1))
    bus = Bus(broker, SqlAlchemy(engine), "service")
    seen = []

    @bus.on(OrderPlaced, name="react", on_failure="block_key")
    async def react(event, tx):
        assert isinstance(tx.connection, AsyncSession)
        seen.append((await tx.connection.execute(text("SELECT 1"))).scalar())

    await bus.start()
    await publish(bus, placed("a", 1))
    await until(lambda: seen == [1])
    await bus.stop()
    await engine.dispose()


async def _count(bus, number):
    return len(await effects(bus)) == number


async def _parked(bus, number):
    return (await bus.parked.count())[0] == number


async def _settled(bus):
    health = await bus.health()
    return health.unpublished == 0 and all(one.lag == 0 for one in health.subscriptions.values())


async def test_an_event_that_is_being_handled_is_not_edited_as_well(bus):
    """The person's edit waits for the handler, and finds that there is nothing left to edit."""
    begun, ends, ran = asyncio.Event(), asyncio.Event(), []

    @bus.on(OrderPlaced, name="x", on_failure="park_key", attempts=1)
    async def handler(event, tx):
        ran.append(event.number)
        if len(ran) == 1:
            raise ValueError("the first time")
        await tx.run("INSERT INTO effects (key, number) VALUES (?, ?)", event.order_id, 1)
        begun.set()
        await ends.wait()

    await bus.start()
    await publish(bus, OrderPlaced(order_id="a", number=7))
    (parked,) = await until(bus.parked.list)
    await bus.parked.redrive()
    await begun.wait()
    edit = asyncio.create_task(bus.parked.edit(parked.id, b"{}", reason="late", actor="me"))
    asyncio.get_running_loop().call_soon(ends.set)
    with pytest.raises(NotParked):
        await edit
    assert await effects(bus) == [("a", 1)]
    assert ran == [7, 7]


async def test_an_edited_event_is_handled_in_its_turn(bus):
    seen = []

    @bus.on(OrderPlaced, name="x", on_failure="park_key", attempts=1)
    async def handler(event, tx):
        if event.number < 0:
            raise ValueError("negative")
        seen.append((event.number, current().causation))

    await bus.start()
    await publish(bus, *(OrderPlaced(order_id="a", number=n) for n in (-1, 2, 3)))
    first, *_ = await until(lambda: _parked_in_full(bus, 3))
    made = await bus.parked.edit(
        first.id, b'{"order_id": "a", "number": 1}', reason="sign", actor="me"
    )
    await bus.parked.redrive(id=first.id)
    await until(lambda: len(seen) == 3)
    assert [number for number, _ in seen] == [1, 2, 3]
    assert seen[0][1] == made.headers["ce-id"]


async def _parked_in_full(bus, count):
    found = await bus.parked.list()
    return found if len(found) == count else None
