"""Extensions of a message, read and written by the class that declares them.

A message keeps, as they came, the fields that it does not know, and extensions are such fields. So
a class with `extends=` reads them out of what is kept, and its values go back there.
"""

from __future__ import annotations

from typing import TypeVar

from switchgear.contract.codec import from_proto, to_proto
from switchgear.contract.declaration import declaration_of, fields_of
from switchgear.contract.message import Message, replace
from switchgear.errors import ContractError

__all__ = ["extended", "extensions_of"]

M = TypeVar("M", bound=Message)
E = TypeVar("E", bound=Message)


def extensions_of(message: Message, cls: type[E]) -> E:
    """Return the extensions that `message` came with, of those that `cls` declares.

    They come over protobuf alone: JSON has no place for a field that a message does not know.
    Raises `ContractError` if `cls` does not extend such a message, `InvalidMessage` for bytes that
    are not what `cls` says, and `MissingExtra` without protobuf.
    """
    read = _read(message, cls)
    return cls(**{name: getattr(read, name) for name in fields_of(cls)})


def extended(message: M, extensions: Message) -> M:
    """Return a copy of `message` with these extensions; others that it has are kept.

    Raises as `extensions_of` does.
    """
    others = _read(message, type(extensions)).__unknown__ or b""
    made = replace(message)
    vars(made)["__unknown__"] = others + to_proto(extensions)
    return made


def _read(message: Message, cls: type[E]) -> E:
    fields_of(cls)  # and so what it extends is known
    if declaration_of(cls).extends is not type(message):
        raise ContractError(
            f"It does not extend {type(message).__name__}.",
            where=f"{cls.__module__}.{cls.__qualname__}",
            fix=f"Declare it with extends={type(message).__name__}.",
        )
    return from_proto(cls, message.__unknown__ or b"")
