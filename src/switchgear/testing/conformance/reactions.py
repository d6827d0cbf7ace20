"""What a subscription keeps, whichever broker is behind it: once, in order, nothing lost."""

import asyncio
import signal
import sys
from collections import Counter, defaultdict
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from switchgear.database.sqlite import Sqlite
from switchgear.events.brokers.hashing import partition_of
from switchgear.events.brokers.port import Polled, Record
from switchgear.events.bus import Bus
from switchgear.model.context import current, derived_key
from switchgear.testing.conformance import PARTITIONS
from switchgear.testing.conformance.world import (
    EFFECT,
    Cancelled,
    News,
    Ordered,
    declared,
    until,
    watched,
    world,
)

REACTOR = Path(__file__).with_name("reactor.py")

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def shop(adapter, tmp_path):
    async with world(tmp_path, adapter.open) as made:
        yield made


def writes(shop, on_failure, fails=lambda _: None, name="react", **settings):
    """React by writing the effect; `fails` may raise after the write."""

    async def handler(event, tx):
        await tx.execute(EFFECT, event.key, event.number)
        fails(event)

    shop.consumer.on(Ordered, name=name, on_failure=on_failure, handler=handler, **settings)


async def test_every_event_takes_effect_once_in_the_order_of_its_key(shop):
    writes(shop, "block_key")
    await shop.consumer.start()
    for _ in range(10):
        await shop.publish(*"abcde" * 4)
    await until(shop.settled)
    for key in "abcde":
        assert await shop.of(key) == list(range(1, 41))


async def test_block_key_tries_again_and_only_its_key_waits(shop):
    open_now = asyncio.Event()

    def fails(event):
        if event.key == "a" and event.number == 2 and not open_now.is_set():
            raise ConnectionError("not yet")

    writes(shop, "block_key", fails, backoff=0.02)
    await shop.consumer.start()
    await shop.publish(*"aaabbb")
    await until(lambda: _has(shop, "b", [1, 2, 3]))

    async def blocked():
        health = (await shop.consumer.health()).subscriptions["consumer.react"]
        return health.blocked_keys == 1

    await until(blocked)
    assert await shop.of("a") == [1]
    open_now.set()
    await until(lambda: _has(shop, "a", [1, 2, 3]))
    await until(shop.settled)


async def test_events_with_random_failures_keep_their_order(shop):
    failing = Counter()

    def fails(event):
        failing[event.key, event.number] += 1
        if failing[event.key, event.number] <= hash((event.key, event.number)) % 3:
            raise ConnectionError("again")

    writes(shop, "block_key", fails, backoff=0.01)
    await shop.consumer.start()
    await shop.publish(*"abcdefgh" * 10)
    await until(shop.settled)
    for key in "abcdefgh":
        assert await shop.of(key) == list(range(1, 11))


async def test_park_key_parks_the_event_and_what_follows_and_redrive_keeps_the_order(shop):
    broken = True

    def fails(event):
        if broken and event.key == "a" and event.number == 2:
            raise ValueError("broken")

    writes(shop, "park_key", fails, attempts=2, backoff=0.01)
    await shop.consumer.start()
    await shop.publish(*"aaabb")
    await until(lambda: _parked(shop, 2))
    await shop.publish(*"ab")
    await until(lambda: _parked(shop, 3))
    await until(shop.settled)
    assert await shop.of("a") == [1]
    assert await shop.of("b") == [1, 2, 3]
    parked = await shop.consumer.parked.list()
    assert [one.cause for one in parked] == ["failed", "behind", "behind"]
    assert parked[0].error == "ValueError: broken"
    assert parked[0].attempts == 2
    assert parked[0].headers["ce-type"] == "test.orders.Ordered"

    broken = False
    would = await shop.consumer.parked.redrive(key="a", dry_run=True)
    assert [one.id for one in would] == [one.id for one in parked]
    await shop.consumer.parked.redrive(key="a", actor="me", reason="fixed")
    await shop.publish(*"aa")
    await until(lambda: _has(shop, "a", [1, 2, 3, 4, 5, 6]))
    assert await shop.consumer.parked.list() == []


