"""The outbox on every kind of transaction that a team may have open; PostgreSQL for real."""

import sqlite3
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from switchgear.database.postgres import Postgres
from switchgear.database.sqlalchemy import SqlAlchemy
from switchgear.database.sqlite import Sqlite
from switchgear.errors import DatabaseError, EventDeclarationError
from switchgear.events.brokers.port import RecordTooLarge
from switchgear.events.outbox import InvalidEvent, Outbox
from switchgear.model.context import Context, bind
from tests.events.world import News, OrderCancelled, OrderPlaced

READ = "SELECT topic, key, data FROM switchgear_outbox ORDER BY id"
PLACED = ("test.orders", "7", b'{"order_id":"7","number":1}')


def outbox(**settings):
    return Outbox("orders", **settings)


def placed(number=1):
    return OrderPlaced(order_id="7", number=number)


def headers(prepared):
    return msgspec.json.decode(prepared.headers)


def test_an_event_becomes_a_cloudevent():
    prepared = outbox(ids=lambda: "id-1", clock=lambda: 1_700_000_000.0).prepare(placed())
    assert (prepared.topic, prepared.key, prepared.data) == PLACED
    assert headers(prepared) == {
        "ce-specversion": "1.0",
        "ce-id": "id-1",
        "ce-type": "test.orders.OrderPlaced",
        "ce-source": "orders",
        "ce-time": "2023-11-14T22:13:20Z",
        "content-type": "application/json",
        "ce-subject": "7",
        "ce-partitionkey": "7",
        "ce-correlationid": "id-1",
    }


def test_an_unordered_event_has_no_key():
    prepared = outbox().prepare(News(number=1))
    assert prepared.key is None
    assert "ce-partitionkey" not in headers(prepared)


def test_the_context_goes_along():
    context = Context(
        deadline=1.0,
        correlation="first",
        causation="cause",
        traceparent="00-a-b-01",
        tracestate="x=y",
    )
    with bind(context):
        found = headers(outbox().prepare(placed()))
    assert found["ce-correlationid"] == "first"
    assert found["ce-causationid"] == "cause"
    assert found["ce-traceparent"] == "00-a-b-01"
    assert found["ce-tracestate"] == "x=y"
    assert "ce-expirytime" not in found, "a request's deadline does not bound the news of it"


def test_a_deadline_is_carried_if_it_is_given():
    at = datetime(2030, 1, 1, tzinfo=UTC)
    assert headers(outbox().prepare(placed(), deadline=at))["ce-expirytime"] == (
        "2030-01-01T00:00:00Z"
    )


def test_protobuf_is_a_setting():
    prepared = outbox(format="protobuf").prepare(placed())
    assert headers(prepared)["content-type"] == "application/protobuf"
    assert prepared.data == b"\n\x017\x10\x01"


@pytest.mark.parametrize("key", ["", None])
def test_a_keyed_event_without_a_key_is_refused_at_the_call(key):
    with pytest.raises(InvalidEvent, match="order_id of this event is empty"):
        outbox().prepare(OrderPlaced(order_id=key, number=1))


@pytest.mark.parametrize("form", ["json", "protobuf"])
def test_a_value_of_another_type_is_refused_at_the_call(form):
    with pytest.raises(InvalidEvent, match="number"):
        outbox(format=form).prepare(OrderPlaced(order_id="7", number="many"))


def test_a_message_that_is_not_an_event_is_refused():
    from switchgear.contract.message import Message, field

    class Plain(Message):
        text: str = field(1)

    with pytest.raises(EventDeclarationError, match="not declared as an event"):
        outbox().prepare(Plain(text="x"))


def test_a_deadline_without_a_time_zone_is_refused():
    with pytest.raises(InvalidEvent, match="time zone"):
        outbox().prepare(placed(), deadline=datetime(2030, 1, 1))  # noqa: DTZ001  the point


def test_an_event_over_the_brokers_limit_is_refused_at_the_call():
    with pytest.raises(RecordTooLarge, match="takes 100"):
        outbox(max_bytes=100).prepare(placed())


# the kinds of transactions


async def test_a_transaction_of_ours(database):
    box = outbox()
    await box.migrate(database)
    woken = []
    box.on_commit(lambda: woken.append(1))
    async with database.transaction() as tx:
        await box.publish(tx, placed())
        assert not woken
    assert woken == [1]
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as tx:
            await box.publish(tx, placed(2))
            raise ZeroDivisionError
    assert woken == [1]
    assert await database.read(lambda one: one.execute(READ).fetchall()) == [PLACED]


