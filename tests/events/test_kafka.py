"""What only Kafka has: its topics, its protocols, its names on the wire."""

import asyncio
import logging
import secrets
import threading

import pytest

from switchgear.errors import BrokerError
from switchgear.events.brokers.kafka import KafkaBroker
from switchgear.events.brokers.kafka_client import LOGGER, KafkaSettings
from switchgear.events.brokers.kafka_group import KafkaSubscription
from switchgear.events.brokers.port import (
    BrokerUnavailable,
    Partition,
    Record,
    TopicRefused,
    UnsupportedBroker,
)
from switchgear.events.brokers.url import broker_of
from tests.events.world import until
from tests.servers import address, own

TOPIC = "test.orders"


@pytest.fixture
def url():
    return f"{address('kafka')}?prefix=t{secrets.token_hex(6)}."


def test_of_an_outage_the_log_has_one_line_a_minute(monkeypatch):
    def passes(message):
        made = logging.LogRecord("switchgear.kafka", logging.ERROR, "", 0, message, None, None)
        return bool(LOGGER.filter(made))

    refused = "FAIL [a#{}] [thrd:h:1/bootstrap]: h:1/bootstrap: Connection refused (after {}ms in)"
    assert passes(refused.format("producer-1", 0))
    assert not passes(refused.format("producer-1", 1))
    assert not passes(refused.format("producer-2", 0))
    assert passes("FAIL [a#producer-1] [thrd:h:1/bootstrap]: h:1/bootstrap: Disconnected")
    monkeypatch.setattr("switchgear.events.brokers.kafka_client._SAID_AGAIN", 0.0)
    assert passes(refused.format("producer-1", 2))


async def test_several_questions_wait_once_for_a_cluster_that_is_away(opening, monkeypatch):
    monkeypatch.setattr("switchgear.events.brokers.kafka._ANSWER", 0.2)
    monkeypatch.setattr("switchgear.events.brokers.kafka._AWAY", 600.0)
    broker, asked = opening("kafka://127.0.0.1:1"), []
    look = broker._look_at
    broker._look_at = lambda topic: (asked.append(topic), look(topic))
    for group in "abc":
        with pytest.raises(BrokerUnavailable):
            await broker.subscribe(group, [TOPIC])
    assert asked == [TOPIC]
    broker._away_until = 0.0
    with pytest.raises(BrokerUnavailable):
        await broker.subscribe("d", [TOPIC])
    assert asked == [TOPIC] * 2


async def test_an_unknown_topic_is_refused_and_says_how_it_is_created(url, opening):
    broker = opening(url)
    for attempt in (
        broker.subscribe("g", [TOPIC]),
        broker.publish([Record(TOPIC, "k", {}, b"x")]),
        broker.lag("g", [TOPIC]),
    ):
        with pytest.raises(BrokerError, match=r"no topic t.*\.test\.orders.*`partitions`"):
            await attempt


async def test_a_name_that_no_topic_can_have_is_refused(url, opening):
    with pytest.raises(TopicRefused, match="Rename the topic") as refused:
        await opening(url).publish([Record("a b", "k", {}, b"x")])
    assert refused.value.topic == "a b"


async def test_another_number_of_partitions_is_refused(url, opening):
    await opening(f"{url}&partitions=3").publish([Record(TOPIC, "k", {}, b"x")])
    with pytest.raises(BrokerError, match="has 3 partitions, and 4 were asked for"):
        await opening(f"{url}&partitions=4").subscribe("g", [TOPIC])
    await opening(url).publish([Record(TOPIC, "k", {}, b"x")])


async def test_headers_on_the_wire_are_those_of_cloudevents_for_kafka(url, opening):
    import confluent_kafka

    broker = opening(f"{url}&partitions=1")
    await broker.publish([Record(TOPIC, "k", {"ce-id": "1", "content-type": "text/x"}, b"x")])
    servers = address("kafka").removeprefix("kafka://")
    raw = confluent_kafka.Consumer({"bootstrap.servers": servers, "group.id": "raw"})
    prefix = url.partition("prefix=")[2]
    raw.assign([confluent_kafka.TopicPartition(prefix + TOPIC, 0, 0)])
    message = None
    while message is None or message.error():
        message = raw.poll(10)
    raw.close()
    assert dict(message.headers()) == {"ce_id": b"1", "content-type": b"text/x"}


async def test_what_others_wrote_is_read_whatever_bytes_it_has(url, opening):
    import confluent_kafka

    broker = opening(f"{url}&partitions=1")
    await broker.publish([Record(TOPIC, "k", {}, b"ours")])
    raw = confluent_kafka.Producer({"bootstrap.servers": address("kafka")[8:]})
    name = url.partition("prefix=")[2] + TOPIC
    raw.produce(name, None, b"\xff", headers=[("a", b"\xfe"), ("b", None)])
    raw.flush()
    subscription = await broker.subscribe("g", [TOPIC])
    found = []
    while len(found) < 2:
        found += (await subscription.poll(10, 5.0)).deliveries
    assert (found[1].key, found[1].value) == ("\\xff", b"")
    assert found[1].headers == {"a": "\\xfe", "b": ""}


