"""A TOML file and the environment, read section by section, with every complaint in its place.

A section remembers which keys it was asked for: whatever else stands in it is a mistake, and so is
an environment variable of ours that no setting has asked for.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Final, TypeVar

from switchgear.config.lines import lines_of
from switchgear.config.values import Unset, Value
from switchgear.errors import ConfigError

__all__ = ["PREFIX", "Section", "Source", "variable"]

T = TypeVar("T")
D = TypeVar("D")

PREFIX: Final = "SWITCHGEAR_"
_DECODE: Final = re.compile(
    r"(?P<what>.*) \(at (?:line (?P<line>\d+), column \d+|end of document)\)"
)


def variable(*path: str) -> str:
    """Return the environment variable that overrides the setting at `path`."""
    return PREFIX + "_".join(re.sub(r"\W", "_", part, flags=re.ASCII).upper() for part in path)


class Source:
    """What was read: the tree of the file, the lines of its keys, the environment."""

    def __init__(self, file: Path | None, environ: Mapping[str, str], folder: Path) -> None:
        self.file = file
        self.folder = folder
        self.environ = environ
        self.asked: set[str] = set()
        self.tree: dict[str, object] = {}
        self.lines: dict[tuple[str, ...], int] = {}
        if file is not None:
            self._read(file)

    def _read(self, file: Path) -> None:
        try:
            content = file.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ConfigError("it is not UTF-8 text.", where=file.name) from error
        except OSError as error:
            raise ConfigError(
                f"{file} cannot be read: {error.strerror}.",
                fix="Name the file with --config or SWITCHGEAR_CONFIG.",
            ) from error
        try:
            self.tree = tomllib.loads(content)
        except tomllib.TOMLDecodeError as error:
            raise _broken(error, file, content) from error
        self.lines = lines_of(content)

    def where(self, path: tuple[str, ...]) -> str:
        """Say where a key stands: file, line and key."""
        if self.file is None:
            return ".".join(path)
        line = next(
            (self.lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self.lines), 1
        )
        return f"{self.file.name}:{line}: {_dotted(path)}"

    def section(self, *path: str) -> Section:
        """Return the table at `path`; an absent one is empty."""
        table: object = self.tree
        for number, part in enumerate(path):
            table = table.get(part, {}) if isinstance(table, dict) else table
            if not isinstance(table, dict):
                where = path[: number + 1]
                raise ConfigError(
                    f"expected a table, found {table!r}.",
                    where=self.where(where),
                    fix=f"Write it as [{_dotted(where)}].",
                )
        return Section(self, path, table if isinstance(table, dict) else {})

    def leftover(self, *groups: str) -> None:
        """Refuse the environment variables under `groups` that no setting has asked for."""
        for name in sorted(self.environ):
            if name.startswith(groups) and name not in self.asked:
                raise ConfigError(
                    "no setting has this name.",
                    where=f"environment variable {name}",
                    fix=_suggestion(name, self.asked),
                )


class Section:
    """One table of the file with the environment variables that override it."""

    def __init__(self, source: Source, path: tuple[str, ...], table: Mapping[str, object]) -> None:
        self.source = source
        self.path = path
        self.table = table
        self.known: list[str] = []
        self.unset: Unset | None = None
        """The first value that refers to what is not there."""

    def get(self, key: str, parse: Callable[[Value], T], default: D) -> T | D:
        """Return the setting `key` as `parse` reads it, or `default` where it is not set."""
        self.known.append(key)
        value = self.value(key)
        return default if value is None else self.read(value, parse, default)

    def read(self, value: Value, parse: Callable[[Value], T], default: D) -> T | D:
        """Return a value as `parse` reads it; `default` if it refers to what is not there."""
        try:
            return parse(value)
        except Unset as complaint:
            self.unset = self.unset or complaint
            return default

    def value(self, key: str) -> Value | None:
        """Return what is written for `key`, the environment first."""
        source = self.source
        name = variable(*self.path, key)
        source.asked.add(name)
        if name in source.environ:
            where = f"environment variable {name}"
            return Value(source.environ[name], where, source.folder, source.environ, written=False)
        if key not in self.table:
            return None
        where = source.where((*self.path, key))
        return Value(self.table[key], where, source.folder, source.environ)

    def tables(self, key: str) -> dict[str, Section]:
        """Return the tables inside the table `key`, by name."""
        self.known.append(key)
        inner = self.source.section(*self.path, key)
        return {name: self.source.section(*inner.path, name) for name in inner.table}

    def entries(self, key: str) -> dict[str, Value]:
        """Return what the table `key` holds, whose names are the user's.

        The environment overrides an entry, or adds one under its name in capitals.
        """
        self.known.append(key)
        source = self.source
        inner = source.section(*self.path, key)
        values = {name: inner.value(name) for name in inner.table}
        # an entry can be a table itself, with variables of its own
        tables = tuple(variable(*inner.path, name) + "_" for name in inner.table)
        start = variable(*inner.path) + "_"
        for name in sorted(source.environ):
            if name.startswith(start) and not name.startswith(tables) and name not in source.asked:
                values[name.removeprefix(start)] = inner.value(name.removeprefix(start))
        return {name: value for name, value in values.items() if value is not None}

    def complaint(self, key: str, what: str, *, fix: str | None = None) -> ConfigError:
        """Return a complaint about `key`, to be raised."""
        name = variable(*self.path, key)
        if name in self.source.environ:
            return ConfigError(what, where=f"environment variable {name}", fix=fix)
        return ConfigError(what, where=self.source.where((*self.path, key)), fix=fix)

    def finish(self) -> None:
        """Refuse keys that nobody asked for."""
        for key in self.table:
            if key not in self.known:
                raise ConfigError(
                    "there is no such key.",
                    where=self.source.where((*self.path, key)),
                    fix=_suggestion(key, self.known),
                )


def _suggestion(wrong: str, known: Iterable[str]) -> str:
    choices = sorted(known)
    close = get_close_matches(wrong, choices, n=1)
    return f"Did you mean {close[0]}?" if close else f"There are: {', '.join(choices)}."


def _dotted(path: tuple[str, ...]) -> str:
    """Write a key path as TOML does, quoting the parts that need it."""
    bare = re.compile(r"[A-Za-z0-9_-]+")
    return ".".join(part if bare.fullmatch(part) else f'"{part}"' for part in path)


def _broken(error: tomllib.TOMLDecodeError, file: Path, content: str) -> ConfigError:
    """Say on which line the text stops being TOML, and show the line."""
    match = _DECODE.fullmatch(str(error))
    if match is None:
        return ConfigError(f"it is not valid TOML: {error}.", where=file.name)
    lines = content.splitlines() or [""]
    number = int(match["line"]) if match["line"] else len(lines)
    key = lines[min(number, len(lines)) - 1].partition("=")[0].strip()[:60]
    what = match["what"][:1].lower() + match["what"][1:]
    return ConfigError(
        f"it is not valid TOML: {what}.",
        where=f"{file.name}:{number}: {key}" if key else f"{file.name}:{number}",
        fix='Texts stand in quotes, tables in [brackets]: http = "127.0.0.1:8001".',
    )
