"""Four steps on Temporal: as a workflow of its own kind, and as our saga. One server, SQLite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from peers.sagas import One, Order, Shipment, checkout
from services import SERVERS, address_of, make
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

WITHIN = timedelta(seconds=60)


@activity.defn
async def reserve(order: dict[str, Any]) -> dict[str, int]:
    return {"number": 1}


@activity.defn
async def debit(order: dict[str, Any]) -> dict[str, int]:
    return {"number": 2}


@activity.defn
async def ship(order: dict[str, Any], paid: dict[str, int]) -> dict[str, int]:
    return {"number": 3}


@activity.defn
async def confirm(order: dict[str, Any]) -> None: ...


@workflow.defn
class Checkout:
    @workflow.run
    async def run(self, order: dict[str, Any]) -> dict[str, int]:
        await workflow.execute_activity(reserve, order, start_to_close_timeout=WITHIN)
        paid = await workflow.execute_activity(debit, order, start_to_close_timeout=WITHIN)
        shipped = await workflow.execute_activity(
            ship, args=[order, paid], start_to_close_timeout=WITHIN
        )
        await workflow.execute_activity(confirm, order, start_to_close_timeout=WITHIN)
        return shipped


def is_here() -> bool:
    """Tell whether a server is: one that runs, or one that was built."""
    return bool(address_of("temporal")) or SERVERS["temporal"].is_here()


@asynccontextmanager
async def server(folder: Path) -> AsyncIterator[str]:
    given = address_of("temporal")
    if given:
        yield given
        return
    data = folder / "temporal"
    data.mkdir()
    started = make("temporal", data)
    try:
        yield started.url
    finally:
        started.kill()


@asynccontextmanager
async def plain(url: str, folder: Path, clients: int) -> AsyncIterator[One]:
    """A workflow as one writes it: each step an activity, nothing to undo; without the sandbox."""
    async with server(folder) as address:
        host, _, namespace = address.removeprefix("temporal://").partition("/")
        client = await Client.connect(host, namespace=namespace)
        worker = Worker(
            client,
            task_queue="bench",
            workflows=[Checkout],
            activities=[reserve, debit, ship, confirm],
            workflow_runner=UnsandboxedWorkflowRunner(),
        )
        async with worker:

            async def one(number: int) -> None:
                order: dict[str, Any] = {"order_id": f"o-{number}", "amount": 42}
                done = await client.execute_workflow(
                    Checkout.run, order, id=f"plain-{number}", task_queue="bench"
                )
                assert done == {"number": 3}

            yield one


@asynccontextmanager
async def ours(url: str, folder: Path, clients: int) -> AsyncIterator[One]:
    """Our saga, started by `engine.begin` and run by the interpreter workflow."""
    from switchgear.database.sqlite import Sqlite
    from switchgear.saga.temporal import Place, TemporalEngine

    saga, pivot = checkout(folder)
    database = Sqlite(folder / "ours.db", synchronous="FULL")
    async with server(folder) as address:
        place = Place.of(address)
        async with TemporalEngine(database, place, [saga], service="bench") as engine:

            async def one(number: int) -> None:
                order = Order(f"o-{number}", 42)
                run = await engine.begin(saga, order, id=order.order_id)
                assert (await run.result(within=60)).result(pivot) == Shipment(3)

            yield one
    await database.close()
