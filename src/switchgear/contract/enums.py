"""Open enumerations: what an old reader does not know, it keeps.

JSON carries the name of a member, protobuf its number. A number that no member has becomes an
open member (`member.is_open`) that is written back as it came; in JSON it is written as a number,
as ProtoJSON does. A name that no member has is an error.

Inside, the value of a member is its name, because that is what msgspec reads and writes by
itself; `member.value` is the number, as declared.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar
from weakref import WeakValueDictionary

from typing_extensions import override

from switchgear.errors import ContractError

__all__ = ["Enum", "numbers_of", "open_member"]

E = TypeVar("E", bound="Enum")

MIN_NUMBER, MAX_NUMBER = -(2**31), 2**31 - 1


class Enum(enum.Enum):
    """An enumeration of a contract: `class Colour(Enum)` with `COLOUR_UNKNOWN = 0` and so on.

    Numbers are explicit, 32-bit and unique, and one member has number 0: it is what protobuf
    means where a field is absent. Raises `ContractError` while the class is created if that does
    not hold. Looking up a number always succeeds: `Colour(7)`.

    In protobuf the names of members live beside their enumeration, so two enumerations of one
    package cannot share a name: prefix them, or declare the enumeration inside its message.
    """

    if TYPE_CHECKING:
        __package__: ClassVar[str]
        __owner__: ClassVar[Any]
    else:  # checkers know the literal type of each member's value without help

        @property
        def value(self) -> int:
            """The number of the member, as declared."""
            return self._number_

    @property
    def is_open(self) -> bool:
        """Whether this is a number that the enumeration does not declare."""
        return self._name_ not in type(self).__members__

    @override
    def __init_subclass__(cls, *, package: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.__package__ = package or cls.__module__
        _name_values(cls)

    @classmethod
    @override
    def _missing_(cls, value: object) -> Enum | None:
        if type(value) is not int or not MIN_NUMBER <= value <= MAX_NUMBER:
            return None
        known = numbers_of(cls).get(value)
        return open_member(cls, value) if known is None else known

    @override
    def __repr__(self) -> str:
        return f"{type(self).__name__}.{self._name_}"

    __str__ = __repr__

    @override
    def __reduce_ex__(self, proto: object) -> tuple[Any, ...]:
        return (type(self), (self.value,))


def numbers_of(cls: type[E]) -> Mapping[int, E]:
    """Return the declared members by number."""
    numbers: Mapping[int, E] = cls._numbers_  # type: ignore[attr-defined]
    return numbers


def open_member(cls: type[E], number: int) -> E:
    """Return the member for a number that `cls` does not declare.

    Members are compared by identity, so one number gives one object as long as anyone holds it;
    a sender of ever new numbers cannot fill the memory.
    """
    members: WeakValueDictionary[int, E] = cls._open_  # type: ignore[attr-defined]
    member = members.get(number)
    if member is None:
        member = object.__new__(cls)
        member._name_ = str(number)
        member._value_ = number
        member._number_ = number  # type: ignore[attr-defined]
        members[number] = member
    return member


def _name_values(cls: type[Enum]) -> None:
    where = f"{cls.__module__}.{cls.__qualname__}"
    numbers: dict[int, Enum] = {}
    for name, member in cls.__members__.items():
        number: object = member._value_
        if type(number) is not int or not MIN_NUMBER <= number <= MAX_NUMBER:
            raise ContractError(
                f"{name} has the number {number!r}.",
                where=where,
                fix="Give every member a 32-bit integer.",
            )
        if number in numbers:
            raise ContractError(
                f"{numbers[number].name} and {name} both have the number {number}.",
                where=where,
                fix="Give every member a number of its own.",
            )
        numbers[number] = member
    if numbers and 0 not in numbers:
        raise ContractError(
            "No member has the number 0.",
            where=where,
            fix="Declare what an absent value means, for example UNKNOWN = 0.",
        )
    for number, member in numbers.items():
        member._value_ = member._name_
        member._number_ = number  # type: ignore[attr-defined]
    cls._value2member_map_ = {member._name_: member for member in numbers.values()}
    cls._numbers_ = numbers  # type: ignore[attr-defined]
    cls._open_ = WeakValueDictionary()  # type: ignore[attr-defined]
