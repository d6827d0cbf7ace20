"""Fields that would be called the same in JSON: refused where protoc refuses them, else apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from switchgear.contract.codec import from_json, from_proto, to_json, to_proto
from switchgear.contract.export import proto_files
from switchgear.contract.file import ProtoFile
from switchgear.contract.importer import import_proto
from switchgear.contract.library import load_library
from switchgear.contract.message import Message, field
from switchgear.contract.protoc import Tree, compile_trees
from switchgear.errors import ContractError, UnreadableContract

BOTH_MADE = "int32 foo_bar = 1;", "int32 fooBar = 2;"
ONE_SAID = 'int32 a = 1 [json_name = "b"];', "int32 b = 2;"
BOTH_SAID = 'int32 a = 1 [json_name = "x"];', 'int32 b = 2 [json_name = "x"];'
ALLOWED = "option deprecated_legacy_json_field_conflicts = true;"
BEST_EFFORT = "option features.json_format = LEGACY_BEST_EFFORT;"
HEADS = {
    "proto2": 'syntax = "proto2";',
    "proto3": 'syntax = "proto3";',
    "2023": 'edition = "2023";',
}


@pytest.mark.parametrize("fields", [BOTH_MADE, ONE_SAID, BOTH_SAID])
@pytest.mark.parametrize("options", ["", ALLOWED, BEST_EFFORT])
@pytest.mark.parametrize("syntax", HEADS)
def test_a_file_of_others_is_taken_if_protoc_takes_it(
    tmp_path: Path, syntax: str, options: str, fields: tuple[str, str]
) -> None:
    label = "optional " if syntax == "proto2" else ""
    inside = " ".join(f"{label}{one}" for one in fields)
    text = f"{HEADS[syntax]}\npackage a.v1;\nmessage A {{ {options} {inside} }}\n"
    (tmp_path / "a.proto").write_text(text)
    refused = options == "" and (syntax != "proto2" or fields == BOTH_SAID)
    refused |= options == BEST_EFFORT and (syntax != "2023" or fields == BOTH_SAID)
    if refused:  # by protoc, of which features in what is no edition are another mistake
        with pytest.raises(UnreadableContract):
            import_proto(tmp_path / "a.proto")
        return
    module = tmp_path / "names_of_a.py"
    module.write_text(import_proto(tmp_path / "a.proto"))
    library = load_library(str(module))
    message = library.module.A(**dict(zip(library.module.A.__annotations__, (1, 2), strict=True)))
    assert from_json(type(message), to_json(message)) == message
    assert from_proto(type(message), to_proto(message)) == message
    # what is exported says of JSON what the file said
    ours = tmp_path / "ours" / "a.proto"
    ours.parent.mkdir()
    ours.write_text(proto_files(library.module.A)["a.proto"])
    trees = [Tree(one.parent, ("a.proto",)) for one in (tmp_path / "a.proto", ours)]
    assert len(set(compile_trees(*trees, source_info=False))) == 1


@pytest.mark.parametrize("syntax", HEADS)
def test_a_declaration_is_refused_where_protoc_would_refuse_its_file(syntax: str) -> None:
    file = ProtoFile("a/v1/a.proto", "a.v1", syntax=syntax, camel=True)  # type: ignore[arg-type]

    def made() -> None:
        class Made(Message, package=file):
            foo_bar: int | None = field(1)
            fooBar: int | None = field(2)  # noqa: N815

    def half() -> None:
        class Half(Message, package=file):
            a: int | None = field(1, json="b")
            b: int | None = field(2)

    def other() -> None:
        class Other(Message, package=file):
            foo_bar: int | None = field(1, json="other")
            fooBar: int | None = field(2)  # noqa: N815

    def said() -> None:
        class Said(Message, package=file):
            a: int | None = field(1, json="x")
            b: int | None = field(2, json="x")

    for declare, what in (
        (made, "foo_bar and fooBar are both fooBar in protobuf's JSON.*Rename one: protoc refuses"),
        (other, "foo_bar and fooBar are both fooBar in protobuf's JSON.*whatever json= says"),
        (half, "a and b are both b in protobuf's JSON.*Give one of them another name with json="),
        (said, "a and b are both x in protobuf's JSON.*Give one of them another name with json="),
    ):
        if syntax == "proto2" and declare is not said:
            declare()
        else:
            with pytest.raises(ContractError, match=what):
                declare()


def test_our_own_fields_too() -> None:
    with pytest.raises(ContractError, match="foo_bar and foo__bar are both fooBar"):

        class Made(Message, package="a.v1"):
            foo_bar: int = field(1)
            foo__bar: int = field(2)

    with pytest.raises(ContractError, match="a and b are both b"):

        class Half(Message, package="a.v1"):
            a: int = field(1, json="b")
            b: int = field(2)

    class Allowed(Message, package="a.v1", options="deprecated_legacy_json_field_conflicts: true"):
        foo_bar: int = field(1)
        foo__bar: int = field(2, json="foo_bar")

    message = Allowed(foo_bar=1, foo__bar=2)
    assert to_json(message) == b'{"foo_bar":1,"foo__bar":2}'
    assert from_json(Allowed, to_json(message)) == message
    assert from_proto(Allowed, to_proto(message)) == message


def test_two_fields_of_one_name_are_refused() -> None:
    with pytest.raises(ContractError, match=r"Two fields are called a\."):

        class Twice(Message, package="a.v1"):
            a: int = field(1)
            b: int = field(2, name="a")
