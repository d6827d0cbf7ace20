"""What the parts of a policy report, and with which details: dashboards are built on them."""

from __future__ import annotations

from switchgear.model.outcome import Ok, Reason, Unknown
from switchgear.model.signal import Signal, SignalKind
from switchgear.policy.breaker import Breaker, Circuit, Evidence
from switchgear.policy.budget import Budget, GrpcThrottling, TokenBucket, account
from switchgear.policy.machine import Machine
from switchgear.policy.policy import Policy


def circuit(**given):
    told = []
    made = Circuit(Breaker(jitter=0, **given), lambda: 0.5, lambda *one: told.append(one))
    return made, told


def fails(made, now, took=0.0, times=1):
    for _ in range(times):
        made.failed(now, made.admit(now), took)


def test_a_breaker_that_opens_says_by_which_evidence_and_for_how_long():
    made, told = circuit(evidence=(Evidence(10, 10),))
    made.succeeded(1.0, made.admit(1.0), 0.0)
    fails(made, 2.0, times=9)
    detail = {"trigger": "failures", "seconds": 30.0, "failures": 9, "calls": 10, "window": 10.0}
    assert told == [(SignalKind.BREAKER_OPENED, detail)]


def test_a_breaker_that_opens_by_a_row_says_how_long_it_was():
    made, told = circuit(consecutive=3)
    fails(made, 2.0, times=3)
    detail = {"trigger": "consecutive", "seconds": 30.0, "failures": 3}
    assert told == [(SignalKind.BREAKER_OPENED, detail)]


def test_a_breaker_that_opens_by_slow_calls_says_so():
    made, told = circuit(slow=0.5, confidence=None, evidence=(Evidence(10, 2),))
    for _ in range(2):
        made.succeeded(2.0, made.admit(2.0), 0.6)
    detail = {"trigger": "slow", "seconds": 30.0, "failures": 2, "calls": 2, "window": 10.0}
    assert told == [(SignalKind.BREAKER_OPENED, detail)]


def test_a_breaker_reports_each_state_once():
    made, told = circuit(consecutive=1, probes=2, ramp=7)
    fails(made, 0.0)
    one, other = made.admit(31.0), made.admit(31.0)
    made.failed(31.5, one, 0.0)
    made.succeeded(31.6, other, 0.0)
    assert told[1:] == [
        (SignalKind.BREAKER_HALF_OPENED, {"probes": 2}),
        (SignalKind.BREAKER_OPENED, {"trigger": "probe", "seconds": 60.0}),
    ]
    told.clear()
    for _ in range(2):
        made.succeeded(95.0, made.admit(95.0), 0.0)
    assert told == [
        (SignalKind.BREAKER_HALF_OPENED, {"probes": 2}),
        (SignalKind.BREAKER_CLOSED, {"ramp": 7.0}),
    ]


def test_a_breaker_that_only_observes_says_what_it_would_have_done_and_in_which_state():
    policy = Policy(breaker=Breaker(consecutive=1, jitter=0), observe=("breaker",), retry=None)
    machine = Machine(policy, name="edge", random=lambda: 0.5)
    for now in (0.0, 1.0):
        call = machine.call(now, repeatable=True)
        attempt = call.begin(now)
        call.ended(now, attempt, Unknown(reason=Reason.RESET))
    told = [one for one in machine.drain() if isinstance(one, Signal)]
    assert [one.subject for one in told] == ["edge"] * len(told)
    observed = [one.detail for one in told if one.kind is SignalKind.POLICY_OBSERVED]
    assert observed == [{"part": "breaker", "state": "open"}]


def test_a_policy_that_is_reloaded_goes_on_with_its_breaker_and_says_so():
    machine = Machine(
        Policy(breaker=Breaker(consecutive=1, jitter=0), retry=None), random=lambda: 0.5
    )
    call = machine.call(0.0, repeatable=True)
    call.ended(0.0, call.begin(0.0), Unknown(reason=Reason.RESET))
    machine.drain()
    machine.reload(1.0, Policy(breaker=Breaker(consecutive=1, jitter=0, longest=60), retry=None))
    (told,) = machine.drain()
    assert (told.kind, told.detail) == (SignalKind.POLICY_RELOADED, {})
    # it does not observe now, so it goes on turning calls away
    away = machine.call(2.0, repeatable=True).begin(2.0)
    assert (away.reason, away.retry_after) == (Reason.BREAKER_OPEN, 28.0)


def test_a_budget_that_is_exhausted_says_so_once_and_what_is_left():
    policy = Policy(budget=Budget(ratio=0.5, reserve=0), breaker=None)
    machine = Machine(policy, random=lambda: 0.5)
    call = machine.call(0.0, repeatable=True)
    call.ended(0.0, call.begin(0.0), Ok(1))
    for _ in range(3):
        call = machine.call(0.1, repeatable=True)
        call.ended(0.1, call.begin(0.1), Unknown(reason=Reason.RESET))
    told = [(one.kind, one.detail) for one in machine.drain()]
    assert told == [(SignalKind.BUDGET_EXHAUSTED, {"balance": 0.5})]


def test_no_budget_begins_exhausted():
    for settings in (Budget(), GrpcThrottling(), TokenBucket()):
        assert account(settings).empty is False


def test_a_first_attempt_that_succeeds_refunds_a_token_bucket_less_than_a_retry_does():
    bucket = account(TokenBucket(capacity=30, retry_cost=5, timeout_cost=10, refund=1))
    assert bucket.withdraw(0.0)
    assert bucket.withdraw(0.0, timed_out=True)
    assert bucket.tokens == 15
    bucket.succeeded(0.0)
    assert bucket.tokens == 16
    bucket.succeeded(0.0, retried=True)
    assert bucket.tokens == 21
    bucket.succeeded(0.0, retried=True, timed_out=True)
    assert bucket.tokens == 30
