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
| an alternative of `oneOf` or `anyOf` | an error if no other takes it | an error if it is in none |
| a default | an error | safe |
| further properties | an error if they are refused now | safe |

Items, parts of a tuple, further properties, names of properties and what `contains` asks for are
schemas of their own; what stands under `not` is compared the other way round. Of `if` it is told
that it changed.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Final

from switchgear.contract.check.allof import merged, parts_with
from switchgear.contract.check.alternatives import (
    compare_discriminators,
    compare_pieces,
    has_alternatives,
)
from switchgear.contract.check.bodies import Way, first_shown
from switchgear.contract.check.finding import Found, Severity
from switchgear.contract.check.instances import sample
from switchgear.contract.check.jsonvalues import (
    canonical,
    covers,
    refuses_all,
    same,
    types_of,
)
from switchgear.contract.check.normal import normal
from switchgear.contract.check.properties import compare_properties, compare_undeclared
from switchgear.contract.check.refs import Node
from switchgear.contract.check.shared import is_shared, told_of_parts
from switchgear.contract.check.values import (
    compare_default,
    compare_limits,
    compare_types,
    compare_values,
)
from switchgear.contract.check.walk import Walk
from switchgear.errors import UnreadableContract

__all__ = ["Direction", "Pair", "SchemaDiff"]

_INNER: Final = {
    "items": "[]",
    "additionalProperties": ".*",
    "contains": "[contains]",
    "propertyNames": " names",
}
"""Keywords with one schema, and how what is inside is told."""
_MAX_DEPTH: Final = 100


class Direction(enum.Enum):
    """Who has to live with what the other side writes."""

    TAKEN = "REQUEST"
    GIVEN = "RESPONSE"

    @property
    def other(self) -> Direction:
        """The other way round."""
        return Direction.GIVEN if self is Direction.TAKEN else Direction.TAKEN


@dataclass(frozen=True, slots=True)
class Pair:
    """Two schemas of one thing, and the way to them from the outermost."""

    old: Node
    new: Node
    name: str
    """How it is told."""
    way: Way = ()
    part: tuple[str, int] = ("", 0)
    """The shared schema that it is inside of, and how much of the name leads there."""

    def under(self, old: Node, new: Node, name: str, *step: str, writer: Node) -> Pair:
        """Return what is inside."""
        kind, key = step
        return Pair(old, new, f"{self.name}{name}", (*self.way, (kind, key, writer)), self.part)


@dataclass(slots=True)
class Effort:
    """What is left of what one comparison may do, its trials included."""

    pairs: int = 50_000
    witnesses: int = 100
    """Findings that a body is looked for."""

    def spend(self, at: Node) -> None:
        """Count one pair of schemas; raises `UnreadableContract` after the last."""
        self.pairs -= 1
        if self.pairs < 0:
            raise UnreadableContract(
                "Too many pairs of alternatives would have to be compared.",
                where=f"{at.place.path}:{at.place.line}",
                fix="Give the alternatives names by `$ref` or `title`, or nest them less.",
            )


