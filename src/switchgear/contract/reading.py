"""The slow and complete reader: from parsed JSON, or from text parameters, to a message.

msgspec reads what is written the usual way and refuses everything else. What it refuses comes
here: this reader knows all that ProtoJSON allows (integers as strings, NaN, base64 in both
alphabets, numbers of enumerations, null for an absent field), and names the field that is wrong.
Where msgspec accepts, both give the same message; a test holds them to it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import Annotated, Any, Final, TypeVar

import msgspec

from switchgear.contract.declaration import Field, fields_of
from switchgear.contract.enums import Enum, labels_of, open_name
from switchgear.contract.kinds import MAX_FLOAT32, Kind, Shape
from switchgear.contract.message import Message, declared
from switchgear.contract.wellknown import AnyMessage, FieldMask
from switchgear.errors import InvalidMessage

__all__ = [
    "Misfit",
    "escaped",
    "invalid",
    "mask_text",
    "overlaid",
    "read_kind",
    "read_message",
    "read_parameters",
    "split_duration",
    "told",
]

M = TypeVar("M", bound=Message)

MAX_SECONDS: Final = 315_576_000_000
"""The longest duration of protobuf: about ten thousand years."""

_ABSENT: Final = object()
_INTEGER: Final = re.compile(r"-?[0-9]{1,20}")
_NUMBER: Final = re.compile(r"-?[0-9]{1,400}(\.[0-9]{1,400})?([eE][+-]?[0-9]{1,4})?")
_DURATION: Final = re.compile(r"(-?)([0-9]{1,12})(?:\.([0-9]{1,9}))?s")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
_SPECIAL: Final = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": -float("inf")}
_Moment: Final = Annotated[datetime, msgspec.Meta(tz=True)]


def split_duration(value: timedelta) -> tuple[int, int]:
    """Return seconds and microseconds of one sign; raises `ValueError` beyond protobuf's range."""
    seconds, micros = value.days * 86_400 + value.seconds, value.microseconds
    if seconds < 0 and micros:
        seconds, micros = seconds + 1, micros - 1_000_000
    if not -MAX_SECONDS <= seconds <= MAX_SECONDS:
        raise ValueError("a duration is too long")
    return seconds, micros


class Misfit(ValueError):
    """A value that does not fit; whoever knows the pointer turns it into `InvalidMessage`."""


def escaped(key: object) -> str:
    """Return a key as one token of an RFC 6901 pointer."""
    return str(key).replace("~", "~0").replace("/", "~1")


def invalid(cls: type[Message], what: str, pointer: str) -> InvalidMessage:
    """Return the error for a field of a message of type `cls`."""
    return InvalidMessage(what, pointer=pointer, where=f"{cls.__name__}{pointer}")


def read_message(cls: type[M], tree: object, *, text: bool = False, open_names: bool = False) -> M:
    """Build a message from parsed JSON, in which numbers with a fraction are `Decimal`.

    With `text=True` every value may be text, as in a path or a query, and one value may stand for
    a list. `open_names`: a name that an enumeration does not declare is an open member. Raises
    `InvalidMessage` with the pointer of the first field that is wrong.
    """
    return _Reader(cls, text=text, open_names=open_names).message(cls, tree, "")


