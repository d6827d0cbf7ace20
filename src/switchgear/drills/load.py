"""Visitors: requests offered at given times, whatever became of the ones before.

The load is open: a request is due at its time even if the system is slow, and its time is taken
from when it was due. A closed loop would ask less of a system the slower it gets, and would then
report that all is well.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from switchgear.errors import MissingExtra

if TYPE_CHECKING:
    import aiohttp

__all__ = ["Answer", "Sample", "Visitors", "at_random", "evenly", "offer"]

PATIENCE: Final = 10.0
"""Seconds after which a visitor leaves."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a visitor got."""

    status: int
    """The HTTP status; 0: no answer came."""
    body: Any = None
    """What the JSON says. (`Any`: pages differ.)"""

    @property
    def good(self) -> bool:
        """Whether the visitor got what they came for."""
        return 200 <= self.status < 300  # noqa: PLR2004


@dataclass(frozen=True, slots=True)
class Sample:
    """One request of a load."""

    due: float
    """Seconds after the load began."""
    took: float
    """Seconds from when it was due to the answer, or to giving up."""
    answer: Answer
    late: float = 0.0
    """Seconds by which it was sent later than it was due: the visitors' own machine was busy."""


def evenly(rate: float, seconds: float) -> list[float]:
    """Return the times of `rate` requests a second, at equal distances."""
    return [number / rate for number in range(round(rate * seconds))]


def at_random(rate: float, count: int, chance: Random) -> list[float]:
    """Return the times of `count` requests that arrive independently (a Poisson process)."""
    now, times = 0.0, []
    for _ in range(count):
        now += chance.expovariate(rate)
        times.append(now)
    return times


async def offer(times: Sequence[float], ask: Callable[[int], Awaitable[Answer]]) -> list[Sample]:
    """Call `ask(number)` at each of the times and return what became of it, in that order."""
    clock = asyncio.get_running_loop().time
    began = clock()

    async def one(number: int, due: float) -> Sample:
        late = clock() - began - due
        answer = await ask(number)
        return Sample(due, clock() - began - due, answer, late)

    tasks = []
    try:
        for number, due in enumerate(times):
            await asyncio.sleep(began + due - clock())
            tasks.append(asyncio.create_task(one(number, due)))
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Visitors:
    """Clients that know nothing of the library: plain HTTP, no retries, some patience."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self.patience = patience
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        try:
            import aiohttp  # noqa: PLC0415  an extra
        except ImportError as error:
            raise MissingExtra("aiohttp", "http") from error
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, url: str, patience: float | None = None) -> Answer:
        """Ask for a page."""
        return await self._ask("GET", url, None, None, patience)

    async def post(
        self,
        url: str,
        body: object,
        *,
        headers: Mapping[str, str] | None = None,
        patience: float | None = None,
    ) -> Answer:
        """Send a JSON body."""
        return await self._ask("POST", url, body, headers, patience)

    async def _ask(
        self,
        method: str,
        url: str,
        body: object,
        headers: Mapping[str, str] | None,
        patience: float | None,
    ) -> Answer:
        import aiohttp  # noqa: PLC0415  an extra

        if self._session is None:
            raise RuntimeError("visitors come inside `async with`")
        bound = aiohttp.ClientTimeout(total=patience or self.patience)
        try:
            async with self._session.request(
                method, url, json=body, headers=headers, timeout=bound
            ) as response:
                raw = await response.read()
                status = response.status
        except (TimeoutError, aiohttp.ClientError):
            return Answer(0)
        try:
            return Answer(status, json.loads(raw))
        except ValueError:
            return Answer(status, raw.decode(errors="replace"))
