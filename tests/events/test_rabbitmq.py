"""What only RabbitMQ has: queues and promises, its names on the wire, its refusals."""

import asyncio
import contextlib
import secrets
import subprocess
import sys

import pytest

from switchgear.errors import BrokerError
from switchgear.events.brokers.port import (
    BrokerUnavailable,
    Partition,
    Record,
    RecordTooLarge,
    TopicRefused,
    UnsupportedBroker,
)
from switchgear.events.brokers.rabbitmq import RabbitBroker
from switchgear.events.brokers.rabbitmq_client import RabbitSettings, delivery_of, properties_of
from switchgear.events.brokers.rabbitmq_group import RabbitMember, heartbeat
from switchgear.events.brokers.rabbitmq_owned import Owned
from switchgear.events.brokers.rabbitmq_publisher import RabbitPublisher, waves
from switchgear.events.brokers.url import broker_of
from switchgear.model.outcome import Unknown
from tests.events.world import until
from tests.servers import address

TOPIC = "test.orders"


@pytest.fixture
def url(prefix):
    return f"{address('rabbitmq')}?prefix={prefix}"


@pytest.fixture
async def channel():
    """The driver's own, to look at and to break things."""
    import aiormq

    async with aiormq.connect(address("rabbitmq")) as connection:
        yield await connection.channel()


def record(number=0, key="k", **headers):
    return Record(TOPIC, key, headers, b"%d" % number)


async def receive(subscription, count):
    found = []
    async with asyncio.timeout(60):
        while len(found) < count:
            found += (await subscription.poll(100, 1.0)).deliveries
    return found


def test_waves_have_one_of_a_partition_and_keep_the_order():
    places = [(record(number), number % 3 % 2) for number in range(7)]
    found = waves(places)
    assert [[int(one.value) for one, _ in wave] for wave in found] == [
        [0, 1],
        [2, 4],
        [3],
        [5],
        [6],
    ]
    for wave in found:
        numbers = [number for _, number in wave]
        assert len(numbers) == len(set(numbers))
    assert waves([]) == []


@pytest.mark.parametrize(("lease", "seconds"), [(0.5, 1), (1.0, 1), (5.0, 2), (30.0, 12)])
def test_a_silent_member_is_noticed_in_about_a_lease(lease, seconds):
    assert heartbeat(lease) == seconds


def test_headers_come_back_whoever_wrote_them():
    from types import SimpleNamespace

    from pamqp.commands import Basic

    headers = {"ce-id": "1", "content-type": "text/x", "other": "ö", "empty": ""}
    properties = properties_of("k", headers, 12.5)
    assert properties["content_type"] == "text/x"
    assert properties["headers"] == {
        "cloudEvents_id": "1",
        "other": "ö",
        "empty": "",
        "switchgear-key": "k",
        "timestamp_in_ms": 12_500,
    }
    long = {"content-type": "x" * 300}
    assert properties_of(None, long, 0.0)["headers"]["content-type"] == "x" * 300

    def read(properties):
        message = SimpleNamespace(header=SimpleNamespace(properties=properties), body=b"x")
        return delivery_of(Partition(TOPIC, 0), 7, message)

    found = read(Basic.Properties(**properties))
    assert (found.key, found.headers, found.published) == ("k", headers, 12.5)
    foreign = {"cloudEvents:id": "1", "a": b"\xfe", "b": 5, "c": None}
    found = read(Basic.Properties(headers=foreign))
    assert found.key is None
    assert found.headers == {"ce-id": "1", "a": "\\xfe", "b": "5", "c": ""}
    assert found.published == 0.0


