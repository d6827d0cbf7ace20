"""What is written is what is read, on both wires, here and in protobuf's own JSON."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from switchgear.contract.as_json import _exact_tree
from switchgear.contract.codec import from_json, from_proto, to_json, to_proto
from switchgear.contract.descriptors import message_class
from switchgear.contract.message import Message
from switchgear.contract.reading import read_message
from switchgear.errors import InvalidMessage
from tests.contract.catalogue import ALL, Composite, a_composite, messages

anything = st.sampled_from(ALL).flatmap(messages)


def serialized(proto: Any) -> bytes:
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


@given(anything)
def test_protobuf_gives_back_what_it_was_given(message: Message) -> None:
    assert from_proto(type(message), to_proto(message)) == message


@given(anything)
def test_json_gives_back_what_it_was_given(message: Message) -> None:
    assert from_json(type(message), to_json(message)) == message


@given(anything)
def test_protobufs_own_parser_reads_our_json_as_the_same_bytes(message: Message) -> None:
    made = message_class(type(message))
    # the type of an Any is looked up in the pool
    pool = made.DESCRIPTOR.file.pool
    parsed = json_format.Parse(to_json(message), made(), descriptor_pool=pool)
    again = message_class(type(message)).FromString(to_proto(message))
    assert serialized(parsed) == serialized(again)


@given(anything)
def test_we_read_the_json_of_protobufs_own_printer(message: Message) -> None:
    proto = message_class(type(message)).FromString(to_proto(message))
    pool = proto.DESCRIPTOR.file.pool
    told = json_format.MessageToJson(
        proto, always_print_fields_with_no_presence=True, descriptor_pool=pool
    )
    # By bytes: a float of 32 bits is printed short, and is then another float of 64.
    assert to_proto(from_json(type(message), told.encode())) == to_proto(message)


@given(anything)
def test_the_two_readers_agree(message: Message) -> None:
    data = to_json(message)
    assert read_message(type(message), _exact_tree(data)) == from_json(type(message), data)


@given(anything)
def test_messages_from_both_wires_are_written_alike(message: Message) -> None:
    cls = type(message)
    assert to_json(from_proto(cls, to_proto(message))) == to_json(
        from_proto(cls, to_proto(from_json(cls, to_json(message))))
    )


def test_an_example_with_everything() -> None:
    message = a_composite()
    assert from_proto(Composite, to_proto(message)) == message
    assert from_json(Composite, to_json(message)) == message


def test_the_json_is_as_documented() -> None:
    told = msgspec.json.decode(to_json(a_composite()))
    assert told["since"] == "2026-01-31T12:00:00.250000Z"
    assert told["length"] == "-1.5s"
    assert told["pause"] == "86400s"
    assert told["lengths"] == ["0s", "0.000001s"]
    assert told["cost"] == {"currency_code": "EUR", "units": 12, "nanos": 500_000_000}
    assert told["ratios"] == [0.5, "Infinity"]
    assert told["blobs"] == ["", "//4="]
    assert told["prices"] == ["1.50"]
    assert told["colours"] == ["RED", 99]
    assert told["inner"] == {"kind": "FANCY"}
    assert told["names"] == {"-1": "minus"}
    assert told["wide_names"] == {"18446744073709551615": "GREEN"}
    assert told["quoted_numbers"] == ["9007199254740993"]
    assert told["numbers"] == [1, -(2**63)]
    assert told["scalars"][0]["quoted"] == "9007199254740993"
    assert told["scalars"][0]["big_natural"] == 2**64 - 1
    assert told["node"]["leaf"] is None


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "NaN", "1", "-1.5", "1s", "RED", "AA==", "2026-01-01T00:00:00Z", "ü"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """The JSON of a message with one value replaced."""
    tree = msgspec.json.decode(to_json(a_composite()))
    holder: Any = tree
    while True:
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        key = draw(st.sampled_from(keys))
        inside = holder[key]
        if not (isinstance(inside, dict | list) and inside) or draw(st.booleans()):
            holder[key] = draw(json_values)
            return msgspec.json.encode(tree)
        holder = inside


@given(damaged())
def test_damaged_json_is_read_the_same_way_by_both_readers_or_by_none(data: bytes) -> None:
    first = outcome(lambda: from_json(Composite, data))
    second = outcome(lambda: read_message(Composite, _exact_tree(data)))
    assert repr(first) == repr(second)  # NaN is not equal to itself
    if isinstance(first, str):
        assert resolves(first, msgspec.json.decode(data))
    else:
        written = to_proto(first)
        assert to_proto(from_proto(Composite, written)) == written


def outcome(read: Callable[[], Composite]) -> Composite | str:
    """Return what is read, or else the pointer of what is wrong."""
    try:
        return read()
    except InvalidMessage as error:
        return error.pointer


def resolves(pointer: str, tree: Any) -> bool:
    """Whether all but the last part of a pointer lead somewhere (the last may be missing)."""
    parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
    for part in parts[:-1]:
        tree = tree[int(part)] if isinstance(tree, list) else tree[part]
    return True


@given(st.sampled_from(ALL), st.binary(max_size=40))
def test_no_bytes_raise_anything_but_invalid_message(cls: type[Message], data: bytes) -> None:
    for read in (from_json, from_proto):
        with suppress(InvalidMessage):
            read(cls, data)


@given(st.data())
def test_damaged_protobuf_raises_nothing_but_invalid_message(data: st.DataObject) -> None:
    whole = bytearray(to_proto(a_composite()))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        message = from_proto(Composite, bytes(whole))
    except InvalidMessage:
        return
    to_proto(message)
