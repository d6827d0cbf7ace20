"""The breakers of undos: who fails is not asked by every saga, and asked again when it is time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from switchgear.database.sqlite import Sqlite
from switchgear.model.outcome import Reason, Refused, Unavailable
from switchgear.model.signal import Signal, SignalKind, subscribe
from switchgear.policy.breaker import Breaker
from switchgear.saga import Backoff, Engine, SagaUnfinished, runbook
from switchgear.saga.guard import Guards
from switchgear.saga.plan import Side
from switchgear.saga.state import Run
from tests.saga.shop import (
    UNAVAILABLE,
    UNKNOWN,
    Book,
    Clock,
    Order,
    OutOfStock,
    checkout,
    eventually,
)

BREAKER = Breaker(consecutive=2, open=30, jitter=0.0, probes=1, ramp=0)


class Bench:
    """A breaker of the undo of `debit`, and a clock."""

    def __init__(self, book: Book, breaker: Breaker = BREAKER) -> None:
        self.now = 100.0
        self.calls = 0
        guards = Guards(lambda: 0.5, lambda: self.now)
        self._carry = guards.of(checkout(book, undo_breaker=breaker))

    async def undo(self, end: BaseException | None = None, side: Side = Side.UNDO) -> None:
        await self.carry(self._ends(end), side)

    async def carry(
        self, call: Callable[[], Awaitable[bytes | None]], side: Side = Side.UNDO
    ) -> None:
        await self._carry(Run("debit", side, 1, 0.0), call)

    def _ends(self, end: BaseException | None) -> Callable[[], Awaitable[bytes | None]]:
        async def call() -> None:
            self.calls += 1
            if end is not None:
                raise end

        return call

    async def fails(self, *ends: BaseException, side: Side = Side.UNDO) -> None:
        for end in ends:
            with pytest.raises(type(end)):
                await self.undo(end, side)

    async def is_turned_away(self) -> Unavailable:
        before = self.calls
        with pytest.raises(Unavailable) as caught:
            await self.undo()
        assert self.calls == before
        assert caught.value.reason is Reason.BREAKER_OPEN
        return caught.value


@pytest.fixture
def bench(book: Book) -> Bench:
    return Bench(book)


async def test_it_opens_tells_for_how_long_and_closes_after_a_probe(bench: Bench) -> None:
    await bench.fails(UNAVAILABLE, UNKNOWN)
    bench.now += 10
    assert (await bench.is_turned_away()).retry_after == 20
    bench.now += 20
    await bench.undo()
    await bench.undo()
    assert bench.calls == 4


async def test_who_refuses_is_there(bench: Bench) -> None:
    await bench.fails(UNAVAILABLE, Refused("no"), UNAVAILABLE, OutOfStock(sku="a"))
    await bench.undo()


async def test_a_bug_is_a_failure(bench: Bench) -> None:
    await bench.fails(LookupError("a bug"), LookupError("a bug"))
    await bench.is_turned_away()


async def test_the_way_forward_has_no_breaker(bench: Bench) -> None:
    await bench.fails(*[UNAVAILABLE] * 5, side=Side.DO)
    await bench.undo()


async def test_what_is_cut_short_proves_nothing_and_gives_its_place_back(bench: Bench) -> None:
    async def hangs() -> bytes | None:
        await asyncio.Event().wait()
        return None

    await bench.fails(UNAVAILABLE, UNAVAILABLE)
    bench.now += 31
    probe = asyncio.create_task(bench.carry(hangs))
    await asyncio.sleep(0)
    await bench.is_turned_away()  # the only place is taken
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    await bench.undo()


async def test_an_undo_may_have_a_breaker_of_its_own(book: Book) -> None:
    bench = Bench(book, Breaker(mode="closed"))
    await bench.fails(*[UNAVAILABLE] * 50)


async def test_in_an_outage_few_sagas_ask_and_all_stand_in_front_of_a_person(
    database: Sqlite, book: Book
) -> None:
    book.will("ship", OutOfStock(sku="a"))
    book.will("refund", UNAVAILABLE)
    saga = checkout(
        book,
        undo_retry=Backoff(attempts=2, first=0.0, most=0.0),
        undo_breaker=Breaker(consecutive=2, open=3600, longest=3600, jitter=0.0),
    )
    clock = Clock()
    told: list[Signal] = []
    with subscribe(told.append):
        async with Engine(database, [saga], concurrency=1, clock=clock) as engine:
            runs = [
                await engine.begin(saga, Order(f"o-{number}"), id=f"o-{number}")
                for number in range(6)
            ]
            first, *others = runs
            with pytest.raises(SagaUnfinished, match="waits for a person"):
                await first.result(within=60)

            async def turned_away() -> bool:
                told = [str(await runbook.show(database, run.id)) for run in others]
                return all("breaker" in one for one in told)

            await eventually(turned_away)
            # their second attempts are due, and the breaker lets nobody through yet
            clock.now += 3600.0
            await database.write(
                lambda connection: connection.execute(
                    "UPDATE switchgear_sagas SET wake = 0 WHERE owner IS NULL AND wake IS NOT NULL"
                )
            )
            for run in others:
                with pytest.raises(SagaUnfinished, match="waits for a person"):
                    await run.result(within=60)
    assert len(book.of("refund")) == 2
    opened = [each for each in told if each.kind is SignalKind.BREAKER_OPENED]
    assert [each.subject for each in opened] == ["checkout/refund"]
