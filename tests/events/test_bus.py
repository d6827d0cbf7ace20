"""What the bus refuses, reports and signals; what it keeps is in `tests/conformance`."""

import asyncio
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from switchgear.database.port import DatabaseUnavailable
from switchgear.database.sqlite import Sqlite
from switchgear.errors import BrokerError, DatabaseError, EventDeclarationError
from switchgear.events.brokers.port import BrokerUnavailable
from switchgear.events.brokers.sqlite import SqliteBroker
from switchgear.events.bus import Bus
from switchgear.events.handling import HandlerTransaction
from switchgear.events.parked import NotParked
from switchgear.model.context import current, tracing
from switchgear.model.signal import SignalKind, subscribe
from tests.events.world import News, OrderCancelled, OrderPlaced, Picture, until


@pytest.fixture
async def bus(broker, database):
    made = Bus(broker, database, "orders")
    yield made
    await made.stop()


async def react(event, tx):
    pass


async def publish(bus, *events, **settings):
    async with bus.database.transaction() as tx:
        await bus.publish(tx, *events, **settings)


def placed(key="a", number=1):
    return OrderPlaced(order_id=key, number=number)


# declarations


@pytest.mark.parametrize("name", ["", "two words", "a/b"])
def test_a_subscription_has_a_usable_name(bus, name):
    with pytest.raises(EventDeclarationError, match="cannot name a subscription"):
        bus.on(OrderPlaced, name=name, on_failure="skip", handler=react)


def test_there_is_no_other_treatment_of_failures(bus):
    with pytest.raises(EventDeclarationError, match="block_key, park_key or skip"):
        bus.on(OrderPlaced, name="x", on_failure="ignore", handler=react)


@pytest.mark.parametrize("setting", [{"attempts": 0}, {"backoff": 0.0}, {"concurrency": 0}])
def test_settings_are_in_their_range(bus, setting):
    with pytest.raises(EventDeclarationError, match="at least 1"):
        bus.on(OrderPlaced, name="x", on_failure="skip", handler=react, **setting)


def test_a_name_reacts_once_to_each_kind(bus):
    bus.on(OrderPlaced, name="x", on_failure="skip", handler=react)
    with pytest.raises(EventDeclarationError, match=r"orders\.x reacts to .* twice"):
        bus.on(OrderPlaced, name="x", on_failure="skip", handler=react)


async def test_reactions_are_declared_before_the_start(bus):
    await bus.start()
    with pytest.raises(EventDeclarationError, match="after the bus was started"):
        bus.on(OrderPlaced, name="x", on_failure="skip", handler=react)


def test_reactions_of_one_name_share_their_settings(bus):
    bus.on(OrderPlaced, name="x", on_failure="skip", handler=react)
    bus.on(News, name="x", on_failure="skip", handler=react)
    with pytest.raises(EventDeclarationError, match="differ in their settings"):
        bus.on(OrderCancelled, name="x", on_failure="block_key", handler=react)
    assert [one.type for one in bus.subscriptions["orders.x"]] == [
        "test.orders.OrderPlaced",
        "test.news.News",
    ]


def test_a_handler_is_asynchronous_and_takes_one_or_two_arguments(bus):
    def blocking(event): ...
    async def none(): ...
    async def three(event, tx, more): ...

    for handler, message in (
        (blocking, "not asynchronous"),
        (none, "takes 0 arguments"),
        (three, "takes 3 arguments"),
    ):
        with pytest.raises(EventDeclarationError, match=message):
            bus.on(OrderPlaced, name="x", on_failure="skip", handler=handler)


def test_a_handler_may_be_a_method_or_an_object(bus):
    class Handler:
        async def method(self, event, tx): ...
        async def __call__(self, event): ...

    bus.on(OrderPlaced, name="method", on_failure="skip", handler=Handler().method)
    bus.on(OrderPlaced, name="object", on_failure="skip", handler=Handler())
    assert bus._groups["orders.method"].reactions["test.orders.OrderPlaced"].transactional
    assert not bus._groups["orders.object"].reactions["test.orders.OrderPlaced"].transactional


def test_a_handler_without_inbox_takes_no_transaction(bus):
    with pytest.raises(EventDeclarationError, match="no inbox, and its handler .* takes a transac"):
        bus.on(OrderPlaced, name="x", on_failure="skip", inbox=False, handler=react)


