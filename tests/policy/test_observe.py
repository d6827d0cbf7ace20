"""Parts that only observe: they say what they would have done, and do nothing."""

from __future__ import annotations

import pytest

from switchgear.errors import PolicyError
from switchgear.model.context import Context
from switchgear.model.outcome import Ok, Reason, Rejected, Unavailable, Unknown
from switchgear.model.signal import SignalKind
from switchgear.policy.breaker import Breaker
from switchgear.policy.budget import Budget
from switchgear.policy.fallback import Fallback
from switchgear.policy.limit import Limit
from switchgear.policy.machine import Machine, Wait
from switchgear.policy.policy import PARTS, Policy


def machine(**parts):
    parts.setdefault("observe", True)
    return Machine(Policy(**parts), name="edge", random=lambda: 0.5)


def observed(m):
    return [
        item.detail["part"] for item in m.drain() if getattr(item, "kind", "") == "policy.observed"
    ]


def down():
    return Unavailable(reason=Reason.CONNECT)


def test_a_call_past_its_deadline_goes_on():
    m = machine(deadline=1, attempt_timeout=0.5)
    call = m.call(0.0, repeatable=True)
    attempt = call.begin(0.0)
    assert attempt.timeout is None
    assert call.ended(3.0, attempt, Ok(1)).value == 1
    assert observed(m) == ["attempt_timeout", "deadline"]


def refused(call, attempt):
    call.ended(3.0, attempt, Rejected("no"))


def failed(call, attempt):
    call.ended(3.0, attempt, down())


def left(call, _):
    call.cancelled(3.0)
    call.cancelled(4.0)


@pytest.mark.parametrize("end", [refused, failed, left])
def test_a_call_past_its_deadline_is_told_once_however_it_ends(end):
    m = machine(deadline=1, attempt_timeout=0.5, retry=None)
    call = m.call(0.0, repeatable=True)
    end(call, call.begin(0.0))
    assert observed(m) == ["attempt_timeout", "deadline"]


def test_a_call_in_time_is_not_told():
    m = machine(deadline=1, attempt_timeout=0.5, retry=None)
    call = m.call(0.0, repeatable=True)
    call.ended(0.5, call.begin(0.0), down())
    assert observed(m) == []


def test_what_the_caller_has_left_still_holds():
    m = machine(deadline=1)
    call = m.call(0.0, repeatable=True, context=Context(deadline=0.7))
    assert call.begin(0.0).deadline == 0.7


def test_a_failure_is_not_retried_and_the_budget_pays_as_if_it_were():
    m = machine(budget=Budget(reserve=2))
    for _ in range(3):
        call = m.call(0.0, repeatable=True)
        end = call.ended(0.1, call.begin(0.0), down())
        assert (end.attempts, end.final) == (1, False)
    assert observed(m) == ["retry", "retry", "budget", "retry"]
    assert m.account.balance(0.1) == 0


def test_an_observing_budget_alone_lets_retries_pass():
    m = machine(budget=Budget(reserve=0, ratio=0), observe=["budget"])
    call = m.call(0.0, repeatable=True)
    assert isinstance(call.ended(0.1, call.begin(0.0), down()), Wait)
    assert observed(m) == ["budget"]


def test_nobody_is_turned_away_by_a_breaker():
    m = machine(breaker=Breaker(consecutive=1), retry=None)
    for _ in range(3):
        call = m.call(0.0, repeatable=False)
        call.ended(0.0, call.begin(0.0), Unknown(reason=Reason.RESET))
    assert observed(m) == ["breaker", "breaker"]
    assert m.state == "open"


def test_nobody_queues_or_is_turned_away_by_a_limit():
    m = machine(limit=Limit(concurrency=1, queue=0), breaker=None)
    calls = [m.call(0.0, repeatable=False) for _ in range(3)]
    attempts = [call.begin(0.0) for call in calls]
    assert [attempt.number for attempt in attempts] == [1, 1, 1]
    assert (observed(m), m.gate.in_flight) == (["limit", "limit"], 3)
    for call, attempt in zip(calls, attempts, strict=True):
        call.ended(0.1, attempt, Ok(1))
    assert m.gate.in_flight == 0


def test_a_failure_is_not_replaced():
    m = machine(fallback=Fallback(value=7), retry=None)
    call = m.call(0.0, repeatable=True)
    assert isinstance(call.ended(0.1, call.begin(0.0), down()), Unavailable)
    assert observed(m) == ["fallback"]


def test_signals_carry_what_would_have_happened():
    m = machine(limit=Limit(concurrency=1, queue=0), breaker=None)
    m.call(0.0, repeatable=False).begin(0.0)
    m.call(0.0, repeatable=False).begin(0.0)
    (signal,) = m.drain()
    assert signal.kind is SignalKind.POLICY_OBSERVED
    assert signal.detail == {"part": "limit", "concurrency": 1, "queue": 0}


def test_parts_are_named():
    assert Policy(observe=True).observe == PARTS
    assert Policy(observe=["limit", "retry"]).observe == ("retry", "limit")
    assert Policy(observe="limit").observe == ("limit",)
    with pytest.raises(PolicyError, match="'brake', which is no part of a policy"):
        Policy(observe=["brake"])
