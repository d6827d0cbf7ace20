"""What only NATS has: its streams, its headers, its credentials, and groups without its help."""

import asyncio
import json
import re
from pathlib import Path
from types import SimpleNamespace as Fake

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchgear.database.sqlite import Sqlite
from switchgear.errors import BrokerError
from switchgear.events.brokers.nats import NatsBroker, partitions_of
from switchgear.events.brokers.nats_bucket import group_key, position_key
from switchgear.events.brokers.nats_client import NatsSettings, Tls
from switchgear.events.brokers.nats_headers import headers_of, wire_headers
from switchgear.events.brokers.nats_publisher import NatsPublisher, Topic
from switchgear.events.brokers.port import (
    BrokerUnavailable,
    LeaseLost,
    Partition,
    Record,
    RecordTooLarge,
    TopicRefused,
    UnsupportedBroker,
)
from switchgear.events.brokers.url import broker_of
from switchgear.events.bus import Bus
from switchgear.model.outcome import Reason, Unknown
from tests.events.world import OrderPlaced, until
from tests.servers import address, own

TOPIC = "test.orders"
DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def url(prefix):
    return f"{address('nats')}?prefix={prefix}"


@pytest.fixture
async def raw():
    import nats

    client = await nats.connect(address("nats"))
    yield client.jetstream()
    await client.close()


async def received(subscription, count):
    found = []
    async with asyncio.timeout(60):
        while len(found) < count:
            found += (await subscription.poll(100, 1.0)).deliveries
    return found


async def owned(subscription, count):
    async with asyncio.timeout(60):
        while len(subscription._owned) != count:
            await subscription.release((await subscription.poll(0, 0.1)).revoking)


# streams


async def test_another_number_of_partitions_is_refused(url, opening):
    await opening(f"{url}&partitions=3").publish([Record(TOPIC, "k", {}, b"x")])
    with pytest.raises(BrokerError, match="has 3 partitions, and 4 were asked for"):
        await opening(f"{url}&partitions=4").subscribe("g", [TOPIC])
    await opening(url).publish([Record(TOPIC, "k", {}, b"x")])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"subjects": ["*"]}, "does not list the partitions"),
        ({"subjects": ["0", "2"]}, "does not list the partitions"),
        ({"subjects": ["0", "1"], "allow_direct": True}, "without allow_atomic, on nats server v2"),
    ],
)
async def test_a_stream_that_does_not_fit_is_refused(url, prefix, opening, raw, settings, says):
    subjects = [f"{prefix}{TOPIC}.{one}" for one in settings.pop("subjects")]
    await raw.add_stream(name=prefix[:-1], subjects=subjects, **settings)
    with pytest.raises(BrokerError, match=says):
        await opening(url).subscribe("g", [TOPIC])


async def test_a_topics_stream_may_have_any_name(url, prefix, opening, raw):
    subjects = [f"{prefix}{TOPIC}.{number}" for number in range(2)]
    await raw.add_stream(
        name=prefix[:-1], subjects=subjects, allow_atomic=True, allow_direct=True, max_age=7200
    )
    broker = opening(url)
    await broker.publish([Record(TOPIC, str(key), {}, b"x") for key in range(20)])
    assert (await broker.lag("g", [TOPIC])).events == 20
    assert await broker.retention([TOPIC]) == 7200
    assert (await raw.stream_info(prefix[:-1])).state.messages == 20


@pytest.mark.parametrize("page", ["how-to/run-on-nats.md", "reference/brokers.md"])
async def test_the_stream_of_the_docs_fits(prefix, opening, raw, page):
    text = (DOCS / page).read_text()
    (written,) = re.findall(r'```json\n({"name": "ORDERS".*?)```', text, re.DOTALL)
    config = json.loads(written)
    config["name"] = prefix[:-1]
    config["subjects"] = [one.replace("tea.", prefix) for one in config["subjects"]]
    config["num_replicas"] = 1
    answer = await raw._nc.request(
        f"$JS.API.STREAM.CREATE.{config['name']}", json.dumps(config).encode()
    )
    assert "error" not in json.loads(answer.data)
    broker = opening(f"{address('nats')}?prefix={prefix}")
    await broker.publish([Record("orders", "k", {}, b"x")])
    assert (await raw.stream_info(prefix[:-1])).state.messages == 1
    assert await broker.retention(["orders"]) == 604_800


