"""What a message class declares, and the rules that a declaration keeps.

The rules, each checked while the declaring module is imported:

- every field is `name: type = field(number)`, and a number is chosen once and never changed;
- numbers are 1 to 536 870 911, not 19 000 to 19 999, unique in the message, and not reserved;
- names are lower_snake_case (what others own may be called otherwise), not reserved, and unique; in
  JSON too, as far as protoc asks for that (see `jsonnames`);
- the members of a oneof stand side by side, and each is `T | None`;
- the type is one of the type table (`switchgear.contract.kinds`); a type that is named before it
  exists (a message that contains itself) is checked when the message is first used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from dataclasses import field as attribute
from types import FrameType, MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, get_args, get_type_hints

from msgspec import NODEFAULT

from switchgear.contract.enums import Enum, labels_of
from switchgear.contract.fieldrules import check_field
from switchgear.contract.file import ProtoFile, Visibility
from switchgear.contract.jsonnames import json_name, json_names
from switchgear.contract.kinds import Kind, Shape, Type, resolve, wire_type
from switchgear.errors import ContractError

if TYPE_CHECKING:
    from switchgear.contract.message import Message

__all__ = [
    "Declaration",
    "Field",
    "Reserved",
    "Scope",
    "Spec",
    "allows_none",
    "check_numbers",
    "check_oneofs",
    "check_reserved",
    "declaration_of",
    "field_name",
    "fields_of",
    "file_of_type",
    "full_name",
    "is_unwritable",
    "oneofs_of",
    "own_specs",
    "reach",
    "settle",
]

Reserved = Iterable[int | str | range]
"""Numbers, ranges of numbers and names that no field may use: those of fields since removed."""

MAX_NUMBER: Final = 536_870_911
IMPLEMENTATION: Final = range(19_000, 20_000)
_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UNWRITABLE: Final = re.compile(r'["\\\x00-\x1f]')
"""What msgspec does not take in a name of a field in JSON."""
_PROTOBUF: Final = "google.protobuf."
_CLASSVAR: Final = re.compile(r"(\w+\.)*ClassVar\b")
_OPTIONAL: Final = re.compile(r"\|\s*None\s*$|^\s*None\s*\||^(typing\.)?Optional\[")


@dataclass(frozen=True, slots=True)
class Spec:
    """What `field(...)` says; the name and the type come from the class."""

    number: int
    default: Any = NODEFAULT
    factory: Any = NODEFAULT
    presence: bool = False
    strings: bool = False
    deprecated: bool = False
    unit: str | None = None
    scale: int | None = None
    currency: str | None = None
    semantics: str | None = None
    doc: str | None = None
    name: str | None = None
    json: str | None = None
    oneof: str | None = None
    wire_default: str | None = None
    required: bool = False
    delimited: bool = False
    options: str = ""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message, with its type resolved."""

    name: str
    """The name of the attribute in Python."""
    spec: Spec
    type: Type
    wire: str
    """The name in protobuf."""
    json: str
    """The name that is written in JSON."""
    others: tuple[str, ...] = ()
    """Names that are read in JSON besides."""

    @property
    def number(self) -> int:
        """The identity of the field on the wire."""
        return self.spec.number

    @property
    def kind(self) -> Kind:
        """The kind of the value; of an element, where the field is a list or a map."""
        return self.type.kind

    @property
    def has_presence(self) -> bool:
        """Whether protobuf tells absence from the zero value."""
        return self.type.shape is Shape.ONE and (
            self.spec.presence
            or self.spec.required
            or self.type.optional
            or self.kind.is_submessage
        )

    @property
    def has_default(self) -> bool:
        """Whether the declaration fills in what was left out; None does for `T | None`."""
        return (
            self.type.optional
            or self.spec.default is not NODEFAULT
            or self.spec.factory is not NODEFAULT
        )

    def absent(self) -> Any:
        """Return what stands for an absent value; only where `has_default`."""
        if self.type.optional:
            return None
        return self.spec.default if self.spec.factory is NODEFAULT else self.spec.factory()


