"""What one JSON Schema says, read the same way whichever version of OpenAPI it stands in."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from switchgear.contract.check.refs import Node

__all__ = [
    "alternatives_of",
    "covers",
    "enum_of",
    "is_number",
    "limit_of",
    "listed",
    "merged",
    "refuses_all",
    "required_of",
    "told",
    "types_of",
]

_MAX_DEPTH: Final = 100
_MAX_TOLD: Final = 80
_EXCLUSIVE: Final = {"exclusiveMinimum": "minimum", "exclusiveMaximum": "maximum"}


def told(value: Any) -> str:
    """Return a value as a message tells it."""
    if value is None:
        return "none"
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= _MAX_TOLD else f"{text[: _MAX_TOLD - 1]}…"


def merged(node: Node, depth: int = 0) -> Node:
    """Return a schema with what its `allOf` says put into it."""
    parts = [one for one in node["allOf"].elements() if isinstance(one.value, dict)]
    if not parts or not isinstance(node.value, dict) or depth > _MAX_DEPTH:
        return node
    made: dict[str, Any] = {}
    for part in (*(merged(one, depth + 1) for one in parts), node):
        told = part.value
        if part.document is not node.document:
            told = part.document.absolute(told)
        for key, value in told.items():
            if key == "properties" and isinstance(value, dict):
                made[key] = {**made.get(key, {}), **value}
            elif key == "required" and isinstance(value, list):
                made[key] = [*made.get(key, []), *value]
            elif key != "allOf":
                made[key] = value
    return Node(node.document, node.pointer, made)


def types_of(node: Node) -> list[str]:
    """Return the types that a value may have, null among them; nothing for any."""
    value = node["type"].value
    types = [value] if isinstance(value, str) else list(value) if isinstance(value, list) else []
    if node["nullable"].value is True and types:
        types = [*types, "null"]
    return sorted({one for one in types if isinstance(one, str)})


def covers(types: Iterable[str], one: str) -> bool:
    """Whether a value of the type `one` has one of `types`."""
    return one in types or (one == "integer" and "number" in types)


def listed(types: Iterable[str]) -> str:
    """Return types in words."""
    return " or ".join(types) or "anything"


def enum_of(node: Node) -> list[Any] | None:
    """Return the values that are listed, null left out; None where none are."""
    if isinstance(node.value, dict) and "const" in node.value:
        return [node.value["const"]]
    value = node["enum"].value
    return [one for one in value if one is not None] if isinstance(value, list) else None


def is_number(value: Any) -> bool:
    """Whether a value is a number, which a bool is not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def limit_of(node: Node, key: str) -> Any:
    """Return a limit; in OpenAPI 3.0 `exclusiveMinimum` is a bool that is said of `minimum`."""
    if key in _EXCLUSIVE:
        value = node[key].value
        return node[_EXCLUSIVE[key]].value if value is True else value
    flag = next((one for one, of in _EXCLUSIVE.items() if of == key), None)
    return None if flag and node[flag].value is True else node[key].value


def required_of(node: Node) -> list[str]:
    """Return the properties that have to be there."""
    value = node["required"].value
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def refuses_all(node: Node) -> bool:
    """Whether a schema is `false`, which no value is valid for."""
    return node.value is False


def alternatives_of(node: Node) -> Mapping[str, Node]:
    """Return alternatives by what identifies them: the name of what they refer to, or a type."""
    found: dict[str, Node] = {}
    for index, one in enumerate(node.elements()):
        raw = node.value[index]
        ref = raw.get("$ref") if isinstance(raw, dict) else None
        title = one["title"].value or listed(types_of(one))
        name = ref.rpartition("/")[2] if isinstance(ref, str) else str(title)
        found.setdefault(name, one)
    return found
