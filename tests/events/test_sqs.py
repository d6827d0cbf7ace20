"""What only SQS has: its queues, its refusals, what is taken in part. On ElasticMQ, a stand-in."""

import asyncio
import secrets

import pytest

from switchgear.errors import BrokerError
from switchgear.events.brokers.port import (
    BrokerUnavailable,
    LeaseLost,
    Partition,
    Record,
    RecordTooLarge,
    TopicRefused,
    UnsupportedBroker,
)
from switchgear.events.brokers.sqs_client import SqsClient, SqsSettings
from switchgear.events.brokers.sqs_wire import queue_name
from switchgear.events.brokers.url import broker_of
from switchgear.events.structured import packed
from switchgear.model.outcome import Unknown
from tests.events.world import until
from tests.servers import address

TOPIC = "test.orders"
QUICK = "create=true&discover=0.05&wait=1"


@pytest.fixture
def url():
    return f"{address('sqs')}&prefix=t{secrets.token_hex(6)}-"


@pytest.fixture
def prefix(url):
    return url.rpartition("prefix=")[2]


@pytest.fixture
def client(url):
    """SQS without us in between."""
    endpoint = url.partition("endpoint=")[2].partition("&")[0]
    made = SqsClient(SqsSettings("elasticmq", endpoint, key=("x", "x")))
    yield made
    made.close()


def records(*keys):
    return [Record(TOPIC, key, {"number": str(at)}, b"x") for at, key in enumerate(keys)]


async def polled(subscription, count):
    found = []
    async with asyncio.timeout(60):
        while len(found) < count:
            found += (await subscription.poll(100, 0.5)).deliveries
    return found


async def test_a_missing_queue_is_refused_and_says_how_it_is_created(url, prefix, opening):
    with pytest.raises(BrokerError, match=rf"no queue {prefix}test_orders--g.fifo.*create=true"):
        await opening(url).subscribe("g", [TOPIC])


async def test_a_queue_that_is_created_keeps_messages_for_as_long_as_sqs_does(url, opening, client):
    broker = opening(f"{url}&{QUICK}")
    assert await broker.retention([TOPIC]) == 14 * 86_400
    await broker.subscribe("g", [TOPIC])
    assert await broker.retention([TOPIC]) == 14 * 86_400


async def test_a_dead_letter_queue_is_refused(url, prefix, opening, client):
    fifo = {"FifoQueue": "true"}
    dead = await client.call("create_queue", QueueName=f"{prefix}dead.fifo", Attributes=fifo)
    found = await client.call(
        "get_queue_attributes", QueueUrl=dead["QueueUrl"], AttributeNames=["QueueArn"]
    )
    arn = found["Attributes"]["QueueArn"]
    policy = f'{{"deadLetterTargetArn": "{arn}", "maxReceiveCount": 3}}'
    await client.call(
        "create_queue",
        QueueName=queue_name(prefix, TOPIC, "g"),
        Attributes=fifo | {"RedrivePolicy": policy},
    )
    with pytest.raises(BrokerError, match="has a dead-letter queue"):
        await opening(url).subscribe("g", [TOPIC])


async def test_a_publish_goes_to_every_group_and_to_those_that_come_later(url, opening):
    broker, other = opening(f"{url}&{QUICK}"), opening(f"{url}&{QUICK}")
    one = await broker.subscribe("one", [TOPIC])
    await broker.publish(records("a"))
    two = await other.subscribe("two", [TOPIC])  # in another process, as it were
    await broker.publish(records("b"))
    assert {found.key for found in await polled(one, 2)} == {"a", "b"}
    assert {found.key for found in await polled(two, 1)} == {"b"}


async def test_what_nobody_listens_to_is_told_once(url, prefix, opening, caplog):
    broker = opening(f"{url}&{QUICK}")
    await broker.publish(records("a"))
    await asyncio.sleep(0.1)
    await broker.publish(records("a"))
    (told,) = [one.message for one in caplog.records if "goes nowhere" in one.message]
    assert f"{prefix}test_orders--*.fifo" in told


async def test_a_poll_asks_again_when_a_request_has_brought_nothing(url, opening):
    broker = opening(f"{url}&{QUICK}")
    subscription = await broker.subscribe("g", [TOPIC])
    waiting = asyncio.create_task(subscription.poll(10, 600.0))
    await asyncio.sleep(1.5)  # longer than one request
    await broker.publish(records("a"))
    async with asyncio.timeout(60):
        assert len((await waiting).deliveries) == 1


async def test_a_repeated_publish_is_there_once(url, opening):
    broker = opening(f"{url}&{QUICK}")
    subscription = await broker.subscribe("g", [TOPIC])
    event = Record(TOPIC, "a", {"ce-source": "s", "ce-id": "1"}, b"x")
    await broker.publish([event])
    await broker.publish([event, *records("a")])
    assert [found.headers.get("ce-id") for found in await polled(subscription, 2)] == ["1", None]