async def test_what_is_read_ahead_is_bounded_and_reading_goes_on_after_a_pause(url, opening):
    broker = opening(f"{url}&partitions=2")
    await broker.publish([Record(TOPIC, f"k{n % 50}", {}, b"%d" % n) for n in range(8_000)])
    subscription = await broker.subscribe("g", [TOPIC])
    found = []
    while not found:
        found += (await subscription.poll(1, 5.0)).deliveries
    held = threading.Event()
    pausing = subscription._bound

    def bound(consumer):
        full = pausing(consumer)
        if subscription._held:
            held.set()
        return full

    subscription._bound = bound
    assert held.wait(60), "also while the loop is busy, as it is here"
    await until(lambda: subscription._got == subscription._sent)
    assert 1_000 <= subscription._ahead < 4_000
    while len(found) < 8_000:
        found += (await subscription.poll(500, 5.0)).deliveries
    await until(lambda: not subscription._held)
    for key in {one.key for one in found}:
        numbers = [int(one.value) for one in found if one.key == key]
        assert numbers == sorted(set(numbers))


async def test_the_classic_protocol_works_too(url, opening):
    broker = opening(f"{url}&partitions=2&protocol=classic")
    await broker.publish([Record(TOPIC, "k", {}, b"x")])
    subscription = await broker.subscribe("g", [TOPIC])
    async with asyncio.timeout(60):
        while not (polled := await subscription.poll(10, 1.0)).deliveries:
            pass
    (found,) = polled.deliveries
    await subscription.commit({found.partition: found.offset + 1})
    assert (await broker.lag("g", [TOPIC])).events == 0


async def test_a_broker_without_the_new_protocol_gets_the_classic_one(opening):
    from services.servers import Kafka

    class Older(Kafka):
        more = {"group.coordinator.rebalance.protocols": "classic"}  # noqa: RUF012

    with own("kafka", Older) as server:
        broker = opening(f"{server.url}?partitions=2")
        await broker.publish([Record(TOPIC, "k", {}, b"x")])
        subscription = await broker.subscribe("g", [TOPIC])
        async with asyncio.timeout(60):
            while not (await subscription.poll(10, 1.0)).deliveries:
                pass
        await broker.close()


async def test_a_publish_that_is_not_confirmed_is_unknown_and_the_next_one_works(url, opening):
    from switchgear.model.outcome import Unknown

    broker = opening(f"{url}&partitions=1")
    await broker.publish([Record(TOPIC, "k", {}, b"1")])
    (publisher,) = broker._publishers.values()
    publisher._within = 0.0
    with pytest.raises(Unknown, match="did not confirm within"):
        await broker.publish([Record(TOPIC, "k", {}, b"2")])
    publisher._within = 60.0
    await broker.publish([Record(TOPIC, "k", {}, b"3")])


async def test_a_producer_that_fails_for_good_is_replaced_and_its_successor_is_served(
    url, opening, monkeypatch
):
    import confluent_kafka

    broken = set()

    def fail(where):
        if where not in broken:
            broken.add(where)
            code = confluent_kafka.KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER
            raise confluent_kafka.KafkaException(confluent_kafka.KafkaError(code, fatal=True))

    class Fatal(confluent_kafka.Producer):
        def poll(self, timeout=-1):
            fail("poll")
            return super().poll(timeout)

        def produce(self, *args, **more):
            fail("produce")
            super().produce(*args, **more)

        def flush(self, timeout=-1):
            fail("flush")
            return super().flush(timeout)

    monkeypatch.setattr(confluent_kafka, "Producer", Fatal)
    broker = opening(f"{url}&partitions=1")
    with pytest.raises(BrokerUnavailable, match="OUT_OF_ORDER"):
        await broker.publish([Record(TOPIC, "k", {}, b"1")])
    await broker.publish([Record(TOPIC, "k", {}, b"1")])
    await broker.publish([Record(TOPIC, "k", {}, b"2")])
    assert broken == {"poll", "produce", "flush"}
    broken.discard("flush")
    await broker.close()
    assert "flush" in broken


async def test_a_partition_that_was_assigned_during_a_pause_is_read_after_it():
    from confluent_kafka import TopicPartition

    class Held:
        """What a consumer knows of pauses."""

        def __init__(self):
            self.ours, self.paused = [], set()

        def committed(self, partitions, timeout):
            return partitions

        def incremental_assign(self, partitions):
            self.ours += partitions

        def assignment(self):
            return self.ours

        def pause(self, partitions):
            self.paused |= {one.partition for one in partitions}

        def resume(self, partitions):
            self.paused -= {one.partition for one in partitions}

    subscription = KafkaSubscription(
        KafkaSettings({}), "g", [TOPIC], lease=5.0, closed=lambda _: None
    )
    consumer = Held()
    subscription._on_assign(consumer, [TopicPartition(TOPIC, 0, 0), TopicPartition(TOPIC, 1, 0)])
    await asyncio.sleep(0)
    subscription.pause([Partition(TOPIC, 1)])
    subscription._held, subscription._full_since = True, 0.0
    subscription._on_assign(consumer, [TopicPartition(TOPIC, 2, 0)])
    consumer.pause(consumer.ours)
    assert not subscription._bound(consumer), "before the loop has taken note of the third"
    assert consumer.paused == {1}, "what the handlers have paused stays so"