async def test_a_topic_in_use_gets_more_partitions_by_more_subjects(prefix, url, opening, raw):
    """Step by step as in "More partitions, or another key"; who publishes and reads is stopped."""
    keys = [str(number) for number in range(30)]
    before = opening(f"{url}&partitions=2")
    await before.publish([Record(TOPIC, key, {}, b"1") for key in keys])
    first = await before.subscribe("g", [TOPIC])
    found = await received(first, 30)
    await first.commit({one.partition: one.offset + 1 for one in found})
    assert (await before.lag("g", [TOPIC])).events == 0
    await before.close()
    name = await raw.find_stream_name_by_subject(f"{prefix}{TOPIC}.0")
    config = (await raw.stream_info(name)).config
    config.subjects = [f"{prefix}{TOPIC}.{number}" for number in range(5)]
    await raw.update_stream(config)
    after = opening(f"{url}&partitions=5")
    await after.publish([Record(TOPIC, key, {}, b"2") for key in keys])
    found = await received(await after.subscribe("g", [TOPIC]), 30)
    assert {one.value for one in found} == {b"2"}, "nothing is read again"
    assert len({one.partition for one in found}) == 5


async def test_all_of_a_large_topic_is_searched(url, opening):
    broker = opening(f"{url}&partitions=3")
    await broker.publish(
        [Record(TOPIC, str(n), {"ce-id": f"<{n}>"}, b"x" * 20_000) for n in range(1_200)]
    )
    found = await broker.search(b"<1199>", [TOPIC], 10)
    assert [one.key for one in found] == ["1199"]
    assert len(await broker.search(b"xxx", [TOPIC], 2_000)) == 1_200


async def test_topics_are_published_to_together(url, opening):
    broker = opening(f"{url}&partitions=1")
    await broker.publish([Record(f"t.{n % 3}", "k", {}, b"%d" % n) for n in range(2_500)])
    subscription = await broker.subscribe("g", [f"t.{n}" for n in range(3)])
    found = await received(subscription, 2_500)
    for topic in {one.partition.topic for one in found}:
        numbers = [int(one.value) for one in found if one.partition.topic == topic]
        assert numbers == sorted(numbers)
    assert sorted(int(one.value) for one in found) == list(range(2_500))


# publishing


def losing_answers(broker, count):
    """Let the answers to the next `count` publishes be lost on the way."""
    connection = broker._connection
    answered, left = connection.answered, count

    async def lossy(answer, subject, within):
        nonlocal left
        found = await answered(answer, subject, within)
        if subject.startswith("$") or not left:
            return found
        left -= 1
        raise BrokerUnavailable("lost on the way")

    connection.answered = lossy


@pytest.mark.parametrize("size", [1, 3])
async def test_a_publish_whose_answer_was_lost_is_there_once(url, prefix, opening, raw, size):
    broker = opening(f"{url}&partitions=2")
    await broker.publish([Record(TOPIC, "first", {}, b"")])
    losing_answers(broker, 2)
    await broker.publish([Record(TOPIC, str(n), {}, b"") for n in range(size)])
    name = await raw.find_stream_name_by_subject(f"{prefix}{TOPIC}.0")
    assert (await raw.stream_info(name)).state.messages == 1 + size


@pytest.mark.parametrize("size", [1, 3])
async def test_a_publish_that_is_never_confirmed_is_unknown_and_the_next_one_works(
    url, opening, size
):
    broker = opening(f"{url}&partitions=1")
    await broker.publish([Record(TOPIC, "k", {}, b"")])
    broker._publisher._within = 0.1
    losing_answers(broker, 1)
    with pytest.raises(Unknown, match="did not confirm in time"):
        await broker.publish([Record(TOPIC, "k", {}, b"") for _ in range(size)])
    broker._publisher._within = 10.0
    await broker.publish([Record(TOPIC, "k", {}, b"")])


