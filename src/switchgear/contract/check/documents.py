"""YAML and JSON, read with limits: values, and where in the text they stand.

YAML is read by the core schema of YAML 1.2, so that `on` and `2024-01-01` are text and the keys of
objects are always text (`200:` is a response). What a document can cost is bounded: its size, its
depth, and how many values it holds once aliases have been followed (a "billion laughs" is a
hundred bytes long).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec

from switchgear.contract.check.references import References
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
    base: str = ""
    """The file or address that it was read from."""
    references: References | None = None
    """What its references may lead to; nothing but itself without them."""
    others: dict[str, Document] = field(default_factory=dict)
    """The documents that were read because one of them refers to another."""
    first: Document | None = None
    """The document that referred to it first, which says what it is a part of."""

    @cached_property
    def siblings_count(self) -> bool:
        """Whether what stands beside a `$ref` counts: in OpenAPI 3.1 and later."""
        version = self.value.get("openapi") if isinstance(self.value, dict) else None
        if not isinstance(version, str):
            return self.first is not None and self.first.siblings_count
        return not version.startswith(("3.0", "2."))

    def other(self, ref: str, where: str) -> Document:
        """Return the document that a reference without its fragment leads to.

        Raises `UnreadableContract` for one that is not there or not allowed.
        """
        if self.references is None:
            raise UnreadableContract(
                f"The $ref {ref!r} leads out of the document.",
                where=where,
                fix="Bundle the document into one file first.",
            )
        target = self.references.resolve(self.base, ref)
        if target not in self.others:
            data = self.references.read(target, ref, where)
            name = self.references.called(target)
            text = _decoded(data, name)
            self.others[target] = Document(
                name, parse(text, name), text, target, self.references, self.others, self
            )
        return self.others[target]

    def absolute(self, value: Any) -> Any:
        """Return a value of this document with its references as another one has to write them."""
        if isinstance(value, list):
            return [self.absolute(one) for one in value]
        if not isinstance(value, dict):
            return value
        made = {key: self.absolute(one) for key, one in value.items()}
        ref = value.get("$ref")
        if isinstance(ref, str) and self.references is not None:
            file, found, fragment = ref.partition("#")
            target = self.references.resolve(self.base, file) if file else self.base
            made["$ref"] = f"{quote(target, safe='/:?&=@')}{found}{fragment}"
        return made

    def anchor(self, name: str) -> tuple[str, ...] | None:
        """Return where the schema with an `$anchor` is; None if there is none."""
        return self._anchors.get(name)

    @cached_property
    def _anchors(self) -> Mapping[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        waiting: list[tuple[tuple[str, ...], Any]] = [((), self.value)]
        while waiting:
            pointer, value = waiting.pop()
            if isinstance(value, list):
                waiting += [((*pointer, str(index)), one) for index, one in enumerate(value)]
            elif isinstance(value, dict):
                if isinstance(value.get("$anchor"), str):
                    found[value["$anchor"]] = pointer
                waiting += [((*pointer, key), one) for key, one in value.items()]
        return found

    def place(self, pointer: tuple[str, ...]) -> Place:
        """Return where the value at a path of keys stands, or else what is around it."""
        while pointer and pointer not in self._places:
            pointer = pointer[:-1]
        line, column = self._places.get(pointer, (0, 0))
        return Place(self.name, line + 1, column + 1)

    @cached_property
    def _places(self) -> Mapping[tuple[str, ...], tuple[int, int]]:
        """The places of keys and items; only findings ask for them."""
        places: dict[tuple[str, ...], tuple[int, int]] = {}
        try:
            _Builder(self.name, places).build(self.text)
        except UnreadableContract:  # JSON with tabs is no YAML
            return {}
        return places


def read_document(
    path: Path, name: str | None = None, references: References | None = None
) -> Document:
    """Read a YAML or JSON file; `references` is what it may refer to besides itself.

    Raises `UnreadableContract` for one that is missing, too large, too deep, or neither.
    """
    told = name or path.as_posix()
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UnreadableContract(f"{error.strerror}.", where=told) from None
    text, base = _decoded(data, told), str(path.resolve())
    document = Document(told, parse(text, told), text, base, references)
    document.others[base] = document
    return document


def _decoded(data: bytes, told: str) -> str:
    if len(data) > MAX_BYTES:
        raise UnreadableContract(
            f"The document is larger than {MAX_BYTES >> 20} MB.",
            where=told,
            fix="Split it, or check the parts that services use.",
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableContract(f"It is not UTF-8: {error.reason}.", where=told) from None


def parse(text: str, name: str) -> Any:
    """Return the values of a text in YAML or JSON."""
    if text.lstrip()[:1] in {"{", "["}:
        value = _json(text)
        if value is not None:
            _measure(value, name)
            return value
    return _Builder(name).build(text)


def _json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (RecursionError, msgspec.DecodeError):
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


@dataclass(slots=True)
class _Frame:
    """An object or array that is being read."""

    value: Any
    anchor: str | None
    pointer: tuple[str, ...]
    key: str | None = None
    size: int = 1


class _Builder:
    """Builds values out of the events of YAML, one after the other: depth costs no stack."""

    def __init__(
        self, name: str, places: dict[tuple[str, ...], tuple[int, int]] | None = None
    ) -> None:
        self._name = name
        self._places = places
        self._stack: list[_Frame] = []
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._root: Any = None

    def build(self, text: str) -> Any:
        try:
            for event in yaml.parse(text, Loader=_LOADER):
                if isinstance(event, yaml.DocumentEndEvent):
                    break
                self._take(event)
        except yaml.YAMLError as error:
            raise _not_yaml(error, self._name) from None
        return self._root

    def _take(self, event: Any) -> None:
        if isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self._begin(event)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            frame = self._stack.pop()
            self._give(frame.value, frame.size, frame.anchor)
        elif isinstance(event, yaml.ScalarEvent):
            self._place(event)
            key = self._stack and isinstance(self._stack[-1].value, dict)
            if key and self._stack[-1].key is None:
                self._stack[-1].key = str(event.value)
            else:
                self._give(_scalar(event), 1, event.anchor)
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise self._wrong(event, f"The alias *{event.anchor} stands for nothing yet.")
            self._give(*self._anchors[event.anchor], None)

    def _begin(self, event: Any) -> None:
        if len(self._stack) >= MAX_DEPTH:
            raise _too_deep(self._name)
        self._place(event)
        made: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._stack.append(_Frame(made, event.anchor, self._pointer()))

    def _pointer(self) -> tuple[str, ...]:
        if not self._stack:
            return ()
        top = self._stack[-1]
        return (*top.pointer, top.key if top.key is not None else str(len(top.value)))

    def _place(self, event: Any) -> None:
        """Note where a key of an object, or an item of an array, begins."""
        if self._places is None or not self._stack:
            return
        top = self._stack[-1]
        if isinstance(top.value, dict):
            if top.key is not None or not isinstance(event, yaml.ScalarEvent):
                return  # the key has its place already
            pointer = (*top.pointer, str(event.value))
        else:
            pointer = self._pointer()
        self._places[pointer] = (event.start_mark.line, event.start_mark.column)

    def _give(self, value: Any, size: int, anchor: str | None) -> None:
        if anchor:
            self._anchors[anchor] = (value, size)
        if not self._stack:
            self._root = value
            return
        top = self._stack[-1]
        top.size += size
        if top.size > MAX_VALUES:
            raise UnreadableContract(
                f"With its aliases followed, the document holds more than {MAX_VALUES:,} values.",
                where=self._name,
                fix="Write out what the aliases stand for, or remove them.",
            )
        if isinstance(top.value, list):
            top.value.append(value)
        elif top.key is not None:
            top.value[top.key] = value
            top.key = None
        else:
            raise UnreadableContract(
                "A key is not text.", where=self._name, fix="Keys of JSON are text."
            )

    def _wrong(self, event: Any, what: str) -> UnreadableContract:
        mark = event.start_mark
        return UnreadableContract(what, where=f"{self._name}:{mark.line + 1}:{mark.column + 1}")


def _scalar(event: Any) -> Any:
    text = str(event.value)
    if event.style in {"'", '"', "|", ">"}:
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
