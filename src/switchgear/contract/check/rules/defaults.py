"""The value that a field has where it is absent."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from fractions import Fraction

from switchgear.contract.check.schema import Field, Schema

__all__ = ["Default", "can_have_default", "default_of", "same_default"]

_TEXT = {"string", "bytes"}
_FLOATS = {"float", "double"}


@dataclass(frozen=True, slots=True)
class Default:
    """A default, as text and to be compared."""

    text: str
    value: str | float | int
    kind: str


def can_have_default(field: Field) -> bool:
    """Whether the field is one value that is no message."""
    return field.cardinality not in {"repeated", "map"} and field.kind not in {"message", "group"}


def default_of(field: Field, schema: Schema) -> Default:
    """Return the default: what is declared, or zero, or the first value of an enumeration."""
    told, kind = field.proto.default_value, field.kind
    if kind in _TEXT:
        return Default(f'"{told}"', told, kind)
    if kind == "enum":
        return _of_enum(field, schema)
    if not field.proto.HasField("default_value"):
        return Default("false" if kind == "bool" else "0", 0, kind)
    if kind == "bool":
        return Default(told, int(told == "true"), kind)
    if kind in _FLOATS:
        return Default(told, _single(float(told)) if kind == "float" else float(told), kind)
    return Default(told, int(told), kind)


def _of_enum(field: Field, schema: Schema) -> Default:
    told = field.proto.default_value
    enum = schema.enums_everywhere.get(field.type_name)
    if enum is None:
        return Default(told, told, "enum")
    names = {name: number for number, of in enum.values.items() for name in of}
    number = names.get(told, enum.first)
    first = next((name for name, one in names.items() if one == number), str(number))
    return Default(told or first, number, "enum")


def same_default(old: Default, new: Default) -> bool:
    """Whether both mean the same, whatever their types: a change of type is found elsewhere."""
    if isinstance(old.value, str) or isinstance(new.value, str):
        return old.value == new.value or not (old.value or new.value)
    before, after = old.value, new.value
    if {old.kind, new.kind} == _FLOATS:
        before, after = _single(float(before)), _single(float(after))
    if math.isnan(before) or math.isnan(after):
        return math.isnan(before) and math.isnan(after)
    if math.isinf(before) or math.isinf(after):
        return before == after
    return Fraction(before) == Fraction(after)


def _single(value: float) -> float:
    """Return what a float of 32 bits makes of a value."""
    try:
        return float(struct.unpack("f", struct.pack("f", value))[0])
    except OverflowError:
        return math.inf if value > 0 else -math.inf
