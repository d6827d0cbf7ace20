"""Limits of a JSON Schema: which of two is tighter, and values that are beyond one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

from switchgear.contract.check.allof import conjuncts
from switchgear.contract.check.instances import NOTHING, sample
from switchgear.contract.check.jsonvalues import is_number, limit_of, same, speaks_of, types_of
from switchgear.contract.check.patterns import between
from switchgear.contract.check.refs import Node

__all__ = ["beyond", "limits_in", "limits_of", "says_more", "tighter"]

_LOW: Final = frozenset(
    {"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties", "minContains"}
)
_LOWER: Final = ("minimum", "exclusiveMinimum")
_UPPER: Final = ("maximum", "exclusiveMaximum")
_BOUNDS: Final = frozenset((*_LOWER, *_UPPER))
_FLAGS: Final = frozenset({"uniqueItems"})
_LIMITS: Final = (
    *("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties", "minContains"),
    *("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties", "maxContains"),
    *("pattern", "multipleOf", "format", "contentEncoding", "contentMediaType", "uniqueItems"),
)
_EXACT: Final = frozenset({"pattern", "format", "contentEncoding", "contentMediaType"})
_MANY: Final = 64


def limits_in(*schemas: Node) -> list[str]:
    """Return the keywords of limits that merged schemas say something by."""
    parts = [one.value for of in schemas for one in (of, *of["allOf"].elements())]
    said = set[str]().union(*(one for one in parts if isinstance(one, dict)))
    return [key for key in _LIMITS if key in said]


def limits_of(schema: Node, key: str) -> list[Any]:
    """Return all that a merged schema says by a keyword: one limit, or several patterns."""
    limit = limit_of(schema, key)
    return [one for one in (limit, *conjuncts(schema, key)[1:]) if one is not None]


def says_more(key: str, narrow: Node, wide: Node, writer: Node) -> bool:
    """Whether a limit may refuse a value of those who write, as its keyword alone does not tell.

    It does not if it is of another type, if it refuses nothing, or if another keyword says as much:
    of integers, `exclusiveMaximum: 6` is `maximum: 5`.
    """
    types = {one for one in types_of(writer) if one != "null"}
    if types and not any(speaks_of(key, one) for one in types):
        return False
    if key not in _BOUNDS:
        nothing = 1 if key == "multipleOf" and types == {"integer"} else 0
        least = key in _LOW or key == "multipleOf"
        return not (least and limits_of(narrow, key) == [nothing])
    one, other = (_bound(of, key, whole=types == {"integer"}) for of in (narrow, wide))
    return one is not None and (other is None or one > other)


def _bound(schema: Node, key: str, *, whole: bool) -> tuple[float, bool] | None:
    """Return how tight the limit on one side is, and whether it is refused itself."""
    found = []
    sign = 1 if key in _LOW else -1
    for name, strict in zip(_LOWER if key in _LOW else _UPPER, (False, True), strict=True):
        limit = limit_of(schema, name)
        if not is_number(limit):
            continue
        tight = sign * limit
        if whole and math.isfinite(tight):
            found.append((math.floor(tight) + 1 if strict else math.ceil(tight), False))
        else:
            found.append((tight, strict))
    return max(found, default=None)


def tighter(key: str, one: Any, other: Any) -> bool:
    """Whether `one` refuses what `other` takes."""
    if key in _FLAGS:
        return one is True and other is not True
    if key in _EXACT:
        return one is not None and not same(one, other)  # what is not stated is anything
    if not is_number(one):
        return False
    if not is_number(other):
        return True
    if key == "multipleOf":
        whole = isinstance(one, int) and isinstance(other, int) and one > 0
        return one != other and not (whole and other % one == 0)
    return bool(one > other if key in _LOW else one < other)


def beyond(key: str, limit: Any, schema: Node) -> Iterator[Any]:
    """Yield values of a schema that a limit refuses, if there are small ones."""
    if key == "uniqueItems":
        inner = sample(schema["items"])
        yield [inner, inner]
        return
    if key == "pattern":
        yield from between(schema["pattern"].value, limit)
    if key in _EXACT or not is_number(limit):
        return
    if key == "multipleOf":
        yield from (limit + 1, 1, 1.5)
    elif key in {"exclusiveMinimum", "exclusiveMaximum"}:
        yield limit
    elif key == "minimum":
        yield from (limit - 1, limit - 0.5)
    elif key == "maximum":
        yield from (limit + 1, limit + 0.5)
    elif 0 <= limit <= _MANY:
        yield _of_size(key, int(limit) + (-1 if key in _LOW else 1), schema)


def _of_size(key: str, size: int, schema: Node) -> Any:
    if key.endswith("Length"):
        return "a" * size
    if key.endswith("Items"):
        inner = sample(schema["items"])
        return NOTHING if inner is NOTHING else [inner] * size
    made = sample(schema, "object")
    if not key.endswith("Properties") or not isinstance(made, dict):
        return NOTHING
    for index in range(size):
        if len(made) < size:
            made[f"property_{index}"] = 1
    return made
