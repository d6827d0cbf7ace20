"""The source of the module, line by line."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Final

from switchgear.contract.importer.names import (
    IMPORTED,
    Extended,
    Names,
    attribute,
    camel,
    constant,
    extended,
    members_of,
    prefix_of,
    snake,
)
from switchgear.contract.importer.options import Left, Options
from switchgear.contract.importer.routes import Declared
from switchgear.contract.importer.types import WELL_KNOWN, annotation, default_of, text, zero_of
from switchgear.contract.jsonnames import json_name
from switchgear.contract.protoc import legible

if TYPE_CHECKING:
    from google.protobuf.descriptor import FieldDescriptor
    from google.protobuf.descriptor_pb2 import FileDescriptorProto
    from google.protobuf.descriptor_pool import DescriptorPool

__all__ = ["Writer"]

_STDLIB: Final = {
    "AsyncIterator": "collections.abc",
    "datetime": "datetime",
    "timedelta": "datetime",
    "Protocol": "typing",
}
_WIDTH: Final = 100
_VISIBILITY: Final = ("", "local", "export")
_MESSAGE, _ENUM, _SERVICE, _EXTENSION = 4, 5, 6, 7
"""The numbers of these in a file's descriptor: they begin the path of a comment."""


class Writer:
    """Writes down the declarations of files that have their names."""

    def __init__(
        self,
        pool: DescriptorPool,
        names: Names,
        own: list[FileDescriptorProto],
        shared: list[FileDescriptorProto],
    ) -> None:
        self._pool = pool
        self._names = names
        self._files = [*shared, *own]
        self._own = own
        self._left = Left()
        self._unserved = Left()
        self._options = Options(pool, self._left)
        self._constants = {one.name: names.take(constant(one.name)) for one in self._files}
        self._members: dict[str, dict[int, str]] = {}

    def module(self) -> str:
        """Return the source."""
        for file in self._files:
            for enum, full_name in _enums(file):
                self._members[full_name] = self._numbered(enum)
        files = list(self._declared_files())
        body: list[str] = []
        for file in self._files:
            body += self._file(file)
        text = "\n".join([*files, *body])
        head = [*self._head(), "", "from __future__ import annotations", ""]
        return "\n".join([*head, *_imports(text), "", text.lstrip("\n")]).rstrip() + "\n"

    def _head(self) -> Iterator[str]:
        """Yield the docstring of the module; what the files are called is somebody else's text."""
        paths = [_printable(one.name) for one in self._own]
        if len(paths) == 1:
            told = [f"The contracts of {paths[0]}."]
        else:
            told = ["The contracts of several files:", "", *(f"- {path}" for path in paths)]
        told += [
            "",
            "Written by `switchgear contract import`; the owners of the files change them.",
        ]
        left = [f"- {_printable(one)}" for one in self._left]
        if left:
            told += ["", "Left out, because no contract has it:", *left]
        unserved = [line for one in self._unserved for line in _listed(one)]
        if unserved:
            told += ["", "Reached over gRPC, but not by these routes:", *unserved]
        yield from _docstring("\n".join(told))

    def _declared_files(self) -> Iterator[str]:
        for file in self._files:
            arguments = [text(file.name), text(file.package)]
            if file.edition:
                arguments.append(f'syntax="{_edition(file)}"')
            elif file.syntax != "proto3":
                arguments.append('syntax="proto2"')
            said = self._options.text(file, (), file.name)
            if said:
                arguments.append(f"options={text(said)}")
            arguments.append("camel=True")
            yield from _call(f"{self._constants[file.name]} = ProtoFile", arguments)

    def _file(self, file: FileDescriptorProto) -> Iterator[str]:
        comments = _Comments(file)
        stands_in = self._constants[file.name]
        prefix = f"{file.package}." if file.package else ""
        for index, enum in enumerate(file.enum_type):
            yield from ("", "")
            where = (_ENUM, index)
            yield from self._enum(enum, prefix + enum.name, stands_in, comments, where)
        for index, message in enumerate(file.message_type):
            yield from ("", "")
            where = (_MESSAGE, index)
            yield from self._message(message, prefix + message.name, stands_in, comments, where)
        for run in extended(file, file.package):
            lines = list(self._extensions(run, stands_in, comments, (_EXTENSION,)))
            if lines:
                yield from ("", "", *lines)
        for index, service in enumerate(file.service):
            yield from ("", "")
            where = (_SERVICE, index)
            yield from self._service(service, prefix + service.name, stands_in, comments, where)

    def _numbered(self, enum: Any) -> dict[int, str]:
        prefix = prefix_of(enum.name, [one.name for one in enum.value])
        named = members_of([one.name for one in enum.value], prefix)
        numbers: dict[int, str] = {}
        for one, (python, _) in zip(enum.value, named, strict=True):
            numbers.setdefault(one.number, python)
        return numbers

    def _enum(
        self, enum: Any, full_name: str, file: str | None, comments: _Comments, where: _Path
    ) -> Iterator[str]:
        own = self._names[full_name].rpartition(".")[2]
        prefix = prefix_of(enum.name, [one.name for one in enum.value])
        arguments = ["Enum"]
        if file is not None:
            arguments.append(f"package={file}")
        if prefix:
            arguments.append(f"prefix={text(prefix)}")
        if self._pool.FindEnumTypeByName(full_name).is_closed:
            arguments.append("closed=True")
        if enum.options.allow_alias:
            arguments.append("aliases=True")
        ranges = [(one.start, one.end + 1) for one in enum.reserved_range]
        arguments += self._reserved(ranges, enum.reserved_name)
        arguments += self._rest(enum, ("allow_alias",), full_name, own)
        yield from _call(f"class {own}", arguments, ":")
        lines = list(_docstring(comments[where]))
        if lines:
            lines.append("")
        named = members_of([one.name for one in enum.value], prefix)
        for index, (one, (python, wire)) in enumerate(zip(enum.value, named, strict=True)):
            said = [f"name={text(wire)}"] if wire else []
            if one.options.deprecated:
                said.append("deprecated=True")
            rest = self._options.text(one, ("deprecated",), f"{full_name}.{one.name}")
            if rest:
                said.append(f"options={text(rest)}")
            number = f"member({', '.join([str(one.number), *said])})" if said else one.number
            lines.append(f"{python} = {number}")
            lines += _docstring(comments[(*where, 2, index)])
        yield from _indented(lines)

    def _message(
        self, message: Any, full_name: str, file: str, comments: _Comments, where: _Path
    ) -> Iterator[str]:
        own = self._names[full_name].rpartition(".")[2]
        arguments = ["Message", f"package={file}"]
        ranges = [(one.start, one.end) for one in message.reserved_range]
        arguments += self._reserved(ranges, message.reserved_name)
        arguments += self._offered(message, full_name)
        arguments += self._of_oneofs(message, full_name)
        arguments += self._rest(message, ("map_entry", "message_set_wire_format"), full_name, own)
        yield from _call(f"class {own}", arguments, ":")
        lines = list(self._inside(message, full_name, file, comments, where))
        yield from _indented(lines or ["pass"])

    def _offered(self, message: Any, full_name: str) -> list[str]:
        """Return the argument that says which numbers others may use for extensions."""
        if message.options.message_set_wire_format:
            self._left.add(f"the message set of {full_name}")
            return []
        ranges = [f"range({one.start}, {one.end})" for one in message.extension_range]
        said = [self._options.text(one, (), full_name) for one in message.extension_range]
        if any(said):
            pairs = (f"{one}: {text(about)}" for one, about in zip(ranges, said, strict=True))
            return [f"extensions={{{', '.join(pairs)}}}"]
        return [f"extensions={_tuple(ranges)}"] if ranges else []

    def _of_oneofs(self, message: Any, full_name: str) -> list[str]:
        found = {
            one.name: self._options.text(one, (), f"{full_name}.{one.name}")
            for one in message.oneof_decl
        }
        said = [f"{text(name)}: {text(about)}" for name, about in found.items() if about]
        return [f"oneof_options={{{', '.join(said)}}}"] if said else []

    def _extensions(
        self, run: Extended, file: str, comments: _Comments, where: _Path
    ) -> Iterator[str]:
        """Yield the class of some extensions; inside a message what they extend is a string."""
        if self._pool.FindMessageTypeByName(run.extendee).GetOptions().message_set_wire_format:
            for _, one in run.fields:
                told = f"the extension {_joined(run.scope, one.name)} = {one.number}"
                self._left.add(f"{told} of the message set {run.extendee}")
            return
        path = self._names[run.key]
        extends = f'"{run.extendee}"'
        if run.extendee in self._names:
            extends = self._names[run.extendee]
            extends = f'"{extends}"' if "." in path else extends
        arguments = ["Message", f"package={file}", f"extends={extends}"]
        yield from _call(f"class {path.rpartition('.')[2]}", arguments, ":")
        lines: list[str] = []
        taken: set[str] = set()
        for index, one in run.fields:
            name = attribute(one.name, taken)
            taken.add(name)
            found = self._pool.FindExtensionByName(_joined(run.scope, one.name))
            lines += self._field(one, found, name)
            lines += _docstring(comments[(*where, index)])
        yield from _indented(lines)

    def _inside(
        self, message: Any, full_name: str, file: str, comments: _Comments, where: _Path
    ) -> Iterator[str]:
        parts: list[list[str]] = [list(_docstring(comments[where]))]
        for index, enum in enumerate(message.enum_type):
            at = (*where, 4, index)
            parts.append(list(self._enum(enum, f"{full_name}.{enum.name}", None, comments, at)))
        for index, inner in enumerate(message.nested_type):
            if not inner.options.map_entry:
                at, name = (*where, 3, index), f"{full_name}.{inner.name}"
                parts.append(list(self._message(inner, name, file, comments, at)))
        parts += [
            list(self._extensions(run, file, comments, (*where, 6)))
            for run in extended(message, full_name)
        ]
        descriptor = self._pool.FindMessageTypeByName(full_name)
        inner_names = [
            f"{full_name}.{one.name}" for one in (*message.nested_type, *message.enum_type)
        ]
        inner_names += [run.key for run in extended(message, full_name)]
        taken = {self._names[one].rpartition(".")[2] for one in inner_names if one in self._names}
        fields: list[str] = []
        for index, one in enumerate(message.field):
            name = attribute(one.name, taken)
            taken.add(name)
            field = descriptor.fields_by_name[one.name]
            fields += self._field(one, field, name)
            fields += _docstring(comments[(*where, 2, index)])
        parts.append(fields)
        for index, part in enumerate(one for one in parts if one):
            if index:
                yield ""
            yield from part

    def _field(self, proto: Any, field: FieldDescriptor, name: str) -> Iterator[str]:
        kind = annotation(field, self._names)
        said = self._absence(proto, field)
        if "default=None" in said:
            kind += " | None"
        if name != proto.name:
            said.append(f"name={text(proto.name)}")
        if proto.json_name and proto.json_name != json_name(proto.name):
            said.append(f"json={text(proto.json_name)}")
        if proto.type == proto.TYPE_GROUP:  # an edition says it in a feature instead
            said.append("delimited=True")
        if proto.options.deprecated:
            said.append("deprecated=True")
        rest = self._options.text(proto, ("deprecated",), field.full_name)
        if rest:
            said.append(f"options={text(rest)}")
        yield from _call(f"{name}: {kind} = field", [str(proto.number), *said])

    def _absence(self, proto: Any, field: FieldDescriptor) -> list[str]:
        """Return what says what it means that a field is not there."""
        said: list[str] = []
        oneof = field.containing_oneof
        if oneof is not None and not proto.proto3_optional:
            said += ["default=None", f"oneof={text(oneof.name)}"]
            if proto.HasField("default_value"):
                said.append(f"wire_default={text(proto.default_value)}")
        elif field.is_required:
            if field.has_default_value:
                said.append(default_of(field, self._names, self._members))
            said.append("required=True")
        elif not field.has_presence:
            said.append(zero_of(field, self._names, self._members))
        elif field.has_default_value:
            said += [default_of(field, self._names, self._members), "presence=True"]
            if field.enum_type is not None:
                first = field.enum_type.values_by_number[field.default_value].name
                if proto.default_value != first:  # the name of an alias
                    said.append(f"wire_default={text(proto.default_value)}")
        else:
            said.append("default=None")
            if proto.proto3_optional and (field.message_type is not None or field.is_extension):
                said.append("presence=True")  # it says nothing, and it is said
        return said

    def _service(
        self, service: Any, full_name: str, file: str, comments: _Comments, where: _Path
    ) -> Iterator[str]:
        own = self._names[full_name]
        said = [file]
        if own != service.name:
            said.append(f"name={text(service.name)}")
        rest = self._options.text(service, (), full_name)
        if rest:
            said.append(f"options={text(rest)}")
        yield from _call("@service", said)
        yield f"class {own}(Protocol):"
        lines = list(_docstring(comments[where]))
        descriptor = self._pool.FindServiceByName(full_name)
        declared = Declared(self._unserved)
        # what the methods further down are declared with
        taken = {"command", "query", "route", *self._mentioned(service)}
        for index, method in enumerate(service.method):
            if lines:
                lines.append("")
            python = attribute(snake(method.name), taken)
            taken.add(python)
            pattern, arguments = declared.pattern(descriptor.methods_by_name[method.name], method)
            if camel(python) != method.name:
                arguments.append(f"name={text(method.name)}")
            handled = ("idempotency_level",)
            rest = self._options.text(method, handled, f"{full_name}.{method.name}")
            if rest:
                arguments.append(f"options={text(rest)}")
            lines += _call(f"@{pattern}", arguments)
            request = self._type(method.input_type)
            reply = self._type(method.output_type)
            prefix = "def" if method.server_streaming else "async def"
            taken_type = f"AsyncIterator[{request}]" if method.client_streaming else request
            given = f"AsyncIterator[{reply}]" if method.server_streaming else reply
            argument = "requests" if method.client_streaming else "request"
            signature = list(_signature(f"{prefix} {python}", argument, taken_type, given))
            doc = list(_docstring(comments[(*where, 2, index)]))
            if doc:
                lines += [*signature, *_indented([*doc, "..."])]
            else:
                lines += [*signature[:-1], f"{signature[-1]} ..."]
        yield from _indented(lines or ["pass"])

    def _mentioned(self, service: Any) -> Iterator[str]:
        """Yield what the types of the methods begin with in Python."""
        for one in service.method:
            for kind in (one.input_type, one.output_type):
                yield self._type(kind).partition(".")[0]

    def _type(self, type_name: str) -> str:
        full_name = type_name.removeprefix(".")
        return self._names[full_name] if full_name in self._names else WELL_KNOWN[full_name]

    def _reserved(self, ranges: list[tuple[int, int]], names: Iterable[str]) -> list[str]:
        items = [
            str(start) if end == start + 1 else f"range({start}, {end})" for start, end in ranges
        ]
        items += [text(one) for one in names]
        return [f"reserved={_tuple(items)}"] if items else []

    def _rest(self, holder: Any, handled: tuple[str, ...], full_name: str, own: str) -> list[str]:
        """Return the arguments that say the name, where it is another, and further options."""
        name = full_name.rpartition(".")[2]
        said = [] if own == name else [f"wire_name={text(name)}"]
        if holder.visibility:
            said.append(f'visibility="{_VISIBILITY[holder.visibility]}"')
        rest = self._options.text(holder, handled, full_name)
        return [*said, f"options={text(rest)}"] if rest else said


