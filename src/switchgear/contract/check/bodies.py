"""Whole bodies that show a finding.

A value that one schema takes and the other does not is put where it is found, all the way out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final, TypeAlias

from switchgear.contract.check.instances import NOTHING, holds, sample
from switchgear.contract.check.jsonvalues import is_number, limit_of
from switchgear.contract.check.refs import Node
from switchgear.errors import UnreadableContract

__all__ = ["Way", "first_shown", "of_kind", "with_property"]

Way: TypeAlias = tuple[tuple[str, str, Node], ...]
"""The way into a body: of each step what is entered (`property`, `items`), its key, and the schema
of those who write it."""

_MAX_SHOWN: Final = 200


def first_shown(writer: Node, reader: Node, way: Way, values: Iterable[Any]) -> str:
    """Return the first body that those who write may write and those who read refuse, as JSON.

    `values` are tried at the end of `way`. Empty where none does it, or is short.
    """
    with suppress(UnreadableContract):  # what is not compared may refer to nothing
        for one in values:
            body = _embedded(one, way)
            if body is not NOTHING and holds(writer, body) and holds(reader, body) is False:
                text = json.dumps(body, ensure_ascii=False)
                return text if len(text) <= _MAX_SHOWN else ""
    return ""


def of_kind(schema: Node, kind: str) -> Any:
    """Return a value of a type; of numbers one that is no integer, where it can be."""
    return (
        1.5
        if kind == "number" and not is_number(limit_of(schema, "minimum"))
        else sample(schema, kind)
    )


def with_property(schema: Node, key: str, inner: Node | None = None) -> Any:
    """Return a value of a schema with one more property, of a schema of its own."""
    made, value = sample(schema), 1 if inner is None else sample(inner)
    return {**made, key: value} if isinstance(made, dict) and value is not NOTHING else NOTHING


def _embedded(value: Any, way: tuple[tuple[str, str, Node], ...]) -> Any:
    """Put a value where it is found: into an object, a list, all the way out."""
    for kind, key, schema in reversed(way):
        if value is NOTHING:
            return NOTHING
        around = sample(schema, {"items": "array", "prefixItems": "array"}.get(kind, ""))
        if kind in {"property", "additionalProperties"}:
            name = key or "something_else"
            value = {**around, name: value} if isinstance(around, dict) else NOTHING
        elif kind == "items":
            value = [value, *around[1:]] if isinstance(around, list) else NOTHING
        elif kind == "prefixItems":
            before = [sample(one) for one in schema["prefixItems"].elements()][: int(key)]
            value = NOTHING if NOTHING in before else [*before, value]
        elif kind not in {"oneOf", "anyOf"}:
            return NOTHING
    return value
