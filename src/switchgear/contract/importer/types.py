"""What a field of a `.proto` file is in Python."""

from __future__ import annotations

from math import isfinite
from struct import pack
from typing import TYPE_CHECKING, Any, Final

from switchgear.contract.importer.names import Names

if TYPE_CHECKING:
    from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor

__all__ = [
    "SCALARS",
    "WELL_KNOWN",
    "annotation",
    "default_of",
    "is_map",
    "is_plain",
    "text",
    "zero_of",
]

WELL_KNOWN: Final = {
    "google.protobuf.Timestamp": "datetime",
    "google.protobuf.Duration": "timedelta",
    "google.protobuf.Any": "AnyMessage",
    "google.protobuf.Empty": "Empty",
    "google.type.Money": "Money",
    **{
        f"google.protobuf.{name}": name
        for name in (
            *("Struct", "Value", "ListValue", "FieldMask", "StringValue", "BytesValue"),
            *("BoolValue", "DoubleValue", "FloatValue", "Int32Value", "Int64Value"),
            *("UInt32Value", "UInt64Value"),
        )
    },
}
"""The messages that Python knows by another class; as requests they are messages all the same."""

SCALARS: Final = {
    "TYPE_DOUBLE": ("float", "0.0"),
    "TYPE_FLOAT": ("Float32", "0.0"),
    "TYPE_INT64": ("int", "0"),
    "TYPE_UINT64": ("UInt64", "0"),
    "TYPE_INT32": ("Int32", "0"),
    "TYPE_FIXED64": ("Fixed64", "0"),
    "TYPE_FIXED32": ("Fixed32", "0"),
    "TYPE_BOOL": ("bool", "False"),
    "TYPE_STRING": ("str", '""'),
    "TYPE_BYTES": ("bytes", 'b""'),
    "TYPE_UINT32": ("UInt32", "0"),
    "TYPE_SFIXED32": ("SFixed32", "0"),
    "TYPE_SFIXED64": ("SFixed64", "0"),
    "TYPE_SINT32": ("SInt32", "0"),
    "TYPE_SINT64": ("SInt64", "0"),
}
"""The annotation of each kind of value, and what zero is."""


def _kind(field: FieldDescriptor) -> str:
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto  # noqa: PLC0415 - an extra

    kinds: Any = FieldDescriptorProto.Type
    return str(kinds.Name(field.type))


def is_map(field: FieldDescriptor) -> bool:
    """Whether a field is a map."""
    kind = field.message_type
    return bool(kind is not None and field.is_repeated and kind.GetOptions().map_entry)


def is_plain(field: FieldDescriptor) -> bool:
    """Whether a path or a query of a URL can carry the values of a field."""
    if field.message_type is None:
        return True
    python = WELL_KNOWN.get(field.message_type.full_name, "")
    texts = {"datetime", "timedelta"}
    return (
        not is_map(field)
        and (python in texts or python.endswith("Value"))
        and python
        not in {
            "Value",
            "ListValue",
        }
    )


def annotation(field: FieldDescriptor, names: Names) -> str:
    """Return the annotation of a field, without `| None`."""
    if field.message_type is not None and is_map(field):
        parts = field.message_type.fields_by_name
        return f"dict[{_one(parts['key'], names)}, {_one(parts['value'], names)}]"
    one = _one(field, names)
    return f"list[{one}]" if field.is_repeated else one


def _one(field: FieldDescriptor, names: Names) -> str:
    if field.message_type is not None:
        full_name = field.message_type.full_name
        return WELL_KNOWN.get(full_name) or names[full_name]
    if field.enum_type is not None:
        return names[field.enum_type.full_name]
    return SCALARS[_kind(field)][0]


def zero_of(field: FieldDescriptor, names: Names, members: dict[str, dict[int, str]]) -> str:
    """Return what protobuf means where a field without presence is absent, as an argument."""
    if is_map(field):
        return "default_factory=dict"
    if field.is_repeated:
        return "default_factory=list"
    if field.enum_type is not None:
        return _member(field.enum_type, 0, names, members)
    return f"default={SCALARS[_kind(field)][1]}"


def default_of(field: FieldDescriptor, names: Names, members: dict[str, dict[int, str]]) -> str:
    """Return the declared default of a field, as an argument."""
    value: Any = field.default_value
    if _kind(field) == "TYPE_FLOAT" and isfinite(value):
        # the shortest that is the same float of 32 bits, as people wrote it
        written = (float(f"{value:.{digits}g}") for digits in range(1, 10))
        value = next((one for one in written if pack("f", one) == pack("f", value)), value)
    if field.enum_type is not None:
        return _member(field.enum_type, value, names, members)
    if isinstance(value, float) and (value != value or value in {float("inf"), -float("inf")}):  # noqa: PLR0124
        return f'default=float("{value}")'
    return f"default={text(value)}" if isinstance(value, str) else f"default={value!r}"


def text(value: str) -> str:
    """Return a string literal, in double quotes where that needs no escapes."""
    return f'"{value}"' if value.isprintable() and not set(value) & {'"', "\\"} else repr(value)


def _member(
    enum: EnumDescriptor, number: int, names: Names, members: dict[str, dict[int, str]]
) -> str:
    path = names[enum.full_name]
    if "." not in path:  # the enumerations of a file stand before its messages
        return f"default={path}.{members[enum.full_name][number]}"
    return f"default_factory=lambda: {path}.{members[enum.full_name][number]}"
