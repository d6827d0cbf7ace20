"""buf's rules about enumerations."""

from __future__ import annotations

from collections.abc import Iterator

from switchgear.contract.check.features import Features
from switchgear.contract.check.finding import BYTES, CODE, JSON, Found
from switchgear.contract.check.pairs import Pairs
from switchgear.contract.check.rules.ranges import dropped_names, dropped_numbers
from switchgear.contract.check.rules.registry import rule
from switchgear.contract.check.rules.text import aliased, member, quoted, reserving
from switchgear.contract.check.schema import ENUM_OPTIONS, VALUE_NUMBER, Enum

_FEATURES, _ENUM_TYPE, _JSON_FORMAT = 7, 2, 6


@rule("ENUM_SAME_TYPE", Pairs.enums, CODE)
def same_type(_: Pairs, old: Enum, new: Enum) -> Iterator[Found]:
    """A closed enumeration keeps numbers that it does not know apart, an open one does not."""
    if old.is_closed != new.is_closed:
        told = ["closed" if one.is_closed else "open" for one in (old, new)]
        yield Found(
            f"The enumeration {new.nested_name} changed from {told[0]} to {told[1]}.",
            f"Keep it {told[0]}: `option features.enum_type = {told[0].upper()};` in an edition.",
            new.place((ENUM_OPTIONS, _FEATURES, _ENUM_TYPE)),
            new.full_name,
            old,
        )


@rule("ENUM_SAME_JSON_FORMAT", Pairs.enums, JSON)
def same_json_format(_: Pairs, old: Enum, new: Enum) -> Iterator[Found]:
    """JSON may be a promise, or whatever works."""
    allow = Features.ALLOW
    if old.features.json_format == allow and new.features.json_format != allow:
        yield Found(
            f"JSON of the enumeration {new.nested_name} is no longer a promise.",
            "Write `option features.json_format = ALLOW;`, or keep the syntax.",
            new.place((ENUM_OPTIONS, _FEATURES, _JSON_FORMAT)),
            new.full_name,
            old,
        )


@rule("ENUM_VALUE_NO_DELETE", Pairs.enums, CODE)
def value_no_delete(_: Pairs, old: Enum, new: Enum) -> Iterator[Found]:
    """Generated code names values."""
    for number, names in old.values.items():
        if number not in new.values:
            back = " and ".join(member(old, name, number, deprecated=True) for name in names)
            yield _deleted(old, new, number, f"Put back {back}.")


@rule("ENUM_VALUE_NO_DELETE_UNLESS_NAME_RESERVED", Pairs.enums, JSON)
def value_no_delete_unless_name_reserved(_: Pairs, old: Enum, new: Enum) -> Iterator[Found]:
    """JSON carries names; a reserved one cannot come back with another meaning."""
    for number, names in old.values.items():
        missing = [name for name in names if name not in new.reserved_names]
        if number not in new.values and missing:
            yield _deleted(old, new, number, f"Add {reserving(new, quoted(missing))}.")


@rule("ENUM_VALUE_NO_DELETE_UNLESS_NUMBER_RESERVED", Pairs.enums, BYTES)
def value_no_delete_unless_number_reserved(_: Pairs, old: Enum, new: Enum) -> Iterator[Found]:
    """Bytes carry numbers; a reserved one cannot come back with another meaning."""
    for number in old.values:
        if number not in new.values and not any(number in one for one in new.reserved):
            yield _deleted(old, new, number, f"Add {reserving(new, str(number))}.")


def _deleted(old: Enum, new: Enum, number: int, edit: str) -> Found:
    names = " and ".join(old.values[number])
    return Found(
        f"The value {number} ({names}) of {new.nested_name} was deleted.",
        edit,
        new.place(),
        f"{new.full_name}.{next(iter(old.values[number]))}",
        old,
    )


@rule("ENUM_VALUE_SAME_NAME", Pairs.enums, JSON)
def value_same_name(_: Pairs, old: Enum, new: Enum) -> Iterator[Found]:
    """Every name that a number had stays; an alias may join it."""
    for number, before in old.values.items():
        after = new.values.get(number, {})
        lost = [name for name in before if name not in after]
        if not after or not lost:
            continue
        for name, value in after.items():
            yield Found(
                f"The value {number} of {new.nested_name} changed its name from "
                f"{' and '.join(before)} to {' and '.join(after)}.",
                f"Put back {' and '.join(member(old, one, number) for one in lost)}, and if you "
                f"need {name} too, allow aliases ({aliased(new)}).",
                value.place((VALUE_NUMBER,)),
                f"{new.full_name}.{lost[0]}",
                old,
            )


@rule("RESERVED_ENUM_NO_DELETE", Pairs.enums, BYTES)
def reserved_no_delete(_: Pairs, old: Enum, new: Enum) -> Iterator[Found]:
    """What is reserved was used once, and old bytes may still hold it."""
    yield from dropped_numbers("reserved", old, new, old.reserved, new.reserved)
    yield from dropped_names(old, new)