def read_parameters(cls: type[Message], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Read those of `parameters`, whose values may be text, that are fields of `cls`.

    A mapping stands for some of the fields of a message, whose other fields a body may hold.
    """
    return _Reader(cls, text=True).some(cls, parameters, "")


def overlaid(cls: type[Message], tree: object, given: Mapping[str, Any]) -> object:
    """Return parsed JSON in which what `read_parameters` returned replaces what was said there.

    Raises `InvalidMessage` where a field of a message is given and the message is none.
    """
    return _overlaid(cls, cls, tree, given, "")


def _overlaid(
    root: type[Message], cls: type[Message], tree: object, given: Mapping[str, Any], pointer: str
) -> object:
    if not isinstance(tree, dict):
        if pointer:
            raise invalid(root, f"expected an object, got {told(tree)}", pointer)
        return tree  # its reader says so
    fields = {one.json: one for one in fields_of(cls).values()}
    made = dict(tree)
    for name, value in given.items():
        field = fields[name]
        said = made.get(name)
        for other in field.others:
            said = made.pop(other, said) if said is None else said
        made[name] = value
        if isinstance(value, _Some):
            below = {} if said is None else said
            at = f"{pointer}/{name}"
            made[name] = _overlaid(root, field.kind.python, below, value, at)
    return made


def _is_one_message(field: Field) -> bool:
    return field.kind.name == "message" and field.type.shape is Shape.ONE


class _Some(dict[str, Any]):
    """Some of the fields of a message."""


class _Reader:
    def __init__(self, root: type[Message], *, text: bool, open_names: bool = False) -> None:
        self.root = root
        self.text = text
        self.open_names = open_names

    def wrong(self, what: str, pointer: str) -> InvalidMessage:
        return invalid(self.root, what, pointer)

    def message(self, cls: type[M], tree: object, pointer: str) -> M:
        if isinstance(tree, cls):
            return tree
        if not isinstance(tree, Mapping):
            raise self.wrong(f"expected an object, got {told(tree)}", pointer)
        values: dict[str, Any] = {}
        for field in fields_of(cls).values():
            here = f"{pointer}/{field.json}"
            given = tree.get(field.json, _ABSENT)
            for other in field.others if given is _ABSENT else ():
                given = tree.get(other, given)
            if given is not _ABSENT and given is not None:
                values[field.name] = self.field(field, given, here)
            elif field.has_default:
                values[field.name] = field.absent()
            else:
                raise self.wrong("is missing" if given is _ABSENT else "is null", here)
        try:
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise self.wrong(f"is refused: {error}", pointer) from error

    def some(self, cls: type[Message], given: Mapping[str, Any], pointer: str) -> _Some:
        fields = {name: one for one in fields_of(cls).values() for name in (one.json, *one.others)}
        read = _Some()
        for name, value in given.items():
            field, here = fields.get(name), f"{pointer}/{name}"
            if field is not None and _is_one_message(field) and isinstance(value, Mapping):
                read[field.json] = self.some(field.kind.python, value, here)
            elif field is not None:
                read[field.json] = self.field(field, value, here)
        return read

    def field(self, field: Field, given: object, here: str) -> Any:
        if field.type.shape is Shape.ONE:
            return self.value(field.kind, given, here)
        if field.type.key is not None:
            return self.map(field, field.type.key, given, here)
        items = [given] if self.text and isinstance(given, str) else given
        if not isinstance(items, list | tuple):
            raise self.wrong(f"expected an array, got {told(given)}", here)
        return [self.value(field.kind, item, f"{here}/{at}") for at, item in enumerate(items)]

    def map(self, field: Field, key_kind: Kind, given: object, here: str) -> dict[Any, Any]:
        if not isinstance(given, Mapping):
            raise self.wrong(f"expected an object, got {told(given)}", here)
        read: dict[Any, Any] = {}
        for key, item in given.items():
            at = f"{here}/{escaped(key)}"
            try:
                read_key = read_kind(key_kind, key, text=True)
            except Misfit as error:
                raise self.wrong(f"the key {error}", at) from None
            read[read_key] = self.value(field.kind, item, at)
        return read

    def value(self, kind: Kind, given: object, at: str) -> Any:
        if kind.name == "message":
            return self.message(kind.python, given, at)
        if self.open_names and kind.value.name == "enum":
            opened = _opened(kind.value.python, given)
            if opened is not None:
                return opened
        try:
            return read_kind(kind, given, text=self.text)
        except Misfit as error:
            raise self.wrong(f"{error}", at) from None


def read_kind(kind: Kind, value: object, *, text: bool = False) -> Any:
    """Read one value that is not a message; raises `Misfit`."""
    kind = kind.value
    if text and isinstance(value, str):
        value = _from_text(kind, value)
    return _read_int(kind, value) if kind.is_int else _READERS[kind.name](kind, value)


def _from_text(kind: Kind, value: str) -> object:
    """Return what a parameter would be in JSON."""
    if kind.name == "bool":
        return {"true": True, "false": False}.get(value, value)
    if kind.name == "enum" and _INTEGER.fullmatch(value):
        return int(value)
    return value


def _read_int(kind: Kind, value: object) -> int:
    low, high = kind.low or 0, kind.high or 0
    number: object = value
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        number = int(value)
    elif isinstance(value, Decimal) and value.is_finite():
        if not low <= value <= high:  # before int(), which would write out the exponent
            raise Misfit(f"is out of range for {kind.name}")
        number = int(value) if value == value.to_integral_value() else value
    if type(number) is not int:
        raise Misfit(f"expected an integer, got {told(value)}")
    if not low <= number <= high:
        raise Misfit(f"is out of range for {kind.name}")
    return number


def _read_float(kind: Kind, value: object) -> float:
    if isinstance(value, str):
        if value in _SPECIAL:
            return _SPECIAL[value]
        if not _NUMBER.fullmatch(value):
            raise Misfit(f"expected a number, got {told(value)}")
    elif isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise Misfit(f"expected a number, got {told(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if isfinite(number) and (kind.name != "float" or abs(number) <= MAX_FLOAT32):
        return number
    if isinstance(value, float):
        return value
    raise Misfit(f"is out of range for {kind.name}")


def _read_bool(_kind: Kind, value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise Misfit(f"expected true or false, got {told(value)}")


def _read_string(_kind: Kind, value: object) -> str:
    if not isinstance(value, str):
        raise Misfit(f"expected a string, got {told(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Misfit("is not valid Unicode") from None
    return value


def _read_bytes(_kind: Kind, value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise Misfit(f"expected base64, got {told(value)}")
    text = value.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise Misfit("is not base64") from None


def _read_decimal(_kind: Kind, value: object) -> Decimal:
    if isinstance(value, Decimal) and not value.is_infinite():
        return value
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise Misfit(f"expected a decimal number, got {told(value)}")
    try:
        return Decimal(value)
    except InvalidOperation:
        raise Misfit("is not a decimal number") from None


def _read_timestamp(_kind: Kind, value: object) -> datetime:
    if isinstance(value, datetime) and value.utcoffset() is not None:
        return value
    try:
        return msgspec.convert(value, _Moment) if isinstance(value, str) else _no_moment(value)
    except msgspec.ValidationError:
        raise Misfit("is not a time such as 2026-01-31T12:00:00Z") from None


def _no_moment(value: object) -> datetime:
    raise Misfit(f"expected a time such as 2026-01-31T12:00:00Z, got {told(value)}")


def _read_duration(_kind: Kind, value: object) -> timedelta:
    if isinstance(value, timedelta):
        return value
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise Misfit(f"expected a duration such as 1.5s, got {told(value)}")
    sign, whole, fraction = found.groups()
    seconds = int(whole)
    if seconds > MAX_SECONDS:
        raise Misfit("is out of range for duration")
    micros = (int(fraction.ljust(9, "0")) + 500) // 1000 if fraction else 0
    return timedelta(0, -seconds, -micros) if sign else timedelta(0, seconds, micros)


def _read_enum(kind: Kind, value: object) -> Enum:
    cls: type[Enum] = kind.python
    if isinstance(value, cls):
        return value
    if isinstance(value, str):
        if value in labels_of(cls):
            return cls(value)
        raise Misfit(f"is not one of {', '.join(labels_of(cls))}")
    if isinstance(value, Decimal) and value.is_finite() and abs(value) < 2**32:
        value = int(value) if value == value.to_integral_value() else value
    if type(value) is not int:
        raise Misfit(f"expected the name of a {cls.__name__}, got {told(value)}")
    try:
        return cls(value)
    except ValueError:
        what = "is not a number of" if cls.__closed__ else "is out of range for"
        raise Misfit(f"{what} an enumeration") from None


def _opened(cls: type[Enum], given: object) -> Enum | None:
    """Return the open member for what could be the name of one, and is not declared."""
    if not isinstance(given, str) or given in labels_of(cls) or cls.__closed__:
        return None
    return open_name(cls, given) if _NAME.fullmatch(given) else None


def _read_field_mask(_kind: Kind, value: object) -> FieldMask:
    if isinstance(value, FieldMask):
        return value
    if not isinstance(value, str):
        raise Misfit(f"expected paths joined by commas, got {told(value)}")
    if "_" in value:
        raise Misfit("is a field mask whose names are not in lowerCamelCase")
    paths = value.split(",") if value else []
    return FieldMask(tuple(re.sub("[A-Z]", lambda at: f"_{at[0].lower()}", one) for one in paths))


def mask_text(mask: FieldMask) -> str:
    """Return a field mask as ProtoJSON writes it; `ValueError` for what it cannot tell."""
    written = [re.sub("_([a-z])", lambda at: at[1].upper(), one) for one in mask.paths]
    if any("_" in one or one.lower() == one.upper() for one in written) or any(
        re.search("[A-Z]", one) for one in mask.paths
    ):
        raise ValueError("a path of a field mask is not in lower_snake_case")
    return ",".join(written)


def _read_any(_kind: Kind, value: object) -> AnyMessage:
    if isinstance(value, AnyMessage):
        return value
    url = value.get("@type") if isinstance(value, Mapping) else None
    if not isinstance(url, str) or not isinstance(value, Mapping):
        raise Misfit("expected an object with @type")
    cls = declared(url.rpartition("/")[2])
    if cls is None:
        raise Misfit("has a @type that is not declared here")
    rest = {name: one for name, one in value.items() if name != "@type"}
    packed = AnyMessage.pack(_Reader(cls, text=False).message(cls, rest, ""))
    return AnyMessage(url, packed.value)


def _read_struct(_kind: Kind, value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise Misfit(f"expected an object, got {told(value)}")
    return {_read_string(_kind, name): _read_value(_kind, one) for name, one in value.items()}


def _read_list_value(_kind: Kind, value: object) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise Misfit(f"expected an array, got {told(value)}")
    return [_read_value(_kind, one) for one in value]


def _read_value(kind: Kind, value: object) -> Any:
    if isinstance(value, Mapping):
        return _read_struct(kind, value)
    if isinstance(value, list | tuple):
        return _read_list_value(kind, value)
    if value is None or isinstance(value, bool):
        return value
    return _read_string(kind, value) if isinstance(value, str) else _read_float(kind, value)


def _read_bool_map(_kind: Kind, _value: object) -> Any:
    raise Misfit("is read by the complete reader alone")


_READERS: Final[Mapping[str, Callable[[Kind, object], Any]]] = {
    "double": _read_float,
    "float": _read_float,
    "bool": _read_bool,
    "string": _read_string,
    "bytes": _read_bytes,
    "decimal": _read_decimal,
    "timestamp": _read_timestamp,
    "duration": _read_duration,
    "enum": _read_enum,
    "field_mask": _read_field_mask,
    "any": _read_any,
    "struct": _read_struct,
    "list_value": _read_list_value,
    "value": _read_value,
    "bool_map": _read_bool_map,
}


def told(value: object) -> str:
    """Name a JSON value by its type, never by its content."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, int | float | Decimal):
        return "a number"
    if isinstance(value, Mapping):
        return "an object"
    return "an array" if isinstance(value, list | tuple) else f"a {type(value).__name__}"
