"""Four-step sagas a second on SQLite and on PostgreSQL: ours beside each peer, in one run.

    python benchmarks/sagas.py [--on sqlite postgres] [--sagas 300] [--clients 1 64] [--rounds 5]
                               [--only begun dbos] [--json FILE]
    python benchmarks/sagas.py --finished 1000000

Every variant keeps its record durably: SQLite with synchronous=FULL, PostgreSQL (a server of its
own on loopback) with fsync on, Restate's own store with its log synced. Each round runs every
variant once, in turn, each in a fresh process on an empty store; a ratio is taken within a round,
and its spread is over the rounds. What was written to PostgreSQL's log, and how often it was
synced, is counted once, in a run of its own, since a backend tells only after ten idle seconds.

- `ours`: each saga is started in a transaction of its own, as a handler does.
- `begun`: each is started by `engine.begin`, which shares its commit with others.
- `dbos`: `start_workflow_async` with the same steps; on SQLite also with its default journal.
- `bare`: no saga, but the five commits that one has: what the server allows without sharing them.
- `restate`: its server of npm and its Python SDK, where `restate-server` or RESTATE_SERVER is.
- `temporal`: its server on a SQLite file, with the steps as activities of a plain workflow, and
  `on temporal`: there our saga, by `engine.begin`. Where the server was built
  (`make services NAMES=temporal`) or TEMPORAL_ADDRESS names one.

With `--finished` the claim of ten sagas is timed in an empty store, and again beside that many
finished ones: what the history costs new work.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from peers.sagas import VARIANTS, One, variants
from services import make

Figures = dict[str, float]
IDLE = 10.5
"""Seconds after which an idle backend has told what it wrote."""


async def in_parallel(count: int, clients: int, one: One) -> tuple[float, list[float]]:
    """Run `one` for each number, `clients` at a time; return the seconds, whole and each."""
    numbers = iter(range(count))
    each: list[float] = []

    async def client() -> None:
        for number in numbers:
            began = time.perf_counter()
            await one(number)
            each.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return time.perf_counter() - began, each


async def measure(asked: argparse.Namespace, folder: Path) -> Figures:
    """Warm a variant up, then run its sagas and return what that took."""
    clients = asked.clients[0]
    variant = VARIANTS[asked.on[0]][asked.one]
    async with variant(asked.url, folder, clients) as one:
        await in_parallel(2 * clients, clients, lambda number: one(-1 - number))
        before = await written(asked.url) if asked.count else (0, 0)
        seconds, each = await in_parallel(asked.sagas, clients, one)
        after = await written(asked.url) if asked.count else (0, 0)
    return {
        "rate": asked.sagas / seconds,
        "p50": statistics.median(each) * 1000,
        "wal": (after[0] - before[0]) / asked.sagas,
        "fsyncs": (after[1] - before[1]) / asked.sagas,
    }


async def written(url: str) -> tuple[int, int]:
    """Return the bytes of PostgreSQL's log and the fsyncs of it so far."""
    await asyncio.sleep(IDLE)
    server = await asyncpg.connect(url)
    row = await server.fetchrow(
        "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn, wal_sync FROM pg_stat_wal"
    )
    await server.close()
    return int(row[0]), int(row[1])


def in_process(
    store: str, variant: str, server: str, count: int, clients: int, *, counted: bool = False
) -> Figures:
    """Run a variant in a fresh process on an empty store."""
    command = [sys.executable, __file__, "--on", store, "--one", variant]
    command += ["--sagas", str(count), "--clients", str(clients)]
    name = f"bench_{time.time_ns()}"
    if store == "postgres":
        asyncio.run(administer(server, f"CREATE DATABASE {name}"))
        command += ["--url", f"{server.rpartition('/')[0]}/{name}"]
    if counted:
        command.append("--count")
    result = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=900, env={**os.environ}
    )
    if store == "postgres":
        asyncio.run(administer(server, f"DROP DATABASE {name} WITH (FORCE)"))
    if result.returncode:
        raise SystemExit(result.stderr)
    figures: Figures = json.loads(result.stdout.splitlines()[-1])
    return figures


