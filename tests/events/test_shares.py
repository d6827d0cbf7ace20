"""Keys are leased to one relay at a time: relays of one database share them, and hand them over."""

import asyncio
import json
import signal
import subprocess
import sys
from collections import defaultdict
from contextlib import asynccontextmanager
from types import SimpleNamespace

import asyncpg
import msgspec
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from switchgear.database.postgres import Postgres
from switchgear.database.sqlalchemy import SqlAlchemy
from switchgear.events import floor
from switchgear.events.brokers.postgres import PostgresBroker
from switchgear.events.outbox import Outbox
from switchgear.events.pending import Pending
from switchgear.events.refused import Refused
from switchgear.events.relay import Relay
from switchgear.events.shares import PARTS, Shares
from tests.events.test_relay import Recorder, placed
from tests.events.world import until

ALL = list(range(PARTS["postgres"]))


@pytest.fixture
async def pool(postgres_url):
    pool = await asyncpg.create_pool(postgres_url, min_size=1, max_size=8)
    await Outbox("orders").migrate(Postgres(pool))
    yield pool
    await pool.close()


@pytest.fixture
def share(pool):
    return lambda name, lease=30.0: Shares(Postgres(pool), name, lease)


async def test_the_first_has_all_and_gives_up_half_to_a_second(share):
    one, two = share("one"), share("two")
    assert await one.beat()
    assert (one.parts, one.all, one.settled) == (ALL, True, True)
    assert not await two.beat()
    assert (two.parts, two.settled) == ([], False)
    assert not await one.beat()
    assert len(one.parts) == len(ALL) / 2
    assert await two.beat()
    assert sorted(one.parts + two.parts) == ALL
    assert two.settled
    assert not await one.beat()
    assert not await two.beat()


async def test_what_is_left_or_has_run_out_goes_to_who_is_there(share):
    one, two, three = share("one"), share("two", lease=0.0), share("three")
    await two.beat()
    await asyncio.sleep(0.01)
    assert await one.beat()
    assert one.all
    await one.leave()
    assert not one.parts
    assert await three.beat()
    assert three.all
    # whoever comes back late has nothing any more, and knows it
    await two.beat()
    assert not two.parts


async def test_beats_at_once_give_each_part_to_one(share):
    shares = [share(f"r{number}") for number in range(5)]
    for _ in range(4):
        await asyncio.gather(*(each.beat() for each in shares))
    assert sorted(part for each in shares for part in each.parts) == ALL
    assert all(len(each.parts) in {3, 4} for each in shares)


async def test_parts_split_the_keys_whatever_the_driver(pool, postgres_url):
    outbox = Outbox("orders")
    for number in range(200):
        await write(pool, outbox, [number], f"k-{number}")
    engine = create_async_engine(postgres_url.replace("postgresql", "postgresql+asyncpg"))
    for database in (Postgres(pool), SqlAlchemy(engine)):
        pending = Pending(database)
        halves = [await pending.read(parts, 1000, Refused()) for parts in (ALL[:8], ALL[8:])]
        assert all(60 < len(half) < 140 for half in halves)
        assert {row[2] for half in halves for row in half} == {f"k-{n}" for n in range(200)}
    await pending.delete(halves[0], gaps=False)
    assert await pending.read(None, 1000, Refused()) == halves[1]
    await pool.execute("UPDATE switchgear_outbox SET key = NULL")
    some, others = [await pending.read(parts, 1000, Refused()) for parts in (ALL[:8], ALL[8:])]
    assert some
    assert others
    assert len(some) + len(others) == len(halves[1])
    await engine.dispose()


async def write(pool, outbox, numbers, key="a"):
    async with pool.acquire() as connection, connection.transaction():
        await outbox.publish(connection, *(placed(number, key) for number in numbers))


async def test_a_late_commit_is_found_below_where_reads_begin(pool, monkeypatch):
    monkeypatch.setattr(floor, "LOOK", 0.0)
    outbox, broker = Outbox("orders"), Recorder()
    relay = Relay(Postgres(pool), broker, batch=5)
    await relay.start()
    reads = relay._pending._floor
    async with pool.acquire() as late, late.transaction():
        await outbox.publish(late, placed(1, "late"))
        for first in range(0, 40, 10):
            await write(pool, outbox, range(first, first + 10))
        await until(lambda: len(broker.records) == 40)
        assert reads.serial <= 1
    await until(lambda: broker.numbers("late") == [1])
    await write(pool, outbox, range(40, 70))
    await until(lambda: len(broker.records) == 71)
    await until(lambda: reads.serial > 40)
    assert broker.numbers("a") == list(range(70))
    await relay.stop()


class Explained(Postgres):
    """Notes how many rows of the outbox each read passes over."""

    def __init__(self, pool):
        super().__init__(pool)
        self.passed = []

    @asynccontextmanager
    async def reading(self):
        async with super().reading() as tx:
            run = tx.run

            async def explained(sql, *args):
                if sql.startswith("SELECT id, topic"):
                    [(plan,)] = await run(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", *args)
                    self.passed.append(passed_over(json.loads(plan)[0]["Plan"]))
                return await run(sql, *args)

            yield SimpleNamespace(run=explained, dialect=tx.dialect)


def passed_over(plan):
    """Return how many rows the scans of a plan have looked at."""
    inner = [passed_over(one) for one in plan.get("Plans", [])]
    if inner:
        return sum(inner)
    return plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)


