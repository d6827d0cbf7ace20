"""What earlier versions used and reserved still counts: their bytes and readers are out there.

| in the version before | in an earlier one | now | it is |
| --- | --- | --- | --- |
| number 4 is not used | 4 was `note`, string | 4 is something else | NUMBER_REUSED |
| number 4 is reserved | | 4 is used | NUMBER_REUSED |
| name `note` is not used | `note` was 4 | `note` is another number | NAME_REUSED |
| name `note` is reserved | | `note` is used | NAME_REUSED |
| any | 4 or `note` was reserved | neither reserved nor used | RESERVATION_DROPPED |
| the message is not there | it was, with other fields | it is there | MESSAGE_RECREATED |

A field that comes back as it was, with its number, name and type, is none of these.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from switchgear.contract.check.finding import BYTES, JSON, Found, Was
from switchgear.contract.check.pairs import Pairs
from switchgear.contract.check.rules.ranges import missing
from switchgear.contract.check.rules.registry import whole
from switchgear.contract.check.rules.text import (
    declared,
    free_number,
    member,
    quoted,
    reserving,
)
from switchgear.contract.check.schema import Enum, Message
from switchgear.contract.history import Past, Used

REUSED: Final = frozenset({"NUMBER_REUSED", "NAME_REUSED", "MESSAGE_RECREATED"})
"""The rules that find something back as something else."""
HISTORY: Final = REUSED | {"RESERVATION_DROPPED"}
"""The rules that ask about all versions at once."""


@whole("NUMBER_REUSED", BYTES)
def number_reused(pairs: Pairs) -> Iterator[Found]:
    """Old bytes hold the old value under the number."""
    for message, latest, earlier in _messages(pairs):
        for number, field in message.fields.items():
            if number in latest.fields:
                continue  # what became of it since is for other rules
            as_now = (field.name, field.text_of_type)
            was = _last(earlier, message.full_name, number)
            reserved = _reserving(number, latest, earlier, message.full_name)
            if was is not None and was[1] != as_now:
                told = f"{was[1][0]} ({was[1][1]}) in {was[0].version}"
            elif was is None and reserved:
                told = f"reserved in {reserved}"
            else:
                continue
            free = free_number(message, *_sides(pairs, message))
            yield Found(
                f"{field.described} uses a number that was {told}.",
                f"Write `{declared(field, number=_beyond(free, earlier, message.full_name))}`, and "
                f"{reserving(message, str(number))}.",
                field.place(),
                field.full_name,
                about=(f"{message.full_name}.{was[1][0]}",) if was is not None else (),
                was=Was(field, was[1][0], was[1][1], number) if was is not None else None,
            )
    yield from _values_reused(pairs)


def _values_reused(pairs: Pairs) -> Iterator[Found]:
    for enum, latest in pairs.enum_news():
        name = enum.full_name
        for number, names in enum.values.items():
            if number in latest.fields:
                continue
            had = next(
                (
                    (past.version, past.enums[name].fields[number])
                    for past in pairs.past
                    if name in past.enums
                    and number in past.enums[name].fields
                    and not names.keys() & set(past.enums[name].fields[number])
                ),
                None,
            )
            if had is not None or latest.reserves(number):
                was = (
                    f"{' and '.join(had[1])} in {had[0]}"
                    if had
                    else "reserved in the version before"
                )
                value = next(iter(names.values()))
                free = max((*enum.values, *latest.fields)) + 1
                yield Found(
                    f"The value {value.name} = {number} of {enum.nested_name} uses a number that "
                    f"was {was}.",
                    f"Write {member(enum, value.name, free)} and {reserving(enum, str(number))}.",
                    value.place(),
                    value.full_name,
                    about=tuple(f"{name}.{one}" for one in had[1]) if had else (),
                )


@whole("NAME_REUSED", JSON)
def name_reused(pairs: Pairs) -> Iterator[Found]:
    """Old JSON holds the old value under the name."""
    for message, latest, earlier in _messages(pairs):
        before = {name for name, *_ in latest.fields.values()}
        for field in message.fields.values():
            if field.name in before or field.number in latest.fields:
                continue  # a rename is for other rules
            used = [
                (past.version, number, told)
                for past in earlier
                for number, told in _fields(past, message.full_name).items()
                if told[0] == field.name
            ]
            reserved = next(
                (
                    version
                    for version, used_then in _versions(pairs, message, latest)
                    if field.name in used_then.names
                ),
                None,
            )
            if used and (used[0][1], used[0][2][1]) != (field.number, field.text_of_type):
                told = f"that of {used[0][1]} ({used[0][2][1]}) in {used[0][0]}"
            elif not used and reserved:
                told = f"reserved in {reserved}"
            else:
                continue
            yield Found(
                f"{field.described} uses a name that was {told}.",
                "Choose a name that was never used, and write "
                f"{reserving(message, quoted([field.name]))}.",
                field.place(),
                field.full_name,
                was=Was(field, used[0][2][0], used[0][2][1], used[0][1]) if used else None,
            )


@whole("RESERVATION_DROPPED", BYTES)
def reservation_dropped(pairs: Pairs) -> Iterator[Found]:
    """What is not reserved any more will be used again one day."""
    for element, latest in _elements(pairs):
        numbers, names = _dropped(element, _versions(pairs, element, latest))
        if numbers or names:
            told = [
                *(f"{first} to {last}" if last > first else str(first) for first, last in numbers),
                *(f'"{name}"' for name in names),
            ]
            again = [
                reserving(element, *one)
                for one in (told[: len(numbers)], told[len(numbers) :])
                if one
            ]
            since = next(iter((*numbers.values(), *names.values())))
            yield Found(
                f"{', '.join(told)} of {element.nested_name} was reserved in {since} and is not "
                "any more.",
                f"Add {' and '.join(again)}.",
                element.place(),
                element.full_name,
            )


@whole("MESSAGE_RECREATED", BYTES)
def message_recreated(pairs: Pairs) -> Iterator[Found]:
    """A name means one message for ever: old bytes are read as the new one."""
    for name, message in pairs.all_new.messages.items():
        if name in pairs.all_old.messages or message.is_map_entry:
            continue
        past = next((one for one in pairs.past if name in one.messages), None)
        if past is None:
            continue
        before = past.messages[name].fields
        other = [
            Was(field, before[number][0], before[number][1], number)
            for number, field in message.fields.items()
            if number in before and before[number] != (field.name, field.text_of_type)
        ]
        if other:
            told = ", ".join(f"{one.number} was {one.name} ({one.kind})" for one in other)
            yield Found(
                f"{message.nested_name} was deleted after {past.version} and is another message "
                f"now: {told}.",
                f"Give it a name that was never used, or numbers after {max(before, default=0)}.",
                message.place(),
                name,
                was=other[0],
            )


def _messages(pairs: Pairs) -> Iterator[tuple[Message, Used, list[Past]]]:
    """Yield each message that was there before, with what it used then and earlier."""
    for message, used in pairs.news():
        yield message, used, [one for one in pairs.past if message.full_name in one.messages]


def _elements(pairs: Pairs) -> Iterator[tuple[Message | Enum, Used | None]]:
    """Yield what is there now, with what the version before used of it, if it was there."""
    yield from pairs.news()
    yield from pairs.enum_news()
    if not pairs.past:
        return
    known = {**pairs.all_old.messages, **pairs.all_old.enums}
    yield from ((one, None) for name, one in pairs.all_new.messages.items() if name not in known)
    yield from ((one, None) for name, one in pairs.all_new.enums.items() if name not in known)


def _versions(
    pairs: Pairs, element: Message | Enum, latest: Used | None
) -> Iterator[tuple[str, Used]]:
    """Yield the old versions by name, the newest first, with what each used of an element."""
    if latest is not None:
        yield pairs.label, latest
    for past in pairs.past:
        used = past.used(element.full_name)
        if used is not None:
            yield past.version, used


def _fields(past: Past, name: str) -> Mapping[int, tuple[str, ...]]:
    used = past.messages.get(name)
    return used.fields if used else {}


def _last(earlier: list[Past], name: str, number: int) -> tuple[Past, tuple[str, ...]] | None:
    """Return the newest version that used a number, and for what."""
    return next(
        ((past, _fields(past, name)[number]) for past in earlier if number in _fields(past, name)),
        None,
    )


def _reserving(number: int, latest: Used, earlier: list[Past], name: str) -> str | None:
    if latest.reserves(number):
        return "the version before"
    return next((one.version for one in earlier if one.messages[name].reserves(number)), None)


def _sides(pairs: Pairs, message: Message) -> list[Message]:
    old = pairs.all_old.messages.get(message.full_name)
    return [old] if old else []


def _beyond(free: int, earlier: list[Past], name: str) -> int:
    """Return a number that no earlier version used either."""
    return max([free, *(number + 1 for past in earlier for number in _fields(past, name))])


def _dropped(
    element: Message | Enum, versions: Iterable[tuple[str, Used]]
) -> tuple[Mapping[tuple[int, int], str], Mapping[str, str]]:
    """Return the numbers and names that some version reserved, and nothing holds now."""
    now: Mapping[int, object]
    if isinstance(element, Message):
        now = element.fields
        names = {field.name for field in element.fields.values()}
    else:
        now = element.values
        names = {name for of in element.values.values() for name in of}
    numbers: dict[tuple[int, int], str] = {}
    gone: dict[str, str] = {}
    for version, used in versions:
        for first, last in used.reserved:
            for span in _uncovered(first, last, element, now):
                numbers.setdefault(span, version)
        for name in used.names:
            if name not in names and name not in element.reserved_names:
                gone.setdefault(name, version)
    return numbers, gone


def _uncovered(
    first: int, last: int, element: Message | Enum, now: Mapping[int, object]
) -> Iterator[tuple[int, int]]:
    taken = [*element.reserved, *(range(number, number + 1) for number in now)]
    for span in missing(range(first, last + 1), taken):
        yield span.start, span.stop - 1
