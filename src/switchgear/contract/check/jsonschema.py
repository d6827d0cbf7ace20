"""Two versions of a JSON Schema, compared in the direction in which values travel.

- What is **taken** (a request; an event that a new consumer reads) may be widened: what was valid
  has to stay valid.
- What is **given** (a response; an event that an old consumer reads) may be narrowed: nothing may
  appear that was not valid before.

| changed | taken | given |
| --- | --- | --- |
| a property is gone | a warning; an error if others are refused | an error if it was required |
| a property is required | an error, if it is new only without default | safe |
| a property is not required any more | safe | an error |
| types, formats, constraints | an error if narrower or other | an error if wider or other |
| a value of an enumeration | an error if it is gone | a warning if it is new |
| null | an error if it is gone | an error if it is new |
| an alternative of `oneOf` or `anyOf` | an error if it is gone | an error if it is new |
| a default | an error | safe |
| further properties | an error if they are refused now | safe |
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from switchgear.contract.check.finding import Found, Severity
from switchgear.contract.check.refs import Node
from switchgear.errors import UnreadableContract

__all__ = ["Direction", "SchemaDiff", "told"]

_LOW: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_HIGH: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_EXACT: Final = ("pattern", "multipleOf", "format", "contentEncoding", "contentMediaType")
_MAX_DEPTH: Final = 100
_MAX_TOLD: Final = 80


class Direction(enum.Enum):
    """Who has to live with what the other side writes."""

    TAKEN = "REQUEST"
    GIVEN = "RESPONSE"


@dataclass(slots=True)
class SchemaDiff:
    """One comparison in one direction; what was compared once is not compared again."""

    direction: Direction
    prefix: str
    """What the names of the rules begin with: REQUEST, RESPONSE, EVENT."""
    seen: set[tuple[tuple[str, ...], tuple[str, ...]]] = field(default_factory=set)

    @property
    def taken(self) -> bool:
        """Whether values come from those who know the old version."""
        return self.direction is Direction.TAKEN

    def compare(self, old: Node, new: Node, name: str) -> Iterator[tuple[str, Found]]:
        """Yield rule and finding for each change that breaks; `name` is how it is told."""
        key = (old.pointer, new.pointer)
        if key in self.seen:
            return
        self.seen.add(key)
        if name.count(".") + name.count("[") > _MAX_DEPTH:
            raise UnreadableContract(
                f"Schemas contain each other more than {_MAX_DEPTH} levels deep.",
                where=f"{new.place.path}:{new.place.line}",
            )
        if old.value == new.value and not _has_ref(old.value):
            return
        old, new = _merged(old), _merged(new)
        yield from self._types(old, new, name)
        yield from self._values(old, new, name)
        yield from self._constraints(old, new, name)
        yield from self._alternatives(old, new, name)
        yield from self._properties(old, new, name)
        if old["items"] and new["items"]:
            yield from self.compare(old["items"], new["items"], f"{name}[]")
        before, after = old["additionalProperties"], new["additionalProperties"]
        if isinstance(before.value, dict) and isinstance(after.value, dict):
            yield from self.compare(before, after, f"{name}.*")

    def _found(
        self, rule: str, node: Node, name: str, message: str, edit: str, *, warn: bool = False
    ) -> tuple[str, Found]:
        severity = Severity.WARNING if warn else Severity.ERROR
        return f"{self.prefix}_{rule}", Found(message, edit, node.place, name, severity=severity)

    def _types(self, old: Node, new: Node, name: str) -> Iterator[tuple[str, Found]]:
        before, after = _types_of(old), _types_of(new)
        if _null(before) is not _null(after) and before and after:
            if self.taken and _null(before):
                message = f"{name} may not be null any more."
                yield self._found("NULL_NO_DELETE", new, name, message, "Let it be null again.")
            elif not self.taken and _null(after):
                message = f"{name} may be null now."
                edit = "Leave null out; let the property be absent, or add a property of its own."
                yield self._found("NULL_ADDED", new, name, message, edit)
        narrow, wide = (before, after) if self.taken else (after, before)
        lost = [one for one in narrow if one != "null" and not _covers(wide, one)]
        if (lost and wide) or (narrow == [] and wide):
            yield self._found(
                "SAME_TYPE",
                new,
                name,
                f"{name} was {_listed(before)} and is {_listed(after)}.",
                f"Let it be {_listed(before)} again, and add a property of another name.",
            )

    def _values(self, old: Node, new: Node, name: str) -> Iterator[tuple[str, Found]]:
        before, after = _enum_of(old), _enum_of(new)
        if before is None and after is None:
            return
        if self.taken and after is not None:
            gone = [told(one) for one in before or [] if one not in after]
            if gone or before is None:
                which = ", ".join(gone) or "any value"
                message = f"{name} does not take {which} any more."
                edit = f"Take {which} again, and mark it as deprecated."
                yield self._found("ENUM_VALUE_NO_DELETE", new, name, message, edit)
        if not self.taken and before is not None:
            added = [told(one) for one in after or [] if one not in before]
            if added or after is None:
                which = ", ".join(added) or "any value"
                message = f"{name} may be {which} now."
                edit = "Check that every reader has a branch for values that it does not know."
                warn = after is not None
                yield self._found("ENUM_VALUE_ADDED", new, name, message, edit, warn=warn)

    def _constraints(self, old: Node, new: Node, name: str) -> Iterator[tuple[str, Found]]:
        for key in (*_LOW, *_HIGH, *_EXACT):
            before, after = old[key].value, new[key].value
            if before == after or not self._tighter(key, before, after):
                continue
            verb = "tightened" if self.taken else "loosened"
            if key == "format":
                verb = "changed"
            yield self._found(
                "SAME_FORMAT" if key == "format" else "CONSTRAINT_CHANGED",
                new,
                name,
                f"{name}: {key} was {verb} from {told(before)} to {told(after)}.",
                f"Write {key}: {told(before)} again."
                if before is not None
                else f"Take {key} out again.",
            )
        if self.taken and old["default"] and old["default"].value != new["default"].value:
            yield self._found(
                "SAME_DEFAULT",
                new,
                name,
                f"{name}: the default changed from {told(old['default'].value)} to "
                f"{told(new['default'].value)}.",
                f"Write default: {told(old['default'].value)} again.",
            )

    def _tighter(self, key: str, before: Any, after: Any) -> bool:
        """Whether what one side may write is not what the other side takes."""
        narrow, wide = (after, before) if self.taken else (before, after)
        if key in _EXACT:
            return narrow is not None  # what is not stated is anything
        if not _number(narrow):
            return False
        if not _number(wide):
            return True
        return bool(narrow > wide if key in _LOW else narrow < wide)

    def _alternatives(self, old: Node, new: Node, name: str) -> Iterator[tuple[str, Found]]:
        for key in ("oneOf", "anyOf"):
            before, after = _alternatives_of(old[key]), _alternatives_of(new[key])
            if not before or not after:
                continue
            for which in before.keys() & after.keys():
                yield from self.compare(before[which], after[which], f"{name}({which})")
            lost = [one for one in before if one not in after]
            added = [one for one in after if one not in before]
            changed = lost if self.taken else added
            if changed:
                verb = "is not taken any more" if self.taken else "is new"
                yield self._found(
                    "ALTERNATIVE_NO_DELETE" if self.taken else "ALTERNATIVE_ADDED",
                    new,
                    name,
                    f"{name}: the alternative {', '.join(changed)} {verb}.",
                    "Put it back." if self.taken else "Answer with it on a path of its own.",
                )

    def _properties(self, old: Node, new: Node, name: str) -> Iterator[tuple[str, Found]]:
        hidden = "readOnly" if self.taken else "writeOnly"
        before = {key: one for key, one in old["properties"].items() if not one[hidden].value}
        after = {key: one for key, one in new["properties"].items() if not one[hidden].value}
        needed, needs = _required(old), _required(new)
        closed = new["additionalProperties"].value is False
        for key, one in before.items():
            told_as = f"{name}.{key}"
            if key not in after:
                message = f"{told_as} was deleted."
                edit = f"Put {key} back and mark it as deprecated."
                warn = not closed if self.taken else key not in needed
                yield self._found("PROPERTY_NO_DELETE", new, told_as, message, edit, warn=warn)
                continue
            yield from self.compare(one, after[key], told_as)
            if self.taken and key in needs and key not in needed:
                message = f"{told_as} was optional and is required."
                edit = f"Take {key} out of `required`, or give it a default."
                yield self._found("PROPERTY_REQUIRED", after[key], told_as, message, edit)
            elif not self.taken and key in needed and key not in needs:
                message = f"{told_as} was always there and may be absent now."
                edit = f"Put {key} back into `required`."
                yield self._found("PROPERTY_OPTIONAL", after[key], told_as, message, edit)
        if not self.taken:
            return
        for key in needs:
            if key in after and key not in before and not after[key]["default"]:
                message = f"{name}.{key} is new and required."
                edit = f"Take {key} out of `required`, or give it a default."
                place = after[key]
                yield self._found("PROPERTY_REQUIRED_ADDED", place, f"{name}.{key}", message, edit)
        if closed and old["additionalProperties"].value is not False and before:
            message = f"{name} refuses properties that it does not know now."
            edit = "Take `additionalProperties: false` out again."
            yield self._found("ADDITIONAL_PROPERTIES_REFUSED", new, name, message, edit)


def told(value: Any) -> str:
    """Return a value as a message tells it."""
    if value is None:
        return "none"
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= _MAX_TOLD else f"{text[: _MAX_TOLD - 1]}…"


def _has_ref(value: Any) -> bool:
    return isinstance(value, dict | list) and "$ref" in json.dumps(value, default=str)


def _merged(node: Node, depth: int = 0) -> Node:
    """Return a schema with what its `allOf` says put into it."""
    parts = [one for one in node["allOf"].elements() if isinstance(one.value, dict)]
    if not parts or not isinstance(node.value, dict) or depth > _MAX_DEPTH:
        return node
    merged: dict[str, Any] = {}
    for part in (*(_merged(one, depth + 1) for one in parts), node):
        for key, value in part.value.items():
            if key == "properties" and isinstance(value, dict):
                merged[key] = {**merged.get(key, {}), **value}
            elif key == "required" and isinstance(value, list):
                merged[key] = [*merged.get(key, []), *value]
            elif key != "allOf":
                merged[key] = value
    return Node(node.document, node.pointer, merged)


def _types_of(node: Node) -> list[str]:
    value = node["type"].value
    types = [value] if isinstance(value, str) else list(value) if isinstance(value, list) else []
    if node["nullable"].value is True and types:
        types = [*types, "null"]
    return sorted({one for one in types if isinstance(one, str)})


def _null(types: Iterable[str]) -> bool:
    return "null" in types


def _covers(types: Iterable[str], one: str) -> bool:
    return one in types or (one == "integer" and "number" in types)


def _listed(types: Iterable[str]) -> str:
    return " or ".join(types) or "anything"


def _enum_of(node: Node) -> list[Any] | None:
    if isinstance(node.value, dict) and "const" in node.value:
        return [node.value["const"]]
    value = node["enum"].value
    return [one for one in value if one is not None] if isinstance(value, list) else None


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _required(node: Node) -> list[str]:
    value = node["required"].value
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _alternatives_of(node: Node) -> Mapping[str, Node]:
    """Return alternatives by what identifies them: the name of what they refer to, or a type."""
    found: dict[str, Node] = {}
    for index, one in enumerate(node.elements()):
        raw = node.value[index]
        ref = raw.get("$ref") if isinstance(raw, dict) else None
        title = one["title"].value or _listed(_types_of(one))
        name = ref.rpartition("/")[2] if isinstance(ref, str) else str(title)
        found.setdefault(name, one)
    return found
