"""Record histories for `test_replay.py`: `python -m tests.saga.temporal.record URL NAME...`.

Those that are stored stay as they are: they are of sagas that may be running somewhere. Where the
interpreter is to do something new, record another beside them under another name.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import sys
import tempfile
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

from switchgear.database.sqlite import Sqlite
from switchgear.saga import SagaUndone, SagaUnfinished
from switchgear.saga.state import What
from switchgear.saga.story import Decision
from switchgear.saga.temporal import Place, TemporalEngine
from switchgear.saga.temporal.cluster import Cluster
from switchgear.saga.temporal.wire import Action
from tests.saga.shop import QUICK, UNKNOWN, Book, Order, OutOfStock, checkout
from tests.saga.temporal.world import World

FOLDER = Path(__file__).parent / "histories"
REFUSED = OutOfStock(sku="A-1")


async def done(engine: TemporalEngine, cluster: Cluster, saga_id: str) -> None:
    """All of it, with branches."""
    await engine.get(saga_id).result(within=120)


async def undone(engine: TemporalEngine, cluster: Cluster, saga_id: str) -> None:
    """Undone, whatever for."""
    try:
        await engine.get(saga_id).result(within=120)
    except SagaUndone:
        return


async def retried(engine: TemporalEngine, cluster: Cluster, saga_id: str) -> None:
    """An undo that gave up, and a person who has it tried again."""
    try:
        await engine.get(saga_id).result(within=120)
    except SagaUnfinished:
        await asyncio.sleep(0.5)  # the runbook's text is fetched
        decision = Decision("me", "the bank is back")
        await cluster.act(saga_id, Action(saga_id, What.RETRY, decision))
    await undone(engine, cluster, saga_id)


async def cancelled(engine: TemporalEngine, cluster: Cluster, saga_id: str) -> None:
    """Cancelled before its pivot."""
    await asyncio.sleep(0.5)
    await cluster.client.get_workflow_handle(cluster.workflow_id(saga_id)).cancel()
    await undone(engine, cluster, saga_id)


async def refuted(engine: TemporalEngine, cluster: Cluster, saga_id: str) -> None:
    """Refuted after its end, and what stood on it taken back by hand."""
    await done(engine, cluster, saga_id)
    await engine.refute(None, saga_id, "debit", actor="bank", evidence="it bounced")
    for name in ("confirm", "ship"):
        await asyncio.sleep(0.5)
        action = Action(f"{saga_id}/{name}", What.RESOLVE, Decision("me", "taken back"))
        await cluster.act(saga_id, action)
    await undone(engine, cluster, saga_id)


async def listed(engine: TemporalEngine, cluster: Cluster, saga_id: str) -> None:
    """A work item that is open when a new history begins."""
    handle = cluster.client.get_workflow_handle(cluster.workflow_id(saga_id))
    first = (await handle.describe()).run_id
    attempt = 0
    while (await handle.describe()).run_id == first:
        await asyncio.sleep(0.5)
        action = Action(f"{saga_id}/refund", What.RETRY, Decision("me", f"attempt {attempt}"))
        await cluster.act(saga_id, action)
        attempt += 1
        await asyncio.sleep(0.5)
    resolved = Action(f"{saga_id}/refund", What.RESOLVE, Decision("me", "by hand"))
    await cluster.act(saga_id, resolved)
    await undone(engine, cluster, saga_id)


Course = Callable[[TemporalEngine, Cluster, str], Awaitable[None]]
COURSES: dict[str, Course] = {
    "done": done,
    "undone": undone,
    "branches": done,
    "retried": retried,
    "expired": undone,
    "cancelled": cancelled,
    "refuted": refuted,
    "continued": done,
    "listed": listed,
}


async def record(place: Place, name: str) -> None:
    """Let one saga take its course, and store the history of its last run."""
    book = Book()
    saga = checkout(book)
    if name == "undone":
        book.will("debit", UNKNOWN)
    elif name == "branches":
        saga = World().saga()
    elif name == "retried":
        book.will("ship", REFUSED)
        book.will("refund", REFUSED, None)
    elif name == "expired":
        saga = checkout(book, deadline=timedelta(seconds=0.3), retry=QUICK)
        book.will("debit", asyncio.Event())
    elif name == "cancelled":
        held = asyncio.Event()
        book.will("debit", held)
        asyncio.get_running_loop().call_later(1.0, held.set)
    elif name == "listed":
        book.will("ship", REFUSED)
        book.will("refund", *[REFUSED] * 20)
    elif name == "continued":
        book.will("confirm", UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, None)
    service = f"record-{secrets.token_hex(4)}"
    database = Sqlite(Path(tempfile.mkdtemp()) / "record.db")
    events = {"continued": 30, "listed": 60}.get(name, 4_000)
    engine = TemporalEngine(database, place, [saga], service=service, events=events)
    async with engine:
        await engine.begin(saga, Order(name), id=name)
        while (cluster := engine._cluster) is None or await cluster.see(name) is None:
            await asyncio.sleep(0.05)
        await COURSES[name](engine, cluster, name)
        handle = cluster.client.get_workflow_handle(cluster.workflow_id(name))
        history = await handle.fetch_history()
        # on one line, and without the name of the machine
        text = json.dumps(json.loads(history.to_json()), separators=(",", ":"))
        text = re.sub(r'"\d+@[^"]*"', '"worker"', text)
        (FOLDER / f"{name}.json").write_text(text + "\n")
    await database.close()


async def main(url: str, names: list[str]) -> None:
    """Record those of `names`."""
    for name in names:
        if (FOLDER / f"{name}.json").exists():
            sys.exit(f"{name} is recorded already, and sagas of its kind may run somewhere.")
        await record(Place.of(url), name)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:] or list(COURSES)))
