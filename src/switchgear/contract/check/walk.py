"""Where a comparison goes that meets the same pair of schemas in more than one place.

What has changed in `Money` is told of each property that is money, since each has readers of its
own. A pair that is met again inside itself is left out there, and one of which nothing was told is
not gone into again. Of such a pair that only holds where it was found while what was left out
inside it is still under way: afterwards it holds if that was clean as well.

Very many places are not listed in full: after `_MOST_AGAIN` pairs that were gone into again, each
further one is told once.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

__all__ = ["Walk"]

_MOST_AGAIN: Final = 5_000


class Walk:
    """Which pairs are under way, and which are clean."""

    def __init__(self) -> None:
        self._depth: dict[Hashable, int] = {}
        """The pairs under way, the outermost first."""
        self._cuts: list[set[int]] = []
        """For each of them, the depths at which what is inside it was left out."""
        self._held: list[dict[Hashable, frozenset[int]]] = []
        """For each of them, what is clean as long as it is under way, and what else it needs."""
        self._clean: set[Hashable] = set()
        self._met: set[Hashable] = set()
        self._left = _MOST_AGAIN

    def enters(self, key: Hashable) -> bool:
        """Whether to go into a pair; `leaves` has to be called after it then."""
        cut = self._depth.get(key)
        needs = {cut} if cut is not None else self._needs(key)
        if needs is not None:
            if self._cuts:
                self._cuts[-1] |= needs
            return False
        if key in self._met:
            self._left -= 1
            if self._left < 0:
                return False
        self._met.add(key)
        self._depth[key] = len(self._cuts)
        self._cuts.append(set())
        self._held.append({})
        return True

    def _needs(self, key: Hashable) -> frozenset[int] | set[int] | None:
        """Return what has to be clean for a pair to be; None where nothing is known of it."""
        if key in self._clean:
            return set()
        return next((held[key] for held in self._held if key in held), None)

    def leaves(self, key: Hashable, *, told: bool) -> None:
        """Say whether anything was told of the pair that was entered last."""
        depth = self._depth.pop(key)
        needs, held = self._cuts.pop() - {depth}, self._held.pop()
        if self._cuts:
            self._cuts[-1] |= needs
        if told:
            return
        if not needs:
            self._clean |= {key, *held}
            return
        deepest = self._held[max(needs)]
        for one in (key, *held):
            deepest[one] = (held.get(one, frozenset()) | needs) - {depth}