async def test_a_relay_with_few_keys_does_not_read_over_anothers_again_and_again(pool, monkeypatch):
    monkeypatch.setattr(floor, "LOOK", 0.0)
    monkeypatch.setattr(floor, "FRONT", float("inf"))
    await pool.execute(
        "INSERT INTO switchgear_outbox (topic, key, event, headers, data, created) "
        "SELECT 't', 'busy', n::text, '{}', '', 0 FROM generate_series(1, 20000) AS n"
    )
    await pool.execute("ANALYZE switchgear_outbox")  # or it is up to the moment how it is read
    busy = await pool.fetchval("SELECT hashtext('busy') & 15")
    quiet = await pool.fetchval(
        "SELECT min(k) FROM (SELECT 'k-' || generate_series(1, 100) AS k) AS keys "
        "WHERE hashtext(k) & 15 <> $1",
        busy,
    )
    database = Explained(pool)
    pending, mine = Pending(database), [part for part in ALL if part != busy]
    for _ in range(4):
        assert await pending.read(mine, 1000, Refused()) == []
    assert database.passed == [20_000, 20_000, 20_000, 0]
    outbox = Outbox("orders")
    async with pool.acquire() as late, late.transaction():
        await outbox.publish(late, placed(1, quiet))
        await write(pool, outbox, [2], "busy")
        for _ in range(3):
            assert await pending.read(mine, 1000, Refused()) == [], "it is not committed"
    rows = await pending.read(mine, 1000, Refused())
    assert [row[2] for row in rows] == [quiet]
    assert max(database.passed[4:]) < 5
    await pending.delete(rows, gaps=False)
    await write(pool, outbox, [3], quiet)
    assert len(await pending.read(mine, 1000, Refused())) == 1
    assert max(database.passed[4:]) < 5


RELAY = """
import asyncio, sys
import asyncpg
from switchgear.database.postgres import Postgres
from switchgear.database.sqlalchemy import SqlAlchemy
from switchgear.events.brokers.postgres import PostgresBroker
from switchgear.events.relay import Relay

async def main(url):
    async with asyncpg.create_pool(url, min_size=1, max_size=2) as pool:
        broker = PostgresBroker(url, connections=2)
        relay = Relay(Postgres(pool), broker, lease=1.0, batch=40)
        await relay.start()
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)  # until the test says so
        await relay.stop()
        await broker.close()

asyncio.run(main(sys.argv[1]))
"""
PUBLISHED = "SELECT key, value FROM switchgear_log ORDER BY part, place"


def relay_process(url):
    process = subprocess.Popen(
        [sys.executable, "-c", RELAY, url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n", f"it ended with {process.wait()}"
    return process


@pytest.fixture
def relays(postgres_url):
    started = []

    def start():
        started.append(relay_process(postgres_url))
        return started[-1]

    yield start
    for process in started:
        process.kill()  # a stopped one holds locks that everybody else waits for
        process.communicate()


@pytest.mark.parametrize("fate", [signal.SIGKILL, signal.SIGSTOP])
async def test_two_relays_share_the_keys_and_one_is_gone(pool, postgres_url, relays, fate):
    """Each event is published, and the first copies of a key's events are in its order.

    One that was only stopped wakes up when its leases have run out.
    """
    outbox, keys = Outbox("orders"), [f"k-{number}" for number in range(24)]
    broker = PostgresBroker(postgres_url)
    await broker.publish([])
    relays = [await asyncio.to_thread(relays) for _ in range(2)]
    holders = "SELECT count(DISTINCT member) FROM switchgear_relay_part WHERE member IS NOT NULL"

    gone = asyncio.Event()

    async def writer(key):
        number = 0
        while number < 40 or not gone.is_set():
            await write(pool, outbox, [number], key)
            number += 1
        return number

    writing = asyncio.gather(*(writer(key) for key in keys))
    async with asyncio.timeout(60):
        while await pool.fetchval(holders) != 2:
            await asyncio.sleep(0.01)
    relays[0].send_signal(fate)
    if fate is signal.SIGSTOP:
        async with asyncio.timeout(60):
            while await pool.fetchval(holders) != 1:
                await asyncio.sleep(0.01)
        relays[0].send_signal(signal.SIGCONT)
    gone.set()
    written = await writing
    async with asyncio.timeout(300):
        while await pool.fetchval("SELECT count(*) FROM switchgear_outbox"):
            await asyncio.sleep(0.02)
    for relay in relays:
        await asyncio.to_thread(relay.communicate, "", timeout=120)
    assert [relay.returncode for relay in relays] == [
        0 if fate is signal.SIGSTOP else -signal.SIGKILL,
        0,
    ]
    found = defaultdict(dict)
    for key, value in await pool.fetch(PUBLISHED):
        found[key].setdefault(msgspec.json.decode(value)["number"])
    assert found.keys() == set(keys)
    for key, count in zip(keys, written, strict=True):
        assert list(found[key]) == list(range(count))
    await broker.close()
