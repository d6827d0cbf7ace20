"""Folders of `.proto` files, read into the model; of two versions only what differs.

A file that is equal to the byte in both versions, and whose imports are, transitively, is not
compiled: nothing that the rules ask about can differ in it. One changed file in a tree of a
thousand then costs what one file costs.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from switchgear.contract.check.bufyaml import Module, read_modules
from switchgear.contract.check.schema import Schema
from switchgear.contract.protoc import Tree, compile_trees
from switchgear.errors import UnreadableContract

__all__ = ["Protos", "read_schemas"]

_IMPORT: Final = re.compile(rb"""\bimport\b[^;"']*["']([^"']+)["']""")
_PACKAGE: Final = re.compile(rb"^\s*package\s+([\w.]+)\s*;", re.MULTILINE)
_COMMENT: Final = re.compile(rb"//[^\n]*|/\*.*?\*/", re.DOTALL)


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


def read_schemas(
    new: Protos, olds: Sequence[Protos], *, whole: bool = False
) -> tuple[Schema, list[Schema]]:
    """Read one new version and some old ones, leaving out what is equal in all of them.

    With `whole` nothing is left out. Raises `UnreadableContract` with protoc's diagnostics.
    """
    sides = [new, *olds]
    every = {name for side in sides for name in side.files}
    changed = every if whole else _differing(sides)
    wanted = [[name for name in side.files if name in changed] for side in sides]
    trees = [side.tree(names) for side, names in zip(sides, wanted, strict=True) if names]
    compiled = iter(compile_trees(*trees))
    schemas: list[Schema] = []
    packages: set[str] | None = None  # of what is equal in all versions they are equal too
    equal: Collection[str] = ()
    for side, names in zip(sides, wanted, strict=True):
        rest = side.files.keys() - set(names)
        data = next(compiled) if names else b""
        if packages is None or rest != equal:
            packages, equal = {_package(side.texts[name]) for name in rest}, rest
        schemas.append(Schema.of(data, set(names), packages))
    return schemas[0], schemas[1:]


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - of thousands, a path is the cost
        return file.read()


def _imports(text: bytes) -> set[str]:
    """Return what a file imports, read from its text alone."""
    return {found.decode(errors="replace") for found in _IMPORT.findall(text)} - {""}


def _package(text: bytes) -> str:
    """Return the package of a file, read from its text alone."""
    found = _PACKAGE.search(_COMMENT.sub(b" ", text))
    return found[1].decode() if found else ""


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
