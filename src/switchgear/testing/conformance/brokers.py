"""What every broker adapter keeps, whichever broker is behind it. Real processes, real kills."""

import asyncio
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from switchgear.events.brokers.hashing import partition_of
from switchgear.events.brokers.port import (
    Lag,
    LeaseLost,
    Partition,
    Record,
    RecordTooLarge,
)
from switchgear.testing.conformance import PARTITIONS
from switchgear.testing.conformance.world import declared

TOPIC = "test.orders"
MEMBER = Path(__file__).with_name("member.py")
LONG = 60.0
"""A lease that lasts, though this process may not run for some seconds."""
ENDLESS = 600.0
"""One for whose end no test waits."""

pytestmark = pytest.mark.asyncio


def records(count, *, keys=10, start=0):
    return [
        Record(TOPIC, f"k{number % keys}", {"number": str(number)}, b"%d" % number)
        for number in range(start, start + count)
    ]


async def collect(subscription, count, *, commit=False, within=90.0):
    """Poll until `count` records have arrived; nothing more may come with them."""
    found = []
    end = time.monotonic() + within
    while len(found) < count:
        assert time.monotonic() < end, f"{len(found)} of {count} records arrived"
        polled = await subscription.poll(500, 0.5)
        found += polled.deliveries
        if commit and polled.deliveries:
            await subscription.commit({one.partition: one.offset + 1 for one in polled.deliveries})
    assert len(found) == count
    return found


@pytest.fixture
def divided(broker):
    """The tests of partitions that members own while there is nothing in them."""
    if not broker.capabilities.partitions:
        pytest.skip("every key is a partition of its own")


