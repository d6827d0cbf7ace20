"""Protobuf descriptors, built at run time from the declarations: no generated file on disk.

Every root message has a pool of its own, which holds what the message is made of. So two versions
of a message can live in one process (as in a test of compatibility), and nothing that the
application or its other libraries register in protobuf's default pool can collide with ours.

A protobuf package is one proto3 file, `shop.inventory.v1` is `shop/inventory/v1.proto`, unless the
declarations name a `ProtoFile`. In a file, declarations stand in the order of their module. A pool
that was built is compared with the declarations: what a file's edition and features make of a field
has to be what its Python type says.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from switchgear.contract.declaration import (
    Declaration,
    declaration_of,
    field_name,
    fields_of,
    file_of_type,
    full_name,
    reach,
)
from switchgear.contract.describe import fill_enum, fill_field, fill_message, fill_method
from switchgear.contract.enums import Enum
from switchgear.contract.file import ProtoFile
from switchgear.contract.kinds import is_message
from switchgear.contract.message import Message
from switchgear.contract.options import Texts, option_files, pool_of
from switchgear.contract.service import ServiceContract, contract_of
from switchgear.errors import ContractError, MissingExtra

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor
    from google.protobuf.descriptor_pb2 import (
        DescriptorProto,
        EnumDescriptorProto,
        FileDescriptorProto,
        FileDescriptorSet,
    )
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message import Message as ProtoMessage

__all__ = [
    "descriptor",
    "descriptor_pool",
    "file_descriptors",
    "message_class",
    "sorted_roots",
]

Languages: TypeAlias = "Callable[[str], FileDescriptorProto]"

HTTP_FILE: Final = "google/api/annotations.proto"
OPTIONS_FILE: Final = "google/protobuf/descriptor.proto"

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MOST_LEVELS: Final = 31
"""How deep protoc lets messages stand inside each other."""


def descriptor(cls: type[Message]) -> Descriptor:
    """Return the protobuf descriptor of a message class."""
    declaration = declaration_of(cls)
    if declaration.descriptor is None:
        pool = _pool((cls,), as_messages=True)
        declaration.descriptor = pool.FindMessageTypeByName(declaration.full_name)
    found: Descriptor = declaration.descriptor
    return found


def message_class(cls: type[Message]) -> type[ProtoMessage]:
    """Return protobuf's own class for a message class."""
    try:
        import_module("google.protobuf.message_factory")
    except ImportError:
        raise MissingExtra("protobuf", "grpc") from None
    from switchgear.contract.classes import class_of  # noqa: PLC0415 - needs it

    return class_of(descriptor(cls))


def descriptor_pool(*roots: type[Any] | ServiceContract) -> DescriptorPool:
    """Return a new pool that holds services and messages: what gRPC reflection answers from."""
    return _pool(roots)


def _pool(
    roots: tuple[type[Any] | ServiceContract, ...], *, as_messages: bool = False
) -> DescriptorPool:
    """Return a pool that is what the Python types say; `as_messages`: extensions are messages."""
    pool = pool_of(_described(roots, _Files(strict=False, as_messages=as_messages)))
    _, messages = sorted_roots(roots)
    for cls in reach(*messages):
        _compare(pool, cls, as_messages)
    return pool


def _compare(
    pool: DescriptorPool,
    cls: type[Message | Enum],
    as_messages: bool,  # noqa: FBT001 - one caller
) -> None:
    """Refuse a declaration that protobuf reads otherwise than Python."""
    name = full_name(cls)
    if issubclass(cls, Enum):
        if pool.FindEnumTypeByName(name).is_closed is not cls.__closed__:
            raise ContractError(
                f"Its file makes it {'open' if cls.__closed__ else 'closed'}.",
                where=name,
                fix="Say closed=True, or leave it out; or declare a feature in options=.",
            )
        return
    extends = declaration_of(cls).extends is not None and not as_messages
    for field in fields_of(cls).values():
        if extends:
            found = pool.FindExtensionByName(field_name(cls, field))
        else:
            found = pool.FindMessageTypeByName(name).fields_by_name[field.wire]
        if found.has_presence is not field.has_presence:
            raise ContractError(
                "Its file tells absence from zero, and its type does not."
                if found.has_presence
                else "Its type tells absence from zero, and its file does not.",
                where=field_name(cls, field),
                fix="Use `| None`, presence=True, or neither; or declare a feature in options=.",
            )


def file_descriptors(
    *roots: type[Any] | ServiceContract, languages: Languages | None = None
) -> FileDescriptorSet:
    """Return the files that describe services and messages, each after those that it imports.

    A root is a message, an enumeration, the Protocol of a service, or its `ServiceContract`.
    `languages` gives the files that declare features of one language (`protoc.language_file`).

    Raises `ContractError` where two packages import each other or two things have one name, and
    `MissingExtra` where protobuf is not installed.
    """
    try:
        from google.protobuf.descriptor_pb2 import FileDescriptorSet  # noqa: PLC0415 - an extra
    except ImportError:
        raise MissingExtra("protobuf", "grpc") from None
    return FileDescriptorSet(file=_described(roots, _Files(strict=True, languages=languages)))


