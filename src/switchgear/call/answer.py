"""What the drivers share: the answer, the making of a machine, and what it reports.

A driver runs one `Machine` step by step: `aio.py` under asyncio, `threads.py` in threads. Both hand
out what is in the machine's outbox, and report the ends of attempts and calls to who listens.
"""

from __future__ import annotations

import random
import threading
from asyncio import CancelledError
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from time import monotonic

from switchgear.model import wire
from switchgear.model.context import Context, Priority
from switchgear.model.outcome import Ok, Refused, Unavailable, Unknown
from switchgear.model.signal import Signal, SignalKind, emit, listening
from switchgear.policy.machine import Answer, Attempt, Call, Machine
from switchgear.policy.policy import Policy

__all__ = [
    "Answer",
    "abandoned",
    "attempt_ended",
    "call_ended",
    "deliver",
    "headers",
    "new_machine",
    "retry_after",
]


def new_machine(name: str, policy: Policy | None = None) -> Machine:
    """Return the machine of one edge, for any driver; without a policy, the default one.

    It may be shared by tasks, event loops and threads.
    """
    return Machine(policy or Policy(), name=name, random=random.random, lock=threading.Lock())


def deliver(machine: Machine) -> None:
    """Emit the signals in the machine's outbox, and wake the calls whose turn has come."""
    while machine.outbox:
        for item in machine.drain():
            if isinstance(item, Signal):
                emit(item)
            elif item.wake is not None:
                item.wake()


def attempt_ended(attempt: Attempt, outcome: object, now: float) -> None:
    """Emit that an attempt ended. Call it only where somebody is listening."""
    took = now - attempt.started
    _emit(SignalKind.ATTEMPT_ENDED, attempt.call, outcome, took, attempt.number)


def call_ended(call: Call, end: object, began: float) -> None:
    """Emit that a call ended. Call it only where somebody is listening."""
    _emit(SignalKind.CALL_ENDED, call, end, monotonic() - began, call.made)


def abandoned(call: Call, error: BaseException, began: float) -> None:
    """End a call that was cancelled, or whose attempt raised what is not an outcome."""
    call.cancelled(monotonic())
    deliver(call.machine)
    if listening():
        call_ended(call, error, began)


def _emit(kind: SignalKind, call: Call, end: object, took: float, number: int) -> None:
    label, reason = "raised", None
    if isinstance(end, Answer):
        label = "degraded" if end.degraded else "ok"
    elif isinstance(end, Ok):
        label = "ok"
    elif isinstance(end, Refused):
        label = "refused"
    elif isinstance(end, Unavailable | Unknown):
        label, reason = type(end).__name__.lower(), str(end.reason)
    elif isinstance(end, CancelledError):
        label = "cancelled"
    detail = {"outcome": label, "reason": reason, "seconds": took, "attempts": number}
    emit(Signal(kind, call.machine.name, detail))
    if label == "degraded" and kind is SignalKind.CALL_ENDED:
        emit(Signal(SignalKind.FALLBACK_USED, call.machine.name, {"attempts": number}))


def headers(
    attempt: Attempt, context: Context, now: float, *, caller: str | None = None
) -> dict[str, str]:
    """Return what goes on an HTTP request besides the message; see `model/wire.py`.

    `caller` is the name of this service. Nothing is sent of what is not known.
    """
    sent = {wire.ATTEMPT: str(attempt.wire_number)}
    if attempt.timeout is not None:
        # rounded up: a callee told 0 would not begin
        sent[wire.TIMEOUT] = str(max(1, -int(-(attempt.deadline - now) * 1000 // 1)))
    if attempt.key is not None:
        sent[wire.IDEMPOTENCY_KEY] = attempt.key
    if context.priority is not Priority.DEFAULT:
        sent[wire.PRIORITY] = context.priority
    if context.traceparent is not None:
        sent[wire.TRACEPARENT] = context.traceparent
        if context.tracestate is not None:
            sent[wire.TRACESTATE] = context.tracestate
    if caller is not None:
        sent[wire.CALLER] = caller
    return sent


def retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Return the seconds that a Retry-After header asks for: a number, or an HTTP date.

    None: there is no such header, or it cannot be read. `now` is the wall clock.
    """
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())
