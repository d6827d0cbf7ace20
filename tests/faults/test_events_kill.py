"""Producers, relays, consumers and the broker are killed at random; then the books are compared.

What was committed and what took effect have to be the same: nothing lost, nothing doubled, and in
order per key. SOAK=seconds in the environment makes it run for longer (`make soak`).
"""

import asyncio
import itertools
import os
import random
import signal
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest

from switchgear.events.brokers.port import BrokerUnavailable
from switchgear.events.brokers.url import broker_of
from switchgear.events.outbox import STEPS as OUTBOX
from switchgear.events.parked import STEPS as PARKED
from switchgear.testing.conformance.world import declared
from tests.conformance.conftest import CHOSEN, SERVERS
from tests.events.roles import KEYS, opened, prepare
from tests.events.world import until
from tests.servers import PostgresDatabase, address

ROOT = Path(__file__).parents[2]
SECONDS = float(os.environ.get("SOAK", "5"))
ROLES = ["producer", "producer", "relay", "relay", "consumer", "consumer"]
BROKER_EVERY = 20.0
WORKS = 0.7  # the others are killed while they start
TOPIC, GROUP = "test.orders", "shop.ledger"


@pytest.fixture(
    params=[
        ("sqlite", "sqlite"),
        ("sqlite", "postgres"),
        *((name, "postgres") for name in SERVERS if name in CHOSEN),
    ],
    ids="-".join,
)
def kinds(request):
    """Which broker, and which databases."""
    return request.param


@pytest.fixture
def databases(kinds, tmp_path):
    """The URLs of the producers' and the consumers' database."""
    if kinds[1] == "sqlite":
        yield [f"sqlite:///{tmp_path / name}.db" for name in ("producer", "consumer")]
        return
    pair = [PostgresDatabase(address("postgresql")) for _ in range(2)]
    for one in pair:
        one.create()
    yield [one.url for one in pair]
    for one in pair:
        one.drop()


@pytest.fixture
async def broker(kinds, tmp_path):
    """The URL of the broker, and what takes its server away for a while if it has one."""
    kind = kinds[0]
    if kind == "sqlite":
        yield f"sqlite:///{tmp_path / 'broker.db'}?partitions=4", None
    else:
        async with SERVERS[kind].own() as found:
            yield found


class Processes:
    """The processes of every role; a dead one is started again."""

    def __init__(self, broker, databases, dice):
        self._broker = broker
        self._databases = databases
        self._dice = dice
        self._running = {}
        self._working = set()
        self.kills = 0

    async def start(self, index):
        role = ROLES[index]
        url = self._databases[1 if role == "consumer" else 0]
        self._running[index] = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.events.roles",
            role,
            self._broker,
            url,
            str(self._dice.randrange(10**9)),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )

    async def work(self, index):
        """Wait until a process has done the first of its work."""
        process = self._running[index]
        if process not in self._working:
            async with asyncio.timeout(120):
                assert await process.stdout.readline(), await self._ended(index)
            self._working.add(process)

    async def _ended(self, index):
        """What is said of a process that ended by itself; its errors are in the captured output."""
        return f"{ROLES[index]} ended by itself, with {await self._running[index].wait()}"

    async def kill(self, index):
        assert self._running[index].returncode is None, await self._ended(index)
        process = self._running.pop(index)
        self._working.discard(process)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        self.kills += 1

    async def kill_all(self, roles):
        for index in [one for one in self._running if ROLES[one] in roles]:
            await self.kill(index)

    async def end(self):
        """End whatever still runs."""
        for process in self._running.values():
            if process.returncode is None:
                process.kill()
            await process.wait()
        self._running.clear()


@pytest.mark.timeout(SECONDS + 1_500)  # of which it needs a minute, with the server's start
async def test_the_difference_is_empty_whoever_is_killed(databases, broker):
    dice = random.Random(7)
    url, interrupt = broker
    for one in databases:
        async with opened(one) as database:
            await prepare(database)
            # on a slow machine a process may be killed each time before it has made its tables
            await database.migrate("outbox", OUTBOX)
            await database.migrate("parked", PARKED)
    looking = broker_of(url)
    await declared(looking, GROUP, topics=[TOPIC])
    processes = Processes(url, databases, dice)
    try:
        for index in range(len(ROLES)):
            await processes.start(index)
        for index in range(len(ROLES)):
            await processes.work(index)
        end = time.monotonic() + SECONDS
        broker_at = time.monotonic() + SECONDS / 3
        while time.monotonic() < end or processes.kills <= SECONDS or await _little(databases[0]):
            await asyncio.sleep(dice.uniform(0.05, 0.4))
            if interrupt is not None and time.monotonic() > broker_at:
                await interrupt()
                broker_at = time.monotonic() + max(SECONDS, BROKER_EVERY)
            index = dice.randrange(len(ROLES))
            if dice.random() < WORKS:
                await processes.work(index)  # on a slow machine none would get as far otherwise
                await asyncio.sleep(dice.uniform(0.0, 0.2))
            await processes.kill(index)
            await processes.start(index)
        await processes.kill_all({"producer"})
        async with opened(databases[0]) as source, opened(databases[1]) as sink:
            await until(lambda: _finished(source, looking, sink), within=600)
            await processes.kill_all({"relay", "consumer"})
            committed = await _committed(source)
            effects = await _effects(sink)
        await looking.close()
    finally:
        await processes.end()
    told = f"{sum(committed.values())} events, {processes.kills} processes killed\n"
    sys.stdout.write(f"{url.partition(':')[0]}, {databases[0].partition(':')[0]}: {told}")
    assert _differences(committed, effects) == {}


async def _little(url):
    """Whether not much was going on so far: a slow machine is given the time."""
    async with opened(url) as source:
        return sum((await _committed(source)).values()) <= 100


async def _finished(source, broker, sink):
    """Whether nothing waits in the outbox, on the broker, or in the consumer's own store."""
    if await _rows(source, "switchgear_outbox"):
        return False
    try:
        lag = await broker.lag(GROUP, [TOPIC])
    except BrokerUnavailable:
        return False
    return not lag.events and not await _rows(sink, "switchgear_parked")


async def _rows(database, table):
    async with database.transaction() as tx:
        return (await tx.run(f"SELECT count(*) FROM {table}"))[0][0]


async def _committed(source):
    async with source.transaction() as tx:
        return dict(await tx.run("SELECT key, version FROM entity"))


async def _effects(sink):
    found = defaultdict(list)
    async with sink.transaction() as tx:
        for key, number in await tx.run("SELECT key, number FROM effects ORDER BY id"):
            found[key].append(number)
    return {key: found[key] for key in KEYS}


def _differences(committed, effects):
    """What is missing, doubled or out of order, by key; empty where the books agree."""
    found = {}
    for key, count in committed.items():
        numbers = effects[key]
        wrong = {
            "missing": sorted(set(range(1, count + 1)) - set(numbers)),
            "not committed": sorted(set(numbers) - set(range(1, count + 1))),
            "doubled": sorted({one for one in numbers if numbers.count(one) > 1}),
            "out of order": [
                pair for pair in itertools.pairwise(numbers) if pair[0] + 1 != pair[1]
            ],
        }
        if any(wrong.values()):
            found[key] = wrong
    return found