async def test_headers_on_the_wire_are_those_of_cloudevents_for_amqp(url, prefix, opening, channel):
    broker = opening(f"{url}&partitions=1")
    await broker.declare("g", [TOPIC])
    queue = f"{prefix}g/{TOPIC}/0"
    arrived = asyncio.Queue()
    await channel.basic_consume(queue, arrived.put)
    await broker.publish([record(**{"ce-id": "1", "content-type": "text/x"})])
    async with asyncio.timeout(60):
        message = await arrived.get()
    found = message.header.properties
    assert found.content_type == "text/x"
    assert found.headers["cloudEvents_id"] == "1"
    assert (found.delivery_mode, message.routing_key) == (2, "0")


async def test_a_promised_group_gets_what_was_published_before_it_was_there(url, opening):
    broker = opening(f"{url}&partitions=2&groups=g@{TOPIC},h@{TOPIC},h@other")
    await broker.publish([record(1)])
    for group in "gh":
        (found,) = await receive(await broker.subscribe(group, [TOPIC]), 1)
        assert found.value == b"1"


async def test_what_nobody_hears_is_gone_and_that_is_said_once(url, opening, caplog):
    broker = opening(f"{url}&partitions=2")
    for _ in range(2):
        await broker.publish([record()])
    told = [one.getMessage() for one in caplog.records if one.name == "switchgear.rabbitmq"]
    assert told == [f"no group is declared for {TOPIC}: what is published to it is gone"]
    assert (await broker.lag("g", [TOPIC])).events == 0, "and asking declares nothing"
    subscription = await broker.subscribe("g", [TOPIC])
    await broker.publish([record(7)])
    assert [one.value for one in await receive(subscription, 1)] == [b"7"]


async def test_promised_queues_that_were_deleted_are_declared_again(url, prefix, opening, channel):
    broker = opening(f"{url}&partitions=1&groups=g@{TOPIC}")
    await broker.publish([record(1)])
    await channel.queue_delete(f"{prefix}g/{TOPIC}/0")
    with pytest.raises(Unknown, match="are gone"):
        await broker.publish([record(2)])
    await broker.publish([record(2)])
    found = await receive(await broker.subscribe("g", [TOPIC]), 1)
    assert [one.value for one in found] == [b"2"]


async def test_a_member_goes_on_after_its_queue_was_deleted(url, prefix, opening, channel):
    broker = opening(f"{url}&partitions=1")
    subscription = await broker.subscribe("g", [TOPIC])
    await broker.publish([record(1)])
    await receive(subscription, 1)
    await channel.queue_delete(f"{prefix}g/{TOPIC}/0")
    async with asyncio.timeout(60):
        polled = await subscription.poll(10, 5.0)
        while not polled.assigned:
            polled = await subscription.poll(10, 5.0)
    await broker.publish([record(2)])
    assert [one.value for one in await receive(subscription, 1)] == [b"2"]


async def test_a_look_at_the_oldest_turns_no_order_around(url, opening):
    """RabbitMQ puts what is given back behind what others gave back."""
    broker = opening(f"{url}&partitions=1&groups=g@{TOPIC}")
    await broker.publish([record(number) for number in range(700)])
    first = await broker.subscribe("g", [TOPIC])
    await receive(first, 300)
    await first.close()
    for _ in range(3):
        lag = await broker.lag("g", [TOPIC])
        assert lag.events == 700
        assert lag.oldest is not None
    second = await broker.subscribe("g", [TOPIC])
    found = []
    async with asyncio.timeout(60):
        while len(found) < 700:
            polled = await second.poll(500, 1.0)
            found += [int(one.value) for one in polled.deliveries]
            await second.commit({one.partition: one.offset + 1 for one in polled.deliveries})
    assert found == list(range(700))


async def test_the_lag_is_asked_of_owners_wherever_they_are(url, opening):
    here, there = opening(f"{url}&partitions=2"), opening(url)
    subscription = await here.subscribe("g", [TOPIC])
    await here.publish([record(number, key=f"k{number}") for number in range(20)])
    found = await receive(subscription, 20)
    lag = await there.lag("g", [TOPIC])
    assert lag.events == 20, "read, and not committed"
    assert lag.oldest is not None
    await subscription.commit({one.partition: one.offset + 1 for one in found})
    assert (await there.lag("g", [TOPIC])).events == 0


