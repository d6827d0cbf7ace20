"""The relay: in order, nothing lost, one at a time, whatever happens to it or the broker."""

import asyncio
import contextlib
from types import SimpleNamespace

import asyncpg
import msgspec
import pytest

from switchgear.database.port import DatabaseUnavailable
from switchgear.database.postgres import Postgres
from switchgear.database.sqlite import Sqlite
from switchgear.events import floor, refused
from switchgear.events.brokers.port import BrokerUnavailable, RecordTooLarge
from switchgear.events.outbox import Outbox
from switchgear.events.pending import Pending
from switchgear.events.relay import Relay
from tests.events.world import OrderPlaced, Picture, until


class Recorder:
    """A broker that only remembers; `fails` are raised first, one for each publish."""

    def __init__(self, *fails):
        self.fails = list(fails)
        self.records = []
        self.calls = 0

    async def publish(self, records):
        self.calls += 1
        if self.fails:
            raise self.fails.pop(0)
        self.records += records

    def numbers(self, key=None):
        return [
            msgspec.json.decode(record.value)["number"]
            for record in self.records
            if key is None or record.key == key
        ]


def placed(number, key="a"):
    return OrderPlaced(order_id=key, number=number)


@pytest.fixture
async def box(database):
    made = Outbox("orders")
    await made.migrate(database)
    return made


@pytest.fixture
def relaying():
    """Start relays; they are stopped at the end."""
    started = []

    async def start(database, broker, box=None, **settings):
        relay = Relay(database, broker, **settings)
        if box is not None:
            box.on_commit(relay.wake)
        await relay.start()
        started.append(relay)
        return relay

    yield start
    for relay in started:
        assert relay._task is None, "stop it in the test"


async def test_committed_events_are_published_in_order_and_deleted(database, box, relaying):
    broker = Recorder()
    relay = await relaying(database, broker, box)
    for first in range(0, 30, 10):
        async with database.transaction() as tx:
            await box.publish(tx, *(placed(number) for number in range(first, first + 10)))
    await relay.stop(within=60)
    assert broker.numbers() == list(range(30))
    assert await relay.backlog() == (await relay.backlog()).__class__(0, None)


async def test_it_publishes_at_once_what_a_foreign_connection_commits(database, box, relaying):
    import sqlite3

    broker = Recorder()
    relay = await relaying(database, broker)
    connection = sqlite3.connect(database.path)
    with connection:
        box.publish_sync(connection, placed(1))
    await until(lambda: broker.records)
    connection.close()
    await relay.stop()


async def test_a_backlog_larger_than_a_batch_drains(database, box, relaying):
    async with database.transaction() as tx:
        await box.publish(tx, *(placed(number) for number in range(1234)))
    broker = Recorder()
    relay = await relaying(database, broker, batch=100)
    await until(lambda: len(broker.records) == 1234)
    assert broker.numbers() == list(range(1234))
    assert broker.calls > 10
    await relay.stop()


async def test_large_events_go_in_smaller_batches(database, box, relaying):
    text = "x" * 900_000
    async with database.transaction() as tx:
        await box.publish(tx, *(OrderPlaced(order_id=text, number=n) for n in range(12)))
    broker = Recorder()
    relay = await relaying(database, broker)
    await relay.stop(within=60)
    assert len(broker.records) == 12
    assert relay._size < 10


async def test_while_the_broker_is_down_it_waits_and_tells_why(database, box, relaying):
    class Away(Recorder):
        away = True

        async def publish(self, records):
            if self.away:
                raise BrokerUnavailable("it is away")
            await super().publish(records)

    broker = Away()
    relay = await relaying(database, broker, box)
    async with database.transaction() as tx:
        await box.publish(tx, placed(1), placed(2))
    await until(lambda: relay.error)
    assert "it is away" in relay.error
    assert (await relay.backlog()).events == 2
    broker.away = False
    await until(lambda: broker.records)
    assert broker.numbers() == [1, 2]
    await until(lambda: relay.error is None)
    await relay.stop()