def test_the_inbox_remembers_for_longer_than_the_broker_keeps(broker, database):
    with pytest.raises(EventDeclarationError, match="Keep the inbox for longer"):
        Bus(broker, database, "orders", keep=timedelta(days=7))
    Bus(broker, database, "orders", keep=timedelta(days=7, seconds=1))


async def test_another_number_of_partitions_is_refused_at_the_start(bus, broker):
    await bus.start()
    await publish(bus, placed())
    await bus.stop()
    other = Bus(SqliteBroker(broker.path, partitions=5), bus.database, "other")
    other.on(OrderPlaced, name="x", on_failure="skip", handler=react)
    with pytest.raises(BrokerError, match="4 partitions, and 5 were asked for"):
        await other.start()
    await other.stop()
    await other.broker.close()


# running


async def test_health_tells_lag_and_parked_and_blocked_and_unpublished(bus):
    began, ends = asyncio.Event(), asyncio.Event()

    @bus.on(OrderPlaced, name="x", on_failure="park_key", attempts=1)
    async def handler(event, tx):
        if event.order_id == "parked":
            raise ValueError("no")
        began.set()
        await ends.wait()

    await bus.start()
    await publish(bus, placed("parked"), placed("parked", 2), placed("slow"))
    await until(lambda: _parked(bus, 2))
    await began.wait()
    await until(lambda: _published(bus))
    health = await bus.health()
    found = health.subscriptions["orders.x"]
    assert (found.parked, found.parked_keys, found.blocked_keys) == (2, 1, 0)
    assert found.running is not None
    assert found.stuck is found.stale is None
    assert found.error is None
    assert health.unpublished == 0
    ends.set()
    await until(lambda: _settled(bus))


class Wordless(Exception):
    def __str__(self):
        raise KeyError("text")


async def test_a_start_does_not_wait_for_a_broker_that_does_not_answer(bus, broker, monkeypatch):
    monkeypatch.setattr("switchgear.events.bus._ASKED", 0.05)
    retention, silent, seen = broker.retention, True, []

    async def answer(topics):
        if silent:
            await asyncio.Event().wait()
        return await retention(topics)

    broker.retention = answer

    @bus.on(OrderPlaced, name="x", on_failure="park_key")
    async def handler(event, tx):
        seen.append(event)

    async with asyncio.timeout(60):
        await bus.start()
    silent = False
    await publish(bus, placed("a"))
    await until(lambda: seen)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("no file caf\udce9.txt"), "ValueError: no file caf?.txt"),
        (Wordless(), "Wordless: (no text: KeyError)"),
    ],
)
async def test_an_event_is_parked_whatever_its_error_says(bus, error, told):
    @bus.on(OrderPlaced, name="x", on_failure="park_key", attempts=1)
    async def handler(event, tx):
        if event.order_id == "bad":
            raise error

    await bus.start()
    await publish(bus, placed("bad"), placed("good"))
    await until(lambda: _parked(bus, 1))
    await until(lambda: _settled(bus))
    (parked,) = await bus.parked.list()
    assert parked.error == told


async def test_what_happens_is_signalled(bus):
    signals = []

    @bus.on(OrderPlaced, name="x", on_failure="park_key", attempts=2, backoff=0.01)
    async def handler(event, tx):
        if event.order_id == "b":
            raise ValueError("no")

    with subscribe(signals.append):
        await bus.start()
        await publish(bus, placed("a"), placed("b"))
        await until(lambda: _parked(bus, 1))
        await until(lambda: _settled(bus))
    of = {kind: [one for one in signals if one.kind is kind] for kind in SignalKind}
    assert len(of[SignalKind.EVENT_PUBLISHED]) == 2
    (handled,) = of[SignalKind.EVENT_HANDLED]
    assert handled.subject == "orders.x"
    assert (handled.detail["key"], handled.detail["outcome"]) == ("a", "done")
    (retried,) = of[SignalKind.EVENT_RETRIED]
    assert retried.detail["error"] == "ValueError: no"
    (parked,) = of[SignalKind.EVENT_PARKED]
    assert (parked.detail["cause"], parked.detail["held"]) == ("failed", True)
    # each time that a handler runs it begins and ends
    begun, ended = of[SignalKind.EVENT_BEGAN], of[SignalKind.EVENT_ENDED]
    assert sorted(one.id for one in begun) == sorted(one.id for one in ended)
    assert {one.detail["topic"] for one in begun} == {"test.orders"}
    told = sorted(one.detail["outcome"] for one in ended)
    assert told == ["done", "failed", "failed"]