async def test_what_some_topics_have_makes_a_publish_unknown_whatever_the_others_say():
    errors = {
        "gone": BrokerUnavailable("gone"),
        "perhaps": Unknown("perhaps", reason=Reason.TIMEOUT),
        "refused": BrokerError("refused"),
    }
    publisher = NatsPublisher(connected(), found_as_it_is, within=1.0)

    async def take(topic, batch):
        if topic.subject in errors:
            raise errors[topic.subject]

    publisher._take = take
    for topics, raised in (
        (["gone", "perhaps"], "perhaps"),
        (["gone", "perhaps", "fine"], "perhaps"),
        (["gone", "fine"], "some topics"),
    ):
        for order in (topics, topics[::-1]):
            with pytest.raises(Unknown, match=raised):
                await publisher.publish([Record(one, "k", {}, b"") for one in order])
    for topics in (["refused"], ["refused", "fine"], ["gone", "perhaps", "refused"]):
        with pytest.raises(TopicRefused, match="refused") as caught:
            await publisher.publish([Record(one, "k", {}, b"") for one in topics])
        assert caught.value.topic == "refused", "whatever became of the others"


async def test_a_refusal_behind_what_was_taken_is_unknown():
    publisher = NatsPublisher(connected(), found_as_it_is, within=1.0)
    taken = []

    async def take(topic, batch):
        if taken:
            raise BrokerError("the stream is full.")
        taken.extend(batch)

    publisher._take = take
    with pytest.raises(Unknown, match=r"1000 of 1500 events.*the stream is full"):
        await publisher.publish([Record("t", "k", {}, b"")] * 1_500)


def connected():
    async def client():
        pass

    return Fake(max_payload=1_000, client=client)


async def found_as_it_is(topic):
    return Topic(topic, topic, 1, 120.0, None, None)


async def test_a_stream_that_is_gone_takes_nothing(url, prefix, opening, raw, monkeypatch):
    broker = opening(f"{url}&partitions=1")
    await broker.publish([Record(TOPIC, "k", {}, b"")])
    await raw.delete_stream(await raw.find_stream_name_by_subject(f"{prefix}{TOPIC}.0"))
    # told once is enough: it is not tried again until its time is over
    monkeypatch.setattr("switchgear.events.brokers.nats_publisher._PAUSE", 600.0)
    with pytest.raises(BrokerUnavailable, match="nobody at NATS answers"):
        await broker.publish([Record(TOPIC, "k", {}, b"")])
    for size in (1, 2):
        with pytest.raises(TopicRefused, match="is gone"):
            await broker.publish([Record(TOPIC, "k", {}, b"")] * size)


async def test_a_stream_that_comes_back_with_other_partitions_is_refused(
    url, prefix, opening, raw, monkeypatch
):
    broker = opening(f"{url}&partitions=1")
    await broker.publish([Record(TOPIC, "k", {}, b"")])
    await raw.delete_stream(await raw.find_stream_name_by_subject(f"{prefix}{TOPIC}.0"))
    monkeypatch.setattr("switchgear.events.brokers.nats_publisher._PAUSE", 600.0)
    with pytest.raises(BrokerUnavailable, match="nobody at NATS answers"):
        await broker.publish([Record(TOPIC, "k", {}, b"")])
    await opening(f"{url}&partitions=2").publish([Record(TOPIC, "k", {}, b"")])
    with pytest.raises(TopicRefused, match="has 2 partitions, and had 1"):
        await broker.publish([Record(TOPIC, "k", {}, b"")])


async def test_the_servers_own_limit_counts_before_anything_is_sent(opening):
    from services.servers import Nats

    class Small(Nats):
        more = "max_payload: 20000"

    with own("nats", Small) as server:
        with pytest.raises(BrokerError, match=r"takes messages of 20000 .*Add max_bytes=16000"):
            await opening(server.url).publish([Record(TOPIC, "k", {}, b"x")])
        broker = opening(f"{server.url}?partitions=1&max_bytes=16000")
        await broker.publish([Record(TOPIC, "k", {}, b"x" * 16_000)])
        large = Record(TOPIC, "k", {"a": "ö" * 4_000}, b"")
        with pytest.raises(RecordTooLarge, match=r"has 2\d{4} bytes, and the broker takes 20000"):
            await broker.publish([Record(TOPIC, "k", {}, b"x"), large])
        with pytest.raises(RecordTooLarge, match="has 16001 bytes, and the broker takes 16000"):
            await broker.publish(
                [Record(TOPIC, "k", {}, b"x"), Record(TOPIC, "k", {}, b"x" * 16_001)]
            )
        assert (await broker.lag("g", [TOPIC])).events == 1


