"""Events that a transaction claims and does not get to are handled later, not lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from switchgear.contract.event import event
from switchgear.contract.message import Message, field
from switchgear.database.sqlite import Sqlite
from switchgear.events.brokers.sqlite import SqliteBroker
from switchgear.events.bus import Bus
from switchgear.events.handling import HandlerTransaction
from tests.events.world import until


@event("test.given-back", key="key")
class Noted(Message):
    key: str = field(1)
    number: int = field(2)


@asynccontextmanager
async def waiting(folder: Path, events: list[Noted]) -> AsyncIterator[Bus]:
    """Give a bus, not started, for which events already wait on the broker."""
    broker, database = SqliteBroker(folder / "broker.db", partitions=1), Sqlite(folder / "a.db")
    producer = Bus(broker, Sqlite(folder / "producer.db"), "producer")
    try:
        await producer.start()
        async with producer.database.transaction() as tx:
            await producer.publish(tx, *events)
        await producer.stop()
        yield Bus(broker, database, "consumer")
    finally:
        await producer.database.close()
        await database.close()
        await broker.close()


async def test_events_behind_slow_ones_in_a_batch_are_handled(tmp_path):
    events = [Noted(key=f"k{number}", number=number) for number in range(12)]
    handled: list[int] = []
    async with waiting(tmp_path, events) as bus:

        @bus.on(Noted, name="note", on_failure="block_key")
        async def note(event: Noted, tx: HandlerTransaction) -> None:
            await asyncio.sleep(0.05)  # more than a batch may take
            handled.append(event.number)

        await bus.start()
        # as if they had been quick so far: several share a transaction
        bus._consumers["consumer.note"]._pace._mean = 0.001
        try:
            await until(lambda: len(handled) >= len(events))
        finally:
            await bus.stop()
    assert sorted(handled) == list(range(12))


async def test_events_behind_one_of_their_key_that_fails_are_handled_in_order(tmp_path):
    events = [Noted(key="one", number=number) for number in range(6)]
    handled: list[int] = []
    failures: list[int] = []
    async with waiting(tmp_path, events) as bus:

        @bus.on(Noted, name="note", on_failure="block_key")
        async def note(event: Noted, tx: HandlerTransaction) -> None:
            if event.number == 2 and not failures:
                failures.append(event.number)
                raise ValueError("the first time it fails")
            handled.append(event.number)

        await bus.start()
        # as if they had been quick so far: several share a transaction
        bus._consumers["consumer.note"]._pace._mean = 0.001
        try:
            await until(lambda: len(handled) >= len(events))
        finally:
            await bus.stop()
    assert failures == [2]
    assert handled == list(range(6))
