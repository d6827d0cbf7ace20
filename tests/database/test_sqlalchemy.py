"""SQLAlchemy's AsyncEngine behind the port, and sessions that the team opened itself."""

import asyncio
import sqlite3
from contextlib import suppress
from time import monotonic
from urllib.parse import urlsplit

import asyncpg
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session

from switchgear.database import sqlalchemy
from switchgear.database.joined import database_of, is_database, joined, joined_sync
from switchgear.database.port import DatabaseUnavailable, TransactionAborted, commits
from switchgear.database.sqlalchemy import SqlAlchemy
from switchgear.errors import DatabaseError
from switchgear.model.context import Context, bind
from tests.line import Line


@pytest.fixture
async def engine(tmp_path):
    engine = create_async_engine(
        f"sqlite+aiosqlite:///{tmp_path}/a.db", connect_args={"timeout": 0.1}
    )
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)"))
    yield engine
    await engine.dispose()


async def rows(engine):
    async with engine.connect() as connection:
        return [tuple(row) for row in await connection.execute(text("SELECT a, b FROM t"))]


async def test_a_transaction_commits_and_calls_back(engine):
    database = database_of(engine)
    assert isinstance(database, SqlAlchemy)
    called = []
    with commits() as seen:
        async with database.transaction() as tx:
            await tx.run("INSERT INTO t VALUES (?, ?)", 1, "it's ?")
            assert isinstance(tx.connection, AsyncSession)
            assert await tx.execute("SELECT b FROM t WHERE a = :p1", 1) == [("it's ?",)]
            tx.after_commit(lambda: called.append(1))
    assert (called, seen.count) == ([1], 1)
    assert await rows(engine) == [(1, "it's ?")]


async def test_an_error_rolls_back(engine):
    database = database_of(async_sessionmaker(engine))
    with pytest.raises(ValueError):
        async with database.transaction() as tx:
            await tx.run("INSERT INTO t VALUES (?, ?)", 1, "x")
            raise ValueError
    assert await rows(engine) == []


async def test_a_lock_held_elsewhere_is_unavailable(engine, tmp_path):
    holder = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseUnavailable):
        async with database_of(engine).transaction() as tx:
            await tx.run("INSERT INTO t VALUES (?, ?)", 1, "x")
    holder.close()


async def test_nobody_waits_beyond_the_time_that_the_work_has(tmp_path):
    engine = create_async_engine(
        f"sqlite+aiosqlite:///{tmp_path}/a.db",
        connect_args={"timeout": 30},
        pool_size=1,
        max_overflow=0,
    )
    database = database_of(engine)
    async with database.transaction() as tx:
        await tx.run("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)")
    holder = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    async with asyncio.timeout(60):
        with bind(Context(deadline=monotonic() + 0.1)), pytest.raises(DatabaseUnavailable):
            async with database.transaction():
                pytest.fail("it is locked")
        holder.close()
        async with database.transaction():  # the pool's one connection
            with bind(Context(deadline=monotonic() + 0.1)), pytest.raises(DatabaseUnavailable):
                async with database.transaction():
                    pytest.fail("there is no connection")
    await engine.dispose()


async def test_migrations(engine):
    database = database_of(engine)
    for _ in range(2):
        await database.migrate("demo", ["CREATE TABLE m (id {serial}, data {blob})"])
    async with database.transaction() as tx:
        await tx.run("INSERT INTO m (data) VALUES (?)", b"\x00")
        assert await tx.run("SELECT id, data FROM m") == [(1, b"\x00")]


async def test_joined_adds_to_the_teams_own_transaction(engine):
    async with AsyncSession(engine) as session:
        await joined(session).run("INSERT INTO t VALUES (?, ?)", 1, "mine")
        await session.rollback()
    assert await rows(engine) == []
    async with engine.begin() as connection:
        await joined(connection).run("INSERT INTO t VALUES (?, ?)", 1, "mine")
    assert await rows(engine) == [(1, "mine")]


