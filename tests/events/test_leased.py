"""A member of a group on a log with leases: what happens while it beats."""

import asyncio

from switchgear.events.brokers.group import Beat
from switchgear.events.brokers.leased import LeasedSubscription
from switchgear.events.brokers.port import Partition

ZERO = Partition("t", 0)


class SlowLedger:
    """Has one partition for the member. What a beat found arrives only when `arrives` is set."""

    def __init__(self):
        self.owned = {ZERO: (0, 1, 0)}
        self.asked, self.arrives = asyncio.Event(), asyncio.Event()

    async def beat(self):
        found = Beat(dict(self.owned), frozenset(), settled=True, epoch=1)
        self.asked.set()
        await self.arrives.wait()
        return found

    async def commit(self, positions):
        return []

    async def leave(self, parts):
        self.owned.clear()


class EmptyView:
    heads = {}  # noqa: RUF012
    epochs = {}  # noqa: RUF012

    def refresh(self):
        pass


async def test_a_beat_that_began_before_a_release_does_not_give_the_partition_back():
    ledger = SlowLedger()
    one = LeasedSubscription(ledger, EmptyView(), "g", lease=60.0, closed=lambda _: None)
    ledger.arrives.set()
    await one.start()
    assert one.owns(ZERO)
    ledger.arrives.clear()
    ledger.asked.clear()
    beating = asyncio.create_task(one._beat())
    await ledger.asked.wait()
    releasing = asyncio.create_task(one.release([ZERO]))
    await asyncio.sleep(0)
    ledger.arrives.set()
    await asyncio.gather(beating, releasing)
    assert not one.owns(ZERO)
    await one.close()
