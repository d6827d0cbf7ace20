"""What the parts of a policy report, and with which details: dashboards are built on them."""

from __future__ import annotations

from switchgear.model.outcome import Ok, Reason, Unavailable, Unknown
from switchgear.model.signal import Signal, SignalKind
from switchgear.policy.breaker import Breaker, Circuit, Evidence
from switchgear.policy.budget import Budget, GrpcThrottling, TokenBucket, account
from switchgear.policy.hedge import Hedge
from switchgear.policy.limit import Limit
from switchgear.policy.machine import Machine
from switchgear.policy.policy import Policy
from switchgear.policy.throttle import Throttle


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
    (opened,) = [one.detail for one in told if one.kind is SignalKind.BREAKER_OPENED]
    assert opened["observed"] is True


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


def test_what_a_call_is_told_names_the_edge_and_the_reason():
    machine = Machine(
        Policy(limit=Limit(concurrency=1, queue=1, wait=0.1), breaker=Breaker(consecutive=1)),
        name="shop -> pay",
        random=lambda: 0.5,
    )

    def begin(now, deadline=None):
        call = machine.call(now, repeatable=False, deadline=deadline)
        return call, call.begin(now)

    first, attempt = begin(0.0)
    waiting, _ = begin(0.0)
    assert str(begin(0.0)[1]) == "[SG420] shop -> pay: 1 attempts are in flight"
    assert str(waiting.resumed(0.1)) == "[SG420] shop -> pay: waited too long for a free place"
    late, _ = begin(0.2, deadline=0.05)
    first.ended(0.21, attempt, Unknown(reason=Reason.RESET))
    assert str(late.resumed(0.4)) == "[SG420] shop -> pay: the deadline has passed"
    assert str(begin(0.5)[1]) == "[SG420] shop -> pay: the breaker is open"


def told_by(policy, took, *, hedged=None):
    """The signals of one call that takes so long, and is hedged at a time or not."""
    machine = Machine(policy, random=lambda: 0.5)
    call = machine.call(10.0, repeatable=True)
    attempt = call.begin(10.0)
    if hedged is not None:
        call.hedge(hedged)
    call.ended(10.0 + took, attempt, Ok(1))
    return [(one.kind, dict(one.detail)) for one in machine.drain()]


def test_bounds_that_only_observe_say_how_far_they_were_passed():
    late = Policy(deadline=1, observe=("deadline",), breaker=None)
    assert told_by(late, 1.5) == [
        (SignalKind.POLICY_OBSERVED, {"part": "deadline", "late": 0.5}),
    ]
    assert told_by(late, 1.0) == []
    slow = Policy(attempt_timeout=0.5, observe=("attempt_timeout",), breaker=None)
    assert told_by(slow, 0.75) == [
        (SignalKind.POLICY_OBSERVED, {"part": "attempt_timeout", "seconds": 0.75}),
    ]
    assert told_by(slow, 0.5) == []


def test_a_rival_is_reported_with_its_number_and_how_late_the_other_was():
    policy = Policy(hedge=Hedge(after=0.25), breaker=None)
    detail = {"after": 0.25, "number": 2}
    assert told_by(policy, 0.5, hedged=10.25) == [(SignalKind.HEDGE_SENT, detail)]


def test_a_throttle_says_when_it_begins_and_with_which_share():
    policy = Policy(throttle=Throttle(reserve=0, most=1), breaker=None, retry=None)
    machine = Machine(policy, random=lambda: 0.9)
    for now in (1.0, 1.1, 1.2):
        call = machine.call(now, repeatable=True)
        call.ended(now, call.begin(now), Unavailable(reason=Reason.NOT_EXECUTED))
    told = [(one.kind, dict(one.detail)) for one in machine.drain()]
    assert told == [(SignalKind.THROTTLE_ACTIVE, {"share": 0.5})]
    seen = Machine(
        Policy(throttle=Throttle(reserve=0, most=1), observe=("throttle",), retry=None),
        random=lambda: 0.4,
    )
    for now in (1.0, 1.1):
        call = seen.call(now, repeatable=True)
        call.ended(now, call.begin(now), Unavailable(reason=Reason.NOT_EXECUTED))
    told = [(one.kind, dict(one.detail)) for one in seen.drain()]
    assert told == [(SignalKind.POLICY_OBSERVED, {"part": "throttle", "share": 0.5})]


def test_a_rival_that_lost_gives_its_place_to_who_waits():
    policy = Policy(hedge=Hedge(after=0.25), limit=Limit(concurrency=2, queue=2), breaker=None)
    machine = Machine(policy, random=lambda: 0.5)
    call = machine.call(0.0, repeatable=True)
    first = call.begin(0.0)
    rival = call.hedge(0.25)
    waiting = [machine.call(0.3, repeatable=True) for _ in range(2)]
    for one in waiting:
        one.begin(0.3)
    call.ended(0.4, rival, Ok(1))
    assert [one for one in machine.drain() if one in waiting] == waiting[:1]
    call.lost(0.45, first)
    assert [one for one in machine.drain() if one in waiting] == waiting[1:]
    call.lost(0.5, first)
    assert machine.gate.in_flight == 2
