"""What an element looks like in the new version's language: the words of an edit.

Most of it is protobuf; fields of Python modules are told in Python (see `python`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from switchgear.contract.check.rules.python import in_python, member_in_python
from switchgear.contract.check.schema import Enum, Field, Message

__all__ = [
    "aliased",
    "beside",
    "declared",
    "free_number",
    "member",
    "quoted",
    "reserving",
    "retired",
    "spans",
]

_RANGE: Final = re.compile(r"(-?\d+) to (-?\d+|max)")
_MAX_NUMBER = 536_870_911
_OWN_NUMBERS = range(19_000, 20_000)


def declared(
    field: Field, *, name: str = "", number: int = 0, absent: bool = False, **said: str | int
) -> str:
    """Return the declaration of a field, perhaps under another name or number.

    In Python a new field is `absent` from older messages, and `said` are arguments of `field`.
    """
    if field.file.spelled is not None:
        return in_python(field, name=name, number=number, absent=absent, said=said)
    label, told = "", field.text_of_type
    if field.cardinality in {"repeated", "map"}:
        pass
    elif field.cardinality == "required" and field.file.syntax == "proto2":
        label = "required "
    elif field.proto.proto3_optional or (field.file.syntax == "proto2" and not field.oneof):
        label = "optional "
    return f"{label}{told} {name or field.name} = {number or field.number};"


def retired(field: Field) -> str:
    """Return the declaration of a field that is kept for those who still use it."""
    if field.file.spelled is not None:
        return f"`{declared(field, deprecated=True)}`"
    return f"`{declared(field)[:-1]} [deprecated = true];`"


def renamed_in_code(old: Field, new: Field) -> str:
    """Return the declaration that gives a field its new name in code alone."""
    if new.file.spelled is not None:
        return in_python(new, name="", number=0, absent=False, said={"name": old.name})
    return f'{declared(new)[:-1]} [json_name = "{old.proto.json_name}"];'


def member(enum: Enum, name: str, number: int, *, deprecated: bool = False) -> str:
    """Return the declaration of a value of an enumeration, as it is written in the new version."""
    if enum.file.spelled is not None:
        said = {"deprecated": True} if deprecated else {}
        return f"`{member_in_python(enum, name, number, said)}`"
    return f"`{name} = {number}{' [deprecated = true]' * deprecated};`"


def aliased(enum: Enum) -> str:
    """Return how an enumeration allows two names for one number."""
    return "`aliases=True`" if enum.file.spelled is not None else "`option allow_alias = true;`"


def reserving(element: Message | Enum, *words: str) -> str:
    """Return what reserves numbers, ranges (`4 to 6`) and quoted names."""
    if element.file.spelled is None:
        return f"`reserved {', '.join(words)};`"
    each = ", ".join(words).split(", ")
    listed = [_RANGE.sub(lambda found: _range(found, most_of(element)), one) for one in each]
    return f"`reserved=({', '.join(listed)}{',' * (len(listed) == 1)})`"


def _range(found: re.Match[str], most: int) -> str:
    last = most if found[2] == "max" else int(found[2])
    return f"range({found[1]}, {last + 1})"


def free_number(message: Message, *others: Message) -> int:
    """Return the first number after all that any of the versions has used or reserved."""
    used = [number for one in (message, *others) for number in one.fields]
    used += [span.stop - 1 for one in (message, *others) for span in one.reserved]
    number = max((one for one in used if one < _MAX_NUMBER), default=0) + 1
    return _OWN_NUMBERS.stop if number in _OWN_NUMBERS else number


def beside(old: Field, new: Field) -> str:
    """Return the edit that keeps the old field and adds the new one as a field of its own."""
    if new.parent is None or old.parent is None or new.extendee:
        return f"Put back `{declared(old)}` and declare the new meaning as an extension of its own."
    number = free_number(new.parent, old.parent)
    taken = {one.name for side in (old.parent, new.parent) for one in side.fields.values()}
    name = new.name if new.name != old.name else f"{new.name}_{number}"
    while name != new.name and name in taken:
        name += "_"
    added = declared(new, name=name, number=number, absent=True)
    return (
        f"Put back {retired(old)}, add `{added}`, "
        "and move callers over before you delete the old one."
    )


def quoted(names: Iterable[str]) -> str:
    """Return names as `reserved` lists them."""
    return ", ".join(f'"{name}"' for name in names)


def spans(ranges: Iterable[range], most: int = _MAX_NUMBER) -> str:
    """Return ranges of numbers as `reserved` lists them."""
    return ", ".join(
        str(one.start)
        if len(one) == 1
        else f"{one.start} to {'max' if one.stop - 1 == most else one.stop - 1}"
        for one in ranges
    )


def most_of(element: Message | Enum) -> int:
    """Return the highest number that there can be, which is written `max`."""
    return 2**31 - 1 if isinstance(element, Enum) else _MAX_NUMBER
