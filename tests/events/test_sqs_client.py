"""What is made of botocore's tries, and of requests that wait, without SQS."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from botocore import exceptions
from botocore.awsrequest import AWSResponse

from switchgear.events.brokers.port import BrokerUnavailable, Record, TopicRefused
from switchgear.events.brokers.sqs import SqsBroker
from switchgear.events.brokers.sqs_client import SqsClient, SqsSettings
from switchgear.events.brokers.sqs_group import SqsSubscription
from switchgear.events.brokers.sqs_queues import Queue
from switchgear.model.outcome import Unknown

URL = "http://127.0.0.1:1"
ENTRIES = [{"Id": "0", "MessageBody": "x", "MessageGroupId": "a", "MessageDeduplicationId": "1"}]

LATE = exceptions.ReadTimeoutError(endpoint_url=URL)
CLOSED = exceptions.ConnectionClosedError(endpoint_url=URL)
NOWHERE = exceptions.EndpointConnectionError(endpoint_url=URL)
NOT_CONNECTED = exceptions.ConnectTimeoutError(endpoint_url=URL)
TLS = exceptions.SSLError(endpoint_url=URL, error="bad record")
THROTTLED = (400, '{"__type": "ThrottlingException", "message": "slower"}')
DENIED = (403, '{"__type": "AccessDenied", "message": "no"}')
BROKEN = (500, '{"__type": "InternalFailure", "message": "oh"}')
PART = (200, '{"Failed": [{"Id": "0", "Code": "InternalError", "SenderFault": false}]}')
TAKEN = (200, '{"Successful": [{"Id": "0", "MessageId": "1", "MD5OfMessageBody": "2"}]}')


@pytest.fixture
def client():
    made = SqsClient(SqsSettings("eu-west-1", URL, key=("x", "x")))
    yield made
    made.close()


@pytest.fixture
def tries(client, monkeypatch):
    """Say how each try of a request ends: an exception, or status and body of an answer."""
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda _: None))

    def ending(operation, *ends):
        left = list(ends)

        def sent(request, **_):
            end = left.pop(0)
            if isinstance(end, Exception):
                raise end
            status, body = end
            raw = SimpleNamespace(stream=lambda: [body.encode()])
            return AWSResponse(request.url, status, {}, raw)

        client._asking._opened().meta.events.register(f"before-send.sqs.{operation}", sent)
        return left

    return ending


async def send(client):
    return await client.call("send_message_batch", QueueUrl=f"{URL}/q.fifo", Entries=ENTRIES)


@pytest.mark.parametrize(
    "ends",
    [
        (LATE, NOWHERE, NOWHERE),
        (NOWHERE, LATE, NOT_CONNECTED),
        (CLOSED, NOWHERE, THROTTLED),
        (BROKEN, THROTTLED, THROTTLED),
        (BROKEN, BROKEN, NOWHERE),
        (LATE, DENIED),
        (LATE, PART),
        (TLS, NOWHERE, NOWHERE),
        (TLS, TLS, TLS),
        (NOWHERE, NOWHERE, LATE),
    ],
)
async def test_a_send_is_uncertain_if_any_try_was(client, tries, ends):
    left = tries("SendMessageBatch", *ends)
    with pytest.raises(Unknown, match="did not confirm") as caught:
        await send(client)
    assert str(caught.value).count(Unknown.code) == 1
    assert not left


@pytest.mark.parametrize("end", [NOWHERE, NOT_CONNECTED, THROTTLED])
async def test_a_send_that_no_try_may_have_done_is_certainly_not_done(client, tries, end):
    tries("SendMessageBatch", *[end] * 3)
    with pytest.raises(BrokerUnavailable):
        await send(client)


async def test_a_queue_that_may_not_be_written_refuses_its_topic(client, tries):
    broker = SqsBroker(SqsSettings("eu-west-1", URL, key=("x", "x")))
    broker._client = client
    broker._queues._known["t"] = (float("inf"), [Queue(f"{URL}/t--g.fifo", "t", 262_144, 60.0)])
    tries("SendMessageBatch", DENIED)
    with pytest.raises(TopicRefused, match="AccessDenied") as refused:
        await broker.publish([Record("t", "k", {}, b"x")])
    assert refused.value.topic == "t"
    assert "page Brokers" in refused.value.fix
    await broker.close()


async def test_a_doubt_ends_with_its_call(client, tries):
    tries("SendMessageBatch", LATE, TAKEN, PART, *[NOWHERE] * 3)
    client._asking.threads = ThreadPoolExecutor(1)  # so that all calls come to one thread
    assert len((await send(client))["Successful"]) == 1
    assert len((await send(client))["Failed"]) == 1
    with pytest.raises(BrokerUnavailable):
        await send(client)


async def test_what_is_not_a_send_is_unavailable(client, tries):
    tries("ListQueues", LATE, TLS, TLS)
    with pytest.raises(BrokerUnavailable, match="cannot be reached"):
        await client.call("list_queues")


async def test_requests_that_wait_keep_nothing_else_waiting(client):
    over = threading.Event()

    class Waiting:
        def receive_message(self, **_):
            over.wait(30)
            return {"Messages": [{"ReceiptHandle": "r"}]}

    class Answering:
        def delete_message_batch(self, **_):
            return {"Successful": []}

    client._receiving._client, client._asking._client = Waiting(), Answering()
    try:
        async with asyncio.timeout(60):
            requests = [
                asyncio.create_task(
                    client.receive("q", wait=20, visibility=30, wanted=lambda: True)
                )
                for _ in range(80)  # more than there are threads
            ]
            await asyncio.sleep(0)  # they are asked for first
            assert await client.call("delete_message_batch") == {"Successful": []}
            ended = asyncio.get_running_loop().time()
            over.set()
            began = sorted(begun for begun, _ in await asyncio.gather(*requests))
    finally:
        over.set()
    # who waited for a thread has not begun: the time of its messages would be over when they come
    assert began[0] < ended <= began[-1]


def test_a_request_may_wait_for_as_long_as_sqs_lets_it(client):
    assert client._receiving._opened().meta.config.read_timeout > 20


class Handing:
    """Hands out one message of `full`, and never answers for `slow`."""

    def __init__(self):
        self.back = []
        self.asked = asyncio.Event()
        self.ended = []

    async def receive(self, queue, *, wait, visibility, wanted):
        began = asyncio.get_running_loop().time()
        if queue == "slow":
            self.asked.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.ended.append(queue)
        system = {"MessageGroupId": "a", "SequenceNumber": "1", "SentTimestamp": "1"}
        return began, [{"ReceiptHandle": "r", "Body": "x", "Attributes": system}]

    async def call(self, operation, **arguments):
        self.back.append((operation, arguments["QueueUrl"], arguments["Entries"]))
        return {}


class Silent:
    """Answers without a word on some of what it was given."""

    def __init__(self, *named):
        self.named = named

    async def call(self, operation, **arguments):
        if operation == "list_queues":
            return {"QueueUrls": [f"{URL}/t--g.fifo"]}
        if operation == "get_queue_attributes":
            return {"Attributes": {}}
        return {"Successful": [{"Id": one} for one in self.named]}

    def close(self):
        pass


@pytest.mark.parametrize("named", ["", "02", "1"])
async def test_what_the_answer_does_not_name_is_not_sent_for_certain(named):
    broker = SqsBroker(SqsSettings("eu-west-1"))
    broker._client = broker._queues._client = Silent(*named)
    batch = [Record("t", key, {}, b"x") for key in "abc"]
    with pytest.raises(Unknown, match="does not say whether it has an event"):
        await broker.publish(batch)
    broker._client.named = "012"
    await broker.publish(batch)


async def test_what_the_answer_does_not_name_is_not_deleted_for_certain():
    handing = Handing()
    queues = [Queue("full", "t", 1_000, 1.0)]
    subscription = SqsSubscription(handing, "g", queues, lease=60.0, wait=0, closed=lambda _: None)
    await subscription.start()
    ((partition, position),) = (await subscription.poll(10, 1.0)).assigned.items()
    subscription._client = Silent()
    with pytest.raises(BrokerUnavailable, match="does not say what became of it"):
        await subscription.commit({partition: position + 1})
    assert subscription.owns(partition)
    subscription._client = Silent("0")
    await subscription.commit({partition: position + 1})
    assert not subscription.owns(partition)
    subscription._client = handing
    await subscription.close()


async def test_a_subscription_that_is_cancelled_gives_back_what_it_has_received():
    client = Handing()
    queues = [Queue(url, "t", 1_000, 1.0) for url in ("full", "slow")]
    subscription = SqsSubscription(client, "g", queues, lease=60.0, wait=0, closed=lambda _: None)
    starting = asyncio.create_task(subscription.start())
    await client.asked.wait()
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    entry = {"Id": "0", "ReceiptHandle": "r", "VisibilityTimeout": 0}
    assert client.back == [("change_message_visibility_batch", "full", [entry])]
    assert client.ended == ["slow"]
    assert asyncio.all_tasks() == {asyncio.current_task()}, "nothing is extended any more"
