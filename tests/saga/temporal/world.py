"""A saga with branches, whose participants fail as its id says: `pivot:unknown`."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from switchgear.model.outcome import Reason, Rejected, Unavailable, Unknown
from switchgear.saga import Backoff, Context, Saga
from tests.saga.shop import Order, OutOfStock, Payment, Reservation

QUICK = Backoff(attempts=2, first=0.01, factor=4.0, most=0.5)
GIVE_UP = timedelta(seconds=4)
"""Within which a first attempt is answered, on a slow machine too."""
HOW: dict[str, BaseException] = {
    "refused": OutOfStock(sku="A-1"),
    "rejected": Rejected("who are you"),
    "unavailable": Unavailable("nobody is there", reason=Reason.CONNECT),
    "unknown": Unknown("the reply was lost", reason=Reason.TIMEOUT),
    "bug": ZeroDivisionError("a bug"),
}


@dataclass
class World:
    """What is asked of the participants of each saga, which fail as the saga's id says."""

    calls: dict[str, list[str]] = field(default_factory=dict)

    async def call(self, name: str, order: Order) -> None:
        self.calls.setdefault(order.order_id, []).append(name)
        failing, _, how = order.order_id.partition(":")
        if failing == name:
            raise HOW[how]
        if failing == f"un{name}":
            raise HOW["refused"]  # so that there is something to undo

    def saga(self) -> Saga:
        saga = Saga(
            "branches", version=1, deadline=timedelta(minutes=5), retry=QUICK, undo_retry=QUICK
        )
        book = "../runbooks/release.md"

        @saga.undone(runbook=book)
        async def unstart(order: Order, why: str, ctx: Context) -> None:
            await self.call("unstart", order)

        @saga.undo(runbook=book)
        async def una(order: Order, done: Reservation | Unknown, ctx: Context) -> None:
            await self.call("una", order)

        @una.undoes
        async def a(order: Order, ctx: Context) -> Reservation:
            await self.call("a", order)
            return Reservation(1)

        @saga.undo(runbook=book)
        async def unb(order: Order, done: Payment | Unknown, ctx: Context) -> None:
            await self.call("unb", order)

        @unb.undoes
        async def b(order: Order, ctx: Context) -> Payment:
            await self.call("b", order)
            return Payment(2)

        @saga.undo(runbook=book)
        async def unc(order: Order, done: Unknown | None, ctx: Context) -> None:
            await self.call("unc", order)

        @unc.undoes
        async def c(order: Order, one: Reservation, two: Payment, ctx: Context) -> None:
            assert (one, two) == (Reservation(1), Payment(2))
            await self.call("c", order)

        @saga.read
        async def look(order: Order, ctx: Context) -> None:
            await self.call("look", order)
            if order.order_id.startswith("un"):
                raise HOW["refused"]

        @saga.pivot(give_up=GIVE_UP, runbook=book)
        async def pivot(order: Order, ctx: Context) -> None:
            await self.call("pivot", order)

        @saga.retriable(give_up=GIVE_UP, runbook=book)
        async def r(order: Order, ctx: Context) -> None:
            await self.call("r", order)

        @saga.retriable(give_up=GIVE_UP, runbook=book)
        async def q(order: Order, ctx: Context) -> None:
            await self.call("q", order)

        saga.path((a | b) >> c >> look >> pivot >> (r | q))
        return saga
