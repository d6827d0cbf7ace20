"""What is wrong with a message is told by the pointer of the field; nothing else is ever raised."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import inf, isnan
from typing import Any

import msgspec
import pytest

from switchgear.contract.codec import (
    codec_of,
    from_builtins,
    from_json,
    from_parts,
    from_proto,
    to_json,
    to_proto,
)
from switchgear.contract.descriptors import message_class
from switchgear.contract.message import Message, field, replace
from switchgear.contract.money import Money
from switchgear.errors import InvalidMessage
from tests.contract.catalogue import (
    Colour,
    Composite,
    Empty,
    GetLeaf,
    Leaf,
    Node,
    Paint,
    Present,
    Scalars,
    a_composite,
    a_scalars,
)

SCALARS = msgspec.json.decode(to_json(a_scalars()))
COMPOSITE = msgspec.json.decode(to_json(a_composite()))


def read(name: str, value: Any) -> Any:
    """Read an example with the field `name` replaced, and return what became of it."""
    cls, tree = (Scalars, SCALARS) if name in SCALARS else (Composite, COMPOSITE)
    return getattr(from_json(cls, msgspec.json.encode({**tree, name: value})), name)


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("number", "-9223372036854775808", -(2**63)),
        ("number", 1.0, 1),
        ("number", msgspec.Raw(b"1e3"), 1000),
        ("number", msgspec.Raw(b"9.223372036854775807e18"), 2**63 - 1),
        ("number", -0.0, 0),
        ("big_natural", "18446744073709551615", 2**64 - 1),
        ("big_natural", 2**64 - 1, 2**64 - 1),
        ("quoted", 5, 5),
        ("quoted", "5", 5),
        ("quoted", 5.0, 5),
        ("ratio", 1, 1.0),
        ("ratio", "1.5", 1.5),
        ("ratio", "-1e-3", -0.001),
        ("ratio", "Infinity", inf),
        ("ratio", "-Infinity", -inf),
        ("small_ratio", msgspec.Raw(b"3.4028235e38"), 3.4028235e38),
        ("blob", "_-8", b"\xff\xef"),
        ("blob", "/+8=", b"\xff\xef"),
        ("blob", "", b""),
        ("price", "1.50", Decimal("1.50")),
        ("price", msgspec.Raw(b"1.50"), Decimal("1.50")),
        ("price", 3, Decimal(3)),
        ("colour", 2, Colour.GREEN),
        ("colour", 77, Colour(77)),
        ("colour", -7, Colour.ODD),
        ("since", "2026-01-31t14:00:00.5+02:00", datetime(2026, 1, 31, 12, 0, 0, 500_000, UTC)),
        ("since", "2026-01-31T12:00:00.123456789Z", datetime(2026, 1, 31, 12, 0, 0, 123457, UTC)),
        ("until", None, None),
        ("length", "3s", timedelta(seconds=3)),
        ("length", "-0.000000500s", timedelta(microseconds=-1)),
        ("length", "315576000000s", timedelta(seconds=315_576_000_000)),
        ("cost", {"currencyCode": "EUR", "units": "-3"}, Money.of(-3, "EUR")),
        ("cost", {"currency_code": "EUR", "later": True}, Money.of(0, "EUR")),
        ("names", {"-5": "a", "7": "b"}, {-5: "a", 7: "b"}),
        ("quoted_numbers", ["1", 2], [1, 2]),
        ("leaf", {"name": "a", "size": "4", "extra": 1}, Leaf(name="a", size=4)),
    ],
)
def test_what_is_read(name: str, value: Any, meant: Any) -> None:
    assert read(name, value) == meant


def test_nan_is_read_and_written() -> None:
    assert isnan(read("ratio", "NaN"))
    for value in (float("nan"), inf, -inf):
        told = to_json(replace(a_scalars(), ratio=value, small_ratio=value))
        again = from_json(Scalars, told)
        assert repr(again.ratio) == repr(again.small_ratio) == repr(value)


@pytest.mark.parametrize(
    ("name", "value", "pointer", "says"),
    [
        ("text", 1, "/text", "expected a string, got a number"),
        ("text", None, "/text", "is null"),
        ("number", True, "/number", "expected an integer, got true or false"),
        ("number", "1.5", "/number", "expected an integer, got a string"),
        ("number", "", "/number", "expected an integer, got a string"),
        ("number", 1.5, "/number", "expected an integer, got a number"),
        ("number", 2**63, "/number", "is out of range for int64"),
        ("number", 10**30, "/number", "is out of range for int64"),
        ("number", msgspec.Raw(b"1e999999999"), "/number", "is out of range for int64"),
        ("number", msgspec.Raw(b"9" * 5000), "/number", "is out of range for int64"),
        ("number", msgspec.Raw(b"1e99999999999999999999"), "/number", "expected an integer"),
        ("small", 2**31, "/small", "is out of range for int32"),
        ("natural", -1, "/natural", "is out of range for uint32"),
        ("big_natural", -1, "/big_natural", "is out of range for uint64"),
        ("big_natural", 2**64, "/big_natural", "is out of range for uint64"),
        ("quoted", "x", "/quoted", "expected an integer, got a string"),
        ("ratio", "1,5", "/ratio", "expected a number, got a string"),
        ("ratio", "infinity", "/ratio", "expected a number, got a string"),
        ("ratio", False, "/ratio", "expected a number, got true or false"),
        ("ratio", msgspec.Raw(b"1e400"), "/ratio", "is out of range for double"),
        ("ratio", msgspec.Raw(b"9" * 400), "/ratio", "is out of range for double"),
        ("small_ratio", 1e39, "/small_ratio", "is out of range for float"),
        ("flag", "true", "/flag", "expected true or false, got a string"),
        ("flag", 1, "/flag", "expected true or false, got a number"),
        ("blob", "?", "/blob", "is not base64"),
        ("blob", [1], "/blob", "expected base64, got an array"),
        ("price", "1,50", "/price", "is not a decimal number"),
        ("price", True, "/price", "expected a decimal number"),
        ("colour", "BLUE", "/colour", "is not one of COLOUR_UNKNOWN, RED, GREEN, ODD"),
        ("colour", "1", "/colour", "is not one of"),
        ("colour", 1.5, "/colour", "expected the name of a Colour, got a number"),
        ("colour", 2**31, "/colour", "is out of range for an enumeration"),
        ("since", "2026-01-31T12:00:00", "/since", "is not a time such as"),
        ("since", "yesterday", "/since", "is not a time such as"),
        ("since", 1_700_000_000, "/since", "expected a time such as"),
        ("length", "PT3S", "/length", "expected a duration such as 1.5s"),
        ("length", 3, "/length", "expected a duration such as 1.5s, got a number"),
        ("length", "315576000001s", "/length", "is out of range"),
        ("cost", {}, "/cost/currency_code", "is missing"),
        ("cost", {"currency_code": "EUR", "units": 1, "nanos": -1}, "/cost", "is refused: nanos"),
        ("cost", {"currency_code": "EUR", "nanos": 10**9}, "/cost", "is refused: nanos"),
        ("leaf", [], "/leaf", "expected an object, got an array"),
        ("leaf", {"name": "a"}, "/leaf/size", "is missing"),
        ("leaves", [{"name": "a", "size": 1}, {"name": "b"}], "/leaves/1/size", "is missing"),
        ("leaves", {}, "/leaves", "expected an array, got an object"),
        ("texts", "a", "/texts", "expected an array, got a string"),
        ("counts", [], "/counts", "expected an object, got an array"),
        ("counts", {"a/b~c": "x"}, "/counts/a~1b~0c", "expected an integer"),
        ("names", {"x": "y"}, "/names/x", "the key expected an integer, got a string"),
        ("names", {"2147483648": "y"}, "/names/2147483648", "the key is out of range"),
        ("inner", {"kind": "NONE"}, "/inner/kind", "is not one of PLAIN, FANCY"),
    ],
)
def test_what_is_wrong(name: str, value: Any, pointer: str, says: str) -> None:
    with pytest.raises(InvalidMessage) as raised:
        read(name, value)
    assert raised.value.pointer == pointer
    assert says in raised.value.what


@pytest.mark.parametrize(
    "name", [name for name in COMPOSITE if name not in {"maybe", "until", "pause", "tip"}]
)
def test_a_missing_field_is_named(name: str) -> None:
    tree = {key: value for key, value in COMPOSITE.items() if key != name}
    with pytest.raises(InvalidMessage, match="is missing") as raised:
        from_json(Composite, msgspec.json.encode(tree))
    assert raised.value.pointer == f"/{name}"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"nan", "is not JSON"),
        (b"{'a': 1}", "is not JSON"),
        (b'{"name": 1,}', "is not JSON"),
        (b'{"name": "a", "size": 1} x', "is not JSON"),
        (b'{"name": "\xff", "size": 1}', "is not UTF-8"),
        (b'{"name": "\\ud800", "size": 1}', "is not JSON"),
        (b'{"name": "a", "size": ' + b"9" * 5000, "is not JSON"),
        (b"\xef\xbb\xbf{}", "is not JSON"),
        ('{"name": "a", "size": 1}'.encode("utf-16"), "is not"),
        (b"[]", "expected an object, got an array"),
        (b"null", "expected an object, got null"),
        (b'"x"', "expected an object, got a string"),
        (b"[" * 100_000, "is nested too deeply"),
        (b'{"x":' * 100_000, "is nested too deeply"),
        (b'{"name": "a", "size": 1, "x": ' + b"[" * 100_000, "is nested too deeply"),
    ],
)
def test_what_is_no_message(data: bytes, says: str) -> None:
    with pytest.raises(InvalidMessage, match=says) as raised:
        from_json(Leaf, data)
    assert raised.value.pointer == ""


def test_a_message_nested_deeply_is_refused() -> None:
    deep = b'{"children":[' * 50_000 + b"]}" * 50_000
    with pytest.raises(InvalidMessage, match="is nested too deeply"):
        from_json(Node, deep)
    proto = b""
    for _ in range(200):
        size = len(proto)
        length = bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])
        proto = b"\x12" + length + proto
    with pytest.raises(InvalidMessage, match="is not protobuf"):
        from_proto(Node, proto)
    node = Node()
    for _ in range(2000):
        node = Node(children=[node])
    with pytest.raises(InvalidMessage):
        to_proto(node)


def test_of_a_name_given_twice_the_last_counts() -> None:
    assert from_json(Leaf, b'{"name":"a","size":1,"name":"b"}') == Leaf(name="b", size=1)
    assert from_json(Leaf, b'{"name":"a","size":"1","name":"b"}') == Leaf(name="b", size=1)


def test_an_unknown_name_is_ignored() -> None:
    assert from_json(Leaf, b'{"name":"a","size":1,"new":{"x":[1]}}') == Leaf(name="a", size=1)
    assert from_json(Empty, b'{"new":1}') == Empty()


def test_json_can_be_read_from_other_buffers() -> None:
    data = b'{"name":"a","size":"1"}'
    assert from_json(Leaf, bytearray(data)) == from_json(Leaf, memoryview(data))  # type: ignore[arg-type]


# Presence in protobuf.


def test_an_absent_scalar_is_zero_whatever_the_default() -> None:
    class Counted(Message):
        count: int = field(1, default=5)
        names: list[str] = field(2, default_factory=lambda: ["a"])

    assert from_proto(Counted, b"") == Counted(count=0, names=[])
    assert from_proto(Counted, to_proto(Counted())) == Counted()
    assert from_proto(Scalars, b"").price == Decimal(0)
    assert from_proto(Scalars, b"").colour is Colour.COLOUR_UNKNOWN


def test_absence_of_a_field_with_presence_is_an_error() -> None:
    whole = message_class(Present)(text="", small_ratio=0, flag=False, colour=0)
    read = from_proto(Present, whole.SerializeToString())
    assert (read.text, read.number, read.fallback) == ("", None, "none")
    whole.ClearField("flag")
    with pytest.raises(InvalidMessage, match="is missing") as raised:
        from_proto(Present, whole.SerializeToString())
    assert raised.value.pointer == "/flag"


def test_a_zero_with_presence_is_written() -> None:
    proto = message_class(Present)(text="", small_ratio=0, flag=False, colour=0, number=0)
    again = to_proto(from_proto(Present, proto.SerializeToString()))
    written = message_class(Present).FromString(again)
    assert written.HasField("number")
    assert written.HasField("text")
    assert not written.HasField("ratio")


def test_an_absent_message_is_an_error() -> None:
    proto = message_class(Composite).FromString(to_proto(a_composite()))
    proto.ClearField("since")
    with pytest.raises(InvalidMessage, match="is missing") as raised:
        from_proto(Composite, proto.SerializeToString())
    assert raised.value.pointer == "/since"


@pytest.mark.parametrize(
    ("damage", "pointer"),
    [
        (lambda proto: setattr(proto.since, "nanos", -1), "/since"),
        (lambda proto: setattr(proto.since, "seconds", 2**60), "/since"),
        (lambda proto: setattr(proto.moments[0], "nanos", 10**9), "/moments/0"),
        (
            lambda proto: setattr(proto.moments_by_name["then"], "nanos", -1),
            "/moments_by_name/then",
        ),
        (lambda proto: setattr(proto.length, "nanos", 1), "/length"),
        (lambda proto: setattr(proto.length, "seconds", -(10**12)), "/length"),
        (lambda proto: setattr(proto.cost, "nanos", -1), "/cost"),
        (lambda proto: proto.prices.append("x"), "/prices/1"),
        (lambda proto: setattr(proto.scalars[0], "price", "x"), "/scalars/0/price"),
    ],
)
def test_what_is_wrong_in_protobuf(damage: Any, pointer: str) -> None:
    proto = message_class(Composite).FromString(to_proto(a_composite()))
    damage(proto)
    with pytest.raises(InvalidMessage) as raised:
        from_proto(Composite, proto.SerializeToString())
    assert raised.value.pointer == pointer


@pytest.mark.parametrize("data", [b"\xff", b"\x0a\x05abc", b"\x0a\x01\xff"])
def test_what_is_no_protobuf(data: bytes) -> None:
    with pytest.raises(InvalidMessage, match="is not protobuf"):
        from_proto(Leaf, data)


# What cannot be written.


@pytest.mark.parametrize("write", [to_json, to_proto])
@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"since": datetime(2026, 1, 1)}, "/since"),  # noqa: DTZ001
        ({"moments": [datetime(2026, 1, 1)]}, "/moments/0"),  # noqa: DTZ001
        ({"length": timedelta(days=10**7)}, "/length"),
        ({"texts": ["a", "\ud800"]}, "/texts/1"),
        ({"since": "now"}, "/since"),
    ],
)
def test_what_cannot_be_written(write: Any, changes: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidMessage) as raised:
        write(replace(a_composite(), **changes))
    assert raised.value.pointer == pointer


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"numbers": [2**63]}, "/numbers/0"),
        ({"numbers": 5}, "/numbers"),
        ({"leaf": "oak"}, "/leaf"),
        ({"leaves": [None]}, "/leaves/0"),
        ({"colours": [3]}, "/colours/0"),
        ({"names": {"a": "b"}}, "/names/a"),
        ({"leaf": Leaf(name=3, size=1)}, "/leaf/name"),  # type: ignore[arg-type]
    ],
)
def test_what_does_not_fit_into_protobuf(changes: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidMessage) as raised:
        to_proto(replace(a_composite(), **changes))
    assert raised.value.pointer == pointer


def test_a_time_of_another_zone_is_written_in_utc() -> None:
    zoned = from_json(
        Composite, to_json(a_composite()).replace(b"12:00:00.250000Z", b"14:00:00.25+02:00")
    )
    assert zoned == a_composite()
    assert to_json(zoned) == to_json(a_composite())


# Parameters.


def test_parameters_are_read_by_the_type_of_the_field() -> None:
    assert from_builtins(GetLeaf, {"name": "12", "limit": "5", "colours": ["RED", "7"]}) == GetLeaf(
        name="12", limit=5, colours=[Colour.RED, Colour(7)]
    )
    assert from_builtins(GetLeaf, {"name": "a", "colours": "GREEN", "utm": "x"}) == GetLeaf(
        name="a", colours=[Colour.GREEN]
    )
    read = from_builtins(
        Scalars, {name: str(value) for name, value in SCALARS.items()} | {"flag": "true"}
    )
    assert read == a_scalars()
    with pytest.raises(InvalidMessage) as raised:
        from_builtins(GetLeaf, {"name": "a", "limit": "many"})
    assert raised.value.pointer == "/limit"


def test_values_of_python_are_taken_as_they_are() -> None:
    whole = a_composite()
    values = {name: getattr(whole, name) for name in COMPOSITE}
    assert from_builtins(Composite, values) == whole


def test_a_body_and_parameters() -> None:
    assert from_parts(Paint, b'{"colour":"RED"}', {"name": "oak"}) == Paint(
        name="oak", colour=Colour.RED, wait=None
    )
    assert from_parts(Paint, b'{"name":"elm","colour":1,"wait":"3s"}', {"name": "oak"}) == Paint(
        name="oak", colour=Colour.RED, wait=timedelta(seconds=3)
    )
    assert from_parts(Leaf, b"{}", {"name": "oak", "size": "3"}) == Leaf(name="oak", size=3)
    assert codec_of(Leaf).from_parts(b'{"size":1}', {"name": "x"}) == Leaf(name="x", size=1)
    with pytest.raises(InvalidMessage) as raised:
        from_parts(Leaf, b"{}", {"name": "oak", "size": "x"})
    assert raised.value.pointer == "/size"
    for data in (b"", b"[]", b"null", b"[" * 100_000):
        with pytest.raises(InvalidMessage):
            from_parts(Leaf, data, {"name": "oak"})


def test_a_check_of_the_message_itself_is_told() -> None:
    class Range(Message):
        low: int = field(1)
        high: int = field(2)

        def __post_init__(self) -> None:
            if self.low > self.high:
                raise ValueError("low is above high")

    class Holder(Message):
        ranges: list[Range] = field(1)

    for wrong in (
        lambda: from_json(Holder, b'{"ranges":[{"low":1,"high":2},{"low":3,"high":2}]}'),
        lambda: from_proto(Holder, b"\x0a\x04\x08\x01\x10\x02\x0a\x04\x08\x03\x10\x02"),
    ):
        with pytest.raises(InvalidMessage, match="low is above high") as raised:
            wrong()
        assert raised.value.pointer == "/ranges/1"
