"""YAML and JSON, read with limits: values, and where in the text they stand.

YAML is read by the core schema of YAML 1.2, so that `on` and `2024-01-01` are text and the keys of
objects are always text (`200:` is a response). What a document can cost is bounded: its size, its
depth, and how many values it holds once aliases have been followed (a "billion laughs" is a
hundred bytes long).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import msgspec

from switchgear.contract.check.schema import Place
from switchgear.errors import Diagnostic, MissingExtra, UnreadableContract

try:
    import yaml
except ImportError:
    raise MissingExtra("PyYAML", "contract") from None

__all__ = ["Document", "read_document"]

MAX_BYTES: Final = 32 << 20
MAX_DEPTH: Final = 200
MAX_VALUES: Final = 2_000_000

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULL: Final = re.compile(r"null|Null|NULL|~|")
_BOOL: Final = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT: Final = re.compile(r"[-+]?[0-9]{1,400}|0o[0-7]{1,400}|0x[0-9a-fA-F]{1,400}")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


@dataclass(frozen=True)
class Document:
    """A document: its values, and the text that they come from."""

    name: str
    value: Any
    text: str

    def place(self, pointer: tuple[str, ...]) -> Place:
        """Return where the value at a path of keys stands, or else what is around it."""
        while pointer and pointer not in self._places:
            pointer = pointer[:-1]
        line, column = self._places.get(pointer, (0, 0))
        return Place(self.name, line + 1, column + 1)

    @cached_property
    def _places(self) -> Mapping[tuple[str, ...], tuple[int, int]]:
        """The places of keys and items; only findings ask for them."""
        try:
            root = yaml.compose(self.text, Loader=_LOADER)
        except yaml.YAMLError:  # JSON with tabs is no YAML
            return {}
        return dict(_walk(root)) if root is not None else {}


def _walk(root: yaml.Node) -> Iterator[tuple[tuple[str, ...], tuple[int, int]]]:
    waiting: list[tuple[tuple[str, ...], yaml.Node, yaml.Mark]] = [((), root, root.start_mark)]
    left = MAX_VALUES
    while waiting and left:
        left -= 1
        pointer, node, mark = waiting.pop()
        yield pointer, (mark.line, mark.column)
        if isinstance(node, yaml.MappingNode):
            waiting += [
                ((*pointer, str(key.value)), value, key.start_mark) for key, value in node.value
            ]
        elif isinstance(node, yaml.SequenceNode):
            waiting += [
                ((*pointer, str(index)), one, one.start_mark)
                for index, one in enumerate(node.value)
            ]


def read_document(path: Path, name: str | None = None) -> Document:
    """Read a YAML or JSON file.

    Raises `UnreadableContract` for one that is missing, too large, too deep, or neither.
    """
    told = name or path.as_posix()
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UnreadableContract(f"{error.strerror}.", where=told) from None
    if len(data) > MAX_BYTES:
        raise UnreadableContract(
            f"The document is larger than {MAX_BYTES >> 20} MB.",
            where=told,
            fix="Split it, or check the parts that services use.",
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableContract(f"It is not UTF-8: {error.reason}.", where=told) from None
    return Document(told, parse(text, told), text)


def parse(text: str, name: str) -> Any:
    """Return the values of a text in YAML or JSON."""
    if text.lstrip()[:1] in {"{", "["}:
        value = _json(text)
        if value is not None:
            _measure(value, name)
            return value
    try:
        root = yaml.compose(text, Loader=_LOADER)
    except yaml.YAMLError as error:
        raise _not_yaml(error, name) from None
    except RecursionError:
        raise _too_deep(name) from None
    return None if root is None else _Values(name).of(root, 0)


def _json(text: str) -> Any:
    try:
        return json.loads(text) if "NaN" in text else msgspec.json.decode(text)
    except (ValueError, RecursionError, msgspec.DecodeError):
        return None  # YAML in flow style also begins like this, and tells where it is broken


def _measure(value: Any, name: str) -> None:
    waiting, depth = [value], 0
    while waiting:
        depth += 1
        if depth > MAX_DEPTH:
            raise _too_deep(name)
        below = [one for one in waiting if isinstance(one, dict | list)]
        waiting = [
            inner for one in below for inner in (one.values() if isinstance(one, dict) else one)
        ]


class _Values:
    """Turns the nodes of YAML into values, counting them."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._left = MAX_VALUES

    def of(self, node: yaml.Node, depth: int) -> Any:
        self._left -= 1
        if self._left < 0:
            raise UnreadableContract(
                f"With its aliases followed, the document holds more than {MAX_VALUES:,} values.",
                where=self._name,
                fix="Write out what the aliases stand for, or remove them.",
            )
        if depth > MAX_DEPTH:
            raise _too_deep(self._name)
        if isinstance(node, yaml.MappingNode):
            return {str(self._key(key)): self.of(value, depth + 1) for key, value in node.value}
        if isinstance(node, yaml.SequenceNode):
            return [self.of(one, depth + 1) for one in node.value]
        return _scalar(node)

    def _key(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            mark = node.start_mark
            raise UnreadableContract(
                "A key is not text.",
                where=f"{self._name}:{mark.line + 1}:{mark.column + 1}",
                fix="Keys of JSON are text.",
            )
        return str(node.value)


def _scalar(node: yaml.Node) -> Any:
    text = str(node.value)
    if getattr(node, "style", None) in {"'", '"', "|", ">"}:
        return text
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _INT.fullmatch(text):
        return int(text, 0) if text[:2] in {"0o", "0x"} else int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def _too_deep(name: str) -> UnreadableContract:
    return UnreadableContract(f"It is nested more than {MAX_DEPTH} levels deep.", where=name)


def _not_yaml(error: yaml.YAMLError, name: str) -> UnreadableContract:
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or "It is neither YAML nor JSON"
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    return UnreadableContract(
        f"{what}.",
        where=f"{name}:{line}:{column}",
        diagnostics=(Diagnostic(name, line, column, f"{what}."),),
    )
