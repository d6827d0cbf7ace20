"""buf's rules about files and packages, and about what was deleted from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeAlias

from switchgear.contract.check.finding import BYTES, CODE, Found
from switchgear.contract.check.pairs import Pairs
from switchgear.contract.check.rules.registry import rule, whole
from switchgear.contract.check.schema import (
    FILE_OPTIONS,
    FILE_PACKAGE,
    FILE_SYNTAX,
    Element,
    Enum,
    Field,
    File,
    Message,
    Place,
    Service,
)

Named: TypeAlias = (
    Mapping[str, Message] | Mapping[str, Enum] | Mapping[str, Field] | Mapping[str, Service]
)

_KINDS: Final[Mapping[str, Callable[[File], Named]]] = {
    "MESSAGE": lambda file: file.messages,
    "ENUM": lambda file: file.enums,
    "EXTENSION": lambda file: file.extensions,
    "SERVICE": lambda file: file.services,
}

_OPTIONS: Final = {
    "java_package": 1,
    "java_outer_classname": 8,
    "optimize_for": 9,
    "java_multiple_files": 10,
    "go_package": 11,
    "cc_generic_services": 16,
    "java_generic_services": 17,
    "py_generic_services": 18,
    "cc_enable_arenas": 31,
    "objc_class_prefix": 36,
    "csharp_namespace": 37,
    "swift_prefix": 39,
    "php_class_prefix": 40,
    "php_namespace": 41,
    "php_metadata_namespace": 44,
    "ruby_package": 45,
}


def _same_option(option: str, number: int) -> None:
    @rule(f"FILE_SAME_{option.upper()}", Pairs.files, CODE)
    def same(_: Pairs, old: File, new: File) -> Iterator[Found]:
        before, after = (getattr(one.proto.options, option) for one in (old, new))
        if before == after:
            return
        told = [_option_text(one, option) for one in (old, new)]
        stated = old.proto.options.HasField(option)  # type: ignore[arg-type]  # a name of the table
        yield Found(
            f"The option {option} changed from {told[0]} to {told[1]}.",
            f"Write `option {option} = {told[0]};` again."
            if stated
            else f"Take the line `option {option} = {told[1]};` out again.",
            new.place((FILE_OPTIONS, number)),
            new.name,
            old,
        )


def _option_text(file: File, option: str) -> str:
    value = getattr(file.proto.options, option)
    if option == "optimize_for":
        return str(file.proto.options.OptimizeMode.Name(value))
    return str(value).lower() if isinstance(value, bool) else f'"{value}"'


for _option, _number in _OPTIONS.items():
    _same_option(_option, _number)


@rule("FILE_SAME_SYNTAX", Pairs.files, CODE)
def same_syntax(_: Pairs, old: File, new: File) -> Iterator[Found]:
    """The syntax decides presence, open enumerations and what generated code looks like."""
    if old.syntax != new.syntax:
        yield Found(
            f'The syntax changed from "{old.syntax}" to "{new.syntax}".',
            f'Write `syntax = "{old.syntax}";` again.'
            if old.syntax != "editions"
            else "Write the edition again.",
            new.place((FILE_SYNTAX,)),
            new.name,
            old,
        )


@rule("FILE_SAME_PACKAGE", Pairs.files, BYTES)
def same_package(_: Pairs, old: File, new: File) -> Iterator[Found]:
    """The package is part of every name: of gRPC's paths, of `Any`, of generated code."""
    if old.package != new.package:
        yield Found(
            f'The package changed from "{old.package}" to "{new.package}".',
            f"Write `package {old.package};` again, and put what is new into a file of its own."
            if old.package
            else "Take the package out again, and put what is new into a file of its own.",
            new.place((FILE_PACKAGE,)),
            new.name,
            old,
        )


@whole("FILE_NO_DELETE", CODE)
def file_no_delete(pairs: Pairs) -> Iterator[Found]:
    """Generated code is imported by the file it is in."""
    for name, old in pairs.old.files.items():
        if name not in pairs.all_new.files:
            yield Found(
                f"The file {name} was deleted.",
                "Put it back; if what it held is somewhere else now, let it `import public` that.",
                Place(name),
                name,
                old,
            )


@whole("PACKAGE_NO_DELETE", CODE)
def package_no_delete(pairs: Pairs) -> Iterator[Found]:
    """A package is gone when its last file is."""
    for name, files in pairs.old.packages.items():
        if name not in pairs.all_new.packages:
            first = min(files, key=lambda one: one.name)
            yield Found(
                f"The package {name or '(none)'} was deleted.",
                "Put its files back until the last caller has moved.",
                Place(first.name),
                name,
                first,
            )


def _no_delete(kind: str, named: Callable[[File], Named]) -> None:
    @rule(f"{kind}_NO_DELETE", Pairs.files, CODE)
    def from_file(pairs: Pairs, old: File, new: File) -> Iterator[Found]:
        there = named(new)
        for name, element in named(old).items():
            if name not in there:
                place = _around(name, new, new.messages)
                yield _deleted(kind, element, f"the file {old.name}", place, pairs)

    @whole(f"PACKAGE_{kind}_NO_DELETE", CODE)
    def from_package(pairs: Pairs) -> Iterator[Found]:
        for package, files in pairs.old.packages.items():
            if package not in pairs.all_new.packages:
                continue  # PACKAGE_NO_DELETE says so
            now = pairs.new.packages.get(package, ())
            there = {name for file in now for name in named(file)}
            gone = [
                (name, one)
                for file in files
                for name, one in named(file).items()
                if name not in there
            ]
            for name, element in gone:
                new = pairs.new.files.get(element.file.name)
                around: dict[str, Message] = {}
                for file in now if kind == "MESSAGE" else (new,):
                    around.update(file.messages if file else {})
                place = _around(name, new, around) if new else Place(element.file.name)
                yield _deleted(kind, element, f"the package {package or '(none)'}", place, pairs)


def _deleted(kind: str, element: Element, where: str, place: Place, pairs: Pairs) -> Found:
    indexes: Mapping[str, Mapping[str, Element]] = {
        "MESSAGE": pairs.new.messages,
        "ENUM": pairs.new.enums,
        "SERVICE": pairs.new.services,
    }
    moved = indexes.get(kind, {}).get(element.full_name)
    edit = (
        f"It is in {moved.file.name} now: move it back, or let {element.file.name} `import public` "
        "that file and accept that generated code moves."
        if moved is not None
        else f"Put {element.name} back and mark it as deprecated until nobody uses it."
    )
    return Found(
        f"The {kind.lower()} {element.full_name} was deleted from {where}.",
        edit,
        place,
        element.full_name,
        element,
    )


def _around(name: str, file: File, messages: Mapping[str, Message]) -> Place:
    """Return where the innermost message that is still around the deleted one stands."""
    while "." in name:
        name = name.rpartition(".")[0]
        if name in messages:
            return messages[name].place()
    return Place(file.name)


for _kind, _named in _KINDS.items():
    _no_delete(_kind, _named)