async def test_a_stop_publishes_what_is_committed(database, box, relaying):
    broker = Recorder()
    relay = await relaying(database, broker)
    async with database.transaction() as tx:
        await box.publish(tx, *(placed(number) for number in range(700)))
    await relay.stop(within=60)
    assert len(broker.records) == 700


async def test_a_stop_publishes_what_is_committed_while_it_looks(database, box):
    broker, looked, may = Recorder(), asyncio.Event(), asyncio.Event()
    relay = Relay(database, broker)
    look = relay._pending.any

    async def slow():
        found = await look()
        looked.set()
        await may.wait()
        return found

    relay._pending.any = slow
    await relay.start()
    await looked.wait()  # it has found nothing
    async with database.transaction() as tx:
        await box.publish(tx, placed(1))
    stopping = asyncio.create_task(relay.stop(within=60))
    await asyncio.sleep(0)
    may.set()
    await stopping
    assert broker.numbers() == [1]


async def test_a_stop_is_bounded_while_the_broker_hangs(database, box, relaying):
    class Hanging(Recorder):
        async def publish(self, records):
            await asyncio.Event().wait()

    relay = await relaying(database, Hanging(), box)
    async with database.transaction() as tx:
        await box.publish(tx, placed(1))
    async with asyncio.timeout(60):
        await relay.stop(within=0.2)
    assert (await relay.backlog()).events == 1


async def test_an_event_that_was_published_but_not_deleted_is_published_again(
    database, box, relaying
):
    """A crash in between: the same event, with the same id."""
    broker = Recorder()

    async def crash(*_, **__):
        raise asyncio.CancelledError

    async with database.transaction() as tx:
        await box.publish(tx, placed(1), placed(2))
    crashed = Relay(database, broker)
    crashed._pending.delete = crash
    await crashed.start()
    await until(lambda: len(broker.records) == 2)
    await crashed.stop()
    relay = await relaying(database, broker)
    await relay.stop(within=60)
    first, second = broker.records[:2], broker.records[2:]
    assert [one.headers["ce-id"] for one in first] == [one.headers["ce-id"] for one in second]


async def test_one_relay_publishes_at_a_time_and_another_takes_over(tmp_path, database, box):
    other = Sqlite(tmp_path / "service.db")
    one_broker, two_broker = Recorder(), Recorder()
    one, two = Relay(database, one_broker, lease=60.0), Relay(other, two_broker, lease=60.0)
    await one.start()
    await two.start()
    for number in range(10):
        async with database.transaction() as tx:
            await box.publish(tx, placed(number))
        await asyncio.sleep(0.02)
    await until(lambda: len(one_broker.records) + len(two_broker.records) == 10)
    # it may have been handed over, between two events
    assert sorted(one_broker.numbers() + two_broker.numbers()) == list(range(10))
    assert one_broker.numbers() == sorted(one_broker.numbers())
    assert two_broker.numbers() == sorted(two_broker.numbers())
    await one.stop()
    two._beat_at = 0.0  # or it would look for what is free in a third of its lease
    async with database.transaction() as tx:
        await box.publish(tx, placed(10))
    await until(lambda: 10 in two_broker.numbers())
    await two.stop()
    await other.close()


async def test_an_idle_relay_writes_nothing(database, box, relaying):
    relay = await relaying(database, Recorder(), box, lease=0.1)
    async with database.transaction() as tx:
        await box.publish(tx, placed(1))
    version = 0

    async def rests():
        nonlocal version
        empty = not (await relay.backlog()).events  # before the look: it was deleted by then
        before, version = version, database.version()
        return version == before and empty

    await until(rests)
    await asyncio.sleep(0.5)
    assert database.version() == version
    await relay.stop()


async def test_a_relay_that_meets_a_bug_says_so_and_goes_on_when_it_is_gone(
    database, box, relaying
):
    class Broken(Recorder):
        async def publish(self, records):
            if not mended:
                raise LookupError("a bug")
            await super().publish(records)

    mended, told = [], []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    broker = Broken()
    relay = await relaying(database, broker, box)
    async with database.transaction() as tx:
        await box.publish(tx, placed(1))
    await until(lambda: relay.broken)
    assert "LookupError: a bug" in relay.error
    assert told
    mended.append(True)
    await until(lambda: broker.records and not relay.broken)
    assert relay.error is None
    await relay.stop()


