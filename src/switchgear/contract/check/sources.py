"""What NEW and OLD can be, and where their files are.

| given | is |
| --- | --- |
| a folder, or a `.proto` file | protobuf |
| a `.py` file, or a dotted name | a Python module of contracts |
| a `.json`, `.yaml` or `.yml` file | OpenAPI or AsyncAPI: it says which |
| a `.jsonl` file | a history (see `switchgear.contract.history`): every version, the newest first |
| `FILE.jsonl:VERSION` | one version of it |
| `git:REF[:PATH]` | any of these as it was at a ref; without a path, that of NEW |
| `git:v*[:PATH]` | the same at every tag of that pattern, the newest version first |
"""

from __future__ import annotations

import enum
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from switchgear.contract.check.git import Repository
from switchgear.contract.history import Past, read_history
from switchgear.errors import UnreadableContract

__all__ = ["Kind", "Source", "open_sources"]

_GIT: Final = "git:"
_WILD: Final = frozenset("*?[")
_DOCUMENTS: Final = (".json", ".yaml", ".yml")
_HISTORY: Final = ".jsonl"


class Kind(enum.Enum):
    """What a source is written in."""

    PROTO = "a folder of .proto files"
    PYTHON = "a Python module"
    HISTORY = "a version of a history"
    DOCUMENT = "an OpenAPI or AsyncAPI document"


@dataclass(frozen=True, slots=True)
class Source:
    """One version of a contract."""

    label: str
    """What the user calls it."""
    kind: Kind
    path: Path
    """The folder, the document, or for Python the file or the dotted name as a relative path."""
    imports: Path
    """Where Python modules are imported from."""
    fetch: Callable[[Path], None] | None = None
    """Puts another file of the same version of a repository into `imports`."""
    past: Past | None = None
    """What a history says of the version, if it comes from one."""

    @property
    def target(self) -> str:
        """The file of a module, or its dotted name."""
        return str(self.path.absolute()) if self.path.suffix == ".py" else ".".join(self.path.parts)


def open_sources(new: str, against: Sequence[str], stack: ExitStack) -> tuple[Source, list[Source]]:
    """Find a new version and the old ones; what comes from git is kept until `stack` ends.

    Raises `UnreadableContract` for what is not there, or is not of the kind of NEW.
    """
    first = (_from_git(new, None, stack) if new.startswith(_GIT) else _local(new))[0]
    olds = [
        source
        for text in against
        for source in (
            _from_git(text, None if new.startswith(_GIT) else first, stack)
            if text.startswith(_GIT)
            else _local(text)
        )
    ]
    for one in olds:
        if (one.kind is Kind.DOCUMENT) is not (first.kind is Kind.DOCUMENT):
            raise UnreadableContract(
                f"It is {one.kind.value}, and {first.label} is {first.kind.value}.",
                where=one.label,
                fix="Compare two versions of one thing.",
            )
    return first, olds


def _local(text: str) -> list[Source]:
    path, (file, version) = Path(text), _history_of(text)
    if path.is_dir() or text.endswith(".proto"):
        return [Source(text, Kind.PROTO, path, Path.cwd())]
    if file:
        return _versions(file, Path(file), version)
    if text.endswith(_DOCUMENTS):
        return [Source(text, Kind.DOCUMENT, path, Path.cwd())]
    if text.endswith(".py"):
        return [Source(text, Kind.PYTHON, path, Path.cwd())]
    if all(part.isidentifier() for part in text.split(".")):
        return [Source(text, Kind.PYTHON, Path(*text.split(".")), Path.cwd())]
    raise UnreadableContract(
        "There is no such folder, document or module.",
        where=text,
        fix="Give a folder of .proto files, a module, an OpenAPI or AsyncAPI document, or git:REF.",
    )


def _history_of(text: str) -> tuple[str, str]:
    """Return the file of a history and the version that is wanted of it; empty for neither."""
    if text.endswith(_HISTORY):
        return text, ""
    file, found, version = text.rpartition(f"{_HISTORY}:")
    return (f"{file}{_HISTORY}", version) if found else ("", "")


def _versions(label: str, path: Path, wanted: str) -> list[Source]:
    """Return the versions of a history, the newest first, or the one that is wanted."""
    every = read_history(path)
    chosen = [one for one in every if one.version == wanted or not wanted]
    if not chosen:
        known = ", ".join(one.version for one in every[:20])
        raise UnreadableContract(
            f"It has no version {wanted}." if wanted else "It has no version yet.",
            where=label,
            fix=f"It has {known}." if known else "`contract record` adds one.",
        )
    found = []
    for one in chosen:
        told = f"{label}:{one.version}"
        if not one.protos:
            raise UnreadableContract(
                "Of this version only numbers and names are known.",
                where=told,
                fix="Give the history with --history, or record the version anew.",
            )
        found.append(Source(told, Kind.HISTORY, path, Path.cwd(), past=one))
    return found


def _from_git(text: str, new: Source | None, stack: ExitStack) -> list[Source]:
    ref, _, path = text.removeprefix(_GIT).partition(":")
    if not ref:
        raise UnreadableContract(
            "It names no ref.", where=text, fix="Write git:REF or git:REF:PATH."
        )
    near = Path.cwd()
    if new is not None and new.kind is not Kind.PYTHON:
        near = new.path if new.path.is_dir() else new.path.parent
    repository = Repository.around(near)
    if not path:
        path = _same_place(new, repository, text)
    refs = [ref]
    if _WILD & set(ref):
        refs = repository.tags(ref)
        if not refs:
            raise UnreadableContract(f"No tag is like {ref!r}.", where=text)
    return [source for one in refs for source in _at(repository, one, path, stack)]


def _same_place(new: Source | None, repository: Repository, text: str) -> str:
    if new is None:
        raise UnreadableContract("It names no path.", where=text, fix="Write git:REF:PATH.")
    if new.kind is Kind.PYTHON and not new.label.endswith(".py"):
        return new.label
    try:
        return new.path.absolute().resolve().relative_to(repository.root.resolve()).as_posix()
    except ValueError:
        raise UnreadableContract(
            f"{new.label} is not inside the repository {repository.root}.",
            where=text,
            fix="Write git:REF:PATH.",
        ) from None


def _at(repository: Repository, ref: str, path: str, stack: ExitStack) -> list[Source]:
    """Return what `path` was at `ref`."""
    into = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="switchgear-check-")))
    label = f"git:{ref}:{path}"
    history, version = _history_of(path)
    if history:
        file = repository.extract(ref, history, into, [history])
        return _versions(f"git:{ref}:{history}", file, version)
    if path.endswith(_DOCUMENTS):
        root = into.resolve()

        def fetch(file: Path) -> None:
            name = file.relative_to(root).as_posix()
            repository.extract(ref, name, into, [name])

        document = repository.extract(ref, path, into, [path])
        return [Source(label, Kind.DOCUMENT, document, into, fetch)]
    dotted = "/" not in path and "." in path and not path.endswith((".py", ".proto"))
    if path.endswith(".py") or dotted:
        # It may import any other module of the repository.
        repository.extract(ref, ".", into, [".py"])
        inner = Path.cwd().resolve()
        below = inner.is_relative_to(repository.root.resolve())
        here = into / inner.relative_to(repository.root.resolve()) if below else into
        file = Path(*path.split(".")) if dotted else into / path
        return [Source(label, Kind.PYTHON, file, here if here.is_dir() else into)]
    suffixes = (".proto", "buf.yaml", "buf.yml", "buf.work.yaml", "buf.work.yml")
    return [Source(label, Kind.PROTO, repository.extract(ref, path, into, suffixes), into)]
