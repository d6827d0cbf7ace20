"""`oneOf` and `anyOf`: what a schema stands for, piece by piece.

A value of a schema with alternatives is a value of one of them and of what stands beside them. So
two versions are compatible if each piece of those who write is taken by a piece of those who read,
whether they say it with alternatives or without: `Order` may become `oneOf: [Order, Draft]`, and a
list of types, or of values, alternatives of one each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from switchgear.contract.check.jsonvalues import (
    enum_of,
    listed,
    merged,
    refuses_all,
    told,
    types_of,
)
from switchgear.contract.check.refs import Node

__all__ = ["KEYS", "Piece", "has_alternatives", "pieces_of"]

KEYS: Final = ("oneOf", "anyOf")
_MOST: Final = 64
"""Values of an enumeration that are pieces of their own."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One alternative."""

    name: str
    """The name of what it refers to, its title, or its type."""
    node: Node
    """As it is written."""
    whole: Node
    """With what stands beside the alternatives."""
    key: str = ""
    """`oneOf` or `anyOf`; empty for a schema without them."""

    @property
    def is_null(self) -> bool:
        """Whether it is null and nothing else."""
        return types_of(self.whole) == ["null"]


def has_alternatives(schema: Node) -> bool:
    """Whether a schema has alternatives."""
    return any(isinstance(schema[key].value, list) and schema[key].value for key in KEYS)


def pieces_of(schema: Node) -> list[Piece]:
    """Return the alternatives of a schema; of one without them, its values or types."""
    if has_alternatives(schema):
        return list(_alternatives(schema))
    if not isinstance(schema.value, dict):
        return [Piece(listed(types_of(schema)), schema, schema)]
    values, types = enum_of(schema), types_of(schema)
    # `enum_of` leaves null out, which is a type of its own here
    if values is not None and len(values) <= _MOST and "null" not in types and None not in values:
        return [
            _narrowed(schema, told(one), "const", one, str(index))
            for index, one in enumerate(values)
        ]
    if len(types) > 1:
        return [_narrowed(schema, one, "type", one, one) for one in types]
    return [Piece(listed(types), schema, schema)]


def _alternatives(schema: Node) -> Iterator[Piece]:
    key = next(one for one in KEYS if schema[one].value)
    nodes, seen = schema[key], Counter[str]()
    beside = {name: one for name, one in schema.value.items() if name != key}
    for index, one in enumerate(nodes.elements()):
        if refuses_all(one):
            continue
        raw = nodes.value[index]
        ref = raw.get("$ref") if isinstance(raw, dict) else None
        title = one["title"].value or listed(types_of(one))
        name = ref.rpartition("/")[2] if isinstance(ref, str) else str(title)
        seen[name] += 1
        if seen[name] > 1:
            name = f"{name} {seen[name]}"
        inner = nodes.document.absolute(raw) if nodes.document is not schema.document else raw
        pointer = (*schema.pointer, key, str(index))
        whole = merged(Node(schema.document, pointer, {"allOf": [beside, inner]}))
        yield Piece(name, one, whole, key)


def _narrowed(schema: Node, name: str, key: str, value: Any, step: str) -> Piece:
    made = {name: one for name, one in schema.value.items() if name not in {"enum", "nullable"}}
    node = Node(schema.document, (*schema.pointer, key, step), {**made, key: value})
    return Piece(name, node, node)
