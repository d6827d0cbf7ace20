"""The bytes of a `FileDescriptorSet`, taken apart without being read.

What protoc says of the text (`SourceCodeInfo`) is most of a descriptor, and seldom asked for: it is
left as bytes, and what is read without it takes a fraction of the time and memory.
(protobuf.dev/programming-guides/encoding)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

__all__ = ["split", "varint"]

_INFO: Final = 9 << 3 | 2
"""The tag of `source_code_info`."""
_FIXED: Final = {1: 8, 5: 4}
_LENGTH: Final = 2


def split(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield each file's descriptor without its `SourceCodeInfo`, and that beside it."""
    for _, _, start, end in _fields(data, 0, len(data)):
        yield _apart(data, start, end)


def _apart(data: bytes, start: int, end: int) -> tuple[bytes, bytes]:
    kept, info, at = [], [], start
    for tag, begin, inner, after in _fields(data, start, end):
        if tag == _INFO:
            kept.append(data[at:begin])
            info.append(data[inner:after])
            at = after
    kept.append(data[at:end])
    return b"".join(kept), b"".join(info)


def _fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield tag, begin, begin of the value, and end of each field of one message."""
    while at < end:
        begin = at
        tag, at = varint(data, at)
        kind = tag & 7
        if kind == _LENGTH:
            size, at = varint(data, at)
            yield tag, begin, at, at + size
            at += size
        elif kind in _FIXED:
            at += _FIXED[kind]
        else:
            _, at = varint(data, at)


def varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number that begins at a place, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:  # noqa: PLR2004 - the last byte of a varint
            return value, at
        shift += 7
