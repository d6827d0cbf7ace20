"""Workers are killed with SIGKILL again and again while sagas run; the books balance at the end.

The file is also the program that is killed: it drives sagas against a participant that is a
database of its own behind a barrier, and starts some of them, each in the transaction of its order.
"""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Protocol

import pytest

from switchgear.database.port import Transaction
from switchgear.database.sqlite import Sqlite
from switchgear.model.context import bind, current, derived_key
from switchgear.model.outcome import Reason, Refused, Unavailable, Unknown
from switchgear.policy.breaker import Breaker
from switchgear.saga import Backoff, Context, Engine, Saga, runbook
from switchgear.saga.barrier import Barrier

ROOT = Path(__file__).parents[2]
RUNBOOK = str(ROOT / "tests/saga/runbooks/refund.md")
QUICK = Backoff(attempts=4, first=0.005, factor=2.0, most=0.05)
BREAKER = Breaker(open=0.3, longest=1.0, ramp=0.5)
"""It opens while a participant is away. By default it would keep the undos waiting for minutes."""


@dataclass(frozen=True)
class Order:
    order_id: str
    number: int


@dataclass(frozen=True)
class Receipt:
    key: str


class Participant:
    """Stock, wallets, parcels: a ledger behind a barrier, and an unreliable way to it."""

    def __init__(self, file: Path) -> None:
        self.database = Sqlite(file, synchronous="OFF", busy=30.0)
        self.barrier = Barrier()
        guarded_do = self.barrier.do(self._write)
        guarded_undo = self.barrier.undo(absent=Receipt(""))(self._write)
        self._guarded = {1: guarded_do, -1: guarded_undo}

    async def prepare(self) -> None:
        await self.barrier.prepare(self.database)
        table = """CREATE TABLE ledger (
            at {serial}, saga TEXT NOT NULL, step TEXT NOT NULL, change BIGINT NOT NULL,
            key TEXT NOT NULL UNIQUE)"""
        await self.database.migrate("ledger", (table,))

    async def _write(self, tx: Transaction, saga: str, step: str, change: int) -> Receipt:
        key = current().key or ""
        sql = "INSERT INTO ledger (saga, step, change, key) VALUES (?, ?, ?, ?)"
        await tx.run(sql, saga, step, change, key)
        return Receipt(key)

    async def call(self, ctx: Context, change: int) -> Receipt:
        """Send a command as a client of ours would: under a key derived from the step's."""
        await asyncio.sleep(random.random() / 100)
        context = replace(current(), key=derived_key(f"ledger/{ctx.step}"))
        with bind(context):
            async with self.database.transaction() as tx:
                receipt = await self._guarded[change](tx, ctx.id, ctx.step, change)
        await asyncio.sleep(random.random() / 100)
        return receipt


UNDO = Backoff(attempts=50, first=0.005, factor=1.5, most=0.05)


class Called(Protocol):
    """Whoever the steps ask."""

    async def call(self, ctx: Context, change: int) -> Receipt: ...


def checkout(participant: Called, undo_retry: Backoff = UNDO) -> Saga:
    saga = Saga(
        "checkout",
        version=1,
        deadline=timedelta(hours=1),  # on any machine none is late
        runbook=RUNBOOK,
        retry=QUICK,
        undo_retry=undo_retry,
        undo_breaker=BREAKER,
    )

    @saga.undo()
    async def release(order: Order, done: Receipt | Unknown, ctx: Context) -> None:
        if order.number % 6 == 0 and ctx.attempt < 3:
            raise Unavailable(reason=Reason.CONNECT)
        await participant.call(ctx, -1)

    @release.undoes
    async def reserve(order: Order, ctx: Context) -> Receipt:
        if order.number % 5 == 0 and ctx.attempt == 1:
            raise Unavailable(reason=Reason.CONNECT)
        return await participant.call(ctx, 1)

    @saga.undo()
    async def refund(order: Order, done: Receipt | Unknown, ctx: Context) -> None:
        await participant.call(ctx, -1)

    @refund.undoes
    async def debit(order: Order, ctx: Context) -> Receipt:
        if order.number % 11 == 0:
            raise Refused("the wallet is empty")
        receipt = await participant.call(ctx, 1)
        if order.number % 13 == 0 or (order.number % 4 == 0 and ctx.attempt == 1):
            raise Unknown("the reply was lost", reason=Reason.RESET)
        return receipt

    @saga.pivot(give_up=timedelta(hours=1))
    async def ship(order: Order, ctx: Context) -> Receipt:
        if order.number % 7 == 0:
            raise Refused("no such address")
        receipt = await participant.call(ctx, 1)
        if order.number % 9 == 0 and ctx.attempt < 3:
            raise Unknown("the reply was lost", reason=Reason.RESET)
        return receipt

    @saga.retriable(give_up=timedelta(hours=1))
    async def confirm(order: Order, ctx: Context) -> None:
        await participant.call(ctx, 1)

    saga.path(reserve >> debit >> ship >> confirm)
    return saga


async def work(folder: Path, first: int | None) -> None:
    """Drive all sagas there are, and start more without end, from number `first` on, if any."""
    participant = Participant(folder / "ledger.db")
    database = Sqlite(folder / "sagas.db", synchronous="OFF", busy=30.0)
    saga = checkout(participant)
    engine = Engine(database, [saga], concurrency=16, lease=2.0)
    async with engine:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        if first is None:
            await asyncio.Event().wait()
        for number in count(first):
            async with database.transaction() as tx:
                await tx.execute("INSERT INTO orders VALUES (?)", f"o-{number}")
                order = Order(f"o-{number}", number)
                await engine.start(tx, saga, order, id=order.order_id)
            # several a saga's own time, which is some 40 ms: there are always some that run
            await asyncio.sleep(random.random() / 100)


