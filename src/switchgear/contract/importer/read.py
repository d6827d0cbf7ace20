"""From `.proto` files to the source of a module: compile, name, write."""

from __future__ import annotations

from collections.abc import Container, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from switchgear.contract.declaration import is_unwritable
from switchgear.contract.file import is_shared
from switchgear.contract.importer.names import Names, extended, mentioned, referenced
from switchgear.contract.importer.types import WELL_KNOWN
from switchgear.contract.importer.writer import Writer
from switchgear.contract.options import pool_of, register
from switchgear.contract.protoc import Tree, compile_trees
from switchgear.errors import UnreadableContract

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

__all__ = ["import_proto", "module_of"]


def import_proto(*files: Path, search: tuple[Path, ...] = ()) -> str:
    """Compile `.proto` files and return the source of a module with their contracts.

    What they import is in the module too, and is looked for in the folders of `search`, or beside
    the first file. Raises `UnreadableContract` with protoc's diagnostics.
    """
    roots = search or (files[0].parent,)
    names: list[str] = []
    for file in files:
        inside = next((one for one in roots if file.resolve().is_relative_to(one.resolve())), None)
        if inside is None:
            raise UnreadableContract(
                "The file is in none of the folders of the search path.",
                where=str(file),
                fix="Give the folder that its imports begin at with -I.",
            )
        names.append(file.resolve().relative_to(inside.resolve()).as_posix())
    (compiled,) = compile_trees(Tree(roots[0], tuple(names), roots[1:]), retain_options=True)
    register()
    from google.protobuf.descriptor_pb2 import FileDescriptorSet  # noqa: PLC0415 - an extra

    found = FileDescriptorSet.FromString(compiled)
    for one in found.file:
        _check_text(one)
    return module_of(found)


def module_of(compiled: FileDescriptorSet) -> str:
    """Return the source of a module with the contracts of compiled files.

    Each file has to stand after those that it imports. Files that come with protobuf or googleapis
    are in it only as far as the others need them, and not where the library has a type for them.
    """
    pool = pool_of(compiled.file)
    own = [file for file in compiled.file if not is_shared(file.name)]
    shared = _needed(compiled.file, own)
    names = Names()
    kept = [*shared, *own]
    for file in kept:
        tops: list[Any] = [*file.message_type, *file.enum_type, *file.service]
        for one in tops:
            names.add(one.name, file.package)
        for run in extended(file, file.package):
            names.add_extensions(run)
    for file in kept:
        for message in file.message_type:
            _name_nested(names, message, _joined(file.package, message.name))
    return Writer(pool, names, own, shared).module()


def _check_text(file: FileDescriptorProto) -> None:
    """Refuse what no module can say, before it is written.

    That is a string that is not UTF-8, of which protobuf gives the bytes (not in comments), and a
    name in JSON that is escaped there.
    """
    waiting: list[Any] = [file]
    while waiting:
        for field, value in waiting.pop().ListFields():
            values = value if field.is_repeated else [value]
            if field.name == "json_name" and isinstance(value, str) and is_unwritable(value):
                raise UnreadableContract(
                    f"A field is called {value!r} in JSON.",
                    where=file.name,
                    fix='Give it a json_name without ", \\ and control characters.',
                )
            if field.message_type is not None and field.name != "source_code_info":
                waiting.extend(values)
            elif field.type == field.TYPE_STRING and any(isinstance(one, bytes) for one in values):
                raise UnreadableContract(
                    f"Its {field.name} is not UTF-8: {values!r}.",
                    where=file.name,
                    fix="Write what is not UTF-8 into a field of bytes.",
                )


def _name_nested(names: Names, message: Any, full_name: str) -> None:
    nested = [one.name for one in message.nested_type if not one.options.map_entry]
    nested += [one.name for one in message.enum_type]
    inner = {f"{full_name}.{one}": one for one in nested}
    inner |= {run.key: run.wanted for run in extended(message, full_name)}
    meant = (*referenced(message), *_extendees(message))
    names.add_nested(full_name, inner, (_top(one, names) for one in meant))
    for one in message.nested_type:
        if not one.options.map_entry:
            _name_nested(names, one, f"{full_name}.{one.name}")


def _extendees(message: Any) -> Iterator[str]:
    """Yield the full names of what the extensions in a message extend."""
    yield from (one.extendee.removeprefix(".") for one in message.extension)
    for inner in message.nested_type:
        yield from _extendees(inner)


def _needed(files: Any, own: list[FileDescriptorProto]) -> list[FileDescriptorProto]:
    """Return the shared files, each with only those declarations that `own` files need."""
    found: dict[str, tuple[Any, Any]] = {}
    for file in files:
        if is_shared(file.name):
            for one in (*file.message_type, *file.enum_type):
                found[_joined(file.package, one.name)] = (file, one)
    fields = [one for file in own for message in file.message_type for one in referenced(message)]
    fields += [one for file in own for one in mentioned(file.extension)]
    methods = [
        name.removeprefix(".")
        for file in own
        for service in file.service
        for method in service.method
        for name in (method.input_type, method.output_type)
    ]
    waiting = [one for one in fields if one not in WELL_KNOWN]
    # a request is a message, also where the library has another type for a field of that kind
    waiting += [one for one in methods if WELL_KNOWN.get(one) not in {"Empty", "Money"}]
    needed: dict[str, None] = {}
    while waiting:
        full_name = _top(waiting.pop(), found)
        if not full_name or full_name in needed:
            continue
        needed[full_name] = None
        _, one = found[full_name]
        if hasattr(one, "nested_type"):
            waiting.extend(name for name in referenced(one) if name not in WELL_KNOWN)
    kept: dict[str, Any] = {}
    for full_name, (file, one) in found.items():
        if full_name in needed:
            if file.name not in kept:
                kept[file.name] = type(file)(name=file.name, package=file.package)
                kept[file.name].syntax = file.syntax
            into = kept[file.name]
            (into.message_type if hasattr(one, "nested_type") else into.enum_type).append(one)
    return list(kept.values())


def _top(full_name: str, found: Container[str]) -> str:
    """Return the declaration in `found` that holds what is called `full_name`, or nothing."""
    while full_name and full_name not in found:
        full_name = full_name.rpartition(".")[0]
    return full_name


def _joined(package: str, name: str) -> str:
    return f"{package}.{name}" if package else name
