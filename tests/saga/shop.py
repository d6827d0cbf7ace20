"""A checkout whose steps do what a test tells them to, and remember how they were called."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from switchgear.contract.message import field as numbered
from switchgear.contract.refusal import Refusal
from switchgear.model.context import Context as Bound
from switchgear.model.context import current
from switchgear.model.outcome import Reason, Unavailable, Unknown
from switchgear.saga import Backoff, Context, Saga

QUICK = Backoff(attempts=2, first=0.01, factor=1.0, most=0.01)


@dataclass(frozen=True)
class Order:
    order_id: str
    amount: int = 10


@dataclass(frozen=True)
class Reservation:
    number: int


@dataclass(frozen=True)
class Payment:
    number: int


@dataclass(frozen=True)
class Shipment:
    number: int


class OutOfStock(Refusal, package="tests.saga"):
    """A refusal of a contract."""

    sku: str = numbered(1)


UNKNOWN = Unknown("the reply was lost", reason=Reason.TIMEOUT)
UNAVAILABLE = Unavailable("nobody is there", reason=Reason.CONNECT)


@dataclass(frozen=True)
class Call:
    name: str
    ctx: Context
    bound: Bound
    done: Any = None


@dataclass
class Book:
    """What the steps do, and what was asked of them."""

    plan: dict[str, deque[Any]] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    begun: dict[str, asyncio.Event] = field(default_factory=dict)

    def will(self, name: str, *answers: Any) -> None:
        """Let calls of `name` end so, one after the other; the last one repeats.

        An exception is raised, an event is waited for, a function is called, and None is success.
        """
        self.plan[name] = deque(answers)

    async def called(self, name: str, ctx: Context, done: Any = None) -> None:
        self.calls.append(Call(name, ctx, current(), done))
        self.begun.setdefault(name, asyncio.Event()).set()
        queue = self.plan.get(name)
        if not queue:
            return
        answer = queue.popleft() if len(queue) > 1 else queue[0]
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, asyncio.Event):
            await answer.wait()
        elif callable(answer):
            await answer()

    async def until(self, name: str) -> None:
        await self.begun.setdefault(name, asyncio.Event()).wait()

    @property
    def names(self) -> list[str]:
        return [call.name for call in self.calls]

    def of(self, name: str) -> list[Call]:
        return [call for call in self.calls if call.name == name]


def checkout(book: Book, **settings: Any) -> Saga:
    """Reserve, debit, ship, confirm: as in the design."""
    settings = {
        "version": 1,
        "deadline": timedelta(minutes=15),
        "retry": QUICK,
        "undo_retry": QUICK,
        **settings,
    }
    give_up = settings.pop("give_up", timedelta(hours=1))
    checkout = Saga(settings.pop("name", "checkout"), **settings)

    @checkout.undo(runbook="runbooks/release.md")
    async def release(order: Order, done: Reservation | Unknown, ctx: Context) -> None:
        await book.called("release", ctx, done)

    @release.undoes
    async def reserve(order: Order, ctx: Context) -> Reservation:
        await book.called("reserve", ctx)
        return Reservation(1)

    @checkout.undo(runbook="runbooks/refund.md")
    async def refund(order: Order, done: Payment | Unknown, ctx: Context) -> None:
        await book.called("refund", ctx, done)

    @refund.undoes
    async def debit(order: Order, ctx: Context) -> Payment:
        await book.called("debit", ctx)
        return Payment(order.amount)

    @checkout.pivot(give_up=give_up, runbook="runbooks/ship.md")
    async def ship(order: Order, paid: Payment, ctx: Context) -> Shipment:
        await book.called("ship", ctx, paid)
        return Shipment(3)

    @checkout.retriable(give_up=give_up, runbook="runbooks/confirm.md")
    async def confirm(order: Order, ctx: Context) -> None:
        await book.called("confirm", ctx, ctx.result(ship))

    checkout.path(reserve >> debit >> ship >> confirm)
    return checkout


async def eventually(holds: Callable[[], bool | Awaitable[bool]]) -> None:
    """Wait until `holds()`; real threads, files and servers are at work."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(60):
        while True:
            held = holds()
            if held if isinstance(held, bool) else await held:
                return
            pause = loop.create_future()
            loop.call_later(0.005, pause.set_result, None)
            await pause


class Clock:
    """A wall clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now
