"""What topics of Kafka take: a record that is too large is refused before it is sent, or alone."""

import secrets

import pytest

from switchgear.database.sqlite import Sqlite
from switchgear.errors import BrokerError
from switchgear.events import refused
from switchgear.events.brokers import kafka_limits
from switchgear.events.brokers.batching import check_size
from switchgear.events.brokers.kafka_client import KafkaSettings
from switchgear.events.brokers.port import BrokerUnavailable, Record, RecordTooLarge
from switchgear.events.brokers.url import broker_of
from switchgear.events.bus import Bus
from switchgear.events.outbox import Outbox
from switchgear.events.relay import Relay
from switchgear.model.outcome import Unknown
from tests.events.world import OrderPlaced, Picture, until
from tests.servers import address

TOPIC = "test.pictures"
LIMIT = 10_000
HEADERS = {"ce-id": "1", "content-type": "application/octet-stream"}


@pytest.fixture
def prefix():
    return f"t{secrets.token_hex(6)}."


@pytest.fixture
def admin():
    from confluent_kafka.admin import AdminClient

    return AdminClient({"bootstrap.servers": address("kafka")[8:]})


@pytest.fixture
def topic(admin, prefix):
    """Create a topic that takes so many bytes."""
    from confluent_kafka.admin import NewTopic

    async def create(limit, name=TOPIC):
        whole = prefix + name
        made = NewTopic(whole, 1, config={"max.message.bytes": str(limit)})
        admin.create_topics([made])[whole].result(30)
        await until(lambda: admin.list_topics(whole, 10).topics[whole].error is None)

    return create


@pytest.fixture
async def opening(prefix):
    opened = []

    def make(native=None):
        opened.append(broker_of(f"{address('kafka')}?prefix={prefix}", native))
        return opened[-1]

    yield make
    for broker in opened:
        await broker.close()


def change(admin, name, limit):
    from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

    entry = ConfigEntry(
        "max.message.bytes", str(limit), incremental_operation=AlterConfigOpType.SET
    )
    resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry])
    admin.incremental_alter_configs([resource])[resource].result(30)


def record(size, key="k", topic=TOPIC):
    rest = sum(len(name) + len(value) for name, value in HEADERS.items())
    return Record(topic, key, HEADERS, secrets.token_bytes(size - rest))


async def holds(broker, topic, events):
    try:
        return (await broker.lag("g", [topic])).events == events
    except BrokerUnavailable:  # a server that has just started looks for the group's coordinator
        return False


@pytest.mark.parametrize("key", ["k", "ü" * 300, None])
async def test_what_a_topic_takes_is_taken_and_a_byte_more_is_refused_with_both_sizes(
    topic, opening, key
):
    await topic(LIMIT)
    broker = opening()
    with pytest.raises(RecordTooLarge) as refused:
        await broker.publish([record(100, key), record(50_000, key)])
    most = int(str(refused.value).split("takes ")[1].split(".")[0])
    assert f"{TOPIC} has 50000 bytes, and the broker takes {most}" in str(refused.value)
    with pytest.raises(RecordTooLarge, match=f"has {most + 1} bytes"):
        await broker.publish([record(most + 1, key)])
    await broker.publish([record(most, key)])
    assert LIMIT - 1_000 < most < LIMIT
    await until(lambda: holds(broker, TOPIC, 1))


async def test_many_small_records_are_sent_in_batches_that_the_topic_takes(topic, opening):
    await topic(LIMIT)
    await topic(1_000_000, "test.large")
    broker = opening()
    small = [record(500, f"k{number}") for number in range(300)]
    large = record(200_000, "k", "test.large")
    await broker.publish([*small[:150], large, *small[150:]])
    await until(lambda: holds(broker, TOPIC, 300))
    await until(lambda: holds(broker, "test.large", 1))


async def test_a_limit_that_is_raised_or_lowered_is_noticed(
    topic, admin, prefix, opening, monkeypatch
):
    await topic(LIMIT)
    broker = opening()
    with pytest.raises(RecordTooLarge):
        await broker.publish([record(20_000)])
    monkeypatch.setattr(kafka_limits, "_FRESH", 0.0)
    change(admin, prefix + TOPIC, 30_000)  # which takes a moment to be everywhere, as the next does
    await until(lambda: refusal(broker, record(20_000), None))
    change(admin, prefix + TOPIC, LIMIT)
    await until(lambda: refusal(broker, record(20_000), "larger than the topic takes"))
    await until(lambda: refusal(broker, record(20_000), "has 20000 bytes, and the broker takes 9"))


