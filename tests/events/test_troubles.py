"""What the loops of a consumer do about an error that nobody expected: go on, lose nothing."""

import asyncio

import pytest

from switchgear.events.brokers.leased import LeasedSubscription
from switchgear.events.brokers.port import Polled
from switchgear.events.bus import Bus
from switchgear.events.inbox import Inbox
from switchgear.events.incoming import Incoming
from switchgear.events.parked import STEPS
from switchgear.events.troubles import Troubles
from switchgear.model.outcome import Reason, Unavailable
from tests.events.world import OrderPlaced, until


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr("switchgear.events.troubles._PAUSE_MOST", 0.05)


@pytest.fixture
async def told():
    """What the loop's exception handler is told."""
    found = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: found.append(repr(context["exception"]))
    )
    return found


@pytest.fixture
async def bus(broker, database):
    made = Bus(broker, database, "orders")
    yield made
    await made.stop()


@pytest.fixture
def seen(bus):
    """The numbers of the events that were handled."""
    found = []

    @bus.on(OrderPlaced, name="x", on_failure="park_key")
    async def handler(event, tx):
        found.append(event.number)

    return found


async def publish(bus, *numbers):
    async with bus.database.transaction() as tx:
        await bus.publish(tx, *(OrderPlaced(order_id=f"k{n % 7}", number=n) for n in numbers))


async def settled(bus):
    health = await bus.health()
    return not health.unpublished and not health.subscriptions["orders.x"].lag


async def test_an_error_that_stays_is_told_once(told):
    troubles = Troubles("c", lambda: 0.0)
    assert [troubles.report("working", ValueError("a")) for _ in range(2)] == [0.05, 0.05]
    assert told == ["ValueError('a')"]
    troubles.report("working", ValueError("b"))
    assert troubles.broken == "working: ValueError: b"
    troubles.over("working")
    assert troubles.broken is troubles.error is None
    troubles.report("working", ValueError("b"))
    assert told == ["ValueError('a')", "ValueError('b')", "ValueError('b')"]


@pytest.mark.parametrize("times", [1, 5])
async def test_what_cannot_be_taken_in_comes_again_with_all_that_came_with_it(
    bus, seen, told, monkeypatch, times
):
    of, left = Incoming.of, times

    def read(delivery):
        nonlocal left
        if b'"number":33' in delivery.value and left:
            left -= 1
            raise LookupError("a bug")
        return of(delivery)

    monkeypatch.setattr(Incoming, "of", read)
    await bus.start()
    await publish(bus, *range(100))
    await until(lambda: len(seen) == 100)
    assert sorted(seen) == list(range(100))
    assert set(told) == {"LookupError('a bug')"}
    await until(lambda: settled(bus))
    assert bus.broken is None


async def test_the_trace_of_a_bug_in_a_handler_is_logged_once_a_minute(bus, caplog, monkeypatch):
    errors = [LookupError("a bug"), Unavailable("away", reason=Reason.CONNECT)]

    @bus.on(OrderPlaced, name="x", on_failure="skip", attempts=3, backoff=0.001)
    async def handler(event, tx):
        raise errors[event.number]

    async def parked(count):
        return (await bus.health()).subscriptions["orders.x"].parked == count

    await bus.start()
    await publish(bus, 0, 1)
    await until(lambda: parked(2))
    (record,) = caplog.records
    assert "orders.x: the handler of" in record.getMessage()
    assert "in handler" in caplog.text
    assert "LookupError: a bug" in caplog.text
    caplog.clear()
    monkeypatch.setattr("switchgear.events.calling._TOLD_AGAIN", 0.0)
    await publish(bus, 0 - 2)  # the same error, as another event
    await until(lambda: parked(3))
    assert len(caplog.records) == 3


async def test_a_group_that_could_not_be_left_is_joined_again(bus, seen, told, monkeypatch):
    of, close, failed = Incoming.of, LeasedSubscription.close, []

    def read(delivery):
        if not failed:
            raise LookupError("a bug")
        return of(delivery)

    async def leave(subscription):
        await close(subscription)
        if not failed:
            failed.append(subscription)
            raise ArithmeticError("another")

    monkeypatch.setattr(Incoming, "of", read)
    monkeypatch.setattr(LeasedSubscription, "close", leave)
    await bus.start()
    await publish(bus, *range(5))
    await until(lambda: len(seen) == 5)
    assert set(told) == {"LookupError('a bug')", "ArithmeticError('another')"}
    await until(lambda: settled(bus))
    assert bus.broken is None


async def test_an_event_that_is_never_taken_in_is_told_while_it_lasts(bus, seen, told, monkeypatch):
    of, reads, broken = Incoming.of, 0, True

    def read(delivery):
        nonlocal reads
        if broken:
            reads += 1
            raise LookupError("a bug")
        return of(delivery)

    monkeypatch.setattr(Incoming, "of", read)
    await bus.start()
    await publish(bus, 1)
    await until(lambda: reads > 3)
    assert bus.broken == "orders.x: taking events in: LookupError: a bug"
    assert told == ["LookupError('a bug')"], "once, while it lasts"
    broken = False
    await until(lambda: seen == [1])
    assert bus.broken is None


