"""Extensions and options of somebody's own: declared, exported, read and written."""

from __future__ import annotations

import pytest
from google.protobuf.message_factory import GetMessageClass

from switchgear import extended, extensions_of
from switchgear.contract.codec import from_proto, to_json, to_proto
from switchgear.contract.descriptors import descriptor_pool
from switchgear.contract.enums import Enum
from switchgear.contract.export import proto_files
from switchgear.contract.file import ProtoFile
from switchgear.contract.kinds import Int32
from switchgear.contract.message import Message, field
from switchgear.errors import ContractError, InvalidMessage

FILE = ProtoFile("acme/old.proto", "acme.old", syntax="proto2")
OPTIONS = ProtoFile("acme/marks.proto", "acme.marks")


class Order(Message, package=FILE, extensions=(range(100, 200),)):
    order_id: str | None = field(1, default=None)


class Line(Message, package=FILE):
    class Lines(Message, package=FILE, extends="Order"):
        """What belongs to an order."""

        lines: list[Line] = field(110, default_factory=list)

    sku: str | None = field(1, default=None)


class Priority(Message, package=FILE, extends=Order):
    priority: Int32 = field(100, default=5, presence=True, doc="How soon.")
    seller: str | None = field(101, default=None)


class Marks(Message, package=OPTIONS, extends="google.protobuf.FieldOptions"):
    sensitive: bool | None = field(51000, default=None, presence=True)


class Person(Message, package=OPTIONS):
    name: str = field(1, options="[acme.marks.sensitive]: true")


ROOTS = (Order, Line, Line.Lines, Priority)


def test_extensions_are_exported_as_such() -> None:
    files = proto_files(*ROOTS, Marks, Person)
    text = files["acme/old.proto"]
    assert (
        "extend Order {\n"
        "  // How soon.\n"
        "  optional int32 priority = 100 [default = 5];\n"
        "  optional string seller = 101;\n"
        "}\n"
    ) in text
    assert "  extend Order {\n    repeated Line lines = 110;\n  }\n" in text
    assert "message Priority" not in text
    text = files["acme/marks.proto"]
    assert "extend google.protobuf.FieldOptions {\n  optional bool sensitive = 51000;\n}" in text
    assert "string name = 1 [(acme.marks.sensitive) = true];" in text
    assert 'import "google/protobuf/descriptor.proto";' in text


def test_extensions_are_read_out_of_a_message_and_put_back() -> None:
    theirs = GetMessageClass(
        (pool := descriptor_pool(*ROOTS)).FindMessageTypeByName("acme.old.Order")
    )(order_id="o")
    extensions = {one.name: one for one in pool.FindAllExtensions(theirs.DESCRIPTOR)}
    theirs.Extensions[extensions["priority"]] = 9
    theirs.Extensions[extensions["lines"]].add(sku="s")
    order = from_proto(Order, theirs.SerializeToString())
    assert extensions_of(order, Priority) == Priority(priority=9)
    assert extensions_of(order, Line.Lines) == Line.Lines(lines=[Line(sku="s")])

    changed = extended(order, Priority(priority=1, seller="me"))
    assert extensions_of(changed, Priority) == Priority(priority=1, seller="me")
    assert extensions_of(changed, Line.Lines) == extensions_of(order, Line.Lines)
    assert extensions_of(order, Priority) == Priority(priority=9), "messages are frozen"
    again = type(theirs).FromString(to_proto(changed))
    assert again.Extensions[extensions["priority"]] == 1
    assert again.Extensions[extensions["seller"]] == "me"
    assert b"seller" not in to_json(changed)
    assert extensions_of(Order(), Priority) == Priority(priority=5)


def test_extensions_of_another_message_are_refused() -> None:
    with pytest.raises(ContractError, match="does not extend Line"):
        extensions_of(Line(), Priority)
    with pytest.raises(ContractError, match="does not extend Line"):
        extended(Line(), Priority())
    with pytest.raises(ContractError, match="does not extend Order"):
        extensions_of(Order(), Line)
    order = from_proto(Order, to_proto(Line(sku="s")) + b"\xa2\x06\x01\xff")  # 100 is a string here
    assert extensions_of(order, Priority) == Priority(priority=5)
    order = from_proto(Order, b"\xaa\x06\x01\xff")
    with pytest.raises(InvalidMessage, match="/seller: is not a string"):
        extensions_of(order, Priority)


def test_a_codec_has_no_need_of_options_that_are_declared_elsewhere() -> None:
    assert from_proto(Person, to_proto(Person(name="n"))) == Person(name="n")
    with pytest.raises(ContractError, match=r"\"acme.marks.sensitive\" not registered"):
        proto_files(Person)
    assert proto_files(Person, Marks)


def _declared(**said):
    def declare(annotation="int | None", number=100, extends=Order, body=None, **spec):
        namespace = {
            "__module__": __name__,
            "__qualname__": "Made",
            "__annotations__": {"made": annotation},
            "made": field(number, **spec),
            **(body or {}),
        }
        return type(Message)("Made", (Message,), namespace, package=FILE, extends=extends, **said)

    return declare


@pytest.mark.parametrize(
    ("says", "declare"),
    [
        ("offers no|does not offer", lambda: _declared()(number=99)),
        ("no map", lambda: _declared()(annotation="dict[str, str]")),
        ("no map", lambda: _declared()(annotation="int", required=True)),
        ("no map", lambda: _declared()(oneof="a")),
        ("no map", lambda: _declared()(json="other")),
        ("is not a message", lambda: _declared()(extends=int)),
        ("is not a message", lambda: _declared()(extends=5)),
        ("nothing else", _declared(reserved=(7,))),
        ("nothing else", _declared(options="deprecated: true")),
        ("nothing else", lambda: _declared()(body={"Inner": Enum})),
        ("holds extensions", lambda: _declared()(annotation="Priority | None")),
        ("scalar members of a oneof", lambda: _declared()(wire_default="5")),
    ],
)
def test_what_an_extension_cannot_be(says, declare) -> None:
    with pytest.raises(ContractError, match=says):
        declare()


def test_an_extension_that_protobuf_reads_otherwise_is_refused() -> None:
    made = _declared()(annotation="int", default=0)
    with pytest.raises(ContractError, match="tells absence from zero"):
        descriptor_pool(made)


def test_visibility_is_for_those_editions_that_have_it() -> None:
    edition = ProtoFile("acme/new.proto", "acme.new", syntax="2024")

    class Seen(Message, package=edition, visibility="local"):
        class Kind(Enum, package=edition, visibility="export", closed=False):
            ANY = 0

        kind: Kind | None = field(1, default=None)

    text = proto_files(Seen)["acme/new.proto"]
    assert "\nlocal message Seen {\n  export enum Kind {" in text

    class Early(Message, package=FILE, visibility="local"):
        pass

    with pytest.raises(ContractError, match="A proto2 file does not say who may see it"):
        proto_files(Early)

    class Wrong(Message, package=edition, visibility="everybody"):
        pass

    with pytest.raises(ContractError, match="'everybody' does not say who may see it"):
        proto_files(Wrong)


def test_options_of_a_oneof_that_is_not_there_are_refused() -> None:
    with pytest.raises(ContractError, match="no oneof way"):

        class Made(Message, package=FILE, oneof_options={"way": "[acme.marks.needed]: true"}):
            a: int | None = field(1, oneof="other")


def test_a_number_that_two_extensions_have_is_refused() -> None:
    other = _declared()(annotation="int | None", number=101)
    with pytest.raises(ContractError, match="protobuf refuses the file"):
        descriptor_pool(*ROOTS, other)