async def test_a_key_that_one_member_parked_is_parked_for_every_member(shop, adapter, tmp_path):
    """Whichever of them gets the next event of the key, before and after it is released."""
    broken = True

    def fails(event):
        if broken:
            raise ValueError("broken")

    writes(shop, "park_key", fails, attempts=1)
    async with other_member(adapter, tmp_path) as other:
        writes(other, "park_key", fails, attempts=1)
        await shop.consumer.start()
        await other.consumer.start()
        for number in range(1, 6):
            await shop.publish("a")
            await until(lambda number=number: _parked(shop, number))
        await until(shop.settled)
        parked = await shop.consumer.parked.list()
        assert [one.cause for one in parked] == ["failed", *["behind"] * 4]
        broken = False
        await shop.consumer.parked.redrive(key="a")
        for _ in range(3):
            await shop.publish("a")
        await until(lambda: _has(shop, "a", list(range(1, 9))))


async def test_a_redriven_event_that_fails_again_is_parked_again_in_its_place(shop):
    writes(shop, "park_key", _raise, attempts=1)
    await shop.consumer.start()
    await shop.publish(*"aa")
    await until(lambda: _parked(shop, 2))
    await shop.consumer.parked.redrive()
    await until(lambda: _tried_again(shop))
    parked = await shop.consumer.parked.list()
    assert [one.state for one in parked] == ["held", "held"]
    assert await shop.effects() == []


async def test_discarding_needs_a_reason_and_lets_the_rest_go_on(shop):
    writes(shop, "park_key", lambda event: _raise(event) if event.number == 1 else None, attempts=1)
    await shop.consumer.start()
    await shop.publish(*"aa")
    await until(lambda: _parked(shop, 2))
    first, _ = await shop.consumer.parked.list()
    with pytest.raises(ValueError, match="reason"):
        await shop.consumer.parked.discard(first.id, reason=" ", actor="me")
    await shop.consumer.parked.discard(first.id, reason="a test order", actor="me")
    await shop.consumer.parked.redrive(actor="me", reason="go on")
    await until(lambda: _has(shop, "a", [2]))
    redriven, discarded = await shop.consumer.parked.audit()
    assert (discarded.action, discarded.reason, discarded.actor) == (
        "discard",
        "a test order",
        "me",
    )
    assert discarded.data == first.data
    assert redriven.action == "redrive"


async def test_a_key_of_which_everything_was_discarded_is_open_again(shop):
    writes(shop, "park_key", lambda event: _raise(event) if event.number == 1 else None, attempts=1)
    await shop.consumer.start()
    await shop.publish("a")
    await until(lambda: _parked(shop, 1))
    (only,) = await shop.consumer.parked.list()
    await shop.consumer.parked.discard(only.id, reason="a test", actor="me")
    await shop.publish("a")
    await until(lambda: _has(shop, "a", [2]))


async def test_skip_parks_the_event_alone(shop):
    writes(shop, "skip", lambda event: _raise(event) if event.number == 2 else None, attempts=1)
    await shop.consumer.start()
    await shop.publish(*"aaab")
    await until(lambda: _has(shop, "a", [1, 3]))
    await until(lambda: _parked(shop, 1))
    await until(shop.settled)


async def test_an_event_that_was_skipped_can_be_redriven(shop):
    broken = True
    writes(shop, "skip", lambda _: _raise(None) if broken else None, attempts=1)
    await shop.consumer.start()
    await shop.publish(*"aab")
    await until(lambda: _parked(shop, 3))
    broken = False
    first, _ = await shop.consumer.parked.list(key="a")
    released = await shop.consumer.parked.redrive(id=first.id)
    assert [one.id for one in released] == [first.id], "it is alone in its queue"
    await until(lambda: _has(shop, "a", [1]))
    assert (await shop.consumer.parked.count()) == (2, 2)


async def test_what_is_stored_is_worked_off_by_a_handler_without_a_transaction_too(shop):
    seen, broken = [], True

    async def handler(event):
        if broken:
            raise ConnectionError("not yet")
        seen.append(event.number)

    shop.consumer.on(
        Ordered, name="plain", on_failure="park_key", handler=handler, attempts=2, backoff=0.01
    )
    await shop.consumer.start()
    await shop.publish(*"aaa")
    await until(lambda: _parked(shop, 3))
    broken = False
    await shop.consumer.parked.redrive()
    await until(lambda: seen == [1, 2, 3])
    await until(lambda: _parked(shop, 0))


async def test_events_are_counted_and_listed_while_a_handler_holds_the_database(shop):
    began, may_end = asyncio.Event(), asyncio.Event()

    async def handler(event, tx):
        await tx.execute(EFFECT, event.key, event.number)
        began.set()
        await may_end.wait()

    shop.consumer.on(Ordered, name="slow", on_failure="block_key", handler=handler)
    await shop.consumer.start()
    await shop.publish("a")
    await began.wait()
    async with asyncio.timeout(60):
        health = await shop.consumer.health()
        assert await shop.consumer.parked.list() == []
    assert health.subscriptions["consumer.slow"].lag == 1
    may_end.set()
    await until(shop.settled)