# headers

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(st.none() | TEXT, st.dictionaries(TEXT.filter(bool), TEXT, max_size=5))
def test_any_headers_come_back(key, headers):
    headers.pop("ce-partitionkey", None)
    wire = wire_headers(Record(TOPIC, key, headers, b""))
    for name, value in wire.items():
        assert name.isascii()
        assert not set(name) & set(' :"\r\n\t')
        assert value.isascii()
        assert value.isprintable()
        assert value == value.strip()
    assert headers_of(wire | {"Nats-Msg-Id": "x"}) == (key, headers)


def test_headers_are_those_of_cloudevents_and_the_key_is_there_once():
    headers = {"ce-subject": 'a "b" 100% ☃', "ce-partitionkey": "k", "Nats-Mine": "x"}
    headers["Status"] = "503"
    assert wire_headers(Record(TOPIC, "k", headers, b"")) == {
        "ce-subject": "a%20%22b%22%20100%25%20%E2%98%83",
        "ce-partitionkey": "k",
        "%4Eats-Mine": "x",
        "%53tatus": "503",
    }
    assert wire_headers(Record(TOPIC, "other", headers, b""))["switchgear-key"] == "other"


async def test_headers_of_any_name_arrive(url, opening):
    broker = opening(f"{url}&partitions=1")
    printable = "".join(map(chr, range(0x20, 0x7F)))
    headers = {f"x{one}": f"{one}y" for one in printable} | {printable: printable, "ö\n☃": "\r\n\0"}
    headers |= {"Status": "503", "Nats-Rollup": "all", "switchgear-key": "k", "A": "1", "a": "2"}
    sent = Record(TOPIC, "\n", headers, b"")
    await broker.publish([sent, sent])
    found = await received(await broker.subscribe("g", [TOPIC]), 2)
    assert [(one.key, one.headers) for one in found] == [("\n", headers)] * 2
    assert (await broker.lag("g", [TOPIC])).events == 2


async def test_what_others_wrote_is_read(url, prefix, opening, raw):
    broker = opening(f"{url}&partitions=1")
    await broker.publish([Record(TOPIC, "k", {}, b"ours")])
    await raw.publish(f"{prefix}{TOPIC}.0", b"\xff")
    headers = {"a": "100%", "ce-partitionkey": "theirs"}
    await raw.publish(f"{prefix}{TOPIC}.0", b"", headers=headers)
    found = await received(await broker.subscribe("g", [TOPIC]), 3)
    assert [(one.key, one.headers, one.value) for one in found] == [
        ("k", {}, b"ours"),
        (None, {}, b"\xff"),
        ("theirs", headers, b""),
    ]


# groups


async def test_a_commit_whose_answer_was_lost_does_not_lose_the_partition(url, opening):
    broker = opening(f"{url}&partitions=1")
    await broker.publish([Record(TOPIC, "k", {}, b"%d" % n) for n in range(5)])
    subscription = await broker.subscribe("g", [TOPIC])
    await received(subscription, 5)
    sealed = subscription._ledger._sealed[0]
    before = sealed.revision
    await subscription.commit({Partition(TOPIC, 0): 2})
    sealed.revision = before
    await subscription.commit({Partition(TOPIC, 0): 4})
    assert (await broker.lag("g", [TOPIC])).events == 1