# PostgreSQL


async def test_on_postgresql_a_late_commit_with_an_early_serial_is_not_lost(pool, relaying):
    database, broker, box = Postgres(pool), Recorder(), Outbox("orders")
    await box.migrate(database)
    relay = await relaying(database, broker, box)
    async with pool.acquire() as late:
        transaction = late.transaction()
        await transaction.start()
        await box.publish(late, placed(1, "late"))
        async with database.transaction() as tx:
            await box.publish(tx, placed(2, "early"))
        await until(lambda: broker.numbers("early") == [2])
        assert broker.numbers("late") == []
        await transaction.commit()
    await until(lambda: broker.numbers("late") == [1])
    await relay.stop()
    assert await pool.fetchval("SELECT count(*) FROM switchgear_outbox") == 0


async def test_on_postgresql_events_after_a_row_lock_are_in_the_order_of_the_writes(pool, relaying):
    """Many writers of few entities, each publishing after its write: per key, the row's order."""
    database, broker, box = Postgres(pool), Recorder(), Outbox("orders")
    await box.migrate(database)
    await pool.execute("CREATE TABLE entity (id TEXT PRIMARY KEY, version BIGINT)")
    await pool.execute("INSERT INTO entity VALUES ('a', 0), ('b', 0), ('c', 0)")
    relay = await relaying(database, broker, box, batch=7)

    async def writer():
        for index in range(15):
            key = "abc"[index % 3]
            async with database.transaction() as tx:
                rows = await tx.run(
                    "UPDATE entity SET version = version + 1 WHERE id = ? RETURNING version", key
                )
                await box.publish(tx, placed(rows[0][0], key))

    await asyncio.gather(*(writer() for _ in range(8)))
    await relay.stop(within=60)
    for key in "abc":
        assert broker.numbers(key) == list(range(1, 41))


async def test_on_postgresql_it_survives_a_lost_connection(pool, relaying):
    database, broker, box = Postgres(pool), Recorder(), Outbox("orders")
    await box.migrate(database)
    relay = await relaying(database, broker, box)
    await pool.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE pid <> pg_backend_pid() AND datname = current_database()"
    )

    async def published():
        with contextlib.suppress(DatabaseUnavailable):  # a connection whose end is still to arrive
            async with database.transaction() as tx:
                await box.publish(tx, placed(1))
            return True
        return False

    await until(published)
    await until(lambda: broker.records)
    await relay.stop()


class Limited(Recorder):
    """A broker that takes no more bytes than `limit`."""

    limit = 100

    async def publish(self, records):
        for record in records:
            if len(record.value) > self.limit:
                raise RecordTooLarge(record.topic, len(record.value), self.limit)
        await super().publish(records)

    def names(self):
        return [msgspec.json.decode(record.value)["name"] for record in self.records]


def picture(name, size=1):
    return Picture(name=name, pixels="x" * size)


async def test_an_event_that_is_too_large_holds_back_its_key_and_no_other(database, box, relaying):
    broker = Limited()
    async with database.transaction() as tx:
        for number in range(40):
            await box.publish(tx, picture(f"p{number % 4}", 200 if number == 13 else 1))
    relay = await relaying(database, broker, box)
    await until(lambda: len(broker.records) == 33)
    assert broker.names().count("p1") == 3, "what came before it is published"
    await until(lambda: relay.error)
    assert "bytes, and the broker takes 100." in relay.error
    assert "In the outbox the key p1 waits." in relay.error
    await until(lambda: _left(relay, 7))
    async with database.transaction() as tx:
        await box.publish(tx, picture("p1"), picture("p2"), picture("p1", 200))
    await until(lambda: len(broker.records) == 34)
    assert broker.names()[-1] == "p2"
    await until(lambda: _left(relay, 9))
    await relay.stop()


