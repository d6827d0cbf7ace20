"""The writer thread, group commit and sessions, on a real file."""

import asyncio
import sqlite3
import subprocess
import sys
import threading
from time import monotonic

import pytest

from switchgear.database.port import DatabaseUnavailable, commits
from switchgear.database.schema import SchemaError
from switchgear.database.sqlite import Sqlite
from switchgear.errors import DatabaseError, OperationError
from switchgear.model.context import Context, bind


@pytest.fixture
async def db(tmp_path):
    database = Sqlite(tmp_path / "deep" / "a.db", busy=60.0, idle=60.0)
    await database.write(lambda c: c.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)"))
    yield database
    await database.close()


def insert(a, b="x"):
    return lambda connection: connection.execute("INSERT INTO t VALUES (?, ?)", (a, b))


async def values(db):
    rows = await db.read(lambda c: c.execute("SELECT a FROM t ORDER BY a").fetchall())
    return [row[0] for row in rows]


async def test_units_that_wait_together_share_commits(db):
    statements = []
    gate, begun = threading.Event(), threading.Event()

    def hold(connection):
        connection.set_trace_callback(statements.append)
        begun.set()
        gate.wait()

    first = asyncio.ensure_future(db.write(hold))
    await asyncio.to_thread(begun.wait)
    others = [asyncio.ensure_future(db.write(insert(n))) for n in range(100)]
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(first, *others)
    assert await values(db) == list(range(100))
    assert statements.count("COMMIT") == 2


async def test_a_failing_unit_undoes_its_own_writes_and_nobody_elses(db):
    gate, begun = threading.Event(), threading.Event()

    def hold(_connection):
        begun.set()
        gate.wait()

    def fail(connection):
        connection.execute("INSERT INTO t VALUES (50, 'half')")
        raise ValueError("mine")

    first = asyncio.ensure_future(db.write(hold))
    await asyncio.to_thread(begun.wait)
    tasks = [asyncio.ensure_future(db.write(work)) for work in (insert(1), fail, insert(2))]
    await asyncio.sleep(0)
    gate.set()
    await first
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[1], ValueError)
    assert await values(db) == [1, 2]


async def test_a_unit_cancelled_while_it_waits_is_not_run(db):
    gate, begun = threading.Event(), threading.Event()

    def hold(_connection):
        begun.set()
        gate.wait()

    first = asyncio.ensure_future(db.write(hold))
    await asyncio.to_thread(begun.wait)
    doomed = asyncio.ensure_future(db.write(insert(1)))
    await asyncio.sleep(0)
    doomed.cancel()
    await asyncio.gather(doomed, return_exceptions=True)
    gate.set()
    await first
    await db.write(insert(2))
    assert await values(db) == [2]


async def test_a_session_commits_at_the_end_and_rolls_back_on_an_error(db):
    called = []
    async with db.transaction() as tx:
        await tx.execute("INSERT INTO t VALUES (?, ?)", 1, "a")
        tx.after_commit(lambda: called.append(1))
        assert await values(db) == []
    assert called == [1]
    assert await values(db) == [1]
    with pytest.raises(ZeroDivisionError):
        async with db.transaction() as tx:
            await tx.run("INSERT INTO t VALUES (?, ?)", 2, "b")
            tx.after_commit(lambda: called.append(2))
            _ = 1 / 0
    assert await values(db) == [1]
    assert called == [1]


async def test_a_cancelled_session_rolls_back_and_frees_the_writer(db):
    inside = asyncio.Event()

    async def work():
        async with db.transaction() as tx:
            await tx.execute("INSERT INTO t VALUES (1, 'a')")
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(work())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await db.write(insert(2))
    assert await values(db) == [2]


async def test_a_session_cancelled_while_it_waits_for_the_writer_leaves_nothing_behind(db):
    entered = asyncio.Event()
    leave = asyncio.Event()

    async def holder():
        async with db.transaction():
            entered.set()
            await leave.wait()

    async def waiter():
        async with db.transaction() as tx:
            await tx.execute("INSERT INTO t VALUES (1, 'a')")

    holding = asyncio.ensure_future(holder())
    await entered.wait()
    waiting = asyncio.ensure_future(waiter())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    leave.set()
    await holding
    await db.write(insert(3))
    assert await values(db) == [3]


async def test_an_idle_session_is_rolled_back_and_says_so(db):
    hasty = Sqlite(db.path, busy=60.0, idle=0.1)
    with pytest.raises(DatabaseUnavailable, match="without a statement"):
        async with hasty.transaction() as tx:
            await tx.execute("INSERT INTO t VALUES (1, 'a')")
            await hasty.write(insert(2))  # waits for the writer that this session holds
            await tx.execute("INSERT INTO t VALUES (3, 'c')")
    assert await values(db) == [2]
    await hasty.close()


