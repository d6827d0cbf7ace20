"""Rivals: when an attempt gets one, what it costs, and who wins. All in virtual time."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchgear.errors import PolicyError
from switchgear.model.context import Context
from switchgear.model.outcome import Ok, Reason, Rejected, Unavailable, Unknown
from switchgear.model.signal import SignalKind
from switchgear.policy.breaker import Breaker
from switchgear.policy.budget import Budget
from switchgear.policy.hedge import Hedge, Pacer
from switchgear.policy.limit import Limit
from switchgear.policy.machine import Answer, Attempt, Machine, Wait
from switchgear.policy.policy import Policy
from switchgear.policy.quantile import Durations


def machine(hedge=None, **parts):
    policy = Policy(hedge=hedge or Hedge(after=0.1), **parts)
    return Machine(policy, name="shop -> stock", random=lambda: 0.5)


def raced(m, **call):
    """Begin a call, and let its first attempt get a rival."""
    call = m.call(0.0, repeatable=True, **call)
    first = call.begin(0.0)
    assert first.hedge_at == 0.1
    rival = call.hedge(0.1)
    return call, first, rival


def kinds(m):
    return [item.kind for item in m.drain()]


def test_a_late_attempt_gets_a_rival_and_the_first_answer_wins():
    m = machine()
    call, first, rival = raced(m)
    assert (rival.number, rival.wire_number, rival.hedge_at) == (2, 2, inf)
    assert call.flies(first)
    assert call.flies(rival)
    assert m.gate.in_flight == 2
    assert call.ended(0.15, rival, Ok("quick")) == Answer("quick", attempts=2)
    assert not call.flies(rival)
    assert m.gate.in_flight == 1
    call.lost(0.16, first)
    call.lost(0.17, first)
    assert m.gate.in_flight == 0
    assert kinds(m) == [SignalKind.HEDGE_SENT]
    assert m.circuit.tally.totals(0.2)[1] == (1, 0)


def test_a_rival_that_could_not_be_sent_is_as_if_it_had_not_been_decided():
    m = machine()
    call, first, rival = raced(m)
    call.unsent(0.1, rival)
    call.unsent(0.1, rival)
    assert (call.flies(first), call.flies(rival), m.gate.in_flight) == (True, False, 1)
    assert call.ended(0.15, first, Ok("late")) == Answer("late", attempts=1)
    assert m.gate.in_flight == 0


def test_of_two_rivals_the_one_that_could_not_be_sent_leaves_the_other():
    m = machine(Hedge(after=0.1, rivals=2))
    call, first, second = raced(m)
    third = call.hedge(0.2)
    call.unsent(0.2, third)
    assert [call.flies(one) for one in (first, second, third)] == [True, True, False]
    assert call.ended(0.3, second, Ok(1)) == Answer(1, attempts=2)
    call.lost(0.3, first)
    assert m.gate.in_flight == 0


def test_the_first_attempt_may_still_win():
    m = machine()
    call, first, rival = raced(m)
    assert call.ended(0.2, first, Ok("slow")) == Answer("slow", attempts=2)
    call.lost(0.2, rival)
    assert m.gate.in_flight == 0


def test_a_failure_of_one_does_not_end_the_call_while_the_other_is_in_flight():
    m = machine()
    call, first, rival = raced(m)
    assert call.ended(0.2, first, Unavailable(reason=Reason.CONNECT)) is rival
    assert call.ended(0.3, rival, Ok("good")) == Answer("good", attempts=2)
    assert m.gate.in_flight == 0
    assert m.circuit.tally.totals(0.3)[1] == (1, 1)


def test_when_both_fail_the_call_goes_on_as_after_any_failure():
    m = machine()
    call, first, rival = raced(m)
    assert call.ended(0.2, rival, Unknown(reason=Reason.RESET)) is first
    step = call.ended(0.3, first, Unavailable(reason=Reason.CONNECT))
    assert isinstance(step, Wait)
    third = call.resumed(step.until)
    assert third.number == 3
    end = call.ended(0.5, third, Unavailable(reason=Reason.CONNECT))
    assert isinstance(end, Unknown)
    assert end.attempts == 3


def test_a_refusal_by_one_ends_the_call():
    m = machine()
    call, first, rival = raced(m)
    refusal = Rejected("no such thing")
    assert call.ended(0.2, rival, refusal) is refusal
    call.lost(0.2, first)
    assert m.gate.in_flight == 0


def test_cancelling_the_call_gives_back_what_both_hold():
    m = machine()
    call, first, _ = raced(m)
    call.cancelled(0.2)
    call.lost(0.3, first)
    assert m.gate.in_flight == 0


def test_an_attempt_that_has_ended_cannot_end_again():
    m = machine()
    call, first, rival = raced(m)
    call.ended(0.2, rival, Ok(1))
    call.lost(0.2, first)
    with pytest.raises(RuntimeError, match="has ended before"):
        call.ended(0.3, first, Ok(1))


@pytest.mark.parametrize(
    ("parts", "call"),
    [
        ({}, {"repeatable": False}),
        ({}, {"repeatable": True, "context": Context(attempt=2)}),
        ({"deadline": 5, "attempt_timeout": 0.2}, {"repeatable": True, "deadline": 0.1}),
    ],
)
def test_no_rival_is_asked_for(parts, call):
    m = machine(**parts)
    assert m.call(0.0, **call).begin(0.0).hedge_at == inf


def test_no_rival_without_a_place_or_while_others_wait():
    m = machine(limit=Limit(concurrency=1), breaker=None)
    _, _, rival = raced(m)
    assert rival is None
    assert m.gate.in_flight == 1


def test_no_rival_without_a_budget():
    m = machine(budget=Budget(reserve=1, ratio=0))
    assert raced(m)[2] is not None
    assert raced(m)[2] is None
    assert m.gate.in_flight == 3
    assert kinds(m) == [SignalKind.HEDGE_SENT, SignalKind.BUDGET_EXHAUSTED]


def test_no_rival_while_the_breaker_is_not_closed():
    m = machine(breaker=Breaker(consecutive=1))
    call = m.call(0.0, repeatable=True)
    call.begin(0.0)
    other = m.call(0.0, repeatable=False)
    other.ended(0.05, other.begin(0.0), Unknown(reason=Reason.RESET))
    assert call.hedge(0.1) is None
    assert m.gate.in_flight == 1


def test_no_rival_after_the_call_is_over():
    m = machine()
    call = m.call(0.0, repeatable=True)
    call.ended(0.05, call.begin(0.0), Ok(1))
    assert call.hedge(0.1) is None


def test_several_rivals_each_as_late_as_the_one_before():
    m = machine(Hedge(after=0.1, rivals=2))
    call, first, second = raced(m)
    assert second.hedge_at == pytest.approx(0.2)
    third = call.hedge(0.2)
    assert third.hedge_at == inf
    assert call.hedge(0.3) is None
    assert call.ended(0.3, second, Ok(2)).attempts == 3
    call.lost(0.3, first)
    call.lost(0.3, third)
    assert m.gate.in_flight == 0


def test_an_observing_hedge_reports_and_sends_nothing():
    m = machine(observe=("hedge",))
    call, first, rival = raced(m)
    assert rival is None
    signal = m.drain()[0]
    assert (signal.kind, signal.detail["part"]) == (SignalKind.POLICY_OBSERVED, "hedge")
    assert call.ended(0.2, first, Ok(1)) == Answer(1)


# the percentile


def test_until_enough_was_measured_there_is_no_rival():
    pacer = Pacer(Hedge(samples=10))
    for number in range(9):
        pacer.measured(number * 0.001, 0.01)
    assert pacer.delay(0.01) == inf
    pacer.measured(0.02, 0.01)
    # read again after a hundredth of the window
    assert pacer.delay(0.7) == pytest.approx(0.01, rel=0.1)


def test_the_percentile_is_read_once_in_a_hundredth_of_the_window():
    pacer = Pacer(Hedge(samples=10, window=10, least=0.001))
    for _ in range(10):
        pacer.measured(1.0, 0.01)
    usual = pacer.delay(1.0)
    for _ in range(100):
        pacer.measured(1.0, 1.0)
    assert pacer.delay(1.05) == usual
    assert pacer.delay(1.1) > 0.9


def test_another_policy_goes_on_with_what_was_measured_in_the_same_window():
    before = Pacer(Hedge(samples=10, window=10))
    for _ in range(10):
        before.measured(1.0, 0.01)
    assert Pacer(Hedge(samples=10, window=10, rivals=2), before).delay(1.0) == before.delay(1.0)
    assert Pacer(Hedge(samples=10, window=20), before).delay(1.0) == inf


def test_the_percentile_follows_what_is_measured():
    m = machine(Hedge(percentile=0.9, samples=10, window=10))
    now = 0.0
    for number in range(100):
        call = m.call(now, repeatable=True)
        call.ended(now + (0.5 if number % 10 == 9 else 0.01), call.begin(now), Ok(1))
        now += 0.01
    late = m.call(now + 1, repeatable=True).begin(now + 1)
    assert isinstance(late, Attempt)
    assert late.hedge_at - late.started == pytest.approx(0.01, rel=0.1)


def test_what_a_loser_took_counts():
    m = machine(Hedge(after=0.1, samples=10))
    call, first, rival = raced(m)
    call.ended(0.15, rival, Ok(1))
    call.lost(0.9, first)
    assert m.pacer.durations.count == 2
    assert m.pacer.durations.at(0.9, 0.99) == pytest.approx(0.9, rel=0.1)


@given(st.lists(st.floats(1e-6, 1e4), min_size=1), st.floats(0.01, 0.999))
def test_a_quantile_is_at_most_a_bin_above_the_true_one(values, share):
    durations = Durations(10.0)
    for value in values:
        durations.add(1.0, value)
    true = sorted(values)[max(0, -(-int(share * len(values) * 1e9) // 10**9) - 1)]
    found = durations.at(1.0, share)
    assert found is not None
    assert found >= true * 0.999 or share * len(values) % 1 < 1e-6
    assert min(values) * 0.999 <= found <= max(values) * 1.0906


def test_durations_leave_with_their_half_of_the_window():
    durations = Durations(10.0)
    durations.add(0.0, 1.0)
    durations.add(4.9, 1.0)
    durations.add(5.1, 2.0)
    assert durations.count == 3
    durations.add(10.2, 2.0)
    assert durations.count == 2
    assert durations.at(60.0, 0.5) is None
    durations.add(3.0, 4.0)  # a clock that went back
    assert durations.count == 1


# settings


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Hedge(percentile=0.4), "percentile is 0.4; it has to be at least 0.5"),
        (lambda: Hedge(after=0), "after is 0"),
        (lambda: Hedge(rivals=0), "rivals is 0"),
        (lambda: Hedge(samples=5), "samples is 5"),
        (lambda: Hedge(after=0.01, least=0.1), "least is 0.1 and after is 0.01"),
        (lambda: Policy(hedge=Hedge(after=1.0)), "hedge.after is 1 s and deadline is 1 s"),
        (
            lambda: Policy(hedge=Hedge(after=0.2), attempt_timeout=0.1),
            "hedge.after is 0.2 s and attempt_timeout is 0.1 s",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused(make, words):
    with pytest.raises(PolicyError, match=words):
        make()