async def refusal(broker, one, says):
    """Publish, and tell whether it was refused so; None: it was not."""
    try:
        await broker.publish([one])
    except BrokerError as error:
        return says is not None and says in str(error)
    return says is None


async def test_what_is_partly_taken_and_then_refused_is_not_certain(topic, opening, monkeypatch):
    await topic(LIMIT)
    await topic(1_000_000, "test.large")
    broker = opening()
    await broker.learn([TOPIC, "test.large"])
    monkeypatch.setattr(broker._limits, "over", lambda records: None)
    with pytest.raises(Unknown, match="larger than the topic takes"):
        await broker.publish([record(500, "k", "test.large"), record(20_000)])


async def test_where_records_are_compressed_the_broker_has_the_last_word(topic, opening):
    await topic(LIMIT)
    broker = opening({"compression.type": "gzip"})
    await broker.publish([Record(TOPIC, "k", {}, b"x" * 50_000)])
    with pytest.raises(BrokerError, match="larger than the topic takes"):
        await broker.publish([record(50_000)])
    assert broker.room(TOPIC, "k") is None


def named(number, size=500, key="k"):
    """Return a record that its first bytes tell from others."""
    return Record(TOPIC, key, {}, b"%02d" % number + secrets.token_bytes(size))


async def numbers(broker):
    """Return what the topic has, by the first bytes, in order."""
    found = await broker.search(b"", [TOPIC], 10_000)
    return [int(one.value[:2]) for one in found]


BLIND = {"compression.type": "gzip", "batch.size": 2_000}
"""Where records are compressed, what is too large only Kafka knows."""


@pytest.mark.parametrize("at", [0, 12])
async def test_nothing_overtakes_what_kafka_refuses_for_its_size(topic, opening, at):
    await topic(LIMIT)
    broker = opening(BLIND)
    batch = [named(number, 50_000 if number == at else 500) for number in range(60)]
    for _ in range(2):  # also by a producer that is connected already
        with pytest.raises((Unknown, RecordTooLarge), match="larger than the topic takes"):
            await broker.publish(batch)
        for one in batch:
            broker._limits.accept(one)
    found = await numbers(broker)
    assert set(found) == set(range(at))
    first = list(dict.fromkeys(found))
    assert first == sorted(first)


async def test_what_kafka_has_refused_is_refused_before_others_are_sent_with_it_again(
    topic, opening
):
    await topic(LIMIT)
    broker = opening(BLIND)
    large = named(5, 50_000, "k5")
    others = [named(number, 500, f"k{number}") for number in range(20) if number != 5]
    with pytest.raises(Unknown, match="larger than the topic takes"):
        await broker.publish([*others[:5], large, *others[5:]])
    found = await numbers(broker)
    assert sorted(found) == [one for one in range(20) if one != 5], "all the others, once"
    for attempt in ([*others, large], [large, others[0]], [large]):
        with pytest.raises(RecordTooLarge, match="larger than the topic takes"):
            await broker.publish(attempt)
    assert await numbers(broker) == found
    await broker.publish(others)
    assert len(await numbers(broker)) == 2 * len(found)


async def test_what_kafka_has_refused_is_taken_once_there_is_room(topic, admin, prefix, opening):
    await topic(LIMIT)
    broker = opening(BLIND)
    large, other = named(0, 50_000), named(1)
    with pytest.raises(RecordTooLarge):
        await broker.publish([large, other])
    change(admin, prefix + TOPIC, 100_000)
    await until(lambda: refusal(broker, large, None))
    await broker.publish([large, other])
    assert (await numbers(broker))[-2:] == [0, 1]


def test_how_much_that_was_refused_is_remembered_and_for_how_long(monkeypatch):
    monkeypatch.setattr(kafka_limits, "_REFUSED_MOST", 2)
    limits = kafka_limits.Limits(KafkaSettings({}))
    some = [named(number) for number in range(3)]
    for one in some:
        limits.refuse(one)
    assert [limits.suspect([one]) is not None for one in some] == [False, True, True]
    limits.accept(some[2])
    assert limits.suspect(some[2:]) is None
    monkeypatch.setattr(kafka_limits, "_REFUSED", -1.0)
    limits.refuse(some[1])
    assert limits.suspect(some) is None


