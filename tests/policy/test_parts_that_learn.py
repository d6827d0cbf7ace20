"""Adaptive limits and the throttle inside a policy: what they are told, and what they then do."""

from __future__ import annotations

import pytest

from switchgear.model.outcome import Ok, Reason, Rejected, Unavailable, Unknown
from switchgear.model.signal import SignalKind
from switchgear.policy.adaptive import Aimd, Gradient, Vegas
from switchgear.policy.limit import Limit
from switchgear.policy.machine import Attempt, Machine, Queue
from switchgear.policy.policy import Policy
from switchgear.policy.throttle import Throttle

FAST = Aimd(initial=4, minimum=1, maximum=50, increase=4, backoff=0.5)


def machine(draw=lambda: 0.5, **parts):
    parts.setdefault("retry", None)
    parts.setdefault("breaker", None)
    return Machine(Policy(**parts), name="edge", random=draw)


def limited(rule=FAST, **limit):
    return machine(limit=Limit(concurrency=rule, **limit))


def begun(m, count, now=0.0):
    calls = [m.call(now, repeatable=False) for _ in range(count)]
    return [(call, call.begin(now)) for call in calls]


def test_a_limit_in_use_grows_and_wakes_who_waits():
    m = limited()
    calls = begun(m, 10)
    assert sum(isinstance(step, Queue) for _, step in calls) == 6
    call, attempt = calls[0]
    call.ended(0.1, attempt, Ok(1))
    assert m.gate.concurrency == 5
    assert m.drain() == [calls[4][0], calls[5][0]]
    assert m.gate.in_flight == 5


@pytest.mark.parametrize(
    ("outcome", "limit"),
    [
        (Unknown(reason=Reason.TIMEOUT), 2),
        (Unavailable(reason=Reason.NOT_EXECUTED), 2),
        (Unavailable(reason=Reason.CONNECT), 4),
        (Unknown(reason=Reason.RESET), 4),
        (Unavailable(reason=Reason.LIMIT), 4),
        (Rejected("no"), 5),
    ],
)
def test_what_an_end_says_about_the_limit(outcome, limit):
    m = limited()
    (call, attempt), *_ = begun(m, 4)
    call.ended(0.1, attempt, outcome)
    assert m.gate.concurrency == limit


def test_a_limit_that_shrank_throws_nobody_out():
    m = limited(queue=0)
    calls = begun(m, 4)
    for call, attempt in calls[:1]:
        call.ended(0.1, attempt, Unknown(reason=Reason.TIMEOUT))
    assert (m.gate.concurrency, m.gate.in_flight) == (2, 3)
    assert isinstance(m.call(0.1, repeatable=False).begin(0.1), Unavailable)


def test_what_was_found_goes_over_to_another_rule():
    m = limited()
    for call, attempt in begun(m, 4):
        call.ended(0.1, attempt, Ok(1))
    found = m.gate.concurrency
    assert found > 4
    m.reload(0.2, m.policy)
    assert m.gate.concurrency == found
    m.reload(0.2, Policy(limit=Limit(concurrency=Vegas(maximum=30))))
    assert m.gate.concurrency == found
    m.reload(0.2, Policy(limit=Limit(concurrency=Gradient(maximum=5, initial=5))))
    assert m.gate.concurrency == 5
    m.reload(0.2, Policy(limit=Limit(concurrency=7)))
    assert (m.gate.concurrency, m.gate.estimator) == (7, None)


def test_a_cancelled_attempt_teaches_nothing():
    m = limited()
    (call, _), *_ = begun(m, 4)
    call.cancelled(5.0)
    assert m.gate.concurrency == 4


def overloaded(m, count=30):
    for _ in range(count):
        call = m.call(0.0, repeatable=False)
        step = call.begin(0.0)
        if isinstance(step, Attempt):
            call.ended(0.0, step, Unavailable(reason=Reason.NOT_EXECUTED))


def test_a_callee_that_turns_requests_away_is_sent_fewer():
    m = machine(throttle=Throttle(reserve=5))
    overloaded(m)
    end = m.call(0.0, repeatable=False).begin(0.0)
    assert isinstance(end, Unavailable)
    assert (end.reason, end.local) == (Reason.THROTTLED, True)
    assert [signal.kind for signal in m.drain()] == [SignalKind.THROTTLE_ACTIVE]
    assert m.gate.in_flight == 0


def test_answers_and_refusals_are_what_a_callee_takes_on():
    m = machine(throttle=Throttle())
    for outcome in (Ok(1), Rejected("no"), Unavailable(reason=Reason.CONNECT)):
        call = m.call(0.0, repeatable=False)
        call.ended(0.0, call.begin(0.0), outcome)
    local = m.call(0.0, repeatable=False)
    local.ended(0.0, local.begin(0.0), Unavailable(reason=Reason.LIMIT))
    assert m.throttling.tally.totals(0.0) == [(2, 1)]


def test_an_observing_throttle_reports_and_lets_pass():
    m = machine(throttle=Throttle(reserve=5), observe=["throttle"])
    overloaded(m)
    assert m.throttling.tally.totals(0.0) == [(0, 30)]
    kinds = {signal.kind for signal in m.drain()}
    assert kinds == {SignalKind.POLICY_OBSERVED}


def test_what_the_throttle_counted_goes_over():
    m = machine(throttle=Throttle(reserve=5))
    overloaded(m)
    m.reload(0.0, Policy(throttle=Throttle(reserve=0)))
    assert isinstance(m.call(0.0, repeatable=False).begin(0.0), Unavailable)
