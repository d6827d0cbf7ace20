"""Topics that are missing, gone or forbidden on real brokers: the outbox's other topics flow."""

import asyncio
import json
from contextlib import asynccontextmanager

import msgspec
import pytest

from switchgear.errors import BrokerError
from switchgear.events import refused
from switchgear.events.brokers.port import BrokerUnavailable, Record, TopicRefused
from switchgear.events.brokers.url import broker_of
from switchgear.events.outbox import Outbox
from switchgear.events.relay import Relay
from switchgear.model.outcome import Unknown
from tests.events.world import OrderPlaced, Picture, until
from tests.servers import address, own

PICTURES, ORDERS = "test.pictures", "test.orders"
PROBE = b"x"


@pytest.fixture
async def box(database, monkeypatch):
    """An outbox; what is refused is tried again soon."""
    monkeypatch.setattr(refused, "_TOPIC_AGAIN", 0.2)
    monkeypatch.setattr(refused, "_TOPIC_MOST", 0.2)
    made = Outbox("orders")
    await made.migrate(database)

    async def write(*numbers):
        async with database.transaction() as tx:
            for number in numbers:
                key = f"k{number % 3}"
                await made.publish(tx, Picture(name=key, pixels=str(number)))
                await made.publish(tx, OrderPlaced(order_id=key, number=number))

    return write


@asynccontextmanager
async def relaying(database, broker):
    relay = Relay(database, broker)
    await relay.start()
    try:
        yield relay
    finally:
        await relay.stop()


async def left(relay, events):
    return (await relay.backlog()).events == events


async def told(relay, text):
    """Wait until the relay says so: before, it may say what led to it, and meanwhile nothing."""
    await until(lambda: text in (relay.error or ""))


async def seen(broker, topic, name):
    """Return the numbers that a topic has, by key, each as it first came."""
    found = {}
    for one in await broker.search(b"", [topic], 10_000):
        if one.value == PROBE:
            continue
        number = int(msgspec.json.decode(one.value)[name])
        if number not in found.setdefault(one.key, []):
            found[one.key].append(number)
    return found


def in_order(count):
    return {f"k{key}": list(range(key, count, 3)) for key in range(3)}


# Kafka


class Kafka:
    """A server of Kafka without us in between."""

    def __init__(self, url, prefix=""):
        from confluent_kafka.admin import AdminClient

        self.prefix = prefix
        self.admin = AdminClient({"bootstrap.servers": url.removeprefix("kafka://")})

    async def create(self, topic):
        from confluent_kafka.admin import NewTopic

        name = self.prefix + topic
        self.admin.create_topics([NewTopic(name, 2)])[name].result(30)
        await until(lambda: self.admin.list_topics(name, 10).topics[name].error is None)

    async def delete(self, topic):
        name = self.prefix + topic
        self.admin.delete_topics([name])[name].result(30)
        await until(lambda: self.admin.list_topics(name, 10).topics[name].error is not None)

    def denying(self, topic, operation):
        from confluent_kafka.admin import (
            AclBinding,
            AclOperation,
            AclPermissionType,
            ResourcePatternType,
            ResourceType,
        )

        return AclBinding(
            ResourceType.TOPIC,
            self.prefix + topic,
            ResourcePatternType.LITERAL,
            "User:ANONYMOUS",
            "*",
            AclOperation[operation],
            AclPermissionType.DENY,
        )

    def deny(self, topic, operation):
        for one in self.admin.create_acls([self.denying(topic, operation)]).values():
            one.result(30)

    def allow(self, topic, operation):
        from confluent_kafka.admin import AclBindingFilter

        own = self.denying(topic, operation)
        some = AclBindingFilter(
            own.restype,
            own.name,
            own.resource_pattern_type,
            own.principal,
            own.host,
            own.operation,
            own.permission_type,
        )
        for one in self.admin.delete_acls([some]).values():
            one.result(30)


async def test_kafka_a_topic_that_is_missing_waits_until_it_is_made(database, box, prefix, opening):
    kafka = Kafka(address("kafka"), prefix)
    await kafka.create(ORDERS)
    broker = opening(f"{address('kafka')}?prefix={prefix}")
    async with relaying(database, broker) as relay:
        await box(*range(30))
        await until(lambda: left(relay, 30))
        await box(*range(30, 60))
        await until(lambda: left(relay, 60))
        await told(relay, f"Kafka has no topic {prefix}{PICTURES}")
        await told(relay, f"all of {PICTURES} waits")
        assert await seen(broker, ORDERS, "number") == in_order(60)
        await kafka.create(PICTURES)
        await until(lambda: left(relay, 0))
    assert await seen(broker, PICTURES, "pixels") == in_order(60)


async def test_kafka_a_topic_that_was_deleted_holds_up_the_others_for_one_publish(
    database, box, prefix, opening
):
    kafka = Kafka(address("kafka"), prefix)
    broker = opening(f"{address('kafka')}?prefix={prefix}&partitions=2")
    broker._within = 2.0
    async with relaying(database, broker) as relay:
        await box(*range(6))
        await until(lambda: left(relay, 0))
        await kafka.delete(PICTURES)
        await box(*range(6, 12))
        await until(lambda: left(relay, 6))
        await told(relay, f"Kafka has no topic {prefix}{PICTURES}. Create it again")
        assert await seen(broker, ORDERS, "number") == in_order(12)
        await kafka.create(PICTURES)
        await until(lambda: left(relay, 0))
    found = await seen(broker, PICTURES, "pixels")
    assert found == {f"k{key}": [6 + key, 9 + key] for key in range(3)}


