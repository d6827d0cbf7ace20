"""What was meant by a change of a name: a rename, another use of the number, or an exchange.

| old 3 is `price`, new 3 is `discount`, and | it is |
| --- | --- |
| `discount` was 5 and `price` is 5 now | FIELDS_SWAPPED |
| `price` is another number now, or `discount` was another number before | FIELD_REPURPOSED |
| what was said of `price` is said of another number now | FIELD_REPURPOSED |
| the type or the unit of 3 changed too | FIELD_REPURPOSED |
| neither the names nor the comments of 3 share a word | FIELD_REPURPOSED |
| otherwise | FIELD_RENAMED |

An extension that keeps its name and changes its number is EXTENSION_RENUMBERED. All others
are compatible on the wire: nothing fails, and values arrive under another name.
"""

from __future__ import annotations

from collections.abc import Iterator

from switchgear.contract.check.finding import BYTES, JSON, Found
from switchgear.contract.check.pairs import Pairs
from switchgear.contract.check.rules.python import member_in_python
from switchgear.contract.check.rules.registry import rule
from switchgear.contract.check.rules.text import (
    aliased,
    declared,
    free_number,
    member,
    renamed_in_code,
    retired,
)
from switchgear.contract.check.schema import FIELD_NAME, VALUE_NUMBER, Enum, Field, Message
from switchgear.contract.check.words import MEANING, declarations, prose, related


def _renamed(old: Message, new: Message) -> Iterator[tuple[Field, Field]]:
    if not old.is_map_entry:
        for number, before in old.fields.items():
            after = new.fields.get(number)
            if after is not None and after.name != before.name:
                yield before, after


def _by_name(message: Message) -> dict[str, Field]:
    return {field.name: field for field in message.fields.values()}


def _partner(old: Field, new: Field) -> Field | None:
    """Return the new field that has the old name, if it had the new name before."""
    if old.parent is None or new.parent is None:
        return None
    was, now = _by_name(old.parent).get(new.name), _by_name(new.parent).get(old.name)
    return now if was and now and was.number == now.number else None


def _reason(old: Field, new: Field) -> str:
    """Return why the number is used for something else; empty where it was only renamed."""
    return next(_reasons(old, new), "")


def _reasons(old: Field, new: Field) -> Iterator[str]:
    if old.parent is None or new.parent is None:
        return
    now, was = _by_name(new.parent).get(old.name), _by_name(old.parent).get(new.name)
    if now is not None:
        yield f"{old.name} is {now.number} now"
    if was is not None:
        yield f"{new.name} was {was.number} before"
    said, says = prose(old.comment), prose(new.comment)
    for number, one in new.parent.fields.items():
        if said and number not in old.parent.fields and prose(one.comment) == said:
            yield f"what was said of {old.name} is said of {one.name} = {number} now"
    if (old.kind, old.type_name) != (new.kind, new.type_name):
        yield f"its type changed from {old.type_text} to {new.type_text} too"
    before, after = declarations(old.comment), declarations(new.comment)
    for key in MEANING:
        if key in before and before[key] != after.get(key):
            yield f"its {key} changed too"
    if said and says and not related(said, says) and not related(old.name, new.name):
        yield "neither its names nor its comments have a word in common"


@rule("FIELD_RENAMED", Pairs.messages, JSON)
def field_renamed(_: Pairs, old: Message, new: Message) -> Iterator[Found]:
    """JSON, generated code and people know a field by its name."""
    for before, after in _renamed(old, new):
        if _partner(before, after) is None and not _reason(before, after):
            yield Found(
                f"Field {after.number} of {new.nested_name} was renamed from {before.name} to "
                f"{after.name}.",
                f"Write `{declared(before)}` again; or, if only code is to see the new name, "
                f"`{renamed_in_code(before, after)}`.",
                after.place((FIELD_NAME,)),
                before.full_name,
                before,
                about=(after.full_name,),
            )