async def test_many_events_keep_their_order(database):
    box = outbox()
    await box.migrate(database)
    async with database.transaction() as tx:
        await box.publish(tx, *(placed(number) for number in range(100)))
    rows = await database.read(lambda one: one.execute(READ).fetchall())
    numbers = [msgspec.json.decode(row[2])["number"] for row in rows]
    assert numbers == list(range(100))


async def test_a_sqlite3_connection_of_the_teams_own(database):
    box = outbox()
    await box.migrate(database)
    connection = sqlite3.connect(database.path)
    with connection:
        box.publish_sync(connection, placed())
        await box.publish(connection, OrderCancelled(order_id="8", number=2))
    with pytest.raises(ZeroDivisionError), connection:
        box.publish_sync(connection, placed(3))
        raise ZeroDivisionError
    assert [row[1] for row in connection.execute(READ)] == ["7", "8"]
    connection.close()


async def test_a_synchronous_sqlalchemy_session_and_connection(database):
    from sqlalchemy import create_engine
    from sqlalchemy.orm import Session

    box = outbox()
    await box.migrate(database)
    engine = create_engine(f"sqlite:///{database.path}")
    with Session(engine) as session:
        box.publish_sync(session, placed())
        session.commit()
        box.publish_sync(session, placed())
        session.rollback()
    with engine.begin() as connection:
        box.publish_sync(connection, placed())
    engine.dispose()
    assert await database.read(lambda one: one.execute(READ).fetchall()) == [PLACED, PLACED]


async def test_an_async_session_over_aiosqlite(tmp_path):
    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}")
    box = outbox()
    await box.migrate(SqlAlchemy(engine))
    async with AsyncSession(engine) as session, session.begin():
        await box.publish(session, placed())
    async with AsyncSession(engine) as session:
        await box.publish(session, placed())
        await session.rollback()
    async with engine.connect() as connection:
        rows = await connection.execute(text(READ))
        assert [tuple(row) for row in rows] == [PLACED]
    await engine.dispose()


async def test_an_asyncpg_connection_of_the_teams_own(pool):
    box = outbox()
    await box.migrate(Postgres(pool))
    async with pool.acquire() as connection:
        async with connection.transaction():
            await box.publish(connection, placed())
        with pytest.raises(ZeroDivisionError):
            async with connection.transaction():
                await box.publish(connection, placed())
                raise ZeroDivisionError
    assert [tuple(row) for row in await pool.fetch(READ)] == [PLACED]


async def test_many_events_on_postgresql(pool):
    box = outbox()
    database = Postgres(pool)
    await box.migrate(database)
    async with database.transaction() as tx:
        await box.publish(tx, *(placed(number) for number in range(50)))
    rows = [msgspec.json.decode(row[2])["number"] for row in await pool.fetch(READ)]
    assert rows == list(range(50))


async def test_an_async_session_and_connection_on_postgresql(postgres_url):
    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

    engine = create_async_engine(postgres_url.replace("postgresql:", "postgresql+asyncpg:"))
    box = outbox()
    await box.migrate(SqlAlchemy(engine))
    async with AsyncSession(engine) as session, session.begin():
        await box.publish(session, placed())
    async with engine.begin() as connection:
        await box.publish(connection, placed())
    async with engine.connect() as connection:
        assert [tuple(row) for row in await connection.execute(text(READ))] == [PLACED, PLACED]
    await engine.dispose()


async def test_what_must_be_awaited_cannot_be_published_to_at_once(database):
    async with database.transaction() as tx:
        with pytest.raises(DatabaseError, match=r"await outbox\.publish"):
            outbox().publish_sync(tx, placed())


async def test_migrating_twice_is_allowed(database, tmp_path):
    await outbox().migrate(database)
    other = Sqlite(tmp_path / "service.db")
    await outbox().migrate(other)
    await other.close()


def test_ids_are_given_by_the_generator_and_times_by_the_clock():
    at = datetime.now(UTC) - timedelta(days=1)
    prepared = outbox(ids=iter("ab").__next__, clock=at.timestamp).prepare(placed())
    assert (prepared.event, prepared.created) == ("a", at.timestamp())


@pytest.mark.parametrize("mode", ["binary", "structured"])
def test_a_nul_is_refused_at_the_call_whatever_the_broker(mode):
    with pytest.raises(InvalidEvent, match="the key order_id of this event has the character NUL"):
        outbox(mode=mode).prepare(OrderPlaced(order_id="a\0b", number=1))
    with (
        bind(Context(deadline=1.0, correlation="a\0b")),
        pytest.raises(InvalidEvent, match="the attribute ce-correlationid of this event has"),
    ):
        outbox(mode=mode).prepare(placed())