@pytest.mark.parametrize("fatal", [False, True])
async def test_what_goes_wrong_while_the_oldest_is_looked_at_is_an_error_of_the_broker(
    url, opening, fatal
):
    from confluent_kafka import KafkaError, KafkaException

    class Broken:
        closed = unassigned = False

        def __init__(self, real):
            self.real = real
            self.committed, self.assign, self.close = real.committed, real.assign, self.closing

        def poll(self, _):
            raise KafkaException(KafkaError(KafkaError._FAIL, "broken", fatal=fatal))

        def unassign(self):
            self.unassigned = True
            self.real.unassign()

        def closing(self):
            self.closed = True
            self.real.close()

    broker = opening(f"{url}&partitions=1")
    await broker.publish([Record(TOPIC, "k", {}, b"x")])
    await until(lambda: is_behind(broker))
    onlooker = broker._onlookers["g"] = Broken(broker._onlookers["g"])
    with pytest.raises(BrokerUnavailable, match="broken"):
        await broker.lag("g", [TOPIC])
    assert onlooker.unassigned
    assert onlooker.closed == fatal
    assert (broker._onlookers.get("g") is None) == fatal
    if fatal:
        await until(lambda: is_behind(broker))


async def is_behind(broker):
    try:
        return (await broker.lag("g", [TOPIC])).events == 1
    except BrokerUnavailable:  # a server that has just started looks for the group's coordinator
        return False


async def test_nobody_there_is_unavailable(opening, monkeypatch):
    from services.ports import free_port

    monkeypatch.setattr("switchgear.events.brokers.kafka._ANSWER", 0.5)
    broker = opening(f"kafka://127.0.0.1:{free_port()}")
    with pytest.raises(BrokerUnavailable):
        await broker.lag("g", [])


def test_the_url_says_how_to_connect_and_the_password_is_not_shown():
    broker = broker_of(
        "kafkas://me:s%40fe@a,b:9093/?sasl=SCRAM-SHA-512&ca=/ca.pem&prefix=x.&protocol=classic",
        {"socket.keepalive.enable": True},
    )
    assert isinstance(broker, KafkaBroker)
    assert broker._settings == KafkaSettings(
        {
            "bootstrap.servers": "a:9092,b:9093",
            "client.id": "switchgear",
            "sasl.username": "me",
            "sasl.password": "s@fe",
            "sasl.mechanism": "SCRAM-SHA-512",
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": "/ca.pem",
            "socket.keepalive.enable": True,
        },
        "x.",
        "classic",
    )
    assert "s@fe" not in repr(broker._settings)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("kafka://me:secret@host", "does not say how it proves"),
        ("kafka://", "names no server"),
        ("kafka://host?partition=3", "unknown option partition"),
        ("kafka://host?protocol=old", "one of consumer, classic"),
    ],
)
def test_a_url_that_cannot_be_meant_is_refused(url, says):
    with pytest.raises(UnsupportedBroker, match=says) as caught:
        broker_of(url)
    assert "secret" not in str(caught.value)


async def test_the_inbox_outlives_the_topics_and_a_shorter_one_is_refused(url, opening, tmp_path):
    from datetime import timedelta

    from confluent_kafka.admin import AdminClient, NewTopic

    from switchgear.database.sqlite import Sqlite
    from switchgear.errors import EventDeclarationError
    from switchgear.events.bus import Bus
    from tests.events.world import OrderPlaced

    admin = AdminClient({"bootstrap.servers": address("kafka")[8:]})
    name = url.partition("prefix=")[2] + TOPIC
    days = {"retention.ms": str(30 * 86_400_000)}
    admin.create_topics([NewTopic(name, 1, config=days)])[name].result(60)
    await until(lambda: admin.list_topics(name, 60).topics[name].error is None)
    broker, database = opening(url), Sqlite(tmp_path / "k.db")
    assert await broker.retention([TOPIC]) == 30 * 86_400

    async def react(event): ...

    for keep, fits in ((None, True), (timedelta(days=29), False)):
        bus = Bus(broker, database, "orders", keep=keep)
        bus.on(OrderPlaced, name="x", on_failure="skip", handler=react)
        if fits:
            await bus.start()
            assert bus._keep > 30 * 86_400
        else:
            with pytest.raises(EventDeclarationError, match="30 days"):
                await bus.start()
        await bus.stop()
    await database.close()