@rule("FIELD_REPURPOSED", Pairs.messages, BYTES)
def field_repurposed(_: Pairs, old: Message, new: Message) -> Iterator[Found]:
    """A number means one thing for ever: old senders still mean the old one."""
    for before, after in _renamed(old, new):
        reason = _reason(before, after)
        if _partner(before, after) is not None or not reason:
            continue
        number = free_number(new, old)
        now, was = _by_name(new).get(before.name), _by_name(old).get(after.name)
        if was is not None and was.number not in new.fields:
            number = was.number  # it has a number of its own already
        moved = f", instead of {before.name} = {now.number}" if now else ""
        yield Found(
            f"Field {after.number} of {new.nested_name} was {before.name} and is used for "
            f"{after.name} now: {reason}.",
            f"Put back {retired(before)}{moved} and write "
            f"`{declared(after, number=number, absent=True)}`.",
            after.place((FIELD_NAME,)),
            before.full_name,
            before,
            about=(after.full_name,),
        )


@rule("EXTENSION_RENUMBERED", Pairs.moved_extensions, BYTES)
def extension_renumbered(_: Pairs, old: Field, new: Field) -> Iterator[Found]:
    """The number is the extension; its name is for those who read the file."""
    yield Found(
        f"The extension {new.full_name} of {new.extendee} was {old.number} and is {new.number} "
        "now: what has one number is not found under the other.",
        f"Give it the number {old.number} again, and what is new a name of its own.",
        new.place((FIELD_NAME,)),
        old.full_name,
        old,
    )


@rule("FIELDS_SWAPPED", Pairs.messages, BYTES)
def fields_swapped(_: Pairs, old: Message, new: Message) -> Iterator[Found]:
    """Each reader takes one for the other."""
    for before, after in _renamed(old, new):
        partner = _partner(before, after)
        if partner is not None and after.number < partner.number:
            yield Found(
                f"{before.name} and {after.name} of {new.nested_name} exchanged their "
                f"numbers {after.number} and {partner.number}.",
                f"Give each its number back: `{declared(partner, number=after.number)}` and "
                f"`{declared(after, number=partner.number)}`.",
                after.place((FIELD_NAME,)),
                before.full_name,
                before,
                about=(after.full_name,),
            )


def _lost(old: Enum, new: Enum) -> Iterator[tuple[int, str, str]]:
    """Yield number, old name and new name of values that kept their number and no name."""
    for number, before in old.values.items():
        after = new.values.get(number)
        if after and not before.keys() & after.keys():
            yield number, next(iter(before)), next(iter(after))


def _numbers(enum: Enum) -> dict[str, int]:
    return {name: number for number, names in enum.values.items() for name in names}


def _in_code(new: Enum, before: str, after: str, number: int) -> str:
    """Return what gives a member its new name in Python alone."""
    if new.file.spelled is None:
        return ""
    named = member_in_python(new, after, number, {"name": before})
    return f"; or, if only code is to see the new name, `{named}`"


@rule("ENUM_VALUE_RENAMED", Pairs.enums, JSON)
def enum_value_renamed(_: Pairs, old: Enum, new: Enum) -> Iterator[Found]:
    """JSON carries the name."""
    for number, before, after in _lost(old, new):
        if before not in _numbers(new) and after not in _numbers(old):
            yield Found(
                f"The value {number} of {new.nested_name} was renamed from {before} to {after}.",
                f"Write {member(old, before, number)} first and keep {member(new, after, number)} "
                f"as its alias ({aliased(new)}){_in_code(new, before, after, number)}.",
                new.values[number][after].place((VALUE_NUMBER,)),
                f"{old.full_name}.{before}",
                old,
                witness=f"{number} was written as {before} and reads {after}",
            )


@rule("ENUM_VALUE_REPURPOSED", Pairs.enums, BYTES)
def enum_value_repurposed(_: Pairs, old: Enum, new: Enum) -> Iterator[Found]:
    """A number means one thing for ever: old senders still mean the old one."""
    for number, before, after in _lost(old, new):
        now, was = _numbers(new).get(before), _numbers(old).get(after)
        if now is None and was is None:
            continue
        told = f"{before} is {now} now" if now is not None else f"{after} was {was} before"
        free = max((*new.values, *old.values)) + 1 if was is None else was
        yield Found(
            f"The value {number} of {new.nested_name} was {before} and is {after}: {told}.",
            f"Write {member(old, before, number)} and {member(new, after, free)}.",
            new.values[number][after].place((VALUE_NUMBER,)),
            f"{old.full_name}.{before}",
            old,
            witness=f"{number} was written as {before} and reads {after}",
        )