@pytest.mark.parametrize("on_failure", ["block_key", "park_key", "skip"])
async def test_poison_is_parked_at_once_and_never_dropped(shop, on_failure):
    writes(shop, on_failure)
    await shop.consumer.start()
    headers = {"ce-specversion": "1.0", "ce-source": "x", "ce-type": "test.orders.Ordered"}
    broker = shop.producer.broker
    await broker.publish(
        [
            Record("test.orders", "a", {**headers, "ce-id": "1"}, b'{"key": "a", "number": "x"}'),
            Record("test.orders", "b", {}, b"\xff"),
        ]
    )
    await until(lambda: _parked(shop, 2))
    parked = {one.key: one for one in await shop.consumer.parked.list()}
    assert {one.cause for one in parked.values()} == {"poison"}
    assert "/number" in parked["a"].error
    assert parked["b"].data == b"\xff"
    await until(shop.settled)


async def test_an_event_of_another_kind_is_passed_over(shop):
    writes(shop, "park_key")
    await shop.consumer.start()
    await shop.publish(*"ab", kind=Cancelled)
    await until(shop.settled)
    assert await shop.effects() == []


async def test_reactions_of_one_name_keep_the_order_over_kinds(shop):
    seen = []

    async def handler(event, tx):
        seen.append((type(event).__name__, event.number))

    for kind in (Ordered, Cancelled):
        shop.consumer.on(kind, name="both", on_failure="block_key", handler=handler)
    await shop.consumer.start()
    for kind in (Ordered, Cancelled, Ordered, Cancelled):
        await shop.publish("a", kind=kind)
    await until(lambda: len(seen) == 4)
    assert seen == [("Ordered", 1), ("Cancelled", 2), ("Ordered", 3), ("Cancelled", 4)]


async def test_events_without_a_key_are_handled_each_once(shop):
    seen = Counter()

    async def handler(event):
        seen[event.number] += 1

    shop.consumer.on(News, name="news", on_failure="skip", handler=handler)
    await shop.consumer.start()
    async with shop.producer.database.transaction() as tx:
        await shop.producer.publish(tx, *(News(number=number) for number in range(50)))
    await until(lambda: len(seen) == 50)
    await until(shop.settled)
    assert set(seen.values()) == {1}


async def test_an_event_that_arrives_twice_takes_effect_once(shop):
    """As after a crash of the relay between publishing and deleting."""
    writes(shop, "block_key")
    await shop.consumer.start()
    headers = {"ce-specversion": "1.0", "ce-source": "x", "ce-type": "test.orders.Ordered"}
    record = Record("test.orders", "a", {**headers, "ce-id": "1"}, b'{"key": "a", "number": 1}')
    await shop.producer.broker.publish([record, record])
    await until(shop.settled)
    await shop.producer.broker.publish([record])
    await until(shop.settled)
    assert await shop.effects() == [("a", 1)]


async def test_a_handler_that_takes_no_transaction_is_deduplicated_too(shop):
    seen = []

    async def handler(event):
        seen.append(event.number)

    shop.consumer.on(Ordered, name="plain", on_failure="skip", handler=handler)
    await shop.consumer.start()
    headers = {"ce-specversion": "1.0", "ce-source": "x", "ce-type": "test.orders.Ordered"}
    record = Record("test.orders", "a", {**headers, "ce-id": "1"}, b'{"key": "a", "number": 1}')
    for _ in range(2):
        await shop.producer.broker.publish([record, record])
        await until(shop.settled)
    assert seen == [1]


async def test_what_a_handler_publishes_commits_with_it_and_carries_its_context(shop):
    contexts = []
    failures = iter([True, False, False])

    async def first(event, tx):
        contexts.append((current(), derived_key("x/Y")))
        tx.publish(Cancelled(key=event.key, number=event.number))
        if next(failures):
            raise ConnectionError("again")

    async def second(event, tx):
        contexts.append((current(), derived_key("x/Y")))

    shop.consumer.on(Ordered, name="first", on_failure="block_key", handler=first, backoff=0.01)
    shop.consumer.on(Cancelled, name="second", on_failure="block_key", handler=second)
    await shop.consumer.start()
    await shop.publish("a")
    await until(lambda: len(contexts) == 3)
    (_, failed_key), (again, key), (followed, _) = contexts
    assert key == failed_key, "a repeated handler sends the same keys"
    assert key is not None
    assert key.startswith("consumer.first/producer/")
    assert (again.causation, again.caller) == (again.correlation, "producer")
    assert followed.correlation == again.correlation
    assert followed.causation != again.causation
    assert followed.caller == "consumer"