async def test_a_commit_that_is_cancelled_and_made_again_acknowledges_once(url, opening):
    """As when a consumer is stopped in the middle of one."""
    broker = opening(f"{url}&partitions=1&groups=g@{TOPIC}")
    await broker.publish([record(1), record(2)])
    subscription = await broker.subscribe("g", [TOPIC])
    last = (await receive(subscription, 2))[-1]
    position = {last.partition: last.offset + 1}
    channel = subscription._ledger._owned[0].channel
    answered, asked, may = channel.basic_qos, asyncio.Event(), asyncio.Event()

    async def slow(**given):
        asked.set()
        await may.wait()
        return await answered(**given)

    channel.basic_qos = slow
    first = asyncio.create_task(subscription.commit(position))
    await asked.wait()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    second = asyncio.create_task(subscription.commit(position))
    for _ in range(10):
        await asyncio.sleep(0)
    may.set()
    await second
    assert (await broker.lag("g", [TOPIC])).events == 0


async def test_an_owner_that_does_not_answer_is_no_lag_of_zero(
    url, prefix, opening, channel, monkeypatch
):
    monkeypatch.setattr("switchgear.events.brokers.rabbitmq._ASK", 0.05)
    monkeypatch.setattr("switchgear.events.brokers.rabbitmq._ASK_MOST", 0.2)
    broker = opening(f"{url}&partitions=1")
    await broker.declare("g", [TOPIC])
    await channel.exchange_declare(f"{prefix}g/members", exchange_type="direct", durable=True)
    await channel.basic_consume(f"{prefix}g/{TOPIC}/0", asyncio.Queue().put)
    with pytest.raises(BrokerUnavailable, match=rf"owner of {TOPIC}\[0\] does not tell"):
        await broker.lag("g", [TOPIC])


async def channels_end(broker):
    connection = await broker._link.connection()
    await until(lambda: not any(connection.channels.values()))


async def test_who_does_not_wait_for_a_silent_owner_leaves_nothing_behind(
    url, prefix, opening, channel, monkeypatch
):
    """As `/readyz` does, again and again."""
    from aiormq.exceptions import ChannelNotFoundEntity

    monkeypatch.setattr("switchgear.events.brokers.rabbitmq._ASK", 60.0)
    broker = opening(f"{url}&partitions=1")
    await broker.declare("g", [TOPIC])
    members, heard = f"{prefix}g/members", asyncio.Queue()
    await channel.exchange_declare(members, exchange_type="direct", durable=True)
    await channel.queue_declare(f"{prefix}ear", exclusive=True)
    await channel.queue_bind(f"{prefix}ear", members, "everybody")
    await channel.basic_consume(f"{prefix}ear", heard.put, no_ack=True)
    await channel.basic_consume(f"{prefix}g/{TOPIC}/0", asyncio.Queue().put)
    asking = asyncio.create_task(broker.lag("g", [TOPIC]))
    async with asyncio.timeout(60):
        asked = await heard.get()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await channels_end(broker)
    with pytest.raises(ChannelNotFoundEntity):
        await channel.queue_declare(asked.header.properties.reply_to, passive=True)


@pytest.mark.parametrize("at", ["queue_declare", "basic_qos", "basic_consume"])
async def test_a_look_at_the_oldest_that_is_cancelled_keeps_nobody_from_owning(
    url, opening, monkeypatch, at
):
    from aiormq.channel import Channel

    broker = opening(f"{url}&partitions=1&groups=g@{TOPIC}")
    await broker.publish([record(1)])
    ask, reached, may = getattr(Channel, at), asyncio.Event(), asyncio.Event()

    async def slow(*args, **given):
        answer = await ask(*args, **given)
        if not given.get("passive"):
            reached.set()
            await may.wait()
        return answer

    monkeypatch.setattr(Channel, at, slow)
    looking = asyncio.create_task(broker.lag("g", [TOPIC]))
    async with asyncio.timeout(60):
        await reached.wait()
    looking.cancel()
    may.set()
    with pytest.raises(asyncio.CancelledError):
        await looking
    await channels_end(broker)
    assert len(await receive(await broker.subscribe("g", [TOPIC]), 1)) == 1


