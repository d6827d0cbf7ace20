"""Messages that are kept: the stored replies of keyed commands, and the bytes of a fingerprint.

A reply is kept as protobuf, which a later release reads although it has added fields; where
protobuf is not installed, or cannot carry it (a member of an enumeration that is known by its name
alone), as JSON. The first byte tells which.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any, Final, TypeVar

import msgspec

from switchgear.contract.codec import from_json, from_proto, to_json, to_proto
from switchgear.contract.declaration import fields_of
from switchgear.contract.kinds import Shape
from switchgear.contract.message import Message
from switchgear.errors import InvalidMessage

__all__ = ["canonical", "read", "write"]

M = TypeVar("M", bound=Message)

_JSON: Final = b"j"
_PROTO: Final = b"p"


def write(message: Message) -> bytes:
    """Return the bytes under which `message` is kept."""
    if _has_protobuf():
        try:
            return _PROTO + to_proto(message)
        except InvalidMessage:
            pass  # and if JSON cannot carry it either, that says why
    return _JSON + to_json(message)


def read(cls: type[M], data: bytes) -> M:
    """Return what `write` has written."""
    if data[:1] == _PROTO:
        return from_proto(cls, data[1:])
    return from_json(cls, data[1:], open_names=True)


@cache
def _has_protobuf() -> bool:
    try:
        return find_spec("google.protobuf") is not None
    except ModuleNotFoundError:  # nor anything else of `google`
        return False


def canonical(message: Message) -> bytes:
    """Return bytes that are equal for equal messages, whichever door they came in by.

    What protobuf would leave out is left out, so that a field which a later release adds does not
    turn a repeated message into another one.
    """
    tree = _without_zeros(message, msgspec.json.decode(to_json(message)))
    return msgspec.json.encode(tree, order="deterministic")


def _without_zeros(message: Message, tree: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, field in fields_of(type(message)).items():
        value, written = getattr(message, name), tree[name]
        zero = value is None or not (field.has_presence or getattr(value, "value", value))
        if zero:
            continue
        if field.kind.name != "message":
            found[name] = written
        elif field.type.shape is Shape.ONE:
            found[name] = _without_zeros(value, written)
        elif field.type.shape is Shape.LIST:
            found[name] = [_without_zeros(*pair) for pair in zip(value, written, strict=True)]
        else:
            found[name] = {
                key: _without_zeros(item, written[str(key)]) for key, item in value.items()
            }
    return found
