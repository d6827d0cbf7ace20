"""The `.proto` text of contracts: the run-time descriptors, written down with their comments.

A test compiles the text with protoc and compares what comes out with the descriptors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from switchgear.contract.declaration import field_name, fields_of, full_name, reach
from switchgear.contract.descriptors import file_descriptors, sorted_roots
from switchgear.contract.docs import field_doc, member_docs, type_doc
from switchgear.contract.event import EventContract
from switchgear.contract.file import is_shared
from switchgear.contract.history import Past
from switchgear.contract.jsonnames import json_name
from switchgear.contract.message import Message
from switchgear.contract.options import Known, pool_of
from switchgear.contract.protoc import language_file
from switchgear.contract.reserve import reserve
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

__all__ = ["proto_files"]

_HEADER: Final = "// Exported from the Python contracts by switchgear. Change those instead."
_MAX: Final = 536_870_912
_MAX_ENUM: Final = 2**31 - 1


def proto_files(*roots: type[Any] | ServiceContract, past: Sequence[Past] = ()) -> dict[str, str]:
    """Return the `.proto` files of services and messages: their text by their path.

    What `past` versions had and these have not is reserved.

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
            docs[name] += _event_doc(cls, docs[name])
            docs |= {field_name(cls, one): field_doc(cls, one) for one in fields_of(cls).values()}
        else:
            docs |= {f"{name}.{key}": doc for key, doc in member_docs(cls).items()}
    for refusal in {
        one for each in services for of in each.operations.values() for one in of.refuses
    }:
        told = docs.get(refusal.full_name, "")
        docs[refusal.full_name] = f"{told}{chr(10) if told else ''}Refused as: {refusal.status}."
    files = file_descriptors(*roots, languages=language_file)
    own = [file for file in files.file if not is_shared(file.name)]
    known = Known(pool_of(files.file))
    reserve(own, past)
    return {file.name: "\n".join(_Writer(file, docs, known).file()) + "\n" for file in own}


def _operation_doc(operation: Operation) -> str:
    told = [operation.doc] if operation.doc else []
    if operation.keyed:
        told.append(f"Safe to repeat with the same `{IDEMPOTENCY_KEY}` in the metadata.")
    if operation.refuses:
        names = ", ".join(refusal.full_name for refusal in operation.refuses)
        told.append(f"Refuses with: {names}.")
    return "\n".join(told)


def _event_doc(cls: type[Message], doc: str) -> str:
    """Return topic and key as `switchgear contract check` reads them: `Topic: shop.orders.`."""
    event = vars(cls).get("__event__")
    if not isinstance(event, EventContract):
        return ""
    key = f" Key: {event.key}." if event.key else ""
    return f"{chr(10) if doc else ''}Topic: {event.topic}.{key}"


