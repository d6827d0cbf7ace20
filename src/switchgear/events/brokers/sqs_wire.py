"""How a record is written as a message of SQS, and which messages may travel together.

- The body is the record's value as text, where it is text that SQS takes (`text`), else in base64.
  A body may not be empty: an empty value is one hyphen. Which it is, the attribute `encoding` says.
- A message has ten attributes at most, and an event may have more headers: all headers are one
  attribute, as JSON. `key` is the record's key.
- The message group is the key, or its digest if SQS would not take it as a name. A record without
  a key has a group of its own, so that it waits for nobody.
- The deduplication id is the event's source and id. What a relay repeats within five minutes is
  thus not there twice; after that the inbox recognises it.
- A queue is named after topic and group: `orders_placed--billing_react.fifo`.

A message of somebody else, without our attributes, is read as what it is: the body is the value,
its group the key, its attributes the headers.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from switchgear.events.brokers.hashing import partition_of
from switchgear.events.brokers.port import Delivery, Partition, Record

__all__ = ["BATCH", "Message", "delivery_of", "message_of", "queue_name", "topic_prefix", "waves"]

BATCH: Final = 10
"""Messages of one request at most."""
_PARTITIONS: Final = 2**31
_NAME: Final = 28
_NAMED: Final = re.compile(r"[A-Za-z0-9]+([.-][A-Za-z0-9]+)*")
_TOKEN: Final = re.compile(r"[A-Za-z0-9!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]{1,128}")
_NOT_TEXT: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Message(NamedTuple):
    """A record on its way out."""

    group: str
    deduplication: str
    body: str
    attributes: Mapping[str, str]

    @property
    def size(self) -> int:
        """What SQS counts: the body, and the names, types and values of the attributes."""
        attributes = sum(
            len(name) + len("String") + len(value) for name, value in self.attributes.items()
        )
        return len(self.body.encode()) + attributes

    def entry(self, number: int) -> dict[str, Any]:
        """Return it as one entry of a batch."""
        return {
            "Id": str(number),
            "MessageBody": self.body,
            "MessageGroupId": self.group,
            "MessageDeduplicationId": self.deduplication,
            "MessageAttributes": {
                name: {"DataType": "String", "StringValue": value}
                for name, value in self.attributes.items()
            },
        }


def message_of(record: Record) -> Message:
    """Return the message of a record. It is the same for the same event, whenever it is made."""
    source, number = record.headers.get("ce-source"), record.headers.get("ce-id")
    own = f"{source}/{number}" if source and number else str(uuid.uuid4())
    body, encoding = _written(record.value)
    # other alphabets are escaped: an attribute takes no more characters than a body does
    attributes = {"headers": json.dumps(dict(record.headers)), "encoding": encoding}
    if record.key is not None:
        attributes["key"] = json.dumps(record.key)
    return Message(_token(own if record.key is None else record.key), _token(own), body, attributes)


def delivery_of(topic: str, message: Mapping[str, Any]) -> Delivery:
    """Return what `receive_message` gave as a delivery.

    The offset is the sequence number, which grows along a message group.
    """
    system = message["Attributes"]
    group = system["MessageGroupId"]
    attributes = {
        name: found["StringValue"]
        for name, found in message.get("MessageAttributes", {}).items()
        if "StringValue" in found
    }
    try:
        ours = _read(attributes, message["Body"])
    except (msgspec.MsgspecError, binascii.Error):
        ours = None  # somebody else's after all
    key, headers, value = ours or (group, attributes, message["Body"].encode())
    return Delivery(
        Partition(topic, partition_of(group, _PARTITIONS)),
        int(system["SequenceNumber"]),
        key,
        headers,
        value,
        int(system["SentTimestamp"]) / 1000,
    )


def waves(messages: Sequence[Message], most: int) -> Iterator[list[list[int]]]:
    """Return which messages may be sent side by side, as batches of their numbers.

    A batch may be taken in part. So it never has two messages of one group, and a wave is to be
    complete before the next begins: a failed message then has nothing after it. A batch has ten
    messages and `most` bytes at most.
    """
    waiting: dict[str, list[int]] = {}
    for number, message in enumerate(messages):
        waiting.setdefault(message.group, []).append(number)
    depth = 0
    while wave := [numbers[depth] for numbers in waiting.values() if depth < len(numbers)]:
        batches: list[list[int]] = [[]]
        size = 0
        for number in wave:
            size += messages[number].size
            if batches[-1] and (len(batches[-1]) == BATCH or size > most):
                batches.append([])
                size = messages[number].size
            batches[-1].append(number)
        yield batches
        depth += 1


def queue_name(prefix: str, topic: str, group: str) -> str:
    """Return the name of the queue of a group for a topic, of 80 characters at most."""
    return f"{topic_prefix(prefix, topic)}{_named(group)}.fifo"


def topic_prefix(prefix: str, topic: str) -> str:
    """Return how the names of all queues of a topic begin, and no others."""
    return f"{prefix}{_named(topic)}--"


def _named(text: str) -> str:
    """Return `text` in the letters of a queue's name; different texts have different names."""
    if len(text) <= _NAME and _NAMED.fullmatch(text):
        return text.replace(".", "_")
    # two underscores are in no name of the other kind
    plain = re.sub(r"[^A-Za-z0-9]+", "-", text)[: _NAME - 12].strip("-")
    return f"{plain}__{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def _token(text: str) -> str:
    """Return `text` as a message group or deduplication id."""
    if _TOKEN.fullmatch(text):
        return text
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _written(value: bytes) -> tuple[str, str]:
    if not value:
        return "-", "empty"
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = "\0"
    # a carriage return is a newline to whoever reads the message as XML
    if "\r" in text or _NOT_TEXT.search(text):
        return base64.b64encode(value).decode(), "base64"
    return text, "text"


def _read(
    attributes: Mapping[str, str], body: str
) -> tuple[str | None, Mapping[str, str], bytes] | None:
    """Return key, headers and value of a message of ours; None if it is none."""
    if not {"headers", "encoding"} <= attributes.keys():
        return None
    key = msgspec.json.decode(attributes["key"], type=str) if "key" in attributes else None
    headers = msgspec.json.decode(attributes["headers"], type=dict[str, str])
    if attributes["encoding"] == "empty":
        return key, headers, b""
    if attributes["encoding"] == "base64":
        return key, headers, base64.b64decode(body, validate=True)
    return key, headers, body.encode()