def _described(
    roots: tuple[type[Any] | ServiceContract, ...], files: _Files
) -> list[FileDescriptorProto]:
    services, messages = sorted_roots(roots)
    for cls in sorted(reach(*messages), key=_serial):
        files.add_type(cls)
    for contract in services:
        files.add_service(contract)
    return files.finish()


def sorted_roots(
    roots: Iterable[type[Any] | ServiceContract],
) -> tuple[list[ServiceContract], list[type[Message | Enum]]]:
    """Return the services among `roots`, and the other roots with what the services mention."""
    services: dict[str, ServiceContract] = {}
    messages: list[type[Message | Enum]] = []
    for root in roots:
        if not isinstance(root, ServiceContract) and (is_message(root) or _is_enum(root)):
            messages.append(root)
            continue
        contract = root if isinstance(root, ServiceContract) else contract_of(root)
        services[contract.full_name] = contract
        for operation in contract.operations.values():
            messages += [operation.request, operation.reply]
            messages += [refusal.__message__ for refusal in operation.refuses]
    return list(services.values()), messages


def _serial(cls: type[Message | Enum]) -> int:
    return cls.__serial__ if issubclass(cls, Enum) else declaration_of(cls).serial


def _is_enum(root: object) -> bool:
    return isinstance(root, type) and issubclass(root, Enum)


class _Files:
    """The files under construction."""

    def __init__(
        self, *, strict: bool, as_messages: bool = False, languages: Languages | None = None
    ) -> None:
        self.strict = strict
        self.as_messages = as_messages
        self.languages = languages
        self.of_languages: dict[str, FileDescriptorProto] = {}
        self.options = Texts()
        self.files: dict[str, FileDescriptorProto] = {}
        self.imports: dict[str, set[str]] = defaultdict(set)
        self.stated: dict[str, ProtoFile] = {}
        self.owned: dict[str, DescriptorProto] = {}

    def file(self, stated: ProtoFile) -> FileDescriptorProto:
        from google.protobuf.descriptor_pb2 import Edition, FileDescriptorProto  # noqa: PLC0415

        name = stated.path
        if self.stated.setdefault(name, stated) != stated:
            raise ContractError(
                "Two declarations say different things of their file.",
                where=name,
                fix="Share one ProtoFile.",
            )
        if name not in self.files:
            for part in stated.package.split(".") if stated.package else ():
                _check_identifier(part, f"The package {stated.package}")
            made = FileDescriptorProto(name=name, syntax=stated.syntax)
            if stated.package:
                made.package = stated.package
            if stated.is_edition:
                made.syntax = "editions"
                made.edition = Edition.Value(f"EDITION_{stated.syntax}")
            elif stated.syntax == "proto2":
                made.ClearField("syntax")
            self.options.fill(made, stated.options, name, name)
            self.files[name] = made
        return self.files[name]

    def add_type(self, cls: type[Message | Enum]) -> DescriptorProto | None:
        """Add a message or enumeration, inside the message that owns it if there is one."""
        if file_of_type(cls).is_shared or full_name(cls) in self.owned:
            return self.owned.get(full_name(cls))
        if issubclass(cls, Enum):
            _check_identifier(cls.__wire_name__, full_name(cls))
            owner: type[Message] | None = getattr(cls, "__owner__", None)
            into = self.add_type(owner) if owner else self.file(cls.__file__)
            if into is not None:
                fill_enum(into.enum_type.add(), cls, self.options)
            return None
        declaration = declaration_of(cls)
        if declaration.extends is not None and not self.as_messages:
            self.add_extensions(cls, declaration)
            return None
        _check_identifier(declaration.wire_name, declaration.full_name)
        parent = self.add_type(declaration.owner) if declaration.owner else None
        made = (
            self.file(declaration.file).message_type.add()
            if parent is None
            else parent.nested_type.add()
        )
        self.owned[declaration.full_name] = made
        file = declaration.file.path
        self.imports[file].update(fill_message(made, cls, self.options) - {file})
        return made

    def add_extensions(self, cls: type[Message], declaration: Declaration) -> None:
        """Add the fields of a message with `extends=` as extensions, where the message stands."""
        parent = self.add_type(declaration.owner) if declaration.owner else None
        into = self.file(declaration.file) if parent is None else parent
        file, extended = declaration.file.path, declaration.extends
        if isinstance(extended, type):
            extendee, needed = full_name(extended), {file_of_type(extended).path}
        else:
            extendee, needed = str(extended), {OPTIONS_FILE}
        for field in fields_of(cls).values():
            one = into.extension.add(extendee=f".{extendee}")
            needed |= fill_field(one, field, cls, self.options)
            if field.spec.presence and field.type.optional and declaration.file.syntax == "proto3":
                one.proto3_optional = True
        self.imports[file].update(needed - {file})

    def add_service(self, contract: ServiceContract) -> None:
        file = self.file(contract.file)
        made = file.service.add(name=contract.name)
        self.options.fill(made, contract.options, contract.full_name, file.name)
        for operation in contract.operations.values():
            fill_method(made.method.add(), operation, self.options, file.name)
            used = {file_of_type(one).path for one in (operation.request, operation.reply)}
            if operation.http:
                used.add(HTTP_FILE)
            self.imports[file.name].update(used - {file.name})

    def finish(self) -> list[FileDescriptorProto]:
        """Return all files in the order of their imports."""
        for message in self.owned.values():
            # protoc meets the entries of maps where it meets the fields, after nested messages.
            message.nested_type.sort(key=lambda one: one.options.map_entry)
        for name, file in self.files.items():
            self.imports[name].update(set(option_files(file)) - {name})
            _check_names(file)
            if self.strict:
                _check_levels(file)
        if self.languages is not None:
            for name, needed in self.options.of_languages():
                self.of_languages[needed] = self.languages(needed)
                self.imports[name].add(needed)
        for name, needed in self.options.settle(self._placed, strict=self.strict):
            self.imports[name].update({needed} - {name})
        return self._placed()

    def _placed(self) -> list[FileDescriptorProto]:
        for name, file in self.files.items():
            file.ClearField("dependency")
            file.dependency.extend(sorted(self.imports[name]))
        done: dict[str, FileDescriptorProto] = {}
        for name in self.files:
            if name not in done:
                self._place(name, done)
        return list(done.values())

    def _place(self, first: str, done: dict[str, FileDescriptorProto]) -> None:
        """Put a file behind all that it imports, which may be a chain of any length."""
        above = {first: self._known(first)}
        while above:
            name, file = next(reversed(above.items()))
            needed = next((one for one in file.dependency if one not in done), None)
            if needed is None:
                done[name] = above.pop(name)
            elif needed not in above:
                above[needed] = self._known(needed)
            else:
                path = list(above)
                loop = " imports ".join((*path[path.index(needed) :], needed))
                raise ContractError(
                    f"Packages need each other, which protobuf does not allow: {loop}.",
                    fix="Put the messages that both use into one package, with package=.",
                )

    def _known(self, name: str) -> FileDescriptorProto:
        return self.files.get(name) or self.of_languages.get(name) or _shared_file(name)


