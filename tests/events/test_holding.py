"""A topic that is held back in the outbox waits there, and nothing of it is under way."""

import asyncio
import time
from contextlib import asynccontextmanager
from types import SimpleNamespace

import asyncpg
import pytest

from switchgear.contract.event import event, event_of
from switchgear.contract.message import Message, field
from switchgear.database.postgres import Postgres
from switchgear.database.sqlite import Sqlite
from switchgear.errors import BrokerError, OperationError
from switchgear.events import holding
from switchgear.events.arrange import arrange
from switchgear.events.brokers.port import BrokerUnavailable, Lag, Partition
from switchgear.events.holding import NotSettled, OutboxHolds, beaten
from switchgear.events.outbox import Outbox
from switchgear.events.relay import Relay
from switchgear.events.shares import Shares
from tests.events.test_relay import Recorder, placed
from tests.events.world import News, OrderPlaced, until

TOPIC = "test.orders"


class Asked(Recorder):
    """A broker that also says how far a group is behind."""

    lags = Lag(0, None)

    async def lag(self, group, topics):
        return self.lags


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request):
    return None if request.param == "sqlite" else request.getfixturevalue("postgres_url")


@pytest.fixture
async def store(url, tmp_path):
    """The outbox's database."""
    if url is None:
        database = Sqlite(tmp_path / "service.db")
        yield database
        await database.close()
        return
    async with asyncpg.create_pool(url, min_size=1, max_size=4) as pool:
        yield Postgres(pool)


@pytest.fixture
async def box(store):
    made = Outbox("orders")
    await made.migrate(store)
    return made


async def write(store, box, *events):
    async with store.transaction() as tx:
        await box.publish(tx, *events)


async def test_a_held_topic_waits_and_no_other(store, box):
    broker = Asked()
    relay = Relay(store, broker, lease=1.0)
    await relay.start()
    await write(store, box, placed(1))
    await until(lambda: broker.numbers() == [1])
    holds = OutboxHolds(broker, {"orders": store}, ["g"])
    assert await holds.hold(TOPIC, 600) == {}
    await write(store, box, placed(2), News(number=10), placed(3), News(number=11))
    await until(lambda: broker.numbers() == [1, 10, 11])
    await until(lambda: relay.error)
    assert relay.error == f"held back until it has been rearranged: {TOPIC}"
    await until(lambda: left(relay, 2))
    await write(store, box, placed(4), News(number=12))
    await until(lambda: broker.numbers() == [1, 10, 11, 12])
    await holds.release(TOPIC)
    await until(lambda: broker.numbers() == [1, 10, 11, 12, 2, 3, 4])
    await until(lambda: relay.error is None)
    await relay.stop()


async def test_a_hold_waits_for_what_is_under_way(store, box):
    class Slow(Asked):
        def __init__(self):
            super().__init__()
            self.begun, self.may = asyncio.Event(), asyncio.Event()

        async def publish(self, records):
            self.begun.set()
            await self.may.wait()
            await super().publish(records)

    broker = Slow()
    relay = Relay(store, broker, lease=0.5)
    await relay.start()
    await write(store, box, placed(1))
    await broker.begun.wait()
    seen = []
    holds = OutboxHolds(broker, {"orders": store}, ["g"])
    held = asyncio.create_task(holds.hold(TOPIC, 600))
    held.add_done_callback(lambda _: seen.append(broker.numbers()))

    async def over():
        async with store.reading() as tx:
            rows = await tx.run("SELECT expires FROM switchgear_relay_member")
        return (await holding._relays(store))[0][2] > 0 if rows else False

    await until(over)  # its leases have run out, and it may still be at it
    assert not held.done()
    broker.may.set()
    await held
    await until(lambda: seen)
    assert seen == [[1]]
    await write(store, box, placed(2), News(number=9))
    await until(lambda: broker.numbers() == [1, 9])
    await relay.stop()


async def test_a_relay_that_is_gone_is_waited_for_within_bounds(store, box, monkeypatch):
    monkeypatch.setattr(holding, "UNDERWAY", 0.2)
    await write(store, box, placed(1))
    async with store.transaction() as tx:
        expires = 10.0  # long ago
        await tx.run("INSERT INTO switchgear_relay_member (id, expires) VALUES ('x', ?)", expires)
    holds = OutboxHolds(Asked(), {"orders": store}, ["g"])
    assert await holds.hold(TOPIC, 600) == {}


async def test_a_hold_ends_by_itself_and_a_shorter_one_ends_no_longer_one(store, box):
    broker = Asked()
    holds = OutboxHolds(broker, {"orders": store}, [])
    await holds.hold(TOPIC, 600)
    await holds.hold(TOPIC, 0)
    await write(store, box, placed(1), News(number=9))
    relay = Relay(store, broker, lease=0.3)
    await relay.start()
    await until(lambda: broker.numbers() == [9])
    await holds.release(TOPIC)
    await until(lambda: broker.numbers() == [9, 1])
    await holds.hold(TOPIC, 0.2)
    await write(store, box, placed(2))
    await until(lambda: broker.numbers() == [9, 1, 2])
    await relay.stop()


async def test_who_is_behind_is_told(store, box):
    broker = Asked()
    holds = OutboxHolds(broker, {"orders": store}, ["h", "g"])
    broker.lags = Lag(3, None)
    assert await holds.hold(TOPIC, 60) == {"g": 3, "h": 3}
    broker.lags = Lag(0, None, frozenset({Partition(TOPIC, 2)}))
    with pytest.raises(BrokerUnavailable, match=r"how far g is in test.orders\[2\] is not told"):
        await holds.hold(TOPIC, 60)
    with pytest.raises(BrokerError, match="own tool changes the number of partitions"):
        await holds.release(TOPIC, 5)