async def test_an_event_names_the_span_in_which_it_was_published(bus):
    seen = []
    name = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    @bus.on(OrderPlaced, name="x", on_failure="skip")
    async def handler(event, tx):
        seen.append((current().traceparent, current().tracestate))

    await bus.start()
    with tracing(lambda: (name, "x=1")):
        await publish(bus, placed("a"))
    await until(lambda: seen)
    assert seen == [(name, "x=1")]


async def test_an_event_past_its_deadline_is_not_handled(bus):
    seen = []

    @bus.on(OrderPlaced, name="x", on_failure="block_key")
    async def handler(event, tx):
        seen.append((event.number, current().deadline))

    await bus.start()
    now = datetime.now(UTC)
    await publish(bus, placed("a", 1), deadline=now - timedelta(seconds=1))
    await publish(bus, placed("a", 2), deadline=now + timedelta(hours=1))
    await publish(bus, placed("a", 3))
    await until(lambda: len(seen) == 2)
    (second, deadline), third = seen
    assert (second, third) == (2, (3, None))
    assert 3_000 < deadline - time.monotonic() <= 3_600


async def test_protobuf_events_are_read(broker, database):
    bus = Bus(broker, database, "orders", format="protobuf")
    seen = []

    @bus.on(OrderPlaced, name="x", on_failure="block_key")
    async def handler(event, tx):
        seen.append(event)

    await bus.start()
    await publish(bus, placed("a", 5))
    await until(lambda: seen)
    assert seen == [placed("a", 5)]
    await bus.stop()


async def test_the_transaction_can_be_wrapped(broker, database):
    class Wrapped:
        def __init__(self, inner):
            self.inner = inner

    bus = Bus(broker, database, "orders", wrap=Wrapped)
    seen = []

    @bus.on(OrderPlaced, name="x", on_failure="block_key")
    async def handler(event, tx):
        seen.append(tx)

    await bus.start()
    await publish(bus, placed())
    await until(lambda: seen)
    assert isinstance(seen[0], Wrapped)
    assert isinstance(seen[0].inner, HandlerTransaction)
    await bus.stop()


async def test_callbacks_run_after_the_commit_and_only_then(bus):
    ran = []
    failed = []

    @bus.on(OrderPlaced, name="x", on_failure="block_key", backoff=0.01)
    async def handler(event, tx):
        tx.after_commit(lambda: ran.append(event.number))
        assert not ran
        if not failed:
            failed.append(1)
            raise ValueError("again")

    await bus.start()
    await publish(bus, placed())
    await until(lambda: ran)
    assert ran == [1]


async def test_statements_of_a_handler_work_as_in_any_transaction(bus):
    done = []

    @bus.on(OrderPlaced, name="x", on_failure="block_key")
    async def handler(event, tx):
        assert tx.dialect == "sqlite"
        await tx.execute("CREATE TABLE IF NOT EXISTS t (a, b)")
        await tx.many("INSERT INTO t VALUES (?, ?)", [(1, 2), (3, 4)])
        assert await tx.run("SELECT a FROM t ORDER BY a") == [(1,), (3,)]
        assert await tx.step(lambda one: one.execute("SELECT sum(b) FROM t").fetchone()) == (6,)
        done.append(1)

    await bus.start()
    await publish(bus, placed())
    await until(lambda: done)


async def _empty(bus):
    return not await bus.parked.list()


async def _handled(bus):
    async with bus.database.reading() as reader:
        return [row[0] for row in await reader.run("SELECT event FROM switchgear_inbox")]


@pytest.mark.parametrize("inbox", [True, False])
async def test_without_inbox_it_is_not_kept_that_an_event_was_handled(bus, inbox):
    seen = []

    @bus.on(OrderPlaced, name="x", on_failure="park_key", inbox=inbox)
    async def handler(event):
        seen.append(event.number)

    await bus.start()
    await publish(bus, *(placed(number=number) for number in range(20)))
    await until(lambda: len(seen) == 20)
    await until(lambda: _settled(bus))
    assert seen == list(range(20))
    assert len(await _handled(bus)) == (20 if inbox else 0)


