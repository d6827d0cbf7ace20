"""What settings accept, what they refuse and how they say so."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from switchgear.errors import PolicyError
from switchgear.policy.breaker import Breaker, Evidence
from switchgear.policy.budget import Budget, TokenBucket
from switchgear.policy.fallback import Fallback, Stale
from switchgear.policy.hedge import Hedge
from switchgear.policy.limit import Limit
from switchgear.policy.policy import Policy
from switchgear.policy.retry import Retry


def test_a_policy_with_no_arguments_is_the_documented_default():
    policy = Policy()
    assert policy.deadline == 1.0
    assert policy.retry == Retry(attempts=3, base=0.1, jitter="full")
    assert policy.budget == Budget(ratio=0.1)
    assert policy.breaker is not None
    assert (policy.breaker.threshold, policy.breaker.open) == (0.5, 30.0)
    assert policy.breaker.evidence == (Evidence(1.0, 20), Evidence(10.0, 10))
    assert policy.limit is not None
    assert policy.fallback is None


def test_durations_may_be_timedeltas_and_are_kept_as_seconds():
    policy = Policy(
        deadline=timedelta(milliseconds=300),
        attempt_timeout=timedelta(milliseconds=100),
        retry=Retry(base=timedelta(milliseconds=20)),
        breaker=Breaker(open=timedelta(minutes=1), evidence=(Evidence(timedelta(seconds=5), 10),)),
        limit=Limit(wait=timedelta(milliseconds=5)),
        fallback=Fallback(stale=Stale(max_age=timedelta(minutes=5))),
    )
    assert policy == Policy(
        deadline=0.3,
        attempt_timeout=0.1,
        retry=Retry(base=0.02),
        breaker=Breaker(open=60, evidence=(Evidence(5, 10),)),
        limit=Limit(wait=0.005),
        fallback=Fallback(stale=Stale(max_age=300)),
    )


@pytest.mark.parametrize(
    ("make", "setting", "allowed"),
    [
        (lambda: Policy(deadline=0), "deadline", "above 0"),
        (lambda: Policy(attempt_timeout=-1), "attempt_timeout", "above 0"),
        (lambda: Policy(deadline="1s"), "deadline", "seconds or a timedelta"),
        (lambda: Policy(deadline=True), "deadline", "seconds or a timedelta"),
        (lambda: Policy(deadline=float("nan")), "deadline", "above 0"),
        (lambda: Policy(retry=3), "retry", "Retry(...), or None"),
        (lambda: Policy(retry=False), "retry", "Retry(...), or None"),
        (lambda: Policy(budget=0.1), "budget", "Budget(...) or GrpcThrottling(...)"),
        (lambda: Policy(hedge=True), "hedge", "Hedge(...), or None"),
        (lambda: Policy(throttle=True), "throttle", "Throttle(...), or None"),
        (lambda: Policy(breaker=False), "breaker", "Breaker(...), or None"),
        (lambda: Policy(limit=5), "limit", "Limit(...), or None"),
        (lambda: Policy(fallback="none"), "fallback", "Fallback(...), or None"),
        (lambda: Fallback(stale=60), "stale", "Stale(...), or None"),
        (lambda: Fallback(function=60), "function", "cannot be called"),
        (lambda: Breaker(evidence=((1, 20),)), "evidence", "Evidence(seconds, calls)"),
        (lambda: Retry(attempts=0), "attempts", "at least 1 and at most 100"),
        (lambda: Retry(base=0), "base", "above 0"),
        (lambda: Retry(jitter="some"), "jitter", "full, equal, decorrelated"),
        (lambda: Budget(ratio=-0.1), "ratio", "at least 0 and at most 10"),
        (lambda: Budget(reserve=-1), "reserve", "at least 0"),
        (lambda: Budget(window=0), "window", "above 0"),
        (lambda: Breaker(threshold=0), "threshold", "above 0 and at most 1"),
        (lambda: Breaker(threshold=1.2), "threshold", "above 0 and at most 1"),
        (lambda: Breaker(confidence=0.3), "confidence", "at least 0.5 and at most 0.9999"),
        (lambda: Breaker(evidence=()), "evidence", "at least one"),
        (lambda: Breaker(consecutive=0), "consecutive", "at least 1"),
        (lambda: Breaker(growth=0.5), "growth", "at least 1 and at most 10"),
        (lambda: Breaker(jitter=2), "jitter", "at least 0 and at most 1"),
        (lambda: Breaker(probes=0), "probes", "at least 1"),
        (lambda: Breaker(mode="off"), "mode", "auto, open, closed"),
        (lambda: Evidence(0, 10), "seconds", "above 0"),
        (lambda: Evidence(1, 0), "calls", "at least 1"),
        (lambda: Limit(concurrency=0), "concurrency", "at least 1"),
        (lambda: Limit(queue=-1), "queue", "at least 0"),
        (lambda: Stale(size=0), "size", "at least 1"),
        (lambda: Stale(max_age=0), "max_age", "above 0"),
        (lambda: Retry(attempts=None), "attempts", "a whole number, at least 1"),
        (lambda: Retry(attempts=2.5), "attempts", "a whole number, at least 1"),
        (lambda: Retry(cap=None), "cap", "not a duration"),
        (lambda: Limit(queue=None), "queue", "a whole number, at least 0"),
        (lambda: Limit(wait=None), "wait", "not a duration"),
        (lambda: Limit(concurrency=1.5), "concurrency", "or one of Aimd, Gradient, Vegas"),
        (lambda: Breaker(consecutive=2.5), "consecutive", "a whole number"),
        (lambda: Breaker(threshold=None), "threshold", "above 0 and at most 1"),
        (lambda: Evidence(1, 2.5), "calls", "a whole number"),
        (lambda: TokenBucket(timeout_cost=None), "timeout_cost", "a whole number"),
    ],
)
def test_a_setting_out_of_range_is_refused_with_its_name_and_its_range(make, setting, allowed):
    with pytest.raises(PolicyError) as refused:
        make()
    assert setting in str(refused.value)
    assert allowed in str(refused.value)


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: Policy(deadline=0.2, attempt_timeout=0.5), ("attempt_timeout", "deadline")),
        (lambda: Retry(base=1, cap=0.5), ("base is 1", "cap is 0.5")),
        (lambda: Breaker(longest=1), ("open is 30", "longest is 1")),
        (lambda: TokenBucket(retry_cost=11), ("retry_cost is 11", "timeout_cost is 10")),
        (lambda: Breaker(threshold=1), ("threshold", "confidence")),
        (lambda: Breaker(slow=1, slow_threshold=1), ("slow_threshold", "confidence")),
        (lambda: Fallback(value=1, function=str), ("value", "function")),
        (Fallback, ("stale", "value", "function")),
        (lambda: Policy(deadline=0.2, hedge=Hedge(least=0.2)), ("hedge.least", "deadline")),
    ],
)
def test_settings_that_contradict_each_other_are_refused_with_both_names(make, names):
    with pytest.raises(PolicyError) as refused:
        make()
    for name in names:
        assert name in str(refused.value)


def test_the_plain_rate_may_have_a_threshold_of_one():
    assert Breaker(threshold=1, confidence=None).threshold == 1


def test_going_unguarded_takes_a_reason():
    policy = Policy.none(reason="a local socket that cannot be slow")
    assert policy.unguarded == "a local socket that cannot be slow"
    assert (policy.deadline, policy.retry, policy.budget) == (None, None, None)
    assert (policy.breaker, policy.limit, policy.fallback) == (None, None, None)
    with pytest.raises(PolicyError, match="empty reason"):
        Policy.none(reason=" ")


def test_a_description_is_plain_data_with_every_setting():
    policy = Policy(fallback=Fallback(stale=Stale(), function=len))
    plain = policy.describe()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["deadline"] == 1.0
    assert plain["retry"] == {"attempts": 3, "base": 0.1, "cap": 10.0, "jitter": "full"}
    assert plain["breaker"]["evidence"][0] == {"seconds": 1.0, "calls": 20}
    assert plain["fallback"] == {
        "stale": {"max_age": 60.0, "size": 1000, "single_flight": True},
        "value": None,
        "function": "len",
    }
    assert Fallback(value=None).describe()["value"] == "None"
