"""Calls that ask the same at the same time share one call."""

from __future__ import annotations

import pytest

from switchgear.model.context import Context
from switchgear.model.outcome import Ok, Reason, Rejected, Unavailable, Unknown
from switchgear.policy.fallback import Fallback, Stale
from switchgear.policy.machine import Answer, Attempt, Instead, Machine, Queue
from switchgear.policy.policy import Policy


def machine(**fallback):
    policy = Policy(fallback=Fallback(stale=Stale(), **fallback), retry=None)
    return Machine(policy, name="edge", random=lambda: 0.5)


def crowd(m, size=3, **call):
    calls = [m.call(0.0, repeatable=True, cache_key="tea", **call) for _ in range(size)]
    return calls, [call.begin(0.0) for call in calls]


def test_one_asks_and_all_are_answered():
    m = machine()
    (leader, *others), (attempt, *waits) = crowd(m)
    assert waits == [Queue(1.0), Queue(1.0)]
    assert leader.ended(0.1, attempt, Ok(7)) == Answer(7)
    assert m.drain() == others
    assert [other.resumed(0.1) for other in others] == [Answer(7), Answer(7)]
    assert m.circuit.tally.totals(0.1)[1] == (1, 0)
    assert m.gate.in_flight == 0


def test_another_question_or_a_later_one_is_asked_by_itself():
    m = machine()
    (leader,), (attempt,) = crowd(m, 1)
    assert isinstance(m.call(0.0, repeatable=True, cache_key="milk").begin(0.0), Attempt)
    leader.ended(0.1, attempt, Ok(7))
    assert isinstance(m.call(0.1, repeatable=True, cache_key="tea").begin(0.1), Attempt)


def test_what_is_no_query_or_has_no_key_is_never_shared():
    m = machine()
    crowd(m, 1)
    for call in (
        m.call(0.0, repeatable=False, cache_key="tea"),
        m.call(0.0, repeatable=True, key="k", cache_key="tea"),
        m.call(0.0, repeatable=True),
    ):
        assert isinstance(call.begin(0.0), Attempt)


def test_a_failure_is_shared_and_each_has_an_object_of_its_own():
    m = machine()
    (leader, *others), (attempt, *_) = crowd(m)
    end = leader.ended(0.1, attempt, Unavailable("gone", reason=Reason.CONNECT, retry_after=2.0))
    ends = [other.resumed(0.1) for other in others]
    assert len({id(one) for one in [end, *ends]}) == 3
    for one in ends:
        assert isinstance(one, Unavailable)
        assert (one.what, one.reason, one.retry_after, one.attempts) == (
            "gone",
            Reason.CONNECT,
            2.0,
            1,
        )


def test_a_refusal_and_a_degraded_answer_are_shared_too():
    m = machine()
    (leader, other), (attempt, _) = crowd(m, 2)
    leader.ended(0.1, attempt, Rejected("no tea", pointer="/sku"))
    end = other.resumed(0.1)
    assert isinstance(end, Rejected)
    assert (end.what, end.pointer) == ("no tea", "/sku")
    m = machine(value=0)
    (leader, other), (attempt, _) = crowd(m, 2)
    leader.ended(0.1, attempt, Unavailable(reason=Reason.CONNECT))
    assert other.resumed(0.1) == Answer(0, degraded=True)
    m = machine(function=str)
    (leader, other), (attempt, _) = crowd(m, 2)
    own = leader.ended(0.1, attempt, Unavailable("gone", reason=Reason.CONNECT))
    shared = other.resumed(0.1)
    assert isinstance(shared, Instead)
    assert (shared.function, shared.attempts) == (str, 1)
    assert (shared.outcome.what, shared.outcome.reason) == ("gone", Reason.CONNECT)
    assert shared.outcome is not own.outcome


def test_a_stale_answer_is_shared_with_its_age_and_what_it_took():
    m = Machine(Policy(fallback=Fallback(stale=Stale())), name="edge", random=lambda: 0.5)
    (first,), (attempt,) = crowd(m, 1)
    first.ended(0.1, attempt, Ok(7))
    leader, other = (m.call(1.1, repeatable=True, cache_key="tea") for _ in range(2))
    attempt = leader.begin(1.1)
    other.begin(1.1)
    wait = leader.ended(1.1, attempt, Unavailable(reason=Reason.CONNECT))
    again = leader.resumed(wait.until)
    end = leader.ended(wait.until, again, Unavailable(reason=Reason.CONNECT, final=True))
    assert end == Answer(7, degraded=True, age=pytest.approx(wait.until - 0.1), attempts=2)
    assert other.resumed(wait.until) == end


def test_where_the_fallback_only_observes_everybody_asks():
    m = Machine(
        Policy(fallback=Fallback(stale=Stale()), observe=["fallback"]),
        name="edge",
        random=lambda: 0.5,
    )
    _, both = crowd(m, 2)
    assert all(isinstance(one, Attempt) for one in both)


