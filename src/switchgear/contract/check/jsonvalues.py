"""What one JSON Schema says, read the same way whichever version of OpenAPI it stands in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from switchgear.contract.check.refs import Node
from switchgear.errors import UnreadableContract

__all__ = [
    "covers",
    "enum_of",
    "is_number",
    "limit_of",
    "listed",
    "merged",
    "open_enum_of",
    "refuses_all",
    "required_of",
    "told",
    "types_of",
]

_MOST_PARTS: Final = 10_000
_MOST_PAIRS: Final = 100
_MAX_TOLD: Final = 80
_EXCLUSIVE: Final = {"exclusiveMinimum": "minimum", "exclusiveMaximum": "maximum"}


def told(value: Any) -> str:
    """Return a value as a message tells it."""
    if value is None:
        return "none"
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= _MAX_TOLD else f"{text[: _MAX_TOLD - 1]}…"


def merged(node: Node) -> Node:
    """Return a schema with what its `allOf` says put into it.

    Raises `UnreadableContract` where that are too many schemas.
    """
    return _merged(node, frozenset(), [_MOST_PARTS])


def _merged(node: Node, above: frozenset[tuple[str, tuple[str, ...]]], left: list[int]) -> Node:
    key = (node.document.name, node.pointer)
    if not isinstance(node.value, dict) or not node["allOf"] or key in above:
        return node
    inside = list(node["allOf"].elements())
    left[0] -= len(inside)
    if left[0] < 0:
        raise UnreadableContract(
            f"One schema has more than {_MOST_PARTS} parts in `allOf`, and in those.",
            where=f"{node.place.path}:{node.place.line}",
        )
    parts = [_merged(one, above | {key}, left) for one in inside]
    if any(refuses_all(one) for one in parts):
        return Node(node.document, node.pointer, False)
    made: dict[str, Any] = {}
    for part in (*(one for one in parts if isinstance(one.value, dict)), node):
        told = part.value
        if part.document is not node.document:
            told = part.document.absolute(told)
        for key, value in told.items():
            if key != "allOf":
                made[key] = _both(key, made[key], value) if key in made else value
    # no value is of two types
    return Node(node.document, node.pointer, False if made.get("type") == [] else made)


def _both(key: str, one: Any, other: Any) -> Any:
    """Return what a keyword says where two schemas of one value say something by it."""
    if key == "type":
        return _types_of_both(_list(one), _list(other))
    if key == "additionalProperties":
        return False if one is False else other
    if key == "properties" and isinstance(one, dict) and isinstance(other, dict):
        twice = {name: {"allOf": [one[name], other[name]]} for name in one if name in other}
        return {
            **one,
            **other,
            **{key: both for key, both in twice.items() if one[key] != other[key]},
        }
    if key in _OF_LISTS and isinstance(one, list) and isinstance(other, list):
        return _OF_LISTS[key](one, other)
    if key in _OF_NUMBERS and is_number(one) and is_number(other):
        return _OF_NUMBERS[key](one, other)
    return other


def _types_of_both(one: list[Any], other: list[Any]) -> list[Any]:
    both = {x for x in one if covers(other, x)} | {x for x in other if covers(one, x)}
    return sorted(x for x in both if isinstance(x, str))


def _pairs(one: list[Any], other: list[Any]) -> list[Any]:
    several = len(one) * len(other) <= _MOST_PAIRS
    return [{"allOf": [x, y]} for x in one for y in other] if several else other


_OF_LISTS: Final[Mapping[str, Callable[[list[Any], list[Any]], list[Any]]]] = {
    "required": lambda one, other: [*one, *other],
    "enum": lambda one, other: [x for x in one if x in other],
    "oneOf": _pairs,
    "anyOf": _pairs,
}
_OF_NUMBERS: Final[Mapping[str, Callable[..., Any]]] = {
    **dict.fromkeys(("minimum", "minLength", "minItems", "minProperties"), max),
    **dict.fromkeys(("maximum", "maxLength", "maxItems", "maxProperties"), min),
}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


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


def open_enum_of(node: Node) -> list[Any] | None:
    """Return the values of `x-extensible-enum`, to which others may be added; None without it."""
    value = node["x-extensible-enum"].value
    return value if isinstance(value, list) else None


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
