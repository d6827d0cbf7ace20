"""What keeps a part with loops of its own from its work, and how long it waits to try again.

Each loop is *doing* something under a name. What is unavailable is tried again after a
pause that doubles, less up to half of it at random. What nobody expected is reported too, and the
loop goes on: else a consumer would be dead and look alive.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

__all__ = ["PAUSE", "Troubles"]

PAUSE: Final = 0.1
"""The first pause, in seconds."""
_PAUSE_MOST: Final = 5.0


class Troubles:
    """The troubles of `who`. `draw` gives numbers in [0, 1) for the jitter of pauses."""

    def __init__(self, who: str, draw: Callable[[], float]) -> None:
        self._who = who
        self._draw = draw
        self._times: Counter[str] = Counter()
        self._errors: dict[str, str] = {}
        self._broken: set[str] = set()

    @property
    def error(self) -> str | None:
        """What keeps it from working; None while all is well."""
        return "; ".join(self._errors.values()) or None

    @property
    def broken(self) -> str | None:
        """What fails in a way that nobody expected, while it does; it is tried again."""
        return "; ".join(self._errors[doing] for doing in sorted(self._broken)) or None

    def over(self, doing: str) -> None:
        """Take note that all is well with it."""
        self._broken.discard(doing)
        self._times.pop(doing, None)
        self._errors.pop(doing, None)

    def met(self, doing: str, why: str) -> float:
        """Take note that something is unavailable; return how many seconds to wait."""
        self._times[doing] += 1
        if why:
            self._errors[doing] = f"{doing}: {why}"
        most = min(PAUSE * 2.0 ** min(self._times[doing] - 1, 10), _PAUSE_MOST)
        return most * (1.0 - self._draw() / 2)

    def report(self, doing: str, error: BaseException) -> float:
        """Take note of an error that nobody expected; return how many seconds to wait.

        The loop's exception handler is told once, while the error stays the same.
        """
        what = f"{doing}: {type(error).__qualname__}: {error}"
        known = doing in self._broken and self._errors.get(doing) == what
        self._errors[doing] = what
        self._broken.add(doing)
        if not known:
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"{self._who}: {doing} failed", "exception": error}
            )
        return self.met(doing, "")

    async def for_ever(self, doing: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work` again after an error that nobody expected."""
        while True:
            try:
                await work()
            except Exception as error:  # noqa: BLE001  reported, and it is not ready meanwhile
                self.report(doing, error)
            await asyncio.sleep(_PAUSE_MOST)
