"""The types that a field can have, and what each becomes on the wires.

`docs/decisions/0002-values-on-the-wire.md` holds the same table for people. A `Kind` is one row of
it; `resolve` turns a Python annotation into a shape (one, list or map) of kinds.
"""

from __future__ import annotations

import types
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum as StdEnum
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, Final, Union, get_args, get_origin

import msgspec
from typing_extensions import override

from switchgear.contract.enums import Enum
from switchgear.contract.wellknown import AnyMessage, FieldMask

__all__ = [
    "SHARED",
    "BoolValue",
    "BytesValue",
    "DoubleValue",
    "Fixed32",
    "Fixed64",
    "Float32",
    "FloatValue",
    "Int32",
    "Int32Value",
    "Int64Value",
    "Kind",
    "ListValue",
    "SFixed32",
    "SFixed64",
    "SInt32",
    "SInt64",
    "Shape",
    "StringValue",
    "Struct",
    "Type",
    "UInt32",
    "UInt32Value",
    "UInt64",
    "UInt64Value",
    "Unread",
    "Value",
    "is_message",
    "resolve",
    "wire_type",
]


class Shape(StrEnum):
    """How many values a field holds."""

    ONE = "one"
    LIST = "list"
    MAP = "map"


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the type table; `name` is protobuf's word for it."""

    name: str
    python: type
    """The Python class of a value; for a message or an enum, the declared class."""
    low: int | None = None
    high: int | None = None
    wraps: Kind | None = None
    """What a wrapper of protobuf (`google.protobuf.StringValue`) is wrapped around."""

    @property
    def value(self) -> Kind:
        """The kind as JSON sees it, which knows no wrappers."""
        return self.wraps or self

    @property
    def is_int(self) -> bool:
        """Whether the value is a number without a fraction."""
        return self.low is not None

    @property
    def is_wide(self) -> bool:
        """Whether JSON readers other than Python's may lose digits: 64-bit integers."""
        return self.high is not None and self.high > 2**53

    @property
    def is_float(self) -> bool:
        """Whether the value is a binary fraction."""
        return self.python is float

    @property
    def is_text(self) -> bool:
        """Whether one path segment or query parameter can carry the value."""
        return self.name not in {"message", "struct", "value", "list_value", "any", "field_mask"}

    @property
    def is_packed(self) -> bool:
        """Whether protobuf puts the values of a list side by side, without a tag for each."""
        return self.wraps is None and (
            self.is_int or self.is_float or self.name in {"bool", "enum"}
        )

    @property
    def is_key(self) -> bool:
        """Whether equal values always have one text: what can order events."""
        return self.is_int or self.name in {"string", "bool", "enum"}

    @property
    def is_submessage(self) -> bool:
        """Whether protobuf carries the value as a message, so that absence is visible."""
        return self.name == "message" or self.name in SHARED

    def accepts(self, value: object) -> bool:
        """Whether a Python value can be carried as this kind."""
        if self.low is not None and self.high is not None:
            return type(value) is int and self.low <= value <= self.high
        if self.python is float:
            return isinstance(value, float | int) and not isinstance(value, bool)
        if self.python is datetime:
            return isinstance(value, datetime) and value.utcoffset() is not None
        if self.wraps is not None:
            return self.wraps.accepts(value)
        if self.name == "value":
            return True
        return isinstance(value, self.python)


@dataclass(frozen=True, slots=True)
class Type:
    """The type of a field: a shape of kinds, and whether None is allowed."""

    kind: Kind
    shape: Shape = Shape.ONE
    key: Kind | None = None
    optional: bool = False


SHARED: Final[dict[str, tuple[str, str]]] = {}
"""Kinds that protobuf carries as a message of its own: the file and the full name of each."""


def _shared(name: str, python: type, proto: str, file: str, wraps: Kind | None = None) -> Kind:
    SHARED[name] = (f"google/protobuf/{file}.proto", f".google.protobuf.{proto}")
    return Kind(name, python, wraps=wraps)


def _integer(name: str, bits: int, *, signed: bool) -> Kind:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return Kind(name, int, low, high)


MAX_FLOAT32: Final = float.fromhex("0x1.fffffefffffffp127")
"""The largest number that rounds to one of 32 bits: printers round the largest of those up."""

