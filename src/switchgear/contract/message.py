"""Messages: the words that services share. The number of a field is the wire, its name is JSON.

A message is frozen. Its constructor takes keywords and trusts them; what comes from a wire is
checked by `switchgear.contract.codec`. `switchgear.contract.declaration` holds the rules.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Never,
    TypedDict,
    TypeVar,
    Unpack,
    cast,
    dataclass_transform,
    overload,
)

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
    check_oneofs,
    check_reserved,
    oneofs_of,
    own_specs,
    settle,
)
from switchgear.contract.enums import Enum, serial
from switchgear.contract.file import Package, ProtoFile, Visibility, file_of
from switchgear.contract.jsonnames import check_json_names, json_names
from switchgear.contract.kinds import is_message
from switchgear.errors import ContractError

__all__ = ["Message", "declared", "field", "replace", "which_oneof"]

T = TypeVar("T")
M = TypeVar("M", bound="Message")


class Said(TypedDict, total=False):
    """What can be said about a field besides its number and default; see `field`."""

    presence: bool
    strings: bool
    deprecated: bool
    unit: str | None
    scale: int | None
    currency: str | None
    semantics: str | None
    doc: str | None
    name: str | None
    json: str | None
    oneof: str | None
    wire_default: str | None
    required: bool
    delimited: bool
    options: str


@overload
def field(number: int, *, default: T, **said: Unpack[Said]) -> T: ...
@overload
def field(  # a bare `list` would be a list of unknowns to a strict checker
    number: int, *, default_factory: type[list[Never] | dict[Never, Never]], **said: Unpack[Said]
) -> Any: ...
@overload
def field(number: int, *, default_factory: Callable[[], T], **said: Unpack[Said]) -> T: ...
@overload
def field(number: int, **said: Unpack[Said]) -> Any: ...
def field(
    number: int,
    *,
    default: Any = NODEFAULT,
    default_factory: Any = NODEFAULT,
    **said: Unpack[Said],
) -> Any:
    """Declare a field of a `Message` or `Refusal`. `number` is its identity on the wire.

    `default` and `default_factory` fill in what the constructor, or JSON, leaves out. Protobuf
    leaves out zero values, so there absence means zero, whatever the default says. With
    `presence=True` the field is exported as `optional` and its absence is an error, unless it has
    a default; of a message that may be None it says no more than `| None` does. `strings=True`
    writes a 64-bit integer as a string in JSON, for readers (JavaScript) that lose digits beyond
    2^53; both forms are always read. `oneof="payment"` makes it a member of that oneof: of its
    members, which are all `T | None`, one at most is there.

    What the value means is part of the contract, and a change of it is found by `switchgear
    contract check`: `unit="cents"`; `scale=2`, the number of decimal places that the integer
    carries; `currency="EUR"`; `semantics="gross"`, any other word that tells one meaning from
    another. With `deprecated` and `doc` they go into the exported contract.

    For contracts of others: `name` is the field's name in protobuf, where Python does not allow
    that name or another is wanted; `json` is its name in JSON. `required=True` is proto2's, and
    `delimited=True` is its group. `wire_default` is the default of a member of a oneof, as a
    descriptor writes it: here an absent member is None. Of an enumeration it is the name of an
    alias, which Python does not tell from the first. `options` are further options
    in protobuf's text format.
    """
    return Spec(number, default, default_factory, **said)


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
        package: Package | None = None,
        reserved: Reserved = (),
        extensions: Iterable[range] | Mapping[range, str] = (),
        extends: type[Message] | str | None = None,
        oneof_options: Mapping[str, str] = MappingProxyType({}),
        options: str = "",
        visibility: Visibility | None = None,
        wire_name: str | None = None,
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
        offered = (
            dict(extensions)
            if isinstance(extensions, Mapping)
            else dict.fromkeys(tuple(extensions), "")
        )
        file = file_of(package or module)
        check_numbers(specs, where, foreign=isinstance(package, ProtoFile))
        check_reserved(specs, (*gone, *offered), where)
        check_oneofs(specs, where)
        for oneof in oneof_options.keys() - oneofs_of(specs):
            raise ContractError(
                f"There is no oneof {oneof} that oneof_options= could be of.",
                where=where,
                fix="Name one that its fields are members of.",
            )

        nested = [value for value in namespace.values() if isinstance(value, type)]
        if extends is not None and (nested or gone or offered or options or visibility):
            raise ContractError(
                "What extends a message declares fields, and nothing else.",
                where=where,
                fix="Declare the rest beside it.",
            )
        # in JSON, what extends another message stands in brackets
        check_json_names({} if extends else specs, file, options, where)
        strict = False
        names = json_names(specs, camel=file.camel)
        for key, spec in specs.items():
            json = names[key]
            strict = strict or json != (spec.name or key)
            default = spec.default
            if (
                default is NODEFAULT
                and spec.factory is NODEFAULT
                and allows_none(scope, annotations[key])
            ):
                default = None
            if json != key or spec.factory is not NODEFAULT:
                namespace[key] = cast("Any", msgspec.field)(
                    name=json, default=default, default_factory=spec.factory
                )
            elif default is not NODEFAULT:
                namespace[key] = default
            else:
                del namespace[key]
        if oneofs_of(specs):
            namespace["__post_init__"] = _one_of_each(
                oneofs_of(specs), namespace.get("__post_init__")
            )
        declaration = namespace["__declaration__"] = Declaration(
            stated_file=file,
            where=where,
            specs=specs,
            reserved=gone,
            doc=inspect.cleandoc(namespace.get("__doc__") or ""),
            scope=scope,
            pending={key: annotations[key] for key in specs},
            wire_name=wire_name or name,
            serial=serial(),
            extensions=offered,
            extends=extends,
            visibility=visibility,
            oneof_options=oneof_options,
            options=options,
        )
        namespace["__codec__"] = None
        cls = StructMeta(
            name,
            (_Struct,),
            namespace,
            frozen=True,
            kw_only=True,
            dict=True,
            # a field that came under its other name would be taken for absent
            forbid_unknown_fields=strict,
        )
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


def _one_of_each(
    oneofs: dict[str, list[str]], after: Callable[[Any], None] | None
) -> Callable[[Any], None]:
    """Return the check that no oneof has two members, which the constructor and JSON run."""

    def __post_init__(self: Any) -> None:  # noqa: N807 - it becomes that method
        for oneof, members in oneofs.items():
            there = [name for name in members if getattr(self, name) is not None]
            if len(there) > 1:
                raise ValueError(
                    f"{there[0]} and {there[1]} are both given: {oneof} is one of them"
                )
        if after is not None:
            after(self)

    return __post_init__


def _adopt(cls: type[Message], nested: list[type]) -> None:
    """Tell messages and enumerations that stand in the body of `cls` where they belong."""
    for inner in nested:
        if not inner.__qualname__.startswith(f"{cls.__qualname__}."):
            continue
        if is_message(inner):
            declared = vars(inner)["__declaration__"]
            file = vars(cls)["__declaration__"].stated_file
            if file.camel is not declared.stated_file.camel:
                raise ContractError(
                    "It does not say what the message around it says of its file.",
                    where=declared.where,
                    fix="Give it the same package=.",
                )
            declared.owner = cls
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
            cls,
            *,
            package: Package | None = ...,
            reserved: Reserved = ...,
            extensions: Iterable[range] | Mapping[range, str] = ...,
            extends: type[Message] | str | None = ...,
            oneof_options: Mapping[str, str] = ...,
            options: str = ...,
            visibility: Visibility | None = ...,
            wire_name: str | None = ...,
        ) -> None: ...

else:

    class _Base(metaclass=MessageMeta):
        pass


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
class Message(_Base):
    """The base of every message: `class Reserve(Message)` with `order_id: str = field(1)`.

    Class keywords: `package="shop.inventory.v1"` is the protobuf package (default: the name of
    the module), or a `ProtoFile`; `reserved=(4, "old_name", range(10, 20))` keeps the numbers and
    names of removed fields from being used again. For contracts of others: `extensions=` are the
    numbers that others may extend the message with, or those with the options of each range;
    `wire_name` is its name in protobuf where the class is called otherwise, `visibility` is what
    edition 2024 says, and `options` are in protobuf's text format, as are those of its oneofs in
    `oneof_options`.

    With `extends=Order` (or `"Order"`, where that does not exist yet) the fields are extensions
    of that message, or of one of protobuf's own: `extends="google.protobuf.FieldOptions"` declares
    options. The class is a message of those fields alone, and no field can hold it: of an order
    that came as protobuf, `extensions_of(order, Extras)` gives it.

    Raises `ContractError` while the class is created if a rule is broken.
    """


def which_oneof(message: Message, oneof: str) -> str | None:
    """Return the name of the member of a oneof that is there; None if none is.

    Raises `ValueError` if the message has no such oneof.
    """
    members = oneofs_of(type(message).__declaration__.specs).get(oneof)
    if members is None:
        raise ValueError(f"{type(message).__name__} has no oneof {oneof!r}")
    return next((name for name in members if getattr(message, name) is not None), None)


def declared(full_name: str) -> type[Message] | None:
    """Return the message class of that name, the newest of several; None if there is none."""
    found = (
        cls
        for cls in reversed(_Struct.__subclasses__())
        if vars(cls)["__declaration__"].full_name == full_name
    )
    return cast("type[Message] | None", next(found, None))


def replace(message: M, **changes: Any) -> M:
    """Return a copy of `message` with some fields changed, and its unknown fields kept."""
    values = {name: getattr(message, name) for name in type(message).__declaration__.specs}
    return _rebuilt(type(message), values | changes, message.__unknown__)
