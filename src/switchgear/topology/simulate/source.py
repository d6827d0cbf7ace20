"""Who comes from outside, at run time."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import TYPE_CHECKING

from switchgear.model.context import Priority

if TYPE_CHECKING:
    from switchgear.topology.simulate.book import Book
    from switchgear.topology.simulate.line import Line
    from switchgear.topology.simulate.station import Held

__all__ = ["Source"]


class Source:
    """Visitors of one entry. They come whatever became of those before."""

    __slots__ = (
        "_index",
        "_page",
        "book",
        "deadline",
        "kernel",
        "line",
        "number",
        "patience",
        "priority",
        "times",
    )

    def __init__(
        self,
        line: Line,
        times: Iterator[float],
        book: Book,
        *,
        patience: float | None = None,
        priority: Priority = Priority.DEFAULT,
    ) -> None:
        self.line = line
        self.kernel = line.kernel
        self.times = times
        self.book = book
        self.patience = patience
        # what the visitors' calls inherit: nothing but their importance
        self._page = book.at(0.0)
        """That of the latest visitor, and its number."""
        self._index = 0
        self.deadline = inf
        self.number = 1
        self.priority = priority

    def start(self) -> None:
        """Announce the first."""
        first = next(self.times, None)
        if first is not None:
            self.kernel.at(first, self._come)

    def _come(self, _: None) -> None:
        """Event: one comes, and is followed by the next."""
        kernel = self.kernel
        following = next(self.times, None)
        if following is not None:
            kernel.at(following, self._come)
        now = kernel.now
        index = int(now / self.book.width)
        if index != self._index:
            self._index = index
            self._page = self.book.at(now)
        self._page.offered += 1
        one = self.line.ask(self, self._ended)
        if self.patience is not None:
            kernel.at(now + self.patience, self._leave, one)

    def _ended(self, one: Held) -> None:
        """Event: a visitor has an answer, or a failure."""
        began = one.began
        took = self.kernel.now - began
        book = self.book
        page = self._page if int(began / book.width) == self._index else book.at(began)
        if one.outcome is None:
            page.answer(took, good=took <= book.within, degraded=one.degraded)
            return
        self.line.missed += 1
        page.failed += 1
        page.ended.add(took)

    def _leave(self, one: Held) -> None:
        """Event: a visitor has waited long enough."""
        if one.cancel():
            page = self.book.at(one.began)
            page.left += 1
            page.ended.add(self.kernel.now - one.began)