INT64: Final = _integer("int64", 64, signed=True)
DOUBLE: Final = Kind("double", float)
FLOAT: Final = Kind("float", float)
BOOL: Final = Kind("bool", bool)
STRING: Final = Kind("string", str)
BYTES: Final = Kind("bytes", bytes)
DECIMAL: Final = Kind("decimal", Decimal)
TIMESTAMP: Final = _shared("timestamp", datetime, "Timestamp", "timestamp")
DURATION: Final = _shared("duration", timedelta, "Duration", "duration")

Int32 = Annotated[int, _integer("int32", 32, signed=True)]
"""A 32-bit integer. A plain `int` is 64-bit."""
UInt32 = Annotated[int, _integer("uint32", 32, signed=False)]
UInt64 = Annotated[int, _integer("uint64", 64, signed=False)]
SInt32 = Annotated[int, _integer("sint32", 32, signed=True)]
"""A 32-bit integer that is often negative: shorter on the wire then."""
SInt64 = Annotated[int, _integer("sint64", 64, signed=True)]
Fixed32 = Annotated[int, _integer("fixed32", 32, signed=False)]
"""An unsigned 32-bit integer that is often large: always four bytes."""
Fixed64 = Annotated[int, _integer("fixed64", 64, signed=False)]
SFixed32 = Annotated[int, _integer("sfixed32", 32, signed=True)]
SFixed64 = Annotated[int, _integer("sfixed64", 64, signed=True)]
Float32 = Annotated[float, FLOAT]
"""A 32-bit binary fraction: about seven decimal digits survive protobuf."""

Struct = Annotated[dict[str, Any], _shared("struct", dict, "Struct", "struct")]
"""A JSON object of any content; its numbers are floats, as in `google.protobuf.Struct`."""
Value = Annotated[Any, _shared("value", object, "Value", "struct")]
"""Any JSON value. Null and, where the field is optional, absence are both None."""
ListValue = Annotated[list[Any], _shared("list_value", list, "ListValue", "struct")]
"""A JSON array of any content."""


def _wrapper(proto: str, wraps: Kind) -> Kind:
    return _shared(f"{wraps.name}_value", wraps.python, proto, "wrappers", wraps)


# Wrappers are how proto3 told absence before it had `optional`; each is a message around a scalar.
StringValue = Annotated[str, _wrapper("StringValue", STRING)]
BytesValue = Annotated[bytes, _wrapper("BytesValue", BYTES)]
BoolValue = Annotated[bool, _wrapper("BoolValue", BOOL)]
DoubleValue = Annotated[float, _wrapper("DoubleValue", DOUBLE)]
FloatValue = Annotated[float, _wrapper("FloatValue", FLOAT)]
Int64Value = Annotated[int, _wrapper("Int64Value", INT64)]
UInt64Value = Annotated[int, _wrapper("UInt64Value", _integer("uint64", 64, signed=False))]
Int32Value = Annotated[int, _wrapper("Int32Value", _integer("int32", 32, signed=True))]
UInt32Value = Annotated[int, _wrapper("UInt32Value", _integer("uint32", 32, signed=False))]

_PLAIN: Final[dict[object, Kind]] = {
    str: STRING,
    int: INT64,
    float: DOUBLE,
    bool: BOOL,
    bytes: BYTES,
    Decimal: DECIMAL,
    datetime: TIMESTAMP,
    timedelta: DURATION,
    FieldMask: _shared("field_mask", FieldMask, "FieldMask", "field_mask"),
    AnyMessage: _shared("any", AnyMessage, "Any", "any"),
}

_ALLOWED = (
    "Use str, int (or Int32, UInt32, UInt64, ...), float, Float32, bool, bytes, datetime, "
    "timedelta, Decimal, Money, StringValue (and the other wrappers), Struct, Value, ListValue, "
    "FieldMask, AnyMessage, a switchgear Enum, a Message, a list or dict of these, or T | None."
)


_BOOL_MAP: Final = Kind("bool_map", dict)
_UNREAD: Final = {"duration", "field_mask", "any", "struct", "value", "list_value"}


def is_message(annotation: object) -> bool:
    """Whether `annotation` is a class that derives from `Message`."""
    return isinstance(annotation, type) and hasattr(annotation, "__declaration__")