async def test_without_inbox_events_are_parked_and_redriven_in_order(bus):
    seen, failing = [], True

    @bus.on(OrderPlaced, name="x", on_failure="park_key", attempts=1, inbox=False)
    async def handler(event):
        if failing and event.order_id == "a" and event.number == 1:
            raise ValueError("it fails")
        seen.append((event.order_id, event.number))

    await bus.start()
    await publish(bus, *(placed(key, number) for number in range(4) for key in "ab"))
    await until(lambda: _settled(bus))
    assert [number for key, number in seen if key == "b"] == [0, 1, 2, 3]
    assert ("a", 2) not in seen
    failing = False
    await bus.parked.redrive()
    await until(lambda: len(seen) == 8)
    assert [number for key, number in seen if key == "a"] == [0, 1, 2, 3]
    await until(lambda: _empty(bus))
    assert not await _handled(bus)


async def test_without_inbox_the_loop_gets_its_turn_between_events(bus):
    turns, seen = 0, []

    @bus.on(OrderPlaced, name="x", on_failure="park_key", inbox=False)
    async def handler(event):
        time.sleep(0.002)  # noqa: ASYNC251  a handler that computes
        seen.append(turns)

    await bus.start()
    await publish(bus, *(placed(f"k{number}") for number in range(400)))
    while len(seen) < 400:
        turns += 1
        await asyncio.sleep(0)
    assert max(Counter(seen).values()) <= 16, "one for each that may run beside the others"


async def test_a_lazy_transaction_begins_with_the_first_statement(bus):
    """A handler that waits for others does not hold the writer meanwhile."""
    waiting, go_on = asyncio.Event(), asyncio.Event()
    bus.on(OrderPlaced, name="x", on_failure="block_key", handler=_first_waits(waiting, go_on))
    await bus.start()
    bus._consumers["orders.x"]._pace._mean = 1.0  # known to be slow
    await publish(bus, placed())
    await waiting.wait()
    async with asyncio.timeout(60):
        await bus.database.write(lambda one: one.execute("CREATE TABLE free (a)").close())
    go_on.set()
    await until(lambda: _settled(bus))
    assert await bus.database.read(lambda one: one.execute("SELECT a FROM free").fetchall()) == [
        (1,)
    ]


def _first_waits(waiting, go_on):
    async def handler(event, tx):
        with pytest.raises(DatabaseError, match="has not begun"):
            _ = tx.connection
        waiting.set()
        await go_on.wait()
        await tx.execute("INSERT INTO free VALUES (?)", event.number)

    return handler


async def test_a_database_that_is_away_is_not_the_events_failure(bus):
    tried = []

    @bus.on(OrderPlaced, name="x", on_failure="park_key", attempts=1)
    async def handler(event, tx):
        tried.append(1)
        if len(tried) < 3:
            raise DatabaseUnavailable("locked")

    await bus.start()
    await publish(bus, placed())
    await until(lambda: len(tried) == 3)
    await until(lambda: _settled(bus))
    assert await bus.parked.count() == (0, 0)


async def test_a_database_of_the_handlers_own_costs_other_keys_no_second_run(bus):
    called = Counter()

    @bus.on(OrderPlaced, name="x", on_failure="block_key")
    async def handler(event):
        called[event.order_id] += 1
        if event.order_id == "b" and called["b"] < 4:
            raise DatabaseUnavailable("away")

    await bus.start()
    quick = [f"q{number}" for number in range(200)]  # from here on they share a batch
    await publish(bus, *(placed(key=key) for key in quick))
    await until(lambda: _settled(bus))
    await publish(bus, *(placed(key=key) for key in "abc"))
    await until(lambda: called["b"] == 4)
    await until(lambda: _settled(bus))
    assert called == Counter(quick) + Counter(a=1, b=4, c=1)