async def test_what_was_too_large_is_published_in_order_once_there_is_room(
    database, box, relaying, monkeypatch
):
    monkeypatch.setattr(refused, "_AGAIN", 0.05)
    monkeypatch.setattr(refused, "_AGAIN_MOST", 0.05)
    broker = Limited()
    relay = await relaying(database, broker, box)
    async with database.transaction() as tx:
        await box.publish(tx, picture("a", 200), picture("a", 2), picture("b"), picture("a", 3))
    await until(lambda: relay.error)
    await until(lambda: broker.names() == ["b"])
    broker.limit = 1_000
    await until(lambda: _left(relay, 0))
    pixels = [msgspec.json.decode(record.value)["pixels"] for record in broker.records]
    assert [len(one) for one in pixels] == [1, 200, 2, 3]
    await until(lambda: relay.error is None)
    await relay.stop()


async def test_what_was_published_before_too_many_keys_are_refused_is_not_published_again(
    database, box, relaying
):
    broker = Limited()
    async with database.transaction() as tx:
        for number in range(450):
            await box.publish(tx, picture(f"p{number}", 200 if number % 3 == 2 else 1))
    relay = await relaying(database, broker, box)
    await until(lambda: relay._failures >= 2)
    await relay.stop()
    names = broker.names()
    assert names
    assert len(names) == len(set(names))
    assert (await relay.backlog()).events == 450 - len(names)


async def test_what_was_published_before_the_broker_went_away_is_not_published_again(
    database, box, relaying
):
    class Away(Limited):
        may = False

        async def publish(self, records):
            if records[0].key == "c" and not self.may:
                raise BrokerUnavailable("gone")
            await super().publish(records)

    broker = Away()
    async with database.transaction() as tx:
        await box.publish(tx, picture("a"), picture("b"), picture("c"), picture("b", 200))
    relay = await relaying(database, broker, box)
    await until(lambda: relay._failures >= 2)
    assert broker.names() == ["a", "b"]
    broker.may = True
    await until(lambda: _left(relay, 1))
    assert broker.names() == ["a", "b", "c"]
    await relay.stop()


async def test_a_batch_that_is_split_goes_no_further_than_the_lease(database, box, relaying):
    class Late(Limited):
        async def publish(self, records):
            self.calls += 1
            await super().publish(records)
            if self.calls < 4:
                relay._held_until = 0.0  # it took so long

    broker = Late()
    async with database.transaction() as tx:
        await box.publish(tx, *(picture(name) for name in "abc"), picture("d", 200), picture("e"))
    relay = Relay(database, broker, lease=600.0)
    await relay._beat()
    assert await relay._turn() == 2
    assert broker.names() == ["a", "b"]
    await relay._beat()
    while await relay._turn():
        await relay._beat()
    assert broker.names() == ["a", "b", "c", "e"]
    assert (await relay.backlog()).events == 1


async def _left(relay, events):
    return (await relay.backlog()).events == events


async def test_on_postgresql_an_event_that_is_too_large_holds_back_its_key(
    pool, relaying, monkeypatch
):
    monkeypatch.setattr(refused, "_AGAIN", 0.05)
    monkeypatch.setattr(refused, "_AGAIN_MOST", 0.05)
    database, box, broker = Postgres(pool), Outbox("orders"), Limited()
    await box.migrate(database)
    relay = await relaying(database, broker, box)
    for number in range(5):
        async with database.transaction() as tx:
            await box.publish(tx, picture("a", 1 if number else 200), picture(f"b{number}"))
    await until(lambda: len(broker.records) == 5)
    await until(lambda: _left(relay, 5))
    assert "a" not in broker.names()
    broker.limit = 1_000
    await until(lambda: _left(relay, 0))
    assert broker.names()[5:] == ["a"] * 5
    await relay.stop()


