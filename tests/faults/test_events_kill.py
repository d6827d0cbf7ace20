"""Producers, relays and consumers are killed at random; then the books are compared.

What was committed and what took effect have to be the same: nothing lost, nothing doubled, and in
order per key. SOAK=seconds in the environment makes it run for longer.
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

from switchgear.events.brokers.url import broker_of
from switchgear.events.outbox import STEPS as OUTBOX
from switchgear.events.parked import STEPS as PARKED
from tests.events.roles import KEYS, opened, prepare
from tests.events.world import until
from tests.servers import PostgresDatabase, address

ROOT = Path(__file__).parents[2]
SECONDS = float(os.environ.get("SOAK", "5"))
ROLES = ["producer", "producer", "relay", "relay", "consumer", "consumer"]
TOPIC, GROUP = "test.orders", "shop.ledger"


@pytest.fixture(params=["sqlite", "postgres"])
def databases(request, tmp_path):
    """The URLs of the producers' and the consumers' database."""
    if request.param == "sqlite":
        yield [f"sqlite:///{tmp_path / name}.db" for name in ("producer", "consumer")]
        return
    pair = [PostgresDatabase(address("postgresql")) for _ in range(2)]
    for one in pair:
        one.create()
    yield [one.url for one in pair]
    for one in pair:
        one.drop()


class Processes:
    """The processes of every role; a dead one is started again."""

    def __init__(self, broker, databases, dice):
        self._broker = broker
        self._databases = databases
        self._dice = dice
        self._running = {}
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
        )

    async def kill(self, index):
        process = self._running.pop(index)
        assert process.returncode is None, f"{ROLES[index]} ended by itself"
        process.send_signal(signal.SIGKILL)
        await process.wait()
        self.kills += 1

    async def kill_all(self, roles):
        for index in [one for one in self._running if ROLES[one] in roles]:
            await self.kill(index)


async def test_the_difference_is_empty_whoever_is_killed(tmp_path, databases):
    dice = random.Random(7)
    url = f"sqlite:///{tmp_path / 'broker.db'}?partitions=4"
    for one in databases:
        async with opened(one) as database:
            await prepare(database)
            # on a slow machine a process may be killed each time before it has made its tables
            await database.migrate("outbox", OUTBOX)
            await database.migrate("parked", PARKED)
    processes = Processes(url, databases, dice)
    try:
        for index in range(len(ROLES)):
            await processes.start(index)
        await asyncio.sleep(1.0)  # all of them are up
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            await asyncio.sleep(dice.uniform(0.05, 0.4))
            index = dice.randrange(len(ROLES))
            await processes.kill(index)
            await processes.start(index)
        await processes.kill_all({"producer"})
        broker = broker_of(url)
        async with opened(databases[0]) as source, opened(databases[1]) as sink:
            await until(lambda: _finished(source, broker, sink), within=60)
            await processes.kill_all({"relay", "consumer"})
            committed = await _committed(source)
            effects = await _effects(sink)
        await broker.close()
    finally:
        await processes.kill_all(set(ROLES))
    assert processes.kills > SECONDS
    assert sum(committed.values()) > 100
    assert _differences(committed, effects) == {}


async def _finished(source, broker, sink):
    """Whether nothing waits in the outbox, on the broker, or in the consumer's own store."""
    if await _rows(source, "switchgear_outbox"):
        return False
    return not (await broker.lag(GROUP, [TOPIC])).events and not await _rows(
        sink, "switchgear_parked"
    )


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