class _Writer:
    def __init__(self, file: FileDescriptorProto, docs: Mapping[str, str], known: Known) -> None:
        self._file = file
        self._docs = docs
        self._known = known

    def file(self) -> Iterator[str]:
        file = self._file
        yield _HEADER
        if file.edition:
            from google.protobuf.descriptor_pb2 import Edition  # noqa: PLC0415 - an extra

            yield f'edition = "{Edition.Name(file.edition).removeprefix("EDITION_")}";'
        else:
            yield f'syntax = "{file.syntax or "proto2"}";'
        if file.package:
            yield from ("", f"package {file.package};")
        if file.dependency:
            yield ""
            yield from (f"import {_quoted(name)};" for name in file.dependency)
        options = list(self.options(file))
        if options:
            yield ""
            yield from (f"option {one};" for one in options)
        prefix = f"{file.package}." if file.package else ""
        for service in file.service:
            yield ""
            yield from self.service(service, f"{prefix}{service.name}")
        yield from self.messages(file, prefix)

    def messages(self, file: FileDescriptorProto, prefix: str) -> Iterator[str]:
        """Yield the messages, enumerations and extensions of a file."""
        groups = _groups(file.message_type, file.extension)
        waiting = list(file.extension)
        for message in file.message_type:
            if message.name not in groups:
                yield ""
                yield from self.message(message, f"{prefix}{message.name}")
                continue
            # where the message is declared, so are the extension and those before it
            names = [one.type_name.rpartition(".")[2] for one in waiting]
            done = names.index(message.name) + 1 if message.name in names else 0
            for block in self.extensions(waiting[:done], groups, file.package):
                yield ""
                yield from block
            del waiting[:done]
        for enum in file.enum_type:
            yield ""
            yield from self.enum(enum, f"{prefix}{enum.name}")
        for block in self.extensions(waiting, groups, file.package):
            yield ""
            yield from block

    def extensions(
        self,
        fields: Iterable[FieldDescriptorProto],
        groups: Mapping[str, DescriptorProto],
        scope: str,
    ) -> Iterator[list[str]]:
        """Yield a block for each run of extensions of one message."""
        for extendee, run in groupby(fields, key=lambda one: one.extendee):
            lines = [f"extend {self.reference(extendee, scope)} {{"]
            for one in run:
                lines += _indented(self.field_lines(one, groups, scope, inside=False))
            yield [*lines, "}"]

    def comment(self, name: str) -> Iterator[str]:
        for line in self._docs.get(name, "").splitlines():
            yield f"// {line}".rstrip()

    def service(self, service: ServiceDescriptorProto, name: str) -> Iterator[str]:
        yield from self.comment(name)
        yield f"service {service.name} {{"
        yield from (f"  option {one};" for one in self.options(service))
        for index, method in enumerate(service.method):
            if index:
                yield ""
            yield from _indented(self.method(method, name))
        yield "}"

    def method(self, method: MethodDescriptorProto, service: str) -> Iterator[str]:
        yield from self.comment(f"{service}.{method.name}")
        taken = "stream " if method.client_streaming else ""
        given = "stream " if method.server_streaming else ""
        request = self.reference(method.input_type, service)
        reply = self.reference(method.output_type, service)
        signature = f"rpc {method.name}({taken}{request}) returns ({given}{reply})"
        options = list(self.options(method))
        if not options:
            yield f"{signature};"
            return
        yield f"{signature} {{"
        yield from (f"  option {one};" for one in options)
        yield "}"

    def message(self, message: DescriptorProto, name: str) -> Iterator[str]:
        yield from self.comment(name)
        lines = list(self.inside(message, name))
        if not lines:
            yield f"{_seen(message)}message {message.name} {{}}"
            return
        yield f"{_seen(message)}message {message.name} {{"
        yield from _indented(lines)
        yield "}"

    def inside(self, message: DescriptorProto, name: str) -> Iterator[str]:
        yield from (f"option {one};" for one in self.options(message))
        ranges = [(one.start, one.end) for one in message.reserved_range]
        yield from self.reserved(ranges, list(message.reserved_name), _MAX)
        for one in message.extension_range:
            stated = _listed(list(self.options(one)))
            yield f"extensions {_range(one.start, one.end, _MAX)}{stated};"
        entries = {one.name: one for one in message.nested_type if one.options.map_entry}
        groups = _groups(message.nested_type, (*message.field, *message.extension))
        for nested in message.nested_type:
            if nested.name not in {**entries, **groups}:
                yield from self.message(nested, f"{name}.{nested.name}")
        for enum in message.enum_type:
            yield from self.enum(enum, f"{name}.{enum.name}")
        for block in self.extensions(message.extension, groups, name):
            yield from block
        yield from self.fields(message, {**entries, **groups}, name)

    def fields(
        self, message: DescriptorProto, inner: Mapping[str, DescriptorProto], name: str
    ) -> Iterator[str]:
        for oneof, run in groupby(message.field, key=_oneof):
            if oneof is None:
                for field in run:
                    yield from self.field_lines(field, inner, name, inside=False)
                continue
            declared = message.oneof_decl[oneof]
            yield f"oneof {declared.name} {{"
            yield from (f"  option {one};" for one in self.options(declared))
            for field in run:
                yield from _indented(self.field_lines(field, inner, name, inside=True))
            yield "}"

    def reserved(self, ranges: list[tuple[int, int]], names: list[str], end: int) -> Iterator[str]:
        if ranges:
            yield f"reserved {', '.join(_range(start, stop, end) for start, stop in ranges)};"
        if names:
            quoted = names if self._file.edition else [_quoted(one) for one in names]
            yield f"reserved {', '.join(quoted)};"

    def field_lines(
        self,
        field: FieldDescriptorProto,
        inner: Mapping[str, DescriptorProto],
        message: str,
        *,
        inside: bool,
    ) -> Iterator[str]:
        yield from self.comment(f"{message}.{field.name}" if message else field.name)
        label = "" if inside else self.label(field)
        options = self.field_options(field)
        listed = _listed(options)
        found = inner.get(field.type_name.rpartition(".")[2])
        if found is not None and (
            field.type_name != (f".{message}.{found.name}" if message else f".{found.name}")
            or not (found.options.map_entry or field.type == field.TYPE_GROUP)
        ):
            found = None
        if found is None:
            yield f"{label}{self.type(field, message)} {field.name} = {field.number}{listed};"
        elif found.options.map_entry:
            key, value = (self.type(one, message) for one in found.field)
            yield f"map<{key}, {value}> {field.name} = {field.number}{listed};"
        else:
            yield from self.comment(f"{message}.{found.name}")
            yield f"{label}group {found.name} = {field.number}{listed} {{"
            yield from _indented(self.inside(found, f"{message}.{found.name}"))
            yield "}"

    def label(self, field: FieldDescriptorProto) -> str:
        if field.label == field.LABEL_REPEATED:
            return "repeated "
        if field.label == field.LABEL_REQUIRED:
            return "required "
        if field.proto3_optional or self._file.syntax in {"", "proto2"}:
            return "optional "
        return ""

    def field_options(self, field: FieldDescriptorProto) -> list[str]:
        options = []
        if field.HasField("default_value"):
            written = field.default_value
            if field.type == field.TYPE_STRING:
                written = _quoted(written)
            elif field.type == field.TYPE_BYTES:
                written = f'"{written}"'  # the descriptor holds it escaped
            options.append(f"default = {written}")
        if field.json_name != json_name(field.name):
            options.append(f"json_name = {_quoted(field.json_name)}")
        return [*options, *self.options(field)]

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
        package = f"{self._file.package}." if self._file.package else ""
        short = full.removeprefix(package)
        first = short.partition(".")[0]
        inner = scope.removeprefix(package).split(".")
        if full.startswith(package) and "." not in short and first not in self.names_in(inner):
            return short
        parts = self._file.package.split(".")
        if not package:
            return f".{full}"
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
            names.update(one.name for one in found.oneof_decl)
            for enum in found.enum_type:
                names.update((enum.name, *(one.name for one in enum.value)))
            names.update(one.name for one in found.field)
            messages = found.nested_type
        return names

    def enum(self, enum: EnumDescriptorProto, name: str) -> Iterator[str]:
        yield from self.comment(name)
        yield f"{_seen(enum)}enum {enum.name} {{"
        yield from (f"  option {one};" for one in self.options(enum))
        # both ends belong to it, unlike in messages
        ranges = [(one.start, one.end + 1) for one in enum.reserved_range]
        yield from _indented(self.reserved(ranges, list(enum.reserved_name), _MAX_ENUM + 1))
        for one in enum.value:
            yield from _indented(self.comment(f"{name}.{one.name}"))
            options = list(self.options(one))
            yield f"  {one.name} = {one.number}{_listed(options)};"
        yield "}"

    def options(self, holder: Any) -> Iterator[str]:
        """Return the options of a descriptor as assignments."""
        if not holder.HasField("options"):
            return
        for field, value in self._known.read(holder.options).ListFields():
            name = f"({field.full_name})" if field.is_extension else field.name
            for one in value if field.is_repeated else [value]:
                yield from _assigned(name, field, one)


