"""`switchgear new NAME`: a working system of two services, with its tests."""

from __future__ import annotations

import keyword
import re
import sys
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath
from typing import Final

from switchgear.errors import OperationError, UsageError

__all__ = ["new"]

_NAME: Final = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
_TAKEN: Final = frozenset({"switchgear", "test", "tests"})
_SUFFIX: Final = ".in"


def _is_taken(package: str) -> bool:
    """Tell whether a package of this name would hide another, or cannot be imported at all."""
    return keyword.iskeyword(package) or package in sys.stdlib_module_names or package in _TAKEN


def new(name: str, folder: Path | None = None) -> list[Path]:
    """Write a project called `name` into `folder` (default: `./NAME`) and return its files.

    Raises `UsageError` for a name that cannot be a package, and `OperationError` for a folder that
    has something in it or cannot be written.
    """
    package = name.replace("-", "_")
    if not _NAME.fullmatch(name) or _is_taken(package):
        raise UsageError(
            f"{name!r} cannot be the name of a project.",
            fix="Use small letters, digits and single dashes, beginning with a letter, and no "
            "word or module of Python's own.",
        )
    target = folder or Path.cwd() / name
    try:
        if target.exists() and any(target.iterdir()):
            raise OperationError(
                f"the folder {target} is there and not empty.",
                fix="Choose another name, or an empty folder with --folder.",
            )
        return [_write(target, path, text) for path, text in _files(name, package)]
    except OSError as error:
        raise OperationError(
            f"the project cannot be written: {error.strerror}.",
            where=str(error.filename or target),
            fix="Choose a folder that this user can write to, with --folder.",
        ) from error


def _files(name: str, package: str) -> Iterator[tuple[PurePosixPath, str]]:
    """Return the files of the project, with the names filled in."""
    for path, source in _walk(files("switchgear.app") / "template", PurePosixPath()):
        parts = [package if part == "package" else part for part in path.parts]
        parts[-1] = parts[-1].removesuffix(_SUFFIX)
        if parts[-1] == "gitignore":
            parts[-1] = ".gitignore"
        text = source.read_text(encoding="utf-8")
        yield (
            PurePosixPath(*parts),
            text.replace("{{name}}", name).replace("{{package}}", package),
        )


def _walk(folder: Traversable, path: PurePosixPath) -> Iterator[tuple[PurePosixPath, Traversable]]:
    for entry in sorted(folder.iterdir(), key=lambda found: found.name):
        if entry.is_dir():
            yield from _walk(entry, path / entry.name)
        elif entry.name.endswith(_SUFFIX):
            yield path / entry.name, entry


def _write(target: Path, path: PurePosixPath, text: str) -> Path:
    file = target / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file