async def settle(*subscriptions, within=90.0):
    """Poll all until they share the partitions evenly; what is asked back is released."""
    partitions = [Partition(TOPIC, number) for number in range(PARTITIONS)]
    end = time.monotonic() + within
    while True:
        for one in subscriptions:
            polled = await one.poll(0, 0.02)
            await one.release(polled.revoking)
        owned = [sum(map(one.owns, partitions)) for one in subscriptions]
        if owned == [PARTITIONS // len(subscriptions)] * len(subscriptions):
            return
        assert time.monotonic() < end, f"not settled: {owned}"


class Member:
    """Another process that is a member of a group."""

    def __init__(self, url, group, lease):
        self.process = subprocess.Popen(
            [sys.executable, MEMBER, url, "read", group, str(lease)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    async def line(self, start):
        """Read on until a line that begins with `start`."""
        async with asyncio.timeout(60):
            while True:
                found = await asyncio.to_thread(self.process.stdout.readline)
                assert found, f"the member has ended with {self.process.wait()}"
                if found.startswith(start):
                    return found.split()

    async def commit(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def signal(self, number):
        self.process.send_signal(number)

    def end(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def member(adapter):
    made = []

    def make(group, lease=1.0):
        made.append(Member(adapter.url, group, lease))
        return made[-1]

    yield make
    for one in made:
        one.end()


async def test_a_record_arrives_as_it_was_published(broker):
    await declared(broker, "g")
    headers = {"ce-id": "1", "ce-subject": "größe ☃", "empty": ""}
    sent = Record(TOPIC, "kø", headers, bytes(range(256)))
    await broker.publish([sent])
    subscription = await broker.subscribe("g", [TOPIC], lease=LONG)
    (found,) = await collect(subscription, 1)
    assert (found.key, found.headers, found.value) == (sent.key, sent.headers, sent.value)
    if broker.capabilities.partitions:
        assert found.partition == Partition(TOPIC, partition_of("kø", PARTITIONS))
    assert abs(found.published - time.time()) < 60


async def test_records_of_a_key_arrive_in_order(broker):
    await declared(broker, "g")
    await broker.publish(records(100))
    await broker.publish(records(100, start=100))
    subscription = await broker.subscribe("g", [TOPIC], lease=LONG)
    found = await collect(subscription, 200, commit=True)
    for key in {one.key for one in found}:
        numbers = [int(one.value) for one in found if one.key == key]
        assert numbers == sorted(numbers)


async def test_offsets_of_a_partition_grow(broker):
    await declared(broker, "g")
    await broker.publish(records(50))
    found = await collect(await broker.subscribe("g", [TOPIC], lease=LONG), 50, commit=True)
    for partition in {one.partition for one in found}:
        offsets = [one.offset for one in found if one.partition == partition]
        assert offsets == sorted(set(offsets))


async def test_records_without_a_key_are_spread(broker):
    """A client may keep to one partition for a moment, so that what follows makes one batch."""
    await declared(broker, "g")
    subscription = await broker.subscribe("g", [TOPIC], lease=LONG)
    partitions, end = set(), time.monotonic() + 90
    while len(partitions) < 4:
        assert time.monotonic() < end, f"all went to {partitions}"
        await broker.publish([Record(TOPIC, None, {}, b"any")])
        for one in await collect(subscription, 1):
            assert one.key is None
            partitions.add(one.partition)


async def test_a_new_group_reads_from_the_start_and_groups_are_independent(broker):
    """Where the broker has no replay, the start is when the group was declared."""
    await declared(broker, "one")
    await broker.publish(records(30))
    one = await broker.subscribe("one", [TOPIC], lease=LONG)
    await collect(one, 30, commit=True)
    other = await broker.subscribe("other", [TOPIC], lease=LONG)
    await broker.publish(records(10, start=30))
    assert len(await collect(one, 10)) == 10
    assert len(await collect(other, 40 if broker.capabilities.replay else 10)) >= 10
    assert not (await other.poll(10, 0.1)).deliveries


async def test_members_of_a_group_share_the_partitions_and_each_record_arrives_once(adapter):
    one, two = adapter.open(), adapter.open()
    members = [
        await one.subscribe("g", [TOPIC], lease=LONG),
        await two.subscribe("g", [TOPIC], lease=LONG),
    ]
    if one.capabilities.partitions:
        await settle(*members)
    await one.publish(records(200, keys=50))
    found = []
    async with asyncio.timeout(60):
        while len(found) < 200:
            for member in members:
                arrived = (await member.poll(500, 0.05)).deliveries
                await member.commit({one.partition: one.offset + 1 for one in arrived})
                found += arrived
    assert Counter(int(one.value) for one in found) == Counter(range(200))


async def test_a_member_that_leaves_hands_over_at_once(adapter, divided):
    one = await adapter.open().subscribe("g", [TOPIC], lease=ENDLESS)
    two = await adapter.open().subscribe("g", [TOPIC], lease=ENDLESS)
    await settle(one, two)
    await one.close()
    await settle(two)  # long before the lease ends


async def test_what_a_member_that_leaves_had_read_goes_to_another_at_once(adapter, broker):
    await declared(broker, "g")
    await broker.publish(records(20, keys=20))
    one = await adapter.open().subscribe("g", [TOPIC], lease=ENDLESS)
    await collect(one, 20)
    await one.close()
    # long before the lease ends
    await collect(await broker.subscribe("g", [TOPIC], lease=ENDLESS), 20)


async def test_what_was_not_committed_is_delivered_again(broker):
    await declared(broker, "g")
    await broker.publish(records(20, keys=20))
    one = await broker.subscribe("g", [TOPIC], lease=LONG)
    found = await collect(one, 20)
    done = [delivery for delivery in found if delivery.partition == found[0].partition][:2]
    assert done
    await one.commit({done[-1].partition: done[-1].offset + 1})
    await one.close()
    again = await collect(await broker.subscribe("g", [TOPIC], lease=LONG), 20 - len(done))
    missing = {int(one.value) for one in found} - {int(one.value) for one in again}
    assert missing == {int(one.value) for one in done}


async def test_a_position_never_goes_back(broker):
    await declared(broker, "g")
    await broker.publish(records(10, keys=1))
    one = await broker.subscribe("g", [TOPIC], lease=LONG)
    found = await collect(one, 10)
    (partition,) = {delivery.partition for delivery in found}
    await one.commit({partition: found[7].offset + 1})
    await one.commit({partition: found[2].offset + 1})
    assert (await broker.lag("g", [TOPIC])).events == 2


async def test_lag_is_the_truth(broker):
    """An estimate is exact while nothing moves; what only the truth has is the oldest's age."""
    await declared(broker, "g")
    assert await broker.lag("g", [TOPIC]) == Lag(0, None)
    await broker.publish(records(30, keys=30))
    lag = await broker.lag("g", [TOPIC])
    assert lag.events == 30
    if broker.capabilities.exact_lag:
        assert lag.oldest is not None
        assert 0 <= lag.oldest < 600
    subscription = await broker.subscribe("g", [TOPIC], lease=LONG)
    found = await collect(subscription, 30)
    assert (await broker.lag("g", [TOPIC])).events == 30, "read is not committed"
    await subscription.commit({one.partition: one.offset + 1 for one in found})
    await broker.publish(records(5, start=30))
    await collect(subscription, 5, commit=True)
    assert await broker.lag("g", [TOPIC]) == Lag(0, None)


async def test_a_paused_partition_delivers_nothing_until_it_is_resumed(broker, divided):
    subscription = await broker.subscribe("g", [TOPIC], lease=LONG)
    await settle(subscription)
    paused = [Partition(TOPIC, number) for number in (0, 1)]
    subscription.pause(paused)
    sent = records(100, keys=50)
    await broker.publish(sent)
    others = sum(partition_of(one.key, PARTITIONS) not in (0, 1) for one in sent)
    before = await collect(subscription, others)
    assert {one.partition.number for one in before} == {2, 3}
    assert not (await subscription.poll(500, 0.2)).deliveries
    subscription.resume(paused)
    after = await collect(subscription, 100 - others)
    assert {one.partition.number for one in after} == {0, 1}


async def test_no_more_than_the_limit_arrives_and_no_partition_starves(broker):
    """However quick it is: of one partition there is always more than a poll may return."""
    await declared(broker, "g")
    await broker.publish([*records(200, keys=1), *records(200, keys=100, start=200)])
    subscription = await broker.subscribe("g", [TOPIC], lease=LONG)
    seen = Counter()
    polls = 0
    end = time.monotonic() + 90
    while polls < 25 or len(seen) < 4:
        assert time.monotonic() < end, f"{polls} polls told of {seen}"
        polled = await subscription.poll(8, 0.5)
        assert len(polled.deliveries) <= 8
        polls += bool(polled.deliveries)
        await subscription.commit({one.partition: one.offset + 1 for one in polled.deliveries})
        seen.update(one.partition.number for one in polled.deliveries)
        if polled.deliveries:
            await broker.publish(records(8, keys=1, start=1_000 + 8 * polls))


async def test_a_poll_with_nothing_to_tell_returns_after_its_wait(broker):
    subscription = await broker.subscribe("g", [TOPIC], lease=LONG)
    if broker.capabilities.partitions:
        await settle(subscription)
    began = time.monotonic()
    assert not (await subscription.poll(10, 0.2)).deliveries
    assert 0.15 < time.monotonic() - began < 60.0


async def test_a_publish_of_another_process_wakes_a_poll(adapter, broker):
    subscription = await broker.subscribe("g", [TOPIC], lease=LONG)
    if broker.capabilities.partitions:
        await settle(subscription)
    waiting = asyncio.create_task(subscription.poll(10, 600.0))
    done = await asyncio.create_subprocess_exec(
        sys.executable, MEMBER, adapter.url, "publish", "p", "10"
    )
    assert await done.wait() == 0
    async with asyncio.timeout(90):  # long before it would return by itself
        assert (await waiting).deliveries


async def test_a_record_over_the_limit_is_refused_with_both_sizes(broker):
    await declared(broker, "g")
    limit = broker.capabilities.max_bytes
    assert limit is not None
    with pytest.raises(RecordTooLarge, match=f"{limit + 1} bytes.*{limit}"):
        await broker.publish([*records(1), Record(TOPIC, "k", {}, b"x" * (limit + 1))])
    await broker.publish([Record(TOPIC, "k", {}, b"x" * limit)])
    assert len(await collect(await broker.subscribe("g", [TOPIC], lease=LONG), 1)) == 1, (
        "all or nothing"
    )


async def test_two_producers_lose_nothing_and_keep_their_order(adapter, broker):
    await declared(broker, "g")
    producers = [
        await asyncio.create_subprocess_exec(
            sys.executable, MEMBER, adapter.url, "publish", name, "300"
        )
        for name in ("a", "b")
    ]
    found = await collect(await broker.subscribe("g", [TOPIC], lease=LONG), 600, commit=True)
    for producer in producers:
        assert await producer.wait() == 0
    for key in {one.key for one in found}:
        numbers = [int(one.headers["number"]) for one in found if one.key == key]
        assert numbers == sorted(numbers)
        assert len(numbers) == 60


async def test_a_killed_members_partitions_go_to_another(adapter, broker, member):
    await declared(broker, "g")
    await broker.publish(records(40, keys=40))
    killed = member("g", lease=1.0)
    await killed.line("got")
    other = await broker.subscribe("g", [TOPIC], lease=LONG)
    killed.signal(signal.SIGKILL)
    if broker.capabilities.partitions:
        await settle(other)
    await collect(other, 40)


async def test_a_member_that_slept_through_its_lease_can_no_longer_commit(broker, member):
    await declared(broker, "g")
    await broker.publish(records(40))
    slept = member("g", lease=1.0)
    await slept.line("got")
    slept.signal(signal.SIGSTOP)
    # long: what it has taken over it keeps, though this process may be slow
    other = await broker.subscribe("g", [TOPIC], lease=LONG)
    found = await collect(other, 40, commit=True)
    slept.signal(signal.SIGCONT)
    await slept.commit()
    assert (await slept.line(("lost", "committed")))[0] == "lost"
    assert (await broker.lag("g", [TOPIC])).events == 0
    assert len(found) == 40


async def test_what_was_released_can_no_longer_be_committed(adapter, broker):
    await declared(broker, "g")
    await broker.publish(records(6, keys=3))
    one = await adapter.open().subscribe("g", [TOPIC], lease=LONG)
    found = {delivery.partition: delivery.offset + 1 for delivery in await collect(one, 6)}
    theirs, *ours = found
    await one.release([theirs])
    assert not one.owns(theirs)
    with pytest.raises(LeaseLost) as caught:
        await one.commit(found)
    assert caught.value.partitions == {theirs}
    assert all(map(one.owns, ours)) or not broker.capabilities.partitions


async def test_a_partition_that_was_handed_over_can_no_longer_be_committed(adapter, divided):
    one = await adapter.open().subscribe("g", [TOPIC], lease=LONG)
    await settle(one)
    two = await adapter.open().subscribe("g", [TOPIC], lease=LONG)
    await settle(one, two)
    theirs, ours = sorted(map(Partition, [TOPIC] * PARTITIONS, range(PARTITIONS)), key=one.owns)[
        1:3
    ]
    assert not one.owns(theirs)
    with pytest.raises(LeaseLost) as caught:
        await one.commit({theirs: 1, ours: 0})
    assert caught.value.partitions == {theirs}


async def test_closing_twice_is_allowed(broker):
    subscription = await broker.subscribe("g", [TOPIC], lease=LONG)
    await subscription.close()
    await subscription.close()
    await broker.close()
    await broker.close()