async def test_a_lock_held_by_another_process_is_unavailable_and_nothing_is_written(db, tmp_path):
    script = (
        "import sqlite3, sys\n"
        f"c = sqlite3.connect({str(db.path)!r}, isolation_level=None)\n"
        "c.execute('BEGIN IMMEDIATE')\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline() == b"held\n"
        hasty = Sqlite(db.path, busy=0.1)
        with pytest.raises(DatabaseUnavailable):
            await hasty.write(insert(1))
        with pytest.raises(DatabaseUnavailable):
            async with hasty.transaction():
                pass
        await hasty.close()
        holder.stdin.close()
    await db.write(insert(2))
    assert await values(db) == [2]


async def test_nobody_waits_for_a_lock_beyond_the_time_that_the_work_has(db):
    patient = Sqlite(db.path, busy=60.0)
    holder = sqlite3.connect(db.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")

    async def session():
        async with patient.transaction():
            pytest.fail("it is locked")

    async with asyncio.timeout(60):
        # the second waits behind the first, in the queue
        for attempt in (session, session, lambda: patient.write(insert(1))):
            with bind(Context(deadline=monotonic() + 0.1)):
                with pytest.raises(DatabaseUnavailable) as caught:
                    await attempt()
                assert caught.value.retry_after == 1.0
    holder.close()
    # what was taken back is not done later either
    await patient.write(insert(2))
    async with patient.transaction() as tx:
        await tx.run("INSERT INTO t VALUES (3, 'c')")
    assert await values(db) == [2, 3]
    await patient.close()


async def test_a_transaction_may_do_something_where_it_begins_and_where_it_ends(db):
    async with db.transaction(insert(1)) as tx:
        tx.before_commit(insert(3))
        await tx.run("INSERT INTO t VALUES (2, 'b')")
    assert await values(db) == [1, 2, 3]
    with pytest.raises(sqlite3.IntegrityError):
        async with db.transaction(insert(1)):
            pytest.fail("it is there already")
    with pytest.raises(sqlite3.IntegrityError):
        async with db.transaction() as tx:
            await tx.run("INSERT INTO t VALUES (4, 'd')")
            tx.before_commit(insert(1))
    assert await values(db) == [1, 2, 3]


async def test_a_peek_sees_what_is_committed(db):
    async with db.transaction() as tx:
        await tx.run("INSERT INTO t VALUES (1, 'a')")
        assert db.peek("SELECT a FROM t WHERE a = ?", 1) == []
    assert db.peek("SELECT a FROM t WHERE a = ?", 1) == [(1,)]


async def test_the_teams_own_errors_stay_what_they_are(db):
    await db.write(insert(1))
    with pytest.raises(sqlite3.IntegrityError):
        await db.write(insert(1))
    with pytest.raises(sqlite3.IntegrityError):
        async with db.transaction() as tx:
            await tx.execute("INSERT INTO t VALUES (1, 'again')")
    await db.write(insert(2))
    assert await values(db) == [1, 2]


async def test_version_changes_with_every_commit_of_any_connection(db):
    before = db.version()
    assert db.version() == before
    await db.write(insert(1))
    assert db.version() != before


async def test_commits_counts_what_the_work_committed(db):
    with commits() as seen:
        await db.write(insert(1))
        async with db.transaction() as tx:
            await tx.execute("INSERT INTO t VALUES (2, 'b')")
        with pytest.raises(ValueError):
            async with db.transaction():
                raise ValueError
    assert seen.count == 2


async def test_migrations_run_once_and_a_newer_schema_is_refused(db):
    steps = ["CREATE TABLE m (id {serial}, data {blob}); CREATE INDEX mi ON m (data)"]
    await asyncio.gather(*[db.migrate("demo", steps) for _ in range(5)])
    steps.append("ALTER TABLE m ADD COLUMN extra {real}")
    await db.migrate("demo", steps)
    await db.write(lambda c: c.execute("INSERT INTO m (data, extra) VALUES (x'00', 1.5)"))
    with pytest.raises(SchemaError, match="version 2, and this release knows up to 1"):
        await db.migrate("demo", steps[:1])


async def test_a_closed_database_and_an_unwritable_folder_say_so(db, tmp_path):
    await db.close()
    await db.close()
    with pytest.raises(DatabaseError, match="closed"):
        await db.write(insert(1))
    with pytest.raises(DatabaseError, match="closed"):
        await values(db)
    (tmp_path / "file").write_text("")
    with pytest.raises(OperationError, match="cannot open the database"):
        await Sqlite(tmp_path / "file" / "a.db").write(insert(1))


async def test_close_finishes_what_was_queued(tmp_path):
    database = Sqlite(tmp_path / "a.db")
    await database.write(lambda c: c.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)"))
    tasks = [asyncio.ensure_future(database.write(insert(n))) for n in range(50)]
    await asyncio.sleep(0)
    await database.close()
    await asyncio.gather(*tasks)
    with sqlite3.connect(tmp_path / "a.db") as check:
        assert check.execute("SELECT count(*) FROM t").fetchone() == (50,)
    check.close()
