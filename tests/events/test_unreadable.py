"""A record whose headers cannot be read is parked, and stops nobody."""

import asyncio
import sqlite3

import pytest

from switchgear.contract.event import event
from switchgear.contract.message import Message, field
from switchgear.database.postgres import Postgres
from switchgear.events.brokers.port import Record
from switchgear.events.bus import Bus
from switchgear.events.parked import Parked


@event("unreadable.orders", key="order_id")
class Noted(Message):
    order_id: str = field(1)
    number: int = field(2)


async def test_a_record_with_unreadable_headers_is_parked(broker, database, tmp_path):
    seen = []
    done = asyncio.Event()
    bus = Bus(broker, database, "reader")

    @bus.on(Noted, name="note", on_failure="park_key")
    async def note(noted: Noted) -> None:
        seen.append(noted.number)
        if noted.number == 3:
            done.set()

    await bus.start()
    async with database.transaction() as tx:
        await bus.publish(tx, Noted(order_id="a", number=1), Noted(order_id="b", number=2))
    async with asyncio.timeout(60):
        while len(seen) < 2:
            await asyncio.sleep(0.01)
    await bus.stop()

    other = Bus(broker, database, "other")
    await other.start()
    async with database.transaction() as tx:
        await other.publish(tx, Noted(order_id="a", number=2), Noted(order_id="c", number=3))
    async with asyncio.timeout(60):
        while (await other.health()).unpublished:
            await asyncio.sleep(0.01)
    await other.stop()
    with sqlite3.connect(tmp_path / "broker.db") as log:
        ids = [row[0] for row in log.execute("SELECT id FROM log WHERE key = 'a' ORDER BY id")]
        log.execute("UPDATE log SET headers = x'67' WHERE id = ?", (ids[-1],))
    log.close()

    again = Bus(broker, database, "reader")
    again.on(Noted, name="note", on_failure="park_key", handler=note)
    await again.start()
    async with asyncio.timeout(60):
        await done.wait()
        while not (parked := await Parked(database).list()):
            await asyncio.sleep(0.01)
    await again.stop()
    assert [one.key for one in parked] == ["a"]
    assert sorted(seen) == [1, 2, 3]


async def test_a_nul_of_a_foreign_producer_is_parked_and_stops_nobody(broker, pool):
    """PostgreSQL takes none in a text: neither in the inbox nor where events are parked."""
    database, seen = Postgres(pool), []
    bus = Bus(broker, database, "reader")

    @bus.on(Noted, name="note", on_failure="park_key")
    async def note(noted: Noted) -> None:
        seen.append(noted.order_id)

    def record(number, key):
        headers = {"ce-id": number, "ce-source": "them", "ce-type": "unreadable.orders.Noted"}
        return Record(
            "unreadable.orders", key, headers, b'{"order_id":"%b","number":1}' % key[:1].encode()
        )

    await bus.start()
    await broker.publish(
        [record("1", "a"), record("2\0", "b"), record("3", "c\0"), record("4", "d")]
    )
    async with asyncio.timeout(60):
        while len(seen) < 2 or len(await Parked(database).list()) < 2:
            await asyncio.sleep(0.01)
    await broker.publish([record("2\0", "b"), record("5", "e")])  # delivered again
    async with asyncio.timeout(60):
        while len(seen) < 3:
            await asyncio.sleep(0.01)
    await bus.stop()
    parked = {one.event: one for one in await Parked(database).list()}
    assert sorted(seen) == ["a", "d", "e"]
    assert parked.keys() == {r"them/2\u0000", "them/3"}
    assert (parked["them/3"].key, parked["them/3"].cause) == (r"c\u0000", "poison")
    assert parked[r"them/2\u0000"].headers["ce-id"] == "2\0", "it is kept as it was"
    assert "NUL" in parked["them/3"].error


@pytest.mark.parametrize("key", ["a", "b\0"])
async def test_what_is_parked_with_a_nul_can_be_released_and_edited(broker, pool, key):
    database, seen = Postgres(pool), []
    bus = Bus(broker, database, "reader")

    @bus.on(Noted, name="note", on_failure="park_key")
    async def note(noted: Noted) -> None:
        seen.append(noted.order_id)

    headers = {"ce-id": "1\0", "ce-source": "them\0", "ce-type": "unreadable.orders.Noted"}
    await bus.start()
    await broker.publish([Record("unreadable.orders", key, headers, b"{}")])
    parked = Parked(database)
    async with asyncio.timeout(60):
        while not (found := await parked.list()):
            await asyncio.sleep(0.01)
    data = b'{"order_id":"a","number":1}'
    await parked.edit(found[0].id, data, reason="a typo", actor="me")
    await parked.redrive()
    async with asyncio.timeout(60):
        while not seen or await parked.list():
            await asyncio.sleep(0.01)
    await bus.stop()
    assert seen == ["a"]


async def test_what_a_handler_says_with_a_nul_is_parked(pool, broker):
    database = Postgres(pool)
    bus = Bus(broker, database, "reader")

    @bus.on(Noted, name="note", on_failure="park_key", attempts=1)
    async def note(noted: Noted) -> None:
        raise ValueError("a\0b")

    await bus.start()
    async with database.transaction() as tx:
        await bus.publish(tx, Noted(order_id="a", number=1))
    async with asyncio.timeout(60):
        while not (parked := await Parked(database).list()):
            await asyncio.sleep(0.01)
    await bus.stop()
    assert parked[0].error == r"ValueError: a\u0000b"