@dataclass(frozen=True, slots=True)
class Scope:
    """The names that an annotation can mean where it stands."""

    globals: dict[str, Any]
    locals: dict[str, Any]

    @classmethod
    def of(cls, frame: FrameType | None, body: Mapping[str, Any]) -> Scope:
        """Return the scope of a class that the caller of the code of `frame` defines."""
        frame = frame.f_back if frame else None
        if frame is None:  # a Python without frames: only what the class body holds is visible
            return cls({}, dict(body))
        around = frame.f_locals if frame.f_locals is not frame.f_globals else {}
        # A field may be called like its type: `money: money`.
        names = {name: value for name, value in body.items() if not isinstance(value, Spec)}
        return cls(frame.f_globals, {**around, **names})

    def evaluate(self, annotation: Any) -> Any:
        """Evaluate an annotation, which may be a string. Raises `NameError` if it is too early."""
        holder = SimpleNamespace(__annotations__={"it": annotation})
        try:
            return get_type_hints(holder, self.globals, self.locals, include_extras=True)["it"]
        except AttributeError as error:  # `Order.Line`, inside the body of `Order`
            raise NameError(f"{error}") from None


@dataclass(slots=True, eq=False)
class Declaration:
    """What a message class declares."""

    stated_file: ProtoFile
    """The file that was given, or that of the package; else that of the module's name."""
    where: str
    specs: Mapping[str, Spec]
    reserved: tuple[int | str | range, ...]
    doc: str
    scope: Scope
    pending: Mapping[str, Any]
    """The annotations of the fields, until `fields` is known."""
    wire_name: str
    """The name in protobuf, without what it stands in."""
    serial: int
    extensions: Mapping[range, str] = attribute(default_factory=dict)
    """The numbers that others may extend the message with, and the options of each range."""
    extends: type[Message] | str | None = None
    """What the fields extend: a message, or one of protobuf's own by its full name.

    A name in Python is replaced by the class that it means once that exists.
    """
    visibility: Visibility | None = None
    oneof_options: Mapping[str, str] = attribute(default_factory=dict)
    options: str = ""
    cls: type[Message] = attribute(init=False)
    owner: type[Message] | None = None
    """The message class inside whose body this one is declared."""
    fields: Mapping[str, Field] | None = None
    descriptor: Any = None
    """The descriptor of protobuf, once it was asked for."""

    @property
    def file(self) -> ProtoFile:
        """The file: that of the message inside whose body this one stands, if any."""
        return declaration_of(self.owner).file if self.owner else self.stated_file

    @property
    def package(self) -> str:
        """The protobuf package."""
        return self.file.package

    @property
    def name(self) -> str:
        """The name inside the package."""
        own = self.wire_name
        return own if self.owner is None else f"{declaration_of(self.owner).name}.{own}"

    @property
    def full_name(self) -> str:
        """The name on the wire: package and name."""
        return f"{self.package}.{self.name}" if self.package else self.name


def declaration_of(cls: type[Message]) -> Declaration:
    """Return what `cls` declares."""
    declaration: Declaration = vars(cls)["__declaration__"]
    return declaration


def full_name(cls: type[Message | Enum]) -> str:
    """Return the name of a message or enumeration on the wire: package and name."""
    if issubclass(cls, Enum):
        owner: type[Message] | None = getattr(cls, "__owner__", None)
        scope = full_name(owner) if owner else cls.__package__
        return f"{scope}.{cls.__wire_name__}" if scope else cls.__wire_name__
    return declaration_of(cls).full_name


def field_name(cls: type[Message], field: Field) -> str:
    """Return the full name of a field on the wire; an extension is named where it is declared."""
    declaration = declaration_of(cls)
    if declaration.extends is None:
        return f"{declaration.full_name}.{field.wire}"
    scope = (
        declaration_of(declaration.owner).full_name if declaration.owner else declaration.package
    )
    return f"{scope}.{field.wire}" if scope else field.wire


def file_of_type(cls: type[Message | Enum]) -> ProtoFile:
    """Return the file that a message or enumeration stands in."""
    if not issubclass(cls, Enum):
        return declaration_of(cls).file
    owner: type[Message] | None = getattr(cls, "__owner__", None)
    return declaration_of(owner).file if owner else cls.__file__


def fields_of(cls: type[Message]) -> Mapping[str, Field]:
    """Return the fields of `cls` by name, in the order of declaration.

    Raises `ContractError` for a type that was named before it existed and turns out to be wrong.
    """
    declaration = declaration_of(cls)
    if declaration.fields is not None:
        return declaration.fields
    declaration.scope.locals.setdefault(cls.__name__, cls)
    try:
        return settle(declaration)
    except NameError as error:
        raise ContractError(
            f"A type is not defined: {error}.",
            where=declaration.where,
            fix="Define it in the same module, before the message is used.",
        ) from None