async def test_a_member_that_others_took_for_gone_changes_nothing_any_more(url, opening):
    """As after a pause of its process: it learns from its commit, or from its next beat."""
    broker = opening(f"{url}&partitions=1")
    await broker.publish([Record(TOPIC, "k", {}, b"%d" % n) for n in range(5)])
    late = await broker.subscribe("g", [TOPIC], lease=1.0)
    await received(late, 5)
    late._beating.cancel()
    other = await opening(url).subscribe("g", [TOPIC], lease=10.0)
    await received(other, 5)
    await other.commit({Partition(TOPIC, 0): 1})
    assert not late.owns(Partition(TOPIC, 0))
    with pytest.raises(LeaseLost):
        await late.commit({Partition(TOPIC, 0): 5})
    assert (await broker.lag("g", [TOPIC])).events == 4
    await late._beat()
    assert late._lost == {Partition(TOPIC, 0)}


async def test_no_generation_is_given_out_twice_if_the_roll_is_deleted(url, prefix, opening, raw):
    broker = opening(f"{url}&partitions=2")
    await broker.publish([Record(TOPIC, str(n), {}, b"") for n in range(20)])
    first = await broker.subscribe("g", [TOPIC])
    await owned(first, 2)
    first._beating.cancel()
    generation = first._ledger._sealed[0].generation
    bucket = await raw.key_value(f"{prefix[:-1]}_switchgear")
    await bucket.delete("group.g")
    second = await opening(url).subscribe("g", [TOPIC])
    await owned(second, 2)
    assert second._ledger._sealed[0].generation > generation
    with pytest.raises(LeaseLost):
        await first.commit({Partition(TOPIC, 0): 1})


async def test_many_members_that_come_at_once_share_the_partitions(url, opening):
    broker = opening(f"{url}&partitions=10")
    members = await asyncio.gather(*(broker.subscribe("g", [TOPIC], lease=2) for _ in range(10)))
    async with asyncio.timeout(60):
        while [len(one._owned) for one in members] != [1] * 10:
            for one in members:
                await one.release((await one.poll(0, 0.01)).revoking)


@pytest.mark.parametrize("running", [True, False])
async def test_a_position_beyond_the_end_of_the_stream_begins_again(
    url, prefix, opening, raw, caplog, running
):
    broker = opening(f"{url}&partitions=1")
    await broker.publish([Record(TOPIC, "k", {}, b"old")] * 3)
    subscription = await broker.subscribe("g", [TOPIC], lease=10.0)
    await received(subscription, 3)
    await subscription.commit({Partition(TOPIC, 0): 3})
    if not running:
        await subscription.close()
    name = await raw.find_stream_name_by_subject(f"{prefix}{TOPIC}.0")
    config = (await raw.stream_info(name)).config
    await raw.delete_stream(name)
    await raw.add_stream(config)
    await broker.publish([Record(TOPIC, "k", {}, b"new")])
    assert (await broker.lag("g", [TOPIC])).events == 1
    if running:
        for reader in subscription._view._readers.values():
            reader.lose()
    else:
        subscription = await broker.subscribe("g", [TOPIC], lease=10.0)
    (one,) = await received(subscription, 1)
    assert (one.value, one.offset) == (b"new", 0)
    await subscription.commit({one.partition: 1})
    assert (await broker.lag("g", [TOPIC])).events == 0
    assert "begins again at the first record that is kept" in caplog.text


async def test_a_stream_that_is_deleted_under_a_reader_is_told(url, prefix, opening, raw):
    broker = opening(f"{url}&partitions=1")
    subscription = await broker.subscribe("g", [TOPIC])
    await owned(subscription, 1)
    await raw.delete_stream(await raw.find_stream_name_by_subject(f"{prefix}{TOPIC}.0"))
    with pytest.raises(BrokerError, match=r"reading t.*\.test\.orders\.0: stream not found"):
        async with asyncio.timeout(60):
            while True:
                await subscription.poll(10, 1.0)


async def test_a_reader_that_breaks_is_told(url, opening, monkeypatch):
    broker = opening(f"{url}&partitions=1")
    subscription = await broker.subscribe("g", [TOPIC])
    await owned(subscription, 1)
    (reader,) = subscription._view._readers.values()

    async def breaks(count):
        raise ZeroDivisionError

    monkeypatch.setattr(reader, "_pull", breaks)
    reader.lose()
    with pytest.raises(ZeroDivisionError):
        async with asyncio.timeout(60):
            while True:
                await subscription.poll(10, 1.0)


