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
from collections.abc import Iterable
from importlib import import_module
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

from switchgear.contract.bindings import bindings_of, fill_rule
from switchgear.contract.declaration import (
    Declaration,
    Field,
    declaration_of,
    field_name,
    fields_of,
    file_of_type,
    full_name,
    oneofs_of,
    reach,
)
from switchgear.contract.enums import Enum, labels_of
from switchgear.contract.file import ProtoFile
from switchgear.contract.kinds import SHARED, Kind, Shape, is_message
from switchgear.contract.message import Message
from switchgear.contract.options import Texts, option_files, pool_of
from switchgear.contract.service import Operation, ServiceContract, contract_of
from switchgear.errors import ContractError, MissingExtra

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor
    from google.protobuf.descriptor_pb2 import (
        DescriptorProto,
        EnumDescriptorProto,
        FieldDescriptorProto,
        FileDescriptorProto,
        FileDescriptorSet,
        MethodDescriptorProto,
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

HTTP_FILE: Final = "google/api/annotations.proto"
OPTIONS_FILE: Final = "google/protobuf/descriptor.proto"

_WITHOUT_VISIBILITY: Final = ("proto2", "proto3", "2023")
_EXACT: Final = 1e16
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


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
        from google.protobuf.message_factory import GetMessageClass  # noqa: PLC0415 - an extra
    except ImportError:
        raise MissingExtra("protobuf", "grpc") from None
    return GetMessageClass(descriptor(cls))


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


def file_descriptors(*roots: type[Any] | ServiceContract) -> FileDescriptorSet:
    """Return the files that describe services and messages, each after those that it imports.

    A root is a message, an enumeration, the Protocol of a service, or its `ServiceContract`.

    Raises `ContractError` where two packages import each other or two things have one name, and
    `MissingExtra` where protobuf is not installed.
    """
    try:
        from google.protobuf.descriptor_pb2 import FileDescriptorSet  # noqa: PLC0415 - an extra
    except ImportError:
        raise MissingExtra("protobuf", "grpc") from None
    return FileDescriptorSet(file=_described(roots, _Files(strict=True)))


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

    def __init__(self, *, strict: bool, as_messages: bool = False) -> None:
        self.strict = strict
        self.as_messages = as_messages
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
                _fill_enum(into.enum_type.add(), cls, self.options)
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
        self.imports[file].update(_fill_message(made, cls, self.options) - {file})
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
            needed |= _fill_field(one, field, cls, self.options)
            if field.spec.presence and field.type.optional and declaration.file.syntax == "proto3":
                one.proto3_optional = True
        self.imports[file].update(needed - {file})

    def add_service(self, contract: ServiceContract) -> None:
        file = self.file(contract.file)
        made = file.service.add(name=contract.name)
        self.options.fill(made, contract.options, contract.full_name, file.name)
        for operation in contract.operations.values():
            _fill_method(made.method.add(), operation, self.options, file.name)
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
        if self.strict:  # a codec has no use for them
            for name, needed in self.options.of_languages():
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
            self._place(name, done, ())
        return list(done.values())

    def _place(
        self, name: str, done: dict[str, FileDescriptorProto], above: tuple[str, ...]
    ) -> None:
        if name in done:
            return
        if name in above:
            loop = " imports ".join((*above[above.index(name) :], name))
            raise ContractError(
                f"Packages need each other, which protobuf does not allow: {loop}.",
                fix="Put the messages that both use into one package, with package=.",
            )
        file = self.files.get(name) or _shared_file(name)
        for needed in file.dependency:
            self._place(needed, done, (*above, name))
        done[name] = file


def _shared_file(name: str) -> FileDescriptorProto:
    """Return a file that is protobuf's own or Google's, which every language has."""
    from google.protobuf.descriptor_pb2 import (  # noqa: PLC0415 - an extra
        FileDescriptorProto,
        FileDescriptorSet,
    )

    module = f"{name.removesuffix('.proto').replace('/', '.')}_pb2"
    try:
        known = import_module(module).DESCRIPTOR
    except ImportError:
        if not name.startswith("google/protobuf/"):
            raise MissingExtra("googleapis-common-protos", "grpc") from None
        from switchgear.contract.protoc import (  # noqa: PLC0415  for exports alone
            Tree,
            compile_trees,
            includes,
        )

        # features of one language come with protoc, and with no module
        (compiled,) = compile_trees(Tree(includes()[0], (name,)), source_info=False)
        return FileDescriptorSet.FromString(compiled).file[-1]
    return FileDescriptorProto.FromString(known.serialized_pb)


def _fill_message(made: DescriptorProto, cls: type[Message], options: Texts) -> set[str]:
    """Describe `cls` in `made`; return the files that its fields need."""
    declaration = declaration_of(cls)
    made.name = declaration.wire_name
    needed: set[str] = set()
    file, name = declaration.file.path, full_name(cls)
    oneofs = list(oneofs_of(declaration.specs))
    for oneof in oneofs:
        stated = declaration.oneof_options.get(oneof, "")
        options.fill(made.oneof_decl.add(name=oneof), stated, f"{name}.{oneof}", file)
    for field in fields_of(cls).values():
        one = made.field.add()
        needed |= _fill_field(one, field, cls, options)
        if field.type.key is not None:
            needed |= _fill_map(made, one, field, f".{name}")
        if field.spec.oneof is not None:
            one.oneof_index = oneofs.index(field.spec.oneof)
    if declaration.file.syntax == "proto3":
        _fill_optional(made, cls)
    options.fill(made, declaration.options, name, file)
    if declaration.visibility:
        made.visibility = _visibility(declaration.visibility, declaration.file, name)
    _fill_ranges(made, declaration, options)
    return needed


def _fill_field(
    one: FieldDescriptorProto, field: Field, cls: type[Message], options: Texts
) -> set[str]:
    """Describe a field, less the oneof that it is in; return the files that its type needs."""
    needed: set[str] = set()
    one.name, one.number = field.wire, field.number
    one.label = one.LABEL_OPTIONAL
    one.json_name = field.json  # other languages then write the names that we read
    if field.spec.deprecated:
        one.options.deprecated = True
    options.fill(one, field.spec.options, field_name(cls, field), file_of_type(cls).path)
    if field.type.key is None:
        needed = _fill_type(one, field.kind)
    if field.type.shape is not Shape.ONE:
        one.label = one.LABEL_REPEATED
    _fill_syntax(one, field, cls)
    return needed


def _visibility(stated: str, file: ProtoFile, where: str) -> Any:
    from google.protobuf.descriptor_pb2 import SymbolVisibility  # noqa: PLC0415 - an extra

    if file.syntax in _WITHOUT_VISIBILITY:
        raise ContractError(
            f"A {file.syntax} file does not say who may see it.",
            where=where,
            fix='Remove visibility=, or use a ProtoFile with syntax="2024".',
        )
    return SymbolVisibility.Value(f"VISIBILITY_{stated.upper()}")


def _fill_optional(made: DescriptorProto, cls: type[Message]) -> None:
    """Put each optional scalar into a oneof of its own, as proto3 tells presence.

    Its name is what protoc would choose.
    """
    taken = {one.name for one in made.field} | {one.name for one in made.oneof_decl}
    for one, field in zip(made.field, fields_of(cls).values(), strict=True):
        scalar = not field.kind.is_submessage
        if field.has_presence and (scalar or field.spec.presence) and field.spec.oneof is None:
            one.proto3_optional = True
            one.oneof_index = len(made.oneof_decl)
            name = one.name if one.name.startswith("_") else f"_{one.name}"
            while name in taken:
                name = f"X{name}"
            taken.add(name)
            made.oneof_decl.add(name=name)


def _fill_syntax(one: FieldDescriptorProto, field: Field, cls: type[Message]) -> None:
    """Say what only proto2 and the editions can say."""
    spec, file = field.spec, declaration_of(cls).file
    if file.syntax == "proto3":
        if spec.required or spec.delimited:
            raise ContractError(
                "A proto3 file knows neither required nor delimited fields.",
                where=f"{full_name(cls)}.{field.wire}",
                fix="Use presence=True, or a ProtoFile with another syntax.",
            )
        return
    if spec.required:
        if file.is_edition:
            one.options.features.field_presence = one.options.features.LEGACY_REQUIRED
        else:
            one.label = one.LABEL_REQUIRED
    if spec.delimited:
        if file.is_edition:
            one.options.features.message_encoding = one.options.features.DELIMITED
        else:
            inner, declared = declaration_of(field.kind.python), declaration_of(cls)
            scope = cls if declared.extends is None else declared.owner
            if inner.owner is not scope or inner.wire_name.lower() != field.wire:
                raise ContractError(
                    "In proto2 a group declares a message of its own.",
                    where=f"{full_name(cls)}.{field.wire}",
                    fix="Declare the message inside this one, and call it as the field.",
                )
            one.type = one.TYPE_GROUP
    scalar = field.type.shape is Shape.ONE and not field.kind.is_submessage
    if spec.wire_default is not None:
        one.default_value = spec.wire_default
    elif (spec.presence or spec.required) and scalar and field.has_default:
        one.default_value = _default(field.absent())


def _default(value: Any) -> str:
    """Return a default as a descriptor holds it."""
    if isinstance(value, Enum):
        return str(value._value_)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, bytes):
        from google.protobuf.text_encoding import CEscape  # noqa: PLC0415 - an extra

        return CEscape(value, as_utf8=False)
    if isinstance(value, float):
        if isfinite(value):
            return str(int(value)) if value == int(value) and abs(value) < _EXACT else repr(value)
        return "nan" if value != value else "inf" if value > 0 else "-inf"  # noqa: PLR0124
    return str(value)


