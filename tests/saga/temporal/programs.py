"""A worker of sagas on Temporal, as a process that can be killed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

from switchgear.database.sqlite import Sqlite
from switchgear.model.outcome import Refused, Unknown
from switchgear.saga import Backoff, Context, Saga
from switchgear.saga.temporal import Place, TemporalEngine
from tests.saga.shop import Order

LEASE = 10.0
RUNBOOK = str(Path(__file__).parents[1] / "runbooks" / "release.md")


def transfer(call: Callable[[str, Context], Awaitable[None]]) -> Saga:
    """Three steps and a pivot that is refused: there and back again."""
    saga = Saga(
        "transfer",
        version=1,
        deadline=timedelta(minutes=5),
        retry=Backoff(attempts=3, first=0.01, most=0.01, factor=1.0),
    )

    @saga.undo(runbook=RUNBOOK)
    async def unhold(order: Order, done: Unknown | None, ctx: Context) -> None:
        await call("unhold", ctx)

    @unhold.undoes
    async def hold(order: Order, ctx: Context) -> None:
        await call("hold", ctx)

    @saga.undo(runbook=RUNBOOK)
    async def unpay(order: Order, done: Unknown | None, ctx: Context) -> None:
        await call("unpay", ctx)

    @unpay.undoes
    async def pay(order: Order, ctx: Context) -> None:
        await call("pay", ctx)

    @saga.pivot(give_up=timedelta(minutes=5), runbook=RUNBOOK)
    async def send(order: Order, ctx: Context) -> None:
        await call("send", ctx)

    saga.path(hold >> pay >> send)
    return saga


async def work(url: str, service: str, folder: Path, *stuck: str) -> None:
    """Drive sagas, and never come back from the calls `stuck`. Each call is a line of a file."""

    async def call(name: str, ctx: Context) -> None:
        with (folder / "calls").open("a") as file:
            file.write(f"{ctx.id} {name} {ctx.attempt}\n")
        if f"{ctx.id} {name}" in stuck:
            await asyncio.Event().wait()
        if name == "send" and ctx.id == "back":
            raise Refused("no")

    database = Sqlite(folder / "service.db")
    engine = TemporalEngine(database, Place.of(url), [transfer(call)], service=service, lease=LEASE)
    await engine.run()


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], sys.argv[2], Path(sys.argv[3]), *sys.argv[4:]))
