"""What a Python module of contracts declares, told by the process that has imported it.

    python -m switchgear.contract.check.declared MODULE FOLDER

It writes the `.proto` files into the folder, and beside them what they cannot carry (`Told`).
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from switchgear.contract.check.pythonmodule import FACTS, PAST, Told, unsaid
from switchgear.contract.declaration import field_name, fields_of, full_name, reach
from switchgear.contract.descriptors import sorted_roots
from switchgear.contract.enums import Enum, labels_of
from switchgear.contract.export import proto_files
from switchgear.contract.history import Past
from switchgear.contract.library import load_library
from switchgear.contract.message import Message
from switchgear.contract.service import ServiceContract
from switchgear.errors import MissingExtra, SwitchgearError


@dataclass(slots=True)
class _Declared:
    """What has been found, by the full names of the contract."""

    places: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    spelled: dict[str, str] = field(default_factory=dict)
    required: set[str] = field(default_factory=set)

    def service(self, service: ServiceContract) -> None:
        found, heads = dict(_lines(service.protocol)), dict(_heads(service.protocol))
        self.places[service.full_name] = found[""]
        for name, operation in service.operations.items():
            self._one(f"{service.full_name}.{operation.rpc_name}", name, found, heads)

    def message(self, cls: type[Message]) -> None:
        found, written, name = dict(_lines(cls)), dict(_written(cls)), full_name(cls)
        self.places[name] = found[""]
        for one in fields_of(cls).values():
            wire = field_name(cls, one)
            self._one(wire, one.name, found, written)
            if not one.has_default:
                self.required.add(wire)

    def enum(self, cls: type[Enum]) -> None:
        found, written, name = dict(_lines(cls)), dict(_assigned(cls)), full_name(cls)
        self.places[name] = found[""]
        for wire, one in zip(labels_of(cls), cls.__members__, strict=True):
            self._one(f"{name}.{wire}", one, found, written)

    def _one(
        self,
        wire: str,
        name: str,
        found: Mapping[str, tuple[str, int, int]],
        written: Mapping[str, str],
    ) -> None:
        self.places[wire] = found.get(name, found[""])
        if name in written:
            self.spelled[wire] = written[name]


def _main(target: str, into: Path) -> None:
    library = load_library(target)
    declared = _Declared()
    services, messages = sorted_roots(library.roots)
    for service in services:
        declared.service(service)
    for cls in reach(*messages):
        if issubclass(cls, Message):
            declared.message(cls)
        else:
            declared.enum(cls)
    past = msgspec.json.decode((into / PAST).read_bytes(), type=list[Past])
    for name, text in proto_files(*library.roots, past=past).items():
        path = into / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + unsaid(declared.required))
    file, required = str(library.module.__file__ or target), frozenset(declared.required)
    told = Told(file, declared.places, required, declared.spelled)
    (into / FACTS).write_bytes(msgspec.json.encode(told))


def _written(cls: Any) -> Iterator[tuple[str, str]]:
    """Yield the statements in the body of a class that declare something with a type."""
    _, node = _body(cls)
    for one in node.body if node is not None else ():
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
            yield from _unparsed(one.target.id, one)


def _assigned(cls: Any) -> Iterator[tuple[str, str]]:
    """Yield the statements in the body of a class that give a name a value."""
    _, node = _body(cls)
    for one in node.body if node is not None else ():
        if isinstance(one, ast.Assign) and isinstance(one.targets[0], ast.Name):
            yield from _unparsed(one.targets[0].id, one)


def _heads(cls: Any) -> Iterator[tuple[str, str]]:
    """Yield the functions in the body of a class, without what they do and say."""
    _, node = _body(cls)
    for one in node.body if node is not None else ():
        if isinstance(one, ast.AsyncFunctionDef | ast.FunctionDef):
            yield from _unparsed(one.name, _headed(one))


def _unparsed(name: str, statement: ast.stmt) -> Iterator[tuple[str, str]]:
    """Yield the text of a statement; nothing for one that is nested too deeply, as Python allows.

    An edit is then told in protobuf.
    """
    with suppress(RecursionError):
        yield name, ast.unparse(statement)


def _headed(function: ast.AsyncFunctionDef | ast.FunctionDef) -> ast.stmt:
    made = type(function)(**{key: getattr(function, key) for key in function._fields})
    made.body = [ast.Expr(ast.Constant(...))]
    return ast.copy_location(made, function)


def _lines(cls: Any) -> Iterator[tuple[str, tuple[str, int, int]]]:
    """Yield where a class ("") and what stands in its body are."""
    file, node = _body(cls)
    if file is None or node is None:
        yield "", (file or cls.__module__, 1, 1)
        return
    yield "", (file, node.lineno, node.col_offset + 1)
    for one in node.body:
        target: ast.AST | None = getattr(one, "target", None)
        if isinstance(one, ast.Assign):
            target = one.targets[0]
        found = target.id if isinstance(target, ast.Name) else getattr(one, "name", None)
        if found:
            yield found, (file, one.lineno, one.col_offset + 1)


def _body(cls: Any) -> tuple[str | None, ast.ClassDef | None]:
    """Return the file of a class, and its statement there, as far as they are known."""
    name = cls.__qualname__.removesuffix(".__message__")
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    return file, _bodies(file).get(name) if file else None


@cache
def _bodies(file: str) -> Mapping[str, ast.ClassDef]:
    """Return the classes of a file by their qualified name."""
    tree = _parsed(file)
    found: dict[str, ast.ClassDef] = {}
    waiting: list[tuple[str, ast.AST]] = [("", tree)] if tree else []
    while waiting:
        prefix, node = waiting.pop()
        for one in ast.iter_child_nodes(node):
            if isinstance(one, ast.ClassDef):
                found[f"{prefix}{one.name}"] = one
                waiting.append((f"{prefix}{one.name}.", one))
    return found


def _parsed(file: str) -> ast.Module | None:
    try:
        return ast.parse(Path(file).read_text(encoding="utf-8"))
    except (OSError, SyntaxError, UnicodeDecodeError):
        return None


if __name__ == "__main__":
    try:
        _main(sys.argv[1], Path(sys.argv[2]))
    except (SwitchgearError, MissingExtra) as error:
        sys.exit(str(error))
