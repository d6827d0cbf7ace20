"""What only contracts of others have: proto2, editions, groups, oneofs, well-known types."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from switchgear.contract.codec import from_json, from_proto, to_json, to_proto
from switchgear.contract.descriptors import file_descriptors, message_class
from switchgear.contract.enums import Enum, member
from switchgear.contract.file import ProtoFile
from switchgear.contract.kinds import Int64Value, Struct, Value
from switchgear.contract.message import Message, field, which_oneof
from switchgear.contract.wellknown import AnyMessage, FieldMask
from switchgear.errors import ContractError, InvalidMessage
from tests.contract.foreign import FOREIGN, NEW, OLD, Choice, Legacy, Modern, Mood, WellKnown
from tests.contract.protoc import Protoc


@pytest.fixture(scope="module")
def protoc(tmp_path_factory: pytest.TempPathFactory) -> Protoc:
    return Protoc(tmp_path_factory.mktemp("proto"), *FOREIGN)


def test_protoc_compiles_the_export_to_the_run_time_descriptors(protoc: Protoc) -> None:
    ours = {file.name: file for file in file_descriptors(*FOREIGN).file if "acme" in file.name}
    assert protoc.compiled() == ours


def test_the_text_of_an_old_file(protoc: Protoc) -> None:
    text = protoc.files["acme/old/legacy.proto"]
    assert 'syntax = "proto2";\n\npackage acme.old;\n\noption go_package = "acme.com/old";' in text
    assert "  extensions 100 to 199;" in text
    assert "  required string name = 1;" in text
    assert "  optional int32 size = 3 [default = 5" in text
    assert "  optional group Kept = 9 [" in text or "  optional group Kept = 9 {" in text
    assert "  // Said of the group.\n  repeated group Many = 10 {\n    // Said.\n" in text
    assert '  reserved 9;\n  reserved "MOOD_SAD";' in text
    assert "  // As usual.\n  MOOD_GOOD = 1;" in text
    assert "  MOOD_FINE = 1 [deprecated = true];" in text
    assert "  None = 3;" in text


def test_the_text_of_a_oneof(protoc: Protoc) -> None:
    text = protoc.files["acme/pay/v1/pay.proto"]
    assert "  oneof payment {\n    string card = 2;\n    string iban = 3;" in text
    assert "  repeated string import = 7;" in text


def test_at_most_one_member_of_a_oneof_is_there() -> None:
    with pytest.raises(ValueError, match="card and iban are both given: payment is one of them"):
        Choice(order_id="1", card="c", iban="i", ReadMe=False)
    with pytest.raises(InvalidMessage, match="both given"):
        from_json(Choice, b'{"orderId":"1","card":"c","iban":"i","ReadMe":false}')
    one = Choice(order_id="1", iban="", ReadMe=False)
    assert which_oneof(one, "payment") == "iban"
    assert which_oneof(from_proto(Choice, to_proto(one)), "payment") == "iban"
    assert which_oneof(Choice(order_id="1", ReadMe=False), "payment") is None
    with pytest.raises(ValueError, match="no oneof 'pay'"):
        which_oneof(one, "pay")


def test_both_names_of_a_field_are_read_from_json_also_where_it_has_a_default() -> None:
    for name in ("firstNote", "first_note"):
        data = b'{"order_id":"1","%s":"n","ReadMe":true}' % name.encode()
        assert from_json(Choice, data).first_note == "n"
    assert b'"firstNote":"n"' in to_json(Choice(order_id="1", first_note="n", ReadMe=True))


def test_what_is_required_is_missed() -> None:
    with pytest.raises(InvalidMessage, match="is missing") as raised:
        from_proto(Legacy, b"")
    assert raised.value.pointer == "/name"


def test_defaults_of_an_old_file_stand_for_absence() -> None:
    bare = message_class(Legacy)()
    bare.name, bare.mood = "n", 1
    read = from_proto(Legacy, bare.SerializeToString())
    assert (read.size, read.ratio, read.blob, read.state) == (5, 1.5, b"\x00\xff\"'", Mood.BAD)


def test_an_unknown_number_of_a_closed_enumeration_is_kept_out_of_sight() -> None:
    bare = message_class(Legacy)()
    bare.name, bare.mood = "n", 1
    data = bare.SerializeToString() + bytes([7 << 3, 77, 14 << 3, 78])
    read = from_proto(Legacy, data)
    assert read.state is Mood.BAD
    assert read.moods == []
    again = message_class(Legacy).FromString(to_proto(read))
    unknown = to_proto(read)
    assert bytes([7 << 3, 77]) in unknown
    assert bytes([14 << 3, 78]) in unknown
    assert again.name == "n"
    with pytest.raises(InvalidMessage, match="is not a number of an enumeration"):
        from_json(Legacy, b'{"name":"n","mood":7,"many":[],"loose":[],"packed":[],"moods":[]}')


def test_names_of_members_on_the_wires() -> None:
    assert to_json(
        Legacy(name="n", mood=Mood.None_, many=[], loose=[], packed=[], moods=[Mood.BAD])
    )
    assert Mood("MOOD_FINE") is Mood.GOOD  # type: ignore[arg-type]
    assert Mood.None_._value_ == "None"
    with pytest.raises(ValueError, match="77"):
        Mood(77)


def test_two_enumerations_of_a_package_share_a_name_with_prefixes() -> None:
    class First(Enum, package="twin.v1", prefix="FIRST_"):
        UNSPECIFIED = 0

    class Second(Enum, package="twin.v1", prefix="SECOND_"):
        UNSPECIFIED = 0

    class Both(Message, package="twin.v1"):
        first: First = field(1)
        second: Second = field(2)

    assert to_json(Both(first=First.UNSPECIFIED, second=Second.UNSPECIFIED)) == (
        b'{"first":"FIRST_UNSPECIFIED","second":"SECOND_UNSPECIFIED"}'
    )


def test_well_known_types_in_json() -> None:
    choice = Choice(order_id="1", ReadMe=True)
    message = WellKnown(
        number=2**53,
        texts=[""],
        by_name={"a": 1},
        struct={"a": [1.5, None, {"b": True}]},
        mask=FieldMask(("name", "home_town.city")),
        any=AnyMessage.pack(choice),
        switches={True: "on"},
        values=[None, "x"],
        blobs={"b": b"\xff"},
    )
    told = msgspec.json.decode(to_json(message))
    assert told["number"] == 2**53
    assert told["struct"] == {"a": [1.5, None, {"b": True}]}
    assert told["mask"] == "name,homeTown.city"
    assert told["any"] == {
        "@type": "type.googleapis.com/acme.pay.v1.Choice",
        **msgspec.json.decode(to_json(choice)),
    }
    assert told["switches"] == {"true": "on"}
    assert told["values"] == [None, "x"]
    assert "value" not in told  # null would be a value
    assert from_json(WellKnown, to_json(message)) == message
    assert message.any is not None
    assert message.any.read() == choice
    with pytest.raises(InvalidMessage, match=r"is a acme\.pay\.v1\.Choice"):
        message.any.unpack(Modern)


@pytest.mark.parametrize(
    ("data", "pointer"),
    [
        (b'{"any":{"@type":"x/no.Such"}}', "/any"),
        (b'{"any":{"a":1}}', "/any"),
        (b'{"mask":"a_b"}', "/mask"),
        (b'{"struct":[]}', "/struct"),
        (b'{"listValue":{}}', "/listValue"),
        (b'{"switches":{"yes":"x"}}', "/switches/yes"),
        (b'{"number":"x"}', "/number"),
        (b'{"small":4294967296}', "/small"),
    ],
)
def test_a_wrong_well_known_value_is_pointed_at(data: bytes, pointer: str) -> None:
    whole = msgspec.json.decode(
        to_json(WellKnown(texts=[], by_name={}, switches={}, values=[], blobs={}))
    )
    with pytest.raises(InvalidMessage) as raised:
        from_json(WellKnown, msgspec.json.encode(whole | msgspec.json.decode(data)))
    assert raised.value.pointer == pointer


class Twisted(Message, package="acme.twisted"):
    struct: Struct = field(1)
    value: Value | None = field(2, default=None)
    wide: Int64Value | None = field(3, default=None)


@pytest.mark.parametrize("bad", [{"a": object()}, {"a": float("nan")}, {"a": {1: 2}}])
def test_a_struct_of_something_else_is_not_written(bad: dict[str, object]) -> None:
    with pytest.raises(InvalidMessage):
        to_json(Twisted(struct=bad))


MEMBER = "m{0}: str | None = field({0}, oneof='o')"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (f"{MEMBER.format(1)}; b: int = field(2); {MEMBER.format(3)}", "side by side"),
        ("a: str = field(1, oneof='o')", "absent where another is there"),
        ("a: str | None = field(1, oneof='a')", "cannot be called 'a'"),
        ("a: str | None = field(1, required=True)", "never None"),
        ("a: str = field(1, delimited=True)", "delimited=True is for messages"),
        ("a: str = field(1, options='no such thing')", "options cannot be read"),
        ("a: 'M | None' = field(1, delimited=True)", "a group declares a message of its own"),
        ("a: str = field(1)", "Its file tells absence from zero, and its type does not."),
    ],
)  # fmt: skip
def test_a_mistake_is_told(body: str, says: str) -> None:
    code = f"class M(Message, package=OLD):\n {body}\n"
    scope = {"Message": Message, "field": field, "OLD": OLD, "__name__": "made"}
    with pytest.raises(ContractError, match=says):
        exec(code, scope)  # noqa: S102 - from the list above
        message_class(scope["M"])  # type: ignore[arg-type]


def test_a_closed_enumeration_of_an_open_file_is_refused() -> None:
    class Closed(Enum, package=NEW, closed=True):
        ZERO = 0

    class Holder(Message, package=NEW):
        closed: Closed = field(1)

    with pytest.raises(ContractError, match="Its file makes it open"):
        message_class(Holder)


def test_members_are_checked() -> None:
    with pytest.raises(ContractError, match="which is reserved"):

        class Taken(Enum, reserved=(range(1, 3),)):
            ZERO = 0
            TWO = 2

    with pytest.raises(ContractError, match=r"both have the number 0.*aliases=True"):

        class Twice(Enum):
            ZERO = 0
            NULL = member(0)


def test_a_syntax_that_does_not_exist() -> None:
    with pytest.raises(ContractError, match="'2030' is no syntax"):
        ProtoFile("a.proto", "a", syntax="2030")  # type: ignore[arg-type]


def test_two_files_of_one_path_have_to_agree(tmp_path: Path) -> None:
    class A(Message, package=ProtoFile("same.proto", "same")):
        pass

    class B(Message, package=ProtoFile("same.proto", "same", options='go_package: "x"')):
        pass

    with pytest.raises(ContractError, match="different things of their file"):
        file_descriptors(A, B)


def test_text_that_is_not_unicode_is_refused_where_protobuf_lets_it_pass() -> None:
    class Named(Message, package=ProtoFile("acme/named.proto", "acme.named", syntax="proto2")):
        name: str | None = field(1, default=None)
        names: list[str] = field(2, default_factory=list)
        by_name: dict[str, str] = field(3, default_factory=dict)
        other: Named | None = field(4, default=None)

    good = Named(name="a", names=["b"], by_name={"c": "d"}, other=Named(name="e"))
    assert from_proto(Named, to_proto(good)) == good
    for data, pointer in (
        (b"\x0a\x01\xff", "/name"),
        (b"\x12\x01a\x12\x01\xff", "/names/1"),
        (b"\x1a\x06\x0a\x01a\x12\x01\xff", "/by_name/a"),
        (b"\x1a\x06\x0a\x01\xff\x12\x01a", ""),
        (b"\x22\x03\x0a\x01\xff", "/other/name"),
    ):
        with pytest.raises(InvalidMessage) as caught:
            from_proto(Named, data)
        assert caught.value.pointer == pointer