async def test_headers_count_and_a_record_over_the_queues_own_limit_is_refused(url, opening):
    broker = opening(f"{url}&{QUICK}&max_bytes=1000000")
    await broker.subscribe("g", [TOPIC])
    with pytest.raises(RecordTooLarge, match="takes 262144"):
        await broker.publish([*records("a"), Record(TOPIC, "b", {}, b"\xff" * 200_000)])
    assert (await broker.lag("g", [TOPIC])).events == 0, "all or nothing"


class Partial:
    """Passes on to SQS, and fails the first time it sees one of `keys`, as SQS does now and then:
    that entry alone."""

    def __init__(self, client, keys):
        self._client = client
        self._keys = set(keys)

    def close(self):
        self._client.close()

    async def call(self, operation, **arguments):
        if operation != "send_message_batch":
            return await self._client.call(operation, **arguments)
        entries = arguments["Entries"]
        failing = [one for one in entries if one["MessageGroupId"] in self._keys]
        self._keys -= {one["MessageGroupId"] for one in failing}
        arguments["Entries"] = [one for one in entries if one not in failing]
        answer = {}
        if arguments["Entries"]:
            answer = await self._client.call(operation, **arguments)
        return answer | {
            "Failed": [
                {"Id": one["Id"], "Code": "InternalError", "SenderFault": False} for one in failing
            ]
        }


async def test_what_is_taken_in_part_keeps_the_order_of_every_key(url, opening):
    """The relay repeats it all; what is there already is not there twice."""
    broker = opening(f"{url}&{QUICK}")
    subscription = await broker.subscribe("g", [TOPIC])
    broker._client = Partial(broker._client, "ab")
    batch = [
        Record(TOPIC, key, {"ce-source": "s", "ce-id": f"{key}{number}"}, b"x")
        for number in range(3)
        for key in "abcd"
    ]
    with pytest.raises(Unknown):
        await broker.publish(batch)
    await broker.publish(batch)
    found = []
    async with asyncio.timeout(60):
        while len(found) < 12:
            arrived = (await subscription.poll(100, 0.5)).deliveries
            await subscription.commit({one.partition: one.offset + 1 for one in arrived})
            found += arrived
    for key in "abcd":
        ids = [one.headers["ce-id"] for one in found if one.key == key]
        assert ids == [f"{key}0", f"{key}1", f"{key}2"]


async def test_what_none_was_taken_of_is_not_done(url, opening):
    broker = opening(f"{url}&{QUICK}")
    await broker.subscribe("g", [TOPIC])
    broker._client = Partial(broker._client, "a")
    with pytest.raises(BrokerUnavailable):
        await broker.publish(records("a"))


async def test_a_handler_that_takes_longer_than_the_lease_keeps_its_key(url, opening):
    broker = opening(f"{url}&{QUICK}")
    # long enough for a machine that stands still for some seconds
    one = await broker.subscribe("g", [TOPIC], lease=10.0)
    two = await broker.subscribe("g", [TOPIC], lease=10.0)
    await broker.publish(records("a", "a"))
    (found, *_) = await polled(one, 1)
    for _ in range(12):
        assert not (await two.poll(10, 1.0)).deliveries
    await until(lambda: one.owns(found.partition))
    await one.commit({found.partition: found.offset + 1})


async def test_a_commit_that_fails_in_part_is_made_again_and_nothing_stays_out(url, opening):
    broker = opening(f"{url}&{QUICK}")
    subscription = await broker.subscribe("g", [TOPIC])
    await broker.publish(records(*map(str, range(20))))
    positions = {one.partition: one.offset + 1 for one in await polled(subscription, 20)}
    del positions[next(iter(positions))]
    ask, failures = subscription._each, [BrokerUnavailable("away")]

    async def failing(operation, *arguments):
        if failures:
            raise failures.pop()
        return await ask(operation, *arguments)

    subscription._each = failing
    lost = positions | {Partition(TOPIC, 1): 1}
    with pytest.raises(BrokerUnavailable):
        await subscription.commit(lost)
    assert (await broker.lag("g", [TOPIC])).events in range(10, 12), "one of two requests"
    with pytest.raises(LeaseLost):
        await subscription.commit(lost)
    assert (await broker.lag("g", [TOPIC])).events == 1


async def test_a_lease_that_could_not_be_extended_is_lost(url, opening, client, prefix):
    broker = opening(f"{url}&{QUICK}")
    one = await broker.subscribe("g", [TOPIC], lease=1.0)
    await broker.publish(records("a"))
    (found,) = await polled(one, 1)
    # as if it had been out for twelve hours, after which SQS takes no more extensions
    out = one._owned[found.partition].out[found.offset]
    await client.call(
        "delete_message_batch",
        QueueUrl=out.queue,
        Entries=[{"Id": "0", "ReceiptHandle": out.receipt}],
    )
    async with asyncio.timeout(60):
        while found.partition not in (await one.poll(10, 0.5)).lost:
            pass
    assert not one.owns(found.partition)


async def test_what_is_refused_says_so_and_is_not_tried_again(client):
    with pytest.raises(BrokerError, match=r"SQS refuses .*QueueDoesNotExist"):
        await client.call("get_queue_url", QueueName="nobody.fifo")


