"""What changed in a schema of `components` is told of that, also if something stands beside `$ref`.

`{$ref: Money, minimum: 1}` and `{allOf: [{$ref: Money}], nullable: true}` are schemas of their own.
They are compared as a whole, since what stands beside may make a change harmless, or be what makes
it one. What is found of the whole is that of `Money` where a comparison of `Money` alone finds the
same: it is told where that stands, and so once for all who refer to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeAlias

from switchgear.contract.check.finding import Found
from switchgear.contract.check.refs import Node
from switchgear.errors import UnreadableContract

if TYPE_CHECKING:  # it compares by this
    from switchgear.contract.check.jsonschema import Pair, SchemaDiff

__all__ = ["SCHEMAS", "is_shared", "told_of_parts"]

SCHEMAS: Final = ("components", "schemas")
_HERE: Final = "\0"
"""What a part is called while it is compared by itself."""

_Key: TypeAlias = tuple[str, str, str]


def is_shared(node: Node) -> bool:
    """Whether a schema stands in `components`, where others may refer to it."""
    return node.pointer[:-1] == SCHEMAS


def told_of_parts(
    diff: SchemaDiff, pair: Pair, found: Iterable[tuple[str, Found]]
) -> Iterator[tuple[str, Found]]:
    """Yield what was found of a pair, each as of that part in `components` which has it as well."""
    parts: dict[_Key, Found] | None = None
    for rule, whole in found:
        same = None
        # what was found further inside may have been told of a part there
        if not is_shared(pair.new) and len(whole.reaches) <= len(pair.name):
            if parts is None:
                parts = dict(_of_parts(diff, pair))
            same = parts.get((rule, whole.message, whole.subject))
        if same is None:
            yield rule, whole
        else:
            yield rule, replace(whole, place=same.place, shared=same.shared, reaches=pair.name)


def _of_parts(diff: SchemaDiff, pair: Pair) -> Iterator[tuple[_Key, Found]]:
    before = {one.pointer: one for one in (pair.old, *pair.old["allOf"].elements())}
    for new in pair.new["allOf"].elements():
        old = before.get(new.pointer)
        if old is None or not is_shared(new):
            continue
        with suppress(UnreadableContract):  # of the part alone, which is not what was asked for
            alone = replace(pair, old=old, new=new, name=_HERE, part=("", 0))
            for rule, one in diff.alone(alone):
                message, subject = (
                    text.replace(_HERE, pair.name) for text in (one.message, one.subject)
                )
                yield (rule, message, subject), one