def settle(declaration: Declaration) -> Mapping[str, Field]:
    """Resolve the types of a message's fields and tell msgspec what they are.

    Raises `NameError`, and changes nothing, while a type is named that does not exist yet.
    """
    fields: dict[str, Field] = {}
    extends = declaration.extends
    if isinstance(extends, str) and not extends.startswith(_PROTOBUF):
        extends = declaration.scope.evaluate(extends)
    names = json_names(declaration.specs, camel=declaration.file.camel)
    for name, annotation in declaration.pending.items():
        where = f"{declaration.where}.{name}"
        try:
            found = resolve(declaration.scope.evaluate(annotation))
        except TypeError as error:
            raise ContractError(f"{error}", where=where) from None
        fields[name] = _field(declaration, name, found, names[name])
        check_field(fields[name], extends, where)
    declaration.extends = extends
    for name, one in fields.items():
        wire = wire_type(one.type, strings=one.spec.strings)
        declaration.cls.__annotations__[name] = wire
    declaration.fields = MappingProxyType(fields)
    declaration.scope.locals.clear()  # the variables of a function, perhaps
    return declaration.fields


def _field(declaration: Declaration, name: str, found: Type, json: str) -> Field:
    spec, file = declaration.specs[name], declaration.file
    wire = spec.name or name
    read = {wire, json_name(wire)} if file.is_shared else {wire}
    return Field(name, spec, found, wire, json, tuple(sorted(read - {json})))


def reach(*classes: type[Message | Enum]) -> tuple[type[Message | Enum], ...]:
    """Return the messages and enumerations that `classes` are made of, themselves included.

    Raises `ContractError` where two of them have one name on the wire.
    """
    found: dict[str, type[Message | Enum]] = {}
    values: dict[str, str] = {}
    waiting: list[type[Message | Enum]] = list(reversed(classes))
    while waiting:
        cls = waiting.pop()
        name = full_name(cls)
        if found.setdefault(name, cls) is not cls:
            raise ContractError(
                f"Two classes are called {name}: one in {found[name].__module__} "
                f"and one in {cls.__module__}.",
                fix="Rename one, or give it another package=.",
            )
        if issubclass(cls, Enum):
            _claim_values(cls, name, values)
        inner = _parts(cls)
        waiting.extend(one for one in reversed(inner) if found.get(full_name(one)) is not one)
    return tuple(found.values())


def _parts(cls: type[Message | Enum]) -> list[type[Message | Enum]]:
    if issubclass(cls, Enum):
        owner: type[Message] | None = getattr(cls, "__owner__", None)
        return [owner] if owner else []
    parts: list[type[Message | Enum]] = [
        one.kind.python for one in fields_of(cls).values() if one.kind.name in {"message", "enum"}
    ]
    declaration = declaration_of(cls)
    around = (declaration.owner, declaration.extends)
    return [*parts, *(one for one in around if isinstance(one, type))]


def _claim_values(cls: type[Enum], name: str, values: dict[str, str]) -> None:
    scope = name.rpartition(".")[0]
    for member in labels_of(cls):
        other = values.setdefault(f"{scope}.{member}", name)
        if other != name:
            raise ContractError(
                f"{other} and {name} both have a member {member}, and protobuf puts the names of "
                "members beside their enumeration.",
                where=name,
                fix=f'Say prefix="{cls.__name__.upper()}_" after Enum, or declare the enumeration '
                "inside the message that uses it.",
            )


def is_unwritable(json: str) -> bool:
    """Whether a field cannot have a name in JSON, because that would have to be escaped."""
    return _UNWRITABLE.search(json) is not None


