"""What topics of Kafka take: a record that is too large is refused before it is sent."""

import secrets

import pytest

from switchgear.database.sqlite import Sqlite
from switchgear.errors import BrokerError
from switchgear.events.brokers import kafka_limits
from switchgear.events.brokers.port import BrokerUnavailable, Record, RecordTooLarge
from switchgear.events.brokers.url import broker_of
from switchgear.events.bus import Bus
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
    await until(lambda: refusal(broker, record(20_000), "has 20000 bytes"))


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
