"""`oneOf` and `anyOf`: what a schema stands for, piece by piece.

A value of a schema with alternatives is a value of one of them and of what stands beside them. So
two versions are compatible if each piece of those who write is taken by a piece of those who read,
whether they say it with alternatives or without: `Order` may become `oneOf: [Order, Draft]`, and a
list of types, or of values, alternatives of one each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypeVar

from switchgear.contract.check.allof import merged
from switchgear.contract.check.finding import Found, Severity
from switchgear.contract.check.instances import sample
from switchgear.contract.check.jsonvalues import (
    canonical,
    enum_of,
    is_of,
    listed,
    refuses_all,
    speaks_of,
    told,
    types_of,
)
from switchgear.contract.check.normal import normal
from switchgear.contract.check.refs import Node

if TYPE_CHECKING:  # it compares by this
    from switchgear.contract.check.jsonschema import Pair, SchemaDiff

__all__ = ["Piece", "compare_discriminators", "compare_pieces", "has_alternatives", "pieces_of"]

T = TypeVar("T")

_KEYS: Final = ("oneOf", "anyOf")
_FEW: Final = 64
"""Pairs of alternatives without a name, each of which is tried."""
_MOST: Final = 64
"""Values of an enumeration that are pieces of their own."""


@dataclass(frozen=True)
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
    named: bool = False
    """Whether its name is one that it was given."""

    @property
    def is_null(self) -> bool:
        """Whether it is null and nothing else."""
        return types_of(self.whole) == ["null"]

    @cached_property
    def properties(self) -> Mapping[str, frozenset[str] | None]:
        """The properties that travel both ways, and the values of each if they are listed."""
        if has_alternatives(self.whole):
            return {}
        return {
            key: _listed_values(one)
            for key, one in self.whole["properties"].items()
            if not one["readOnly"].value and not one["writeOnly"].value
        }


def has_alternatives(schema: Node) -> bool:
    """Whether a schema has alternatives."""
    return any(isinstance(schema[key].value, list) and schema[key].value for key in _KEYS)


def _listed_values(schema: Node) -> frozenset[str] | None:
    values = enum_of(normal(schema))
    combined = schema["allOf"] or has_alternatives(schema)
    return None if values is None or combined else frozenset(map(canonical, values))


def pieces_of(schema: Node) -> list[Piece]:
    """Return the alternatives of a schema; of one without them, its values or types."""
    if has_alternatives(schema):
        return list(_alternatives(schema))
    if not isinstance(schema.value, dict):
        return [Piece(listed(types_of(schema)), schema, schema)]
    values, types = enum_of(schema), types_of(schema)
    # `enum_of` leaves null out, which is a type of its own here
    if values is not None and len(values) <= _MOST and "null" not in types and None not in values:
        return [_valued(schema, one, str(index)) for index, one in enumerate(values)]
    if len(types) > 1:
        return [_typed(schema, one) for one in types]
    return [Piece(listed(types), schema, schema)]


def _alternatives(schema: Node) -> Iterator[Piece]:
    key = next(one for one in _KEYS if schema[one].value)
    nodes, seen = schema[key], Counter[str]()
    beside = {name: one for name, one in schema.value.items() if name != key}
    for index, one in enumerate(nodes.elements()):
        if refuses_all(one):
            continue
        raw = nodes.value[index]
        ref = raw.get("$ref") if isinstance(raw, dict) else None
        title = one["title"].value
        named = isinstance(ref, str) or bool(title)
        kind = str(title or listed(types_of(normal(one))))
        name = ref.rpartition("/")[2] if isinstance(ref, str) else kind
        seen[name] += 1
        if seen[name] > 1:
            name = f"{name} {seen[name]}"
        inner = nodes.document.absolute(raw) if nodes.document is not schema.document else raw
        pointer = (*schema.pointer, key, str(index))
        whole = normal(merged(Node(schema.document, pointer, {"allOf": [beside, inner]})))
        yield Piece(name, one, whole, key, named)


def _valued(schema: Node, value: Any, step: str) -> Piece:
    made = {key: one for key, one in schema.value.items() if key not in {"enum", "nullable"}}
    return _piece(schema, told(value), {**made, "const": value}, ("const", step))


def _typed(schema: Node, kind: str) -> Piece:
    """Return what a schema says of one of its types, without what it says of others."""
    made = {
        key: one
        for key, one in schema.value.items()
        if key != "nullable" and kind != "null" and speaks_of(key, kind)
    }
    if isinstance(made.get("enum"), list):
        made["enum"] = [one for one in made["enum"] if is_of(one, kind)]
    return _piece(schema, kind, {**made, "type": kind}, ("type", kind))


def _piece(schema: Node, name: str, value: Any, step: tuple[str, str]) -> Piece:
    node = normal(Node(schema.document, (*schema.pointer, *step), value, made=True))
    return Piece(name, node, node)


def compare_pieces(diff: SchemaDiff, pair: Pair) -> Iterator[tuple[str, Found]]:
    """Yield rule and finding for each piece of what is written that nothing takes that is read."""
    written, read = pieces_of(pair.old), pieces_of(pair.new)
    if not diff.taken:
        written, read = read, written
    keys = [[key for key in _KEYS if one[key]] for one in (pair.old, pair.new)]
    both, alike = all(keys), keys[0] == keys[1] and len(keys[0]) == 1
    said = False
    partners = _partners(diff, pair, written, read) if both else {}
    for index, piece in enumerate(written):
        same = partners.get(index)
        if same is None and len(written) == len(read) == 1:
            found = diff.inside(_between(diff, pair, piece.whole, read[0].whole))
        elif same is not None:
            name = f"({piece.name})"
            one, other = (piece.node, same.node) if alike else (piece.whole, same.whole)
            found = diff.inside(_between(diff, pair, one, other, name=name, key=piece.key))
        else:
            found = _covered(diff, pair, piece, read)
        for each in found:
            said = True
            yield each
    reader = pair.new if diff.taken else pair.old
    if said or not reader["oneOf"] or reader["discriminator"]:
        return
    shown = [sample(one.whole) for one in written]
    rule = "ALTERNATIVE_REQUIRED" if diff.taken else "ALTERNATIVE_ADDED"
    verb = "is refused now" if diff.taken else "may be given now"
    message = f"{pair.name}: what fits more than one alternative of `oneOf` {verb}."
    told = diff.told(rule, pair, message, "Let each value fit one of them.", shown=shown)
    if told[1].witness:  # it may be that nothing fits more than one
        yield told


def _partners(
    diff: SchemaDiff, pair: Pair, written: list[Piece], read: list[Piece]
) -> dict[int, Piece]:
    """Return which alternative is which, for those that have one.

    By a name that it was given; by all that it says; where few are left, by what both take; and
    then, as one of its type, by its place among those.
    """

    def by(key: Callable[[Piece], object]) -> None:
        known = [key(one) for one in read]
        at = {value: index for index, value in reversed(list(enumerate(known))) if index in free}
        for index, piece in enumerate(written):
            value = key(piece)
            if index not in found and value is not None and at.get(value) in free:
                found[index] = read[at[value]]
                free.remove(at[value])

    found: dict[int, Piece] = {}
    free = set(range(len(read)))
    by(lambda one: one.name if one.named else None)
    by(_said)
    ways = (diff.direction, diff.direction.other)
    few = (len(written) - len(found)) * len(free) <= _FEW
    for index, piece in enumerate(written):
        for other in sorted(free) if few and index not in found and not piece.named else ():
            inner = _between(diff, pair, piece.whole, read[other].whole)
            if not read[other].named and not any(diff.trial(way, inner, most=1) for way in ways):
                found[index] = read[other]
                free.remove(other)
                break
    for index, piece in enumerate(written):
        kind = types_of(piece.node)
        alike = (one for one in sorted(free) if types_of(read[one].node) == kind)
        of_kind = None if piece.named else next((one for one in alike if not read[one].named), None)
        if index not in found and of_kind is not None:
            found[index] = read[of_kind]
            free.remove(of_kind)
    return found


def _said(piece: Piece) -> str:
    whole = piece.whole.value
    rest = whole.items() if isinstance(whole, dict) else ()
    return canonical({key: one for key, one in rest if key not in {"title", "description"}})


def _between(
    diff: SchemaDiff, pair: Pair, written: Node, read: Node, *, name: str = "", key: str = ""
) -> Pair:
    old, new = _in_order(diff, written, read)
    return pair.under(old, new, name, key or "anyOf", "", writer=diff.writer(pair))


def _in_order(diff: SchemaDiff, written: T, read: T) -> tuple[T, T]:
    """Return the old one and the new one."""
    return (written, read) if diff.taken else (read, written)


def _are_apart(old: Piece, new: Piece) -> bool:
    """Whether two objects differ at the first look, which a comparison would find as well.

    That is so if the old one has a property more, or one of other values: of many alternatives each
    is looked at beside each.
    """
    before, after = old.properties, new.properties
    return any(
        key not in after or (values is not None and after[key] not in {None, values})
        for key, values in before.items()
    )


def _covered(
    diff: SchemaDiff, pair: Pair, piece: Piece, read: list[Piece]
) -> Iterator[tuple[str, Found]]:
    """Yield that no piece of those who read takes a piece.

    Beside alternatives of another name only what is the same takes one: an object of any
    properties would take whatever is new. What only asks for a look is told of the best.
    """
    both = has_alternatives(pair.old) and has_alternatives(pair.new)
    reasons: list[str] = []
    warn = False
    for one in read:
        if both and len(read) > 1 and _are_apart(*_in_order(diff, piece, one)):
            continue
        inner = _between(diff, pair, piece.whole, one.whole)
        found = diff.trial(diff.direction, inner, most=1 if both else None)
        if both and not found:
            found = diff.trial(diff.direction.other, inner, most=1)
        errors = [told for _, told in found if both or told.severity is Severity.ERROR]
        if not errors and (diff.taken or not found):
            if found:  # the trial may have been of another name
                yield from diff.told_of(diff.direction, inner)
            return
        warn = warn or not errors
        reasons.append((errors or [found[0][1]])[0].message)
    name, shown = pair.name, [sample(piece.whole)]
    if piece.is_null:
        rule = "NULL_NO_DELETE" if diff.taken else "NULL_ADDED"
        message = f"{name} may {'not be null any more' if diff.taken else 'be null now'}."
        edit = "Let it be null again." if diff.taken else "Leave null out."
    elif piece.key:
        rule = "ALTERNATIVE_NO_DELETE" if diff.taken else "ALTERNATIVE_ADDED"
        verb = "is not taken any more" if diff.taken else "is new"
        message = f"{name}: the alternative {piece.name} {verb}."
        edit = "Put it back." if diff.taken else "Answer with it on a path of its own."
    else:
        rule = "ALTERNATIVE_REQUIRED" if diff.taken else "ALTERNATIVE_ADDED"
        names = ", ".join(one.name for one in read)
        verb = "has to be" if diff.taken else "is not"
        message = f"{name} {verb} one of {names}{' now' if diff.taken else ' any more'}."
        edit = "Let one of them take what was valid." if diff.taken else "Answer with them again."
    if len(read) == 1 and not piece.is_null and reasons[0].startswith(name):
        message = f"{message[:-1]}: {reasons[0]}"
    yield diff.told(rule, pair, message, edit, shown=shown, warn=warn)


def compare_discriminators(diff: SchemaDiff, pair: Pair) -> Iterator[tuple[str, Found]]:
    """Compare which property tells alternatives apart, and what its values mean."""
    before, after = pair.old["discriminator"], pair.new["discriminator"]
    if not before or not after:
        return
    name, edit = pair.name, "Put it back, and add what is new beside it."
    was, now = (one.text("propertyName") for one in (before, after))
    if was != now:
        message = f"{name} is told apart by {now} instead of {was}."
        yield diff.told("DISCRIMINATOR_CHANGED", pair, message, edit)
    for value, one in _mapping(before).items():
        other = _mapping(after).get(value)
        if other != one and (diff.taken or other is not None):
            message = f"{name}: {was} = {value} meant {one} and means {other or 'nothing'}."
            yield diff.told("DISCRIMINATOR_CHANGED", pair, message, edit)


def _mapping(discriminator: Node) -> Mapping[str, str]:
    """Return what each value means; the last part of a reference alone, so that it may move."""
    told = discriminator["mapping"].value
    pairs = told.items() if isinstance(told, dict) else ()
    return {key: one.rpartition("/")[2] for key, one in pairs if isinstance(one, str)}
