"""What a `.proto` file's syntax, edition and features say about a field, an enum or a message.

proto2 and proto3 are two sets of defaults; an edition is a set of defaults that a file, a message,
an enumeration or a field overrides for what is inside it. (protobuf.dev/editions/features)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import FeatureSet

__all__ = ["EDITION_2024", "PROTO2", "PROTO3", "Features", "defaults"]

PROTO2: Final = 998
PROTO3: Final = 999
EDITION_2023: Final = 1000
EDITION_2024: Final = 1001

_CPP, _JAVA = 1000, 1001
_CPP_STRING_TYPE: Final = 2
_JAVA_UTF8: Final = 2


@dataclass(frozen=True, slots=True)
class Features:
    """The features of one element, with all that it inherits; the numbers are `FeatureSet`'s."""

    field_presence: int = 1
    enum_type: int = 1
    utf8_validation: int = 2
    message_encoding: int = 1
    json_format: int = 1
    cpp_string_type: int = 1
    java_utf8: int = 0

    IMPLICIT = 2
    REQUIRED = 3
    CLOSED = 2
    VERIFY = 2
    DELIMITED = 2
    ALLOW = 1
    CPP_VIEW = 1

    def overridden(self, given: FeatureSet) -> Features:
        """Return these features with those that `given` states put over them."""
        stated = {one.name: value for one, value in given.ListFields() if one.name in _OWN}
        stated.update(_of_languages(given))
        return replace(self, **stated) if stated else self


_OWN: Final = tuple(
    one.name for one in fields(Features) if one.name not in {"cpp_string_type", "java_utf8"}
)
_CPP_STRING, _CPP_VIEW = 3, 1


@lru_cache
def defaults(edition: int) -> Features:
    """Return the defaults of an edition; proto2 and proto3 count as editions."""
    if edition == PROTO2:
        return Features(enum_type=2, utf8_validation=3, json_format=2, cpp_string_type=_CPP_STRING)
    if edition == PROTO3:
        return Features(field_presence=Features.IMPLICIT, cpp_string_type=_CPP_STRING)
    view = edition >= EDITION_2024
    return Features(cpp_string_type=_CPP_VIEW if view else _CPP_STRING)


def _of_languages(given: FeatureSet) -> Iterator[tuple[str, int]]:
    """Read the features of C++ and Java, whose extensions Python's protobuf does not know."""
    if not given.ByteSize():
        return
    from google.protobuf.unknown_fields import UnknownFieldSet  # noqa: PLC0415 - an extra

    for one in UnknownFieldSet(given):  # type: ignore[attr-defined]  # the stubs miss it
        wanted = {
            _CPP: (_CPP_STRING_TYPE, "cpp_string_type"),
            _JAVA: (_JAVA_UTF8, "java_utf8"),
        }.get(one.field_number)
        if wanted is None:
            continue
        number, name = wanted
        value = _varint(one.data, number)
        if value is not None:
            yield name, value


def _varint(data: Any, number: int) -> int | None:
    """Return the last small enum with that field number in a message of such enums."""
    raw, found = bytes(data), None
    for tag, value in zip(raw[::2], raw[1::2], strict=False):
        if tag == number << 3:
            found = value
    return found