@pytest.mark.parametrize("at", ["queue_declare", "queue_delete"])
async def test_a_partition_that_may_not_be_given_back_is_with_the_connection(
    url, opening, monkeypatch, at
):
    from aiormq.channel import Channel

    broker = opening(f"{url}&partitions=1&groups=g@{TOPIC}")
    await broker.publish([record(1)])
    connection = await broker._link.connection()
    ask = getattr(Channel, at)

    async def unanswered(*args, **given):
        if given.get("passive"):
            return await ask(*args, **given)
        if at == "queue_declare":
            await ask(*args, **given)
        raise TimeoutError

    with monkeypatch.context() as patched:
        patched.setattr(Channel, at, unanswered)
        with contextlib.suppress(BrokerUnavailable):
            await broker.lag("g", [TOPIC])
        await until(lambda: connection.is_closed)
    assert len(await receive(await broker.subscribe("g", [TOPIC]), 1)) == 1


async def test_another_number_of_partitions_is_refused(url, opening):
    await opening(f"{url}&partitions=3").publish([record()])
    with pytest.raises(BrokerError, match="has 3 partitions, and 4 were asked for"):
        await opening(f"{url}&partitions=4").subscribe("g", [TOPIC])
    broker = opening(url)
    subscription = await broker.subscribe("g", [TOPIC])
    await broker.publish([record(number, key=f"k{number}") for number in range(30)])
    assert {one.partition.number for one in await receive(subscription, 30)} == {0, 1, 2}


async def test_more_partitions_by_the_documented_steps(url, prefix, opening, channel):
    before = opening(f"{url}&partitions=2&groups=g@{TOPIC}")
    await before.publish([record(number, key=f"k{number % 9}") for number in range(50)])
    subscription = await before.subscribe("g", [TOPIC])
    for one in await receive(subscription, 50):
        await subscription.commit({one.partition: one.offset + 1})
    assert (await before.lag("g", [TOPIC])).events == 0
    await before.close()
    await channel.exchange_delete(prefix + TOPIC)
    after = opening(f"{url}&partitions=5")
    await after.declare("g", [TOPIC])
    await after.publish([record(number, key=f"k{number % 9}") for number in range(50, 100)])
    found = await receive(await after.subscribe("g", [TOPIC]), 50)
    assert {one.partition.number for one in found} > {0, 1}
    for key in {one.key for one in found}:
        numbers = [int(one.value) for one in found if one.key == key]
        assert numbers == sorted(numbers)


async def test_an_exchange_of_another_kind_is_refused(url, prefix, opening, channel):
    await channel.exchange_declare(prefix + TOPIC, exchange_type="topic", durable=True)
    with pytest.raises(BrokerError, match="has it in another way.*inequivalent arg 'type'"):
        await opening(url).publish([record()])


async def test_a_full_queue_is_unknown_and_afterwards_nobody_overtakes(
    url, prefix, opening, channel
):

    from switchgear.events.brokers.rabbitmq import _QUEUE

    broker = opening(f"{url}&partitions=1")
    arguments = {**_QUEUE, "x-max-length": 3}
    await channel.queue_declare(f"{prefix}g/{TOPIC}/0", durable=True, arguments=arguments)
    with pytest.raises(BrokerError, match="x-max-length"):
        await broker.declare("g", [TOPIC])
    await channel.queue_bind(f"{prefix}g/{TOPIC}/0", prefix + TOPIC, "0")
    with pytest.raises(Unknown, match="turned .* away: a queue is full"):
        for number in range(10_000):
            await broker.publish([record(number)])
    sent = []
    send = broker._publisher._send
    broker._publisher._send = lambda wave: sent.append(len(wave)) or send(wave)
    with pytest.raises(Unknown):
        await broker.publish([record(number) for number in range(3)])
    assert sent == [1], "one by one, and none after the one that was turned away"


