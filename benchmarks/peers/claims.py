"""The claim of new sagas, in a store with a history and in one without."""

from __future__ import annotations

import statistics
import time

from switchgear.database.port import Database
from switchgear.database.sqlite import Sqlite
from switchgear.saga.stores import store_of
from switchgear.saga.stores.port import NewSaga
from switchgear.saga.stores.units import COMPONENT, STEPS, Units

DEFINITION = "checkout/1/abc"
WAITING = 10


async def fill(database: Database, number: int) -> None:
    """Write finished sagas, with an input of the usual size and four lines each."""
    sagas = (
        "INSERT INTO switchgear_sagas "
        "(id, definition, input, context, status, began, ended, fence) "
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
        "SELECT 'f-' || i, ?, ?, ?, 'done', 0, 1, 1 FROM n"
    )
    lines = (
        "INSERT INTO switchgear_saga_journal "
        "(id, seq, fence, at, step, side, attempt, what, follows, doubt, data) "
        "SELECT s.id, k.seq, 1, 1, 'reserve', 'do', 1, 'ok', 'go', 0, s.input "
        "FROM switchgear_sagas AS s CROSS JOIN "
        "(SELECT 1 AS seq UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4) AS k "
        "WHERE s.status = 'done'"
    )
    async with database.transaction() as tx:
        await tx.run(sagas, number, DEFINITION, b"x" * 100, b"{}")
        await tx.run(lines)
    if isinstance(database, Sqlite):
        # a store does not get its million at once: what was written is in the file by then
        await database.read(
            lambda connection: connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        )
    else:
        async with database.transaction() as tx:
            await tx.run("ANALYZE")


async def claims(database: Database, rounds: int) -> list[float]:
    """Return the milliseconds of each claim of ten sagas."""
    store, units = store_of(database), Units(database.dialect)
    for number in range(WAITING):
        new = NewSaga(f"w-{number}", DEFINITION, b"{}", b"{}", 1.0, None)
        await store.write(units.start(new, None, 0.0))
    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        await store.read(units.due([DEFINITION]))
        claimed = await store.write(units.claim([DEFINITION], "me", 10.0, 100, 1.0))
        took.append((time.perf_counter() - began) * 1000)
        assert len(claimed) == WAITING
        for each in claimed:
            await store.write(units.release(each.row.id, each.row.fence, "running", 0.0))
    return took


async def compare_claims(name: str, database: Database, finished: int, rounds: int = 200) -> None:
    """Time claims without finished sagas and beside them, and print both."""
    await database.migrate(COMPONENT, STEPS)
    without = await claims(database, rounds)
    began = time.perf_counter()
    await fill(database, finished)
    filled = time.perf_counter() - began
    beside = await claims(database, rounds)
    for told, figures in (("none", without), (f"{finished:,}", beside)):
        low, *_, high = statistics.quantiles(figures, n=20)
        print(
            f"  {name:10} {told:>12} finished: {statistics.median(figures):7.2f} ms a claim of "
            f"{WAITING} ({low:.2f} to {high:.2f})"
        )
    ratio = statistics.median(beside) / statistics.median(without)
    print(f"  {name:10} ratio {ratio:.2f}; filled in {filled:.0f} s")
