"""What a million finished sagas cost the claim of new work, on SQLite and on PostgreSQL.

    python benchmarks/sagas_finished.py [--finished 1000000] [--rounds 200]

In each store the claim of ten sagas (the question what is due, the claim with its lines, and the
release) is timed with no finished saga in it, and again with a million. Each figure is the median
of the rounds, beside its 5th and 95th percentile.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

import asyncpg

from switchgear.database.port import Database
from switchgear.database.postgres import Postgres
from switchgear.database.sqlite import Sqlite
from switchgear.saga.stores import store_of
from switchgear.saga.stores.port import NewSaga
from switchgear.saga.stores.units import COMPONENT, STEPS, Units

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from services import make

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


async def measure(name: str, database: Database, finished: int, rounds: int) -> None:
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


async def run(folder: Path, url: str, finished: int, rounds: int) -> None:
    database = Sqlite(folder / "finished.db", synchronous="FULL")
    await measure("SQLite", database, finished, rounds)
    await database.close()
    pool = await asyncpg.create_pool(url, min_size=1, max_size=4, command_timeout=600)
    await measure("PostgreSQL", Postgres(pool), finished, rounds)
    await pool.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--finished", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=200)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as data, tempfile.TemporaryDirectory() as folder:
        server = make("postgresql", Path(data))
        try:
            asyncio.run(run(Path(folder), server.url, asked.finished, asked.rounds))
        finally:
            server.kill()


if __name__ == "__main__":
    main()