async def test_partitions_are_read_once_the_store_has_answered(bus, seen, told):
    await bus.database.migrate("parked", STEPS)
    await bus.database.write(
        lambda one: one.execute("ALTER TABLE switchgear_parked RENAME TO away").close()
    )
    await bus.start()
    await until(lambda: bus.broken and "polling" in bus.broken)
    await bus.database.write(
        lambda one: one.execute("ALTER TABLE away RENAME TO switchgear_parked").close()
    )
    await publish(bus, *range(20))
    await until(lambda: len(seen) == 20)
    await until(lambda: bus.broken is None)
    assert any("switchgear_parked" in one for one in told)


async def test_a_commit_that_failed_is_made_again_though_nothing_moves(bus, seen, told):
    await bus.start()
    subscription = bus._consumers["orders.x"]._subscription
    commit, broken = subscription.commit, True

    async def failing(positions):
        if broken:
            raise LookupError("a bug")
        await commit(positions)

    subscription.commit = failing
    await publish(bus, 1)
    await until(lambda: seen and told)
    broken = False
    await until(lambda: settled(bus))


async def test_what_a_person_released_is_noticed_after_an_error(bus, told, monkeypatch):
    good, seen = False, []

    @bus.on(OrderPlaced, name="x", on_failure="park_key", attempts=1)
    async def handler(event, tx):
        if not good:
            raise ValueError
        seen.append(event.number)

    await bus.start()
    await publish(bus, 1)

    async def parked():
        return (await bus.parked.count())[0] == 1

    await until(parked)
    consumer, good = bus._consumers["orders.x"], True
    stored, left = consumer._stored, 1

    async def failing(parts=None):
        nonlocal left
        if left:
            left -= 1
            raise LookupError("a bug")
        return await stored(parts)

    consumer._stored = failing
    await bus.parked.redrive()
    await until(lambda: seen == [1])
    assert told == ["LookupError('a bug')"]


async def test_a_stop_leaves_the_group_though_the_commit_fails(bus, seen, told, broker):
    await bus.start()
    subscription = bus._consumers["orders.x"]._subscription

    async def failing(positions):
        raise LookupError("a bug")

    subscription.commit = failing
    await publish(bus, 1)
    await until(lambda: seen)
    await bus.stop()
    assert not broker._subscriptions
    assert set(told) == {"LookupError('a bug')"}


async def test_the_inbox_is_cleaned_again_after_an_error(bus, seen, told, monkeypatch):
    monkeypatch.setattr("switchgear.events.bus._CLEAN_EVERY", 0.01)
    cleaned, broken = 0, True

    async def clean(database, *, keep):
        nonlocal cleaned
        cleaned += 1
        if broken:
            raise LookupError("a bug")
        return 0

    monkeypatch.setattr(Inbox, "clean", clean)
    await bus.start()
    await until(lambda: cleaned > 2)
    assert bus.broken == "cleaning the inbox: LookupError: a bug"
    assert (await bus.health()).broken == bus.broken
    assert told == ["LookupError('a bug')"]
    broken = False
    await until(lambda: bus.broken is None)


async def test_what_runs_of_a_partition_that_was_lost_and_regained_is_cancelled(bus):
    runs, cancelled = 0, asyncio.Event()

    @bus.on(OrderPlaced, name="x", on_failure="park_key")
    async def handler(event):
        nonlocal runs
        runs += 1
        if runs == 1:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

    await bus.start()
    await publish(bus, 1)
    await until(lambda: runs)
    consumer = bus._consumers["orders.x"]
    # as Kafka's member tells it: nothing was lost, and the position is the committed one
    (busy,) = (one for one in consumer._lanes.partitions() if not consumer._lanes.idle(one))
    await consumer._apply(Polled({busy: 0}))
    assert cancelled.is_set(), "what comes again does not run beside it"
    assert consumer._lanes.idle(busy)


async def cleaned_again(log, prefix, told):
    cleaned = 0

    async def clean():
        nonlocal cleaned
        cleaned += 1
        raise LookupError("a bug")

    log.clean = clean
    await log.subscribe(f"{prefix}g", [f"{prefix}t"])
    await until(lambda: cleaned > 2)
    assert told == ["LookupError('a bug')"]


async def test_the_embedded_log_is_cleaned_again_after_an_error(broker, prefix, told, monkeypatch):
    monkeypatch.setattr("switchgear.events.brokers.sqlite._CLEAN_EVERY", 0.01)
    await cleaned_again(broker, prefix, told)


async def test_a_log_in_postgresql_is_cleaned_again_after_an_error(
    postgres_url, opening, prefix, told, monkeypatch
):
    monkeypatch.setattr("switchgear.events.brokers.postgres._CLEAN_EVERY", 0.01)
    await cleaned_again(opening(postgres_url), prefix, told)
