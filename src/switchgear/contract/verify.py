"""Says which field of a message cannot be written, after a writer has failed.

Constructors trust their arguments and writers do not look twice, so that neither costs anything.
When a writer fails, this walk finds the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias

from switchgear.contract.declaration import Field, fields_of
from switchgear.contract.enums import Enum
from switchgear.contract.kinds import Kind, Shape
from switchgear.contract.message import Message
from switchgear.contract.reading import MAX_SECONDS, escaped, invalid
from switchgear.errors import InvalidMessage

__all__ = ["MAX_DEPTH", "unwritable"]

Check: TypeAlias = Callable[[Kind, object], str | None]

MAX_DEPTH: Final = 100
"""How deep messages may contain each other: what protobuf's parsers accept."""


def unwritable(message: Message, error: Exception) -> InvalidMessage:
    """Return the error that names the first field of `message` that no wire can carry."""
    cls = type(message)
    for check in (_fault, _unnumbered):  # the second is none for JSON
        for pointer, what in _faults(message, "", 0, check):
            return invalid(cls, what, pointer)
    return invalid(cls, f"cannot be written: {error}", "")


def _faults(message: Message, pointer: str, depth: int, check: Check) -> Iterator[tuple[str, str]]:
    if depth > MAX_DEPTH:
        yield pointer, f"is nested more than {MAX_DEPTH} levels deep"
        return
    for name, field in fields_of(type(message)).items():
        value = getattr(message, name)
        if value is None and field.type.optional:
            continue
        for at, kind, item in _items(field, value, f"{pointer}/{field.json}"):
            if isinstance(item, Message) and isinstance(item, kind.python):
                yield from _faults(item, at, depth + 1, check)
            else:
                fault = check(kind, item)
                if fault:
                    yield at, fault


def _items(field: Field, value: Any, here: str) -> Iterator[tuple[str, Kind, object]]:
    if field.type.shape is Shape.ONE:
        yield here, field.kind, value
    elif field.type.key is not None and isinstance(value, dict):
        for key, item in value.items():
            at = f"{here}/{escaped(key)}"
            yield at, field.type.key, key
            yield at, field.kind, item
    elif field.type.key is None and isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield f"{here}/{index}", field.kind, item
    else:
        yield here, Kind(field.type.shape.value, type(field)), value


def _fault(kind: Kind, value: object) -> str | None:
    if isinstance(value, datetime) and value.utcoffset() is None:
        return "is a time without a time zone: use datetime.now(UTC)"
    if not kind.accepts(value):
        if kind.is_int and type(value) is int:
            return f"is out of range for {kind.name}"
        return f"is not of the type of the field ({kind.name}): {type(value).__name__}"
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return "is not valid Unicode"
    if isinstance(value, timedelta) and abs(value) > timedelta(seconds=MAX_SECONDS):
        return "is a longer time than protobuf can tell"
    return None


def _unnumbered(_kind: Kind, value: object) -> str | None:
    if isinstance(value, Enum) and value._number_ is None:
        return f"came as {value._value_}, a name whose number is not known here: JSON carries it"
    return None
