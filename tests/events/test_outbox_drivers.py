"""The outbox in transactions of psycopg, aiosqlite and Django, on real databases."""

import aiosqlite
import psycopg
import pytest

from switchgear.database.sqlite import Sqlite
from switchgear.errors import DatabaseError
from switchgear.events.outbox import STEPS, Outbox
from tests.events.world import OrderPlaced

COUNT = "SELECT count(*) FROM switchgear_outbox"


def placed(number=1):
    return OrderPlaced(order_id="7", number=number)


@pytest.fixture
async def url(postgres_url, pool):
    from switchgear.database.postgres import Postgres

    await Postgres(pool).migrate("outbox", STEPS)
    return postgres_url


@pytest.fixture
def box():
    return Outbox("orders")


async def test_psycopg_commits_the_event_with_the_transaction_and_undoes_it_with_it(url, box):
    with psycopg.connect(url) as connection:
        box.publish_sync(connection, placed(), placed(2))
        connection.commit()
        box.publish_sync(connection, placed(3))
        connection.rollback()
        rows = connection.execute("SELECT key, data FROM switchgear_outbox ORDER BY id").fetchall()
    assert rows == [("7", b'{"order_id":"7","number":%d}' % number) for number in (1, 2)]


async def test_psycopg_in_autocommit_mode_needs_a_transaction(url, box):
    with psycopg.connect(url, autocommit=True) as connection:
        with pytest.raises(DatabaseError, match=r"autocommit.*with connection\.transaction"):
            box.publish_sync(connection, placed())
        with connection.transaction():
            box.publish_sync(connection, placed())
        assert connection.execute(COUNT).fetchone() == (1,)


async def test_psycopg_async(url, box):
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        with pytest.raises(DatabaseError, match="autocommit"):
            await box.publish(connection, placed())
        async with connection.transaction():
            await box.publish(connection, placed())
        with pytest.raises(ZeroDivisionError):
            async with connection.transaction():
                await box.publish(connection, placed(2))
                raise ZeroDivisionError
        assert await (await connection.execute(COUNT)).fetchone() == (1,)


async def test_aiosqlite(tmp_path, box):
    database = Sqlite(tmp_path / "a.db")
    await box.migrate(database)
    async with aiosqlite.connect(tmp_path / "a.db") as connection:
        await box.publish(connection, placed(), placed(2))
        await connection.commit()
        await box.publish(connection, placed(3))
        await connection.rollback()
        assert await connection.execute_fetchall(COUNT) == [(2,)]
    await database.close()


@pytest.fixture
def django():
    """Django's `connections` over SQLite and PostgreSQL, each with the outbox's tables."""
    from django import setup
    from django.conf import settings
    from django.db import connections

    if not settings.configured:
        settings.configure(DATABASES={}, USE_TZ=True)
        setup()
    opened = []

    def make(engine, **given):
        alias = f"t{len(opened)}"
        connections.settings[alias] = connections.settings.get("default", {}) | {
            "ENGINE": f"django.db.backends.{engine}",
            **given,
        }
        connections.settings = connections.configure_settings(connections.settings)
        opened.append(alias)
        return connections[alias], alias

    yield make
    for alias in opened:
        connections[alias].close()
        del connections[alias]


def commits_with_django(connection, alias, box):
    from django.db import transaction

    woken = []
    box.on_commit(lambda: woken.append(1))
    with pytest.raises(DatabaseError, match=r"outside a transaction.*transaction\.atomic"):
        box.publish_sync(connection, placed())
    with transaction.atomic(using=alias):
        box.publish_sync(connection, placed())
        assert not woken
    assert woken == [1], "the relay is woken by the commit"
    with pytest.raises(ZeroDivisionError), transaction.atomic(using=alias):
        box.publish_sync(connection, placed(2))
        raise ZeroDivisionError
    assert woken == [1]
    with connection.cursor() as cursor:
        cursor.execute(COUNT)
        assert cursor.fetchone() == (1,)


async def in_thread(work, *args):
    import asyncio

    # Django refuses its connections where an event loop runs
    await asyncio.to_thread(work, *args)


async def test_django_on_sqlite(tmp_path, box, django):
    database = Sqlite(tmp_path / "d.db")
    await box.migrate(database)
    await database.close()

    def work():
        connection, alias = django("sqlite3", NAME=str(tmp_path / "d.db"))
        commits_with_django(connection, alias, box)
        connection.close()

    await in_thread(work)


async def test_django_on_postgresql(url, box, django):
    parts = psycopg.conninfo.conninfo_to_dict(url)

    def work():
        connection, alias = django(
            "postgresql",
            NAME=parts["dbname"],
            USER=parts["user"],
            HOST=parts["host"],
            PORT=parts["port"],
        )
        commits_with_django(connection, alias, box)
        connection.close()

    await in_thread(work)
