"""Sagas on PostgreSQL while workers, the participant and the server are killed and stopped.

Everything is a process and is killed for real: workers that drive and start sagas, a participant
that they ask over a socket and that keeps its books in a database of its own, and the server of
both. A worker is also stopped for longer than its lease and goes on afterwards, and the clocks of
workers jump. At the end nothing is left over and the books balance. SOAK=seconds in the
environment makes it run for longer (`make soak`).
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from itertools import count
from pathlib import Path

import asyncpg
from services import Server
from services.ports import free_port

from switchgear.saga import Engine, runbook
from switchgear.saga.barrier import Barrier
from tests.faults.saga_programs import LEASE, OPEN, Remote, opened
from tests.faults.test_saga_kill import check_effects, checkout
from tests.servers import own

ROOT = Path(__file__).parents[2]
HELD = "SELECT COUNT(*) FROM switchgear_sagas WHERE ended IS NULL AND owner IS NOT NULL"
SECONDS = float(os.environ.get("SOAK", "0"))
"""Below what it takes to do each harm once: just that."""


async def prepare(url: str) -> None:
    connection = await asyncpg.connect(url)
    for name in ("sagas", "ledger"):
        await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    table = """CREATE TABLE ledger (
        at {serial}, saga TEXT NOT NULL, step TEXT NOT NULL, change BIGINT NOT NULL,
        key TEXT NOT NULL UNIQUE)"""
    async with opened(url, "ledger") as ledger:
        await Barrier().prepare(ledger)
        await ledger.migrate("ledger", (table,))
    async with opened(url, "sagas") as sagas:
        await Engine(sagas, [checkout(Remote(0))]).prepare()
        await sagas.migrate("orders", ("CREATE TABLE orders (id TEXT PRIMARY KEY)",))


class System:
    """The processes of the test."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.port = free_port()
        self.firsts = count(1, 10_000)
        self.running: list[subprocess.Popen[str]] = []
        self.participant = self.spawn("participate", self.port)

    def spawn(self, what: str, *args: int) -> subprocess.Popen[str]:
        code = (
            f"import asyncio, sys; from tests.faults.saga_programs import {what}; "
            f"asyncio.run({what}(sys.argv[1], *map(int, sys.argv[2:])))"
        )
        command = [sys.executable, "-c", code, self.server.url, *map(str, args)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        self.running.append(process)
        return process

    def worker(self, first: int | None = None) -> subprocess.Popen[str]:
        process = self.spawn("work", self.port, next(self.firsts) if first is None else first)
        assert process.stdout is not None
        # what it wrote of an error is in the captured output
        assert process.stdout.readline() == "ready\n", f"it ended with {process.wait()}"
        return process

    def check(self) -> None:
        """Check that none has ended by itself."""
        assert [one.args for one in self.running if one.poll() is not None] == []

    def kill(self, process: subprocess.Popen[str]) -> None:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        self.running.remove(process)

    def workers(self) -> list[subprocess.Popen[str]]:
        return [each for each in self.running if each is not self.participant]

    def kill_workers_at_work(self) -> None:
        """Kill all at a moment at which one certainly holds a saga: they are stopped before."""
        patience = time.monotonic() + 240
        while True:
            for worker in self.workers():
                worker.send_signal(signal.SIGSTOP)
            if asyncio.run(rows(self.server.url, "sagas", HELD)) != [(0,)]:
                break
            for worker in self.workers():
                worker.send_signal(signal.SIGCONT)
            self.check()
            assert time.monotonic() < patience, "no worker holds a saga"
            time.sleep(random.uniform(0.02, 0.3))
        for worker in self.workers():
            self.kill(worker)

    def kill_worker(self) -> None:
        self.kill(random.choice(self.workers()))
        self.worker()

    def kill_participant(self) -> None:
        self.kill(self.participant)
        self.participant = self.spawn("participate", self.port)

    def stop_worker(self) -> None:
        """Stop one for longer than its lease; it goes on when others have its sagas."""
        victim = random.choice(self.workers())
        victim.send_signal(signal.SIGSTOP)
        time.sleep(LEASE * 1.7)
        victim.send_signal(signal.SIGCONT)

    def kill_server(self) -> None:
        self.server.kill()
        self.server.start()

    def restart_server(self) -> None:
        self.server.stop()
        self.server.start()


async def rows(url: str, database: str, sql: str) -> list[tuple[object, ...]]:
    connection = await asyncpg.connect(f"{url.rpartition('/')[0]}/{database}")
    found = await connection.fetch(sql)
    await connection.close()
    return [tuple(row) for row in found]


def test_the_books_balance_whatever_dies() -> None:
    with own("postgresql") as server:
        asyncio.run(prepare(server.url))
        system = System(server)
        try:
            disturb(system)
            system.kill_workers_at_work()
            system.worker(first=0)
            patience = time.monotonic() + 600
            while (left := asyncio.run(rows(server.url, "sagas", OPEN))) != [(0,)]:
                system.check()
                assert time.monotonic() < patience, f"{left} sagas did not end"
                time.sleep(0.1)
        finally:
            while system.running:
                system.kill(system.running[0])
        asyncio.run(check(server.url))


def disturb(system: System) -> None:
    system.worker()
    system.worker()
    acts = [
        *[system.kill_worker] * 2,
        *[system.kill_participant] * 2,
        system.stop_worker,
        system.kill_server,
        system.restart_server,
    ]
    until = time.monotonic() + SECONDS
    done: Counter[str] = Counter()
    while True:
        random.shuffle(acts)
        for act in acts:
            time.sleep(random.uniform(0.2, 0.6))
            system.check()
            act()
            done[act.__name__] += 1
        if time.monotonic() > until:
            break
    sys.stdout.write(f"what was done to them: {dict(done)}\n")


async def check(url: str) -> None:
    found = await rows(url, "sagas", "SELECT id, status FROM switchgear_sagas")
    sagas = {row[0]: row[1] for row in found}
    orders = {row[0] for row in await rows(url, "sagas", "SELECT id FROM orders")}
    sys.stdout.write(f"{len(sagas)} sagas ended: {dict(Counter(sagas.values()))}\n")
    assert orders == set(sagas), "an order without its saga, or the other way round"
    assert set(sagas.values()) == {"done", "undone"}
    sql = "SELECT saga, step, change, key FROM ledger ORDER BY at"
    ledger = [(a, b, c, d) for a, b, c, d in await rows(url, "ledger", sql)]
    check_effects(sagas, ledger)
    gaps = """SELECT id FROM switchgear_saga_journal GROUP BY id
        HAVING MAX(seq) <> COUNT(*) OR MIN(seq) <> 1"""
    assert await rows(url, "sagas", gaps) == []
    # who was away for longer than its lease has written nothing since: fences only rise
    stale = """SELECT a.id FROM switchgear_saga_journal AS a JOIN switchgear_saga_journal AS b
        ON a.id = b.id AND a.seq < b.seq AND a.fence > b.fence"""
    assert await rows(url, "sagas", stale) == []
    async with opened(url, "sagas") as database:
        for name in random.sample(sorted(map(str, sagas)), min(50, len(sagas))):
            assert (await runbook.show(database, name)).status == sagas[name]
    interrupted = "SELECT COUNT(*) FROM switchgear_saga_journal WHERE what = 'interrupted'"
    assert await rows(url, "sagas", interrupted) != [(0,)]
