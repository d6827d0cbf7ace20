"""Properties of objects: which are there, which have to be, and what is said of all others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from switchgear.contract.check.bodies import with_property
from switchgear.contract.check.finding import Found
from switchgear.contract.check.instances import sample
from switchgear.contract.check.jsonvalues import required_of
from switchgear.contract.check.refs import Node

if TYPE_CHECKING:  # it compares by this
    from switchgear.contract.check.jsonschema import Pair, SchemaDiff

__all__ = ["compare_properties", "compare_undeclared"]


def compare_properties(diff: SchemaDiff, pair: Pair) -> Iterator[tuple[str, Found]]:
    """Compare the properties that travel this way, and which of them have to be there."""
    old, new = pair.old, pair.new
    hidden = "readOnly" if diff.taken else "writeOnly"
    before = {key: one for key, one in old["properties"].items() if not one[hidden].value}
    after = {key: one for key, one in new["properties"].items() if not one[hidden].value}
    needed, needs, closed = required_of(old), required_of(new), _is_closed(new)
    writer = diff.writer(pair)
    for key, one in before.items():
        name = f"{pair.name}.{key}"
        if key not in after:
            edit = f"Put {key} back and mark it as deprecated."
            warn = not closed if diff.taken else key not in needed
            shown = [with_property(writer, key, one) if diff.taken else sample(writer)]
            yield diff.told(
                "PROPERTY_NO_DELETE",
                pair,
                f"{name} was deleted.",
                edit,
                warn=warn,
                shown=shown,
                at=(new, name),
            )
            continue
        inner = (one, after[key], f".{key}", "property", key)
        yield from diff.inside(pair.under(*inner, writer=writer))
        at = (after[key], name)
        if diff.taken and key in needs and key not in needed:
            edit = f"Take {key} out of `required`, or give it a default."
            message = f"{name} was optional and is required."
            shown = [sample(writer)]
            yield diff.told("PROPERTY_REQUIRED", pair, message, edit, shown=shown, at=at)
        elif not diff.taken and key in needed and key not in needs:
            edit = f"Put {key} back into `required`."
            message = f"{name} was always there and may be absent now."
            shown = [sample(writer)]
            yield diff.told("PROPERTY_OPTIONAL", pair, message, edit, shown=shown, at=at)
    if not diff.taken:
        yield from _not_declared(diff, pair)
        return
    for key in needs:
        hides = key in new["properties"] and key not in after
        if key in before or key in needed or hides or new["properties"][key]["default"]:
            continue
        edit = f"Take {key} out of `required`, or give it a default."
        message = f"{pair.name}.{key} is new and required."
        shown = [sample(writer)]
        at = (after.get(key, new), f"{pair.name}.{key}")
        yield diff.told("PROPERTY_REQUIRED_ADDED", pair, message, edit, shown=shown, at=at)
    if closed and not _is_closed(old):
        message = f"{pair.name} refuses properties that it does not know now."
        edit = "Take `additionalProperties: false` out again."
        rule = "ADDITIONAL_PROPERTIES_REFUSED"
        yield diff.told(rule, pair, message, edit, shown=[with_property(writer, "something_else")])


def _not_declared(diff: SchemaDiff, pair: Pair) -> Iterator[tuple[str, Found]]:
    """Yield what was always there without being declared, and may be absent now."""
    declared, needs = pair.old["properties"], required_of(pair.new)
    for key in required_of(pair.old):
        if key not in declared and key not in needs:
            name = f"{pair.name}.{key}"
            message = f"{name} was always there and may be absent now."
            edit = f"Put {key} back into `required`."
            shown, at = [sample(pair.new)], (pair.new, name)
            yield diff.told("PROPERTY_OPTIONAL", pair, message, edit, shown=shown, at=at)


def compare_undeclared(diff: SchemaDiff, pair: Pair) -> Iterator[tuple[str, Found]]:
    """Compare what one version declares with what the other says of all other properties."""
    sides = (pair.old, pair.new)
    declared = [one["properties"] for one in sides]
    for key in sorted({*declared[0], *declared[1]}):
        old, new = (
            side[key] if key in side else of["additionalProperties"]
            for side, of in zip(declared, sides, strict=True)
        )
        both = all(key in side for side in declared)
        if not both and isinstance(old.value, dict) and isinstance(new.value, dict):
            inner = (old, new, f".{key}", "property", key)
            yield from diff.inside(pair.under(*inner, writer=diff.writer(pair)))


def _is_closed(node: Node) -> bool:
    return any(
        node[key].value is False for key in ("additionalProperties", "unevaluatedProperties")
    )
