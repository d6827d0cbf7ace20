"""A schema in the form in which it is compared: what can be said in several ways is said in one.

| said | is compared as |
| --- | --- |
| `const`, `enum`, `nullable` beside them | `enum` of what the types let through, null among it |
| types beside values | the types of those values: `enum: [a]` is `type: string, enum: [a]` |
| both values of a boolean; null alone | `type: boolean`; `type: null` |
| keywords that ask for nothing: `not: false`, `dependentRequired: {}` | nothing |

What alternatives say of types and values is `alternatives`' business, since each is brought into
this form; of limits it is that of `limits`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from switchgear.contract.check.jsonvalues import is_number, is_of, is_whole, same, types_of
from switchgear.contract.check.refs import Node

__all__ = ["normal"]

_ODD: Final = frozenset({"const", "enum", "not", "dependentRequired", "dependentSchemas"})
_KINDS: Final[Mapping[type, str]] = {
    bool: "boolean",
    str: "string",
    list: "array",
    dict: "object",
    type(None): "null",
}


def normal(node: Node) -> Node:
    """Return a merged schema in that form."""
    told = node.value
    if not isinstance(told, dict) or _ODD.isdisjoint(told):
        return node
    made = {key: one for key, one in told.items() if not _says_nothing(key, one)}
    values = _values(node)
    if values:
        made = {key: one for key, one in made.items() if key not in {"const", "nullable"}}
        types = _types(values)
        made |= {"type": types, "enum": values}
        if values == [None] or (types[0] == "boolean" and _are_all(values, types)):
            del made["enum"]
    elif "const" in told:  # one that the rest does not let through, as by a slip
        del made["const"]
        made["enum"] = [told["const"]]
    return replace(node, value=made)


def _says_nothing(key: str, value: Any) -> bool:
    if key == "not":
        return value is False
    return key in {"dependentRequired", "dependentSchemas"} and not value


def _values(node: Node) -> list[Any]:
    """Return the values that are listed and let through; nothing where none are."""
    listed, types = node["enum"].value, types_of(node)
    values = list(listed) if isinstance(listed, list) else []
    if "const" in node.value:
        const = node.value["const"]
        values = [const] if not values or any(same(const, one) for one in values) else []
    if types:
        values = [one for one in values if any(is_of(one, kind) for kind in types)]
    nullable = node["nullable"].value is True and bool(types) and bool(values)
    return [*values, None] if nullable and None not in values else values


def _types(values: Iterable[Any]) -> list[str]:
    """Return the types that values have; integers are numbers where others are."""
    found = {
        ("integer" if is_whole(one) else "number") if is_number(one) else _KINDS[type(one)]
        for one in values
    }
    return sorted(found - {"integer"} if "number" in found else found)


def _are_all(values: list[Any], types: list[str]) -> bool:
    """Whether values are all that there are of `types`: both of a boolean, and perhaps null."""
    both = {True, False} <= {one for one in values if isinstance(one, bool)}
    return both and set(types) <= {"boolean", "null"}
