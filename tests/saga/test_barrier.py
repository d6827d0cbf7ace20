"""Idempotence, null compensation and hanging, on every database of the port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from switchgear.database.port import Database, Transaction
from switchgear.errors import SagaError
from switchgear.model.context import Context, bind
from switchgear.model.outcome import Refused, Rejected
from switchgear.saga import BarrierClosed
from switchgear.saga.barrier import Barrier, Passage

DO = "saga/o-1/reserve/do/shop.Inventory/reserve"
UNDO = "saga/o-1/reserve/undo/shop.Inventory/release"


@pytest.fixture
async def barrier(any_database: Database) -> AsyncIterator[Barrier]:
    made = Barrier()
    await made.prepare(any_database)
    await made.prepare(any_database)
    await any_database.migrate("stock", ("CREATE TABLE stock (change BIGINT NOT NULL)",))
    return made


@dataclass(frozen=True)
class Held:
    number: int


class Inventory:
    def __init__(self, barrier: Barrier, database: Database) -> None:
        self.database = database
        self.number = 0

        @barrier.do
        async def hold(tx: Transaction, change: int, *, fail: bool = False) -> Held:
            await tx.run("INSERT INTO stock VALUES (?)", change)
            if fail:
                raise Refused("no")
            self.number += 1
            return Held(self.number)

        @barrier.undo(absent=Held(0))
        async def release(change: int, *, tx: Transaction) -> Held:
            await tx.run("INSERT INTO stock VALUES (?)", -change)
            return Held(-1)

        self._hold, self._release = hold, release

    async def hold(self, key: str | None = DO, *, fail: bool = False) -> Held:
        with bind(Context(key=key)):
            async with self.database.transaction() as tx:
                return await self._hold(tx, 3, fail=fail)

    async def release(self, key: str | None = UNDO) -> Held:
        with bind(Context(key=key)):
            async with self.database.transaction() as tx:
                return await self._release(3, tx=tx)

    async def changes(self) -> list[int]:
        async with self.database.transaction() as tx:
            return [row[0] for row in await tx.run("SELECT change FROM stock ORDER BY change")]


@pytest.fixture
def inventory(barrier: Barrier, any_database: Database) -> Inventory:
    return Inventory(barrier, any_database)


async def test_a_step_and_its_undo_have_one_effect_each(inventory: Inventory) -> None:
    assert await inventory.hold() == Held(1)
    assert await inventory.hold() == Held(1)
    assert await inventory.release() == Held(-1)
    assert await inventory.release() == Held(-1)
    assert await inventory.changes() == [-3, 3]
    assert await inventory.hold() == Held(1)  # a late repetition: answered, not carried out


async def test_an_undo_without_its_step_does_nothing(inventory: Inventory) -> None:
    assert await inventory.release() == Held(0)
    assert await inventory.release() == Held(0)
    assert await inventory.changes() == []


async def test_a_step_after_its_undo_is_refused(inventory: Inventory) -> None:
    await inventory.release()
    with pytest.raises(BarrierClosed, match="saga/o-1/reserve arrived after its undo"):
        await inventory.hold()
    assert await inventory.changes() == []


async def test_a_step_that_was_refused_leaves_no_mark(inventory: Inventory) -> None:
    with pytest.raises(Refused):
        await inventory.hold(fail=True)
    assert await inventory.release() == Held(0)
    assert await inventory.changes() == []


async def test_other_sagas_and_other_commands_of_a_step_are_apart(inventory: Inventory) -> None:
    await inventory.hold()
    await inventory.hold(DO + "#2")
    await inventory.hold(DO.replace("o-1", "o-2"))
    assert await inventory.changes() == [3, 3, 3]


async def test_together(inventory: Inventory) -> None:
    """A step and its undo arrive at once: whichever is first, nothing stays that nobody undoes."""
    for number in range(6):
        do, undo = DO.replace("o-1", f"p-{number}"), UNDO.replace("o-1", f"p-{number}")
        calls = [inventory.hold(do), inventory.release(undo), inventory.hold(do)]
        await asyncio.gather(*calls, return_exceptions=True)
    assert sum(await inventory.changes()) == 0


@pytest.mark.parametrize("key", [None, "an ordinary key", "saga/o-1/reserve", "saga/o-1/do"])
async def test_a_key_that_is_no_sagas(inventory: Inventory, key: str | None) -> None:
    with pytest.raises(Rejected, match="not a saga's"):
        await inventory.hold(key)


async def test_the_wrong_side(inventory: Inventory) -> None:
    with pytest.raises(SagaError, match=r"guarded as a do.*@barrier.undo"):
        await inventory.hold(UNDO)


async def test_no_transaction(barrier: Barrier) -> None:
    @barrier.do
    async def hold(request: int) -> None: ...

    with bind(Context(key=DO)), pytest.raises(SagaError, match="open transaction"):
        await hold(1)


async def test_by_hand(barrier: Barrier, any_database: Database) -> None:
    async with any_database.transaction() as tx:
        assert await barrier.enter(tx, key=UNDO) is Passage.ABSENT
        assert await barrier.enter(tx, key=UNDO) is Passage.REPEATED
    async with any_database.transaction() as tx:
        assert await barrier.enter(tx, key=DO.replace("o-1", "o-2")) is Passage.FRESH