_Path = tuple[int, ...]


class _Comments:
    """The comments of a file, by the path of what they are about."""

    def __init__(self, file: FileDescriptorProto) -> None:
        self._by_path = {
            tuple(one.path): legible(one.leading_comments or one.trailing_comments)
            for one in file.source_code_info.location
        }

    def __getitem__(self, path: _Path) -> str:
        lines = [
            line.removeprefix(" ").rstrip() for line in self._by_path.get(path, "").split("\n")
        ]
        return "\n".join(lines).strip("\n")


def _imports(source: str) -> Iterator[str]:
    """Yield the imports that the source needs: of the names that it reads, not of its texts."""
    read = {one.id for one in ast.walk(ast.parse(source)) if isinstance(one, ast.Name)}
    used = read & IMPORTED
    by_module: dict[str, list[str]] = {}
    for name in sorted(used):
        by_module.setdefault(_STDLIB.get(name, "switchgear"), []).append(name)
    for module in sorted(by_module, key=lambda one: (one == "switchgear", one)):
        if module == "switchgear" and len(by_module) > 1:
            yield ""
        yield from _from_import(module, by_module[module])


def _from_import(module: str, names: list[str]) -> Iterator[str]:
    one_line = f"from {module} import {', '.join(names)}"
    if len(one_line) <= _WIDTH:
        yield one_line
        return
    yield f"from {module} import ("
    yield from (f"    {name}," for name in names)
    yield ")"


