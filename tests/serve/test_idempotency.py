"""Keyed commands on real databases: once per key, whatever goes wrong in between."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
import pytest_asyncio

from switchgear.database.port import commits
from switchgear.database.sqlite_writer import Session, Step, Unit
from switchgear.model.outcome import Rejected, Status
from switchgear.serve.idempotency import Idempotency, InProgress, Keyed, Stored, digest, unit
from tests.serve.conftest import KINDS, opened


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest_asyncio.fixture
async def database(kind, place):
    async with opened(kind, place) as database:
        async with database.transaction() as tx:
            await tx.run("CREATE TABLE done (what TEXT)")
        yield database


@pytest.fixture
def idempotency(database):
    return Idempotency(database, wait=10)


def request(key="k", body=b"body", **more):
    name = digest("", "Shop/buy", key)
    return Keyed(name, "Shop/buy", key, digest(body), retention=60.0, **more)


async def done(database):
    async with database.transaction() as tx:
        return [row[0] for row in await tx.run("SELECT what FROM done ORDER BY what")]


async def write(database, what):
    async with unit(database) as tx:
        await tx.run("INSERT INTO done VALUES (?)", what)


async def test_the_reply_is_stored_with_the_work(database, idempotency):
    runs = []

    async def work():
        runs.append(1)
        await write(database, "a")
        return Stored(b"reply")

    with commits() as effects:
        assert await idempotency.run(request(), work) == Stored(b"reply")
    assert effects.count == 1
    assert await idempotency.run(request(), work) == Stored(b"reply")
    # another process has nothing in memory
    assert await Idempotency(database).run(request(), work) == Stored(b"reply")
    assert (runs, await done(database)) == ([1], ["a"])


async def test_a_handler_without_a_transaction_is_remembered_too(database, idempotency):
    runs = []

    async def work():
        runs.append(1)
        return Stored(b"no", "shop.No")

    for one in (idempotency, idempotency, Idempotency(database)):
        assert await one.run(request(), work) == Stored(b"no", "shop.No")
    assert runs == [1]


async def test_the_same_key_with_another_message_is_rejected(database, idempotency):
    async def work():
        await write(database, "a")
        return Stored(b"reply")

    await idempotency.run(request(), work)
    with pytest.raises(Rejected) as caught:
        await idempotency.run(request(body=b"other"), work)
    assert caught.value.status is Status.FAILED_PRECONDITION
    assert await done(database) == ["a"]


async def test_a_refusal_undoes_the_work_and_is_stored(database, idempotency):
    runs = []

    async def work():
        runs.append(1)
        await write(database, "a")
        await write(database, "b")
        return Stored(b"no", "shop.No")

    for _ in range(2):
        assert await idempotency.run(request(), work) == Stored(b"no", "shop.No")
    assert (runs, await done(database)) == ([1], [])


async def test_an_error_undoes_everything_and_frees_the_key(database, idempotency):
    runs = []

    async def work():
        runs.append(1)
        await write(database, str(len(runs)))
        if len(runs) == 1:
            raise ValueError
        return Stored(b"reply")

    with pytest.raises(ValueError):
        await idempotency.run(request(), work)
    assert await done(database) == []
    assert await idempotency.run(request(), work) == Stored(b"reply")
    assert await done(database) == ["2"]


async def test_a_cancelled_request_frees_the_key(database, idempotency):
    began = asyncio.Event()

    async def slow():
        await write(database, "slow")
        began.set()
        await asyncio.Event().wait()

    async def quick():
        await write(database, "quick")
        return Stored(b"reply")

    first = asyncio.create_task(idempotency.run(request(), slow))
    await began.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await idempotency.run(request(), quick) == Stored(b"reply")
    assert await done(database) == ["quick"]


async def test_duplicates_in_one_process_wait_for_the_first(database, idempotency):
    async def work():
        await write(database, "a")
        await asyncio.sleep(0.02)
        return Stored(b"reply")

    asked = [idempotency.run(request(), work) for _ in range(20)]
    assert await asyncio.gather(*asked) == [Stored(b"reply")] * 20
    assert await done(database) == ["a"]


async def test_who_waited_in_vain_is_told_so(database):
    idempotency = Idempotency(database, wait=0.05)
    go = asyncio.Event()

    async def work():
        await go.wait()
        return Stored(b"reply")

    first = asyncio.create_task(idempotency.run(request(), work))
    await asyncio.sleep(0)
    with pytest.raises(InProgress) as caught:
        await idempotency.run(request(), work)
    assert (caught.value.key, caught.value.retry_after) == ("k", 1.0)
    go.set()
    assert await first == Stored(b"reply")


async def test_the_next_one_takes_over_when_the_first_fails(database, idempotency):
    runs = []

    async def work():
        runs.append(1)
        mine = len(runs)
        await write(database, str(mine))
        await asyncio.sleep(0.01)
        if mine == 1:
            raise ValueError
        return Stored(b"reply")

    asked = [idempotency.run(request(), work) for _ in range(3)]
    first, *others = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(first, ValueError)
    assert others == [Stored(b"reply")] * 2
    assert await done(database) == ["2"]


async def test_a_duplicate_elsewhere_meets_the_claim(database, kind, place):
    async with opened(kind, place) as other:
        here, there = Idempotency(database, wait=60), Idempotency(other, wait=60)
        await here.migrate()

        def work(where):
            async def run():
                await write(where, "a")
                await asyncio.sleep(0.1)
                return Stored(f"{id(where)}".encode())

            return run

        replies = await asyncio.gather(
            here.run(request(), work(database)), there.run(request(), work(other))
        )
        assert replies[0] == replies[1]
        assert await done(database) == ["a"]


async def test_a_handler_cannot_keep_that_it_was_answered(database, kind, place):
    """What another process stored meanwhile is the answer, even for a handler that catches all."""
    async with opened(kind, place) as other:
        here, there = Idempotency(database), Idempotency(other)
        await here.migrate()

        async def quick():
            await write(other, "a")
            return Stored(b"first")

        async def late():
            await there.run(request(), quick)
            with contextlib.suppress(BaseException):  # a handler that does the worst
                await write(database, "b")
            return Stored(b"second")

        assert await here.run(request(), late) == Stored(b"first")
        assert await done(database) == ["a"]


async def test_a_keyed_request_changes_threads_as_often_as_a_transaction_does(
    tmp_path, monkeypatch
):
    counted = []
    for kind in (Session, Step, Unit):
        begin = kind.__init__

        def count(self, *words, begin=begin, **settings):
            counted.append(type(self).__name__)
            begin(self, *words, **settings)

        monkeypatch.setattr(kind, "__init__", count)
    async with opened("sqlite", tmp_path / "a.db") as database:
        async with database.transaction() as tx:
            await tx.run("CREATE TABLE done (what TEXT)")
        plain = counted.copy()
        idempotency = Idempotency(database)
        await idempotency.migrate()

        async def work():
            await write(database, "a")
            return Stored(b"reply")

        counted.clear()
        await idempotency.run(request(), work)
        assert counted == plain


async def test_a_block_that_raises_is_undone_alone(database, idempotency):
    async def attempt(what, *, fails):
        async with unit(database) as tx:
            await tx.run("INSERT INTO done VALUES (?)", what)
            if fails:
                raise ValueError

    async def work():
        for what, fails in (("a", True), ("b", False), ("c", True), ("d", False)):
            try:
                await attempt(what, fails=fails)
            except ValueError:
                assert fails
        async with unit(database) as outer:
            await outer.run("INSERT INTO done VALUES (?)", "e")
            with pytest.raises(ValueError):
                await attempt("f", fails=True)
            await attempt("g", fails=False)
        return Stored(b"reply")

    await idempotency.run(request(), work)
    assert await done(database) == ["b", "d", "e", "g"]


async def test_a_statement_that_fails_leaves_the_rest_usable(database, idempotency):
    async def work():
        await write(database, "a")
        with pytest.raises(Exception, match="nowhere"):
            async with unit(database) as tx:
                await tx.run("INSERT INTO nowhere VALUES (?)", "b")
        await write(database, "c")
        return Stored(b"reply")

    await idempotency.run(request(), work)
    assert await done(database) == ["a", "c"]


async def test_blocks_of_concurrent_tasks_take_turns(database, idempotency):
    async def block(number):
        async with unit(database) as tx:
            await tx.run("INSERT INTO done VALUES (?)", f"{number}a")
            await asyncio.sleep(0)
            await tx.run("INSERT INTO done VALUES (?)", f"{number}b")
            if number == 1:
                raise ValueError

    async def work():
        await asyncio.gather(*(block(number) for number in range(3)), return_exceptions=True)
        return Stored(b"reply")

    await idempotency.run(request(), work)
    assert await done(database) == ["0a", "0b", "2a", "2b"]


async def test_a_task_that_outlives_its_request_has_transactions_of_its_own(database, idempotency):
    go = asyncio.Event()
    late = []

    async def afterwards():
        await go.wait()
        await write(database, "late")

    async def work():
        late.append(asyncio.create_task(afterwards()))
        await write(database, "a")
        return Stored(b"reply")

    await idempotency.run(request(), work)
    go.set()
    await late[0]
    assert await done(database) == ["a", "late"]


async def test_outside_a_keyed_request_a_unit_is_a_transaction(database):
    with commits() as effects:
        await write(database, "a")
    assert effects.count == 1


async def test_what_has_expired_is_forgotten_and_swept(database):
    now = 1000.0
    idempotency = Idempotency(database, clock=lambda: now)
    runs = []

    async def work():
        runs.append(1)
        if len(runs) == 2:
            await write(database, "a")
        return Stored(b"%d" % len(runs))

    assert await idempotency.run(request(), work) == Stored(b"1")
    now += 59.9
    assert await idempotency.run(request(), work) == Stored(b"1")
    now += 0.2
    assert await idempotency.run(request(), work) == Stored(b"2")
    assert await idempotency.run(request(), work) == Stored(b"2")
    now += 61
    assert await idempotency.run(request(), work) == Stored(b"3")
    for number in range(3):
        await idempotency.run(request(f"other-{number}"), work)
    assert await idempotency.sweep() == 0
    now += 61
    assert await idempotency.sweep() == 4
    async with database.transaction() as tx:
        assert await tx.run("SELECT 1 FROM switchgear_idempotency") == []


async def test_the_sweep_comes_by_itself(database):
    idempotency = Idempotency(database, sweep=0, clock=lambda: 1000.0)

    async def work():
        return Stored(b"reply")

    await idempotency.run(request(), work)
    await idempotency.close()
    assert idempotency._sweeping is not None


async def test_callbacks_run_after_the_reply_is_committed(database, idempotency):
    seen = []

    async def work():
        async with unit(database) as tx:
            await tx.run("INSERT INTO done VALUES (?)", "a")
            tx.after_commit(lambda: seen.append("committed"))
        seen.append("returned")
        return Stored(b"reply")

    await idempotency.run(request(), work)
    assert seen == ["returned", "committed"]


async def test_memory_keeps_the_same_rules():
    now = 0.0
    idempotency = Idempotency(None, wait=0.05, clock=lambda: now)
    runs = []

    async def work():
        runs.append(1)
        return Stored(b"%d" % len(runs))

    assert await idempotency.run(request(), work) == Stored(b"1")
    assert await idempotency.run(request(), work) == Stored(b"1")
    with pytest.raises(Rejected):
        await idempotency.run(request(body=b"other"), work)
    now = 61.0
    assert await idempotency.run(request(), work) == Stored(b"2")
    assert await idempotency.sweep() == 0
