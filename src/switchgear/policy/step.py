"""What the machine decides, one step at a time; see `machine.py` for when."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeAlias, TypeVar

from switchgear.model.outcome import Refused, Unavailable, Unknown
from switchgear.policy.breaker import Ticket

if TYPE_CHECKING:
    from switchgear.policy.call import Call

__all__ = ["Answer", "Attempt", "Decision", "Hedgeable", "Instead", "Queue", "Wait"]

T = TypeVar("T")


@dataclass(slots=True)
class Answer(Generic[T]):
    """What a call that was answered brings home."""

    value: T
    degraded: bool = False
    """Whether a fallback made it, because the callee could not be asked."""
    age: float | None = None
    """Seconds since a stale value was fresh; None: it is fresh, or was never the callee's."""
    attempts: int = 1
    """How many attempts were made."""


class Attempt:
    """Decision: ask the callee, once."""

    __slots__ = ("call", "deadline", "number", "started", "ticket")

    hedge_at: ClassVar[float] = math.inf
    """Monotonic time at which `Call.hedge` wants to be told that it is still in flight."""

    def __init__(
        self, call: Call, number: int, started: float, deadline: float, ticket: Ticket | None
    ) -> None:
        self.call = call
        self.number = number
        """Which attempt of this call it is, from 1; rivals count."""
        self.started = started
        self.deadline = deadline
        """Monotonic time by which it must have ended; `inf`: no bound."""
        self.ticket = ticket

    @property
    def timeout(self) -> float | None:
        """How many seconds it may take from its start; None: no bound."""
        return None if self.deadline == math.inf else self.deadline - self.started

    @property
    def wire_number(self) -> int:
        """Which attempt it is counting the layers above: what goes on the wire."""
        return self.call.upstream + self.number - 1

    @property
    def key(self) -> str | None:
        """The idempotency key of the call; the same in each of its attempts."""
        return self.call.key

    def __repr__(self) -> str:
        return f"Attempt(number={self.number}, timeout={self.timeout})"


class Hedgeable(Attempt):
    """An attempt that may get a rival."""

    __slots__ = ("hedge_at",)

    hedge_at: float  # type: ignore[misc]  # a slot instead of the class's own value


@dataclass(frozen=True, slots=True)
class Wait:
    """Decision: pause until then, before another attempt."""

    until: float


@dataclass(frozen=True, slots=True)
class Queue:
    """Decision: wait to be woken, at most until then; `inf`: no bound.

    `Call.granted` says that it was: there is a place, or the call that it shares has ended.
    """

    until: float


@dataclass(frozen=True, slots=True)
class Instead:
    """Decision: answer what `function` makes of the failure. The call is over."""

    function: Callable[[Unavailable | Unknown], Any]
    outcome: Unavailable | Unknown
    attempts: int


Decision: TypeAlias = (
    Attempt | Wait | Queue | Instead | Answer[Any] | Refused | Unavailable | Unknown
)
