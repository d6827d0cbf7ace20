"""Two of protobuf's well-known types that Python has no type for: a field mask, and any message.

The others are Python's own (`datetime`, `timedelta`) or aliases in `switchgear.contract.kinds`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from switchgear.errors import InvalidMessage

if TYPE_CHECKING:
    from switchgear.contract.message import Message

__all__ = ["AnyMessage", "FieldMask"]

M = TypeVar("M", bound="Message")


@dataclass(frozen=True, slots=True)
class FieldMask:
    """Which fields of a message are meant: `FieldMask(("name", "address.city"))`.

    The names are those of the `.proto`; in JSON they are written in lowerCamelCase.
    """

    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AnyMessage:
    """A message of any type, as bytes of protobuf and the URL that names the type.

    In JSON it is the message itself and `@type`, so its class has to be declared in this process.
    """

    type_url: str
    value: bytes = b""

    @classmethod
    def pack(cls, message: Message) -> AnyMessage:
        """Wrap `message`. Raises as `to_proto` does."""
        from switchgear.contract.codec import to_proto  # noqa: PLC0415  it knows this module

        name = type(message).__declaration__.full_name
        return cls(f"type.googleapis.com/{name}", to_proto(message))

    @property
    def full_name(self) -> str:
        """The full name of the type of the message."""
        return self.type_url.rpartition("/")[2]

    def unpack(self, cls: type[M]) -> M:
        """Return the message; raises `InvalidMessage` if it is of another type than `cls`."""
        from switchgear.contract.codec import from_proto  # noqa: PLC0415  it knows this module

        if cls.__declaration__.full_name != self.full_name:
            raise InvalidMessage(f"is a {self.full_name}", where=cls.__name__)
        return from_proto(cls, self.value)

    def read(self) -> Message:
        """Return the message, of the class that is declared under its name.

        Raises `InvalidMessage` where this process declares no such class.
        """
        from switchgear.contract.message import declared  # noqa: PLC0415  it knows this module

        cls: Any = declared(self.full_name)
        if cls is None:
            raise InvalidMessage(f"is a {self.full_name or 'nothing'}, which is not declared here")
        found: Message = self.unpack(cls)
        return found