def _shared_file(name: str) -> FileDescriptorProto:
    """Return a file that is protobuf's own or Google's, which every language has."""
    from google.protobuf.descriptor_pb2 import FileDescriptorProto  # noqa: PLC0415

    module = f"{name.removesuffix('.proto').replace('/', '.')}_pb2"
    try:
        known = import_module(module).DESCRIPTOR
    except ImportError:
        raise MissingExtra("googleapis-common-protos", "grpc") from None
    return FileDescriptorProto.FromString(known.serialized_pb)


def _check_levels(file: FileDescriptorProto) -> None:
    """Refuse messages that stand inside each other deeper than protoc reads."""
    level = [(one.name, one) for one in file.message_type]
    for _ in range(_MOST_LEVELS):
        level = [
            (f"{name}.{inner.name}", inner)
            for name, one in level
            for inner in one.nested_type
            if not inner.options.map_entry
        ]
    if level:
        raise ContractError(
            f"It stands inside more than {_MOST_LEVELS - 1} other messages: protoc reads no more.",
            where=f"{file.package}.{level[0][0]}",
            fix="Declare the innermost messages on the top of the module.",
        )


def _check_names(file: FileDescriptorProto) -> None:
    """Refuse two things of one name in one scope, which protobuf would refuse less kindly."""
    services = [one.name for one in file.service]
    _check_scope(file.package, file.message_type, file.enum_type, services)


def _check_scope(
    scope: str,
    messages: Iterable[DescriptorProto],
    enums: Iterable[EnumDescriptorProto],
    others: list[str],
) -> None:
    names = [*others, *(one.name for one in messages)]
    for enum in enums:
        names += [enum.name, *(value.name for value in enum.value)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ContractError(
            f"Two things in {scope} are called {twice}.",
            where=scope,
            fix="Messages, enumerations, their members and services share one space: rename one.",
        )
    for one in messages:
        fields = [field.name for field in one.field]
        _check_scope(f"{scope}.{one.name}", one.nested_type, one.enum_type, fields)


def _check_identifier(name: str, where: str) -> None:
    if not _IDENTIFIER.fullmatch(name):
        raise ContractError(
            f"{name!r} is not a name in protobuf.",
            where=where,
            fix="Use ASCII letters, digits and '_'; package= replaces the name of the module.",
        )
