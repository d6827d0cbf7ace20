"""What a version used and reserved, as history remembers it (see `switchgear.contract.history`)."""

from __future__ import annotations

from switchgear.contract.check.schema import Enum, Message, Schema
from switchgear.contract.history import Past, Used

__all__ = ["past_of", "used_by"]


def past_of(schema: Schema, version: str) -> Past:
    """Return the numbers and names that a version used and reserved."""
    messages = {name: _typed(one) for name, one in schema.messages.items() if not one.is_map_entry}
    return Past(version, messages, {name: used_by(one) for name, one in schema.enums.items()})


def used_by(element: Message | Enum) -> Used:
    """Return the numbers and names that a message or enumeration uses and reserves, untyped."""
    fields: dict[int, tuple[str, ...]]
    if isinstance(element, Message):
        fields = {one.number: (one.name,) for one in element.proto.field}
    else:
        fields = {number: tuple(sorted(names)) for number, names in element.values.items()}
    reserved = [(span.start, span.stop - 1) for span in element.reserved]
    return Used(fields, reserved, sorted(element.reserved_names))


def _typed(message: Message) -> Used:
    used = used_by(message)
    fields: dict[int, tuple[str, ...]] = {
        one.number: (one.name, one.text_of_type) for one in message.fields.values()
    }
    return Used(fields, used.reserved, used.names)