@dataclass(slots=True)
class SchemaDiff:
    """One comparison in one direction; see `walk` for what it meets more than once."""

    direction: Direction
    prefix: str
    """What the names of the rules begin with: REQUEST, RESPONSE, EVENT."""
    walk: Walk = field(default_factory=Walk)
    tried: dict[tuple[object, ...], list[tuple[str, Found]]] = field(default_factory=dict)
    """What was found of pairs of alternatives."""
    effort: Effort = field(default_factory=Effort)
    parts: dict[tuple[object, ...], list[tuple[str, Found]]] = field(default_factory=dict)
    """What was found of parts that others refer to."""
    inline: bool = False
    """Whether what is compared leaves out what it refers to."""
    _whole: tuple[Node, Node] | None = None

    @property
    def taken(self) -> bool:
        """Whether values come from those who know the old version."""
        return self.direction is Direction.TAKEN

    @property
    def shows(self) -> bool:
        """Whether bodies are looked for that show what is found, which a trial does not need."""
        return self._whole is not None

    def compare(self, old: Node, new: Node, name: str) -> Iterator[tuple[str, Found]]:
        """Yield rule and finding for each change that breaks; `name` is how it is told."""
        self._whole = (old, new)
        yield from self.inside(Pair(old, new, name))

    def inside(self, pair: Pair) -> Iterator[tuple[str, Found]]:
        """Yield rule and finding for each change of a pair inside the two that are compared."""
        old, new = pair.old, pair.new
        if same(old.value, new.value) and not _has_ref(old.value):
            return
        if self.inline and pair.part[0] and is_shared(new):
            return
        key = _key(pair)
        if not self.walk.enters(key):
            return
        if len(pair.way) > _MAX_DEPTH:
            raise UnreadableContract(
                f"Schemas contain each other more than {_MAX_DEPTH} levels deep.",
                where=f"{new.place.path}:{new.place.line}",
            )
        self.effort.spend(new)
        told = False
        found = self._within(pair)
        if self.shows:
            found = told_of_parts(self, pair, found)
        for one in found:
            told = True
            yield one
        self.walk.leaves(key, told=told)

    def _within(self, pair: Pair) -> Iterator[tuple[str, Found]]:
        old, new, name = pair.old, pair.new, pair.name
        part = (new.pointer[-1], len(name)) if is_shared(new) else pair.part
        old, new = normal(merged(old)), normal(merged(new))
        pair = replace(pair, old=old, new=new, part=part)
        narrow, wide = (new, old) if self.taken else (old, new)
        if refuses_all(narrow) and not refuses_all(wide):
            message = (
                f"{name} takes nothing any more." if self.taken else f"{name} was never there."
            )
            shown = [sample(wide)]
            yield self.told("SAME_TYPE", pair, message, "Put its schema back.", shown=shown)
        if refuses_all(old) or refuses_all(new):
            return
        if has_alternatives(pair.old) is not has_alternatives(pair.new):
            yield from compare_pieces(self, pair)
            yield from compare_default(self, pair)
            return
        yield from compare_types(self, pair)
        if _is_another(types_of(pair.old), types_of(pair.new)):
            return
        yield from compare_values(self, pair)
        yield from compare_limits(self, pair)
        yield from compare_default(self, pair)
        yield from self._alternatives(pair)
        yield from compare_properties(self, pair)
        yield from compare_undeclared(self, pair)
        yield from self._inner(pair)
        yield from self._conditions(pair)

    def writer(self, pair: Pair) -> Node:
        """Return the schema of those who write."""
        return pair.old if self.taken else pair.new

    def told(
        self,
        rule: str,
        pair: Pair,
        message: str,
        edit: str,
        *,
        warn: bool = False,
        shown: Iterable[Any] = (),
        at: tuple[Node, str] | None = None,
    ) -> tuple[str, Found]:
        """Return rule and finding; of values `shown`, the first that shows it is its witness."""
        place, subject = at or (pair.new, pair.name)
        severity = Severity.WARNING if warn else Severity.ERROR
        witness = ""
        if self._whole is not None and not warn and self.effort.witnesses > 0:
            self.effort.witnesses -= 1
            writer, reader = self._whole if self.taken else self._whole[::-1]
            end = "was valid and is refused now"
            if not self.taken:
                end = "was not valid and may be given now"
            body = first_shown(writer, reader, pair.way, shown)
            witness = f"{body} {end}" if body else ""
        part, start = pair.part
        found = Found(
            message,
            edit,
            place.place,
            subject,
            severity=severity,
            witness=witness,
            shared=f"{part}{subject[start:]}" if part else "",
            reaches=subject[:start],
        )
        return f"{self.prefix}_{rule}", found

    def _alternatives(self, pair: Pair) -> Iterator[tuple[str, Found]]:
        if has_alternatives(pair.old):
            yield from compare_pieces(self, pair)
        yield from self._beside(pair)
        yield from compare_discriminators(self, pair)

    def _beside(self, pair: Pair) -> Iterator[tuple[str, Found]]:
        """Compare what has no combined form with what else is said of the same value."""
        for key in ("oneOf", "anyOf", "contains"):
            before, after = (parts_with(one, key) for one in (pair.old, pair.new))
            if key == "contains" and (before or after):
                before, after = [pair.old, *before], [pair.new, *after]
                before, after = ([one[key] for one in of if one[key]] for of in (before, after))
            name = "[contains]" if key == "contains" else ""
            for inner in _aligned(before, after):
                yield from self.inside(pair.under(*inner, name, key, "", writer=self.writer(pair)))
            if (len(after) > len(before)) is self.taken and len(before) != len(after):
                verb = "asks for more" if self.taken else "lets more through"
                message = f"{pair.name}: `{key}` {verb} than before."
                yield self.told("CONSTRAINT_CHANGED", pair, message, f"Write `{key}` as it was.")

    def trial(
        self, direction: Direction, pair: Pair, *, most: int | None = None
    ) -> list[tuple[str, Found]]:
        """Return what is found of a pair, or the first `most`; each is tried once.

        One that is still under way, as schemas that contain themselves have it, finds nothing.
        """
        old, new = pair.old, pair.new
        # by what they say: where a piece was put together tells nothing
        told = (canonical(one.value) for one in (old, new))
        key = (old.document.name, new.document.name, direction, most, *told)
        if key not in self.tried:
            self.tried[key] = []
            self.tried[key] = list(islice(self.told_of(direction, pair), most))
        return self.tried[key]

    def told_of(self, direction: Direction, pair: Pair) -> Iterator[tuple[str, Found]]:
        """Yield what is found of a pair by itself."""
        trial = SchemaDiff(direction, self.prefix, tried=self.tried, effort=self.effort)
        return trial.inside(pair)

    def alone(self, pair: Pair) -> list[tuple[str, Found]]:
        """Return what is found of a pair that is a part of another one, each looked at once.

        What is found of schemas that the part refers to is theirs, and left out.
        """
        key = _key(pair)
        if key not in self.parts:
            part = SchemaDiff(self.direction, self.prefix, inline=True)
            self.parts[key] = list(part.inside(pair))
        return self.parts[key]

    def _inner(self, pair: Pair) -> Iterator[tuple[str, Found]]:
        """Compare the schemas inside, of which one that is absent takes anything."""
        writer = self.writer(pair)
        for key, name in _INNER.items():
            old, new = pair.old[key], pair.new[key]
            if key == "additionalProperties" and (refuses_all(old) or refuses_all(new)):
                continue  # told with the properties
            if key == "contains" and any(parts_with(one, key) for one in (pair.old, pair.new)):
                continue  # told with what stands beside
            if old or new:
                yield from self.inside(pair.under(old, new, name, key, "", writer=writer))
        sides = [list(one["prefixItems"].elements()) for one in (pair.old, pair.new)]
        for index in range(max(map(len, sides))):
            before, after = (
                side[index] if index < len(side) else of["items"]
                for side, of in zip(sides, (pair.old, pair.new), strict=True)
            )
            if before or after:
                inner = (before, after, f"[{index}]", "prefixItems", str(index))
                yield from self.inside(pair.under(*inner, writer=writer))
        patterns = [dict(one["patternProperties"].items()) for one in (pair.old, pair.new)]
        for pattern in sorted({*patterns[0], *patterns[1]}):
            old, new = (
                side.get(pattern, of["additionalProperties"])
                for side, of in zip(patterns, (pair.old, pair.new), strict=True)
            )
            if not self.taken and refuses_all(old):
                continue  # as with a property that is new
            inner = (old, new, f".{pattern}", "", "")
            yield from self.inside(pair.under(*inner, writer=writer))

    def _conditions(self, pair: Pair) -> Iterator[tuple[str, Found]]:
        """Tell of `not`, which is compared the other way round, and of what cannot be compared."""
        old, new = pair.old["not"], pair.new["not"]
        if old or new:
            flipped = SchemaDiff(self.direction.other, "", effort=self.effort)
            narrow, wide = (new, old) if self.taken else (old, new)
            of = types_of(pair.new if self.taken else pair.old)
            more = narrow and not wide and not _is_another(of, types_of(narrow))
            inner = pair.under(old, new, " not", "not", "", writer=self.writer(pair))
            if more or (old and new and any(flipped.inside(inner))):
                verb = "refuses more" if self.taken else "lets more through"
                message = f"{pair.name}: `not` {verb} than before."
                yield self.told("CONSTRAINT_CHANGED", pair, message, "Write `not` as it was.")
        for key in ("if", "then", "else", "dependentRequired", "dependentSchemas"):
            before, after = pair.old[key].value, pair.new[key].value
            if before != after and (after if self.taken else before) is not None:
                message = f"{pair.name}: what `{key}` asks for changed."
                edit = "Check that what was valid still is, or write it as it was."
                yield self.told("CONSTRAINT_CHANGED", pair, message, edit, warn=True)


def _key(pair: Pair) -> tuple[object, ...]:
    """Return what a pair is known by: where it stands, or what it says if it was put together."""
    return tuple(
        (one.document.name, canonical(one.value) if one.made else one.pointer)
        for one in (pair.old, pair.new)
    )


def _aligned(before: list[Node], after: list[Node]) -> Iterator[tuple[Node, Node]]:
    """Yield pairs of two lists: what is the same first, then the rest in its order."""
    rest, left = [], list(after)
    for one in before:
        told = canonical(one.value)
        equal = next((other for other in left if canonical(other.value) == told), None)
        if equal is None:
            rest.append(one)
            continue
        left.remove(equal)
        yield one, equal
    yield from zip(rest, left, strict=False)


def _has_ref(value: Any) -> bool:
    return isinstance(value, dict | list) and "$ref" in json.dumps(value, default=str)


def _is_another(before: Iterable[str], after: Iterable[str]) -> bool:
    """Whether no value can be of both: it makes no sense to compare more than the types."""
    both = any(covers(after, one) for one in before) or any(covers(before, one) for one in after)
    return bool(before and after) and not both