def spawn(folder: Path, first: int | None) -> subprocess.Popen[str]:
    code = (
        "import asyncio, pathlib, sys; from tests.faults.test_saga_kill import work; "
        "first = int(sys.argv[2]) if sys.argv[2:] else None; "
        "asyncio.run(work(pathlib.Path(sys.argv[1]), first))"
    )
    command = [sys.executable, "-c", code, str(folder), *([] if first is None else [str(first)])]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    # what it wrote of an error is in the captured output
    assert process.stdout.readline() == "ready\n", f"it ended with {process.wait()}"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def kill_at_work(process: subprocess.Popen[str], folder: Path) -> None:
    """Kill a process at a moment at which it certainly holds a saga.

    It is stopped before anybody looks, so that what was seen is still so when it is killed.
    """
    patience = time.monotonic() + 240
    while True:
        time.sleep(random.uniform(0.02, 0.3))
        assert process.poll() is None, "the worker ended by itself"
        process.send_signal(signal.SIGSTOP)
        if held(folder, process.pid):
            break
        process.send_signal(signal.SIGCONT)
        assert time.monotonic() < patience, "the worker holds no saga"
    kill(process)


def read(file: Path, sql: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(file, timeout=30.0)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def number_of(folder: Path, condition: str) -> int:
    sql = f"SELECT COUNT(*) FROM switchgear_sagas WHERE ended IS NULL {condition}"
    [(found,)] = read(folder / "sagas.db", sql)
    assert isinstance(found, int)
    return found


def unfinished(folder: Path) -> int:
    return number_of(folder, "")


def held(folder: Path, pid: int) -> int:
    """Return how many sagas a process has under its lease; its name for itself has its id."""
    return number_of(folder, f"AND owner LIKE '%/{pid}/%'")


async def prepare(folder: Path) -> None:
    participant = Participant(folder / "ledger.db")
    await participant.prepare()
    await participant.database.close()
    database = Sqlite(folder / "sagas.db")
    await Engine(database, [checkout(participant)]).prepare()
    await database.migrate("orders", ("CREATE TABLE orders (id TEXT PRIMARY KEY)",))
    await database.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_midway(tmp_path: Path, workers: int) -> None:
    asyncio.run(prepare(tmp_path))
    kills = 6
    firsts = count(1, 10_000)
    running: list[subprocess.Popen[str]] = []
    try:
        for _ in range(kills):
            while len(running) < workers:
                running.append(spawn(tmp_path, next(firsts)))
            victim = random.choice(running)
            kill_at_work(victim, tmp_path)
            running.remove(victim)
        while running:
            kill(running.pop())
        running.append(spawn(tmp_path, None))
        patience = time.monotonic() + 600
        while left := unfinished(tmp_path):
            assert running[0].poll() is None, "the worker ended by itself"
            assert time.monotonic() < patience, f"{left} sagas did not end"
            time.sleep(0.05)
    finally:
        for process in running:
            kill(process)
    asyncio.run(check(tmp_path, kills))


def check_effects(
    sagas: Mapping[object, object], ledger: Iterable[tuple[object, object, object, object]]
) -> None:
    """Each effect was had once, and what was undone was undone in reverse order."""
    effects: dict[object, list[tuple[object, object]]] = {name: [] for name in sagas}
    keys = Counter[object]()
    for saga, step, change, key in ledger:
        effects[saga].append((step, change))
        keys[key] += 1
    assert set(keys.values()) == {1}
    forward = ["reserve", "debit", "ship", "confirm"]
    for name, status in sagas.items():
        had = effects[name]
        done = [step for step, change in had if change == 1]
        undone = [step for step, change in had if change == -1]
        assert done == forward[: len(done)], (name, had)
        if status == "done":
            assert (done, undone) == (forward, []), (name, had)
        else:
            assert undone == list(reversed(done)), (name, had)
            assert "ship" not in done


async def check(folder: Path, kills: int) -> None:
    """Every saga has ended, each effect was had once, and what was undone was undone in order."""
    sagas = dict(read(folder / "sagas.db", "SELECT id, status FROM switchgear_sagas"))
    orders = {row[0] for row in read(folder / "sagas.db", "SELECT id FROM orders")}
    assert orders == set(sagas), "an order without its saga, or the other way round"
    assert set(sagas.values()) == {"done", "undone"}
    sql = "SELECT saga, step, change, key FROM ledger ORDER BY at"
    check_effects(sagas, read(folder / "ledger.db", sql))
    database = Sqlite(folder / "sagas.db")
    interruptions = 0
    for name in sagas:
        evidence = await runbook.show(database, str(name))
        interruptions += len(evidence.interruptions)
        expected = "undone" if _is_refused(int(str(name).removeprefix("o-"))) else "done"
        assert evidence.status == expected, evidence
    await database.close()
    # whoever takes over a saga from a process that was killed writes that down
    assert interruptions >= kills


def _is_refused(number: int) -> bool:
    return number % 11 == 0 or number % 13 == 0 or number % 7 == 0
