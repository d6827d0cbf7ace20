"""JSON: msgspec where it says what ProtoJSON says, our own code only where it does not.

Reading: msgspec first, and the complete reader (`switchgear.contract.reading`) for what it refuses.

Writing: msgspec writes a message by itself if nothing in it needs another form than msgspec's. A
duration always does, and an integer that is written as a string; a float does if it is not finite,
and a time if it is not in UTC. For those, code is generated once for each class: `plain(message)`
looks at the values in question, `tree(message)` replaces them. What needs no replacing inside such
a tree is still written by msgspec.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from math import isfinite, isnan
from typing import Any, Final, TypeVar

import msgspec

from switchgear.contract.declaration import Field, declaration_of, fields_of, reach
from switchgear.contract.kinds import Shape, Unread
from switchgear.contract.message import Message
from switchgear.contract.reading import (
    invalid,
    mask_text,
    overlaid,
    read_kind,
    read_message,
    read_parameters,
    split_duration,
)
from switchgear.contract.verify import unwritable
from switchgear.contract.wellknown import AnyMessage
from switchgear.errors import ContractError

__all__ = ["JsonCodec", "duration_text", "json_codec"]

M = TypeVar("M", bound=Message)

_encode: Final = msgspec.json.Encoder().encode
_exact_tree: Final = msgspec.json.Decoder(float_hook=Decimal).decode
_MAX_DIGITS: Final = 400


@dataclass(frozen=True, slots=True)
class JsonCodec:
    """The directions for one message class."""

    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]
    decode_open: Callable[[bytes], Any]
    """The same for what others answer or tell: unknown names are open members."""
    decode_parts: Callable[..., Any]
    """The same with parameters, which win; see `codec.from_parts`."""


def json_codec(cls: type[Message]) -> JsonCodec:
    """Compile the directions for `cls`."""
    parts = reach(cls)  # settles the types of all parts, which msgspec is about to read
    messages = [one for one in parts if issubclass(one, Message)]
    decoder = _decoder(cls, messages)

    def decode(data: bytes) -> Message:
        try:
            return decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return _read(cls, _parse(cls, data))

    def decode_open(data: bytes) -> Message:
        try:
            return decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return _read(cls, _parse(cls, data), open_names=True)

    decimals = _closed(messages, lambda field: field.kind.name == "decimal")

    def decode_parts(data: bytes, parameters: Mapping[str, Any], body: str = "") -> Message:
        given = read_parameters(cls, parameters)
        if cls not in decimals:  # which would lose digits in a tree of floats
            with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError):
                tree = overlaid(cls, _at(body, msgspec.json.decode(data)), given)
                return msgspec.convert(tree, cls, dec_hook=_read_unread, str_keys=True)
        return _read(cls, overlaid(cls, _at(body, _parse(cls, data)), given))

    return JsonCodec(_encoder(cls, messages), decode, decode_open, decode_parts)


def _decoder(cls: type[M], messages: list[type[Message]]) -> msgspec.json.Decoder[M]:
    """Return msgspec's decoder of a class that is made of `messages`.

    msgspec goes from a class to those inside it by recursion, and remembers what it has seen: where
    a chain is too long for that, it is told of the innermost first.
    """
    with suppress(RecursionError):
        return msgspec.json.Decoder(cls, dec_hook=_read_unread)
    try:
        for one in reversed(messages):
            msgspec.json.Decoder(one, dec_hook=_read_unread)
        return msgspec.json.Decoder(cls, dec_hook=_read_unread)
    except RecursionError:
        raise ContractError(
            f"A circle of {len(messages)} messages that contain each other is too long.",
            where=declaration_of(cls).full_name,
            fix="Let a message on the way hold the next one as an AnyMessage.",
        ) from None


def _at(body: str, tree: object) -> object:
    """Return a message as JSON of which the body is one field, if it is one."""
    return {body: tree} if body else tree


def _read(cls: type[Message], tree: object, *, open_names: bool = False) -> Message:
    try:
        return read_message(cls, tree, open_names=open_names)
    except RecursionError:
        raise invalid(cls, "is nested too deeply", "") from None


def _parse(cls: type[Message], data: bytes) -> object:
    """Parse JSON without losing a digit; raises `InvalidMessage` where it is not JSON."""
    try:
        try:
            return _exact_tree(data)
        except (msgspec.ValidationError, ArithmeticError):
            # A number beyond any type: read it all the same, so that its field can be named.
            text = bytes(data).decode()
            return json.loads(text, parse_int=_number, parse_float=_number, parse_constant=_number)
    except RecursionError:
        raise invalid(cls, "is nested too deeply", "") from None
    except UnicodeDecodeError:
        raise invalid(cls, "is not UTF-8", "") from None
    except (msgspec.DecodeError, json.JSONDecodeError) as error:
        raise invalid(cls, f"is not JSON: {error}", "") from None


def _number(text: str) -> int | Decimal:
    if len(text) < _MAX_DIGITS and text.lstrip("-").isdigit():
        return int(text)
    try:
        return Decimal(text)  # comparing it takes no time, where converting it to int might
    except InvalidOperation:
        return Decimal("Infinity")


def _read_unread(annotation: type, value: Any) -> Any:
    # msgspec wraps what this raises, and then the complete reader finds the same fault again.
    if isinstance(annotation, Unread):
        return read_kind(annotation.kind, value)
    raise TypeError(f"{annotation} is not a type for the wire")


# Writing.


def _encoder(cls: type[Message], messages: list[type[Message]]) -> Callable[[Message], bytes]:
    odd = _closed(messages, lambda field: _needs_tree(field) or _needs_look(field))
    if cls not in odd:

        def encode(message: Message) -> bytes:
            try:
                return _encode(message)
            except (TypeError, ValueError, RecursionError) as error:
                raise unwritable(message, error) from None

        return encode

    always = _closed(messages, _needs_tree)
    code = _generate(odd)
    plain, tree = code[f"plain_{odd.index(cls)}"], code[f"tree_{odd.index(cls)}"]
    if cls in always:
        plain = _never

    def encode_odd(message: Message) -> bytes:
        try:
            return _encode(message if plain(message) else tree(message))
        except (TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            raise unwritable(message, error) from None

    return encode_odd


def _never(_message: Message) -> bool:
    return False


_ALWAYS: Final = {"duration", "field_mask", "any", "struct", "value", "list_value"}


def _needs_tree(field: Field) -> bool:
    return (
        field.kind.name in _ALWAYS
        or field.spec.strings
        or (field.type.key is not None and field.type.key.name == "bool")
    )


def _needs_look(field: Field) -> bool:
    return field.kind.is_float or field.kind.name == "timestamp"


def _closed(
    messages: list[type[Message]], condition: Callable[[Field], bool]
) -> list[type[Message]]:
    """Return the classes with such a field in them, or in what they are made of."""
    holders: dict[type[Any], list[type[Message]]] = {}
    for one in messages:
        for field in fields_of(one).values():
            holders.setdefault(field.kind.python, []).append(one)
    found = {one for one in messages if any(map(condition, fields_of(one).values()))}
    waiting = list(found)
    while waiting:
        more = {one for one in holders.get(waiting.pop(), ()) if one not in found}
        found |= more
        waiting += more
    return [one for one in messages if one in found]


def _generate(odd: list[type[Message]]) -> dict[str, Any]:
    namespace: dict[str, Any] = {
        "UTC": UTC,
        "isfinite": isfinite,
        "real": _real,
        "moment": _moment,
        **_NODES,
    }
    lines: list[str] = []
    for index, cls in enumerate(odd):
        looks = [look for field in fields_of(cls).values() if (look := _look(field, odd))]
        lines.append(f"def plain_{index}(m):")
        lines.append(f"    return {' and '.join(looks) or 'True'}")
        lines.append(f"def tree_{index}(m):")
        lines.append("    return {")
        nodes = [(field, _node(field, odd)) for field in fields_of(cls).values()]
        lines += [f"        {f.json!r}: {node}," for f, node in nodes if not _bare_null(f)]
        # null is a value of this kind: only leaving it out says that there is none
        nulls = [
            f"**({{{f.json!r}: {n}}} if m.{f.name} is not None else {{}}),"
            for f, n in nodes
            if _bare_null(f)
        ]
        lines += [f"        {one}" for one in nulls]
        lines.append("    }")
    exec(compile("\n".join(lines), "<switchgear json>", "exec"), namespace)  # noqa: S102
    return namespace


def _bare_null(field: Field) -> bool:
    return field.kind.name == "value" and field.type.optional


def _look(field: Field, odd: list[type[Message]]) -> str | None:
    """Return the expression that tells whether msgspec can write the field by itself."""
    test = {"timestamp": "{}.tzinfo is UTC", "double": "isfinite({})", "float": "isfinite({})"}.get(
        field.kind.value.name
    )
    if field.kind.python in odd:
        test = f"plain_{odd.index(field.kind.python)}({{}})"
    if test is None:
        return None
    value = f"m.{field.name}"
    if field.type.shape is Shape.ONE:
        look = test.format(value)
        return f"({value} is None or {look})" if field.type.optional else look
    values = f"{value}.values()" if field.type.key is not None else value
    return f"all([{test.format('i')} for i in {values}])"


def _node(field: Field, odd: list[type[Message]]) -> str:
    """Return the expression for what msgspec is to write in place of the field."""
    wrap = _WRAPS.get(field.kind.value.name)
    if field.spec.strings:
        wrap = "str"
    if field.kind.python in odd:
        wrap = f"tree_{odd.index(field.kind.python)}"
    value = f"m.{field.name}"
    if field.type.key is not None and field.type.key.name == "bool":
        return f"{{key(k): {f'{wrap}(i)' if wrap else 'i'} for k, i in {value}.items()}}"
    if wrap is None:
        return value
    if field.type.shape is Shape.ONE:
        node = f"{wrap}({value})"
        return f"(None if {value} is None else {node})" if field.type.optional else node
    if field.type.key is not None:
        return f"{{k: {wrap}(i) for k, i in {value}.items()}}"
    return f"[{wrap}(i) for i in {value}]"


def _real(value: float) -> float | str:
    if isfinite(value):
        return value
    return "NaN" if isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _moment(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("a time needs a time zone")
    return value.astimezone(UTC)


def _plain(value: Any) -> Any:
    """Return a JSON value whose numbers are written as those of a Struct."""
    if isinstance(value, float) and not isfinite(value):
        raise ValueError("a Struct cannot carry a number that is not finite")
    if isinstance(value, Mapping):
        if not all(isinstance(name, str) for name in value):
            raise TypeError("the names in a Struct are text")
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if value is not None and not isinstance(value, str | bool | int | float):
        raise TypeError(f"{type(value).__name__} is no JSON value")
    return value


def _any(value: AnyMessage) -> Any:
    from switchgear.contract.codec import to_json  # noqa: PLC0415  it knows this module

    written = msgspec.json.decode(to_json(value.read()))
    return {"@type": value.type_url, **written}


def _key(value: bool) -> str:  # noqa: FBT001 - a key of a map
    return "true" if value else "false"


def duration_text(value: timedelta) -> str:
    """Return a duration as ProtoJSON writes it: `1.5s`."""
    seconds, micros = split_duration(value)
    if not micros:
        return f"{seconds}s"
    sign = "-" if seconds < 0 or micros < 0 else ""
    return f"{sign}{abs(seconds)}.{abs(micros):06}".rstrip("0") + "s"


_NODES: Final[Mapping[str, Callable[[Any], Any]]] = {
    "length": duration_text,
    "mask": mask_text,
    "packed": _any,
    "plain": _plain,
    "key": _key,
}
_WRAPS: Final = {
    "timestamp": "moment",
    "double": "real",
    "float": "real",
    "duration": "length",
    "field_mask": "mask",
    "any": "packed",
    "struct": "plain",
    "value": "plain",
    "list_value": "plain",
}
