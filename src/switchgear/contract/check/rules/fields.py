"""buf's rules about fields and extensions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from switchgear.contract.check.features import PROTO3, Features
from switchgear.contract.check.finding import BYTES, CODE, JSON, Found
from switchgear.contract.check.pairs import Pairs
from switchgear.contract.check.rules.defaults import can_have_default, default_of, same_default
from switchgear.contract.check.rules.registry import rule
from switchgear.contract.check.rules.text import beside, declared
from switchgear.contract.check.schema import (
    FIELD_DEFAULT,
    FIELD_JSON,
    FIELD_NAME,
    FIELD_OPTIONS,
    FIELD_TYPE,
    FIELD_TYPE_NAME,
    FILE_OPTIONS,
    TYPE_BYTES,
    TYPE_STRING,
    Field,
    Path,
)

_CTYPE, _JSTYPE, _FEATURES, _UTF8 = 1, 6, 21, 4
_JAVA_STRING_CHECK = 27
_CORD, _STRING_PIECE = 1, 2
_CPP_CORD, _CPP_STRING = 2, 3
_HOLDS_TYPE: Final = {"message", "group", "enum"}
_WIDE: Final = {"int64", "sint64", "uint64", "fixed64", "sfixed64"}

_WIRE_GROUPS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("int32", "int64", "uint32", "uint64", "bool"), "varint"),
    **dict.fromkeys(("sint32", "sint64"), "zigzag"),
    **dict.fromkeys(("fixed32", "sfixed32"), "four bytes"),
    **dict.fromkeys(("fixed64", "sfixed64"), "eight bytes"),
}
"""Kinds whose bytes are read as each other (protobuf.dev, "Updating A Message Type")."""
_JSON_GROUPS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("int32", "uint32"), "varint of 32 bits"),
    **dict.fromkeys(("int64", "uint64"), "varint of 64 bits"),
    **dict.fromkeys(("fixed32", "sfixed32"), "four bytes"),
    **dict.fromkeys(("fixed64", "sfixed64"), "eight bytes"),
}
"""Kinds whose bytes and whose JSON are read as each other."""
_CARDINALITY_GROUPS: Final[Mapping[str, str]] = {
    "optional with explicit presence": "optional",
    "optional with implicit presence": "optional",
}


@rule("FIELD_SAME_NAME", Pairs.fields, JSON)
def same_name(_: Pairs, old: Field, new: Field) -> Iterator[Found]:
    """JSON and generated code know a field by its name."""
    before, after = (one.full_name if old.extendee else one.name for one in (old, new))
    if before != after:
        yield Found(
            f"Field {new.number} of {_owner(new)} changed its name from {before} to {after}.",
            beside(old, new),
            new.place((FIELD_NAME,)),
            old.full_name,
            old,
        )


@rule("FIELD_SAME_JSON_NAME", Pairs.fields, JSON)
def same_json_name(_: Pairs, old: Field, new: Field) -> Iterator[Found]:
    """JSON knows a field by this name."""
    if not old.extendee and old.proto.json_name != new.proto.json_name:
        yield _found(
            old,
            new,
            f"changed its JSON name from {old.proto.json_name} to {new.proto.json_name}",
            f'Write `json="{old.proto.json_name}"`.'
            if new.file.spelled is not None
            else f'Write `[json_name = "{old.proto.json_name}"]`.',
            (FIELD_JSON,),
        )


@rule("FIELD_SAME_TYPE", Pairs.fields, CODE)
def same_type(_: Pairs, old: Field, new: Field) -> Iterator[Found]:
    """Generated code holds the value in a variable of the type."""
    if old.kind != new.kind or old.type_name != new.type_name:
        yield _type_changed(old, new)


@rule("FIELD_WIRE_COMPATIBLE_TYPE", Pairs.fields, BYTES)
def wire_compatible_type(pairs: Pairs, old: Field, new: Field) -> Iterator[Found]:
    """Bytes of the one type have to be bytes of the other."""
    if (old.kind, new.kind) == ("string", "bytes"):
        return
    if _WIRE_GROUPS.get(old.kind, old.kind) != _WIRE_GROUPS.get(new.kind, new.kind):
        yield _type_changed(old, new)
    else:
        yield from _other_type(pairs, old, new)


@rule("FIELD_WIRE_JSON_COMPATIBLE_TYPE", Pairs.fields, JSON)
def json_compatible_type(pairs: Pairs, old: Field, new: Field) -> Iterator[Found]:
    """Bytes and JSON of the one type have to be those of the other."""
    if _JSON_GROUPS.get(old.kind, old.kind) != _JSON_GROUPS.get(new.kind, new.kind):
        yield _type_changed(old, new)
    else:
        yield from _other_type(pairs, old, new)


def _other_type(pairs: Pairs, old: Field, new: Field) -> Iterator[Found]:
    """Compare what fields of one kind hold: an enumeration may move if it keeps what it had."""
    if new.kind not in _HOLDS_TYPE or old.type_name == new.type_name:
        return
    if new.kind == "enum":
        before = pairs.all_old.enums_everywhere[old.type_name]
        after = pairs.all_new.enums_everywhere[new.type_name]
        kept = all(
            name in after.values.get(number, {})
            for number, names in before.values.items()
            for name in names
        )
        if before.name == after.name and kept:
            return
    yield _type_changed(old, new)


@rule("FIELD_SAME_CARDINALITY", Pairs.fields, CODE)
def same_cardinality(_: Pairs, old: Field, new: Field) -> Iterator[Found]:
    """Generated code has a list, a map, a value, or a value that may be absent."""
    if not (old.in_map_entry and new.in_map_entry) and old.cardinality != new.cardinality:
        yield _cardinality_changed(old, new)


@rule("FIELD_WIRE_COMPATIBLE_CARDINALITY", Pairs.fields, BYTES)
def wire_compatible_cardinality(_: Pairs, old: Field, new: Field) -> Iterator[Found]:
    """A list and a map have the same bytes; one value and several do not."""
    groups = {**_CARDINALITY_GROUPS, "map": "repeated"}
    before, after = (groups.get(one.cardinality, one.cardinality) for one in (old, new))
    if not (old.in_map_entry and new.in_map_entry) and before != after:
        yield _cardinality_changed(old, new)


@rule("FIELD_WIRE_JSON_COMPATIBLE_CARDINALITY", Pairs.fields, JSON)
def json_compatible_cardinality(_: Pairs, old: Field, new: Field) -> Iterator[Found]:
    """A list and a map have different JSON."""
    before, after = (
        _CARDINALITY_GROUPS.get(one.cardinality, one.cardinality) for one in (old, new)
    )
    if not (old.in_map_entry and new.in_map_entry) and before != after:
        yield _cardinality_changed(old, new)


@rule("FIELD_SAME_ONEOF", Pairs.fields, BYTES)
def same_oneof(_: Pairs, old: Field, new: Field) -> Iterator[Found]:
    """Setting one field of a oneof clears the others."""
    if old.extendee or old.oneof == new.oneof:
        return
    before, after = (f"the oneof {one.oneof}" if one.oneof else "no oneof" for one in (old, new))
    yield _found(
        old,
        new,
        f"moved from {before} to {after}",
        f"Put it back into {before}, and add a field of another number for what is new.",
    )


@rule("FIELD_SAME_DEFAULT", Pairs.fields, BYTES)
def same_default_value(pairs: Pairs, old: Field, new: Field) -> Iterator[Found]:
    """What is absent is read as the default of the reader."""
    if not (can_have_default(old) and can_have_default(new)):
        return
    before, after = default_of(old, pairs.all_old), default_of(new, pairs.all_new)
    if same_default(before, after):
        return
    told = old.proto.default_value
    yield _found(
        old,
        new,
        f"changed its default from {before.text} to {after.text}",
        f"Write `[default = {before.text}]` again." if told else "Take the default out again.",
        (FIELD_DEFAULT,),
    )


@rule("FIELD_SAME_JSTYPE", Pairs.fields, CODE)
def same_jstype(_: Pairs, old: Field, new: Field) -> Iterator[Found]:
    """JavaScript holds 64-bit integers as numbers or as strings."""
    before, after = (one.proto.options.jstype for one in (old, new))
    if before != after and {old.kind, new.kind} <= _WIDE:
        names = [old.proto.options.JSType.Name(one) for one in (before, after)]
        yield _found(
            old,
            new,
            f"changed its jstype from {names[0]} to {names[1]}",
            f"Write `[jstype = {names[0]}]` again.",
            (FIELD_OPTIONS, _JSTYPE),
        )


@rule("FIELD_SAME_UTF8_VALIDATION", Pairs.fields, CODE)
def same_utf8_validation(_: Pairs, old: Field, new: Field) -> Iterator[Found]:
    """A reader that validates refuses what another one takes."""
    before, after = (one.features.utf8_validation for one in (old, new))
    if before != after and old.kind == new.kind == "string":
        yield _utf8_changed(old, new, before, "UTF-8 validation")


@rule("FIELD_SAME_JAVA_UTF8_VALIDATION", Pairs.fields, CODE)
def same_java_utf8_validation(_: Pairs, old: Field, new: Field) -> Iterator[Found]:
    """Java has a setting of its own."""
    before, after = _java_utf8(old), _java_utf8(new)
    if before != after and old.kind == new.kind == "string":
        found = _utf8_changed(old, new, before, "UTF-8 validation in Java")
        option = new.file.span((FILE_OPTIONS, _JAVA_STRING_CHECK))
        yield replace(found, place=option) if option else found


def _utf8_changed(old: Field, new: Field, before: int, what: str) -> Found:
    told = ["VERIFY", "NONE"] if before == Features.VERIFY else ["NONE", "VERIFY"]
    return _found(
        old,
        new,
        f"changed its {what} from {told[0]} to {told[1]}",
        f"Write `[features.utf8_validation = {told[0]}]`, or keep the syntax or option that said "
        "so.",
        (FIELD_OPTIONS, _FEATURES, _UTF8),
    )


def _java_utf8(field: Field) -> int:
    options = field.file.proto.options
    stated = field.file.edition <= PROTO3 or options.HasField("java_string_check_utf8")
    verified = (
        options.java_string_check_utf8 if stated else field.features.java_utf8 == Features.VERIFY
    )
    return Features.VERIFY if verified else field.features.utf8_validation


@rule("FIELD_SAME_CPP_STRING_TYPE", Pairs.fields, CODE)
def same_cpp_string_type(_: Pairs, old: Field, new: Field) -> Iterator[Found]:
    """C++ holds text in one of several types."""
    if old.in_map_entry and new.in_map_entry:
        return
    if any(one.proto.type not in {TYPE_STRING, TYPE_BYTES} for one in (old, new)):
        return
    before, after = _cpp_type(old), _cpp_type(new)
    if before != after and (before, after) != ("STRING_PIECE", "STRING"):
        yield _found(
            old,
            new,
            f"changed its type in C++ from {before} to {after}",
            f"Write the option for {before} again (`ctype`, or `features.(pb.cpp).string_type`).",
            (FIELD_OPTIONS, _CTYPE),
        )


def _cpp_type(field: Field) -> str:
    ctype = field.proto.options.ctype
    if ctype in {_CORD, _STRING_PIECE}:
        return "CORD" if ctype == _CORD else "STRING_PIECE"
    stated = field.features.cpp_string_type
    if field.proto.options.HasField("ctype"):
        stated = _CPP_STRING
    return {_CPP_CORD: "CORD", _CPP_STRING: "STRING"}.get(stated, "VIEW")


def _type_changed(old: Field, new: Field) -> Found:
    path = (FIELD_TYPE_NAME,) if new.kind in _HOLDS_TYPE else (FIELD_TYPE,)
    what = f"changed its type from {_type(old)} to {_type(new)}"
    return _found(old, new, what, beside(old, new), path)


def _type(field: Field) -> str:
    if field.kind == "group" and field.file.syntax != "proto2":
        return f"{field.type_name} (delimited)"
    return f"{field.kind} {field.type_name}".rstrip() if field.type_name else field.kind


def _cardinality_changed(old: Field, new: Field) -> Found:
    what = f"changed from {old.cardinality} to {new.cardinality}"
    if {old.cardinality, new.cardinality} <= _CARDINALITY_GROUPS.keys():
        return _found(old, new, what, f"Write `{declared(old)}` again.")
    return _found(old, new, what, beside(old, new))


def _found(old: Field, new: Field, what: str, edit: str, path: Path = ()) -> Found:
    return Found(f"{new.described} {what}.", edit, new.place(path), new.full_name, old)


def _owner(field: Field) -> str:
    return field.extendee or (field.parent.nested_name if field.parent else "")
