"""What only the embedded broker has: retention, one file for many processes, no cost while idle."""

import asyncio
import sqlite3
import time
from datetime import timedelta

import pytest

from switchgear.database.sqlite import Sqlite
from switchgear.errors import BrokerError
from switchgear.events.brokers.port import BrokerUnavailable, Partition, Record
from switchgear.events.brokers.sqlite import SqliteBroker
from switchgear.events.watch import Watch
from tests.events.world import until

TOPIC = "test.orders"


def records(count, size=10):
    return [Record(TOPIC, "k", {}, b"x" * size) for _ in range(count)]


def rows(broker, sql="SELECT count(*) FROM log"):
    connection = sqlite3.connect(broker.path)
    found = connection.execute(sql).fetchone()[0]
    connection.close()
    return found


def change(broker, sql):
    """As if more time had passed."""
    connection = sqlite3.connect(broker.path)
    with connection:
        connection.execute(sql)
    connection.close()


def statements(broker):
    """A list that grows with every statement of the broker's writer from now on."""
    found = []
    broker._database._writer.connection.set_trace_callback(found.append)
    return found


@pytest.fixture
def opening(tmp_path):
    opened = []

    def make(**settings):
        settings.setdefault("partitions", 1)
        opened.append(SqliteBroker(tmp_path / "broker.db", **settings))
        return opened[-1]

    yield make
    assert all(broker._eyes is None for broker in opened), "close it in the test"


async def test_old_records_are_deleted_in_small_steps(opening):
    broker = opening(retention=timedelta(hours=1))
    await broker.publish(records(1200))
    change(broker, "UPDATE log SET at = at - 7200")
    await broker.publish(records(5))
    assert await broker.clean() == 1200
    assert rows(broker) == 5
    assert (await broker.lag("new", [TOPIC])).events == 5, "a new group begins at what is kept"
    subscription = await broker.subscribe("new", [TOPIC])
    assert [one.offset for one in (await subscription.poll(100, 1.0)).deliveries] == list(
        range(1200, 1205)
    )
    await broker.close()


async def test_a_partition_over_its_size_loses_the_oldest(opening):
    broker = opening(retention_bytes=10_000)
    await broker.publish(records(100, size=200))
    await broker.clean()
    assert rows(broker) == 49, "of 202 bytes each, with their headers"
    assert rows(broker, "SELECT bytes FROM part") == 49 * 202
    assert await broker.clean() == 0
    await broker.close()


async def test_what_a_living_group_has_not_read_is_kept(opening):
    broker = opening(retention=timedelta(0))
    await broker.publish(records(30))
    change(broker, "UPDATE log SET at = at - 1")
    subscription = await broker.subscribe("g", [TOPIC])
    await subscription.poll(100, 1.0)
    await subscription.commit({Partition(TOPIC, 0): 10})
    await subscription.close()
    assert await broker.clean() == 10
    assert (await broker.lag("g", [TOPIC])).events == 20
    await broker.close()


async def test_a_group_that_nobody_joins_any_more_holds_nothing_back(opening):
    broker = opening(retention=timedelta(0), forget=timedelta(hours=1))
    await broker.publish(records(30))
    change(broker, "UPDATE log SET at = at - 1")
    subscription = await broker.subscribe("g", [TOPIC])
    await subscription.close()
    assert await broker.clean() == 0
    change(broker, "UPDATE grp SET seen = seen - 7200")
    assert await broker.clean() == 30
    await broker.close()


async def test_cleaning_a_log_with_nothing_to_delete_writes_nothing(opening):
    broker = opening()
    await broker.publish(records(10))
    version = broker._database.version()
    assert await broker.clean() == 0
    assert broker._database.version() == version
    await broker.close()


async def test_another_number_of_partitions_is_refused(opening):
    one, other, unsaid = opening(partitions=3), opening(partitions=4), opening(partitions=None)
    await one.publish(records(1))
    with pytest.raises(BrokerError, match="3 partitions, and 4 were asked for"):
        await other.publish(records(1))
    with pytest.raises(BrokerError, match="3 partitions, and 4 were asked for"):
        await other.subscribe("g", [TOPIC])
    await unsaid.publish(records(1))
    assert rows(one) == 2
    for broker in (one, other, unsaid):
        await broker.close()


async def test_a_member_of_a_running_service_joins_again_though_the_topic_has_more_partitions(
    opening,
):
    one, other = opening(partitions=3), opening(partitions=None)
    await one.publish(records(1))
    await other._open()
    await other._write(
        lambda connection: connection.execute(
            "INSERT INTO part (topic, number) VALUES (?, 3)", (TOPIC,)
        )
    )
    subscription = await one.subscribe("g", [TOPIC])
    assert len(one._topics[TOPIC]) == 4
    await subscription.close()
    for broker in (one, other):
        await broker.close()


async def test_a_file_locked_by_another_process_is_unavailable(opening):
    broker = opening()
    await broker.publish(records(1))
    broker._database._writer.connection.execute("PRAGMA busy_timeout = 50")
    blocker = sqlite3.connect(broker.path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(BrokerUnavailable, match="locked"):
        await broker.publish(records(1))
    blocker.execute("ROLLBACK")
    blocker.close()
    await broker.publish(records(1))
    assert rows(broker) == 2
    await broker.close()


async def test_concurrent_publishes_share_commits(opening):
    broker = opening()
    await broker.publish(records(1))
    ran = statements(broker)
    await asyncio.gather(*(broker.publish(records(1)) for _ in range(200)))
    assert 1 <= ran.count("COMMIT") < 20
    assert rows(broker) == 201
    await broker.close()


async def test_members_of_a_process_beat_in_one_commit(opening):
    broker = opening()
    subscriptions = [await broker.subscribe(f"g{n}", [TOPIC], lease=0.6) for n in range(10)]
    ran = statements(broker)

    def beats():
        return sum(sql.startswith("INSERT INTO member") for sql in ran)

    await until(lambda: beats() >= 50)
    assert ran.count("COMMIT") <= 0.5 * beats(), "ten beats in each, if all were due at once"
    for one in subscriptions:
        await one.close()
    await broker.close()


async def test_an_idle_member_costs_almost_nothing(opening):
    broker = opening()
    subscription = await broker.subscribe("g", [TOPIC])
    polling = asyncio.create_task(subscription.poll(10, 30.0))
    await until(lambda: subscription.owns(Partition(TOPIC, 0)))
    ran = statements(broker)
    began = time.monotonic()
    await asyncio.sleep(1.0)
    commits, seconds = ran.count("COMMIT"), time.monotonic() - began
    polling.cancel()
    await broker.close()
    assert commits <= 2 + seconds, "its beats, several in a lease of five seconds"


# noticing commits


async def test_a_commit_of_another_connection_is_noticed(tmp_path):
    database = Sqlite(tmp_path / "a.db")
    await database.write(lambda one: one.execute("CREATE TABLE t (a)").close())
    seen = []
    watch = Watch(database, lambda: seen.append(True))
    watch.start()
    other = sqlite3.connect(database.path)
    for _ in range(5):
        seen.clear()
        with other:
            other.execute("INSERT INTO t VALUES (1)")
        await until(lambda: seen)
    other.close()
    watch.stop()
    watch.stop()
    await database.close()


async def test_without_hints_it_asks(tmp_path, monkeypatch):
    monkeypatch.setattr("switchgear.events.watch._inotify", lambda _: None)
    await test_a_commit_of_another_connection_is_noticed(tmp_path)
