"""JSON that shows a finding: valid for the one schema and not for the other.

`sample` makes a small value that a schema is likely to take, and `holds` says whether a schema
takes a value: yes, no, or None where it cannot tell (some patterns, a format, a keyword that it
does not know). A value is shown only where both answers are known, so what is shown is true; a test
asks a complete validator.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from switchgear.contract.check.allof import merged
from switchgear.contract.check.jsonvalues import (
    is_number,
    is_of,
    is_whole,
    limit_of,
    refuses_all,
    required_of,
    said,
    same,
    types_of,
)
from switchgear.contract.check.patterns import having, matches
from switchgear.contract.check.refs import Node

__all__ = ["NOTHING", "holds", "sample"]

NOTHING: Final = object()
"""There is no sample."""

_DEPTH: Final = 40
_MOST: Final = 1000
_LONG: Final = 2000
_UNKNOWN: Final = frozenset(
    {"if", "contains", "patternProperties", "propertyNames", "dependentRequired"}
    | {"dependentSchemas", "unevaluatedProperties", "unevaluatedItems", "$dynamicRef", "not"}
    | {"contentEncoding", "contentMediaType", "dependencies", "additionalItems"}
)
_FORMATS: Final = {
    "date": "2024-02-29",
    "date-time": "2024-02-29T12:00:00Z",
    "time": "12:00:00Z",
    "uuid": "6ba7b810-9dad-41d1-80b4-00c04fd430c8",
    "email": "a@example.org",
    "uri": "https://example.org/",
    "ipv4": "192.0.2.1",
    "int32": 1,
    "int64": 1,
    "float": 1.5,
    "double": 1.5,
}


class _Steps:
    """How far a value is looked for: schemas may contain each other, and more than once."""

    def __init__(self) -> None:
        self._left = _MOST
        self._depth = 0

    def __enter__(self) -> bool:
        """Go one level down; whether that is still allowed."""
        self._left -= 1
        self._depth += 1
        return self._left > 0 and self._depth <= _DEPTH

    def __exit__(self, *error: object) -> None:
        self._depth -= 1


def sample(schema: Node, kind: str = "") -> Any:
    """Return a small value of a schema, of the type `kind` if one is named; `NOTHING` for none."""
    return _sample(schema, kind, _Steps())


def _sample(schema: Node, kind: str, steps: _Steps) -> Any:
    with steps as allowed:
        return _one(schema, kind, steps) if allowed else NOTHING


def _one(schema: Node, kind: str, steps: _Steps) -> Any:
    schema = merged(schema)
    told = schema.value
    if refuses_all(schema):
        return NOTHING
    if not isinstance(told, dict):
        return _of_type(schema, kind or "integer", steps)
    if not kind and "const" in told:
        return told["const"]
    values = told.get("enum")
    if isinstance(values, list):
        return next((one for one in values if not kind or is_of(one, kind)), NOTHING)
    types = types_of(schema)
    if not kind and not types:
        for key in ("oneOf", "anyOf"):
            for one in schema[key].elements():
                return _sample(one, kind, steps)
    first = kind or next((one for one in types if one != "null"), "null" if types else "")
    return _of_type(schema, first or ("object" if "properties" in told else "string"), steps)


def _of_type(schema: Node, kind: str, steps: _Steps) -> Any:
    if kind in {"integer", "number"}:
        return _number(schema, kind)
    if kind == "string":
        return _text(schema)
    if kind == "array":
        return _array(schema, steps)
    if kind == "object":
        return _object(schema, steps)
    return {"boolean": True, "null": None}.get(kind, NOTHING)


def _number(schema: Node, kind: str) -> Any:
    low, high = limit_of(schema, "minimum"), limit_of(schema, "maximum")
    above, below = (limit_of(schema, one) for one in ("exclusiveMinimum", "exclusiveMaximum"))
    if is_number(low) or is_number(above):
        value = low if is_number(low) else above + 1
    elif is_number(high) or is_number(below):
        value = high if is_number(high) else below - 1
    else:
        step = said(schema, "multipleOf")
        value = step if is_number(step) else 1
    return int(value) if kind == "integer" and is_whole(value) else value


def _text(schema: Node) -> Any:
    form = said(schema, "format")
    if isinstance(form, str) and isinstance(_FORMATS.get(form), str):
        return _FORMATS[form]
    if schema["pattern"]:
        least, most = _count(schema["minLength"], 0), _count(schema["maxLength"], _LONG)
        texts = having(schema["pattern"].value)
        return next((one for one in texts if least <= len(one) <= most), NOTHING)
    size = _count(schema["minLength"], min(1, _count(schema["maxLength"], 1)))
    return "a" * size if size <= _LONG else NOTHING


def _array(schema: Node, steps: _Steps) -> Any:
    least = min(_count(schema["minItems"], 0), _LONG)
    parts = list(schema["prefixItems"].elements())[:least]
    made = [_sample(one, "", steps) for one in parts]
    rest = least - len(parts)
    made += [_sample(schema["items"], "", steps)] * rest if rest else []
    return NOTHING if NOTHING in made else made


def _object(schema: Node, steps: _Steps) -> Any:
    made = {}
    for key in required_of(schema):
        inner = schema["properties"][key]
        made[key] = _sample(inner, "", steps) if inner else 1
    return NOTHING if NOTHING in made.values() else made


def _count(node: Node, otherwise: int) -> int:
    """Return a limit that counts something."""
    value = node.value
    return int(value) if is_number(value) and 0 <= value <= _LONG + 1 else otherwise


def holds(schema: Node, value: Any) -> bool | None:
    """Whether a value is valid for a schema; None where that is not known."""
    return _holds(schema, value, _Steps())


def _holds(schema: Node, value: Any, steps: _Steps) -> bool | None:
    with steps as allowed:
        return _judged(schema, value, steps) if allowed else None


def _judged(schema: Node, value: Any, steps: _Steps) -> bool | None:
    if schema.value is None or isinstance(schema.value, bool):
        return schema.value is not False
    if not isinstance(schema.value, dict):
        return None
    known = not _UNKNOWN & schema.value.keys()
    for one in _told(schema, value, steps):
        if one is False:  # whatever else is not known
            return False
        known = known and one is True
    return True if known else None


def _told(schema: Node, value: Any, steps: _Steps) -> Iterator[bool | None]:
    """Yield what each keyword says of a value."""
    types = types_of(schema)
    if types:
        yield any(is_of(value, one) for one in types)
    if "const" in schema.value:
        yield same(schema.value["const"], value)
    if isinstance(schema.value.get("enum"), list):
        yield any(same(one, value) for one in schema.value["enum"])
    if is_number(value):
        yield from _told_of_number(schema, value)
    elif isinstance(value, str):
        yield from _within(schema, len(value), "Length")
        form = said(schema, "format")
        yield True if not form or _FORMATS.get(str(form)) == value else None
        if schema["pattern"]:
            yield matches(schema["pattern"].value, value)
    elif isinstance(value, list | dict):
        yield from _told_of_parts(schema, value, steps)
    yield from _told_of_alternatives(schema, value, steps)


def _told_of_parts(
    schema: Node, value: list[Any] | dict[str, Any], steps: _Steps
) -> Iterator[bool | None]:
    if isinstance(value, list):
        yield from _within(schema, len(value), "Items")
        yield not said(schema, "uniqueItems") or len(value) <= 1 or None
        prefix = list(schema["prefixItems"].elements())
        for index, one in enumerate(value):
            yield _holds(prefix[index] if index < len(prefix) else schema["items"], one, steps)
        return
    yield from _within(schema, len(value), "Properties")
    yield all(key in value for key in required_of(schema))
    known = schema["properties"]
    for key, one in value.items():
        yield _holds(known[key] if key in known else schema["additionalProperties"], one, steps)


def _told_of_number(schema: Node, value: float) -> Iterator[bool | None]:
    low, above = limit_of(schema, "minimum"), limit_of(schema, "exclusiveMinimum")
    high, below = limit_of(schema, "maximum"), limit_of(schema, "exclusiveMaximum")
    yield not is_number(low) or value >= low
    yield not is_number(above) or value > above
    yield not is_number(high) or value <= high
    yield not is_number(below) or value < below
    step = said(schema, "multipleOf")
    if is_number(step):
        whole = isinstance(step, int) and isinstance(value, int) and step > 0
        yield value % step == 0 if whole else None


def _within(schema: Node, size: int, what: str) -> Iterator[bool | None]:
    low, high = said(schema, f"min{what}"), said(schema, f"max{what}")
    yield not is_number(low) or size >= low
    yield not is_number(high) or size <= high


def _told_of_alternatives(schema: Node, value: Any, steps: _Steps) -> Iterator[bool | None]:
    for one in schema["allOf"].elements():
        yield _holds(one, value, steps)
    for key in ("anyOf", "oneOf"):
        if not isinstance(said(schema, key), list):
            continue
        told = [_holds(one, value, steps) for one in schema[key].elements()]
        count = told.count(True)
        if key == "anyOf" and count:
            yield True
        elif key == "oneOf" and count > 1:
            yield False
        elif None in told:
            yield None
        else:
            yield count == 1
