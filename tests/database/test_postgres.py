"""asyncpg behind the port, on a real server: what is certain when the connection is lost."""

import asyncio

import asyncpg
import pytest
from services.process import free_port

from switchgear.database.joined import database_of, joined
from switchgear.database.port import DatabaseUnavailable, commits
from switchgear.model.outcome import Unknown

TERMINATE = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE pid <> pg_backend_pid() AND datname = current_database()"
)


@pytest.fixture
async def pool(postgres_url):
    pool = await asyncpg.create_pool(postgres_url, min_size=1, max_size=4)
    await pool.execute("CREATE TABLE t (a BIGINT PRIMARY KEY, b TEXT)")
    yield pool
    await pool.close()


async def rows(pool):
    return [tuple(row) for row in await pool.fetch("SELECT a, b FROM t ORDER BY a")]


async def test_a_transaction_commits_and_calls_back(pool):
    database = database_of(pool)
    called = []
    with commits() as seen:
        async with database.transaction() as tx:
            await tx.run("INSERT INTO t VALUES (?, ?)", 1, "x")
            assert await tx.execute("SELECT b FROM t WHERE a = $1", 1) == [("x",)]
            tx.after_commit(lambda: called.append(1))
    assert (called, seen.count) == ([1], 1)
    assert await rows(pool) == [(1, "x")]


async def test_an_error_rolls_back_and_stays_what_it_is(pool):
    database = database_of(pool)
    with pytest.raises(asyncpg.UniqueViolationError):
        async with database.transaction() as tx:
            await tx.run("INSERT INTO t VALUES (?, ?)", 1, "x")
            await tx.run("INSERT INTO t VALUES (?, ?)", 1, "y")
    assert await rows(pool) == []


async def test_a_connection_lost_before_the_commit_is_unavailable(pool, postgres_server):
    database = database_of(pool)
    killer = await asyncpg.connect(postgres_server.url)
    with pytest.raises(DatabaseUnavailable, match="before the commit"):
        async with database.transaction() as tx:
            await tx.run("INSERT INTO t VALUES (?, ?)", 1, "x")
            await killer.execute(TERMINATE)
            await tx.run("INSERT INTO t VALUES (?, ?)", 2, "x")
    assert await killer.fetchval("SELECT count(*) FROM t") == 0
    await killer.close()


async def test_a_connection_lost_during_the_commit_is_unknown(pool, postgres_server):
    database = database_of(pool)
    killer = await asyncpg.connect(postgres_server.url)
    # a deferred constraint runs inside COMMIT, and holds it long enough to be cut
    await pool.execute(
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_advisory_lock(7); RETURN NULL; END $$"
    )
    await pool.execute(
        "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION wait()"
    )
    await killer.execute("SELECT pg_advisory_lock(7)")

    async def work():
        async with database.transaction() as tx:
            await tx.run("INSERT INTO t VALUES (?, ?)", 1, "x")

    task = asyncio.ensure_future(work())
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    async with asyncio.timeout(10):
        while not await killer.fetchval(waiting):
            await asyncio.sleep(0.01)
    await killer.execute(TERMINATE)
    with pytest.raises(Unknown, match="during the commit"):
        await task
    await killer.close()


async def test_no_server_is_unavailable():
    url = f"postgresql://switchgear@127.0.0.1:{free_port()}/postgres"
    pool = await asyncpg.create_pool(url, min_size=0, max_size=1)
    with pytest.raises(DatabaseUnavailable):
        async with database_of(pool).transaction():
            pass
    await pool.close()


async def test_migrations_of_two_processes_do_not_collide(pool):
    steps = ["CREATE TABLE m (id {serial}, data {blob}, at {real})"]
    await asyncio.gather(*[database_of(pool).migrate("demo", steps) for _ in range(4)])
    async with database_of(pool).transaction() as tx:
        await tx.run("INSERT INTO m (data, at) VALUES (?, ?)", b"\x00", 1.5)
        assert await tx.run("SELECT id, data, at FROM m") == [(1, b"\x00", 1.5)]


async def test_joined_adds_to_the_teams_own_transaction(pool):
    async with pool.acquire() as connection:
        outer = connection.transaction()
        await outer.start()
        await joined(connection).run("INSERT INTO t VALUES (?, ?)", 1, "x")
        await outer.rollback()
        async with connection.transaction():
            await joined(connection).run("INSERT INTO t VALUES (?, ?)", 2, "x")
    assert await rows(pool) == [(2, "x")]