def test_who_has_as_much_time_left_as_the_leader_had_shares_its_failure():
    m = machine()
    leader = m.call(0.0, repeatable=True, cache_key="tea", deadline=0.25)
    attempt = leader.begin(0.0)
    other = m.call(0.0, repeatable=True, cache_key="tea", deadline=0.5)
    other.begin(0.0)
    leader.ended(0.25, attempt, Unknown(reason=Reason.TIMEOUT))
    assert isinstance(other.resumed(0.25), Unknown)


def test_who_waits_does_so_within_its_own_deadline():
    m = machine()
    (leader,), (attempt,) = crowd(m, 1)
    (hurried,), (wait,) = crowd(m, 1, context=Context(deadline=0.05))
    assert wait == Queue(0.05)
    end = hurried.resumed(0.05)
    assert isinstance(end, Unavailable)
    assert end.reason is Reason.EXPIRED
    assert end.what == "edge: the deadline has passed"
    leader.ended(0.1, attempt, Ok(7))
    assert m.drain() == []


def test_if_the_one_that_asks_is_cancelled_another_asks():
    m = machine()
    (leader, second, third), _ = crowd(m)
    leader.cancelled(0.1)
    assert m.drain() == [second, third]
    attempt = second.resumed(0.1)
    assert isinstance(attempt, Attempt)
    assert third.resumed(0.1) == Queue(1.0)
    second.ended(0.2, attempt, Ok(7))
    assert third.resumed(0.2) == Answer(7)
    assert m.gate.in_flight == 0


def test_who_waits_may_be_cancelled():
    m = machine()
    (leader, other), (attempt, _) = crowd(m, 2)
    other.cancelled(0.05)
    leader.ended(0.1, attempt, Ok(7))
    assert m.drain() == []


def test_one_that_is_turned_away_at_once_leaves_nobody_waiting():
    m = machine()
    late = m.call(0.0, repeatable=True, cache_key="tea", context=Context(deadline=-1.0))
    assert isinstance(late.begin(0.0), Unavailable)
    assert isinstance(m.call(0.0, repeatable=True, cache_key="tea").begin(0.0), Attempt)


def test_it_can_be_switched_off():
    policy = Policy(fallback=Fallback(stale=Stale(single_flight=False)))
    m = Machine(policy, random=lambda: 0.5)
    _, steps = crowd(m)
    assert all(isinstance(step, Attempt) for step in steps)


def test_who_has_more_time_left_than_the_leader_had_asks_again():
    m = machine()
    leader = m.call(0.0, repeatable=True, cache_key="tea", deadline=0.1)
    attempt = leader.begin(0.0)
    alike = m.call(0.05, repeatable=True, cache_key="tea", deadline=0.1)
    longer = [m.call(0.05, repeatable=True, cache_key="tea", deadline=0.9) for _ in range(2)]
    for call in (alike, *longer):
        assert isinstance(call.begin(0.05), Queue)
    leader.ended(0.1, attempt, Unknown(reason=Reason.TIMEOUT))
    assert isinstance(alike.resumed(0.1), Unknown)
    again, wait = [call.resumed(0.1) for call in longer]
    assert isinstance(again, Attempt)
    assert wait == Queue(longer[1].deadline)
    assert longer[0].ended(0.2, again, Ok(7)) == Answer(7)
    assert longer[1].resumed(0.2) == Answer(7)


def test_an_answer_is_shared_with_who_has_more_time_and_a_stale_one_is_not():
    def two(m):
        leader = m.call(0.0, repeatable=True, cache_key="tea", deadline=0.1)
        other = m.call(0.0, repeatable=True, cache_key="tea", deadline=0.9)
        attempt = leader.begin(0.0)
        other.begin(0.0)
        return leader, attempt, other

    m = machine(value=0)
    leader, attempt, other = two(m)
    leader.ended(0.1, attempt, Ok(7))
    assert other.resumed(0.1) == Answer(7)
    m = machine(value=0)
    leader, attempt, other = two(m)
    assert leader.ended(0.1, attempt, Unavailable(reason=Reason.CONNECT)).degraded
    assert isinstance(other.resumed(0.1), Attempt)


def test_who_may_retry_asks_again_where_the_leader_could_not():
    m = Machine(Policy(fallback=Fallback(stale=Stale())), name="edge", random=lambda: 0.5)
    leader = m.call(0.0, repeatable=True, cache_key="tea", context=Context(attempt=2))
    attempt = leader.begin(0.0)
    also, first = (
        m.call(0.0, repeatable=True, cache_key="tea", context=Context(attempt=number))
        for number in (2, 1)
    )
    also.begin(0.0)
    first.begin(0.0)
    assert isinstance(leader.ended(0.1, attempt, Unavailable(reason=Reason.CONNECT)), Unavailable)
    assert isinstance(also.resumed(0.1), Unavailable)
    assert isinstance(first.resumed(0.1), Attempt)