async def test_a_stop_waits_for_what_runs_and_leaves_the_rest(shop):
    began, may_end = asyncio.Event(), asyncio.Event()

    async def handler(event, tx):
        began.set()
        await may_end.wait()
        await tx.execute(EFFECT, event.key, event.number)

    shop.consumer.on(Ordered, name="slow", on_failure="block_key", handler=handler)
    await shop.consumer.start()
    await shop.publish(*"aa")
    await began.wait()
    stopping = asyncio.create_task(shop.consumer.stop(within=90))
    await asyncio.sleep(0.05)
    assert not stopping.done()
    may_end.set()
    await stopping
    assert await shop.of("a") in ([1], [1, 2])
    lag = await shop.producer.broker.lag("consumer.slow", ["test.orders"])
    assert lag.events == 2 - len(await shop.of("a")), "what was done was committed"


async def test_a_stop_ends_within_its_bound_and_undoes_what_did_not_finish(shop):
    began = asyncio.Event()

    async def handler(event, tx):
        await tx.execute(EFFECT, event.key, event.number)
        began.set()
        await asyncio.Event().wait()

    shop.consumer.on(Ordered, name="endless", on_failure="block_key", handler=handler)
    await shop.consumer.start()
    await shop.publish("a")
    await began.wait()
    async with asyncio.timeout(60):
        await shop.consumer.stop(within=0.2)
    assert await shop.effects() == []


async def test_a_key_that_stays_blocked_does_not_hold_the_watermark(shop):
    open_now = False

    def fails(event):
        if event.key == "a" and not open_now:
            raise ConnectionError("not yet")

    writes(shop, "block_key", fails, backoff=0.05)
    group = shop.consumer._groups["consumer.react"]
    divided = shop.consumer.broker.capabilities.partitions
    # where the broker gives out nothing of a key behind its first event, time alone decides
    spill = {"spill_events": 3} if divided else {"spill_seconds": 1.0}
    group.settings = _with(group.settings, **spill)
    await shop.consumer.start()
    await shop.publish(*"aaaaaabb")
    await until(shop.settled)
    waiting = await shop.consumer.parked.list()
    assert [one.state for one in waiting] == ["ready"] * 6, "nobody has to release them"
    await shop.publish(*"a")
    open_now = True
    await until(lambda: _has(shop, "a", [1, 2, 3, 4, 5, 6, 7]))
    assert await shop.of("b") == [1, 2]


async def test_a_partition_pauses_at_its_window_and_resumes(shop):
    if not shop.producer.broker.capabilities.partitions:
        pytest.skip("every key is a partition of its own: no other waits behind it")
    open_now = False

    def fails(event):
        if event.key == "a" and not open_now:
            raise ConnectionError("not yet")

    writes(shop, "block_key", fails, backoff=0.02)
    group = shop.consumer._groups["consumer.react"]
    group.settings = _with(group.settings, window=10, spill_seconds=1e6)
    await shop.consumer.start()
    subscription = watched(shop.consumer, "consumer.react")
    await shop.publish("a")
    where = partition_of("a", PARTITIONS)
    same = [key for key in map(str, range(100)) if partition_of(key, PARTITIONS) == where]
    for _ in range(3):
        await shop.publish(*(same * 10)[:10])
    await until(lambda: subscription.paused)
    assert len(await shop.effects()) < 30, "it has stopped, and says so by its lag"
    open_now = True
    await until(shop.settled)
    assert len(await shop.effects()) == 31
    assert not subscription.paused


async def test_a_handler_that_outlives_its_lease_commits_nothing(shop):
    tried = []

    async def handler(event, tx):
        tried.append(event.number)
        await tx.execute(EFFECT, event.key, event.number)
        if len(tried) == 1:
            # as if this process had slept: the lease is no longer certain
            watched(shop.consumer, "consumer.late").certain = False

    shop.consumer.on(Ordered, name="late", on_failure="park_key", handler=handler, attempts=1)
    await shop.consumer.start()
    await shop.publish("a")
    await until(lambda: tried and watched(shop.consumer, "consumer.late").doubts)
    watched(shop.consumer, "consumer.late").certain = True
    await until(shop.settled)
    assert tried == [1, 1], "not a failure: it is handled once the lease is certain again"
    assert await shop.effects() == [("a", 1)]


