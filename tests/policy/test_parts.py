"""The smaller parts: deadline, limit, fallback."""

from __future__ import annotations

from math import inf

import pytest

from switchgear.model.outcome import Ok, Reason, Rejected, Unavailable, Unknown
from switchgear.policy.deadline import call_deadline
from switchgear.policy.fallback import Shelf, Stale, covers
from switchgear.policy.limit import Gate, Limit


@pytest.mark.parametrize(
    ("policy", "asked", "inherited", "expected"),
    [
        (None, None, None, inf),
        (1.0, None, None, 101.0),
        (1.0, 0.2, None, 100.2),
        (1.0, 5.0, None, 105.0),
        (1.0, None, 100.3, 100.3),
        (1.0, 5.0, 100.3, 100.3),
        (None, None, 100.3, 100.3),
        (1.0, None, 200.0, 101.0),
        (1.0, None, 99.0, 99.0),
    ],
)
def test_the_deadline_of_a_call_is_the_earliest_bound(policy, asked, inherited, expected):
    assert call_deadline(100.0, policy, asked, inherited) == expected


def test_a_gate_has_as_many_places_as_its_limit():
    gate = Gate(Limit(concurrency=2, queue=0))
    assert [gate.enter(), gate.enter(), gate.enter()] == [True, True, False]
    assert gate.leave(0.0) is None
    assert gate.enter()


def test_a_place_goes_to_who_waits_longest_and_to_nobody_who_comes_later():
    gate = Gate(Limit(concurrency=1, queue=2))
    assert gate.enter()
    assert gate.queue("first", 1.0)
    assert gate.queue("second", 1.0)
    assert not gate.queue("third", 1.0)
    assert gate.leave(0.5) == "first"
    assert not gate.enter()
    assert gate.leave(0.6) == "second"
    assert gate.leave(0.7) is None
    assert gate.in_flight == 0


def test_who_has_waited_too_long_or_gone_away_is_passed_over():
    gate = Gate(Limit(concurrency=1, queue=3))
    gate.enter()
    gate.queue("late", 0.5)
    gate.queue("gone", 2.0)
    gate.queue("there", 2.0)
    assert gate.abandon("gone")
    assert not gate.abandon("gone")
    assert gate.leave(0.5) == "there"


def test_a_kept_answer_is_found_with_its_age_until_it_is_too_old():
    shelf = Shelf(Stale(max_age=10, size=5))
    shelf.keep(100.0, "a", "answer")
    assert shelf.find(104.0, "a") == ("answer", 4.0)
    assert shelf.find(110.0, "a") == ("answer", 10.0)
    assert shelf.find(110.1, "a") is None
    assert len(shelf) == 0
    assert shelf.find(100.0, "b") is None


def test_the_least_recently_used_answer_goes_first():
    shelf = Shelf(Stale(size=2))
    shelf.keep(0.0, "a", 1)
    shelf.keep(0.0, "b", 2)
    shelf.find(1.0, "a")
    shelf.keep(1.0, "c", 3)
    assert shelf.find(1.0, "b") is None
    assert shelf.find(1.0, "a") == (1, 1.0)


@pytest.mark.parametrize(
    ("outcome", "query", "command"),
    [
        (Ok(1), False, False),
        (Rejected("no"), False, False),
        (Unavailable(reason=Reason.CONNECT), True, True),
        (Unavailable(reason=Reason.BREAKER_OPEN), True, True),
        (Unknown(reason=Reason.TIMEOUT), True, False),
    ],
)
def test_a_fallback_hides_no_refusal_and_no_command_that_may_have_been_done(
    outcome, query, command
):
    assert covers(outcome, query=True) == query
    assert covers(outcome, query=False) == command
