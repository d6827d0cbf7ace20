"""What one JSON Schema says, read the same way whichever version of OpenAPI it stands in."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from switchgear.contract.check.refs import Node

__all__ = [
    "canonical",
    "covers",
    "enum_of",
    "is_number",
    "is_of",
    "is_whole",
    "limit_of",
    "listed",
    "open_enum_of",
    "refuses_all",
    "required_of",
    "said",
    "same",
    "speaks_of",
    "takes_null",
    "told",
    "types_of",
]

_MAX_TOLD: Final = 80
_EXCLUSIVE: Final = {"exclusiveMinimum": "minimum", "exclusiveMaximum": "maximum"}


def told(value: Any) -> str:
    """Return a value as a message tells it."""
    if value is None:
        return "none"
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= _MAX_TOLD else f"{text[: _MAX_TOLD - 1]}…"


def canonical(value: Any) -> str:
    """Return a text that two values share if they are one in JSON: 1 is 1.0, and is not true."""
    return json.dumps(_plain(value), sort_keys=True, default=str)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return {key: _plain(one) for key, one in value.items()} if isinstance(value, dict) else value


def same(one: Any, other: Any) -> bool:
    """Whether two values are one in JSON."""
    return bool(one == other) and canonical(one) == canonical(other)


def said(node: Node, key: str) -> Any:
    """Return what a schema says by a keyword that holds no schema; None where it says nothing."""
    return node.value.get(key) if isinstance(node.value, dict) else None


def types_of(node: Node) -> list[str]:
    """Return the types that a value may have, null among them; nothing for any."""
    value = said(node, "type")
    types = [value] if isinstance(value, str) else list(value) if isinstance(value, list) else []
    if said(node, "nullable") is True and types:
        types = [*types, "null"]
    return sorted({one for one in types if isinstance(one, str)})


_OF_TYPES: Final = {
    "array": {"items", "prefixItems", "contains", "uniqueItems", "unevaluatedItems"}
    | {"minItems", "maxItems", "minContains", "maxContains", "additionalItems"},
    "object": {"properties", "patternProperties", "additionalProperties", "propertyNames"}
    | {"required", "minProperties", "maxProperties", "unevaluatedProperties", "discriminator"}
    | {"dependentRequired", "dependentSchemas", "dependencies"},
    "string": {"minLength", "maxLength", "pattern", "format"}
    | {"contentEncoding", "contentMediaType", "contentSchema"},
    "number": {
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "format",
    },
}
_OF_ONE: Final = frozenset().union(*_OF_TYPES.values())


def speaks_of(key: str, kind: str) -> bool:
    """Whether a keyword says anything of values of a type."""
    kind = "number" if kind == "integer" else kind
    return key not in _OF_ONE or key in _OF_TYPES.get(kind, ())


def is_of(value: Any, kind: str) -> bool:
    """Whether a value has a type."""
    if kind in {"integer", "number"}:
        return is_number(value) and (kind == "number" or is_whole(value))
    return {
        "string": isinstance(value, str),
        "boolean": isinstance(value, bool),
        "null": value is None,
        "array": isinstance(value, list),
        "object": isinstance(value, dict),
    }.get(kind, False)


def is_whole(value: Any) -> bool:
    """Whether a number is an integer, as 1.0 is in JSON."""
    return isinstance(value, int) or (is_number(value) and value.is_integer())


def covers(types: Iterable[str], one: str) -> bool:
    """Whether a value of the type `one` has one of `types`."""
    return one in types or (one == "integer" and "number" in types)


def listed(types: Iterable[str]) -> str:
    """Return types in words."""
    return " or ".join(types) or "anything"


def enum_of(node: Node) -> list[Any] | None:
    """Return the values that a schema lists, null left out; None where none are.

    The schema is in its normal form, as it is for `takes_null`.
    """
    value = said(node, "enum")
    return [one for one in value if one is not None] if isinstance(value, list) else None


def takes_null(node: Node) -> bool | None:
    """Whether null may be there; None where neither types nor values are listed."""
    types = types_of(node)
    return "null" in types if types else None


def open_enum_of(node: Node) -> list[Any] | None:
    """Return the values of `x-extensible-enum`, to which others may be added; None without it."""
    value = said(node, "x-extensible-enum")
    return value if isinstance(value, list) else None


def is_number(value: Any) -> bool:
    """Whether a value is a number, which a bool is not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def limit_of(node: Node, key: str) -> Any:
    """Return a limit; in OpenAPI 3.0 `exclusiveMinimum` is a bool that is said of `minimum`."""
    if key in _EXCLUSIVE:
        value = said(node, key)
        return said(node, _EXCLUSIVE[key]) if value is True else value
    flag = next((one for one, of in _EXCLUSIVE.items() if of == key), None)
    return None if flag and said(node, flag) is True else said(node, key)


def required_of(node: Node) -> list[str]:
    """Return the properties that have to be there."""
    value = said(node, "required")
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def refuses_all(node: Node) -> bool:
    """Whether a schema is `false`, which no value is valid for."""
    return node.value is False
