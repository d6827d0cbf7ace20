"""A record whose headers cannot be read is parked, and stops nobody."""

import asyncio
import sqlite3

from switchgear.contract.event import event
from switchgear.contract.message import Message, field
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
