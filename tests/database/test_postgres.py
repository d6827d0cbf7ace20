"""asyncpg behind the port, on a real server: what is certain when the connection is lost."""

import asyncio
from contextlib import suppress
from urllib.parse import urlsplit

import asyncpg
import pytest
from services.ports import free_port

from switchgear.database import postgres
from switchgear.database.joined import database_of, joined
from switchgear.database.port import DatabaseUnavailable, TransactionAborted, commits
from switchgear.model.outcome import Unknown
from tests.line import Line

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


async def test_what_a_caught_error_has_aborted_is_not_taken_for_committed(pool):
    database = database_of(pool)
    called = []
    for _ in range(2):  # nor does it leave anything behind in the session
        with commits() as seen, pytest.raises(TransactionAborted, match="savepoint"):
            async with database.transaction() as tx:
                tx.after_commit(lambda: called.append(1))
                await tx.run("INSERT INTO t VALUES (?, ?)", 1, "x")
                with suppress(asyncpg.UniqueViolationError):
                    await tx.run("INSERT INTO t VALUES (?, ?)", 1, "y")
        assert (called, seen.count) == ([], 0)
    async with database.transaction() as tx:
        await tx.run("INSERT INTO t VALUES (?, ?)", 1, "x")
        with suppress(asyncpg.UniqueViolationError):
            async with tx.connection.transaction():
                await tx.run("INSERT INTO t VALUES (?, ?)", 1, "y")
    assert await rows(pool) == [(1, "x")]


