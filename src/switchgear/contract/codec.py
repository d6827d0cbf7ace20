"""A message to bytes and back: JSON and protobuf, compiled once for each class.

What comes from a wire is checked, and everything wrong with it is an `InvalidMessage` whose
`pointer` names the field. `docs/decisions/0002-values-on-the-wire.md` is the table of types.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, TypeVar, cast

from switchgear.contract.as_json import json_codec
from switchgear.contract.as_proto import ProtoCodec, proto_codec
from switchgear.contract.message import Message
from switchgear.contract.reading import read_message

__all__ = [
    "Codec",
    "codec_of",
    "from_builtins",
    "from_json",
    "from_parts",
    "from_proto",
    "to_json",
    "to_proto",
]

M = TypeVar("M", bound=Message)


class Codec:
    """The compiled directions of one message class, for whoever calls them often.

    Each attribute is a function. Those for protobuf are compiled when they are first asked for, and
    raise `MissingExtra` where protobuf is not installed.
    """

    def __init__(self, cls: type[Message]) -> None:
        json = json_codec(cls)
        self._cls = cls
        self.to_json: Callable[[Any], bytes] = json.encode
        self.from_json: Callable[[bytes], Any] = json.decode
        self.from_json_open: Callable[[bytes], Any] = json.decode_open
        self.from_parts: Callable[..., Any] = json.decode_parts

    @cached_property
    def _proto(self) -> ProtoCodec:
        return proto_codec(self._cls)

    @cached_property
    def to_proto(self) -> Callable[[Any], bytes]:
        """The function that writes protobuf."""
        return self._proto.encode

    @cached_property
    def from_proto(self) -> Callable[[bytes], Any]:
        """The function that reads protobuf."""
        return self._proto.decode


def codec_of(cls: type[Message]) -> Codec:
    """Return the compiled codec of a message class."""
    codec = cls.__codec__
    if codec is None:
        codec = Codec(cls)
        type.__setattr__(cls, "__codec__", codec)
    return cast("Codec", codec)


def to_json(message: Message) -> bytes:
    """Write `message` as JSON.

    Every field is written; None as null. Raises `InvalidMessage` for what JSON cannot carry. Values
    that contradict the declared types are the caller's mistake, which is not always noticed here.
    """
    # asked of the instance, which is quicker than to ask its class: that has a metaclass
    data: bytes = (message.__codec__ or codec_of(type(message))).to_json(message)
    return data


def from_json(cls: type[M], data: bytes, *, open_names: bool = False) -> M:
    """Read a message from JSON.

    An unknown name is ignored, and of a name given twice the last one counts. `open_names`: what an
    enumeration does not declare is an open member, as for replies and events of newer services.
    Raises `InvalidMessage`: not JSON, a wrong type, a value out of range, an unknown name of an
    enumeration, a field that is missing and has no default.
    """
    codec = cls.__codec__ or codec_of(cls)
    message: M = codec.from_json_open(data) if open_names else codec.from_json(data)
    return message


def from_parts(cls: type[M], data: bytes, parameters: Mapping[str, Any], *, body: str = "") -> M:
    """Read a message from a JSON body and parameters, which win; their values may be text.

    A mapping among them is some fields of a message. `body` is the one field whose value the body
    is; empty: the body is the message.
    """
    message: M = codec_of(cls).from_parts(data, parameters, body)
    return message


def from_builtins(cls: type[M], values: Mapping[str, Any]) -> M:
    """Read a message from text parameters, as those of a path and a query, and other values.

    Text is read by the type of the field; a list is a list of texts, or one text. Raises
    `InvalidMessage` as `from_json` does.
    """
    return read_message(cls, values, text=True)


def to_proto(message: Message) -> bytes:
    """Write `message` as protobuf, with the unknown fields that it was read with.

    Raises `InvalidMessage` for what does not fit, and `MissingExtra` without protobuf.
    """
    data: bytes = (message.__codec__ or codec_of(type(message))).to_proto(message)
    return data


def from_proto(cls: type[M], data: bytes) -> M:
    """Read a message from protobuf, keeping the fields that it does not know.

    Raises `InvalidMessage`: not protobuf, text that is not UTF-8, an absent message that is not
    optional, an absent field with `presence=True`. Raises `MissingExtra` without protobuf.
    """
    message: M = (cls.__codec__ or codec_of(cls)).from_proto(data)
    return message