async def test_a_partition_that_is_lost_ends_what_runs_for_it(shop):
    began, ended = asyncio.Event(), asyncio.Event()

    async def handler(event, tx):
        await tx.execute(EFFECT, event.key, event.number)
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.set()
            raise

    shop.consumer.on(Ordered, name="lost", on_failure="block_key", handler=handler)
    await shop.consumer.start()
    await shop.publish("a")
    await began.wait()
    consumer = shop.consumer._consumers["consumer.lost"]
    (partition,) = {job for _, busy in consumer._tasks.values() for job in busy}
    assert partition.topic == "test.orders"
    await consumer._apply(Polled(lost=frozenset([partition])))
    async with asyncio.timeout(60):
        await ended.wait()
    await until(lambda: _has(shop, "a", []))


async def test_a_slow_consumer_has_bounded_memory(shop):
    held = []
    look = lambda _: held.append(shop.consumer._consumers["consumer.react"]._lanes.held())  # noqa: E731
    writes(shop, "block_key", look)
    group = shop.consumer._groups["consumer.react"]
    group.settings = _with(group.settings, capacity=50)
    await declared(shop.producer.broker, "consumer.react")
    for _ in range(5):
        await shop.publish(*"abcdefghij" * 10)
    await shop.consumer.start()
    await until(shop.settled)
    assert 0 < max(held) <= 50
    assert len(await shop.effects()) == 500


async def test_members_that_come_and_go_lose_nothing_and_keep_the_order(shop, adapter, tmp_path):
    """Rebalances in the middle of handlers: they finish, and nobody repeats them."""
    writes(shop, "block_key", lambda _: None)
    await shop.consumer.start()
    others = []
    for number in range(3):
        await shop.publish(*"abcdefgh" * 5)
        database = Sqlite(tmp_path / "consumer.db")
        other = Bus(adapter.open(), database, "consumer")
        writes(_Of(other), "block_key")
        await other.start()
        others.append(other)
        if number:
            await others[number - 1].stop()
    await until(shop.settled)
    for other in others:
        await other.stop()
        await other.database.close()
    for key in "abcdefgh":
        assert await shop.of(key) == list(range(1, 16))


@pytest.mark.parametrize("kills", [4])
async def test_a_consumer_killed_in_the_middle_of_handlers_repeats_none(
    shop, adapter, tmp_path, kills
):
    keys = [f"k{number}" for number in range(12)]
    await declared(shop.producer.broker, "consumer.react")
    for _ in range(10 - kills):
        await shop.publish(*keys)
    path = str(tmp_path / "consumer.db")
    for _ in range(kills):
        await shop.publish(*keys)  # however quick the last one was, there is something to do
        before = len(await shop.effects())
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            REACTOR,
            adapter.url,
            path,
            "0.5",
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        async with asyncio.timeout(90):
            # it handles its first events now
            assert await process.stdout.readline() == b"began\n", "the consumer has ended"
        await until(lambda before=before: _more(shop, before))
        process.send_signal(signal.SIGKILL)
        await process.wait()
    writes(shop, "block_key")
    await shop.consumer.start()
    await until(shop.settled)
    seen = defaultdict(list)
    for key, number in await shop.effects():
        seen[key].append(number)
    assert dict(seen) == {key: list(range(1, 11)) for key in keys}


def _raise(event):
    raise ValueError("broken")


@asynccontextmanager
async def other_member(adapter, folder):
    """Another member of the consumer's groups, as if it were another process."""
    database = Sqlite(folder / "consumer.db")
    bus = Bus(adapter.open(), database, "consumer")
    try:
        yield _Of(bus)
    finally:
        await bus.stop()
        await database.close()


class _Of:
    def __init__(self, bus):
        self.consumer = bus


def _with(settings, **lanes):
    from dataclasses import replace

    return replace(settings, lanes=replace(settings.lanes, **lanes))


async def _has(shop, key, numbers):
    return await shop.of(key) == numbers


async def _more(shop, than):
    return len(await shop.effects()) > than


async def _parked(shop, count):
    return (await shop.consumer.parked.count())[0] == count


async def _tried_again(shop):
    parked = await shop.consumer.parked.list()
    return parked[0].attempts == 2 and parked[0].state == "held"