async def test_what_is_not_confirmed_is_unknown_and_the_next_one_works(url, opening):
    broker = opening(f"{url}&partitions=1&groups=g@{TOPIC}")
    await broker.publish([record(1)])
    broker._publisher._within = 0.0
    with pytest.raises(Unknown, match="did not confirm within"):
        await broker.publish([record(2)])
    broker._publisher._within = 60.0
    await broker.publish([record(3)])
    subscription, found = await broker.subscribe("g", [TOPIC]), []
    while b"3" not in found:
        found += [one.value for one in await receive(subscription, 1)]
    assert [one for one in found if one != b"2"] == [b"1", b"3"], "the second may be there"


async def test_a_write_that_fails_half_way_is_nobody_elses_confirmation(url, opening, monkeypatch):
    """The driver counts what it sends; a number without a record would be the next one's."""
    from switchgear.events.brokers import rabbitmq_publisher

    broker = opening(f"{url}&partitions=1&groups=g@{TOPIC}")
    await broker.publish([record(0)])
    bodies = rabbitmq_publisher._bodies
    monkeypatch.setattr(
        rabbitmq_publisher,
        "_bodies",
        lambda value, most: bodies({b"2": None}.get(value, value), most),
    )
    channel = broker._publisher._channel
    with pytest.raises(TypeError):
        await broker.publish([record(1), record(2)])
    broker._publisher._open = lambda: asyncio.sleep(0, channel)  # as if it had waited for its turn
    with pytest.raises(BrokerUnavailable):
        await broker.publish([record(3)])
    del broker._publisher._open
    await broker.publish([record(4)])
    found = await receive(await broker.subscribe("g", [TOPIC]), 2)
    assert [one.value for one in found] == [b"0", b"4"]


async def test_a_publish_that_is_cancelled_leaves_the_others_alone(url, opening):
    broker = opening(f"{url}&partitions=1&groups=g@{TOPIC}")
    await broker.publish([record(0)])
    tasks = [asyncio.create_task(broker.publish([record(number)])) for number in range(1, 40)]
    await asyncio.sleep(0)
    for task in tasks[::3]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    kept = {number for number, result in enumerate(results, 1) if result is None}
    assert len(kept) >= 26
    subscription = await broker.subscribe("g", [TOPIC])
    found = set()
    async with asyncio.timeout(60):
        while not kept <= found:
            found.update(int(one.value) for one in await receive(subscription, 1))


@pytest.mark.parametrize(
    ("headers", "kind", "says"),
    [
        ({"h" * 129: "x"}, BrokerError, "more than 128 bytes"),
        ({"ce-x": "x" * 100_001}, RecordTooLarge, "takes 100000"),
    ],
)
async def test_headers_that_no_frame_takes_are_refused(url, opening, headers, kind, says):
    broker = opening(url)
    with pytest.raises(kind, match=says):
        await broker.publish([record(**headers)])
    await broker.publish([record()])


async def test_nobody_there_is_unavailable(opening):
    from services.ports import free_port

    broker = opening(f"amqp://me:secret@127.0.0.1:{free_port()}")
    for attempt in (
        broker.lag("g", []),
        broker.publish([record()]),
        broker.subscribe("g", [TOPIC]),
    ):
        with pytest.raises(BrokerUnavailable, match="RabbitMQ at 127.0.0.1") as caught:
            await attempt
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("says", [b"", b"AMQP", b"\x01\x00\x00"])
async def test_a_server_that_hangs_up_is_unavailable(opening, says):
    """As one does that is killed while it greets."""

    async def hang_up(_, writer):
        writer.write(says)
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(BrokerUnavailable):
            await opening(f"amqp://127.0.0.1:{port}").publish([record()])