@pytest.fixture(scope="module")
def guarded():
    """A Kafka that looks up who may do what; without a rule everybody may."""
    from services.servers import Kafka as Server

    class Guarded(Server):
        more = {  # noqa: RUF012
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found": "true",
        }

    with own("kafka", Guarded) as server:
        yield server


@pytest.mark.parametrize("native", [{}, {"compression.type": "gzip"}])
@pytest.mark.parametrize("operation", ["WRITE", "DESCRIBE"])
async def test_kafka_a_topic_that_may_not_be_written_waits_until_it_may(
    guarded, database, box, prefix, opening, operation, native
):
    kafka = Kafka(guarded.url, prefix)
    await kafka.create(PICTURES)
    await kafka.create(ORDERS)
    kafka.deny(PICTURES, operation)
    broker = opening(f"{guarded.url}?prefix={prefix}", native)
    picture = Record(PICTURES, "k", {}, PROBE)

    async def forbidden():  # which takes a moment to be known
        try:
            await broker.publish([picture])
        except TopicRefused as error:
            return error.topic == PICTURES and "ACL" in str(error)
        except (Unknown, BrokerUnavailable):
            pass
        return False

    await until(forbidden)
    async with relaying(database, broker) as relay:
        await box(*range(30))
        await until(lambda: left(relay, 30))
        await box(*range(30, 60))
        await until(lambda: left(relay, 60))
        await told(relay, "[SG606] Kafka refuses test.pictures")
        assert await seen(broker, ORDERS, "number") == in_order(60)
        kafka.allow(PICTURES, operation)
        await until(lambda: left(relay, 0))
    assert await seen(broker, PICTURES, "pixels") == in_order(60)


# NATS


async def test_nats_a_topic_that_may_not_be_published_waits(database, box, opening):
    from services.servers import Nats

    user = '{ user: a, password: b, permissions: { publish: { deny: "test.pictures.>" } } }'
    more = {"more": f"authorization {{ users: [ {user} ] }}"}
    with own("nats", type("Guarded", (Nats,), more)) as server:
        broker = broker_of(f"{server.url.replace('//', '//a:b@')}?partitions=2")
        try:
            async with relaying(database, broker) as relay:
                await box(*range(30))
                await until(lambda: left(relay, 30))
                await told(relay, "may not publish to test.pictures")
                await told(relay, f"all of {PICTURES} waits")
            assert await seen(broker, ORDERS, "number") == in_order(30)
        finally:
            await broker.close()


async def test_nats_a_stream_that_was_deleted_holds_up_the_others_for_one_publish(
    database, box, prefix, opening
):
    import nats

    broker = opening(f"{address('nats')}?prefix={prefix}&partitions=2")
    broker._publisher._within = 0.5
    raw = await nats.connect(address("nats"))
    try:
        async with relaying(database, broker) as relay:
            await box(*range(6))
            await until(lambda: left(relay, 0))
            name = await raw.jetstream().find_stream_name_by_subject(f"{prefix}{PICTURES}.0")
            config = (await raw.jetstream().stream_info(name)).config
            await raw.jetstream().delete_stream(name)
            await box(*range(6, 12))
            await until(lambda: left(relay, 6))
            await told(relay, f"the stream for {prefix}{PICTURES} is gone")
            assert await seen(broker, ORDERS, "number") == in_order(12)
            made = {
                "name": name,
                "subjects": config.subjects,
                "allow_direct": True,
                "allow_atomic": True,
            }
            await raw.request(f"$JS.API.STREAM.CREATE.{name}", json.dumps(made).encode(), 30)
            await until(lambda: left(relay, 0))
        found = await seen(broker, PICTURES, "pixels")
        assert found == {f"k{key}": [6 + key, 9 + key] for key in range(3)}
    finally:
        await raw.close()


# RabbitMQ


async def test_rabbitmq_an_exchange_of_another_kind_holds_back_its_topic(
    database, box, prefix, opening
):
    import aiormq

    groups = f"g@{PICTURES},g@{ORDERS}"
    async with aiormq.connect(address("rabbitmq")) as connection:
        channel = await connection.channel()
        await channel.exchange_declare(prefix + PICTURES, exchange_type="topic", durable=True)
        broker = opening(f"{address('rabbitmq')}?prefix={prefix}&partitions=1&groups={groups}")
        async with relaying(database, broker) as relay:
            await box(*range(30))
            await until(lambda: left(relay, 30))
            await told(relay, "RabbitMQ has it in another way")
            await told(relay, f"all of {PICTURES} waits")
            await channel.exchange_delete(prefix + PICTURES)
            await until(lambda: left(relay, 0))
    member = await broker.subscribe("g", [PICTURES, ORDERS])
    found = {PICTURES: [], ORDERS: []}
    async with asyncio.timeout(60):
        while sum(map(len, found.values())) < 60:
            for one in (await member.poll(100, 1.0)).deliveries:
                value = msgspec.json.decode(one.value)
                number = int(value.get("pixels", value.get("number")))
                if number not in found[one.partition.topic]:
                    found[one.partition.topic].append(number)
    assert found == {PICTURES: list(range(30)), ORDERS: list(range(30))}


# what is told of it


def test_a_refusal_becomes_one_of_its_topic_and_keeps_what_to_do():
    error = TopicRefused.of("t", BrokerError("it is not there.", fix="Create it."))
    assert (error.topic, error.what, error.fix) == ("t", "it is not there.", "Create it.")
    assert str(error) == "[SG606] it is not there. Create it."
    assert TopicRefused.of("u", error) is error