def test_what_is_held_back_is_bounded_and_tried_again_now_and_then():
    held = refused.Refused()
    error = RecordTooLarge("t", 200, 100)
    assert not held.any
    assert not held.again(1e9)
    held.add((1, "t", "a"), error, 100.0)
    held.add((2, "t", None), error, 109.0)
    assert held.holds((3, "u", "a"))
    assert held.holds((2, "t", None))
    assert not held.holds((4, "t", None))
    assert held.why.endswith("the key a waits. So do 1 more.")
    for number in range(98):
        held.add((number + 10, "t", f"k{number}"), error, 110.0)
    with pytest.raises(RecordTooLarge):
        held.add((200, "t", "z"), error, 110.0)
    assert not held.again(114.9)
    assert held.again(115.0)
    assert held.why is None
    assert not held.holds((3, "u", "a"))


def test_what_is_refused_in_vain_is_tried_again_ever_more_rarely():
    held, error, now, pauses = refused.Refused(), RecordTooLarge("t", 200, 100), 100.0, []
    for _ in range(7):
        held.add((1, "t", "a"), error, now)
        pauses.append(held._again.at - now)
        now += pauses[-1]
        assert held.again(now)
        now += 1.0
    assert pauses == [15.0, 30.0, 60.0, 120.0, 240.0, 240.0, 240.0]
    now += 100.0  # all went well for a while
    held.add((1, "t", "a"), error, now)
    assert held._again.at == now + 15.0


def test_while_nothing_is_published_it_is_tried_again_soon():
    held, error = refused.Refused(), RecordTooLarge("t", 200, 100)
    for now in (100.0, 115.0, 145.0):
        held.again(now)
        held.add((1, "t", None), error, now)
    for number in range(99):
        held.add((number + 10, "t", f"k{number}"), error, 146.0)
    assert not held.again(170.0)
    with pytest.raises(RecordTooLarge):
        held.add((200, "t", "z"), error, 170.0)
    assert not held.again(184.9)
    assert held.again(185.0)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request):
    return None if request.param == "sqlite" else request.getfixturevalue("postgres_url")


@pytest.fixture
async def either(url, database):
    """An outbox's database of each kind."""
    if url is None:
        yield database
        return
    async with asyncpg.create_pool(url, min_size=1, max_size=4) as pool:
        yield Postgres(pool)


async def test_reads_begin_above_what_waits_behind_a_refused_key(either, relaying, monkeypatch):
    monkeypatch.setattr(floor, "LOOK", 0.0)
    box, broker = Outbox("orders"), Limited()
    await box.migrate(either)
    relay = await relaying(either, broker, box)
    async with either.transaction() as tx:
        await box.publish(tx, picture("bad", 200), *(picture("bad") for _ in range(500)))
    await until(lambda: relay._pending._floor.serial > 500)
    seen = []
    for number in range(20):
        async with either.transaction() as tx:
            await box.publish(tx, picture(f"g{number}"), picture("bad"))
        seen.append(f"g{number}")
    await until(lambda: broker.names() == seen)
    await until(lambda: _left(relay, 521))
    broker.limit = 1_000
    relay._refused._again.at = 0.0
    relay.wake()
    await until(lambda: _left(relay, 0))
    pixels = [len(msgspec.json.decode(record.value)["pixels"]) for record in broker.records[20:]]
    assert pixels == [200] + [1] * 520
    await relay.stop()


async def test_the_last_serial_is_looked_for_above_the_floor(either, monkeypatch):
    monkeypatch.setattr(floor, "LOOK", 0.0)
    monkeypatch.setattr(floor, "FRONT", float("inf"))
    box, asked = Outbox("orders"), []
    await box.migrate(either)

    class Noting:
        dialect = either.dialect
        alone = either.alone

        @contextlib.asynccontextmanager
        async def reading(self):
            async with either.reading() as tx:

                async def run(sql, *args):
                    if "max(id)" in sql:
                        asked.append((sql, *args))
                    return await tx.run(sql, *args)

                yield SimpleNamespace(run=run, dialect=tx.dialect)

    pending = Pending(Noting())
    for number in range(6):
        async with either.transaction() as tx:
            await box.publish(tx, placed(number))
        await pending.delete(await pending.read(None, 100, refused.Refused()), gaps=False)
    assert [args for _, *args in asked][-3:] == [[3], [4], [5]]
    assert all(sql.endswith("WHERE id >= ?") for sql, *_ in asked)