async def test_a_virtual_host_that_there_is_not_is_refused(opening):
    server = address("rabbitmq").rstrip("/")
    with pytest.raises(BrokerError, match="virtual host nowhere"):
        await opening(f"{server}/nowhere").publish([record()])


def test_the_url_says_how_to_connect_and_the_password_is_not_shown():
    broker = broker_of(
        "amqps://me:s%40fe@a,b:5673,[::1]/shop%2Fone?ca=/ca.pem&prefix=x.&groups=g@t,g@u,h@t",
        {"auth": "external"},
    )
    assert isinstance(broker, RabbitBroker)
    assert broker._settings == RabbitSettings(
        [("a", 5671), ("b", 5673), ("::1", 5671)],
        "me",
        "s@fe",
        "shop/one",
        tls=True,
        ca="/ca.pem",
        prefix="x.",
        options={"auth": "external"},
    )
    assert broker._groups == {"g": ["t", "u"], "h": ["t"]}
    assert "s@fe" not in repr(broker._settings)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("amqp://", "names no server"),
        ("amqp://host?partition=3", "unknown option partition"),
        ("amqp://host?groups=g", "group@topic"),
        ("amqp://host?ca=/ca.pem", "asks for no TLS"),
        ("amqp://me:secret@host:many", "port is no number"),
    ],
)
def test_a_url_that_cannot_be_meant_is_refused(url, says):
    with pytest.raises(UnsupportedBroker, match=says) as caught:
        broker_of(url)
    assert "secret" not in str(caught.value)


def test_an_option_that_the_driver_has_not_is_refused():
    with pytest.raises(UnsupportedBroker, match="have heartbeat"):
        broker_of("amqp://host", {"heartbeat": 3, "auth": "external"})


async def test_a_refusal_is_that_of_the_call_that_caused_it(url, prefix, opening, channel):
    broker = opening(f"{url}&partitions=1&groups=g@{TOPIC},g@test.others")
    other = Record("test.others", "k", {}, b"1")
    await broker.publish([record(1), other])
    await channel.exchange_delete(prefix + TOPIC)
    refused, ended = await asyncio.gather(
        broker.publish([record(2)]), broker.publish([other]), return_exceptions=True
    )
    assert isinstance(refused, TopicRefused)
    assert refused.topic == TOPIC
    assert isinstance(ended, Unknown), "it was written, and nobody knows more"
    await broker.publish([record(2), other])


async def test_a_channel_that_was_closed_leaves_it_unknown():
    from aiormq.exceptions import ChannelClosed

    publisher = RabbitPublisher(RabbitSettings([("127.0.0.1", 1)]), within=1.0)
    error = await publisher._ended(ChannelClosed(None, None), [(record(), 0)])
    assert isinstance(error, Unknown)


async def test_records_of_a_new_ownership_come_after_it_was_told(url, opening):
    broker = opening(f"{url}&partitions=1&groups=g@{TOPIC}")
    await broker.publish([record(1)])
    subscription = await broker.subscribe("g", [TOPIC])
    await receive(subscription, 1)
    member = subscription._ledger
    found, read, changed = member._owned[0], member._read, member._changed

    async def read_ahead(claimed):
        member._changed = lambda: None  # no beat is asked for
        await read(claimed)
        async with asyncio.timeout(60):
            while not claimed.received:
                await asyncio.sleep(0.01)
        member._changed = changed
        changed()

    member._read = read_ahead
    await found.channel.close()
    lost, assigned, deliveries = set(), {}, []
    async with asyncio.timeout(60):
        while not deliveries:
            polled = await subscription.poll(10, 10.0)
            lost |= polled.lost
            assigned.update(polled.assigned)
            deliveries += polled.deliveries
    assert lost == assigned.keys() == {Partition(TOPIC, 0)}
    assert [one.offset for one in deliveries] == list(assigned.values())


