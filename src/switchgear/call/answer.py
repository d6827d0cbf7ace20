"""What the drivers share: the answer, the making of a machine, and what it reports.

A driver runs one `Machine` step by step: `aio.py` under asyncio, `threads.py` in threads. Both hand
out what is in the machine's outbox with `deliver`, and both speak of a call with `ended_signal`.
"""

from __future__ import annotations

import random
import threading
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from switchgear.model import wire
from switchgear.model.context import Context, Priority
from switchgear.model.outcome import Ok, Refused, Unavailable, Unknown
from switchgear.model.signal import Signal, SignalKind, emit
from switchgear.policy.machine import Answer, Attempt, Machine
from switchgear.policy.policy import Policy

__all__ = ["Answer", "deliver", "ended_signal", "headers", "new_machine", "retry_after"]


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


def ended_signal(
    kind: SignalKind, machine: Machine, end: object, took: float, attempts: int
) -> Signal:
    """Return the signal that an attempt or a call ended, by an outcome, Answer or exception."""
    label, reason = "raised", None
    if isinstance(end, Answer):
        label = "degraded" if end.degraded else "ok"
    elif isinstance(end, Ok):
        label = "ok"
    elif isinstance(end, Refused):
        label = "refused"
    elif isinstance(end, Unavailable):
        label, reason = "unavailable", str(end.reason)
    elif isinstance(end, Unknown):
        label, reason = "unknown", str(end.reason)
    detail = {"outcome": label, "reason": reason, "seconds": took, "attempts": attempts}
    return Signal(kind, machine.name, detail)


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
