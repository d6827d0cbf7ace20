"""A topic that is held back in the outbox waits there, and nothing of it is under way."""

import asyncio

import asyncpg
import pytest

from switchgear.database.postgres import Postgres
from switchgear.database.sqlite import Sqlite
from switchgear.errors import BrokerError
from switchgear.events import holding
from switchgear.events.brokers.port import BrokerUnavailable, Lag, Partition
from switchgear.events.holding import OutboxHolds
from switchgear.events.outbox import Outbox
from switchgear.events.relay import Relay
from tests.events.test_relay import Recorder, placed
from tests.events.world import News, until

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
    assert (await relay.backlog()).events == 2
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
        return (await holding._members(store))[0][2] > 0 if rows else False

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
    monkeypatch.setattr(holding, "_UNDERWAY", 0.2)
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
