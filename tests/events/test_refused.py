"""A topic that the broker refuses holds back its own events, and no others."""

import logging
from collections import Counter

import asyncpg
import msgspec
import pytest

from switchgear.database.postgres import Postgres
from switchgear.events import refused
from switchgear.events.brokers.port import RecordTooLarge, TopicRefused
from switchgear.events.outbox import Outbox
from switchgear.events.pending import Pending
from switchgear.events.relay import Relay
from tests.events.world import News, OrderPlaced, Picture, until

PICTURES, ORDERS, NEWS = "test.pictures", "test.orders", "test.news"


class Choosy:
    """A broker that refuses `topics`, after it has taken what else it was given with them.

    `early`: before it takes anything.
    """

    def __init__(self, *topics, early=False):
        self.topics = set(topics)
        self.early = early
        self.records = []
        self.batches = []

    async def publish(self, records):
        self.batches.append(Counter(record.topic for record in records))
        wrong = sorted({record.topic for record in records} & self.topics)
        if not (wrong and self.early):
            self.records += [one for one in records if one.topic not in self.topics]
        if wrong:
            raise TopicRefused(wrong[0], f"there is no {wrong[0]}.", fix="Create it.")

    def numbers(self, topic, key=None):
        """Return the numbers of a topic's events, each once, as they first came."""
        found = [
            msgspec.json.decode(one.value)
            for one in self.records
            if one.topic == topic and key in {None, one.key}
        ]
        name = "pixels" if topic == PICTURES else "number"
        return list(dict.fromkeys(int(one[name]) for one in found))


def placed(number, key="a"):
    return OrderPlaced(order_id=key, number=number)


def picture(number, key="a"):
    return Picture(name=key, pixels=str(number))


@pytest.fixture
def quick(monkeypatch):
    """Try again at once what was refused."""
    monkeypatch.setattr(refused, "_TOPIC_AGAIN", 0.01)
    monkeypatch.setattr(refused, "_TOPIC_MOST", 0.01)


@pytest.fixture
def slow(monkeypatch):
    """Never try it again."""
    monkeypatch.setattr(refused, "_TOPIC_AGAIN", 1e6)
    monkeypatch.setattr(refused, "_TOPIC_MOST", 1e6)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request):
    return None if request.param == "sqlite" else request.getfixturevalue("postgres_url")


@pytest.fixture
async def store(url, database):
    """An outbox's database of each kind, with its tables."""
    if url is None:
        await Outbox("orders").migrate(database)
        yield database
        return
    async with asyncpg.create_pool(url, min_size=1, max_size=4) as pool:
        opened = Postgres(pool)
        await Outbox("orders").migrate(opened)
        yield opened


@pytest.fixture
async def relaying(store):
    """Start a relay of the store, which is stopped at the end."""
    started = []

    async def start(broker, **settings):
        started.append(Relay(store, broker, **settings))
        await started[-1].start()
        return started[-1]

    yield start
    for relay in started:
        await relay.stop()


async def write(store, *events):
    box = Outbox("orders")
    async with store.transaction() as tx:
        await box.publish(tx, *events)


async def left(relay, events):
    return (await relay.backlog()).events == events


@pytest.mark.parametrize("early", [True, False])
async def test_the_events_of_a_refused_topic_wait_and_all_others_flow(
    store, relaying, slow, caplog, early
):
    caplog.set_level(logging.WARNING, "switchgear.relay")
    broker = Choosy(PICTURES, early=early)
    for number in range(30):
        await write(store, placed(number, f"k{number % 3}"), picture(number), News(number=number))
    relay = await relaying(broker, batch=20)
    await until(lambda: left(relay, 30))
    for number in range(30, 40):
        await write(store, picture(number), placed(number))
    await until(lambda: left(relay, 40))
    assert broker.numbers(PICTURES) == []
    for key in ("k0", "k1", "k2"):
        assert broker.numbers(ORDERS, key) == [n for n in range(30) if f"k{n % 3}" == key]
    assert broker.numbers(ORDERS, "a") == list(range(30, 40))
    assert broker.numbers(NEWS) == list(range(30))
    await until(lambda: relay.error)
    assert relay.error == (
        "[SG606] there is no test.pictures. Create it. In the outbox all of test.pictures waits."
    )
    assert not relay.broken
    assert [one.getMessage() for one in caplog.records] == [relay.error]
    assert sum(batch[PICTURES] > 0 for batch in broker.batches) == 1, "it is not asked again yet"


async def test_once_the_topic_is_there_its_events_come_in_order(store, relaying, quick, caplog):
    caplog.set_level(logging.INFO, "switchgear.relay")
    broker = Choosy(PICTURES)
    relay = await relaying(broker, batch=50)
    for number in range(200):
        await write(store, picture(number, f"k{number % 7}"), placed(number))
    await until(lambda: left(relay, 200))
    await until(lambda: relay.wake() or sum(one[PICTURES] > 0 for one in broker.batches) > 5)
    broker.topics.clear()
    await until(lambda: left(relay, 0))
    for key in range(7):
        assert broker.numbers(PICTURES, f"k{key}") == list(range(key, 200, 7))
    assert broker.numbers(ORDERS) == list(range(200))
    await until(lambda: relay.error is None)
    said = [one.getMessage() for one in caplog.records]
    assert len(said) == 2, "once that it waits, and once that it does not"
    assert said[1] == "test.pictures is published again"


