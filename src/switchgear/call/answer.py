"""What the drivers share: the answer, the making of a machine, and what it reports.

A driver runs one `Machine` step by step: `aio.py` under asyncio, `threads.py` in threads. Both hand
out what is in the machine's outbox, and report the ends of attempts and calls to who listens.
"""

from __future__ import annotations

import random
import threading
from asyncio import CancelledError
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from math import inf
from time import monotonic
from typing import Final, NoReturn, TypeVar

from switchgear.call.process import refuse_to_leave
from switchgear.database.port import committed
from switchgear.model.context import Context, current
from switchgear.model.outcome import Reason, Refused, Unavailable, Unknown
from switchgear.model.signal import Detail, Signal, SignalKind, began, emit, listening
from switchgear.model.trail import SLOW, Hop, Spent, extended, told
from switchgear.policy.budget import AnyBudget, Purse, account
from switchgear.policy.machine import Answer, Attempt, Call, Machine
from switchgear.policy.policy import Policy

__all__ = [
    "Answer",
    "Begun",
    "Classify",
    "Failure",
    "Machines",
    "Meaning",
    "abandoned",
    "attempt_began",
    "attempt_ended",
    "call_began",
    "call_ended",
    "deliver",
    "effects",
    "in_flight",
    "inherited",
    "meant",
    "new_machine",
    "remaining",
    "took",
    "trailed",
]

D = TypeVar("D")
Failure = Refused | Unavailable | Unknown
Classify = Callable[[Exception], Failure | None]

_CLOCKS: Final = 0.025
"""Seconds by which gRPC's idea of a deadline and ours may differ."""

in_flight: ContextVar[Attempt | None] = ContextVar("switchgear_in_flight", default=None)
"""The attempt that the guarded function in progress is. What it calls in turn inherits from it."""


def remaining() -> float | None:
    """Return how many seconds the work in progress still has; None: no bound, 0: none.

    In a guarded function that is what is left of the attempt, else what is left of the context.
    """
    deadline = inherited().deadline
    return None if deadline is None else max(0.0, deadline - monotonic())


def inherited() -> Context:
    """Return what a call made now inherits: `current()`, bounded by the attempt in progress."""
    context, attempt = current(), in_flight.get()
    # a task that outlives the attempt that started it is not bound by it
    if attempt is None or not attempt.call.flies(attempt):
        return context
    deadline = context.deadline
    if attempt.deadline != inf and (deadline is None or attempt.deadline < deadline):
        deadline = attempt.deadline
    return replace(context, deadline=deadline, attempt=attempt.wire_number)


class _Machine(Machine):
    """A machine at work in this process. One of a simulator is a plain one, and is pickled."""

    __slots__ = ("__weakref__",)

    def __reduce__(self) -> NoReturn:
        refuse_to_leave(self)


def new_machine(name: str, policy: Policy | None = None) -> Machine:
    """Return the machine of one edge, for any driver; without a policy, the default one.

    It may be shared by tasks, event loops and threads.
    """
    return _Machine(policy or Policy(), name=name, random=random.random, lock=threading.Lock())


class Machines:
    """Machines of several edges between one caller and one callee: they share their budgets."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._purses: dict[AnyBudget, Purse] = {}

    def new(self, name: str, policy: Policy) -> Machine:
        """Return the machine of one of the edges."""
        return _Machine(
            policy,
            name=name,
            random=random.random,
            lock=self._lock,
            shared=True,
            purse=self._purse(policy),
        )

    def reload(self, changes: Iterable[tuple[Machine, Policy]]) -> None:
        """Give all the machines other policies; see `Machine.reload`. Their outboxes are filled."""
        now = monotonic()
        # what they hold goes over through the machines
        self._purses.clear()
        for machine, policy in changes:
            machine.reload(now, policy, purse=self._purse(policy, machine.account))

    def forget(self, machines: Iterable[Machine]) -> None:
        """Let all the machines begin anew, with another lock: this process was forked."""
        self._lock = threading.Lock()
        self._purses.clear()
        for machine in machines:
            # in place: guarded functions and transports hold the machine
            Machine.__init__(
                machine,
                machine.policy,
                name=machine.name,
                random=machine.random,
                lock=self._lock,
                shared=True,
                purse=self._purse(machine.policy),
            )

    def _purse(self, policy: Policy, before: Purse | None = None) -> Purse | None:
        """Return the account for a policy's budget; equal budgets are one."""
        if policy.budget is None:
            return None
        with self._lock:
            found = self._purses.get(policy.budget)
            if found is None:
                found = self._purses[policy.budget] = account(policy.budget, before)
            return found


@contextmanager
def effects(*, possible: bool) -> Iterator[None]:
    """Note that the work in progress had an effect, if the call in the body may have had one.

    A door says that a request was not executed only where it had none at all.
    """
    try:
        yield
    except (Refused, Unavailable):
        raise
    except BaseException:
        # in doubt, and so is what was cancelled or raised something else after it was sent
        if possible:
            committed()
        raise
    if possible:
        committed()


def deliver(machine: Machine) -> None:
    """Wake the calls whose turn has come, and emit the signals in the machine's outbox."""
    while machine.outbox:
        items = machine.drain()
        # in this order: whoever listens may raise
        for item in items:
            if not isinstance(item, Signal) and item.wake is not None:
                item.wake()
        for item in items:
            if isinstance(item, Signal):
                emit(item)


