"""What several JSON Schemas of one value say together: `allOf`, and what stands beside a `$ref`.

| keywords | together |
| --- | --- |
| `type`, `enum`, `const` | what is in both; where nothing is, the schema is `false` |
| limits from below, from above | the higher, the lower |
| `multipleOf` of integers | their least common multiple |
| `required`, `uniqueItems` | what either asks for |
| `items`, further properties, names | `allOf` of both |
| `properties`, `patternProperties`, `prefixItems` | `allOf` of both, where both say something |
| `not` | `anyOf` of both, since neither may be |
| `oneOf`, `anyOf` | each of the one with each of the other |
| `pattern`, `format`, `contains`, encodings, very many alternatives | one stays in `allOf` |

Of all other keywords, what stands further out is taken. So in a schema that was merged, `allOf`
holds parts with one keyword each, which say what has no combined form.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from switchgear.contract.check.jsonvalues import canonical, covers, is_number, refuses_all
from switchgear.contract.check.refs import Node
from switchgear.errors import UnreadableContract

__all__ = ["conjuncts", "merged", "parts_with"]

_MOST_PARTS: Final = 10_000
_MOST_LEVELS: Final = 50
_MOST_PAIRS: Final = 100
_BESIDE: Final = object()
"""Two have no combined form."""
_NOWHERE: Final = object()
"""No value is valid for both."""


def merged(node: Node) -> Node:
    """Return a schema with what its `allOf` says put into it.

    Raises `UnreadableContract` where that are too many schemas, or one in the other too often.
    """
    return _merged(node, frozenset(), [_MOST_PARTS])


def conjuncts(node: Node, key: str) -> list[Any]:
    """Return all that a merged schema says by one keyword."""
    told = [node[key].value, *(one[key].value for one in node["allOf"].elements())]
    return [one for one in told if one is not None]


def parts_with(node: Node, key: str) -> list[Node]:
    """Return the parts that were left beside a merged schema, which say something by a keyword."""
    return [one for one in node["allOf"].elements() if one[key]]


def _merged(node: Node, above: frozenset[tuple[str, tuple[str, ...]]], left: list[int]) -> Node:
    key = (node.document.name, node.pointer)
    if not isinstance(node.value, dict) or not node["allOf"]:
        return node
    own = {name: one for name, one in node.value.items() if name != "allOf"}
    if key in above:
        return replace(node, value=own, made=True)
    if len(above) >= _MOST_LEVELS:
        raise UnreadableContract(
            f"`allOf` is nested more than {_MOST_LEVELS} levels deep.",
            where=f"{node.place.path}:{node.place.line}",
            fix="Let schemas take in what they are made of more directly.",
        )
    inside = list(node["allOf"].elements())
    left[0] -= len(inside)
    if left[0] < 0:
        raise UnreadableContract(
            f"One schema has more than {_MOST_PARTS} parts in `allOf`, and in those.",
            where=f"{node.place.path}:{node.place.line}",
        )
    parts = [_merged(one, above | {key}, left) for one in inside]
    if any(refuses_all(one) for one in parts):
        return replace(node, value=False)
    made: dict[str, Any] = {}
    beside: dict[str, Any] = {}
    for part in (*(one for one in parts if isinstance(one.value, dict)), replace(node, value=own)):
        told = part.value
        if part.document is not node.document:
            told = part.document.absolute(told)
        if not _put(told, made, beside):
            return replace(node, value=False)
    rest = {"allOf": list(beside.values())} if beside else {}
    return replace(node, value=made | rest, made=True)


def _put(told: dict[str, Any], made: dict[str, Any], beside: dict[str, Any]) -> bool:
    """Put a schema into what others have made; whether a value may be valid for all of them."""
    beside |= {canonical(one): one for one in told.get("allOf", ())}
    for name, value in told.items():
        if name == "allOf":
            continue
        both = _both(name, made[name], value) if name in made else value
        if both is _NOWHERE:
            return False
        if both is _BESIDE:
            beside[canonical({name: made[name]})] = {name: made[name]}
        made[name] = value if both is _BESIDE else both
    return True


def _both(key: str, one: Any, other: Any) -> Any:
    """Return what a keyword says where two schemas of one value say something by it."""
    if key == "type":
        return _types_of_both(_list(one), _list(other)) or _NOWHERE
    if key in _ANY and canonical(one) != canonical(other):
        return _ANY[key](one, other)
    if key in _OF_OBJECTS and isinstance(one, dict) and isinstance(other, dict):
        twice = {name: _schemas(one[name], other[name]) for name in one if name in other}
        return {**one, **other, **twice}
    if key in _OF_LISTS and isinstance(one, list) and isinstance(other, list):
        return _OF_LISTS[key](one, other)
    if key in _OF_NUMBERS and is_number(one) and is_number(other):
        return _OF_NUMBERS[key](one, other)
    return other


def _types_of_both(one: list[Any], other: list[Any]) -> list[Any]:
    both = {x for x in one if covers(other, x)} | {x for x in other if covers(one, x)}
    return sorted(x for x in both if isinstance(x, str))


def _schemas(one: Any, other: Any) -> Any:
    """Return a schema that says what two say."""
    if one is False or other is False:
        return False
    if one is True or other is True:
        return other if one is True else one
    return one if canonical(one) == canonical(other) else {"allOf": [one, other]}


def _first_parts(one: list[Any], other: list[Any]) -> list[Any]:
    least = min(len(one), len(other))
    both = [_schemas(*two) for two in zip(one, other, strict=False)]
    return [*both, *one[least:], *other[least:]]


def _values(one: list[Any], other: list[Any]) -> Any:
    known = set(map(canonical, other))
    return [value for value in one if canonical(value) in known] or _NOWHERE


def _pairs(one: list[Any], other: list[Any]) -> Any:
    if canonical(one) == canonical(other):
        return other
    several = len(one) * len(other) <= _MOST_PAIRS
    return [{"allOf": [x, y]} for x in one for y in other] if several else _BESIDE


def _multiple(one: Any, other: Any) -> Any:
    whole = isinstance(one, int) and isinstance(other, int) and one > 0 and other > 0
    return math.lcm(one, other) if whole else other if one == other else _BESIDE


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _stays(_: Any, __: Any) -> Any:
    return _BESIDE


_ANY: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "const": lambda _, __: _NOWHERE,
    "not": lambda one, other: {"anyOf": [one, other]},
    "uniqueItems": lambda one, other: one is True or other is True,
    **dict.fromkeys(("items", "additionalProperties", "propertyNames"), _schemas),
    **dict.fromkeys(("unevaluatedItems", "unevaluatedProperties"), _schemas),
    **dict.fromkeys(("pattern", "format", "contains"), _stays),
    **dict.fromkeys(("contentEncoding", "contentMediaType"), _stays),
}
"""What is said of two that differ."""
_OF_OBJECTS: Final = frozenset({"properties", "patternProperties"})
_OF_LISTS: Final[Mapping[str, Callable[[list[Any], list[Any]], Any]]] = {
    "required": lambda one, other: [*one, *other],
    "enum": _values,
    "oneOf": _pairs,
    "anyOf": _pairs,
    "prefixItems": _first_parts,
}
_OF_NUMBERS: Final[Mapping[str, Callable[..., Any]]] = {
    **dict.fromkeys(("minimum", "minLength", "minItems", "minProperties"), max),
    **dict.fromkeys(("maximum", "maxLength", "maxItems", "maxProperties"), min),
    "exclusiveMinimum": max,
    "exclusiveMaximum": min,
    "multipleOf": _multiple,
}
