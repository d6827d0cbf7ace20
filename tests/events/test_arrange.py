"""More partitions and another key for a topic in use: the order of every key is exact."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from switchgear.contract.event import event, event_of
from switchgear.contract.message import Message, field
from switchgear.database.sqlite import Sqlite
from switchgear.errors import BrokerError
from switchgear.events.arrange import Arrangeable, NotSettled, arrange, rekey
from switchgear.events.brokers.hashing import partition_of
from switchgear.events.brokers.port import Broker, BrokerUnavailable, Delivery, Record
from switchgear.events.brokers.url import broker_of
from switchgear.events.bus import Bus
from switchgear.events.outbox import STEPS, Mode, Outbox
from tests.events.world import OrderPlaced, until

TOPIC = "test.orders"
OLD, NEW = 3, 7


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        found: str = request.getfixturevalue("postgres_url")
        return found
    return f"sqlite:///{tmp_path}/broker.db"


@pytest.fixture
async def connect(url: str) -> AsyncIterator[Callable[..., Broker]]:
    """Connects to one broker again and again, as processes do."""
    opened: list[Broker] = []

    def make(partitions: int | None = None) -> Broker:
        opened.append(broker_of(url if partitions is None else f"{url}?partitions={partitions}"))
        return opened[-1]

    yield make
    for broker in opened:
        await broker.close()


def arrangeable(broker: object) -> Arrangeable:
    assert isinstance(broker, Arrangeable)
    return broker


async def test_more_partitions_while_events_flow(
    connect: Callable[..., Broker], tmp_path: Path
) -> None:
    """Two members and a producer work on, and none of them is restarted."""
    producer = Bus(connect(OLD), Sqlite(tmp_path / "producer.db"), "producer")
    database = Sqlite(tmp_path / "consumer.db")
    seen: dict[str, list[int]] = {}
    members = [Bus(connect(), database, "consumer") for _ in range(2)]

    async def handle(event: OrderPlaced, tx: Any) -> None:
        await asyncio.sleep(0)
        tx.after_commit(lambda: seen.setdefault(event.order_id, []).append(event.number))

    sent: dict[str, int] = {}
    done = asyncio.Event()

    async def publish_some() -> None:
        async with producer.database.transaction() as tx:
            for key in map(str, range(15)):
                sent[key] = sent.get(key, 0) + 1
                await producer.publish(tx, OrderPlaced(order_id=key, number=sent[key]))

    async def publish() -> None:
        while not done.is_set() or sum(sent.values()) < 600:
            await publish_some()
            await asyncio.sleep(0.001)

    async def published() -> bool:
        return not (await producer.health()).unpublished

    await producer.start()
    await publish_some()
    await until(published)  # the topic is there, as the producer wants it
    for bus in members:
        bus.on(OrderPlaced, name="x", on_failure="block_key", handler=handle)
        await bus.start()
    publishing = asyncio.create_task(publish())
    await until(lambda: sum(map(len, seen.values())) > 100)
    changed = await arrange(
        arrangeable(connect()),
        TOPIC,
        outboxes={"producer": producer.database},
        consumers={"consumer": database},
        partitions=NEW,
        within=120,
    )
    assert changed == 0
    handled = sum(map(len, seen.values()))
    await until(lambda: sum(sent.values()) > handled + 200)
    done.set()
    await publishing
    await until(lambda: sum(map(len, seen.values())) == sum(sent.values()))
    for key, numbers in seen.items():
        assert numbers == list(range(1, sent[key] + 1)), key
    places = {
        (one.key, one.partition.number)
        for one in await connect().search(b"number", [TOPIC], 100_000)  # type: ignore[attr-defined]
    }
    expected = {(key, partition_of(key, count)) for key in sent for count in (OLD, NEW)}
    assert places == expected
    assert max(number for _, number in places) >= OLD
    for bus in (producer, *members):
        await bus.stop()
    await producer.database.close()
    await database.close()


async def test_what_is_held_is_not_published_and_a_hold_ends(
    connect: Callable[..., Broker],
) -> None:
    broker, operator = connect(OLD), arrangeable(connect())
    record = Record(TOPIC, "k", {}, b"x")
    await broker.publish([record])
    await operator.hold(TOPIC, 60)
    await operator.hold(TOPIC, 0)  # a shorter hold does not end a longer one
    with pytest.raises(BrokerUnavailable, match=f"{TOPIC} is held back"):
        await broker.publish([record])
    await broker.publish([Record("test.news", None, {}, b"x")])
    await operator.release(TOPIC)
    await broker.publish([record])
    await operator.hold(TOPIC, 0.05)

    async def published() -> bool:
        with contextlib.suppress(BrokerUnavailable):
            await broker.publish([record])
            return True
        return False

    await until(published)


async def test_nothing_changes_until_everybody_has_read_it(
    connect: Callable[..., Broker], tmp_path: Path
) -> None:
    broker, operator = connect(OLD), arrangeable(connect())
    await broker.publish([Record(TOPIC, "k", {}, b"x")])
    late = await broker.subscribe("late", [TOPIC])
    with pytest.raises(BrokerError, match="is not held back"):
        await operator.release(TOPIC, NEW)
    with pytest.raises(NotSettled, match="late has 1 events to read"):
        await arrange(operator, TOPIC, outboxes={}, consumers={}, partitions=NEW, within=0)
    with pytest.raises(BrokerError, match=r"to its end: late \(1 events\)"):
        await operator.release(TOPIC, NEW)
    deliveries: list[Delivery] = []
    while not deliveries:
        deliveries += (await late.poll(10, 60.0)).deliveries
    (delivery,) = deliveries
    await late.commit({delivery.partition: delivery.offset + 1})
    with pytest.raises(BrokerError, match="has 3 partitions, and fewer were asked for"):
        await operator.release(TOPIC, OLD - 1)
    await operator.release(TOPIC, NEW)
    with pytest.raises(BrokerError, match="7 partitions, and 3 were asked for"):
        await connect(OLD).subscribe("late", [TOPIC])
    for attempt in (operator.hold("no.topic", 1), operator.release("no.topic")):
        with pytest.raises(BrokerError, match=r"there is no topic no\.topic"):
            await attempt
    await late.close()


async def test_what_waits_in_a_database_is_of_a_partition(
    connect: Callable[..., Broker], tmp_path: Path
) -> None:
    database = Sqlite(tmp_path / "one.db")
    bus = Bus(connect(OLD), database, "one")

    @bus.on(OrderPlaced, name="x", on_failure="park_key", attempts=1)
    async def fail(event: OrderPlaced, tx: Any) -> None:
        raise ValueError

    await bus.start()
    async with database.transaction() as tx:
        await bus.publish(tx, OrderPlaced(order_id="a", number=1))
    (parked,) = await until(bus.parked.list)
    operator, own = arrangeable(connect()), {"one": database}
    await until(lambda: _at_end(operator))
    with pytest.raises(NotSettled, match="1 events are parked or blocked in one"):
        await arrange(operator, TOPIC, outboxes=own, consumers=own, partitions=NEW, within=0)
    await bus.parked.discard(parked.id, reason="a test", actor="me")
    await arrange(operator, TOPIC, outboxes=own, consumers=own, partitions=NEW)
    await bus.stop()
    await database.close()


async def _at_end(operator: Arrangeable) -> bool:
    return not await operator.hold(TOPIC, 1)


# --- another key ------------------------------------------------------------------------------


def _sold(**key: Any) -> type[Message]:
    """The event as one version of the code declares it."""

    @event("test.sales", **key)
    class Sold(Message):
        order: str = field(1)
        customer: str = field(2)

    return Sold


@pytest.mark.parametrize("before", [{"key": "order"}, {"unordered": True}])
@pytest.mark.parametrize("mode", ["binary", "structured"])
async def test_what_waits_in_the_outbox_gets_the_new_key(
    database: Sqlite, before: Any, mode: Mode
) -> None:
    old, new = _sold(**before), _sold(key="customer")
    await database.migrate("outbox", STEPS)
    outbox = Outbox("shop", mode=mode)
    async with database.transaction() as tx:
        await outbox.publish(tx, *(old(order=str(n), customer="ann") for n in range(3)))
        await outbox.publish(tx, new(order="3", customer="ann"))
    contracts = {event_of(new).type: event_of(new)}
    assert await rekey(database, "test.sales", contracts, where="shop") == 3
    assert await rekey(database, "test.sales", contracts, where="shop") == 0
    assert await rekey(database, "test.others", {}, where="shop") == 0
    async with database.transaction() as tx:
        rows = await tx.run("SELECT key, headers, data FROM switchgear_outbox ORDER BY id")
    assert [row[0] for row in rows] == ["ann"] * 4
    for _, headers, data in rows:
        found = json.loads(headers)
        if mode == "structured":
            document = json.loads(data)
            assert (document["partitionkey"], document["subject"]) == ("ann", "ann")
            assert document["data"]["customer"] == "ann"
        else:
            assert (found["ce-partitionkey"], found["ce-subject"]) == ("ann", "ann")


async def test_what_no_contract_reads_keeps_its_key(database: Sqlite) -> None:
    await database.migrate("outbox", STEPS)
    old = _sold(key="order")
    async with database.transaction() as tx:
        await Outbox("shop").publish(tx, old(order="1", customer="ann"))
    with pytest.raises(BrokerError, match=r"the outbox of shop: .*no service declares test.sales"):
        await rekey(database, "test.sales", {}, where="shop")


async def test_another_key_in_order(connect: Callable[..., Broker], tmp_path: Path) -> None:
    """Events of the old key are read, those that wait and the new ones follow by the new key."""
    old, new = _sold(key="order"), _sold(key="customer")
    database = Sqlite(tmp_path / "shop.db")
    operator = arrangeable(connect(OLD))
    seen: list[str] = []

    async def note(event: Any, tx: Any) -> None:
        tx.after_commit(lambda: seen.append(event.order))

    before = Bus(connect(OLD), database, "shop")
    before.on(old, name="x", on_failure="block_key", handler=note)
    await before.start()
    async with database.transaction() as tx:
        await before.publish(tx, old(order="0", customer="ann"))
    await until(lambda: seen)
    await operator.hold("test.sales", 60)
    async with database.transaction() as tx:
        await before.publish(tx, *(old(order=str(n), customer="ann") for n in range(1, 9)))
    await before.stop(0.5)
    after = Bus(connect(), database, "shop")
    after.on(new, name="x", on_failure="block_key", handler=note)
    async with database.transaction() as tx:
        await after.publish(tx, new(order="9", customer="ann"))
    contracts = {event_of(new).type: event_of(new)}
    changed = await arrange(
        operator,
        "test.sales",
        outboxes={"shop": database},
        consumers={"shop": database},
        contracts=contracts,
    )
    assert changed == 8
    await after.start()
    await until(lambda: len(seen) == 10)
    assert seen == [str(n) for n in range(10)]
    await after.stop()
    await database.close()
