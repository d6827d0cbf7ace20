"""Patterns: whether a text has one, and texts that have one and not another.

JSON Schema's patterns are those of ECMAScript, and Python's are judged by: `matches` answers where
the two mean the same (ASCII, no groups of Python's own), and where an answer cannot take long, and
says None elsewhere. `between` looks among few texts, each one step away from the plainest one, made
of the characters and counts at which the two patterns could differ: that it finds none proves
nothing.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from re import _constants as c  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, Final

from switchgear.contract.check.effort import REPEATS, is_quick

__all__ = ["between", "having", "matches"]

_PYTHON: Final = re.compile(
    r"\\[AaBGUZz]|\(\?(?![:=!]|<[=!])|\{,|[*+?}]\+|\[\^?\]|\\[0-9]|\\N|[^\x20-\x7e]"
)
"""What means something else in ECMAScript, or could."""
_LONGEST: Final = 200
_MOST_TEXT: Final = 48
_SHORT: Final = 12
"""Of texts that are matched by what would take long with more."""
_PRINTABLE: Final = range(0x20, 0x7F)
_MOST: Final = 400
_EACH: Final = 24
_USUAL: Final = "a0A_- ."
_CATEGORIES: Final = {
    c.CATEGORY_DIGIT: "09",
    c.CATEGORY_NOT_DIGIT: "a",
    c.CATEGORY_SPACE: " ",
    c.CATEGORY_NOT_SPACE: "a",
    c.CATEGORY_WORD: "a_Z0",
    c.CATEGORY_NOT_WORD: "-",
}


class _Pattern:
    """A pattern that means the same in Python, taken apart."""

    def __init__(self, text: str) -> None:
        self.compiled = re.compile(text, re.ASCII)
        self.tree: Any = parser.parse(text, re.ASCII)
        self.letters: set[str] = set()
        self.counts: set[int] = set()
        self._look(self.tree)
        lengths = (one for one in (_MOST_TEXT, _SHORT) if is_quick(self.tree, one))
        self._longest = next(lengths, 0)
        if not self._longest:
            raise ValueError("it may take long")

    def _look(self, tree: Any) -> None:
        """Note which characters and counts matter."""
        for op, argument in tree:
            if op in {c.GROUPREF, c.GROUPREF_EXISTS}:
                raise ValueError("it refers to its own groups")
            if op is c.IN:
                self._note_set(argument)
            elif op in {c.LITERAL, c.NOT_LITERAL}:
                self._note(argument, argument)
            elif op in REPEATS:
                low, high, inner = argument
                self.counts |= {low, high, low - 1, high + 1}
                self._look(inner)
            elif op is c.BRANCH:
                for one in argument[1]:
                    self._look(one)
            elif op in {c.SUBPATTERN, c.ASSERT, c.ASSERT_NOT}:
                self._look(argument[-1])

    def _note_set(self, parts: Any) -> None:
        for kind, value in parts:
            if kind is c.RANGE:
                self._note(*value)
            elif kind is c.LITERAL:
                self._note(value, value)
            elif kind is c.CATEGORY:
                self.letters.update(_CATEGORIES.get(value, ""))

    def _note(self, low: int, high: int) -> None:
        near = (low, high, low - 1, high + 1)
        self.letters |= {chr(one) for one in near if one in _PRINTABLE}

    def has(self, text: str) -> bool | None:
        """Whether a text has it; None where that could take long."""
        if len(text) > self._longest:
            return None
        return self.compiled.search(text) is not None


@lru_cache(maxsize=256)
def _read(text: str) -> _Pattern | None:
    if len(text) > _LONGEST or _PYTHON.search(text):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of sets in sets, which Python may know one day
            return _Pattern(text)
    except (re.error, ValueError, OverflowError, RecursionError, Warning):
        return None


def matches(pattern: Any, text: str) -> bool | None:
    """Whether a text has a pattern; None where that is not known."""
    found = _read(pattern) if isinstance(pattern, str) else None
    # what is not printable is not the same everywhere, `.` and `$` at the end of a line above all
    if found is None or not (text.isascii() and (text.isprintable() or not text)):
        return None
    return found.has(text)


def between(written: Any, read: Any) -> Iterator[str]:
    """Yield texts that have the pattern `written`, or any if there is none, and not `read`."""
    reader = _read(read) if isinstance(read, str) else None
    writer = _read(written) if isinstance(written, str) else None
    if reader is None or (writer is None and written is not None):
        return
    maker = _Maker([one for one in (writer, reader) if one is not None])
    for text in maker.texts(writer or reader):
        if (writer is None or writer.has(text)) and reader.has(text) is False:
            yield text


def having(pattern: Any) -> Iterator[str]:
    """Yield texts that have a pattern."""
    found = _read(pattern) if isinstance(pattern, str) else None
    if found is not None:
        yield from (one for one in _Maker([found]).texts(found) if found.has(one))


class _Maker:
    """Proposes texts, of the characters and counts that patterns name."""

    def __init__(self, patterns: Iterable[_Pattern]) -> None:
        named = sorted(set[str]().union(*(one.letters for one in patterns)))
        self._alphabet = [*dict.fromkeys([*_USUAL, *named])]
        counts = set[int]().union(*(one.counts for one in patterns))
        self._counts = sorted(one for one in counts if 0 <= one <= _MOST_TEXT)

    def texts(self, pattern: _Pattern) -> Iterator[str]:
        """Yield texts of a pattern, and near ones, the plainest first."""
        made = self._sequence(pattern.tree)
        yield from islice(dict.fromkeys(self._near(made)), _MOST)

    def _near(self, made: list[str]) -> Iterator[str]:
        yield from made
        first = made[0]
        yield from ("", first[1:], first[:-1])
        for letter in self._alphabet:
            yield from (f"{first}{letter}", f"{letter}{first}", letter)

    def _sequence(self, tree: Any) -> list[str]:
        """Return texts of a sequence: the plainest, and those with one part of another kind."""
        parts = [self._part(op, argument) for op, argument in tree]
        plain = [one[0] for one in parts]
        made = ["".join(plain)]
        for index, others in enumerate(parts):
            before, after = "".join(plain[:index]), "".join(plain[index + 1 :])
            made += [f"{before}{other}{after}" for other in others[1:]]
        return list(dict.fromkeys(made))[:_EACH]

    def _part(self, op: Any, argument: Any) -> list[str]:
        if op is c.LITERAL:
            return [chr(argument)]
        if op is c.SUBPATTERN:
            return self._sequence(argument[3])
        if op is c.BRANCH:
            return [text for one in argument[1] for text in self._sequence(one)][:_EACH]
        if op in REPEATS:
            return self._repeated(*argument)
        if op in {c.ANY, c.NOT_LITERAL, c.IN}:
            letters = [one for one in self._alphabet if _takes(op, argument, one)]
            return letters[:_EACH] or [""]
        return [""]  # a place, or what is asked of what stands around

    def _repeated(self, low: int, high: int, inner: Any) -> list[str]:
        texts = self._sequence(inner)
        counts = [low, *(one for one in (1, *self._counts) if low < one <= high)]
        several = [(texts[0], one) for one in counts]
        several += [(text, max(low, 1)) for text in texts[1:] if high]
        short = [text * count for text, count in several if len(text) * count <= _MOST_TEXT]
        return list(dict.fromkeys(short))[:_EACH] or [""]


def _takes(op: Any, argument: Any, letter: str) -> bool:
    """Whether one character fits into one place of a pattern."""
    if op is c.ANY:
        return True
    if op is c.NOT_LITERAL:
        return bool(ord(letter) != argument)
    negated = argument[0][0] is c.NEGATE
    return negated is not any(_is_in(kind, value, letter) for kind, value in argument)


def _is_in(kind: Any, value: Any, letter: str) -> bool:
    if kind is c.LITERAL:
        return bool(ord(letter) == value)
    if kind is c.RANGE:
        return bool(value[0] <= ord(letter) <= value[1])
    return kind is c.CATEGORY and _in_category(value, letter)


def _in_category(category: Any, letter: str) -> bool:
    name = str(category).removeprefix("CATEGORY_")
    inside = {
        "DIGIT": letter.isdigit(),
        "SPACE": letter.isspace(),
        "WORD": letter.isalnum() or letter == "_",
    }[name.removeprefix("NOT_")]
    return inside is not name.startswith("NOT_")
