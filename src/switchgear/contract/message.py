"""Messages: the words that services share. The number of a field is the wire, its name is JSON.

A message is frozen. Its constructor takes keywords and trusts them; what comes from a wire is
checked by `switchgear.contract.codec`. `switchgear.contract.declaration` holds the rules.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Never, TypeVar, cast, dataclass_transform, overload

import msgspec
from msgspec import NODEFAULT, StructMeta
from typing_extensions import override

from switchgear.contract.declaration import (
    Declaration,
    Reserved,
    Scope,
    Spec,
    allows_none,
    check_numbers,
    check_reserved,
    own_specs,
    settle,
)
from switchgear.contract.enums import Enum
from switchgear.contract.kinds import is_message
from switchgear.errors import ContractError

__all__ = ["Message", "field", "replace"]

T = TypeVar("T")
M = TypeVar("M", bound="Message")


@overload
def field(
    number: int,
    *,
    default: T,
    presence: bool = ...,
    strings: bool = ...,
    deprecated: bool = ...,
    unit: str | None = ...,
    scale: int | None = ...,
    currency: str | None = ...,
    semantics: str | None = ...,
    doc: str | None = ...,
) -> T: ...
@overload
def field(  # a bare `list` would be a list of unknowns to a strict checker
    number: int,
    *,
    default_factory: type[list[Never] | dict[Never, Never]],
    presence: bool = ...,
    strings: bool = ...,
    deprecated: bool = ...,
    unit: str | None = ...,
    scale: int | None = ...,
    currency: str | None = ...,
    semantics: str | None = ...,
    doc: str | None = ...,
) -> Any: ...
@overload
def field(
    number: int,
    *,
    default_factory: Callable[[], T],
    presence: bool = ...,
    strings: bool = ...,
    deprecated: bool = ...,
    unit: str | None = ...,
    scale: int | None = ...,
    currency: str | None = ...,
    semantics: str | None = ...,
    doc: str | None = ...,
) -> T: ...
@overload
def field(
    number: int,
    *,
    presence: bool = ...,
    strings: bool = ...,
    deprecated: bool = ...,
    unit: str | None = ...,
    scale: int | None = ...,
    currency: str | None = ...,
    semantics: str | None = ...,
    doc: str | None = ...,
) -> Any: ...
def field(
    number: int,
    *,
    default: Any = NODEFAULT,
    default_factory: Any = NODEFAULT,
    presence: bool = False,
    strings: bool = False,
    deprecated: bool = False,
    unit: str | None = None,
    scale: int | None = None,
    currency: str | None = None,
    semantics: str | None = None,
    doc: str | None = None,
) -> Any:
    """Declare a field of a `Message` or `Refusal`. `number` is its identity on the wire.

    `default` and `default_factory` fill in what the constructor, or JSON, leaves out. Protobuf
    leaves out zero values, so there absence means zero, whatever the default says. With
    `presence=True` the field is exported as `optional` and its absence is an error, unless it has
    a default. `strings=True` writes a 64-bit integer as a string in JSON, for readers (JavaScript)
    that lose digits beyond 2^53; both forms are always read.

    What the value means is part of the contract, and a change of it is found by `switchgear
    contract check`: `unit="cents"`; `scale=2`, the number of decimal places that the integer
    carries; `currency="EUR"`; `semantics="gross"`, any other word that tells one meaning from
    another. With `deprecated` and `doc` they go into the exported contract.
    """
    return Spec(
        number=number,
        default=default,
        factory=default_factory,
        presence=presence,
        strings=strings,
        deprecated=deprecated,
        unit=unit,
        scale=scale,
        currency=currency,
        semantics=semantics,
        doc=doc,
    )


class MessageMeta(type):
    """The class of `Message` alone: turns a declaration into a struct of msgspec.

    What it returns is a plain struct that derives from `_Struct`, not from `Message`: a struct
    whose own class is written in Python is created three times slower (in CPython 3.11, such a
    class loses the vectorcall protocol). `isinstance` and `issubclass` say what one expects.
    """

    def __new__(
        mcls,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        package: str | None = None,
        reserved: Reserved = (),
        scope: Scope | None = None,
    ) -> MessageMeta:
        """Create a message class; `Message` tells the keywords of a declaration."""
        module: str = namespace["__module__"]
        if module == __name__:
            return super().__new__(mcls, name, bases, namespace)
        where = f"{module}.{namespace['__qualname__']}"
        if len(bases) > 1:
            raise _no_bases(where)
        scope = scope or Scope.of(inspect.currentframe(), namespace)
        annotations = namespace.setdefault("__annotations__", {})
        specs = own_specs(namespace, where)
        gone = tuple(reserved)
        check_numbers(specs, where)
        check_reserved(specs, gone, where)

        nested = [value for value in namespace.values() if isinstance(value, type)]
        for key, spec in specs.items():
            if spec.factory is not NODEFAULT:
                namespace[key] = msgspec.field(default_factory=spec.factory)
            elif spec.default is not NODEFAULT:
                namespace[key] = spec.default
            elif allows_none(scope, annotations[key]):
                namespace[key] = None
            else:
                del namespace[key]
        declaration = namespace["__declaration__"] = Declaration(
            stated_package=package or module,
            where=where,
            specs=specs,
            reserved=gone,
            doc=inspect.cleandoc(namespace.get("__doc__") or ""),
            scope=scope,
            pending={key: annotations[key] for key in specs},
        )
        namespace["__codec__"] = None
        cls = StructMeta(name, (_Struct,), namespace, frozen=True, kw_only=True, dict=True)
        declaration.cls = cast("type[Message]", cls)
        _adopt(declaration.cls, nested)
        # What is named before it exists is settled when the message is first used.
        with suppress(NameError):
            settle(declaration)
        return cast("MessageMeta", cls)

    @override
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _Struct)

    @override
    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, _Struct) or subclass is cls


def _no_bases(where: str) -> ContractError:
    return ContractError(
        "A message derives from Message alone: protobuf knows no inheritance.",
        where=where,
        fix="Repeat the fields, or put the common ones into a message of their own.",
    )


def _adopt(cls: type[Message], nested: list[type]) -> None:
    """Tell messages and enumerations that stand in the body of `cls` where they belong."""
    for inner in nested:
        if not inner.__qualname__.startswith(f"{cls.__qualname__}."):
            continue
        if is_message(inner):
            vars(inner)["__declaration__"].owner = cls
        elif issubclass(inner, Enum):
            inner.__owner__ = cls


class _Struct(msgspec.Struct, dict=True):
    __unknown__: ClassVar[bytes | None] = None
    """Unknown protobuf fields, as they came; in the dict of an instance where there are any."""

    def __init_subclass__(cls) -> None:
        if "__declaration__" not in vars(cls):
            raise _no_bases(f"{cls.__module__}.{cls.__qualname__}")

    def __copy__(self) -> _Struct:
        return _rebuilt(type(self), msgspec.structs.asdict(self), self.__unknown__)

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuilt, (type(self), msgspec.structs.asdict(self), self.__unknown__))


def _rebuilt(cls: Callable[..., T], values: dict[str, Any], unknown: bytes | None) -> T:
    made = cls(**values)
    if unknown is not None:
        vars(made)["__unknown__"] = unknown
    return made


if TYPE_CHECKING:

    class _Base:
        # Checkers must not see msgspec.Struct: they would prefer its rules for constructors.
        __declaration__: ClassVar[Declaration]
        __codec__: ClassVar[Any]
        __unknown__: bytes | None

        def __init_subclass__(
            cls, *, package: str | None = ..., reserved: Reserved = ...
        ) -> None: ...

else:

    class _Base(metaclass=MessageMeta):
        pass


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
class Message(_Base):
    """The base of every message: `class Reserve(Message)` with `order_id: str = field(1)`.

    Class keywords: `package="shop.inventory.v1"` is the protobuf package (default: the name of
    the module); `reserved=(4, "old_name", range(10, 20))` keeps the numbers and names of removed
    fields from being used again.

    Raises `ContractError` while the class is created if a rule is broken.
    """


def replace(message: M, **changes: Any) -> M:
    """Return a copy of `message` with some fields changed, and its unknown fields kept."""
    values = {name: getattr(message, name) for name in type(message).__declaration__.specs}
    return _rebuilt(type(message), values | changes, message.__unknown__)