def call_began(call: Call, context: Context) -> int:
    """Emit that a call began, and return the id for its end; 0 where nobody listens."""
    if not listening():
        return 0
    detail = {"traceparent": context.traceparent, "tracestate": context.tracestate}
    return began(SignalKind.CALL_BEGAN, call.machine.name, detail)


def attempt_began(attempt: Attempt) -> int:
    """Emit that an attempt began, and return the id for its end; 0 where nobody listens."""
    if not listening():
        return 0
    detail = {"attempts": attempt.number}
    return began(SignalKind.ATTEMPT_BEGAN, attempt.call.machine.name, detail)


def attempt_ended(attempt: Attempt, end: BaseException | None, now: float, span: int) -> None:
    """Emit that an attempt ended; None: it was answered. Only for where somebody is listening."""
    took = now - attempt.started
    _emit(SignalKind.ATTEMPT_ENDED, attempt.call, end, took, attempt.number, span)


def call_ended(call: Call, end: object, since: float, span: int) -> None:
    """Emit that a call ended. Only for where somebody is listening."""
    _emit(SignalKind.CALL_ENDED, call, end, monotonic() - since, call.made, span)


def abandoned(call: Call, error: BaseException, since: float, span: int) -> None:
    """End a call that was cancelled, or whose attempt raised what is not an outcome."""
    call.cancelled(monotonic())
    deliver(call.machine)
    if listening():
        call_ended(call, error, since, span)


class Begun:
    """A stream of replies whose call has ended well, with the first of them: it may fail yet.

    Made when that is known, of the attempt that was answered. The call began at `since`, and the
    caller has bounded the stream by `until`.
    """

    __slots__ = ("_answered", "_attempt", "_since", "_until")

    def __init__(self, attempt: Attempt, *, since: float, until: float) -> None:
        self._attempt: Attempt | None = attempt
        self._since, self._until = since, until
        self._answered = monotonic()

    def failed(self, failure: Unavailable | Unknown) -> None:
        """Count the stream as a failed call, once, and add its edge to the failure's trail.

        That it lasts until the caller's own bound says nothing about the callee, and counts for
        nothing: how long it lasts is the reader's choice.
        """
        attempt, self._attempt = self._attempt, None
        if attempt is None:
            return
        now, call = monotonic(), attempt.call
        failure.attempts = call.made
        trailed(failure, call, self._since, None)
        if failure.reason is not Reason.TIMEOUT or now < self._until - _CLOCKS:
            call.broke(now, attempt, self._answered, failure)
            deliver(call.machine)
        if listening():
            _emit(SignalKind.STREAM_FAILED, call, failure, now - self._since, call.made, 0)


def trailed(end: D, call: Call, since: float, spent: Spent | None) -> D:
    """Add the edge of a call that has failed to the trail of its failure; return how it ended.

    `spent` is told where the time of the request at work went, also of a call that went well.
    """
    seconds = monotonic() - since
    if isinstance(end, Unavailable | Unknown):
        hop = Hop(call.machine.name, _label(end), str(end.reason), end.attempts, seconds)
        end.trail = extended(end.trail, hop)
        if spent is not None:
            spent.failed(call, end.trail)
    elif spent is not None and isinstance(end, Answer):
        took(call, seconds, spent)
    elif spent is not None:
        spent.below.pop(call, None)
    return end


def took(call: Call, seconds: float, spent: Spent) -> None:
    """Note a call that went well, if none of the request at work took longer."""
    if seconds <= spent.seconds:
        if spent.below:
            spent.below.pop(call, None)
    else:
        spent.took(call, Hop(call.machine.name, "ok", SLOW, call.made, seconds))
        outer = in_flight.get()
        if outer is not None:  # a guarded function has made it, whose own call takes longer still
            spent.below[outer.call] = spent.trail


def _label(failure: Unavailable | Unknown) -> str:
    return "unavailable" if isinstance(failure, Unavailable) else "unknown"


def _emit(  # noqa: PLR0917  what the two ends have in common
    kind: SignalKind, call: Call, end: object, took: float, number: int, span: int
) -> None:
    label, reason = "raised", None
    if isinstance(end, Answer):
        label = "degraded" if end.degraded else "ok"
    elif end is None:
        label = "ok"
    elif isinstance(end, Refused):
        label = "refused"
    elif isinstance(end, Unavailable | Unknown):
        label, reason = _label(end), str(end.reason)
    elif isinstance(end, CancelledError):
        label = "cancelled"
    detail: dict[str, Detail] = {
        "outcome": label,
        "reason": reason,
        "seconds": took,
        "attempts": number,
    }
    if isinstance(end, Unavailable | Unknown) and end.trail:
        detail["trail"] = told(end.trail)
    if label == "degraded" and kind is SignalKind.CALL_ENDED:
        # before the end, so that it belongs to the call
        emit(Signal(SignalKind.FALLBACK_USED, call.machine.name, {"attempts": number}))
    emit(Signal(kind, call.machine.name, detail, span))


Meaning = tuple[tuple[type[Exception], ...], type[Unavailable | Unknown], Reason]
"""What some types of exception mean: the class of the outcome, and its reason."""


def meant(error: Exception, meanings: Iterable[Meaning]) -> Unavailable | Unknown | None:
    """Return the outcome of the first meaning that fits an exception; None: none does."""
    for types, kind, reason in meanings:
        if isinstance(error, types):
            return kind(f"{type(error).__name__}: {error}", reason=reason, cause=error)
    return None