async def test_a_subscribe_that_is_cancelled_leaves_no_member(url, opening, monkeypatch):
    joined = asyncio.get_running_loop().create_future()

    async def hang(member):
        joined.set_result(member._connection)
        await asyncio.Event().wait()

    broker = opening(f"{url}&partitions=1")
    monkeypatch.setattr(RabbitMember, "_tell_all", hang)
    subscribing = asyncio.create_task(broker.subscribe("g", [TOPIC]))
    connection = await joined
    subscribing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await subscribing
    assert connection.is_closed


async def test_a_member_that_cannot_say_goodbye_goes_all_the_same(url, opening, monkeypatch):
    async def fail(*_, **__):
        raise BrokerUnavailable("RabbitMQ does not answer")

    broker = opening(f"{url}&partitions=1")
    first, second = [await broker.subscribe(group, [TOPIC]) for group in "gh"]
    connections = [one._ledger._connection for one in (first, second)]
    monkeypatch.setattr(RabbitMember, "_tell", fail)
    await broker.close()
    assert all(one.is_closed for one in connections)


@pytest.mark.parametrize("topic", ["größe", "x" * 120])
async def test_a_name_that_cannot_be_is_refused(url, opening, topic):
    broker = opening(url)
    with pytest.raises(BrokerError, match="cannot have the name"):
        await broker.publish([Record(topic, "k", {}, b"x")])
    await channels_end(broker)


async def test_a_member_comes_back_when_it_is_let_in_again(url, opening, monkeypatch):
    broker = opening(f"{url}&partitions=1")
    subscription = await broker.subscribe("g", [TOPIC], lease=1.0)
    member = subscription._ledger
    declare, refused = member._declare, asyncio.Event()

    async def refuse():
        refused.set()
        raise BrokerError("not now.", fix="Wait.")

    member._declare = refuse
    await member._connection.close()
    await refused.wait()
    with pytest.raises(BrokerUnavailable, match="not now"):
        async with asyncio.timeout(60):
            while True:
                await subscription.poll(10, 1.0)
    member._declare = declare
    await broker.publish([record(1)])
    found = []
    async with asyncio.timeout(60):
        while not found:
            try:
                found += (await subscription.poll(10, 1.0)).deliveries
            except BrokerUnavailable:
                continue
    assert [one.value for one in found] == [b"1"]


def test_a_connection_that_is_lost_prints_nothing():
    """The driver writes errors that are raised to us into its log as well."""
    program = """
import asyncio, sys
from switchgear.events.brokers.url import broker_of

async def main():
    broker = broker_of(sys.argv[1])
    member = await broker.subscribe("g", ["t"])
    lost = member._ledger._connection
    lost._reader_task.throw(ConnectionError("pulled"))
    while member._ledger._connection in (None, lost) or member._ledger._control is None:
        await asyncio.sleep(0.01)
    await broker.close()

asyncio.run(main())
"""
    url = f"{address('rabbitmq')}?prefix=t{secrets.token_hex(6)}."
    done = subprocess.run(
        [sys.executable, "-c", program, url], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""


async def test_a_bug_while_a_partition_is_begun_is_told_and_it_is_read_nonetheless(
    url, monkeypatch
):
    begun, read = [], Owned.read

    async def breaks(self, group, arrived):
        begun.append(self.partition)
        if len(begun) == 1:
            raise ZeroDivisionError("nobody expected it")
        await read(self, group, arrived)

    monkeypatch.setattr(Owned, "read", breaks)
    broker = broker_of(f"{url}&partitions=1")
    subscription = await broker.subscribe("g", [TOPIC], lease=1.0)
    await broker.publish([record(1)])
    async with asyncio.timeout(60):
        with pytest.raises(ZeroDivisionError):
            while True:
                await subscription.poll(100, 1.0)
        found = []
        while not found:
            with contextlib.suppress(BrokerUnavailable):
                found += (await subscription.poll(100, 1.0)).deliveries
    assert [one.value for one in found] == [b"1"]
    await subscription.close()
    await broker.close()