async def administer(server: str, sql: str) -> None:
    connection = await asyncpg.connect(server)
    await connection.execute(sql)
    await connection.close()


def spread(values: Sequence[float], digits: int = 1) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def compare(asked: argparse.Namespace, store: str, server: str) -> list[dict[str, object]]:
    """Run all variants of a store, and print them beside each other."""
    names = [name for name in variants(store) if not asked.only or name in asked.only]
    base = "dbos" if "dbos" in names else names[0]
    told: list[dict[str, object]] = []
    for clients in asked.clients:
        count = asked.sagas if clients > 1 else max(asked.sagas // 3, 1)
        rounds = [
            {name: in_process(store, name, server, count, clients) for name in names}
            for _ in range(asked.rounds)
        ]
        print(f"\n{store}, {clients} client(s), {count} sagas of four steps, ", end="")
        print(f"median of {asked.rounds} rounds (least to most)")
        for name in names:
            rates, times = ([each[name][what] for each in rounds] for what in ("rate", "p50"))
            ratios = [each[name]["rate"] / each[base]["rate"] for each in rounds]
            shares = [each[name]["p50"] / each[base]["p50"] for each in rounds]
            print(
                f"  {name:13} {spread(rates):>28} sagas/s  {spread(ratios):>20} x {base}   "
                f"p50 {spread(times):>22} ms  {spread(shares, 2)} of {base}'s"
            )
            told.append(
                {
                    "store": store,
                    "clients": clients,
                    "variant": name,
                    "rates": rates,
                    "ms": times,
                    "ratios": ratios,
                }
            )
        if store == "postgres":
            told += count_writes(names, server, count, clients)
    return told


def count_writes(
    names: Sequence[str], server: str, count: int, clients: int
) -> list[dict[str, object]]:
    told: list[dict[str, object]] = []
    for name in names:
        if name == "restate":  # its store is its own
            continue
        found = in_process("postgres", name, server, count, clients, counted=True)
        print(f"  {name:13} {found['wal']:>6.0f} B of WAL and {found['fsyncs']:.2f} fsyncs a saga")
        told.append({"clients": clients, "variant": name, **found})
    return told


@asynccontextmanager
async def opened(url: str, folder: Path) -> AsyncIterator[tuple[str, object]]:
    from switchgear.database.postgres import Postgres
    from switchgear.database.sqlite import Sqlite

    if url:
        async with asyncpg.create_pool(url, min_size=1, max_size=4, command_timeout=600) as pool:
            yield "PostgreSQL", Postgres(pool)
    else:
        database = Sqlite(folder / "finished.db", synchronous="FULL")
        yield "SQLite", database
        await database.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--on", choices=tuple(VARIANTS), nargs="*", default=list(VARIANTS))
    parser.add_argument("--sagas", type=int, default=300)
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 64])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", help="run these variants alone")
    parser.add_argument("--finished", type=int, metavar="SAGAS")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--url", default="", help=argparse.SUPPRESS)
    parser.add_argument("--count", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        logging.disable(logging.WARNING)
        with tempfile.TemporaryDirectory() as name:
            print(json.dumps(asyncio.run(measure(asked, Path(name)))))
        return
    told = []
    with tempfile.TemporaryDirectory() as data, tempfile.TemporaryDirectory() as folder:
        server = make("postgresql", Path(data)) if "postgres" in asked.on else None
        try:
            for store in asked.on:
                url = server.url if server is not None and store == "postgres" else ""
                if asked.finished:
                    asyncio.run(history(url, Path(folder), asked.finished))
                else:
                    told += compare(asked, store, url)
        finally:
            if server is not None:
                server.kill()
    if asked.json:
        asked.json.write_text(json.dumps(told, indent=1))


async def history(url: str, folder: Path, finished: int) -> None:
    """Print what `finished` sagas in the store cost the claim of new work."""
    from peers.claims import compare_claims

    async with opened(url, folder) as (name, database):
        await compare_claims(name, database, finished)


if __name__ == "__main__":
    main()
