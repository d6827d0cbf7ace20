"""Protobuf descriptors, built at run time from the declarations: no generated file on disk.

Every root message has a pool of its own, which holds what the message is made of. So two versions
of a message can live in one process (as in a test of compatibility), and nothing that the
application or its other libraries register in protobuf's default pool can collide with ours.

A protobuf package is one file: `shop.inventory.v1` is `shop/inventory/v1.proto`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from switchgear.contract.declaration import Field, declaration_of, fields_of, full_name, reach
from switchgear.contract.enums import Enum, numbers_of
from switchgear.contract.kinds import Kind, Shape, is_message
from switchgear.contract.message import Message
from switchgear.contract.money import Money
from switchgear.contract.service import Operation, ServiceContract, contract_of
from switchgear.errors import ContractError, MissingExtra
from switchgear.model.edge import Pattern

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
    "file_of",
    "message_class",
    "sorted_roots",
]

TIMESTAMP_FILE: Final = "google/protobuf/timestamp.proto"
DURATION_FILE: Final = "google/protobuf/duration.proto"
MONEY_FILE: Final = "google/type/money.proto"
HTTP_FILE: Final = "google/api/annotations.proto"

_SHARED_TYPES: Final = {
    "timestamp": (TIMESTAMP_FILE, ".google.protobuf.Timestamp"),
    "duration": (DURATION_FILE, ".google.protobuf.Duration"),
}
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def descriptor(cls: type[Message]) -> Descriptor:
    """Return the protobuf descriptor of a message class."""
    declaration = declaration_of(cls)
    if declaration.descriptor is None:
        pool = descriptor_pool(cls)
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
    files = file_descriptors(*roots)
    from google.protobuf.descriptor_pool import DescriptorPool  # noqa: PLC0415 - an extra

    pool = DescriptorPool()
    for file in files.file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


def file_of(package: str) -> str:
    """Return the name of the file that holds a package."""
    return f"{package.replace('.', '/')}.proto"


def file_descriptors(*roots: type[Any] | ServiceContract) -> FileDescriptorSet:
    """Return the files that describe services and messages, each after those that it imports.

    A root is a message class, the Protocol of a service, or its `ServiceContract`. Raises
    `ContractError` where two packages import each other or two things have one name, and
    `MissingExtra` where protobuf is not installed.
    """
    try:
        from google.protobuf.descriptor_pb2 import FileDescriptorSet  # noqa: PLC0415 - an extra
    except ImportError:
        raise MissingExtra("protobuf", "grpc") from None
    services, messages = sorted_roots(roots)
    files = _Files()
    for cls in reach(*messages):
        files.add_type(cls)
    for contract in services:
        files.add_service(contract)
    return FileDescriptorSet(file=files.finish())


def sorted_roots(
    roots: Iterable[type[Any] | ServiceContract],
) -> tuple[list[ServiceContract], list[type[Message]]]:
    """Return the services among `roots`, and the messages that all of them are made of."""
    services: dict[str, ServiceContract] = {}
    messages: list[type[Message]] = []
    for root in roots:
        if not isinstance(root, ServiceContract) and is_message(root):
            messages.append(root)
            continue
        contract = root if isinstance(root, ServiceContract) else contract_of(root)
        services[contract.full_name] = contract
        for operation in contract.operations.values():
            messages += [operation.request, operation.reply]
            messages += [refusal.__message__ for refusal in operation.refuses]
    return list(services.values()), messages


class _Files:
    """The files under construction, one for each package."""

    def __init__(self) -> None:
        self.files: dict[str, FileDescriptorProto] = {}
        self.imports: dict[str, set[str]] = defaultdict(set)
        self.owned: dict[str, DescriptorProto] = {}

    def file(self, package: str) -> FileDescriptorProto:
        from google.protobuf.descriptor_pb2 import FileDescriptorProto  # noqa: PLC0415

        name = file_of(package)
        if name not in self.files:
            for part in package.split("."):
                _check_identifier(part, f"The package {package}")
            self.files[name] = FileDescriptorProto(name=name, package=package, syntax="proto3")
        return self.files[name]

    def add_type(self, cls: type[Message | Enum]) -> DescriptorProto | None:
        """Add a message or enumeration, inside the message that owns it if there is one."""
        if cls is Money or full_name(cls) in self.owned:
            return self.owned.get(full_name(cls))
        _check_identifier(cls.__name__, full_name(cls))
        if issubclass(cls, Enum):
            owner: type[Message] | None = getattr(cls, "__owner__", None)
            into = self.add_type(owner) if owner else self.file(cls.__package__)
            if into is not None:
                _fill_enum(into.enum_type.add(), cls)
            return None
        declaration = declaration_of(cls)
        parent = self.add_type(declaration.owner) if declaration.owner else None
        made = (
            self.file(declaration.package).message_type.add()
            if parent is None
            else parent.nested_type.add()
        )
        self.owned[declaration.full_name] = made
        file = file_of(declaration.package)
        self.imports[file].update(_fill_message(made, cls) - {file})
        return made

    def add_service(self, contract: ServiceContract) -> None:
        file = self.file(contract.package)
        made = file.service.add(name=contract.name)
        for operation in contract.operations.values():
            _fill_method(made.method.add(), operation)
            used = {_file_of_type(one) for one in (operation.request, operation.reply)}
            self.imports[file.name].update(used - {file.name} | {HTTP_FILE})

    def finish(self) -> list[FileDescriptorProto]:
        """Return all files in the order of their imports."""
        for message in self.owned.values():
            # protoc meets the entries of maps where it meets the fields, after nested messages.
            message.nested_type.sort(key=lambda one: one.options.map_entry)
        for name, file in self.files.items():
            file.dependency.extend(sorted(self.imports[name]))
            _check_names(file)
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
    from google.protobuf import duration_pb2, timestamp_pb2  # noqa: PLC0415 - an extra
    from google.protobuf.descriptor_pb2 import DESCRIPTOR, FileDescriptorProto  # noqa: PLC0415

    known = {one.name: one for one in (DESCRIPTOR, duration_pb2.DESCRIPTOR)}
    known[TIMESTAMP_FILE] = timestamp_pb2.DESCRIPTOR
    if name not in known:
        try:
            from google.api import (  # type: ignore[import-untyped]  # noqa: PLC0415
                annotations_pb2,
                http_pb2,
            )
            from google.type import money_pb2  # type: ignore[import-untyped]  # noqa: PLC0415
        except ImportError:
            raise MissingExtra("googleapis-common-protos", "grpc") from None
        for module in (annotations_pb2, http_pb2, money_pb2):
            known[module.DESCRIPTOR.name] = module.DESCRIPTOR
    return FileDescriptorProto.FromString(known[name].serialized_pb)


def _file_of_type(cls: type[Message | Enum]) -> str:
    if cls is Money:
        return MONEY_FILE
    owner: type[Message] | None = getattr(cls, "__owner__", None)
    if owner is not None:
        return _file_of_type(owner)
    if issubclass(cls, Enum):
        return file_of(cls.__package__)
    return file_of(declaration_of(cls).package)


def _fill_message(made: DescriptorProto, cls: type[Message]) -> set[str]:
    """Describe `cls` in `made`; return the files that its fields need."""
    made.name = cls.__name__
    needed: set[str] = set()
    prefix = f".{full_name(cls)}"
    for field in fields_of(cls).values():
        one = made.field.add(name=field.name, number=field.number)
        one.label = one.LABEL_OPTIONAL
        one.json_name = field.name  # other languages then write the names that we read
        if field.spec.deprecated:
            one.options.deprecated = True
        if field.type.key is None:
            needed |= _fill_type(one, field.kind)
        else:
            needed |= _fill_map(made, one, field, prefix)
        if field.type.shape is not Shape.ONE:
            one.label = one.LABEL_REPEATED
    optional = [
        one
        for one, field in zip(made.field, fields_of(cls).values(), strict=True)
        if field.has_presence and not field.kind.is_submessage
    ]
    for one in optional:
        one.proto3_optional = True
        one.oneof_index = len(made.oneof_decl)
        made.oneof_decl.add(name=f"_{one.name}")
    _fill_reserved(made, declaration_of(cls).reserved)
    return needed


def _fill_type(one: FieldDescriptorProto, kind: Kind) -> set[str]:
    if kind.name in {"message", "enum"}:
        one.type = one.TYPE_MESSAGE if kind.name == "message" else one.TYPE_ENUM
        one.type_name = f".{full_name(kind.python)}"
        return {_file_of_type(kind.python)}
    if kind.name in _SHARED_TYPES:
        file, one.type_name = _SHARED_TYPES[kind.name]
        one.type = one.TYPE_MESSAGE
        return {file}
    name = "STRING" if kind.name == "decimal" else kind.name.upper()
    one.type = one.Type.Value(f"TYPE_{name}")
    return set()


def _fill_map(
    made: DescriptorProto, one: FieldDescriptorProto, field: Field, prefix: str
) -> set[str]:
    entry = made.nested_type.add(name=f"{_camel(field.name)}Entry")
    entry.options.map_entry = True
    key = entry.field.add(name="key", number=1, json_name="key")
    value = entry.field.add(name="value", number=2, json_name="value")
    key.label = value.label = one.LABEL_OPTIONAL
    if field.type.key is not None:
        _fill_type(key, field.type.key)
    one.type, one.type_name = one.TYPE_MESSAGE, f"{prefix}.{entry.name}"
    return _fill_type(value, field.kind)


def _fill_reserved(made: DescriptorProto, reserved: tuple[int | str | range, ...]) -> None:
    numbers: set[tuple[int, int]] = set()
    for item in reserved:
        if isinstance(item, str):
            if item not in made.reserved_name:
                made.reserved_name.append(item)
        else:
            numbers.add((item.start, item.stop) if isinstance(item, range) else (item, item + 1))
    for start, end in _joined(numbers):
        made.reserved_range.add(start=start, end=end)


def _joined(ranges: set[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if joined and start < joined[-1][1]:  # protobuf refuses ranges that overlap
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _fill_enum(made: EnumDescriptorProto, cls: type[Enum]) -> None:
    made.name = cls.__name__
    zero_first = sorted(numbers_of(cls).items(), key=lambda item: item[0] != 0)
    for number, member in zero_first:
        made.value.add(name=member.name, number=number)


def _fill_method(made: MethodDescriptorProto, operation: Operation) -> None:
    try:
        from google.api import annotations_pb2  # noqa: PLC0415 - an extra
    except ImportError:
        raise MissingExtra("googleapis-common-protos", "grpc") from None
    made.name = operation.rpc_name
    made.input_type = f".{full_name(operation.request)}"
    made.output_type = f".{full_name(operation.reply)}"
    if operation.streaming:
        made.server_streaming = True
    if operation.pattern is Pattern.QUERY:
        made.options.idempotency_level = made.options.NO_SIDE_EFFECTS
    elif operation.keyed:
        made.options.idempotency_level = made.options.IDEMPOTENT
    rule = made.options.Extensions[annotations_pb2.http]
    setattr(rule, operation.route.method.lower(), operation.route.path)
    if operation.route.has_body:
        rule.body = "*"


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
