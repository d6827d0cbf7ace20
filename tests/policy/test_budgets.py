"""The other rules for what retries may cost: gRPC's throttling, and the AWS SDKs' token bucket."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchgear.errors import PolicyError
from switchgear.model.outcome import Ok, Reason, Unavailable, Unknown
from switchgear.policy.budget import (
    Account,
    Bucket,
    Budget,
    GrpcThrottling,
    Thermometer,
    TokenBucket,
    account,
)
from switchgear.policy.machine import Attempt, Machine, Wait
from switchgear.policy.policy import Policy


def run(m, outcomes, now=0.0):
    call, left = m.call(now, repeatable=True), iter(outcomes)
    step = call.begin(now)
    while isinstance(step, Attempt | Wait):
        if isinstance(step, Wait):
            step = call.resumed(step.until)
        else:
            step = call.ended(step.started + 0.001, step, next(left))
    return step


def machine(budget):
    return Machine(Policy(budget=budget, breaker=None), random=lambda: 0.0)


def down():
    while True:
        yield Unavailable(reason=Reason.CONNECT)


def test_by_the_rule_of_grpc_retries_stop_when_the_bucket_is_half_empty():
    # gRFC A6: 10 tokens, a failure takes one, retries while more than 5 are left
    m = machine(GrpcThrottling(max_tokens=10, token_ratio=0.5))
    assert run(m, down()).attempts == 3  # 10 -> 7
    assert run(m, down()).attempts == 2  # 7 -> 5: not more than half
    assert run(m, down()).attempts == 1
    assert m.account.tokens == 4
    for _ in range(4):
        run(m, [Ok(1)])
    assert m.account.tokens == 6
    assert run(m, [Unavailable(reason=Reason.CONNECT), Ok(1)]).attempts == 1
    for _ in range(3):
        run(m, [Ok(1)])
    assert run(m, [Unavailable(reason=Reason.CONNECT), Ok(1)]).attempts == 2


def test_by_the_rule_of_aws_a_retry_costs_and_a_retry_that_succeeds_gives_back():
    m = machine(TokenBucket(capacity=20, retry_cost=5, timeout_cost=10, refund=1))
    assert run(m, [Unavailable(reason=Reason.CONNECT), Ok(1)]).attempts == 2
    assert m.account.tokens == 20
    assert run(m, [Unknown(reason=Reason.TIMEOUT), Ok(1)]).attempts == 2
    assert m.account.tokens == 20
    assert run(m, down()).attempts == 3
    assert m.account.tokens == 10
    assert run(m, [Unknown(reason=Reason.TIMEOUT), Unknown(reason=Reason.TIMEOUT)]).attempts == 2
    assert m.account.tokens == 0
    assert run(m, down()).attempts == 1
    for _ in range(5):
        run(m, [Ok(1)])
    assert m.account.tokens == 5
    assert m.account.balance(0.0) == 1


@given(st.lists(st.sampled_from(["ok", "retried", "failed", "pay", "pay late"])))
def test_a_bucket_is_never_below_nothing_nor_above_its_size(acts):
    purses = [account(GrpcThrottling(max_tokens=4)), account(TokenBucket(capacity=30))]
    for act in acts:
        for purse in purses:
            before = purse.balance(0.0)
            if act == "ok":
                purse.succeeded(0.0)
            elif act == "retried":
                purse.succeeded(0.0, retried=True)
            elif act == "failed":
                purse.failed()
            else:
                paid = purse.withdraw(0.0, timed_out=act == "pay late")
                assert purse.empty is not paid
                assert paid or before < 2.0000001
            assert 0 <= purse.tokens <= 30


def test_another_size_keeps_what_is_in_the_bucket():
    thermometer = account(GrpcThrottling(max_tokens=10))
    thermometer.failed()
    assert account(GrpcThrottling(max_tokens=100), thermometer).tokens == 9
    assert account(GrpcThrottling(max_tokens=5), thermometer).tokens == 5
    bucket = account(TokenBucket())
    bucket.withdraw(0.0)
    assert account(TokenBucket(capacity=1000), bucket).tokens == 495
    kept = account(Budget(reserve=5))
    kept.withdraw(1.0)
    assert account(Budget(reserve=2, window=20), kept).balance(1.0) == 1


def test_another_rule_begins_anew():
    thermometer = account(GrpcThrottling(max_tokens=10))
    thermometer.failed()
    assert isinstance(account(TokenBucket(), thermometer), Bucket)
    assert isinstance(account(Budget(), thermometer), Account)
    assert isinstance(account(GrpcThrottling(), Account(Budget())), Thermometer)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: GrpcThrottling(max_tokens=0), "max_tokens is 0"),
        (lambda: GrpcThrottling(token_ratio=0), "token_ratio is 0"),
        (lambda: TokenBucket(retry_cost=600), "retry_cost is 600 and timeout_cost is 10"),
        (lambda: TokenBucket(timeout_cost=4), "retry_cost is 5 and timeout_cost is 4"),
    ],
)
def test_settings_out_of_range_are_refused(make, words):
    with pytest.raises(PolicyError, match=words):
        make()
