"""What the declarations of a `.proto` file are called in Python.

- A message, an enumeration or a service keeps its name, unless Python or the module needs that
  name, or another file has it; then the last part of the package comes before it, or `_` after.
- A nested declaration keeps its name, unless something in the same message means the other one.
- Extensions of an order are `OrderExtensions`: the name is of this class alone.
- A field keeps its name, with `_` after it where Python does not allow it.
- Members of an enumeration lose the prefix that all of them have: protobuf's style guide asks for
  it because there they live beside each other.
- Methods are in snake_case.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from keyword import iskeyword
from typing import Any, Final, NamedTuple

__all__ = [
    "Extended",
    "Names",
    "attribute",
    "camel",
    "constant",
    "extended",
    "members_of",
    "mentioned",
    "prefix_of",
    "referenced",
    "snake",
]

IMPORTED: Final = frozenset(
    {
        *("AnyMessage", "BoolValue", "BytesValue", "DoubleValue", "Empty", "Enum", "FieldMask"),
        *("Fixed32", "Fixed64", "Float32", "FloatValue", "Int32", "Int32Value", "Int64Value"),
        *("ListValue", "Message", "Money", "ProtoFile", "SFixed32", "SFixed64", "SInt32", "SInt64"),
        *("StringValue", "Struct", "UInt32", "UInt32Value", "UInt64", "UInt64Value", "Value"),
        *("AsyncIterator", "Protocol", "annotations", "command", "datetime", "field", "member"),
        *("query", "route", "service", "timedelta"),
    }
)
"""What the module may import: none of it can be called otherwise."""

_TAKEN: Final = IMPORTED | {"self", "request", "requests"} | frozenset(dir(builtins))
_ANNOTATING: Final = frozenset(
    {
        *("field", "list", "dict", "str", "int", "float", "bool", "bytes"),
        *("datetime", "timedelta", "object", "type"),
    }
)
"""What the fields further down in a class are declared with."""
_MEMBERS: Final = frozenset({"name", "value", "mro", "is_open"})


class Names:
    """The path in the module of every declaration, by its full name in protobuf."""

    def __init__(self) -> None:
        self._paths: dict[str, str] = {}
        self._taken: set[str] = set(_TAKEN)

    def __getitem__(self, full_name: str) -> str:
        return self._paths[full_name]

    def __contains__(self, full_name: object) -> bool:
        return full_name in self._paths

    def take(self, name: str) -> str:
        """Return `name`, or the next that is free on the top of the module."""
        while name in self._taken or iskeyword(name):
            name += "_"
        self._taken.add(name)
        return name

    def add(self, name: str, package: str) -> str:
        """Name a declaration that stands on the top of its file."""
        full_name = f"{package}.{name}" if package else name
        wanted = name
        if wanted in self._taken - _TAKEN and package:
            wanted = camel(package.rpartition(".")[2]) + name
        self._paths[full_name] = self.take(wanted.lstrip("_") or "_")
        return full_name

    def add_extensions(self, run: Extended) -> None:
        """Name a class of extensions that stands on the top of its file."""
        self._paths[run.key] = self.take(run.wanted)

    def add_nested(self, owner: str, found: Mapping[str, str], meant: Iterable[str]) -> None:
        """Name the declarations inside a message whose fields mention `meant`.

        `found` are the names that they should have, by their full names.
        """
        paths = [self._paths[owner], *(self._paths[one] for one in meant if one in self._paths)]
        heads = {path.partition(".")[0] for path in paths}  # what annotations begin with
        inside: set[str] = set()
        for full_name, name in found.items():
            python = name.lstrip("_") or "_"
            while iskeyword(python) or python in heads | inside | _TAKEN:
                python += "_"
            inside.add(python)
            self._paths[full_name] = f"{self._paths[owner]}.{python}"


def attribute(name: str, taken: Iterable[str]) -> str:
    """Return what a field is called in Python, in a class that has the names `taken`."""
    python = name.lstrip("_") or "_"
    unusable = {*_ANNOTATING, *taken}
    while iskeyword(python) or python in unusable:
        python += "_"
    return python


def prefix_of(enum: str, members: Iterable[str]) -> str:
    """Return the prefix that all members of an enumeration have; empty if they have none."""
    prefix = f"{snake(enum).upper()}_"
    rest = [one.removeprefix(prefix) for one in members if one.startswith(prefix)]
    named = list(members)
    usable = all(re.fullmatch("[A-Za-z][A-Za-z0-9_]*", one) and not _awkward(one) for one in rest)
    return prefix if len(rest) == len(named) and usable else ""


def members_of(names: Iterable[str], prefix: str) -> Iterator[tuple[str, str]]:
    """Yield the Python name of each member, and its name on the wires where that is another."""
    used: set[str] = set()
    for name in names:
        python = name.removeprefix(prefix)
        if _awkward(python):
            python = f"{python.strip('_') or 'member'}_"
        while python in used:
            python += "_"
        used.add(python)
        yield python, "" if prefix + python == name else name


def _awkward(name: str) -> bool:
    return iskeyword(name) or name in _MEMBERS or name.startswith("_")


def snake(name: str) -> str:
    """Return a name in snake_case: `GetURLs` is `get_urls`."""
    split = re.sub(r"([a-z0-9])([A-Z])|([A-Z]+)([A-Z][a-z])", _parted, name)
    return re.sub("_+", "_", split).lower()


def _parted(found: re.Match[str]) -> str:
    left, right = found[1] or found[3], found[2] or found[4]
    return f"{left}_{right}"


def camel(name: str) -> str:
    """Return a name in CamelCase, as our own contracts name methods in protobuf."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def constant(path: str) -> str:
    """Return what the file of a path is called in Python: `pay/v1/pay.proto` is `PAY`."""
    stem = path.rpartition("/")[2].removesuffix(".proto")
    return re.sub("[^A-Za-z0-9]", "_", stem).upper().lstrip("_0123456789") or "FILE"


class Extended(NamedTuple):
    """Extensions of one message that stand side by side."""

    key: str
    """What `Names` knows their class by."""
    scope: str
    extendee: str
    fields: list[tuple[int, Any]]
    """Where each stands among the extensions of its scope, and what it is."""

    @property
    def wanted(self) -> str:
        """What their class should be called."""
        return f"{self.extendee.rpartition('.')[2]}Extensions"


def extended(holder: Any, scope: str) -> Iterator[Extended]:
    """Yield the extensions that a file or a message declares, whose name is `scope`."""
    for extendee, run in groupby(enumerate(holder.extension), key=lambda one: one[1].extendee):
        fields = list(run)
        key = f"{scope}@{holder.name}@{fields[0][0]}"  # of two files, the package may be the same
        yield Extended(key, scope, extendee.removeprefix("."), fields)


def referenced(message: Any) -> Iterator[str]:
    """Yield the full names of all types that the fields in a message mention, nested ones too."""
    yield from mentioned((*message.field, *message.extension))
    for inner in message.nested_type:
        yield from referenced(inner)


def mentioned(fields: Iterable[Any]) -> Iterator[str]:
    """Yield the full names of the types that fields mention."""
    return (one.type_name.removeprefix(".") for one in fields if one.type_name)