@pytest.mark.parametrize("text", ["x", "ü", "語", "🚂"])
@pytest.mark.parametrize("count", [0, 1, 9])
def test_what_certainly_fits_is_over_no_topics_limit(text, count):
    limits = kafka_limits.Limits(KafkaSettings({}))
    headers = {f"{text}{number}": text * 20 for number in range(count)}
    one = Record(TOPIC, text * 7, headers, b"x" * 500)
    most = check_size([one], 10**6)
    assert limits.fits([TOPIC], most), "nothing is known of the topic"
    for limit in range(most + 200):
        limits._topics[TOPIC] = limit
        assert limits.over([one]) is None or not limits.fits([TOPIC], most)
    assert limits.fits([TOPIC], most)
    limits._topics["test.small"] = 10
    assert not limits.fits([TOPIC, "test.small"], most)
    assert kafka_limits.Limits(KafkaSettings({"compression.type": "gzip"})).fits([TOPIC], most)


async def test_to_find_what_kafka_refuses_takes_no_longer_than_a_publish_may(topic, opening):
    await topic(LIMIT)
    broker = opening(BLIND)
    broker._within = -1.0
    with pytest.raises(Unknown, match="did not confirm within"):
        await broker._one_by_one([named(0)], [])


async def test_the_driver_refuses_what_is_over_its_own_limit_and_the_others_are_sent(
    topic, opening
):
    await topic(1_000_000)
    broker = opening({"message.max.bytes": 20_000, "batch.size": 10_000})
    batch = [named(number, 50_000 if number == 7 else 500, f"k{number}") for number in range(20)]
    with pytest.raises((Unknown, RecordTooLarge), match="larger than the topic takes"):
        await broker.publish(batch)
    assert set(await numbers(broker)) == set(range(20)) - {7}
    with pytest.raises(RecordTooLarge):
        await broker.publish(batch)


async def test_who_may_not_ask_sends_smaller_batches_once_kafka_has_refused_one(
    topic, opening, monkeypatch
):
    await topic(LIMIT)
    broker = opening()
    asked = broker._limits._asked_at
    monkeypatch.setattr(
        broker._limits, "ask", lambda _, topics: asked.update(dict.fromkeys(topics, 0.0))
    )
    batch = [named(number) for number in range(90)]
    for _ in range(3):
        await broker.publish(batch)
    found = await numbers(broker)
    assert list(dict.fromkeys(found)) == list(range(90))
    (sending,) = broker._limits.parted(batch)
    assert sending.batch <= LIMIT
    await broker.publish(batch)
    assert (await numbers(broker))[-90:] == list(range(90))


async def test_in_an_outbox_only_the_key_waits_and_the_others_are_not_repeated_without_end(
    topic, opening, tmp_path, monkeypatch
):
    await topic(LIMIT)
    broker, database, box = opening(BLIND), Sqlite(tmp_path / "service.db"), Outbox("pictures")
    await box.migrate(database)
    async with database.transaction() as tx:
        for number in range(40):
            pixels = secrets.token_hex(20_000 if number == 13 else 100)
            await box.publish(tx, Picture(name=f"p{number % 4}", pixels=pixels))
    monkeypatch.setattr(refused, "_AGAIN", 0.05)
    published = []
    publish = broker.publish

    async def counting(records):
        published.append(len(records))
        await publish(records)

    monkeypatch.setattr(broker, "publish", counting)
    relay = Relay(database, broker)
    await relay.start()
    try:
        await until(lambda: left(relay, 7))
        await until(lambda: relay.error and "In the outbox the key p1 waits" in relay.error)
        there = len(await broker.search(b"", [TOPIC], 10_000))
        tried = len(published)
        await until(lambda: len(published) > tried + 20)
        assert len(await broker.search(b"", [TOPIC], 10_000)) == there
    finally:
        await relay.stop()
        await database.close()


async def left(relay, events):
    return (await relay.backlog()).events == events


async def test_an_event_is_refused_where_it_is_published(topic, opening, tmp_path):
    await topic(LIMIT)
    database = Sqlite(tmp_path / "service.db")
    bus = Bus(opening(), database, "pictures", publishes=[Picture])
    await bus.start()
    try:
        with pytest.raises(RecordTooLarge, match=r"test\.pictures has \d+ .* takes 9\d\d\d\."):
            bus.prepare(Picture(name="a", pixels="x" * LIMIT))
        bus.prepare(Picture(name="a", pixels="x" * (LIMIT - 1_000)))
    finally:
        await bus.stop()
        await database.close()


async def test_a_topic_that_is_published_and_not_there_is_refused_at_the_start(opening, tmp_path):
    database = Sqlite(tmp_path / "service.db")
    bus = Bus(opening(), database, "orders", publishes=[OrderPlaced])
    try:
        with pytest.raises(BrokerError, match=r"no topic .*test\.orders"):
            await bus.start()
    finally:
        await bus.stop()
        await database.close()
