"""Ranges of numbers that were reserved, or open for extensions, and are not any more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from switchgear.contract.check.finding import Found
from switchgear.contract.check.rules.text import (
    most_of,
    quoted,
    reserving,
    spans,
)
from switchgear.contract.check.schema import Enum, Message

__all__ = ["dropped_names", "dropped_numbers", "missing"]


def missing(wanted: range, there: Sequence[range]) -> list[range]:
    """Return the parts of `wanted` that no range of `there` holds."""
    left: list[range] = []
    start = wanted.start
    for one in sorted(there, key=lambda span: span.start):
        if one.stop <= start or one.start >= wanted.stop:
            continue
        if one.start > start:
            left.append(range(start, one.start))
        start = one.stop
    if start < wanted.stop:
        left.append(range(start, wanted.stop))
    return left


def dropped_numbers(
    what: str,
    old: Message | Enum,
    new: Message | Enum,
    before: Sequence[range],
    after: Sequence[range],
) -> Iterator[Found]:
    """Yield one finding for each old range that is not whole any more."""
    most = most_of(new)
    for one in before:
        gone = missing(one, after)
        if gone:
            again = spans(gone, most)
            add = reserving(new, again) if what == "reserved" else f"`extensions {again};`"
            yield Found(
                f"Of the {what} range {spans([one], most)} of {new.nested_name}, {again} was "
                "dropped.",
                f"Add {add}.",
                new.place(),
                new.full_name,
                old,
            )


def dropped_names(old: Message | Enum, new: Message | Enum) -> Iterator[Found]:
    """Yield one finding for each name that is not reserved any more."""
    kept = set(new.reserved_names)
    for name in dict.fromkeys(old.reserved_names):
        if name not in kept:
            yield Found(
                f'The name "{name}" of {new.nested_name} is no longer reserved.',
                f"Add {reserving(new, quoted([name]))}.",
                new.place(),
                new.full_name,
                old,
            )