async def test_a_commit_that_is_refused_leaves_a_session_that_can_be_used(postgres_url):
    async with asyncpg.create_pool(postgres_url, min_size=1, max_size=1) as pool:
        await pool.execute("CREATE TABLE u (a INT UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        database = database_of(pool)
        for _ in range(2):
            with pytest.raises(asyncpg.UniqueViolationError):
                async with database.transaction() as tx:
                    await tx.run("INSERT INTO u VALUES (1)")
                    await tx.run("INSERT INTO u VALUES (1)")
        async with database.transaction() as tx:
            await tx.run("INSERT INTO u VALUES (1)")


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
    await waiting(killer)
    await killer.execute(TERMINATE)
    with pytest.raises(Unknown, match="during the commit"):
        await task
    await killer.close()


async def held(pool, killer):
    """Let inserts into t wait for lock 7, which `killer` holds."""
    await pool.execute(
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NEW; END $$"
    )
    await pool.execute(
        "CREATE TRIGGER held BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION wait()"
    )
    await killer.execute("SELECT pg_advisory_lock(7)")


async def waiting(killer):
    """Return once somebody waits for lock 7."""
    # other tests have locks of their own on the same server
    sql = (
        "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database "
        "WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted"
    )
    async with asyncio.timeout(60):
        while not await killer.fetchval(sql):
            await asyncio.sleep(0.01)


async def test_a_statement_alone_is_committed_and_counted(pool):
    database = database_of(pool)
    with commits() as seen:
        sql = "INSERT INTO t VALUES (?, ?) RETURNING b"
        assert await database.alone(sql, 1, "x") == [("x",)]
    assert seen.count == 1
    assert await rows(pool) == [(1, "x")]


async def test_what_the_server_refuses_alone_is_not_committed(pool):
    database = database_of(pool)
    await database.alone("INSERT INTO t VALUES (?, ?)", 1, "x")
    with commits() as seen, pytest.raises(asyncpg.UniqueViolationError):
        await database.alone("INSERT INTO t VALUES (?, ?)", 1, "y")
    assert seen.count == 0
    async with pool.acquire() as other, other.transaction():
        await other.execute("SELECT FROM t FOR UPDATE")
        with pytest.raises(DatabaseUnavailable, match="not committed"):
            await database.alone("SELECT b FROM t FOR UPDATE NOWAIT")
    assert await rows(pool) == [(1, "x")]


@pytest.mark.parametrize("when", ["INITIALLY IMMEDIATE", "INITIALLY DEFERRED"])
async def test_what_cannot_be_serialised_is_not_committed(pool, when):
    database = database_of(pool)
    await pool.execute(
        "CREATE FUNCTION loses() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'too late' USING ERRCODE = '40001'; END $$"
    )
    await pool.execute(
        f"CREATE CONSTRAINT TRIGGER loses AFTER INSERT ON t DEFERRABLE {when} "
        "FOR EACH ROW EXECUTE FUNCTION loses()"
    )
    with pytest.raises(DatabaseUnavailable, match="too late"):
        await database.alone("INSERT INTO t VALUES (?, ?)", 1, "x")
    with pytest.raises(DatabaseUnavailable, match="too late"):
        async with database.transaction() as tx:
            await tx.run("INSERT INTO t VALUES (?, ?)", 1, "x")
    assert await rows(pool) == []


async def test_a_connection_lost_during_a_statement_alone_is_unknown(pool, postgres_server):
    database = database_of(pool)
    killer = await asyncpg.connect(postgres_server.url)
    await held(pool, killer)
    task = asyncio.ensure_future(database.alone("INSERT INTO t VALUES (?, ?)", 1, "x"))
    await waiting(killer)
    await killer.execute(TERMINATE)
    with pytest.raises(Unknown, match="during the commit"):
        await task
    await killer.close()


async def test_who_is_cancelled_while_it_begins_leaves_a_clean_connection_behind(pool):
    told = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    database = postgres.Postgres(pool)

    async def hold():
        async with database.transaction():
            await asyncio.Event().wait()

    for steps in range(1, 12):
        task = asyncio.create_task(hold())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.gather(*database._returning)
    assert told == []
    async with database.transaction() as tx:
        assert await tx.run("SELECT 1") == [(1,)]


async def test_a_statement_alone_that_is_cancelled_ends_first(pool, postgres_server):
    database = database_of(pool)
    killer = await asyncpg.connect(postgres_server.url)
    await held(pool, killer)
    task = asyncio.ensure_future(database.alone("INSERT INTO t VALUES (?, ?)", 1, "x"))
    await waiting(killer)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    await killer.execute("SELECT pg_advisory_unlock(7)")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await rows(pool) == [(1, "x")]
    await killer.close()


async def test_a_kept_connection_that_was_lost_is_not_used(pool, postgres_server, monkeypatch):
    monkeypatch.setattr(postgres, "_KEPT", 120.0)
    database = database_of(pool)
    killer = await asyncpg.connect(postgres_server.url)
    await database.alone("INSERT INTO t VALUES (?, ?)", 1, "x")
    await killer.execute(TERMINATE)
    async with asyncio.timeout(60):  # the end of the connection arrives
        while not database._lost(database._kept[0]):
            await asyncio.sleep(0.005)
    await database.alone("INSERT INTO t VALUES (?, ?)", 2, "x")
    assert await rows(pool) == [(1, "x"), (2, "x")]
    database._let_go()
    await killer.close()


async def test_a_connection_that_ended_while_it_was_kept_is_not_used(pool, monkeypatch):
    monkeypatch.setattr(postgres, "_KEPT", 60.0)
    database = database_of(pool)
    for number in range(3):
        await database.alone("INSERT INTO t VALUES (?, ?)", number, "x")
        database._kept[0].terminate()  # the pool takes it back, and it answers nothing any more
    await asyncio.sleep(0)
    assert len(await rows(pool)) == 3


async def test_statements_alone_hand_their_connection_on_and_then_back(postgres_url):
    async with asyncpg.create_pool(postgres_url, min_size=1, max_size=1) as pool:
        database = database_of(pool)
        sessions = {(await database.alone("SELECT pg_backend_pid()"))[0] for _ in range(3)}
        async with database.reading() as reader:
            sessions |= set(await reader.run("SELECT pg_backend_pid()"))
        assert len(sessions) == 1
        assert pool.get_idle_size() == 0
        # a team that asks the pool itself gets its only connection all the same
        assert await pool.fetchval("SELECT 1", timeout=60) == 1
        async with database.transaction() as tx:
            await tx.execute("SET statement_timeout = 12345")
        # what a transaction left in its session is not there any more
        assert await database.alone("SHOW statement_timeout") == [("0",)]


async def test_our_statements_do_not_keep_the_pools_last_connection_from_others(postgres_url):
    async with asyncpg.create_pool(postgres_url, min_size=1, max_size=1) as pool:
        database = database_of(pool)
        ended = asyncio.Event()

        async def busily():
            while not ended.is_set():
                await database.alone("SELECT 1")

        busy = asyncio.create_task(busily())
        await asyncio.sleep(0)
        for _ in range(3):
            assert await pool.fetchval("SELECT 1", timeout=60) == 1
            async with database.transaction() as tx:
                assert await tx.run("SELECT 1") == [(1,)]
        ended.set()
        await busy


async def test_a_teams_transaction_is_set_up_by_its_pool(postgres_url):
    prepared = []

    async def setup(connection):
        prepared.append(connection)

    async with asyncpg.create_pool(postgres_url, min_size=1, max_size=2, setup=setup) as pool:
        database = database_of(pool)
        for _ in range(3):
            await database.alone("SELECT 1")
            before = len(prepared)
            async with database.transaction():
                assert len(prepared) == before + 1


async def test_who_was_cancelled_does_not_wait_for_an_answer_without_end(pool, monkeypatch):
    monkeypatch.setattr(postgres, "_ANSWER", 0.1)
    database = database_of(pool)
    waiting = asyncio.create_task(database.alone("SELECT pg_sleep(60)"))
    await asyncio.sleep(0.05)
    waiting.cancel()
    async with asyncio.timeout(60):
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert await database.alone("SELECT 1") == [(1,)]


@pytest.mark.parametrize("statements", [0, 1])
async def test_a_silent_server_holds_up_nobody_whose_time_is_over(
    postgres_server, monkeypatch, statements
):
    monkeypatch.setattr(postgres, "_ANSWER", 0.1)
    port = urlsplit(postgres_server.url).port
    async with Line(port) as line:
        url = postgres_server.url.replace(f":{port}", f":{line.port}")
        pool = await asyncpg.create_pool(url, min_size=1, max_size=2)
        database = database_of(pool)

        async def work():
            async with asyncio.timeout(0.1), database.transaction() as tx:
                for _ in range(statements):
                    line.silence()
                    await tx.run("SELECT 1")

        if not statements:
            line.silence()
        working = asyncio.create_task(work())
        done, _ = await asyncio.wait([working], timeout=30)
        assert done
        assert isinstance(working.exception(), TimeoutError)
        async with asyncio.timeout(30):
            await asyncio.gather(*database._returning)
        pool.terminate()


async def test_what_is_read_is_committed(pool):
    database = database_of(pool)
    async with database.transaction() as tx, database.reading() as reader:
        await tx.run("INSERT INTO t VALUES (?, ?)", 1, "x")
        assert await reader.run("SELECT a FROM t") == []
    async with database.reading() as reader:
        assert await reader.run("SELECT a FROM t") == [(1,)]


async def test_no_server_is_unavailable():
    url = f"postgresql://switchgear@127.0.0.1:{free_port()}/postgres"
    pool = await asyncpg.create_pool(url, min_size=0, max_size=1)
    with pytest.raises(DatabaseUnavailable):
        async with database_of(pool).transaction():
            pass
    with pytest.raises(DatabaseUnavailable):
        await database_of(pool).alone("SELECT 1")
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
