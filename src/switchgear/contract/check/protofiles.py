"""Folders of `.proto` files, read into the model; of two versions only what differs.

A file that is equal to the byte in both versions, and whose imports are, transitively, is not
compiled: nothing that the rules ask about can differ in it. One changed file in a tree of a
thousand then costs what one file costs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from switchgear.contract.check.bufyaml import Module, read_modules
from switchgear.contract.protoc import Tree, compiling
from switchgear.errors import UnreadableContract

if TYPE_CHECKING:  # the model needs protobuf
    from switchgear.contract.check.schema import Schema

__all__ = ["Protos", "Schemas", "reading"]

_IMPORT: Final = re.compile(rb"""import\b[^;"']*["']([^"']+)["']""")
_PACKAGE: Final = re.compile(rb"(?:^|;)\s*package\s+([\w.\s]+);", re.MULTILINE)
_PLAIN_PACKAGE: Final = re.compile(rb"^package ([\w.]+);", re.MULTILINE)
_COMMENT: Final = re.compile(rb"//[^\n]*|/\*.*?\*/", re.DOTALL)

Schemas: TypeAlias = "Callable[[], tuple[Schema, list[Schema]]]"
"""Waits for protoc, and gives the model of a new version and of the old ones."""


@dataclass(frozen=True)
class Protos:
    """The `.proto` files of one version, by the name that they are imported by."""

    root: Path
    modules: tuple[Module, ...]
    files: Mapping[str, Module]

    @classmethod
    def of(cls, path: Path) -> Protos:
        """Find the files of a folder, or take a single file.

        Raises `UnreadableContract` where there are none, or two modules hold one name.
        """
        if path.is_file():
            modules = [one for one in read_modules(path.parent) if one.root == path.parent]
            modules = modules or read_modules(path.parent)[:1]
            return cls(path.parent, tuple(modules), {path.name: modules[0]})
        if not path.is_dir():
            raise UnreadableContract("There is no such folder.", where=str(path))
        modules = read_modules(path)
        files: dict[str, Module] = {}
        for module in modules:
            if not module.root.is_dir():
                raise UnreadableContract("There is no such folder.", where=str(module.root))
            for name in Tree.of(module.root).names:
                if not module.holds(name):
                    continue
                other = files.setdefault(name, module)
                if other is not module:
                    raise UnreadableContract(
                        f"Two modules hold this file: {other.root} and {module.root}.", where=name
                    )
        if not files:
            raise UnreadableContract("There are no .proto files.", where=str(path))
        return cls(path, tuple(modules), files)

    def path(self, name: str) -> Path:
        """Return where a file is."""
        return self.files[name].root / name

    @cached_property
    def texts(self) -> Mapping[str, bytes]:
        """The bytes of every file."""
        return {name: _read(f"{module.root}/{name}") for name, module in self.files.items()}

    def tree(self, names: Collection[str]) -> Tree:
        """Return what protoc is asked for."""
        roots = list(dict.fromkeys(module.root for module in self.modules))
        return Tree(roots[0], tuple(sorted(names)), tuple(roots[1:]))


@contextmanager
def reading(new: Protos, olds: Sequence[Protos], *, whole: bool = False) -> Iterator[Schemas]:
    """Let protoc read one new version and some old ones, but for what is equal in all of them.

    With `whole` nothing is left out. What is yielded raises `UnreadableContract` with protoc's
    diagnostics.
    """
    sides = [new, *olds]
    every = {name for side in sides for name in side.files}
    changed = every if whole else _differing(sides)
    wanted = [[name for name in side.files if name in changed] for side in sides]
    trees = [side.tree(names) for side, names in zip(sides, wanted, strict=True) if names]
    with compiling(*trees) as compiled:

        def schemas() -> tuple[Schema, list[Schema]]:
            first, *others = _schemas(sides, wanted, compiled)
            return first, others

        yield schemas


def _schemas(
    sides: Sequence[Protos],
    wanted: Sequence[Sequence[str]],
    compiled: Callable[[], tuple[bytes, ...]],
) -> list[Schema]:
    """Return the model of each side, in which the files that are `wanted` of it are compiled."""
    from switchgear.contract.check.schema import Schema  # noqa: PLC0415  while protoc is at work

    packages = list(_packages(sides, wanted))
    files = iter(compiled())
    return [
        Schema.of(next(files) if names else b"", set(names), known)
        for names, known in zip(wanted, packages, strict=True)
    ]


def _packages(
    sides: Sequence[Protos], wanted: Sequence[Sequence[str]]
) -> Iterator[Collection[str]]:
    """Yield the packages of the files of each side that are not compiled."""
    known: Collection[str] | None = None  # of what is equal in all versions they are equal too
    equal: Collection[str] = ()
    for side, names in zip(sides, wanted, strict=True):
        rest = side.files.keys() - set(names)
        if known is None or rest != equal:
            known, equal = {_package(side.texts[name]) for name in rest}, rest
        yield known


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - of thousands, a path is the cost
        return file.read()


def _imports(text: bytes) -> set[str]:
    """Return what a file imports, read from its text alone; now and then one name too many."""
    return {found.decode(errors="replace") for found in _IMPORT.findall(text)} - {""}


def _package(text: bytes) -> str:
    """Return the package of a file, read from its text alone."""
    found = _PLAIN_PACKAGE.search(text)
    if found is None or b"/*" in text[: found.start()]:  # which may hold it
        found = _PACKAGE.search(_COMMENT.sub(b" ", text))
    return b"".join(found[1].split()).decode() if found else ""


def _differing(sides: Sequence[Protos]) -> set[str]:
    """Return the names of the files that differ between any two versions, and their importers."""
    first, *others = sides
    names = {name for side in sides for name in side.files}
    changed = {
        name
        for name in names
        if any(first.texts.get(name) != side.texts.get(name) for side in others)
    }
    importers: dict[str, set[str]] = {}
    for side in sides:
        for name, text in side.texts.items():
            if side is first or name in changed:  # what is equal imports the same
                for one in _imports(text):
                    importers.setdefault(one, set()).add(name)
    waiting = list(changed)
    while waiting:
        for name in importers.get(waiting.pop(), set()) - changed:
            changed.add(name)
            waiting.append(name)
    return changed
