"""One change is told once: by the rule that says most of it.

A field that is renamed is one change, of which FIELD_RENAMED, FIELD_SAME_NAME and
FIELD_SAME_JSON_NAME all speak. Where several that say the same of one name are run, the one that
asks for the right thing is told, and the others are named in its `also`. An error is never told by
a warning. Only rules of ours take others in: buf's rules alone say what buf says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from switchgear.contract.check.finding import Found, Severity
from switchgear.contract.check.words import MEANING

__all__ = ["told_once"]

_NAMES: Final = ("FIELD_SAME_NAME", "FIELD_SAME_JSON_NAME")
_CARDINALITY: Final = (
    "FIELD_SAME_CARDINALITY",
    "FIELD_WIRE_COMPATIBLE_CARDINALITY",
    "FIELD_WIRE_JSON_COMPATIBLE_CARDINALITY",
)
_USES: Final = (
    *_NAMES,
    *_CARDINALITY,
    *("FIELD_SAME_TYPE", "FIELD_WIRE_COMPATIBLE_TYPE", "FIELD_WIRE_JSON_COMPATIBLE_TYPE"),
    *("FIELD_SAME_DEFAULT", "FIELD_SAME_JSTYPE", "FIELD_SAME_ONEOF", "PRESENCE_CHANGED"),
)
_COMMENT: Final = ("COMMENT_CHANGED",)

_TAKES_IN: Final[Mapping[str, tuple[str, ...]]] = {
    "FIELD_RENAMED": _NAMES,
    "FIELD_REPURPOSED": _USES,
    "FIELDS_SWAPPED": _USES,
    "ENUM_VALUE_RENAMED": ("ENUM_VALUE_SAME_NAME",),
    "ENUM_VALUE_REPURPOSED": ("ENUM_VALUE_SAME_NAME",),
    "RESERVATION_DROPPED": ("RESERVED_MESSAGE_NO_DELETE", "RESERVED_ENUM_NO_DELETE"),
    "PRESENCE_CHANGED": ("FIELD_SAME_CARDINALITY",),
    "OPTIONAL_TO_REQUIRED": (*_CARDINALITY, "MESSAGE_SAME_REQUIRED_FIELDS"),
    "REQUIRED_ADDED": ("MESSAGE_SAME_REQUIRED_FIELDS",),
    "PATTERN_CHANGED": ("RPC_SAME_IDEMPOTENCY_LEVEL",),
    **{f"{key.upper()}_CHANGED": _COMMENT for key in MEANING},
    "REFUSAL_CHANGED": _COMMENT,
    "REFUSAL_STATUS_CHANGED": _COMMENT,
    "EVENT_KEY_CHANGED": _COMMENT,
    "EVENT_TOPIC_CHANGED": _COMMENT,
}
"""Which rules each takes in, where both speak of one name."""


def told_once(found: Sequence[tuple[str, Found]]) -> list[tuple[str, Found]]:
    """Return rules and findings, less those findings that another one takes in."""
    by_name: dict[tuple[str, str], list[int]] = {}
    for index, (rule, one) in enumerate(found):
        for name in one.names:
            by_name.setdefault((rule, name), []).append(index)
    gone: set[int] = set()
    also: dict[int, set[str]] = {}
    for index, (rule, one) in enumerate(found):
        for weaker in _TAKES_IN.get(rule, ()) if index not in gone else ():
            for other in {at for name in one.names for at in by_name.get((weaker, name), ())}:
                if one.severity is Severity.ERROR or found[other][1].severity is Severity.WARNING:
                    gone.add(other)
                    also.setdefault(index, set()).add(weaker)
    return [
        (rule, replace(one, also=tuple(sorted(also[index]))) if index in also else one)
        for index, (rule, one) in enumerate(found)
        if index not in gone
    ]
