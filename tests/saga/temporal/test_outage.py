"""Temporal's server, killed for real in the middle of a saga, and started again."""

from __future__ import annotations

import asyncio
from pathlib import Path

from switchgear.database.sqlite import Sqlite
from switchgear.saga.temporal import Place, TemporalEngine
from switchgear.saga.temporal.cluster import Cluster
from switchgear.saga.temporal.place import connect
from tests.saga.shop import Book, Order, checkout
from tests.saga.temporal.replay import replay_all
from tests.servers import own


async def test_the_server_is_killed(tmp_path: Path, book: Book) -> None:
    held = asyncio.Event()
    book.will("debit", held, None)
    saga = checkout(book)
    database = Sqlite(tmp_path / "service.db", busy=1.0)
    with own("temporal") as server:
        place = Place.of(server.url)
        async with TemporalEngine(database, place, [saga], service="shop", lease=20.0) as engine:
            first = await engine.begin(saga, Order("o-1"), id="o-1")
            await book.until("debit")
            await asyncio.to_thread(server.kill)
            second = await engine.begin(saga, Order("o-2"), id="o-2")  # it waits here
            held.set()
            await asyncio.to_thread(server.start)
            for run in (first, second):
                await run.result(within=120)
        await replay_all(Cluster(await connect(place), "shop"))
    await database.close()
    names = [f"{call.ctx.id} {call.name}" for call in book.calls]
    # what nobody could be told of is attempted again, under the same key
    assert names.count("o-1 debit") <= 2
    for name in (
        "o-1 reserve",
        "o-1 ship",
        "o-1 confirm",
        "o-2 reserve",
        "o-2 ship",
        "o-2 confirm",
    ):
        assert names.count(name) == 1
