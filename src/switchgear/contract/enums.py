"""Enumerations: what an old reader does not know, it keeps.

JSON carries the name of a member, protobuf its number. A number that no member has becomes an
open member (`member.is_open`) that is written back as it came; in JSON it is written as a number,
as ProtoJSON does. A name that no member has is an error in a request; in a reply and in an event it
is an open member too, which has no number here: JSON carries it on, protobuf cannot. A closed
enumeration, as proto2 has them, has no open members: protobuf keeps an unknown number of one with
the unknown fields.

Inside, the value of a member is its name on the wire, because that is what msgspec reads and writes
by itself; `member.value` is the number, as declared.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from itertools import count
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar, cast
from weakref import WeakValueDictionary

from typing_extensions import override

from switchgear.contract.file import Package, ProtoFile, Visibility, file_of
from switchgear.errors import ContractError

__all__ = [
    "Enum",
    "Label",
    "labels_of",
    "member",
    "numbers_of",
    "open_member",
    "open_name",
    "serial",
]

E = TypeVar("E", bound="Enum")

MIN_NUMBER, MAX_NUMBER = -(2**31), 2**31 - 1

_serial: Final = count()


def serial() -> int:
    """Return a number that grows with each declaration: exports keep the order of the module."""
    return next(_serial)


class Label(int):
    """The number of a member, and what `member(...)` says besides."""

    name: str | None = None
    doc: str | None = None
    deprecated: bool = False
    options: str = ""


def member(
    number: int,
    *,
    name: str | None = None,
    doc: str | None = None,
    deprecated: bool = False,
    options: str = "",
) -> int:
    """Declare a member of an `Enum` that needs more than its number.

    `name` is its name on the wires, where Python does not allow that name (`None`); the prefix of
    the enumeration is not put before it. `doc` and `deprecated` go into the exported contract, and
    so do `options`, which are in protobuf's text format.
    """
    made = Label(number)
    made.name, made.doc, made.deprecated, made.options = name, doc, deprecated, options
    return made


class _Type(enum.EnumMeta):
    """Keeps what the class body says of every name: Python itself forgets it for an alias."""

    def __new__(mcls, name: str, bases: tuple[type, ...], namespace: Any, **kwargs: Any) -> _Type:
        names: Iterable[str] = namespace._member_names  # noqa: SLF001 - there is no other way
        namespace["__stated__"] = {one: namespace[one] for one in names}
        return super().__new__(mcls, name, bases, namespace, **kwargs)


class Enum(enum.Enum, metaclass=_Type):
    """An enumeration of a contract: `class Colour(Enum)` with `UNKNOWN = 0` and so on.

    Numbers are explicit, 32-bit and unique, and one member has number 0: it is what protobuf
    means where a field is absent. Raises `ContractError` while the class is created if that does
    not hold. Looking up a number always succeeds: `Colour(7)`.

    In protobuf the names of members live beside their enumeration, so two enumerations of one
    package cannot share a name. Class keywords: `prefix="COLOUR_"` is put before each member's name
    on the wires, so that several can have an `UNKNOWN`; or declare the enumeration inside its
    message. `package` is as for messages, and so is `reserved`. `closed=True` is proto2's kind of
    enumeration: an unknown number is no member, and none has to be 0. `aliases=True` lets members
    share a number. `options` are in protobuf's text format. `wire_name` is its name in
    protobuf, where the class is called otherwise. `visibility` is what edition 2024 says.
    """

    if TYPE_CHECKING:
        __package__: ClassVar[str]
        __file__: ClassVar[ProtoFile]
        __owner__: ClassVar[Any]
        __serial__: ClassVar[int]
        __reserved__: ClassVar[tuple[int | str | range, ...]]
        __closed__: ClassVar[bool]
        __aliases__: ClassVar[bool]
        __options__: ClassVar[str]
        __wire_name__: ClassVar[str]
        __visibility__: ClassVar[Visibility | None]
        __stated__: ClassVar[Mapping[str, object]]
        _number_: int | None
    else:  # checkers know the literal type of each member's value without help

        @property
        def value(self) -> int:
            """The number of the member, as declared.

            Raises `ValueError` for one that came by a name which is not declared.
            """
            if self._number_ is None:
                raise ValueError(f"{self!r} came by its name, and has no number here")
            return self._number_

    @property
    def is_open(self) -> bool:
        """Whether this is a number, or a name, that the enumeration does not declare."""
        return self._name_ not in type(self).__members__ or self._number_ is None

    @override
    def __init_subclass__(
        cls,
        *,
        package: Package | None = None,
        prefix: str = "",
        reserved: Iterable[int | str | range] = (),
        closed: bool = False,
        aliases: bool = False,
        options: str = "",
        wire_name: str | None = None,
        visibility: Visibility | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init_subclass__(**kwargs)
        cls.__file__ = file_of(package or cls.__module__)
        cls.__package__ = cls.__file__.package
        cls.__serial__ = serial()
        cls.__reserved__ = tuple(reserved)
        cls.__closed__ = closed
        cls.__aliases__ = aliases
        cls.__options__ = options
        cls.__wire_name__ = wire_name or cls.__name__
        cls.__visibility__ = visibility
        _Reading(cls, prefix).settle()

    @classmethod
    @override
    def _missing_(cls, value: object) -> Enum | None:
        if type(value) is not int or not MIN_NUMBER <= value <= MAX_NUMBER:
            return None
        known = numbers_of(cls).get(value)
        if known is not None:
            return known
        return None if cls.__closed__ else open_member(cls, value)

    @override
    def __repr__(self) -> str:
        return f"{type(self).__name__}.{self._name_}"

    __str__ = __repr__

    @override
    def __reduce_ex__(self, proto: object) -> tuple[Any, ...]:
        if self._number_ is None:
            return (open_name, (type(self), self._value_))
        return (type(self), (self._number_,))


def numbers_of(cls: type[E]) -> Mapping[int, E]:
    """Return the declared members by number."""
    numbers: Mapping[int, E] = cls._numbers_  # type: ignore[attr-defined]
    return numbers


def labels_of(cls: type[Enum]) -> Mapping[str, Label]:
    """Return the numbers of all members by their names on the wires, those of aliases too."""
    labels: Mapping[str, Label] = cls._labels_  # type: ignore[attr-defined]
    return labels


def open_member(cls: type[E], number: int) -> E:
    """Return the member for a number that `cls` does not declare.

    Members are compared by identity, so one number gives one object as long as anyone holds it;
    a sender of ever new numbers cannot fill the memory.
    """
    return _open(cls, number, number)


def open_name(cls: type[E], name: str) -> E:
    """Return the member for a name that `cls` does not declare, and whose number nobody knows."""
    return _open(cls, name, None)


def _open(cls: type[E], value: int | str, number: int | None) -> E:
    members: WeakValueDictionary[int | str, E] = cls._open_  # type: ignore[attr-defined]
    found = members.get(value)
    if found is None:
        found = object.__new__(cls)
        found._name_ = str(value)
        found._value_ = value
        found._number_ = number
        members[value] = found
    return found


def _numbers(item: int | range) -> range:
    return item if isinstance(item, range) else range(item, item + 1)


class _Reading:
    """Reads the members of a new enumeration, and gives them their names on the wires."""

    def __init__(self, cls: type[Enum], prefix: str) -> None:
        self.cls = cls
        self.prefix = prefix
        self.where = f"{cls.__module__}.{cls.__qualname__}"

    def wrong(self, what: str, fix: str) -> ContractError:
        return ContractError(what, where=self.where, fix=fix)

    def settle(self) -> None:
        cls: Any = self.cls
        numbers: dict[int, Enum] = {}
        labels: dict[str, Label] = {}
        for name, one in self.cls.__members__.items():
            label = self.label(name)
            number = int(label)
            if number in numbers and not cls.__aliases__:
                raise self.wrong(
                    f"{numbers[number].name} and {name} both have the number {number}.",
                    "Give every member a number of its own, or say aliases=True.",
                )
            numbers.setdefault(number, one)
            labels[label.name or self.prefix + name] = label
        if numbers and 0 not in numbers and not cls.__closed__:
            raise self.wrong(
                "No member has the number 0.",
                "Declare what an absent value means, for example UNKNOWN = 0.",
            )
        self.check_reserved(labels)
        by_name = {name: numbers[label] for name, label in labels.items()}
        for name, one in reversed(by_name.items()):  # the first of several names is written
            one._value_ = name
            one._number_ = int(labels[name])
        cls._value2member_map_ = by_name
        cls._numbers_ = numbers
        cls._labels_ = MappingProxyType(labels)
        cls._open_ = WeakValueDictionary()

    def label(self, name: str) -> Label:
        number = self.cls.__stated__[name]
        # not isinstance: True is no number
        if type(number) in {int, Label} and MIN_NUMBER <= cast("int", number) <= MAX_NUMBER:
            return number if isinstance(number, Label) else Label(cast("int", number))
        raise self.wrong(
            f"{name} has the number {number!r}.", "Give every member a 32-bit integer."
        )

    def check_reserved(self, labels: Mapping[str, Label]) -> None:
        for item in self.cls.__reserved__:
            for name, label in labels.items():
                if name == item or (not isinstance(item, str) and int(label) in _numbers(item)):
                    raise self.wrong(
                        f"{name} = {int(label)} uses {item!r}, which is reserved.",
                        "Use a number and a name that were never used.",
                    )
