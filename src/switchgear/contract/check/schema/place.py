"""Where elements of a file stand in its text, and what the comments beside them say.

Of almost all files nobody asks, and protoc says it of every word. So what it says is kept as bytes,
and read when it is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from switchgear.contract.check.schema.numbers import Path
from switchgear.contract.check.schema.wire import varint
from switchgear.contract.protoc import legible

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import SourceCodeInfo

__all__ = ["Place", "Text"]

_LOCATION: Final = 0x0A
"""The tag of a location."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands; lines and columns begin at 1."""

    path: str
    line: int = 1
    column: int = 1


class Text:
    """What protoc says of the text of one file: a serialized `SourceCodeInfo`."""

    def __init__(self, info: bytes) -> None:
        self._info = info

    def says_the_same(self, other: Text) -> bool:
        """Whether the same comments stand at the same paths, wherever that is in the text."""
        return self is other or bool(self._without_spans() == other._without_spans())

    def _without_spans(self) -> SourceCodeInfo:
        info = _source_code_info(self._info)
        for location in info.location:
            location.ClearField("span")
        return info

    def span(self, path: Path) -> tuple[int, int] | None:
        """Return line and column of the element at `path`, from 1; None if it is not there."""
        found = self._location(path)
        return None if found is None else (found.span[0] + 1, found.span[1] + 1)

    def comment(self, path: Path) -> str:
        """Return the comment before the element at `path`, or else the one behind it."""
        found = self._location(path)
        return "" if found is None else legible(found.leading_comments or found.trailing_comments)

    def _location(self, path: Path) -> SourceCodeInfo.Location | None:
        """Return what is said of a path, which is looked for as it is written on the wire.

        A location begins with its own tag and size, then comes its path, then its span. No comment
        that people write looks like that: it would hold these bytes, control characters.
        """
        written = b"".join(map(_varint, path))
        wanted = (b"\x0a" + _varint(len(written)) + written if path else b"") + b"\x12"
        at = self._info.find(wanted)
        while at >= 0:
            for header in (2, 3, 4):  # the tag, and the size in one to three bytes
                begin = at - header
                if begin >= 0 and self._info[begin] == _LOCATION:
                    size, start = varint(self._info, begin + 1)
                    if start == at:
                        return _read(self._info[at : at + size])
            at = self._info.find(wanted, at + 1)
        return None


def _varint(value: int) -> bytes:
    made = bytearray()
    while value > 127:  # noqa: PLR2004 - seven bits a byte
        made.append(value & 127 | 128)
        value >>= 7
    return bytes((*made, value))


def _read(data: bytes) -> SourceCodeInfo.Location:
    from google.protobuf.descriptor_pb2 import SourceCodeInfo  # noqa: PLC0415 - an extra

    return SourceCodeInfo.Location.FromString(data)


def _source_code_info(data: bytes) -> SourceCodeInfo:
    from google.protobuf.descriptor_pb2 import SourceCodeInfo  # noqa: PLC0415 - an extra

    return SourceCodeInfo.FromString(data)
