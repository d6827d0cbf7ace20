"""Saying more about one call, and hearing more of its answer.

    answer = await ask(inventory.stock, GetStock(sku="tea"), deadline=0.2)
    answer.value, answer.degraded, answer.age, answer.attempts

`ask_sync` is the same from threads that have no event loop (Flask, Django, Celery). The calls of
all threads run on one event loop in the background, so they share connections, breakers and budgets
with each other; deadline and context are those of the calling thread. The connections that they
opened are closed when the client is dropped, and at exit, which waits at most two seconds for it.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future, wait
from datetime import timedelta
from typing import Any, Final, TypeVar

from switchgear.call.answer import Answer
from switchgear.call.client import core_of
from switchgear.call.core import AskedWrongly, Core
from switchgear.call.process import abandon, in_a_forked_process
from switchgear.contract.message import Message

__all__ = ["ask", "ask_sync"]

Q = TypeVar("Q", bound=Message)
R = TypeVar("R", bound=Message)
T = TypeVar("T")
Closing = Callable[[], Coroutine[Any, Any, None]]

_AT_EXIT: Final = 2.0
"""For so many seconds the end of the process waits for connections to close."""


async def ask(
    method: Callable[[Q], Awaitable[R]],
    request: Q,
    *,
    deadline: float | timedelta | None = None,
    key: str | None = None,
) -> Answer[R]:
    """Make one call of a client's `method` and return the answer with what is known about it.

    deadline: for this call, in seconds, instead of the policy's; never beyond the caller's own.
    key: the idempotency key of a keyed command; the same key again is the same command.

    Raises what the plain call raises, and `AskedWrongly` for what is not a method of a client.
    """
    core = core_of(getattr(method, "__self__", None))
    seconds = deadline.total_seconds() if isinstance(deadline, timedelta) else deadline
    name: str = method.__name__
    return await core.call(name, request, deadline=seconds, key=key)


def ask_sync(
    method: Callable[[Q], Awaitable[R]],
    request: Q,
    *,
    deadline: float | timedelta | None = None,
    key: str | None = None,
) -> Answer[R]:
    """Do what `ask` does, from a thread without an event loop; the thread waits.

    Raises `AskedWrongly` inside an event loop, which it would bring to a halt.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        core = core_of(getattr(method, "__self__", None))
        return _background().run(core, ask(method, request, deadline=deadline, key=key))
    raise AskedWrongly(
        "ask_sync waits, and this thread runs an event loop.", fix="Write: await ask(...)."
    )


class _Background:
    """One event loop in a thread of its own, for all callers of `ask_sync`."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._known: weakref.WeakKeyDictionary[Core, Closing] = weakref.WeakKeyDictionary()
        self._closing: set[Future[None]] = set()
        self._over = False
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="switchgear-ask", daemon=True
        )
        self._thread.start()
        atexit.register(self._end)

    def run(self, core: Core, call: Coroutine[Any, Any, T]) -> T:
        if core not in self._known:
            self._know(core)
        # the task is made in a copy of the calling thread's context
        future = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _know(self, core: Core) -> None:
        with _lock:
            if core not in self._known:
                closing = self._known[core] = core.closing(self._loop)
                # not at exit: that is `_end`, which waits for it
                weakref.finalize(core, self._close, closing).atexit = False

    def _close(self, closing: Closing) -> None:
        # without a lock: whatever thread collects garbage may be here
        if self._over or _one is not self:
            return
        future = asyncio.run_coroutine_threadsafe(closing(), self._loop)
        self._closing.add(future)
        future.add_done_callback(self._closing.discard)

    def _end(self) -> None:
        if _one is not self:
            return  # a forked process ends: all of this is its parent's
        with _lock:
            known = list(self._known.values())
        for closing in known:
            self._close(closing)
        wait(set(self._closing), timeout=_AT_EXIT)
        self._over = True
        self._loop.call_soon_threadsafe(self._loop.stop)


_one: _Background | None = None
_lock = threading.Lock()


def _background() -> _Background:
    global _one  # noqa: PLW0603  the loop belongs to the process
    with _lock:
        if _one is None:
            _one = _Background()
        return _one


def _forked() -> None:
    """Forget the loop, whose thread is the parent's, and a lock that may be held there."""
    global _one, _lock
    abandon(_one)
    _one, _lock = None, threading.Lock()


in_a_forked_process(_forked)