def resolve(annotation: object) -> Type:
    """Turn the evaluated annotation of a field into its type.

    Raises `TypeError` with a sentence that says what is allowed instead.
    """
    base, optional = _without_none(annotation)
    origin = get_origin(base)
    if origin is list:
        (item,) = get_args(base) or (None,)
        found = Type(_kind(item, inside="a list"), Shape.LIST)
    elif origin is dict:
        key, value = get_args(base)
        found = Type(_kind(value, inside="a dict"), Shape.MAP, _key(key))
    else:
        return Type(_kind(base), optional=optional)
    if optional:
        raise TypeError(
            "protobuf cannot tell an empty list or dict from none. "
            "Leave out `| None`, or wrap it in a message."
        )
    return found


def _without_none(annotation: object) -> tuple[object, bool]:
    if get_origin(annotation) not in (Union, types.UnionType):
        return annotation, False
    rest = [arm for arm in get_args(annotation) if arm is not types.NoneType]
    if len(rest) != 1 or len(rest) == len(get_args(annotation)):
        raise TypeError("a field has one type. Use two optional fields, one for each type.")
    return rest[0], True


def _key(annotation: object) -> Kind:
    kind = _kind(annotation, inside="a dict")
    if kind is STRING or kind is BOOL or kind.is_int:
        return kind
    raise TypeError(
        f"{_told(annotation)} cannot be the key of a dict. Use str, an integer or bool."
    )


def _kind(annotation: object, inside: str | None = None) -> Kind:
    if get_origin(annotation) is Annotated:
        base, *notes = get_args(annotation)
        return _noted(notes) or _kind(base, inside)
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    if isinstance(annotation, type) and is_message(annotation):
        return Kind("message", annotation)
    if isinstance(annotation, type) and issubclass(annotation, StdEnum):
        if issubclass(annotation, Enum):
            return Kind("enum", annotation)
        raise TypeError(
            f"{_told(annotation)} has no numbers for the wire. Derive it from switchgear.Enum."
        )
    if inside:
        raise TypeError(f"{_told(annotation)} cannot be in {inside}. Wrap it in a message.")
    raise TypeError(f"{_told(annotation)} is not a type for the wire. {_ALLOWED}")


def _noted(notes: list[object]) -> Kind | None:
    for note in notes:
        if isinstance(note, Kind):
            return note
        if isinstance(note, msgspec.Meta):
            raise TypeError(
                "constraints of msgspec.Meta do not hold over protobuf. "
                "Check the value in the handler."
            )
    return None


def _told(annotation: object) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)


class Unread(type):
    """The class of annotations whose values msgspec hands to the codec unread.

    msgspec checks afterwards that what it got back is an instance: values of `kind` are.
    """

    kind: Kind

    @override
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls.kind.python)


@cache
def _unread(kind: Kind) -> Unread:
    made = Unread(f"Unread_{kind.name}", (), {})
    made.kind = kind
    return made


def wire_type(found: Type, *, strings: bool = False) -> Any:
    """Return the annotation under which msgspec reads a field, with as many checks as it can do.

    `strings` says that the field's integers are usually written as strings.
    """
    value = _unread(found.kind) if strings else _wire_kind(found.kind.value)
    if found.shape is Shape.LIST:
        return types.GenericAlias(list, (value,))
    if found.key is not None:
        if found.key is BOOL:  # msgspec does not read it as a key
            return _unread(_BOOL_MAP)
        return types.GenericAlias(dict, (_wire_kind(found.key), value))
    return value | None if found.optional else value


def _wire_kind(kind: Kind) -> Any:
    if kind.low is not None and kind.high is not None:
        if kind.high >= 2**63:  # msgspec keeps bounds in 64 signed bits
            return _unread(kind)
        return Annotated[int, msgspec.Meta(ge=kind.low, le=kind.high)]
    if kind is TIMESTAMP:
        return Annotated[datetime, msgspec.Meta(tz=True)]
    if kind is FLOAT:
        return Annotated[float, msgspec.Meta(ge=-MAX_FLOAT32, le=MAX_FLOAT32)]
    # msgspec knows ISO 8601's form of a duration, not protobuf's; and nothing of the rest.
    return _unread(kind) if kind.name in _UNREAD else kind.python