def test_no_two_groups_share_a_key():
    groups = ["a", "a.b", "a.=.b", "a b", "a%20b", "a=20b", "ä", "*", ">"]
    keys = {position_key(one, Partition(two, 0)) for one in groups for two in ("t", "b.t")}
    assert len(keys) == 2 * len(groups)
    assert len({group_key(one) for one in groups}) == len(groups)
    assert not any(set(key) & set("*> ") for key in keys)


@pytest.mark.parametrize(
    ("subjects", "count"),
    [
        (["t.0", "t.1", "t.2"], 3),
        (["t.0", "t.1", "u.5", "t.x.0"], 2),
        (["t.0", "other.0"], 1),
        (["t.*"], None),
        (["t.>"], None),
        (["t.01", "t.0"], None),
        ([], None),
    ],
)
def test_partitions_are_the_subjects_of_the_stream(subjects, count):
    assert partitions_of({"subjects": subjects}, "t") == count


# the way there


async def test_nobody_there_is_unavailable(opening):
    from services.ports import free_port

    port = free_port()
    broker = opening(f"nats://me:hidden@127.0.0.1:{port},127.0.0.1:{port}")
    with pytest.raises(BrokerUnavailable, match=f"127.0.0.1:{port}.*cannot be reached") as caught:
        async with asyncio.timeout(60):
            await broker.lag("g", [])
    assert "hidden" not in str(caught.value)


def test_the_url_says_how_to_connect_and_the_password_is_not_shown():
    broker = broker_of(
        "natss://me:s%40fe@a,b:4333?ca=/ca.pem&prefix=x.&replicas=3&partitions=2",
        {"tls_hostname": "c"},
    )
    assert isinstance(broker, NatsBroker)
    assert broker._settings == NatsSettings(
        ["a:4222", "b:4333"],
        {"user": "me", "password": "s@fe", "tls_hostname": "c"},
        Tls(ca="/ca.pem"),
        "x.",
    )
    assert "s@fe" not in repr(broker._settings)
    assert (broker._replicas, broker._partitions) == (3, 2)
    assert broker_of("nats://s3cr3t@a")._settings.client == {"token": "s3cr3t"}


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nats://", "names no server"),
        ("nats://host?partition=3", "unknown option partition"),
        ("nats://host?prefix=a..b", "single dots"),
        ("nats://host?ca=ca.pem", "asks for no TLS"),
        ("nats://me:secret@host?creds=file", "more than one proof"),
    ],
)
def test_a_url_that_cannot_be_meant_is_refused(url, says):
    with pytest.raises(UnsupportedBroker, match=says) as caught:
        broker_of(url)
    assert "secret" not in str(caught.value)


async def test_the_connection_is_made_again_after_it_ended_for_good(url, opening):
    broker = opening(f"{url}&partitions=1")
    subscription = await broker.subscribe("g", [TOPIC], lease=1.0)
    await owned(subscription, 1)
    await broker._connection._client.close()
    await broker.publish([Record(TOPIC, "k", {}, b"x")])
    assert await received(subscription, 1)


async def test_a_service_that_is_there_before_its_broker_works_once_that_is_too(tmp_path, opening):
    handled = []
    with own("nats") as server:
        await asyncio.to_thread(server.kill)
        url = server.url.replace("//", "//me:hidden@")
        database = Sqlite(tmp_path / "service.db")
        bus = Bus(opening(f"{url}?partitions=1"), database, "service")

        @bus.on(OrderPlaced, name="react", on_failure="block_key")
        async def react(event, tx):
            handled.append(event.number)

        await bus.start()
        async with database.transaction() as tx:
            await bus.publish(tx, OrderPlaced(order_id="a", number=1))
        with pytest.raises(BrokerUnavailable, match="cannot be reached") as caught:
            await bus.health()
        assert "hidden" not in str(caught.value)
        await asyncio.to_thread(server.start)
        await until(lambda: handled == [1])

        async def well():
            health = await bus.health()
            return health.subscriptions["service.react"].error is health.error is None

        await until(well)
        await bus.stop()
        await database.close()
