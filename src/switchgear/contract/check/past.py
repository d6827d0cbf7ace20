"""What a version used and reserved, as history remembers it (see `switchgear.contract.history`)."""

from __future__ import annotations

from collections.abc import Mapping

from switchgear.contract.check.schema import Enum, Message, Schema
from switchgear.contract.history import Past, Used

__all__ = ["past_of"]


def past_of(schema: Schema, version: str) -> Past:
    """Return the numbers and names that a version used and reserved."""
    return Past(
        version,
        {
            name: _used(
                one,
                {field.number: (field.name, field.text_of_type) for field in one.fields.values()},
            )
            for name, one in schema.messages.items()
            if not one.is_map_entry
        },
        {
            name: _used(one, {number: tuple(sorted(of)) for number, of in one.values.items()})
            for name, one in schema.enums.items()
        },
    )


def _used(one: Message | Enum, fields: Mapping[int, tuple[str, ...]]) -> Used:
    reserved = [(span.start, span.stop - 1) for span in one.reserved]
    return Used(dict(fields), reserved, sorted(one.reserved_names))