def test_joined_sync_takes_sqlite3_and_sessions(tmp_path):
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE t (a INTEGER)")
    tx = joined_sync(connection)
    tx.run("INSERT INTO t VALUES (?)", 5)
    assert (tx.dialect, tx.run("SELECT a FROM t")) == ("sqlite", [(5,)])
    connection.close()

    engine = create_engine("sqlite://")
    with Session(engine) as session:
        session.execute(text("CREATE TABLE t (a INTEGER)"))
        tx = joined_sync(session)
        tx.run("INSERT INTO t VALUES (?)", 6)
        assert tx.run("SELECT a FROM t") == [(6,)]
    engine.dispose()
    assert joined_sync(object()) is None


def test_what_is_no_database_is_refused_by_name():
    assert not is_database("orders.db")
    with pytest.raises(DatabaseError, match="builtins.str is not a database"):
        database_of("orders.db")
    with pytest.raises(DatabaseError, match="Use switchgear.Sqlite"):
        joined(object())


async def test_what_a_caught_error_has_aborted_is_not_taken_for_committed(postgres_url):
    engine = create_async_engine(postgres_url.replace("postgresql:", "postgresql+asyncpg:"))
    database = database_of(engine)
    async with database.transaction() as tx:
        await tx.run("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)")
    with pytest.raises(TransactionAborted):
        async with database.transaction() as tx:
            await tx.run("INSERT INTO t VALUES (?, ?)", 1, "x")
            with suppress(IntegrityError):
                await tx.run("INSERT INTO t VALUES (?, ?)", 1, "y")
    async with database.transaction() as tx:
        await tx.run("INSERT INTO t VALUES (?, ?)", 1, "x")
        with suppress(IntegrityError):
            async with tx.connection.begin_nested():
                await tx.run("INSERT INTO t VALUES (?, ?)", 1, "y")
    assert await rows(engine) == [(1, "x")]
    await engine.dispose()


_LATE = """
CREATE TABLE t (a INT, b TEXT);
CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION late();
"""
"""Makes the commit of a row wait for a lock."""
_WAITS = """
SELECT 1 FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted
"""


@pytest.mark.parametrize("times", [1, 2])
async def test_who_was_cancelled_does_not_wait_for_a_commit_without_end(
    postgres_url, monkeypatch, times
):
    monkeypatch.setattr(sqlalchemy, "_ANSWER", 0.1)
    monkeypatch.setattr(sqlalchemy, "_ENDED", (60.0, 60.0))
    engine = create_async_engine(postgres_url.replace(":", "+asyncpg:", 1), pool_size=1)

    async def work():
        async with database_of(engine).transaction() as tx:
            await tx.run("INSERT INTO t VALUES (?, ?)", 1, "x")

    holder = await asyncpg.connect(postgres_url)
    await holder.execute(f"{_LATE} SELECT pg_advisory_lock(7)")
    working = asyncio.create_task(work())
    async with asyncio.timeout(60):
        while not await holder.fetch(_WAITS):
            await asyncio.sleep(0.01)
    for _ in range(times):
        working.cancel()
        await asyncio.sleep(0.01)
    done, _ = await asyncio.wait([working], timeout=60)
    assert done, "the commit is answered once the lock is free"
    assert working.cancelled()
    assert engine.pool.checkedout() == 0
    assert await rows(engine) == []
    await holder.close()
    await engine.dispose()


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_who_was_cancelled_does_not_wait_for_a_silent_server(
    postgres_server, monkeypatch, driver
):
    monkeypatch.setattr(sqlalchemy, "_ANSWER", 0.1)
    monkeypatch.setattr(sqlalchemy, "_ENDED", (0.1, 60.0))
    port = urlsplit(postgres_server.url).port
    async with Line(port) as line:
        url = postgres_server.url.replace(f":{port}", f":{line.port}")
        engine = create_async_engine(url.replace(":", f"+{driver}:", 1), pool_size=1)
        committing = asyncio.Event()

        class Session(AsyncSession):
            async def commit(self):
                line.silence()
                committing.set()
                await super().commit()

        async def work():
            async with SqlAlchemy(
                engine, async_sessionmaker(engine, class_=Session)
            ).transaction() as tx:
                await tx.run("CREATE TEMPORARY TABLE t (a INT)")

        working = asyncio.create_task(work())
        async with asyncio.timeout(60):
            await committing.wait()
        working.cancel()
        done, _ = await asyncio.wait([working], timeout=60)
        assert done
        assert working.cancelled()
        assert engine.pool.checkedout() == 0
        await engine.dispose()
