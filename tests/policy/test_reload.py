"""Another policy while calls run: what goes over, what changes at once, and nothing is lost."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchgear.model.outcome import Ok, Reason, Unavailable, Unknown
from switchgear.model.signal import SignalKind
from switchgear.policy.breaker import Breaker, Evidence, State
from switchgear.policy.budget import Budget, TokenBucket
from switchgear.policy.fallback import Fallback, Stale
from switchgear.policy.hedge import Hedge
from switchgear.policy.limit import Limit
from switchgear.policy.machine import Machine, Queue
from switchgear.policy.policy import Policy
from switchgear.policy.window import Tally


def machine(**parts):
    return Machine(Policy(**parts), name="edge", random=lambda: 0.0)


def woken(m):
    return [item for item in m.drain() if not hasattr(item, "kind")]


def fail(m, now):
    call = m.call(now, repeatable=False)
    return call.ended(now, call.begin(now), Unknown(reason=Reason.RESET))


def opened():
    m = machine(breaker=Breaker(consecutive=1, open=30))
    fail(m, 0.0)
    assert m.state is State.OPEN
    return m


def test_it_is_reported():
    m = machine()
    m.reload(0.0, Policy(deadline=2))
    assert [item.kind for item in m.drain()] == [SignalKind.POLICY_RELOADED]


def test_calls_that_begin_later_have_the_new_deadline_and_those_under_way_keep_theirs():
    m = machine(deadline=1)
    before = m.call(0.0, repeatable=True)
    attempt = before.begin(0.0)
    m.reload(0.0, Policy(deadline=5, attempt_timeout=2))
    after = m.call(0.0, repeatable=True)
    assert (before.deadline, attempt.deadline, after.deadline) == (1.0, 1.0, 5.0)
    assert after.begin(0.0).deadline == 2.0


def test_an_open_breaker_stays_open_and_a_shorter_opening_ends_it_sooner():
    m = opened()
    m.reload(1.0, Policy(breaker=Breaker(open=1, longest=5)))
    assert m.state is State.OPEN
    assert isinstance(m.call(2.0, repeatable=False).begin(2.0), Unavailable)
    assert m.circuit.until == 6.0


def test_evidence_goes_over_and_is_judged_by_the_new_threshold():
    m = machine(breaker=Breaker(threshold=0.9))
    for _ in range(15):
        fail(m, 0.0)
    assert m.state is State.CLOSED
    m.reload(0.1, Policy(breaker=Breaker(threshold=0.5)))
    fail(m, 0.1)
    assert m.state is State.OPEN


def test_probes_in_flight_go_over():
    m = opened()
    probe = m.call(30.0, repeatable=False)
    attempt = probe.begin(30.0)
    m.reload(30.0, Policy(breaker=Breaker(probes=1, ramp=0)))
    assert isinstance(m.call(30.0, repeatable=False).begin(30.0), Unavailable)
    probe.ended(30.1, attempt, Ok(1))
    assert m.state is State.CLOSED


def test_forcing_and_releasing_keeps_what_the_breaker_knew():
    m = opened()
    m.reload(1.0, Policy(breaker=Breaker(mode="closed")))
    call = m.call(1.0, repeatable=False)
    assert call.ended(1.1, call.begin(1.0), Ok(1)).value == 1
    m.reload(2.0, Policy(breaker=Breaker(mode="open")))
    assert isinstance(m.call(2.0, repeatable=False).begin(2.0), Unavailable)
    m.reload(3.0, Policy())
    assert (m.state, m.circuit.until) == (State.OPEN, 30.0)


def test_a_breaker_can_be_taken_out_and_put_in_while_calls_run():
    m = machine()
    one = m.call(0.0, repeatable=False)
    first = one.begin(0.0)
    m.reload(0.0, Policy(breaker=None))
    two = m.call(0.0, repeatable=False)
    second = two.begin(0.0)
    m.reload(0.0, Policy())
    one.ended(0.1, first, Unknown(reason=Reason.RESET))
    two.ended(0.1, second, Unknown(reason=Reason.RESET))
    assert m.state is State.CLOSED
    assert m.gate.in_flight == 0


def test_more_places_wake_who_waits_and_fewer_places_throw_nobody_out():
    m = machine(limit=Limit(concurrency=1), deadline=9, breaker=None)
    calls = [m.call(0.0, repeatable=False) for _ in range(4)]
    steps = [call.begin(0.0) for call in calls]
    assert all(isinstance(step, Queue) for step in steps[1:])
    m.reload(0.1, Policy(limit=Limit(concurrency=3)))
    assert woken(m) == calls[1:3]
    attempts = [steps[0], *(call.resumed(0.1) for call in calls[1:3])]
    m.reload(0.15, Policy(limit=Limit(concurrency=1)))
    calls[0].ended(0.2, attempts[0], Ok(1))
    calls[1].ended(0.2, attempts[1], Ok(1))
    assert (m.gate.in_flight, woken(m)) == (1, [])
    calls[2].ended(0.2, attempts[2], Ok(1))
    assert woken(m) == [calls[3]]


def test_who_is_inside_when_a_limit_is_set_is_inside_it():
    m = machine(limit=None)
    calls = [m.call(0.0, repeatable=False) for _ in range(3)]
    attempts = [call.begin(0.0) for call in calls]
    m.reload(0.0, Policy(limit=Limit(concurrency=2, queue=0), breaker=None))
    assert isinstance(m.call(0.0, repeatable=False).begin(0.0), Unavailable)
    for call, attempt in zip(calls[:2], attempts[:2], strict=True):
        call.ended(0.1, attempt, Ok(1))
    assert m.call(0.1, repeatable=False).begin(0.1).number == 1
    m.reload(0.1, Policy(limit=None))
    assert (m.gate.in_flight, m.gate.concurrency) == (2, inf)


def test_without_a_limit_nobody_waits_any_more():
    m = machine(limit=Limit(concurrency=1), breaker=None)
    m.call(0.0, repeatable=False).begin(0.0)
    waiting = m.call(0.0, repeatable=False)
    waiting.begin(0.0)
    m.reload(0.1, Policy(limit=None))
    assert woken(m) == [waiting]
    assert waiting.resumed(0.1).number == 1


def test_the_budget_goes_over():
    m = machine(budget=Budget(reserve=3))
    m.account.withdraw(0.0)
    m.reload(0.0, Policy(budget=Budget(reserve=2)))
    assert m.account.balance(0.0) == 1
    m.reload(0.0, Policy(budget=TokenBucket()))
    assert m.account.balance(0.0) == 100
    m.reload(0.0, Policy(budget=None))
    assert m.account is None


def test_kept_answers_go_over():
    m = machine(fallback=Fallback(stale=Stale(size=5)))
    for key in "abc":
        call = m.call(0.0, repeatable=True, cache_key=key)
        call.ended(0.0, call.begin(0.0), Ok(key))
    m.reload(1.0, Policy(fallback=Fallback(stale=Stale(size=2)), breaker=Breaker(mode="open")))
    answers = [m.call(2.0, repeatable=True, cache_key=key).begin(2.0) for key in "bc"]
    assert [(answer.value, answer.age) for answer in answers] == [("b", 2.0), ("c", 2.0)]
    assert isinstance(m.call(2.0, repeatable=True, cache_key="a").begin(2.0), Unavailable)


def test_a_call_begun_before_anything_was_kept_or_hedged_goes_on():
    m = machine()
    call = m.call(0.0, repeatable=True, cache_key="a")
    attempt = call.begin(0.0)
    m.reload(0.0, Policy(fallback=Fallback(stale=Stale()), hedge=Hedge(after=0.1), observe=True))
    assert call.hedge(0.1) is None
    assert call.ended(0.2, attempt, Ok(1)).value == 1


def test_a_call_that_shares_another_ends_with_it_although_sharing_was_taken_out():
    m = machine(fallback=Fallback(stale=Stale()))
    leader, follower = (m.call(0.0, repeatable=True, cache_key="a") for _ in range(2))
    attempt = leader.begin(0.0)
    assert isinstance(follower.begin(0.0), Queue)
    m.reload(0.1, Policy())
    leader.ended(0.2, attempt, Ok(1))
    assert woken(m) == [follower]
    assert follower.resumed(0.2).value == 1


@given(
    st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=40),
    st.lists(st.sampled_from([0.5, 1.0, 2.0, 5.0, 20.0]), min_size=1, max_size=3, unique=True),
    st.lists(st.sampled_from([0.5, 1.0, 2.0, 5.0, 20.0]), min_size=1, max_size=3, unique=True),
)
def test_another_window_never_holds_more_than_happened_in_it(events, lengths, others):
    tally, now, seen = Tally(lengths), 0.0, []
    for pause, good in events:
        now += pause
        (tally.add_good if good else tally.add_bad)(now)
        seen.append((now, good))
    after = tally.resized(others)
    for length, (good, bad) in zip(others, after.totals(now), strict=True):
        inside = [kind for at, kind in seen if at > now - length - 1e-9]
        assert good <= inside.count(True)
        assert bad <= inside.count(False)
        if length in lengths:
            index = lengths.index(length)
            assert (good, bad) == tally.totals(now)[index]


@pytest.mark.parametrize("slow", [None, 0.5])
def test_windows_can_be_changed_while_evidence_is_kept(slow):
    m = machine(breaker=Breaker(slow=slow))
    for _ in range(8):
        fail(m, 0.0)
    assert m.state is State.CLOSED
    m.reload(0.0, Policy(breaker=Breaker(evidence=(Evidence(20, 9),), slow=0.2)))
    fail(m, 0.0)
    assert m.state is State.OPEN


def test_a_policy_made_from_another_is_equal_where_it_says_the_same():
    assert replace(Policy(deadline=2), deadline=1.0) == Policy()


def test_a_breaker_put_in_again_knows_nothing_of_what_the_one_before_let_in():
    m = machine(breaker=Breaker(consecutive=1))
    calls = [m.call(0.0, repeatable=False) for _ in range(2)]
    early, probe = (call.begin(0.0) for call in calls)
    m.reload(0.0, Policy(breaker=None))
    m.reload(0.0, Policy(breaker=Breaker(consecutive=1)))
    calls[0].ended(0.1, early, Unknown(reason=Reason.RESET))
    assert m.state is State.CLOSED
    assert m.circuit.tally.totals(0.1)[1] == (0, 0)
    fail(m, 0.1)
    assert m.state is State.OPEN
    calls[1].ended(0.2, probe, Ok(1))
    assert m.state is State.OPEN
