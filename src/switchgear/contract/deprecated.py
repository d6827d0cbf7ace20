"""What is deprecated and was used all the same: so that a team knows when it can go.

A field counts as used where it differs from what a message without it would hold, and a member of
an enumeration where it is the value. Of two names for one number nothing can tell which was meant:
protobuf carries the number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from switchgear.contract.declaration import Field, fields_of, full_name, reach
from switchgear.contract.enums import Enum, labels_of
from switchgear.contract.kinds import Shape
from switchgear.contract.message import Message

__all__ = ["Uses", "uses_of"]

Uses: TypeAlias = Callable[[Message], set[str]]
"""Tells the full names of the deprecated fields and members that a message uses."""


def uses_of(cls: type[Message]) -> Uses | None:
    """Return what finds deprecated things in messages of `cls`; None if there are none."""
    messages = [one for one in reach(cls) if issubclass(one, Message)]
    looked: dict[type[Message], list[Field]] = {}
    grown = True
    while grown:  # until nobody else holds one of those
        found = {
            one: [field for field in fields_of(one).values() if _matters(field, looked)]
            for one in messages
        }
        found = {one: fields for one, fields in found.items() if fields}
        grown = found != looked
        looked = found
    if cls not in looked:
        return None
    return lambda message: set(_uses(message, looked))


def _matters(field: Field, looked: dict[type[Message], list[Field]]) -> bool:
    kind = field.kind
    members = labels_of(kind.python).values() if kind.name == "enum" else ()
    return (
        field.spec.deprecated or kind.python in looked or any(label.deprecated for label in members)
    )


def _uses(message: Message, looked: dict[type[Message], list[Field]]) -> Iterator[str]:
    cls = type(message)
    for field in looked[cls]:
        value = getattr(message, field.name)
        if not _is_there(field, value):
            continue
        if field.spec.deprecated:
            yield f"{full_name(cls)}.{field.wire}"
        for one in _items(field, value):
            if isinstance(one, Message) and type(one) in looked:
                yield from _uses(one, looked)
            elif isinstance(one, Enum):
                yield from _members(one)


def _is_there(field: Field, value: Any) -> bool:
    """Whether a field says something. Zero says nothing where protobuf would leave it out."""
    if field.has_presence:
        return value is not None and not (field.has_default and value == field.absent())
    return value._number_ != 0 if isinstance(value, Enum) else bool(value)


def _items(field: Field, value: Any) -> Iterator[Any]:
    if field.type.shape is Shape.ONE:
        yield value
    else:
        yield from value.values() if field.type.key is not None else value


def _members(value: Enum) -> Iterator[str]:
    cls = type(value)
    for name, label in labels_of(cls).items():
        if label.deprecated and name == value._value_:
            yield f"{full_name(cls)}.{name}"