def _fill_type(one: FieldDescriptorProto, kind: Kind) -> set[str]:
    if kind.name in {"message", "enum"}:
        one.type = one.TYPE_MESSAGE if kind.name == "message" else one.TYPE_ENUM
        one.type_name = f".{full_name(kind.python)}"
        return {file_of_type(kind.python).path}
    if kind.name in SHARED:
        file, one.type_name = SHARED[kind.name]
        one.type = one.TYPE_MESSAGE
        return {file}
    name = "STRING" if kind.name == "decimal" else kind.name.upper()
    one.type = one.Type.Value(f"TYPE_{name}")
    return set()


def _fill_map(
    made: DescriptorProto, one: FieldDescriptorProto, field: Field, prefix: str
) -> set[str]:
    entry = made.nested_type.add(name=f"{_camel(field.wire)}Entry")
    entry.options.map_entry = True
    key = entry.field.add(name="key", number=1, json_name="key")
    value = entry.field.add(name="value", number=2, json_name="value")
    key.label = value.label = one.LABEL_OPTIONAL
    if field.type.key is not None:
        _fill_type(key, field.type.key)
    one.type, one.type_name = one.TYPE_MESSAGE, f"{prefix}.{entry.name}"
    return _fill_type(value, field.kind)


def _fill_ranges(made: DescriptorProto, declaration: Declaration, options: Texts) -> None:
    for one, stated in declaration.extensions.items():
        added = made.extension_range.add(start=one.start, end=one.stop)
        where = f"{declaration.full_name}, {one}"
        options.fill(added, stated, where, declaration.file.path)
    names, ranges = _split(declaration.reserved)
    made.reserved_name.extend(names)
    for start, end in ranges:
        made.reserved_range.add(start=start, end=end)


