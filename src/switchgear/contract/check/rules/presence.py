"""What has to be there, and whether absence is told from zero."""

from __future__ import annotations

from collections.abc import Iterator

from switchgear.contract.check.finding import BYTES, Found
from switchgear.contract.check.pairs import Pairs
from switchgear.contract.check.rules.registry import rule
from switchgear.contract.check.schema import Field, Message


@rule("REQUIRED_ADDED", Pairs.messages, "whoever sends messages of the old version")
def required_added(pairs: Pairs, old: Message, new: Message) -> Iterator[Found]:
    """Senders of the old version do not know the field, and are turned away."""
    for number, field in new.fields.items():
        if number not in old.fields and _required(field) and pairs.is_sent(new.full_name):
            yield Found(
                f"{field.described} is new and required: messages of the old version have none.",
                _relaxed(field),
                field.place(),
                field.full_name,
            )


@rule("OPTIONAL_TO_REQUIRED", Pairs.expected_fields, "whoever sends messages without it")
def optional_to_required(pairs: Pairs, old: Field, new: Field) -> Iterator[Found]:
    """Senders that leave it out are turned away."""
    # An exported `.proto` file does not say what its Python contract required: nothing to compare.
    silent = old.file.expected is None and new.file.expected is not None
    required = new.is_required or (new.is_expected_in_text if silent else new.is_expected)
    if not required or _required(old) or new.parent is None:
        return
    if pairs.is_sent(new.parent.full_name):
        yield Found(
            f"{new.described} was optional and is required.",
            _relaxed(new),
            new.place(),
            new.full_name,
            old,
        )


@rule("PRESENCE_CHANGED", Pairs.fields, BYTES)
def presence_changed(_: Pairs, old: Field, new: Field) -> Iterator[Found]:
    """Zero and absence are one thing for the one side, and two for the other."""
    kinds = {"optional with explicit presence", "optional with implicit presence"}
    if (
        old.in_map_entry
        or old.oneof
        or new.oneof
        or not {old.cardinality, new.cardinality} <= kinds
    ):
        return
    if old.cardinality == new.cardinality:
        return
    told = (
        "absence and zero are no longer told apart"
        if old.has_presence
        else "zeros that senders of the old version leave out are read as absence"
    )
    edit = "Write `optional` again." if old.has_presence else "Take `optional` out again."
    if new.file.syntax == "editions":
        word = "EXPLICIT" if old.has_presence else "IMPLICIT"
        edit = f"Write `[features.field_presence = {word}]`."
    if new.file.spelled is not None:
        edit = "Write `| None` again." if old.has_presence else "Take `| None` out again."
    yield Found(f"{new.described}: {told}.", edit, new.place(), new.full_name, old)


def _required(field: Field) -> bool:
    return field.is_required or field.is_expected


def _relaxed(field: Field) -> str:
    if field.file.syntax == "proto2" and field.is_required:
        return f"Make it `optional` (field {field.number}), and check for it where it is needed."
    return "Give it a default, or let it be absent (`optional`, `| None`)."
