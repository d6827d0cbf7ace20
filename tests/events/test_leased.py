"""A member of a group on a log with leases: what happens while it beats."""

import asyncio

import pytest

from switchgear.errors import BrokerError
from switchgear.events.brokers.group import Beat
from switchgear.events.brokers.leased import LeasedSubscription
from switchgear.events.brokers.port import Partition
from tests.events.world import until

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


class RefusingLedger(SlowLedger):
    """Raises what `errors` has, one a beat."""

    def __init__(self):
        super().__init__()
        self.errors, self.beats = [], asyncio.Semaphore(0)

    async def beat(self):
        self.beats.release()
        if self.errors:
            raise self.errors.pop(0)
        return Beat(dict(self.owned), frozenset(), settled=True, epoch=1)


@pytest.mark.parametrize("kind", [BrokerError, LookupError])
@pytest.mark.parametrize("told", [True, False])
async def test_a_refused_beat_is_told_and_the_membership_goes_on(told, kind):
    ledger = RefusingLedger()
    one = LeasedSubscription(ledger, EmptyView(), "g", lease=0.03, closed=lambda _: None)
    await one.start()
    await one.poll(1, 0.0)
    ledger.errors = [kind("the password is wrong."), kind("the password is wrong.")]
    async with asyncio.timeout(60):
        if told:
            with pytest.raises(kind, match="the password is wrong"):
                await one.poll(1, 10.0)
        while ledger.errors:
            await ledger.beats.acquire()
        ledger.beats = asyncio.Semaphore(0)
        for _ in range(2):  # the first of these may be under way
            await ledger.beats.acquire()
    await until(lambda: one.owns(ZERO))  # for four fifths of the lease after each beat
    assert (await one.poll(1, 0.0)).deliveries == (), "what has passed is not told"
    await one.close()


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
