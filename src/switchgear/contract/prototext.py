"""The `.proto` text of contracts: the run-time descriptors, written down with their comments.

A test compiles the text with protoc and compares what comes out with the descriptors.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from switchgear.contract.declaration import Field, declaration_of, fields_of, full_name, reach
from switchgear.contract.descriptors import file_descriptors, sorted_roots
from switchgear.contract.enums import Enum
from switchgear.contract.message import Message
from switchgear.contract.service import Operation, ServiceContract
from switchgear.model.wire import IDEMPOTENCY_KEY

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import (
        DescriptorProto,
        EnumDescriptorProto,
        FieldDescriptorProto,
        FileDescriptorProto,
        MethodDescriptorProto,
        ServiceDescriptorProto,
    )

__all__ = ["field_doc", "proto_files", "type_doc"]

_SHARED: Final = ("google/protobuf/", "google/type/", "google/api/")
_HEADER: Final = "// Exported from the Python contracts by switchgear. Change those instead."


def proto_files(*roots: type[Any] | ServiceContract) -> dict[str, str]:
    """Return the `.proto` files of services and messages: their text by their path.

    Docstrings are comments, removed fields are `reserved`, routes are `google.api.http` options
    and patterns are `idempotency_level`. What the files import of `google/` comes with protoc and
    with googleapis. Raises as `file_descriptors` does.
    """
    services, messages = sorted_roots(roots)
    docs: dict[str, str] = {}
    for contract in services:
        docs[contract.full_name] = contract.doc
        for one in contract.operations.values():
            docs[f"{contract.full_name}.{one.rpc_name}"] = _operation_doc(one)
    for cls in reach(*messages):
        name = full_name(cls)
        docs[name] = type_doc(cls)
        if issubclass(cls, Message):
            docs |= {f"{name}.{key}": field_doc(field) for key, field in fields_of(cls).items()}
    files = file_descriptors(*roots)
    own = [file for file in files.file if not file.name.startswith(_SHARED)]
    return {file.name: "\n".join(_Writer(file, docs).file()) + "\n" for file in own}


def _operation_doc(operation: Operation) -> str:
    told = [operation.doc] if operation.doc else []
    if operation.keyed:
        told.append(f"Safe to repeat with the same `{IDEMPOTENCY_KEY}` in the metadata.")
    if operation.refuses:
        names = ", ".join(refusal.full_name for refusal in operation.refuses)
        told.append(f"Refuses with: {names}.")
    return "\n".join(told)


def type_doc(cls: type[Message | Enum]) -> str:
    """Return the docstring of a message or enumeration; nothing where it has none of its own."""
    if issubclass(cls, Enum):
        return inspect.cleandoc(vars(cls).get("__doc__") or "")
    return declaration_of(cls).doc


def field_doc(field: Field) -> str:
    """Return what `field(doc=..., unit=...)` says, a sentence for each.

    `Unit: cents.` and its like are how `switchgear contract check` reads the meaning of a field
    out of a `.proto` file.
    """
    spec = field.spec
    meaning = {
        "Unit": spec.unit,
        "Scale": spec.scale,
        "Currency": spec.currency,
        "Semantics": spec.semantics,
    }
    told = [f"{key}: {value}." for key, value in meaning.items() if value is not None]
    return " ".join([spec.doc, *told] if spec.doc else told)


class _Writer:
    def __init__(self, file: FileDescriptorProto, docs: Mapping[str, str]) -> None:
        self._file = file
        self._docs = docs

    def file(self) -> Iterator[str]:
        file = self._file
        yield from (_HEADER, 'syntax = "proto3";', "", f"package {file.package};")
        if file.dependency:
            yield ""
            yield from (f'import "{name}";' for name in file.dependency)
        for service in file.service:
            yield ""
            yield from self.service(service, f"{file.package}.{service.name}")
        for message in file.message_type:
            yield ""
            yield from self.message(message, f"{file.package}.{message.name}")
        for enum in file.enum_type:
            yield ""
            yield from self.enum(enum, f"{file.package}.{enum.name}")

    def comment(self, name: str) -> Iterator[str]:
        for line in self._docs.get(name, "").splitlines():
            yield f"// {line}".rstrip()

    def service(self, service: ServiceDescriptorProto, name: str) -> Iterator[str]:
        yield from self.comment(name)
        yield f"service {service.name} {{"
        for index, method in enumerate(service.method):
            if index:
                yield ""
            yield from _indented(self.method(method, name))
        yield "}"

    def method(self, method: MethodDescriptorProto, service: str) -> Iterator[str]:
        yield from self.comment(f"{service}.{method.name}")
        stream = "stream " if method.server_streaming else ""
        request = self.reference(method.input_type, service)
        reply = self.reference(method.output_type, service)
        yield f"rpc {method.name}({request}) returns ({stream}{reply}) {{"
        level = method.options.idempotency_level
        if level:
            yield f"  option idempotency_level = {method.options.IdempotencyLevel.Name(level)};"
        for _, rule in method.options.ListFields():
            if hasattr(rule, "WhichOneof"):
                verb = rule.WhichOneof("pattern")
                body = f' body: "{rule.body}"' if rule.body else ""
                yield f'  option (google.api.http) = {{ {verb}: "{getattr(rule, verb)}"{body} }};'
        yield "}"

    def message(self, message: DescriptorProto, name: str) -> Iterator[str]:
        yield from self.comment(name)
        lines = list(self.inside(message, name))
        if not lines:
            yield f"message {message.name} {{}}"
            return
        yield f"message {message.name} {{"
        yield from _indented(lines)
        yield "}"

    def inside(self, message: DescriptorProto, name: str) -> Iterator[str]:
        numbers = ", ".join(
            str(one.start) if one.end == one.start + 1 else f"{one.start} to {one.end - 1}"
            for one in message.reserved_range
        )
        if numbers:
            yield f"reserved {numbers};"
        if message.reserved_name:
            yield "reserved " + ", ".join(f'"{one}"' for one in message.reserved_name) + ";"
        entries = {one.name: one for one in message.nested_type if one.options.map_entry}
        for nested in message.nested_type:
            if nested.name not in entries:
                yield from self.message(nested, f"{name}.{nested.name}")
        for enum in message.enum_type:
            yield from self.enum(enum, f"{name}.{enum.name}")
        for field in message.field:
            yield from self.comment(f"{name}.{field.name}")
            yield self.field(field, entries, name)

    def field(
        self, field: FieldDescriptorProto, entries: Mapping[str, DescriptorProto], message: str
    ) -> str:
        entry = entries.get(field.type_name.rpartition(".")[2])
        if entry is not None and field.type_name == f".{message}.{entry.name}":
            key, value = (self.type(one, message) for one in entry.field)
            told = f"map<{key}, {value}>"
        elif field.label == field.LABEL_REPEATED:
            told = f"repeated {self.type(field, message)}"
        else:
            told = ("optional " if field.proto3_optional else "") + self.type(field, message)
        options = ["deprecated = true"] if field.options.deprecated else []
        if field.json_name != _json_name(field.name):
            options.append(f'json_name = "{field.json_name}"')
        listed = f" [{', '.join(options)}]" if options else ""
        return f"{told} {field.name} = {field.number}{listed};"

    def type(self, field: FieldDescriptorProto, message: str) -> str:
        if field.type_name:
            return self.reference(field.type_name, message)
        return field.Type.Name(field.type).removeprefix("TYPE_").lower()

    def reference(self, type_name: str, scope: str) -> str:
        """Return the shortest name that protoc cannot take for another, seen from `scope`.

        protoc looks a name's first part up in the scope, then outwards, and takes the first hit.
        """
        full = type_name.removeprefix(".")
        inside = full.removeprefix(f"{scope}.")
        if inside != full and "." not in inside:
            return inside
        package = f"{self._file.package}."
        short = full.removeprefix(package)
        first = short.partition(".")[0]
        inner = scope.removeprefix(package).split(".")
        if full.startswith(package) and "." not in short and first not in self.names_in(inner):
            return short
        parts = self._file.package.split(".")
        return f".{full}" if full.startswith(package) or first in parts[1:] + inner else full

    def names_in(self, path: list[str]) -> set[str]:
        """Return the names declared inside the messages, or the service, along `path`."""
        names: set[str] = set()
        for service in self._file.service:
            if service.name == path[0]:
                names.update(one.name for one in service.method)
        messages: Iterable[DescriptorProto] = self._file.message_type
        for part in path:
            found = next((one for one in messages if one.name == part), None)
            if found is None:
                break
            names.update(one.name for one in found.nested_type)
            names.update(one.name for one in found.enum_type)
            names.update(one.name for one in found.field)
            messages = found.nested_type
        return names

    def enum(self, enum: EnumDescriptorProto, name: str) -> Iterator[str]:
        yield from self.comment(name)
        yield f"enum {enum.name} {{"
        yield from _indented(f"{one.name} = {one.number};" for one in enum.value)
        yield "}"


def _indented(lines: Iterable[str]) -> Iterator[str]:
    return (f"  {line}".rstrip() for line in lines)


def _json_name(name: str) -> str:
    """Return the name that protobuf gives a field in JSON unless told otherwise."""
    return re.sub(r"_+([a-zA-Z0-9]?)", lambda found: found[1].upper(), name)
