"""What a value means: declared in `field(...)`, or in the comment of a field (see `words`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from switchgear.contract.check.finding import BYTES, Found, Severity
from switchgear.contract.check.pairs import Pairs
from switchgear.contract.check.rules.python import argument
from switchgear.contract.check.rules.registry import rule, whole
from switchgear.contract.check.rules.text import declared, free_number
from switchgear.contract.check.schema import Element, Field
from switchgear.contract.check.words import MEANING, declarations, prose

_READERS: Final = "people who wrote code by the old comment"


def _says(field: Field, key: str, word: str) -> str:
    """Return how a field declares what it means."""
    if field.file.spelled is None:
        return f"`{key.capitalize()}: {word}.`"
    return f"`{key}={argument(key, word)!r}`".replace("'", '"')


def _again(field: Field, said: str) -> str:
    where = " into its comment" if field.file.spelled is None else ""
    return f"Write {said}{where} again."


def _meaning_changed(key: str) -> None:
    @rule(f"{key.upper()}_CHANGED", Pairs.spoken_fields, BYTES)
    def changed(_: Pairs, old: Field, new: Field) -> Iterator[Found]:
        if old.comment == new.comment:
            return
        before, after = (declarations(one.comment).get(key) for one in (old, new))
        if before is None or before == after or old.name != new.name:
            return
        if after is None:
            yield Found(
                f"{new.described} does not say its {key} any more: it was {before}.",
                _again(new, _says(new, key, before)),
                new.place(),
                new.full_name,
                old,
                severity=Severity.WARNING,
            )
            return
        added = "a field of its own"
        if new.parent is not None and old.parent is not None:
            number = free_number(new.parent, old.parent)
            name = f"{new.name}_{after}".lower().replace(" ", "_")
            name = "".join(one for one in name if one.isalnum() or one == "_")
            said = {key: argument(key, after)}
            added = f"`{declared(new, name=name, number=number, absent=True, **said)}`"
        yield Found(
            f"{new.described} changed its {key} from {before} to {after}.",
            f"Keep {_says(new, key, before)}, mark the field as deprecated, and add {added} "
            f"with {_says(new, key, after)}.",
            new.place(),
            new.full_name,
            old,
        )


for _key in MEANING:
    _meaning_changed(_key)


@whole("COMMENT_CHANGED", _READERS)
def comment_changed(pairs: Pairs) -> Iterator[Found]:
    """The contract may have changed in words alone; somebody should look."""
    for old, new in pairs.spoken():
        if old.comment == new.comment:
            continue
        before, after = prose(old.comment), prose(new.comment)
        if before and after and before != after:
            yield Found(
                f"What is said of {_told(new)} changed: it was “{_short(before)}” and is "
                f"“{_short(after)}”.",
                "If it means the same, leave it. If not, put the comment back, mark it as "
                "deprecated, and add what is new beside it.",
                new.place(),
                new.full_name,
                old,
                severity=Severity.WARNING,
            )


def _told(element: Element) -> str:
    return element.described if isinstance(element, Field) else element.full_name


def _short(text: str, most: int = 120) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
