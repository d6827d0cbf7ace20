"""A function under its guard: how each of its calls is made, async or sync.

In keyed work each attempt of a call derives the same keys, so that what the function sends in turn
is the same command again. A query takes no key and counts as no effect of the work in progress.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Hashable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any

from switchgear.call import aio, threads
from switchgear.call.answer import Answer, effects, inherited
from switchgear.database.port import committed
from switchgear.errors import PolicyError
from switchgear.model.context import bind, current, derived_key
from switchgear.model.edge import Pattern
from switchgear.model.outcome import Refused, Unavailable
from switchgear.policy.machine import Attempt

if TYPE_CHECKING:
    from switchgear.call.guard import Guard

__all__ = ["Guarded"]

Scope = Callable[[], AbstractContextManager[object]]

_LAZY = (CoroutineType, GeneratorType, AsyncGeneratorType)


class Guarded:
    """How one function is called under its guard."""

    __slots__ = (
        "classify",
        "effect",
        "function",
        "guard",
        "is_async",
        "keyed",
        "machine",
        "name",
        "repeatable",
        "signature",
    )

    def __init__(
        self,
        guard: Guard,
        function: Callable[..., Any],
        *,
        repeatable: bool | None,
        keyed: str | None,
    ) -> None:
        self.guard = guard
        self.classify = guard.outcome
        self.function = function
        self.name = getattr(function, "__qualname__", repr(function))
        self.repeatable = guard.pattern is Pattern.QUERY if repeatable is None else repeatable
        self.keyed = keyed
        self.is_async = inspect.iscoroutinefunction(function)
        self.machine = guard.machine_at(operation=self.name)
        self.effect = guard.pattern is not Pattern.QUERY
        """Whether a call may have changed something: see `committed`."""
        where = f"Guard({guard.name!r}) around {self.name}"
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise PolicyError(
                "a generator cannot be guarded: its body runs when its values are taken, after "
                "the guarded call has returned.",
                where=where,
                fix="Guard a function that returns all values, or the call that fetches one.",
            )
        if inspect.isclass(function) or not callable(function):
            raise PolicyError(
                f"{function!r} is not a function.", where=where, fix="Guard a function or method."
            )
        self.signature = inspect.signature(function) if keyed is not None else None
        if self.signature is not None and keyed not in self.signature.parameters:
            raise PolicyError(
                f"keyed={keyed!r} names no parameter of {self.name}.",
                where=where,
                fix="Name the parameter that holds the idempotency key.",
            )

    def wrapped_async(self) -> Callable[..., Any]:
        """Return the guarded coroutine function."""
        machine, classify, function = self.machine, self.classify, self.function
        repeatable, usual, effect = self.repeatable, self.keyed is None, self.effect

        @functools.wraps(function)
        async def guarded(*args: Any, **kwargs: Any) -> Any:
            context = inherited()
            if not usual or machine.shelf is not None or context.key is not None:
                return (await self.drive_async(args, kwargs)).value
            # the usual call, without the detours that it does not need
            try:
                answer = await aio.drive(
                    machine,
                    lambda _: function(*args, **kwargs),
                    repeatable=repeatable,
                    context=context,
                    classify=classify,
                )
            except (Refused, Unavailable):
                raise
            except BaseException:
                if effect:
                    committed()
                raise
            if effect:
                committed()
            return answer.value

        return guarded

    def wrapped_sync(self) -> Callable[..., Any]:
        """Return the guarded function."""
        machine, classify, function, finished = (
            self.machine,
            self.classify,
            self.function,
            self._finished,
        )
        repeatable, usual, effect = self.repeatable, self.keyed is None, self.effect

        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            context = inherited()
            if not usual or machine.shelf is not None or context.key is not None:
                return self.drive_sync(args, kwargs).value
            # the usual call, without the detours that it does not need
            try:
                answer = threads.drive(
                    machine,
                    lambda _: finished(function(*args, **kwargs)),
                    repeatable=repeatable,
                    context=context,
                    classify=classify,
                )
            except (Refused, Unavailable):
                raise
            except BaseException:
                if effect:
                    committed()
                raise
            if effect:
                committed()
            return answer.value

        return guarded

    async def drive_async(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Answer[Any]:
        """Make the call under asyncio."""
        function, context = self.function, inherited()

        def attempt(_: Attempt) -> Awaitable[Any]:
            return function(*args, **kwargs)  # type: ignore[no-any-return]  # it is a coroutine function

        key = None if self.keyed is None else self._key(args, kwargs)
        with effects(possible=self.effect):
            return await aio.drive(
                self.machine,
                attempt if context.key is None else self._scoped(attempt),
                repeatable=self.repeatable or key is not None,
                key=key,
                context=context,
                cache_key=self._cache_key(args, kwargs),
                classify=self.classify,
            )

    def drive_sync(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Answer[Any]:
        """Make the call in this thread."""
        scope = self._scope()

        def attempt(_: Attempt) -> Any:
            with scope():
                return self._finished(self.function(*args, **kwargs))

        key = None if self.keyed is None else self._key(args, kwargs)
        with effects(possible=self.effect):
            return threads.drive(
                self.machine,
                attempt,
                repeatable=self.repeatable or key is not None,
                key=key,
                cache_key=self._cache_key(args, kwargs),
                classify=self.classify,
            )

    def _scoped(
        self, attempt: Callable[[Attempt], Awaitable[Any]]
    ) -> Callable[[Attempt], Awaitable[Any]]:
        scope = self._scope()

        async def scoped(step: Attempt) -> Any:
            with scope():
                return await attempt(step)

        return scoped

    def _finished(self, value: object) -> object:
        """Refuse what has not run yet: it would run when the guard has gone."""
        if not isinstance(value, _LAZY):
            return value
        if isinstance(value, CoroutineType):
            value.close()
        raise PolicyError(
            f"{self.name} returned a {type(value).__name__}, which has not run yet.",
            where=f"Guard({self.guard.name!r})",
            fix="Guard an `async def` function, or one that returns a finished value.",
        )

    def _scope(self) -> Scope:
        """Give each attempt of keyed work the same keys to derive from; a query needs none."""
        context = current()
        if context.key is None or not self.effect:
            return nullcontext
        key = derived_key(self.guard.name)
        return lambda: bind(replace(context, key=key, sequence={}))

    def _key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
        if self.signature is None or self.keyed is None:
            return None
        key = self.signature.bind(*args, **kwargs).arguments.get(self.keyed)
        return None if key is None else str(key)

    def _cache_key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hashable:
        if self.machine.shelf is None:
            return None
        named = tuple(sorted(kwargs.items()))
        # 1, 1.0 and True are equal and not the same question; nor are two functions of one name
        kinds = (*map(type, args), *(type(value) for _, value in named))
        key = (self, args, named, kinds)
        try:
            hash(key)
        except TypeError:
            return None
        return key
