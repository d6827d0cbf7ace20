"""What a value may be: types, null, the values that are listed, limits, the default."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from switchgear.contract.check.bodies import of_kind
from switchgear.contract.check.finding import Found
from switchgear.contract.check.instances import sample
from switchgear.contract.check.jsonvalues import (
    canonical,
    covers,
    enum_of,
    listed,
    open_enum_of,
    same,
    takes_null,
    told,
    types_of,
)
from switchgear.contract.check.limits import beyond, limits_in, limits_of, says_more, tighter

if TYPE_CHECKING:  # it compares by this
    from switchgear.contract.check.jsonschema import Pair, SchemaDiff

__all__ = ["compare_default", "compare_limits", "compare_types", "compare_values"]

_UNSHOWN: Final = {
    "pattern": "No text was found that shows it.",
    "format": "A validator need not judge formats, so none is shown.",
}
"""What is said where there is no witness."""


def compare_types(diff: SchemaDiff, pair: Pair) -> Iterator[tuple[str, Found]]:
    """Compare the types, of which null is told by itself."""
    before, after = types_of(pair.old), types_of(pair.new)
    name = pair.name
    was, now = takes_null(pair.old), takes_null(pair.new)
    if was is not now and None not in {was, now}:
        if diff.taken and was:
            message = f"{name} may not be null any more."
            edit = "Let it be null again."
            yield diff.told("NULL_NO_DELETE", pair, message, edit, shown=[None])
        elif not diff.taken and now:
            message = f"{name} may be null now."
            edit = "Leave null out; let the property be absent, or add a property of its own."
            yield diff.told("NULL_ADDED", pair, message, edit, shown=[None])
    narrow, wide = (before, after) if diff.taken else (after, before)
    lost = [one for one in narrow if one != "null" and not covers(wide, one)]
    # where values are listed, that any other is let through is told of those
    anything = not narrow and enum_of(pair.new if diff.taken else pair.old) is None
    if wide and (lost or anything):
        kinds = lost or ["boolean", "string", "integer", "object"]
        yield diff.told(
            "SAME_TYPE",
            pair,
            f"{name} was {listed(before)} and is {listed(after)}.",
            f"Let it be {listed(before)} again, and add a property of another name.",
            shown=(of_kind(diff.writer(pair), one) for one in kinds),
        )


def compare_values(diff: SchemaDiff, pair: Pair) -> Iterator[tuple[str, Found]]:
    """Compare the values that are listed.

    Of `x-extensible-enum`, whoever takes values may refuse others, and whoever gives them may
    add others: readers have a branch for those.
    """
    closed = [enum_of(one) for one in (pair.old, pair.new)]
    opened = [open_enum_of(one) for one in (pair.old, pair.new)]
    before, after = (one if one is not None else opened[at] for at, one in enumerate(closed))
    name = pair.name
    if diff.taken and after is not None:
        known = set(map(canonical, after))
        gone = [one for one in before or [] if canonical(one) not in known]
        if gone or before is None:
            which = ", ".join(map(told, gone)) or "any value"
            message = f"{name} does not take {which} any more."
            edit = f"Take {which} again, and mark it as deprecated."
            shown = gone or [sample(pair.old)]
            warn = not gone and closed[1] is None
            rule = "ENUM_VALUE_NO_DELETE"
            yield diff.told(rule, pair, message, edit, warn=warn, shown=shown)
    if not diff.taken and closed[0] is not None:
        known = set(map(canonical, closed[0]))
        added = [one for one in after or [] if canonical(one) not in known]
        if added or closed[1] is None:
            free = closed[1] is None
            which = "any value" if free else ", ".join(map(told, added))
            message = f"{name} may be {which} now."
            edit = "Check that every reader has a branch for values that it does not know."
            shown = [sample(pair.new)]
            yield diff.told("ENUM_VALUE_ADDED", pair, message, edit, warn=not free, shown=shown)


def compare_limits(diff: SchemaDiff, pair: Pair) -> Iterator[tuple[str, Found]]:
    """Compare all that has a limit, a pattern or a format."""
    for key in limits_in(pair.old, pair.new):
        before, after = (limits_of(one, key) for one in (pair.old, pair.new))
        narrow, wide = (after, before) if diff.taken else (before, after)
        lost = [one for one in narrow if all(tighter(key, one, by) for by in wide or [None])]
        readers = (pair.new, pair.old) if diff.taken else (pair.old, pair.new)
        if not lost or not says_more(key, *readers, diff.writer(pair)):
            continue
        verb = "tightened" if diff.taken else "loosened"
        if key == "format":
            verb = "changed"
        was, now = (one[0] if len(one) == 1 else one or None for one in (before, after))
        rule, found = diff.told(
            "SAME_FORMAT" if key == "format" else "CONSTRAINT_CHANGED",
            pair,
            f"{pair.name}: {key} was {verb} from {told(was)} to {told(now)}.",
            f"Write {key}: {told(was)} again." if before else f"Take {key} out again.",
            shown=(one for by in lost for one in beyond(key, by, diff.writer(pair))),
        )
        if key in _UNSHOWN and diff.shows and not found.witness:
            found = replace(found, message=f"{found.message} {_UNSHOWN[key]}")
        yield rule, found


def compare_default(diff: SchemaDiff, pair: Pair) -> Iterator[tuple[str, Found]]:
    """Compare what is meant where nothing is sent."""
    before, after = pair.old["default"].value, pair.new["default"].value
    if diff.taken and pair.old["default"] and not same(before, after):
        yield diff.told(
            "SAME_DEFAULT",
            pair,
            f"{pair.name}: the default changed from {told(before)} to {told(after)}.",
            f"Write default: {told(before)} again.",
        )
