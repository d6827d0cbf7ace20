"""Whether a call makes another attempt: after one that failed, or beside one that is late."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from switchgear.model.outcome import Reason, Unavailable, Unknown
from switchgear.model.signal import SignalKind
from switchgear.policy.retry import pause, worth_retrying
from switchgear.policy.sharing import More
from switchgear.policy.step import Attempt

if TYPE_CHECKING:
    from switchgear.policy.call import Call

__all__ = ["pause_after", "rival_due", "takes_rival"]


def pause_after(call: Call, now: float, outcome: Unavailable | Unknown) -> float | None:
    """Return how long to wait before the attempt after one that failed; None: there is none."""
    machine = call.machine
    retry = machine.policy.retry
    said = [outcome]
    if call.more is not None and call.more.heard:
        # what the rivals of this attempt were told holds as well
        said += call.more.heard
        call.more.heard.clear()
    asked = [one.retry_after for one in said if one.retry_after is not None]
    if (
        retry is None
        or call.upstream > 1
        or call.made >= retry.attempts
        or any(one.final for one in said)
        or not worth_retrying(outcome, repeatable=call.repeatable)
        or any(time < 0 for time in asked)
    ):
        return None
    longest = max(asked, default=None)
    wait = pause(retry, call.made, call.paused, longest, machine.random)
    if now + wait >= call.deadline or not _paid(call, now):
        return None
    return None if machine.observes("retry", {"pause": wait}) else wait


def rival_due(call: Call, started: float, deadline: float, more: More) -> float:
    """Return when an attempt that starts now is late enough for a rival; `inf`: it gets none."""
    pacer = call.machine.pacer
    if (
        pacer is None
        or not call.repeatable
        or call.upstream > 1
        or len(more.rivals) >= pacer.settings.rivals
    ):
        return inf
    due = started + pacer.delay(started)
    return due if due < deadline else inf


def takes_rival(call: Call, now: float, more: More, late: Attempt) -> bool:
    """Tell whether a late attempt gets a rival; if so, it is paid for and has its place."""
    machine = call.machine
    pacer, circuit, gate, throttling = (
        machine.pacer,
        machine.circuit,
        machine.gate,
        machine.throttling,
    )
    if pacer is None or len(more.rivals) >= pacer.settings.rivals:
        return False
    observed = machine.policy.observes
    if circuit is not None and circuit.standing is None and not observed("breaker"):
        return False
    if throttling is not None and not throttling.standing and not observed("throttle"):
        return False
    detail = {"after": now - late.started, "number": call.made + 1}
    if machine.observes("hedge", detail) or gate.waiting or not gate.enter():
        return False
    if not _paid(call, now):
        gate.leave(now)
        return False
    machine.report(SignalKind.HEDGE_SENT, detail)
    return True


def _paid(call: Call, now: float) -> bool:
    """Pay for another attempt, if the budget allows."""
    machine, account = call.machine, call.machine.account
    if account is None:
        return True
    was_empty, before = account.empty, call.failure
    timed_out = before is not None and before.reason is Reason.TIMEOUT
    if account.withdraw(now, timed_out=timed_out):
        return True
    detail = {"balance": account.balance(now)}
    if machine.observes("budget", detail):
        return True
    if not was_empty:
        machine.report(SignalKind.BUDGET_EXHAUSTED, detail)
    return False
