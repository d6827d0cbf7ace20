"""How inputs and results are written to the record: JSON, by their declared types.

What is passed on to later steps is always what was read back from the record, never the object
that a step returned: so a saga behaves the same whether or not its worker died in between.
"""

from __future__ import annotations

import traceback
from typing import Any, Final, Generic, TypeVar

import msgspec

from switchgear.contract.codec import from_json
from switchgear.contract.kinds import is_message
from switchgear.contract.refusal import Refusal
from switchgear.errors import InvalidMessage, SwitchgearError
from switchgear.model.outcome import Refused, Unavailable, Unknown
from switchgear.model.text import encodable, said_by
from switchgear.saga.errors import StepFailed, UnrecordableResult
from switchgear.saga.signature import type_name

__all__ = ["Codec", "Failure", "failure_of", "refusal_of"]

T = TypeVar("T")
_MOST: Final = 4_000
"""Characters of what an exception says, and of where it was raised."""
_MOST_FIELDS: Final = 100_000
"""Bytes of a refusal's fields; larger ones are left out."""


class Codec(Generic[T]):
    """Writes and reads values of one declared type."""

    def __init__(self, declared: Any) -> None:
        self.declared = declared
        self._encode = msgspec.json.Encoder(order="deterministic").encode
        self._decoder: msgspec.json.Decoder[T] | None = None

    def record(self, value: T) -> tuple[bytes, T]:
        """Return the JSON of `value`, and what is read back from it.

        Raises `UnrecordableResult`, which names the types.
        """
        try:
            data = self._encode(value)
            return data, self.decode(data)
        except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
            raise UnrecordableResult(
                f"a value of type {type(value).__module__}.{type(value).__qualname__} cannot be "
                f"recorded as {type_name(self.declared)}: {error}. Use a Message, a dataclass, a "
                "msgspec Struct or a builtin type."
            ) from error

    def decode(self, data: bytes) -> T:
        """Return the value that was recorded. Raises `MsgspecError` if it is none of this type."""
        if self._decoder is None:
            self._decoder = msgspec.json.Decoder(self.declared)
        try:
            return self._decoder.decode(data)
        except msgspec.ValidationError as error:
            if not is_message(self.declared):
                raise
            # its enumerations may have members that only a newer service declares
            try:
                read: T = from_json(self.declared, data, open_names=True)
            except InvalidMessage:
                raise error from None
            return read


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the record keeps of an exception."""

    kind: str
    """The exception's type, or the contract name of a refusal."""
    what: str
    reason: str | None = None
    """The `Reason` of an Unavailable or Unknown."""
    fields: dict[str, Any] | None = None
    """The fields of a declared refusal, unless they are larger than is kept."""
    trace: str | None = None
    """Where it was raised, if it is none of the outcomes: a bug in the step."""

    def revived(self) -> StepFailed:
        """Return an exception that says the same."""
        return StepFailed(self.what, kind=self.kind)


def failure_of(error: BaseException) -> Failure:
    """Return what the record keeps of `error`; its size is bounded, since attempts may be many."""
    if isinstance(error, Refusal):
        fields = msgspec.to_builtins(error.to_message())
        kept = fields if len(msgspec.json.encode(fields)) <= _MOST_FIELDS else None
        return Failure(error.full_name, _text(error.what), fields=kept)
    kind = type(error).__qualname__
    if isinstance(error, Unavailable | Unknown):
        return Failure(kind, _text(error.what), reason=error.reason)
    if isinstance(error, SwitchgearError):
        return Failure(kind, _text(error.what))
    trace = "".join(traceback.format_exception(error))
    return Failure(kind, _text(said_by(error) or kind), trace=_text(trace))


def _text(told: str) -> str:
    """Return the end of a text, which says most, without what JSON cannot carry."""
    return encodable(told[-_MOST:])


def refusal_of(failure: Failure) -> Refused | None:
    """Return the declared refusal that `failure` records; None if its class is not loaded here."""
    for refusal in _loaded(Refusal):
        if refusal.full_name == failure.kind and failure.fields is not None:
            return refusal.from_message(msgspec.convert(failure.fields, refusal.__message__))
    return None


def _loaded(refusal: type[Refusal]) -> list[type[Refusal]]:
    below = [each for cls in refusal.__subclasses__() for each in _loaded(cls)]
    return [*refusal.__subclasses__(), *below]
