"""Commits that are shared: what arrives while one is under way goes into the next together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Generic, TypeVar

__all__ = ["Group"]

A = TypeVar("A")
B = TypeVar("B")


class Group(Generic[A, B]):
    """Hands items to `flush` in order, as many at a time as are waiting, up to `most`.

    A single client waits for nothing but its own commit: there is no timer. If a group fails as a
    whole, each of its callers is raised the same error.
    """

    def __init__(self, flush: Callable[[list[A]], Awaitable[list[B]]], *, most: int = 256) -> None:
        self._flush = flush
        self._most = most
        self._waiting: deque[tuple[A, asyncio.Future[B]]] = deque()
        self._running: asyncio.Task[None] | None = None

    async def put(self, item: A) -> B:
        """Return what `flush` returned for `item`."""
        future: asyncio.Future[B] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._running is None:
            # not in the context of who comes first: the deadline of its work is not the others'
            self._running = asyncio.create_task(self._run(), context=Context())
        return await future

    async def _run(self) -> None:
        try:
            while self._waiting:
                count = min(len(self._waiting), self._most)
                group = [self._waiting.popleft() for _ in range(count)]
                await self._commit(group)
        finally:
            self._running = None

    async def _commit(self, group: list[tuple[A, asyncio.Future[B]]]) -> None:
        try:
            results = await self._flush([item for item, _ in group])
        except BaseException as error:
            for _, future in group:
                if not future.done():
                    future.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        for (_, future), result in zip(group, results, strict=True):
            if not future.done():
                future.set_result(result)
