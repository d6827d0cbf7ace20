"""A Python module of contracts, read in a process of its own: two versions of it cannot meet.

The process imports the module, writes its `.proto` files, in which comments carry what options
cannot (see `words`), and tells what they cannot carry: where in the Python text everything stands,
and which fields JSON cannot be without.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec

from switchgear.contract.check.schema import Place
from switchgear.contract.history import Past
from switchgear.errors import MissingExtra, SwitchgearError, UnreadableContract

__all__ = ["Told", "read_module", "unsaid"]

MAX_SECONDS: Final = 120
_FACTS: Final = ".facts.json"
_PAST: Final = ".past.json"
_TRACE: Final = 2000


class Told(msgspec.Struct):
    """What the process tells besides `.proto` files, by the full names of the contract."""

    file: str
    """The file of the module."""
    places: dict[str, tuple[str, int, int]]
    required: frozenset[str]
    """Fields without a default."""
    spelled: dict[str, str]
    """The statement that declares each field."""

    def seen(self, near: Path) -> str:
        """Return the file of the module, seen from a folder."""
        return _seen(self.file, near.resolve())

    def seen_places(self, near: Path) -> Mapping[str, Place]:
        """Return where everything stands, its paths seen from a folder."""
        here = near.resolve()
        return {
            name: Place(_seen(file, here), line, column)
            for name, (file, line, column) in self.places.items()
        }


def _seen(path: str, near: Path) -> str:
    inner = Path(path).resolve()
    return inner.relative_to(near).as_posix() if inner.is_relative_to(near) else path


def read_module(target: str, imports: Path, into: Path, past: Sequence[Past] = ()) -> Told:
    """Write the `.proto` files of a module into a folder, and return the rest.

    `target` is a file, or a dotted name that is imported from `imports`. What `past` versions had
    and it has not is reserved, as `contract export --history` does. Raises `UnreadableContract`
    with what went wrong while it was imported.
    """
    held = [Past(one.version, one.messages, one.enums) for one in past]
    (into / _PAST).write_bytes(msgspec.json.encode(held))
    ours = Path(__file__).parents[3]
    path = os.pathsep.join(dict.fromkeys([str(imports.absolute()), *sys.path, str(ours)]))
    command = [sys.executable, "-m", __name__, target, str(into.absolute())]
    try:
        done = subprocess.run(  # noqa: S603 - ourselves, without a shell
            command,
            cwd=imports,
            env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            check=False,
            timeout=MAX_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise UnreadableContract(
            f"It has not been imported within {MAX_SECONDS} s.",
            where=target,
            fix="A module of contracts declares, and does nothing else.",
        ) from None
    if done.returncode:
        told = done.stderr.decode(errors="replace").strip()[-_TRACE:]
        raise UnreadableContract(
            told.splitlines()[-1] if told else f"It ended with {done.returncode}.",
            where=target,
            fix="Import it with Python from the same folder until it is content.",
        )
    return msgspec.json.decode((into / _FACTS).read_bytes(), type=Told)


def _main(target: str, into: Path) -> None:
    from switchgear.contract.declaration import fields_of, full_name, reach  # noqa: PLC0415
    from switchgear.contract.descriptors import sorted_roots  # noqa: PLC0415
    from switchgear.contract.export import proto_files  # noqa: PLC0415
    from switchgear.contract.library import load_library  # noqa: PLC0415
    from switchgear.contract.message import Message  # noqa: PLC0415

    library = load_library(target)
    places: dict[str, tuple[str, int, int]] = {}
    required = []
    spelled: dict[str, str] = {}
    services, messages = sorted_roots(library.roots)
    for service in services:
        found = dict(_lines(service.protocol))
        places[service.full_name] = found[""]
        for name, operation in service.operations.items():
            places[f"{service.full_name}.{operation.rpc_name}"] = found.get(name, found[""])
    for cls in reach(*messages):
        found = dict(_lines(cls))
        name = full_name(cls)
        places[name] = found[""]
        if issubclass(cls, Message):
            written = dict(_written(cls))
            for field in fields_of(cls).values():
                wire = f"{name}.{field.wire}"
                places[wire] = found.get(field.name, found[""])
                if field.name in written:
                    spelled[wire] = written[field.name]
                if not field.has_default:
                    required.append(wire)
        else:
            places.update({f"{name}.{one}": found.get(one, found[""]) for one in cls.__members__})
    past = msgspec.json.decode((into / _PAST).read_bytes(), type=list[Past])
    for name, text in proto_files(*library.roots, past=past).items():
        path = into / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + unsaid(required))
    told = Told(str(library.module.__file__ or target), places, frozenset(required), spelled)
    (into / _FACTS).write_bytes(msgspec.json.encode(told))


def unsaid(required: Iterable[str]) -> str:
    """Return the last line of a file, for what it cannot say.

    Files that are equal to the byte are not looked into.
    """
    return f"// Required: {' '.join(sorted(required))}\n"


def _written(cls: Any) -> Iterator[tuple[str, str]]:
    """Yield the statements in the body of a class that declare something with a type."""
    _, node = _body(cls)
    for one in node.body if node is not None else ():
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
            yield one.target.id, ast.unparse(one)


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
