"""What rides along with a piece of work: one object, inherited by everything the work does.

The context is immutable and lives in a context variable. A door (a server, a consumer, a saga
worker) opens a scope with `bind`; every outgoing call and event inside reads `current()`.

Time is `time.monotonic()` seconds of this process. On a wire, calls carry the time remaining and
events carry an absolute time, because no two machines share a monotonic clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import TracebackType
from typing import TypeAlias

from switchgear.model.trail import Spent

__all__ = [
    "Context",
    "Emits",
    "Priority",
    "TraceParent",
    "bind",
    "current",
    "derived_key",
    "keyed",
    "patience",
    "trace_of",
    "tracing",
]


class Priority(StrEnum):
    """How much a request matters when a server must turn some away."""

    CRITICAL = "critical"
    DEFAULT = "default"
    SHEDDABLE = "sheddable"


@dataclass(frozen=True, slots=True)
class Emits:
    """What the work in progress may publish, as it is declared."""

    by: str
    """Whose declaration it is: a handler, or a service."""
    types: frozenset[str] | None
    """Types of events; None: it does not say, and may publish anything."""


@dataclass(frozen=True, slots=True)
class Context:
    """The inherited part of a request, event or saga step."""

    deadline: float | None = None
    """Monotonic time by which the whole piece of work must be answered; None: no bound."""
    attempt: int = 1
    """Which attempt of the caller this is; above 1, the caller is already retrying."""
    key: str | None = None
    """The idempotency key of this work; keys of outgoing commands are derived from it."""
    priority: Priority = Priority.DEFAULT
    traceparent: str | None = None
    """W3C trace context."""
    tracestate: str | None = None
    caller: str | None = None
    """Who asks: what `app.before` authenticated, else the name that the calling service sent."""
    correlation: str | None = None
    """Id of the first cause: equal in everything that follows from one request."""
    causation: str | None = None
    """Id of the immediate cause: the event that this work answers, or the key of the half step of a
    saga that it is: `saga/o-1/ship/do`."""
    sequence: dict[str, int] = field(default_factory=dict, compare=False, repr=False)
    """How many keys were derived so far, per operation. Shared by the scope's tasks."""
    emits: Emits | None = None
    """What the handler of an event that is at work may publish; None: there is none at work."""

    spent: Spent | None = field(default=None, compare=False, repr=False)
    """Where the time of the request at work goes; None: nobody asks."""

    def due(self, deadline: float | None, spent: Spent | None) -> Context:
        """Return the same with these: `replace`, at a third of its cost."""
        return Context(
            deadline,
            self.attempt,
            self.key,
            self.priority,
            self.traceparent,
            self.tracestate,
            self.caller,
            self.correlation,
            self.causation,
            self.sequence,
            self.emits,
            spent,
        )


_EMPTY = Context()
_SHARE = 0.9
_current: ContextVar[Context | None] = ContextVar("switchgear_context", default=None)


TraceParent: TypeAlias = tuple[str | None, str | None]
"""`traceparent` and `tracestate`, as W3C writes them."""
_in_progress: Callable[[], TraceParent | None] | None = None


def trace_of(context: Context) -> TraceParent:
    """Return what a call or an event that leaves now names as its parent.

    That is the span in progress, where somebody makes spans, else what came with the work.
    """
    if _in_progress is not None:
        found = _in_progress()
        if found is not None:
            return found
    return context.traceparent, context.tracestate


@contextmanager
def tracing(in_progress: Callable[[], TraceParent | None]) -> Iterator[None]:
    """Ask `in_progress` for the span in progress during the body of the `with`."""
    global _in_progress  # noqa: PLW0603  spans are the process's, as signals are
    before, _in_progress = _in_progress, in_progress
    try:
        yield
    finally:
        _in_progress = before


def current() -> Context:
    """Return the context of the work in progress; outside any, an empty one."""
    return _current.get() or _EMPTY


def patience(most: float, now: float) -> float:
    """Return for how many seconds the work in progress may wait for what others hold.

    That is `most`, and at most nine tenths of the time to its deadline: the rest is for saying in
    time that nothing was done. `now` is monotonic time.
    """
    deadline = current().deadline
    return most if deadline is None else min(most, max(0.0, deadline - now) * _SHARE)


class bind:  # noqa: N801  used as a function; a class, because it is entered for every request
    """Make `context` the current one for the body of the `with`."""

    __slots__ = ("_token", "context")

    def __init__(self, context: Context) -> None:
        self.context = context

    def __enter__(self) -> Context:
        self._token = _current.set(self.context)
        return self.context

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _current.reset(self._token)


@contextmanager
def keyed(key: str) -> Iterator[Context]:
    """Give the commands sent in the body keys derived from `key`.

    Inside keyed work (a saga step, an event handler, a keyed request) the given key is combined
    with the work's own, so that `keyed("line-3")` is enough to tell two lines apart.
    """
    outer = current()
    whole = f"{outer.key}/{key}" if outer.key else key
    with bind(replace(outer, key=whole, sequence={})) as inner:
        yield inner


def derived_key(operation: str) -> str | None:
    """Return the key for the next outgoing command `operation`; None where the work has no key.

    It is `<key>/<operation>` for the first such command of the work and `<key>/<operation>#n` for
    the n-th, so a work that is repeated sends the same keys again if it sends its commands in the
    same order. Where it does not (commands of one operation sent concurrently), use `keyed`.
    """
    context = _current.get()
    if context is None or context.key is None:
        return None
    count = context.sequence.get(operation, 0) + 1
    context.sequence[operation] = count
    return f"{context.key}/{operation}" if count == 1 else f"{context.key}/{operation}#{count}"