async def test_what_others_have_taken_is_not_published_again_with_each_attempt(
    store, relaying, quick
):
    broker = Choosy(PICTURES)
    await write(store, *(one for n in range(20) for one in (placed(n), picture(n))))
    relay = await relaying(broker)
    await until(lambda: left(relay, 20))
    tried = len(broker.batches)
    for number in range(20, 40):
        await write(store, placed(number), picture(number))
    await until(lambda: left(relay, 40))
    await until(lambda: relay.wake() or len(broker.batches) > tried + 30)
    counts = Counter(msgspec.json.decode(one.value)["number"] for one in broker.records)
    assert set(counts) == set(range(40))
    assert all(counts[number] <= 2 for number in range(20)), "once with the first refusal"
    assert all(counts[number] == 1 for number in range(20, 40))


async def test_several_topics_may_be_refused(store, relaying, slow):
    broker = Choosy(PICTURES, NEWS)
    await write(store, News(number=1), picture(1), placed(1), News(number=2), placed(2))
    relay = await relaying(broker)
    await until(lambda: left(relay, 3))
    assert broker.numbers(ORDERS) == [1, 2]
    await until(lambda: relay.error)
    assert "all of test.news waits. So do 1 more." in relay.error


async def test_a_refusal_of_a_topic_that_was_not_published_stops_the_relay_and_loses_nothing(
    store, relaying
):
    class Confused(Choosy):
        async def publish(self, records):
            raise TopicRefused("test.unheard", "there is no test.unheard.")

    await write(store, placed(1))
    relay = await relaying(Confused())
    await until(lambda: relay._failures >= 2)
    assert "test.unheard" in relay.error
    assert await left(relay, 1)


async def test_when_the_leases_end_between_two_topics_nothing_is_deleted_unpublished(
    store,
):
    class Late(Choosy):
        async def publish(self, records):
            await super().publish(records)
            if len(self.batches) == 3:
                relay._held_until = 0.0  # it took so long

    broker = Late(PICTURES, early=True)
    relay = Relay(store, broker, lease=600.0)
    await write(store, *(one for n in range(5) for one in (placed(n), picture(n))))
    await relay._beat()
    assert await relay._turn() == 5
    broker.topics.clear()
    relay._refused.topics.clear()  # as when it is due
    await write(store, placed(5), picture(5), placed(6))
    relay._pending.front()
    assert await relay._turn() == 2, "the orders, and no more"
    assert (await relay.backlog()).events == 6
    await relay._beat()
    while await relay._turn():
        pass
    assert broker.numbers(PICTURES) == list(range(6))
    assert broker.numbers(ORDERS) == list(range(7))
    assert (await relay.backlog()).events == 0


async def test_what_waits_is_told_by_topic(store):
    await write(store, picture(1), placed(1), picture(2))
    found = await Pending(store).topics()
    assert list(found) == [PICTURES, ORDERS]
    assert [one.events for one in found.values()] == [2, 1]
    assert all(0 <= one.oldest < 600 for one in found.values())


def no_topic(topic):
    return TopicRefused(topic, f"there is no {topic}.")


def test_a_topic_is_tried_again_ever_more_rarely_until_it_is_taken():
    held, now, pauses = refused.Refused(), 100.0, []
    for attempt in range(9):
        assert held.add_topic([(1, "t", "a")], no_topic("t"), now) == (attempt == 0)
        due = held._suspects["t"][1].at
        pauses.append(due - now)
        assert held.holds((1, "t", "a"))
        assert not held.holds((1, "u", "a"))
        assert not held.again(due - 0.01)
        assert held.again(due)
        assert not held.any
        now = due + 5.0
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    assert held.taken([(1, "u", "a")]) == []
    assert held.taken([(1, "t", "a"), (2, "t", "b")]) == ["t"]
    assert held.add_topic([(1, "t", "a")], no_topic("t"), now)
    assert held._suspects["t"][1].at == now + 1.0


def test_topics_are_tried_again_each_by_itself_and_apart_from_keys():
    held = refused.Refused()
    held.add((1, "v", "k"), RecordTooLarge("v", 200, 100), 100.0)
    held.add_topic([(1, "t", "a")], no_topic("t"), 100.0)
    held.add_topic([(1, "u", "a")], no_topic("u"), 100.5)
    assert held.again(101.0)
    assert (held.topics, held.keys) == ({"u"}, {"k"})
    held.add_topic([(1, "t", "a")], no_topic("t"), 101.0)
    assert held.again(115.0)
    assert (held.topics, held.keys) == (set(), set())


def test_a_topic_that_was_refused_is_published_apart_and_each_stays_in_order():
    held = refused.Refused()
    rows = [(number, "tuv"[number % 3], "k") for number in range(6)]
    assert held.parted(rows) == [rows]
    held.add_topic([(1, "u", "a")], no_topic("u"), 100.0)
    assert held.parted(rows) == [[rows[n] for n in (0, 2, 3, 5)], [rows[1], rows[4]]]


def test_how_many_topics_wait_is_bounded():
    held = refused.Refused()
    for number in range(100):
        held.add_topic([(1, f"t{number}", "a")], no_topic(f"t{number}"), 100.0)
    with pytest.raises(TopicRefused, match="there is no u"):
        held.add_topic([(1, "u", "a")], no_topic("u"), 100.0)
    with pytest.raises(RecordTooLarge):
        held.add((1, "v", "k"), RecordTooLarge("v", 200, 100), 100.0)
    assert held.again(101.0)
    assert held.add_topic([(1, "u", "a")], no_topic("u"), 101.0)