def _split(reserved: tuple[int | str | range, ...]) -> tuple[list[str], list[tuple[int, int]]]:
    """Return the names and the ranges among what is reserved; ranges end before their end."""
    names = dict.fromkeys(item for item in reserved if isinstance(item, str))
    numbers = [
        (item.start, item.stop) if isinstance(item, range) else (item, item + 1)
        for item in reserved
        if not isinstance(item, str)
    ]
    return list(names), _joined(numbers)


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the ranges as they are, or joined where some overlap, which protobuf refuses."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if joined and start < joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return ranges if len(joined) == len(ranges) else joined


def _fill_enum(made: EnumDescriptorProto, cls: type[Enum], options: Texts) -> None:
    made.name = cls.__wire_name__
    stated, file = full_name(cls), file_of_type(cls)
    if cls.__visibility__:
        made.visibility = _visibility(cls.__visibility__, file, stated)
    labels = labels_of(cls).items()
    # an open enumeration begins with what protobuf means by absence
    for name, label in labels if cls.__closed__ else sorted(labels, key=lambda item: item[1] != 0):
        one = made.value.add(name=name, number=int(label))
        if label.deprecated:
            one.options.deprecated = True
        options.fill(one, label.options, f"{stated}.{name}", file.path)
    if cls.__aliases__:
        made.options.allow_alias = True
    options.fill(made, cls.__options__, stated, file.path)
    names, ranges = _split(cls.__reserved__)
    made.reserved_name.extend(names)
    for start, end in ranges:
        made.reserved_range.add(start=start, end=end - 1)  # inclusive here, unlike in messages


def _fill_method(
    made: MethodDescriptorProto, operation: Operation, options: Texts, file: str
) -> None:
    made.name = operation.rpc_name
    made.input_type = f".{full_name(operation.request)}"
    made.output_type = f".{full_name(operation.reply)}"
    if operation.takes_stream:
        made.client_streaming = True
    if operation.streaming:
        made.server_streaming = True
    if operation.level:
        made.options.idempotency_level = made.options.IdempotencyLevel.Value(operation.level)
    options.fill(made, operation.options, operation.full_name, file)
    if operation.http:
        try:
            from google.api import annotations_pb2  # type: ignore[import-untyped]  # noqa: PLC0415
        except ImportError:
            raise MissingExtra("googleapis-common-protos", "grpc") from None
        rule = made.options.Extensions[annotations_pb2.http]
        _fill_http(rule, operation)


def _fill_http(rule: Any, operation: Operation) -> None:
    if operation.http == "route":
        fill_rule(rule, [one.binding for one in operation.routes])
        return
    from google.protobuf import text_format  # noqa: PLC0415 - an extra

    text_format.Parse(operation.http, rule)
    said = [one.key for one in bindings_of(rule)]
    missing = next((one for one in operation.routes if one.binding.key not in said), None)
    if missing is not None:
        raise ContractError(
            f"The route {missing.method} {missing.path} is not in what http= says.",
            where=operation.full_name,
            fix="Write one of its bindings, or leave out http=.",
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


def _camel(name: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))