def _call(head: str, arguments: list[str], tail: str = "") -> Iterator[str]:
    one_line = f"{head}({', '.join(arguments)}){tail}"
    if len(one_line) <= _WIDTH - 8:  # it may stand inside of a class or two
        yield one_line
        return
    yield f"{head}("
    yield from (f"    {one}," for one in arguments)
    yield f"){tail}"


def _signature(head: str, argument: str, taken: str, given: str) -> Iterator[str]:
    one_line = f"{head}(self, {argument}: {taken}) -> {given}:"
    if len(one_line) <= _WIDTH - 4:
        yield one_line
        return
    yield f"{head}("
    yield f"    self, {argument}: {taken}"
    yield f") -> {given}:"


def _docstring(text: str) -> Iterator[str]:
    """Yield a docstring that says `text`, whatever stands in it; nothing where that is blank."""
    if not text.strip():
        return
    safe = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    lines = [_printable(line) for line in safe.split("\n")]
    if lines[-1].endswith('"'):
        lines[-1] += " "
    if len(lines) == 1:
        yield f'"""{lines[0]}"""'
        return
    yield f'"""{lines[0]}'
    yield from lines[1:]
    yield '"""'


def _listed(text: str) -> list[str]:
    """Return one point of a list, as lines of text."""
    return wrap(
        _printable(text),
        _WIDTH,
        initial_indent="- ",
        subsequent_indent="  ",
        break_on_hyphens=False,
    )


def _printable(line: str) -> str:
    return "".join(one if one.isprintable() or one == "\t" else "?" for one in line)


def _indented(lines: Iterable[str]) -> Iterator[str]:
    return (f"    {line}" if line else "" for line in lines)


def _tuple(items: list[str]) -> str:
    return f"({', '.join(items)}{',' if len(items) == 1 else ''})"


def _edition(file: FileDescriptorProto) -> str:
    from google.protobuf.descriptor_pb2 import Edition  # noqa: PLC0415 - an extra

    return Edition.Name(file.edition).removeprefix("EDITION_")


def _joined(scope: str, name: str) -> str:
    return f"{scope}.{name}" if scope else name


def _enums(file: Any) -> Iterator[tuple[Any, str]]:
    prefix = f"{file.package}." if file.package else ""
    waiting = [(file.enum_type, file.message_type, prefix)]
    while waiting:
        enums, messages, scope = waiting.pop()
        yield from ((one, scope + one.name) for one in enums)
        waiting += [(one.enum_type, one.nested_type, f"{scope}{one.name}.") for one in messages]
