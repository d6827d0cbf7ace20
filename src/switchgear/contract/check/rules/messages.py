"""buf's rules about messages as a whole."""

from __future__ import annotations

from collections.abc import Iterator

from switchgear.contract.check.features import Features
from switchgear.contract.check.finding import BYTES, CODE, JSON, Found
from switchgear.contract.check.pairs import Pairs
from switchgear.contract.check.rules.ranges import dropped_names, dropped_numbers
from switchgear.contract.check.rules.registry import rule
from switchgear.contract.check.rules.text import (
    declared,
    quoted,
    reserving,
    retired,
)
from switchgear.contract.check.schema import (
    LABEL_REQUIRED,
    MESSAGE_OPTIONS,
    Field,
    Message,
)

_ACCESSOR, _FEATURES, _JSON_FORMAT = 2, 12, 6


@rule("FIELD_NO_DELETE", Pairs.messages, CODE)
def field_no_delete(_: Pairs, old: Message, new: Message) -> Iterator[Found]:
    """Generated code names fields."""
    for field in _gone(old, new):
        edit = f"Put back {retired(field)}."
        yield _deleted(field, new, edit)


@rule("FIELD_NO_DELETE_UNLESS_NAME_RESERVED", Pairs.messages, JSON)
def field_no_delete_unless_name_reserved(_: Pairs, old: Message, new: Message) -> Iterator[Found]:
    """JSON carries names; a reserved one cannot come back with another meaning."""
    for field in _gone(old, new):
        if field.name not in new.reserved_names:
            yield _deleted(field, new, f"Add {reserving(new, quoted([field.name]))}.")


@rule("FIELD_NO_DELETE_UNLESS_NUMBER_RESERVED", Pairs.messages, BYTES)
def field_no_delete_unless_number_reserved(_: Pairs, old: Message, new: Message) -> Iterator[Found]:
    """Bytes carry numbers; a reserved one cannot come back with another meaning."""
    for field in _gone(old, new):
        if not any(field.number in one for one in new.reserved):
            yield _deleted(field, new, f"Add {reserving(new, str(field.number))}.")


def _gone(old: Message, new: Message) -> Iterator[Field]:
    return (field for number, field in old.fields.items() if number not in new.fields)


def _deleted(field: Field, new: Message, edit: str) -> Found:
    return Found(f"{field.described} was deleted.", edit, new.place(), field.full_name, field)


@rule("ONEOF_NO_DELETE", Pairs.messages, CODE)
def oneof_no_delete(_: Pairs, old: Message, new: Message) -> Iterator[Found]:
    """Generated code names oneofs."""
    for name in old.oneofs:
        # A oneof that stands for `optional` of proto3 has a name too, which buf lets count.
        if name not in {one.name for one in new.proto.oneof_decl}:
            yield Found(
                f"The oneof {name} of {new.nested_name} was deleted.",
                f"Put back `oneof {name}` with the fields it had.",
                new.place(),
                f"{new.full_name}.{name}",
                old,
            )


@rule("EXTENSION_MESSAGE_NO_DELETE", Pairs.messages, BYTES)
def extension_ranges_no_delete(_: Pairs, old: Message, new: Message) -> Iterator[Found]:
    """Extensions that others declared stand in these ranges."""
    before, after = (
        [range(one.start, one.end) for one in side.proto.extension_range] for side in (old, new)
    )
    yield from dropped_numbers("extension", old, new, before, after)


@rule("RESERVED_MESSAGE_NO_DELETE", Pairs.messages, BYTES)
def reserved_no_delete(_: Pairs, old: Message, new: Message) -> Iterator[Found]:
    """What is reserved was used once, and old bytes may still hold it."""
    yield from dropped_numbers("reserved", old, new, old.reserved, new.reserved)
    yield from dropped_names(old, new)


@rule("MESSAGE_SAME_REQUIRED_FIELDS", Pairs.messages, BYTES)
def same_required_fields(_: Pairs, old: Message, new: Message) -> Iterator[Found]:
    """A parser refuses a message without a required field."""
    before, after = (
        {field.number: field for field in side.fields.values() if _is_required(field)}
        for side in (old, new)
    )
    for number in before.keys() - after.keys():
        yield Found(
            f"The required field {number} of {new.nested_name} was deleted or is not required any "
            "more: readers of the old version refuse messages without it.",
            f"Put back `{declared(before[number])}`.",
            new.place(),
            before[number].full_name,
            old,
        )
    for number in after.keys() - before.keys():
        yield Found(
            f"The required field {number} of {new.nested_name} was added: messages of the old "
            "version are refused.",
            "Make it optional.",
            after[number].place(),
            after[number].full_name,
            old,
        )


def _is_required(field: Field) -> bool:
    return field.proto.label == LABEL_REQUIRED


@rule("MESSAGE_SAME_JSON_FORMAT", Pairs.messages, JSON)
def same_json_format(_: Pairs, old: Message, new: Message) -> Iterator[Found]:
    """JSON may be a promise, or whatever works."""
    allow = Features.ALLOW
    if old.features.json_format == allow and new.features.json_format != allow:
        yield Found(
            f"JSON of the message {new.nested_name} is no longer a promise.",
            "Write `option features.json_format = ALLOW;`, or keep the syntax.",
            new.place((MESSAGE_OPTIONS, _FEATURES, _JSON_FORMAT)),
            new.full_name,
            old,
        )


@rule("MESSAGE_NO_REMOVE_STANDARD_DESCRIPTOR_ACCESSOR", Pairs.messages, CODE)
def no_remove_accessor(_: Pairs, old: Message, new: Message) -> Iterator[Found]:
    """Generated code asks for the descriptor by this accessor."""
    before, after = (one.proto.options.no_standard_descriptor_accessor for one in (old, new))
    if after and not before:
        yield Found(
            f"{new.nested_name} lost its standard accessor of the descriptor.",
            "Take `option no_standard_descriptor_accessor = true;` out again.",
            new.place((MESSAGE_OPTIONS, _ACCESSOR)),
            new.full_name,
            old,
        )
