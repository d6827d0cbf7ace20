"""A consumer in a process of its own, to be killed: reactor.py URL DATABASE LEASE.

It says "began" when the first handler runs, and takes a millisecond for each event.
"""

import asyncio
import sys

from switchgear.contract.event import event
from switchgear.contract.message import Message, field
from switchgear.database.sqlite import Sqlite
from switchgear.events.brokers.url import broker_of
from switchgear.events.bus import Bus

EFFECT = "INSERT INTO effects (key, number) VALUES (?, ?)"


# as in world.py, without pytest: a process that is to be killed soon starts soon
@event("test.orders", key="key")
class Ordered(Message):
    key: str = field(1)
    number: int = field(2)


async def main(url: str, path: str, lease: str) -> None:
    bus = Bus(broker_of(url), Sqlite(path), "consumer", lease=float(lease))
    said = False

    @bus.on(Ordered, name="react", on_failure="block_key")
    async def react(event, tx):
        nonlocal said
        if not said:
            said = True
            sys.stdout.write("began\n")
            sys.stdout.flush()
        await tx.execute(EFFECT, event.key, event.number)
        await asyncio.sleep(0.001)

    await bus.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
