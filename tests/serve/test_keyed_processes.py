"""Two processes, one database, the same keys; and a process that dies in the middle."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

import pytest

from switchgear.model.context import Context, bind
from switchgear.serve.idempotency import Idempotency, InProgress, Keyed, Stored, digest, unit
from tests.serve.conftest import opened

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["sqlite", "asyncpg"])
def kind(request):
    return request.param


@asynccontextmanager
async def working(kind, place, keys, die_at=-1, stay_at=-1, first=-1):
    words = [
        "-m",
        "tests.serve.keyed_worker",
        kind,
        place,
        str(keys),
        str(die_at),
        str(stay_at),
        str(first),
    ]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *words,
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert (await process.stdout.readline()) == b"ready\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def end(process):
    out, _ = await process.communicate(b"\n")
    return json.loads(out) if out else None


async def done(database):
    async with database.transaction() as tx:
        return sorted(int(row[0]) for row in await tx.run("SELECT what FROM done"))


async def test_two_processes_do_each_once_and_say_the_same(kind, place):
    async with opened(kind, place) as database:
        async with database.transaction() as tx:
            await tx.run("CREATE TABLE done (what TEXT)")
        # each has begun before the other goes on: none is so quick that nothing is left
        async with (
            working(kind, place, 40, first=0) as one,
            working(kind, place, 40, first=20) as two,
        ):
            for process in (one, two):
                process.stdin.write(b"\n")
            for process in (one, two):
                assert await process.stdout.readline() == b"begun\n"
            first, second = await asyncio.gather(end(one), end(two))
        assert first == second
        assert set(first.values()) == {str(one.pid), str(two.pid)}
        assert await done(database) == list(range(40))


async def test_what_a_killed_process_had_begun_is_begun_anew(kind, place):
    async with opened(kind, place) as database:
        async with database.transaction() as tx:
            await tx.run("CREATE TABLE done (what TEXT)")
        async with working(kind, place, 10, die_at=5) as killed:
            assert await end(killed) is None
            assert killed.returncode == -9
        async with working(kind, place, 10) as other:
            assert set(await end(other)) == {str(number) for number in range(10)}
        assert await done(database) == list(range(10))


async def test_a_duplicate_in_another_process_waits_only_a_little(kind, place):
    """It hears that the first is in progress; that is 409, and no 503 of a locked database."""

    def request(key):
        return Keyed(digest(key), "Shop/buy", key, b"same", 60.0)

    async def unwanted():
        async with unit(database) as tx:
            await tx.run("INSERT INTO done VALUES ('twice')")
        return Stored(b"twice")

    async with opened(kind, place) as database:
        async with database.transaction() as tx:
            await tx.run("CREATE TABLE done (what TEXT)")
        here, patient = Idempotency(database, wait=0.05), Idempotency(database, wait=60)
        await here.migrate()
        await patient.migrate()
        async with working(kind, place, 1, stay_at=0) as other:
            other.stdin.write(b"\n")
            assert await other.stdout.readline() == b"inside\n"
            with pytest.raises(InProgress):
                await here.run(request("0"), unwanted)
            # so does one with more patience than time
            with bind(Context(deadline=monotonic() + 0.2)), pytest.raises(InProgress):
                await patient.run(request("0"), unwanted)
            await end(other)
            assert await here.run(request("0"), unwanted) == Stored(str(other.pid).encode())
        assert await done(database) == [0]