async def test_a_queue_that_is_gone_refuses_its_topic_and_the_next_publish_looks_again(
    url, prefix, opening, client
):
    broker = opening(f"{url}&create=true&discover=0.05")
    for topic in (TOPIC, "test.others"):
        await broker.subscribe("g", [topic])
    broker._queues._discover = 600.0
    other = Record("test.others", "k", {}, b"x")
    await broker.publish([*records("a"), other])
    await client.call(
        "delete_queue",
        QueueUrl=await broker._queues.url(queue_name(prefix, TOPIC, "g")),
    )
    with pytest.raises(TopicRefused, match="QueueDoesNotExist") as refused:
        await broker.publish([*records("b"), other])
    assert refused.value.topic == TOPIC
    await broker.publish([*records("b"), other])


async def test_keys_of_one_hash_wait_for_each_other_and_nothing_else(url, opening):
    """They are one partition to the port, and two message groups to SQS."""
    broker = opening(f"{url}&{QUICK}")
    subscription = await broker.subscribe("g", [TOPIC])
    await broker.publish(records(*["k30719", "k54508"] * 3))
    found = []
    async with asyncio.timeout(60):
        while len(found) < 6:
            arrived = (await subscription.poll(100, 0.5)).deliveries
            assert len({one.key for one in arrived}) <= 1
            await subscription.commit({one.partition: one.offset + 1 for one in arrived})
            found += arrived
    assert len({one.partition for one in found}) == 1
    for key, numbers in {"k30719": [0, 2, 4], "k54508": [1, 3, 5]}.items():
        assert [int(one.headers["number"]) for one in found if one.key == key] == numbers


async def test_the_body_in_structured_mode_is_an_event_to_the_cloudevents_sdk(url, opening, client):
    from cloudevents.core.formats.json import JSONFormat
    from cloudevents.core.v1.event import CloudEvent

    broker = opening(f"{url}&{QUICK}")
    subscription = await broker.subscribe("g", [TOPIC])
    headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "shop", "ce-type": "placed"}
    made = packed(headers | {"content-type": "application/json"}, b'{"order": "\xc3\xa9"}')
    await broker.publish([Record(TOPIC, "a", *made)])
    (queue,) = subscription._queues
    answer = await client.call("receive_message", QueueUrl=queue.url, WaitTimeSeconds=5)
    read = JSONFormat().read(CloudEvent, answer["Messages"][0]["Body"])
    assert (read.get_id(), read.get_source(), read.get_type()) == ("1", "shop", "placed")
    assert read.get_data() == {"order": "é"}


@pytest.mark.parametrize(
    ("operation", "code", "status", "raised", "says"),
    [
        ("receive_message", "AccessDenied", 403, BrokerError, "the right to it"),
        ("send_message_batch", "com.amazonaws.sqs#AccessDenied", 403, BrokerError, "the right"),
        ("send_message_batch", "InvalidClientTokenId", 403, BrokerError, "valid credentials"),
        ("send_message_batch", "ThrottlingException", 400, BrokerUnavailable, "throttles"),
        ("receive_message", "RequestThrottled", 403, BrokerUnavailable, "throttles"),
        ("receive_message", "InternalFailure", 500, BrokerUnavailable, "failed at"),
        ("send_message_batch", "ServiceUnavailable", 503, Unknown, "did not confirm"),
    ],
)
async def test_what_an_answer_means(client, operation, code, status, raised, says):
    from botocore.exceptions import ClientError

    class Answering:
        def __getattr__(self, name):
            error = {"Code": code, "Message": "no"}
            answer = {"Error": error, "ResponseMetadata": {"HTTPStatusCode": status}}
            return lambda **_: (_ for _ in ()).throw(ClientError(answer, name))

    client._asking._client = Answering()
    with pytest.raises(raised, match=says):
        await client.call(operation)


async def test_a_server_that_is_not_there_is_unavailable(opening):
    broker = opening("sqs://x:x@elasticmq?endpoint=http://127.0.0.1:1")
    with pytest.raises(BrokerUnavailable, match="cannot be reached"):
        await broker.lag("g", [TOPIC])


async def test_without_credentials_it_says_where_they_are_looked_for(url, opening, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    broker = opening(url.replace("x:x@", ""))
    with pytest.raises(BrokerError, match=r"credentials.*as the AWS tools"):
        await broker.lag("g", [TOPIC])


@pytest.mark.parametrize(
    "url",
    [
        "sqs://",
        "sqs://eu-west-1?partitions=4",
        "sqs://eu-west-1?wait=21",
        "sqs://eu-west-1?create=perhaps",
        "sqs://eu-west-1?prefix=far_too_long_for_a_name",
        "sqs://eu-west-1?prefix=no.dots",
        "sqs://key:secret@eu-west-1",
        "sqs://key:secret@eu-west-1?endpoint=https://sqs.example.com",
    ],
)
def test_a_url_that_cannot_be_meant_is_refused(url):
    with pytest.raises(UnsupportedBroker) as caught:
        broker_of(url)
    assert "secret" not in str(caught.value)


def test_what_it_cannot_do_it_says():
    capabilities = broker_of("sqs://eu-west-1").capabilities
    assert not any((capabilities.replay, capabilities.exact_lag, capabilities.partitions))