@pytest.fixture
def looks(monkeypatch):
    """Counts how often the relays of an outbox were looked at."""
    found, relays = [], holding._relays

    async def counted(database):
        found.append(await relays(database))
        return found[-1]

    monkeypatch.setattr(holding, "_relays", counted)
    return found


async def test_a_beat_that_began_before_the_hold_does_not_count(postgres_url, looks):
    async with asyncpg.create_pool(postgres_url, min_size=1, max_size=6) as pool:
        store, begun, may = Postgres(pool), asyncio.Event(), asyncio.Event()
        await Outbox("orders").migrate(store)

        class SlowToCommit(Postgres):
            @asynccontextmanager
            async def transaction(self):
                async with super().transaction() as tx:
                    yield tx
                    begun.set()
                    await may.wait()

        relay = Shares(SlowToCommit(pool), "h-1", 600.0)
        may.set()
        await relay.beat()
        begun.clear()
        may.clear()
        beat = asyncio.create_task(relay.beat())
        await begun.wait()  # it has read the holds
        holds = OutboxHolds(Asked(), {"orders": store}, [])
        held = asyncio.create_task(holds.hold(TOPIC, 600))

        async def waits():
            sql = (  # other tests have locks of their own on the same server
                "SELECT count(*) FROM pg_locks JOIN pg_database ON oid = database "
                "WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted"
            )
            return looks or await pool.fetchval(sql)

        await until(waits)
        may.set()
        await beat
        assert TOPIC not in relay.held
        looks.clear()
        await until(lambda: held.done() or len(looks) > 3)
        assert not held.done()
        await relay.beat()
        assert TOPIC in relay.held
        assert await held == {}


async def test_a_relay_that_others_have_outlived_is_still_waited_for(store, box):
    await write(store, box, placed(1))
    gone, other = Shares(store, "h-gone", -1.0), Shares(store, "h-other", 600.0)
    await gone.beat()  # it publishes for longer than its leases
    await other.beat()
    holds = OutboxHolds(Asked(), {"orders": store}, [], within=0.2)
    with pytest.raises(NotSettled, match="h-gone of orders"):
        await holds.hold(TOPIC, 600)
    async with store.transaction() as tx:
        await tx.run("UPDATE switchgear_relay_member SET expires = 10 WHERE id = 'h-gone'")
    await other.beat()
    assert [name for name, _, _ in await holding._relays(store)] == ["h-other"]


async def left(relay, events):
    return (await relay.backlog()).events == events


async def expire(store):
    """Let the holds of an outbox lapse."""
    async with store.transaction() as tx:
        await tx.run("UPDATE switchgear_outbox_hold SET expires = 0")


async def test_a_hold_that_has_lapsed_is_made_quiet_again(store, box, looks):
    class Lapsing(Asked):
        lapses = 0

        async def lag(self, group, topics):
            if self.lapses:
                self.lapses -= 1
                await expire(store)
            return self.lags

    broker = Lapsing()
    holds = OutboxHolds(broker, {"orders": store}, ["g"])
    await holds.hold(TOPIC, 600)
    once = len(looks)
    assert once
    await holds.hold(TOPIC, 600)
    assert len(looks) == once, "it was held all the while"
    await expire(store)
    await holds.hold(TOPIC, 600)
    assert len(looks) == 2 * once
    broker.lapses = 1
    await holds.hold(TOPIC, 600)
    assert len(looks) == 3 * once


async def test_what_was_seen_before_a_lapse_does_not_count(store, box):
    relay, renewed = Shares(store, "h-1", 600.0), []
    await relay.beat()

    async def renew():
        await relay.beat()
        renewed.append(len(renewed))
        return len(renewed) > 1

    until_then = time.monotonic() + 60
    await beaten({"orders": store}, TOPIC, until=until_then, renew=renew, every=0.0)
    assert renewed == [0, 1]


async def test_nothing_is_held_while_a_relay_of_an_earlier_release_publishes(store, box):
    old = Shares(store, "77-abcdef", 600.0)
    await old.beat()
    holds = OutboxHolds(Asked(), {"orders": store}, [])
    with pytest.raises(OperationError, match="outbox of orders: .*77-abcdef is of an earlier"):
        await holds.hold(TOPIC, 600)
    await old.beat()
    assert not old.held
    await old.leave()
    assert await holds.hold(TOPIC, 600) == {}


async def test_relays_are_waited_for_within_bounds_whatever_the_clock_says(store, box):
    relay = Shares(store, "h-1", 1e6)  # as if the clock had been set back
    await relay.beat()
    holds = OutboxHolds(Asked(), {"orders": store}, [], within=0.1)
    with pytest.raises(NotSettled, match="the relay h-1 of orders may still be publishing"):
        await holds.hold(TOPIC, 600)
    await relay.beat()
    assert not relay.held, "what could not be held is let go"


async def test_after_a_rekey_every_relay_begins_anew_before_the_release(store, box, looks):
    @event(TOPIC, key="number")
    class Numbered(Message):
        order_id: str = field(1)
        number: int = field(2)

    relay = Shares(store, "h-1", 600.0)
    await write(store, box, placed(1))
    assert await relay.beat()
    assert not await relay.beat()
    holds = SimpleNamespace(hold=_nobody, release=_nobody)
    contracts = {event_of(OrderPlaced).type: event_of(Numbered)}
    outboxes = {"orders": store}
    done = asyncio.create_task(
        arrange(holds, TOPIC, outboxes=outboxes, consumers={}, contracts=contracts)
    )
    await until(lambda: done.done() or len(looks) > 3)
    assert not done.done()
    assert await relay.beat(), "it reads from the front"
    assert await done == 1


async def _nobody(topic, number=None):
    return {}