def check_numbers(specs: Mapping[str, Spec], where: str, *, foreign: bool = False) -> None:
    """Refuse field numbers and names that cannot be on the wire, naming every field concerned.

    `foreign`: the file is another team's, whose names are not ours to choose.
    """
    by_number: dict[int, str] = {}
    for key, spec in specs.items():
        number: object = spec.number
        name = spec.name or key
        if not (_IDENTIFIER if foreign else _NAME).fullmatch(name):
            raise ContractError(
                f"The field name {name} is not lower_snake_case.", where=where, fix="Rename it."
            )
        if spec.json is not None and is_unwritable(spec.json):
            raise ContractError(
                f"The field {name} cannot be called {spec.json!r} in JSON.",
                where=where,
                fix='Use a name without ", \\ and control characters.',
            )
        if type(number) is not int or not 1 <= number <= MAX_NUMBER:
            raise ContractError(
                f"The field {name} has the number {number!r}.",
                where=where,
                fix=f"Use a whole number from 1 to {MAX_NUMBER}.",
            )
        if number in IMPLEMENTATION:
            raise ContractError(
                f"The field {name} has the number {number}.",
                where=where,
                fix="19000 to 19999 belong to protobuf itself. Use another number.",
            )
        if name in by_number.values():
            raise ContractError(
                f"Two fields are called {name}.", where=where, fix="Rename one, or its name=."
            )
        if number in by_number:
            raise ContractError(
                f"The fields {by_number[number]} and {name} both have the number {number}.",
                where=where,
                fix="Give the newer of the two a number that was never used.",
            )
        by_number[number] = name


def check_reserved(specs: Mapping[str, Spec], reserved: Reserved, where: str) -> None:
    """Refuse fields that use a reserved number or name, naming both."""
    for item in reserved:
        numbers = (
            item
            if isinstance(item, range)
            else range(item, item + 1)
            if isinstance(item, int)
            else range(0)
        )
        if not isinstance(item, str) and (
            not numbers or numbers.step != 1 or numbers[0] < 1 or numbers[-1] > MAX_NUMBER
        ):
            raise ContractError(
                f"{item!r} cannot be reserved.",
                where=where,
                fix=f"Reserve names, numbers from 1 to {MAX_NUMBER}, or ranges of them.",
            )
        for key, spec in specs.items():
            name = spec.name or key
            if spec.number in numbers or name == item:
                raise ContractError(
                    f"The field {name} = {spec.number} uses {item!r}, which is reserved: an old "
                    "reader would take it for a field that is gone.",
                    where=where,
                    fix="Use a number and a name that were never used.",
                )


def oneofs_of(specs: Mapping[str, Spec]) -> dict[str, list[str]]:
    """Return the attributes that are members of each oneof, in the order of declaration."""
    found: dict[str, list[str]] = {}
    for name, spec in specs.items():
        if spec.oneof is not None:
            found.setdefault(spec.oneof, []).append(name)
    return found


def check_oneofs(specs: Mapping[str, Spec], where: str) -> None:
    """Refuse oneofs whose members are apart, or whose name a field has."""
    names = list(specs)
    taken = {spec.name or name for name, spec in specs.items()}
    for oneof, members in oneofs_of(specs).items():
        first = names.index(members[0])
        if names[first : first + len(members)] != members:
            raise ContractError(
                f"The members of the oneof {oneof} do not stand side by side.",
                where=where,
                fix=f"Put {', '.join(members)} one after the other.",
            )
        if oneof in taken or not _IDENTIFIER.fullmatch(oneof):
            raise ContractError(
                f"A oneof cannot be called {oneof!r}.",
                where=where,
                fix="Use a name that no field of the message has.",
            )


def own_specs(namespace: Mapping[str, Any], where: str) -> dict[str, Spec]:
    """Return what `field(...)` says in a class body, refusing fields without a number."""
    specs: dict[str, Spec] = {}
    for name, annotation in namespace["__annotations__"].items():
        if _CLASSVAR.match(str(annotation)):
            continue
        spec = namespace.get(name)
        if not isinstance(spec, Spec):
            raise ContractError(
                f"The field {name} has no number.",
                where=where,
                fix=f"Write `{name}: ... = field(number)`; a default goes into field(...).",
            )
        if isinstance(spec.default, list | dict | set):
            raise ContractError(
                f"The default of {name} is a {type(spec.default).__name__} that all would share.",
                where=where,
                fix="Use default_factory=list, or a function that makes one.",
            )
        specs[name] = spec
    for name, value in namespace.items():
        if isinstance(value, Spec) and name not in specs:
            raise ContractError(
                f"The field {name} has no type.",
                where=where,
                fix=f"Write `{name}: type = field({value.number})`.",
            )
    return specs


def allows_none(scope: Scope, annotation: object) -> bool:
    """Whether an annotation allows None, also one that names what does not exist yet."""
    try:
        return type(None) in get_args(scope.evaluate(annotation))
    except NameError:
        return _OPTIONAL.search(str(annotation)) is not None
