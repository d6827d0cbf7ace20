"""What two attempts at a time must not lose: doubt, marks, wake-ups, and what they cost."""

from __future__ import annotations

import pytest

from switchgear.errors import PolicyError
from switchgear.model.outcome import Ok, Reason, Rejected, Unavailable, Unknown
from switchgear.policy.breaker import Breaker
from switchgear.policy.budget import TokenBucket
from switchgear.policy.defaults import Defaults
from switchgear.policy.fallback import Fallback, Stale
from switchgear.policy.hedge import Hedge, Pacer
from switchgear.policy.limit import Limit
from switchgear.policy.machine import Machine, Queue, Wait
from switchgear.policy.policy import Policy
from switchgear.policy.throttle import Throttle
from switchgear.policy.window import Tally


def machine(**parts):
    parts.setdefault("hedge", Hedge(after=0.1))
    return Machine(Policy(**parts), name="edge", random=lambda: 0.5)


def raced(m, now=0.0, **call):
    call = m.call(now, repeatable=True, **call)
    first = call.begin(now)
    return call, first, call.hedge(first.hedge_at)


def test_a_rejected_rival_does_not_speak_for_a_keyed_command_in_flight():
    m = machine()
    call, first, rival = raced(m, key="order-7")
    assert call.ended(0.2, rival, Rejected("who are you?")) is first
    assert call.ended(0.3, first, Ok("done")).value == "done"
    call, first, rival = raced(m, now=1.0, key="order-8")
    call.ended(1.2, rival, Rejected("who are you?"))
    step = call.ended(1.3, first, Unknown(reason=Reason.RESET))
    assert isinstance(step, Wait)
    again = call.resumed(step.until)
    end = call.ended(1.9, again, Rejected("who are you?"))
    assert isinstance(end, Unknown)
    assert end.key == "order-8"
    assert m.gate.in_flight == 0


@pytest.mark.parametrize("marks", [{"final": True}, {"retry_after": -1.0}])
def test_what_one_was_told_holds_for_the_call(marks):
    m = machine()
    call, first, rival = raced(m)
    assert call.ended(0.2, first, Unavailable(reason=Reason.NOT_EXECUTED, **marks)) is rival
    end = call.ended(0.3, rival, Unavailable(reason=Reason.CONNECT))
    assert isinstance(end, Unavailable)


def test_the_longest_time_that_was_asked_for_is_waited():
    m = machine(deadline=9)
    call, first, rival = raced(m)
    call.ended(0.2, first, Unavailable(reason=Reason.NOT_EXECUTED, retry_after=5.0))
    step = call.ended(0.3, rival, Unavailable(reason=Reason.CONNECT))
    assert step.until >= 5.3


def test_a_rival_that_lost_is_not_paid_back():
    m = machine(budget=TokenBucket(capacity=10, retry_cost=5, refund=0))
    for _ in range(2):
        call, first, rival = raced(m)
        assert rival is not None
        call.ended(0.2, first, Ok(1))
        call.lost(0.2, rival)
    assert raced(m)[2] is None
    m = machine(budget=TokenBucket(capacity=10, retry_cost=5, refund=0))
    call, first, rival = raced(m)
    call.ended(0.2, rival, Ok(1))
    assert m.account.tokens == 10


def test_no_rival_while_the_callee_is_throttled():
    m = machine(throttle=Throttle(), breaker=None)
    call = m.call(0.0, repeatable=True)
    call.begin(0.0)
    m.throttling.turned_away(0.05)
    assert call.hedge(0.1) is None


def test_an_observing_breaker_changes_nothing_about_rivals():
    m = machine(breaker=Breaker(consecutive=1), observe=["breaker"])
    failed = m.call(0.0, repeatable=False)
    failed.ended(0.0, failed.begin(0.0), Unknown(reason=Reason.RESET))
    assert raced(m)[2] is not None


def test_whoever_is_woken_too_soon_waits_on():
    m = machine(hedge=None, limit=Limit(concurrency=1), breaker=None, deadline=9)
    one = m.call(0.0, repeatable=False)
    attempt = one.begin(0.0)
    two = m.call(0.0, repeatable=False)
    assert two.begin(0.0) == two.resumed(0.1) == Queue(0.25)
    one.ended(0.2, attempt, Ok(1))
    assert two.resumed(0.2).number == 1
    m = machine(hedge=None, fallback=Fallback(stale=Stale()))
    leader, follower = (m.call(0.0, repeatable=True, cache_key="a") for _ in range(2))
    attempt = leader.begin(0.0)
    assert follower.begin(0.0) == follower.resumed(0.1) == Queue(1.0)
    leader.ended(0.2, attempt, Ok(7))
    assert follower.resumed(0.2).value == 7


def test_a_percentile_is_there_as_soon_as_enough_was_measured():
    pacer = Pacer(Hedge(samples=10, window=3600))
    pacer.delay(0.0)
    for _ in range(10):
        pacer.measured(1.0, 0.05)
    assert pacer.delay(1.0) < 1.0


def test_a_dictionary_is_a_value_like_any_other():
    own = Policy(fallback=Fallback(value={"stock": 0}))
    merged = Defaults.of(Policy(deadline=2)).policy(own)
    assert merged.fallback == Fallback(value={"stock": 0})
    assert merged.deadline == 2


def test_two_tallies_of_one_length_do_not_count_for_each_other():
    one = Tally([10.0])
    one.add_bad(1.0)
    other = one.resized([10.0])
    other.add_bad(1.0)
    assert one.totals(1.0) == [(0, 1)]
    assert other.totals(1.0) == [(0, 2)]


@pytest.mark.parametrize("wrong", [2.5, float("inf"), None, True])
def test_a_limit_is_a_whole_number_or_a_rule(wrong):
    with pytest.raises(PolicyError, match="concurrency"):
        Limit(concurrency=wrong)
