"""How long a backtracking matcher can look for a pattern in a text, at most.

The steps are counted as if every character fitted everywhere: for each way to read the first n
characters with the first part of a pattern, each way to read on. Nested repetitions, alternatives
and chains of optional parts all multiply, whether they are bounded or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from re import _constants as c  # type: ignore[attr-defined]
from typing import Any, Final, TypeAlias

__all__ = ["REPEATS", "is_quick"]

REPEATS: Final = (c.MAX_REPEAT, c.MIN_REPEAT)
_MOST_STEPS: Final = 30_000
_INSIDE: Final = frozenset({c.SUBPATTERN, c.ASSERT, c.ASSERT_NOT})

_Ways: TypeAlias = list[int]
"""In how many ways a matcher can have read 0, 1, 2 ... characters."""


class _TooLongError(Exception):
    pass


def is_quick(tree: Any, length: int) -> bool:
    """Whether a parsed pattern is looked for in a text of a length in few steps."""
    try:
        _Count().through(tree, [1, *[0] * length])
    except (_TooLongError, RecursionError):
        return False
    return True


class _Count:
    def __init__(self) -> None:
        self._left = _MOST_STEPS

    def _spend(self, ways: _Ways) -> None:
        self._left -= sum(ways) + 1
        if self._left < 0:
            raise _TooLongError

    def through(self, tree: Any, ways: _Ways) -> _Ways:
        """Return in how many ways a text is read up to the end of a pattern."""
        for op, argument in tree:
            self._spend(ways)
            if op is c.BRANCH:
                ways = _sum(self.through(one, ways) for one in argument[1])
            elif op in REPEATS:
                low, high, inner = argument
                ways = self._repeated(low, high, inner, ways)
            elif op in _INSIDE:
                ways = self.through(argument[-1], ways)
            elif op is not c.AT:
                ways = [0, *ways[:-1]]
        return ways

    def _repeated(self, low: int, high: int, inner: Any, ways: _Ways) -> _Ways:
        ends = [ways] if low == 0 else []
        for count in range(1, min(high, low + len(ways)) + 1):
            self._spend(ways)  # what is repeated may be nothing
            ways = self.through(inner, ways)
            if count >= low:
                ends.append(ways)
            if not any(ways):
                break
        return _sum(ends) if ends else [0] * len(ways)


def _sum(several: Iterator[_Ways] | list[_Ways]) -> _Ways:
    return [sum(of) for of in zip(*several, strict=True)]