def _oneof(field: FieldDescriptorProto) -> int | None:
    """Return the oneof that a field is in, as people wrote it."""
    stated = field.HasField("oneof_index") and not field.proto3_optional
    return field.oneof_index if stated else None


def _seen(declared: DescriptorProto | EnumDescriptorProto) -> str:
    """Return what edition 2024 says of who may see a declaration."""
    return ("", "local ", "export ")[declared.visibility]


def _listed(options: list[str]) -> str:
    return f" [{', '.join(options)}]" if options else ""


def _groups(
    messages: Iterable[DescriptorProto], fields: Iterable[FieldDescriptorProto]
) -> dict[str, DescriptorProto]:
    """Return the messages that are declared by a field: proto2's groups."""
    used = {one.type_name.rpartition(".")[2] for one in fields if one.type == one.TYPE_GROUP}
    return {one.name: one for one in messages if one.name in used}


def _range(start: int, stop: int, end: int) -> str:
    if stop == start + 1:
        return str(start)
    return f"{start} to {'max' if stop == end else stop - 1}"


def _assigned(name: str, field: Any, value: Any) -> Iterator[str]:
    if field.message_type is None:
        yield f"{name} = {_literal(field, value)}"
    elif name == "features":
        for inner, one in value.ListFields():
            inner_name = f"({inner.full_name})" if inner.is_extension else inner.name
            yield from _assigned(f"features.{inner_name}", inner, one)
    elif name == "(google.api.http)":
        yield f"{name} = {_rule(value)}"
    else:
        from google.protobuf import text_format  # noqa: PLC0415 - an extra

        yield f"{name} = {{ {text_format.MessageToString(value, as_one_line=True)} }}"


def _rule(rule: Any) -> str:
    """Return a rule of google.api.http in one line, as people write it."""
    from google.protobuf import text_format  # noqa: PLC0415 - an extra

    verb = rule.WhichOneof("pattern")
    if {field.name for field, _ in rule.ListFields()} <= {verb, "body"} and verb != "custom":
        body = f" body: {_quoted(rule.body)}" if rule.body else ""
        return f"{{ {verb}: {_quoted(getattr(rule, verb))}{body} }}"
    return f"{{ {text_format.MessageToString(rule, as_one_line=True)} }}"


def _literal(field: Any, value: Any) -> str:
    from google.protobuf.text_encoding import CEscape  # noqa: PLC0415 - an extra

    if field.enum_type is not None:
        return str(field.enum_type.values_by_number[value].name)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, bytes):
        return f'"{CEscape(value, as_utf8=False)}"'
    return _quoted(value) if isinstance(value, str) else str(value)


def _quoted(text: str) -> str:
    """Return a string literal of protobuf."""
    written = re.sub(r'[\\"]', lambda found: f"\\{found[0]}", text)
    written = re.sub(r"[\x00-\x1f\x7f]", lambda found: f"\\{ord(found[0]):03o}", written)
    return f'"{written}"'


def _indented(lines: Iterable[str]) -> Iterator[str]:
    return (f"  {line}".rstrip() for line in lines)
