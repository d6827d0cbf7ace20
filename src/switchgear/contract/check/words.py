"""What a comment says by convention, and whether two names or comments speak of the same thing.

A sentence of a comment that begins with one of these words is a declaration:

| sentence | on | declares |
| --- | --- | --- |
| `Unit: cents.` | a field | the unit of the value |
| `Scale: 2.` | a field | how many decimal places an integer carries |
| `Currency: EUR.` | a field | the currency of an amount |
| `Semantics: gross.` | a field | any other word that tells one meaning from another |
| `Refuses with: shop.v1.OutOfStock.` | a method | its definitive noes |
| `Refused as: ABORTED.` | a refusal | the canonical status under which it is answered |
| `Topic: shop.orders.` | a message | it is an event, and where it goes |
| `Key: order_id.` | a message | the field that orders it |

`switchgear contract export` writes them from the declarations in Python.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

__all__ = ["CONVENTION", "MEANING", "declarations", "prose", "related", "words_of"]

MEANING: Final = ("unit", "scale", "currency", "semantics")
CONVENTION: Final = (*MEANING, "refuses with", "refused as", "topic", "key")

_SENTENCE: Final = re.compile(
    rf"(?:(?<=[.!?:;])|(?<=\A)|(?<=\n))\s*({'|'.join(CONVENTION)}):[ \t]+"
    r"((?:[^.\n]|\.(?=\S))*)(?:\.|(?=\n)|\Z)",
    re.IGNORECASE,
)
_WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_SMALL: Final = frozenset(
    {"a", "an", "and", "are", "as", "at", "be", "by", "for", "from", "has", "if", "in", "is", "it"}
    | {"its", "of", "on", "or", "that", "the", "this", "to", "was", "were", "which", "with"}
)
_ABBREVIATION: Final = 2


def declarations(comment: str) -> Mapping[str, str]:
    """Return what a comment declares, by the lower-case word of the table."""
    return {found[1].lower(): " ".join(found[2].split()) for found in _SENTENCE.finditer(comment)}


def prose(comment: str) -> str:
    """Return what a comment says besides, on one line."""
    return " ".join(_SENTENCE.sub(" ", comment).split())


def words_of(text: str) -> frozenset[str]:
    """Return the words of a name or a comment, small words left out."""
    return frozenset(word.lower() for word in _WORD.findall(text)) - _SMALL


def related(one: str, other: str) -> bool:
    """Whether two names or comments share a word, or the beginning of one (`qty`, `quantity`)."""
    mine, yours = words_of(one), words_of(other)
    if mine & yours:
        return True
    return any(a[0] == b[0] and _letters_of(*sorted((a, b), key=len)) for a in mine for b in yours)


def _letters_of(short: str, long: str) -> bool:
    """Whether the letters of `short` are in `long` in their order, as in an abbreviation."""
    if len(short) < _ABBREVIATION:
        return False
    rest = iter(long)
    return all(letter in rest for letter in short)
