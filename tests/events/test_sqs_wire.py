"""How records are written for SQS, without SQS."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchgear.events.brokers.port import Record
from switchgear.events.brokers.sqs_wire import (
    Message,
    delivery_of,
    message_of,
    queue_name,
    topic_prefix,
    waves,
)

TAKEN = re.compile(r"[A-Za-z0-9!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]{1,128}")
TEXT = re.compile("[\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*")
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=150)


def received(message, number=7):
    """What `receive_message` gives of a message."""
    return {
        "Body": message.body,
        "ReceiptHandle": "r",
        "Attributes": {
            "MessageGroupId": message.group,
            "SequenceNumber": str(number),
            "SentTimestamp": "1700000000000",
        },
        "MessageAttributes": message.entry(0)["MessageAttributes"],
    }


@given(
    key=st.none() | WORDS.filter(bool),
    headers=st.dictionaries(WORDS, WORDS, max_size=15),
    value=st.binary(max_size=300) | WORDS.map(str.encode),
)
def test_every_record_arrives_as_it_was(key, headers, value):
    record = Record("t", key, headers, value)
    message = message_of(record)
    assert TAKEN.fullmatch(message.group)
    assert TAKEN.fullmatch(message.deduplication)
    assert message.body
    assert len(message.attributes) <= 10
    for text in (message.body, *message.attributes.values()):
        assert TEXT.fullmatch(text)
        assert text
    found = delivery_of("t", received(message))
    assert (found.key, found.headers, found.value) == (key, headers, value)
    assert (found.offset, found.published) == (7, 1_700_000_000.0)


def test_the_group_is_the_key_and_the_deduplication_id_source_and_id():
    headers = {"ce-source": "shop", "ce-id": "1-2"}
    message = message_of(Record("t", "order-7", headers, b'{"a": 1}'))
    assert message == message_of(Record("t", "order-7", headers, b'{"a": 1}'))
    assert (message.group, message.deduplication) == ("order-7", "shop/1-2")
    assert message.body == '{"a": 1}'


def test_records_without_a_key_wait_for_nobody():
    one, two = (message_of(Record("t", None, {}, b"x")) for _ in range(2))
    assert one.group != two.group


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"colour": "red"},
        {"headers": "[1]", "encoding": "text"},
        {"headers": "{}", "encoding": "base64"},
        {"headers": "{}", "encoding": "text", "key": "7"},
    ],
)
def test_what_somebody_else_sent_is_read_as_it_is(attributes):
    found = delivery_of("t", received(Message("k", "d", "hello!", attributes)))
    assert (found.key, found.headers, found.value) == ("k", attributes, b"hello!")


def test_the_size_is_what_sqs_counts():
    message = Message("k", "d", "é", {"ab": "cde"})
    assert message.size == 2 + 2 + len("String") + 3


@given(
    st.lists(st.sampled_from("abcdefghijklmnopqrstuvwxyz"), max_size=60),
    st.integers(min_value=1, max_value=100),
)
def test_waves_keep_the_order_of_a_key_and_the_bounds_of_a_batch(groups, most):
    messages = [Message(group, "d", "x" * (at % 7 + 1), {}) for at, group in enumerate(groups)]
    sent = []
    for batches in waves(messages, most):
        for batch in batches:
            assert 1 <= len(batch) <= 10
            assert len(batch) == 1 or sum(messages[at].size for at in batch) <= most
        wave = [at for batch in batches for at in batch]
        assert len({groups[at] for at in wave}) == len(wave), "two of a key side by side"
        sent += wave
    assert sorted(sent) == list(range(len(groups)))
    for group in set(groups):
        assert [at for at in sent if groups[at] == group] == [
            at for at, one in enumerate(groups) if one == group
        ]


def test_a_queue_is_named_after_topic_and_group():
    name = queue_name("shop-", "shop.orders", "billing.mark-paid")
    assert name == "shop-shop_orders--billing_mark-paid.fifo"
    assert name.startswith(topic_prefix("shop-", "shop.orders"))


NAMES = st.text(st.sampled_from("ab.-_/é"), min_size=1, max_size=60)


@given(NAMES, NAMES, NAMES, NAMES)
def test_names_are_taken_and_no_two_are_the_same(topic, group, other_topic, other_group):
    name = queue_name("p" * 16, topic, group)
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,75}\.fifo", name)
    if (topic, group) != (other_topic, other_group):
        assert name != queue_name("p" * 16, other_topic, other_group)
    if topic != other_topic:
        assert not name.startswith(topic_prefix("p" * 16, other_topic))


def test_headers_are_one_attribute_in_plain_letters():
    message = message_of(Record("t", "k", {"ce-subject": "größe ☃"}, b"x"))
    assert message.attributes["headers"].isascii()
    assert json.loads(message.attributes["headers"]) == {"ce-subject": "größe ☃"}