async def test_large_events_are_held_a_few_at_a_time(bus):
    most = 0

    @bus.on(Picture, name="x", on_failure="block_key")
    async def handler(event, tx):
        nonlocal most
        most = max(most, bus._consumers["orders.x"]._lanes.held())
        await asyncio.sleep(0.001)

    pixels = "x" * 900_000
    await bus.outbox.migrate(bus.database)
    for first in range(0, 90, 10):
        await publish(bus, *(Picture(name=str(n), pixels=pixels) for n in range(first, first + 10)))
    await bus.start()
    await until(lambda: _settled(bus))
    assert 0 < most <= 80


async def test_an_error_that_has_passed_is_no_longer_told(bus):
    tried = []

    @bus.on(OrderPlaced, name="x", on_failure="park_key")
    async def handler(event, tx):
        tried.append(1)
        if len(tried) < 4:
            raise DatabaseUnavailable("locked for a test")

    await bus.start()
    await publish(bus, placed())
    await until(lambda: bus._consumers["orders.x"].error)
    assert bus._consumers["orders.x"].error == "working: [SG501] locked for a test"
    await until(lambda: bus._consumers["orders.x"].error is None)


async def test_a_broken_inbox_is_reported_and_loses_nothing(bus):
    told = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    seen = []

    @bus.on(OrderPlaced, name="x", on_failure="park_key", attempts=1)
    async def handler(event, tx):
        seen.append(event)

    await bus.start()
    await bus.database.write(
        lambda one: one.execute("ALTER TABLE switchgear_inbox RENAME TO away").close()
    )
    await publish(bus, placed())
    await until(lambda: told)
    health = await bus.health()
    assert "switchgear_inbox" in health.subscriptions["orders.x"].error
    await bus.database.write(
        lambda one: one.execute("ALTER TABLE away RENAME TO switchgear_inbox").close()
    )
    await until(lambda: seen)
    await until(lambda: _settled(bus))
    assert len(seen) == 1


async def test_a_bug_while_polling_is_reported_and_the_consumer_goes_on(bus, monkeypatch):
    told = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    monkeypatch.setattr("switchgear.events.troubles._PAUSE_MOST", 0.05)
    seen, broken = [], True

    @bus.on(OrderPlaced, name="x", on_failure="park_key")
    async def handler(event, tx):
        seen.append(event)

    await bus.start()
    subscription = bus._consumers["orders.x"]._subscription
    poll = subscription.poll

    async def failing(*given):
        if broken:
            raise LookupError("a bug")
        return await poll(*given)

    subscription.poll = failing
    await publish(bus, placed())
    await until(lambda: told)
    assert (await bus.health()).broken == "orders.x: polling: LookupError: a bug"
    broken = False
    await until(lambda: seen)
    assert (await bus.health()).broken is None


async def test_a_parked_event_that_is_not_there_is_told(bus):
    bus.on(OrderPlaced, name="x", on_failure="skip", handler=react)
    await bus.start()
    for act in (
        bus.parked.show(7),
        bus.parked.redrive(id=7),
        bus.parked.discard(7, reason="x", actor="me"),
    ):
        with pytest.raises(NotParked, match="number 7"):
            await act


async def test_stopping_what_never_started_and_twice_is_allowed(broker, tmp_path):
    bus = Bus(broker, Sqlite(tmp_path / "x.db"), "orders")
    await bus.stop()
    await bus.start()
    await bus.stop()
    await bus.stop()
    await bus.database.close()


async def _parked(bus, number):
    return (await bus.parked.count())[0] == number


async def _published(bus):
    return not (await bus.health()).unpublished


async def _settled(bus):
    health = await bus.health()
    return health.unpublished == 0 and all(one.lag == 0 for one in health.subscriptions.values())


async def test_the_inbox_forgets_nothing_before_the_broker_has_said_what_it_keeps(bus, monkeypatch):
    monkeypatch.setattr("switchgear.events.bus._CLEAN_EVERY", 0.02)
    answers = [BrokerUnavailable("away"), BrokerUnavailable("away"), 90 * 86_400.0]
    asked = []

    async def retention(topics):
        asked.append((topics, bus._keep))
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    bus.broker.retention = retention
    bus.on(OrderPlaced, name="x", on_failure="skip", handler=react)
    await bus.start()
    await until(lambda: bus._keep)
    assert bus._keep > 90 * 86_400
    assert asked == [(["test.orders"], None)] * 3
