"""One call through the whole policy: the order of its parts, and what it says in the end."""

from __future__ import annotations

import random

import pytest

from switchgear.model.context import Context
from switchgear.model.outcome import Ok, Reason, Refused, Rejected, Status, Unavailable, Unknown
from switchgear.model.signal import SignalKind
from switchgear.policy.breaker import Breaker, State
from switchgear.policy.budget import Budget, GrpcThrottling
from switchgear.policy.fallback import Fallback, Stale
from switchgear.policy.limit import Limit
from switchgear.policy.machine import Answer, Attempt, Instead, Machine, Queue, Wait
from switchgear.policy.policy import Policy
from switchgear.policy.retry import Retry


def refused_connection(**more):
    return Unavailable(reason=Reason.CONNECT, **more)


def timed_out(**more):
    return Unknown(reason=Reason.TIMEOUT, **more)


def machine(draw=lambda: 0.5, **parts):
    return Machine(Policy(**parts), name="shop -> stock", random=draw)


def run(m, outcomes, *, now=0.0, took=0.01, **call):
    """Drive one call in virtual time; return what it ended with, and the times of its attempts."""
    call.setdefault("repeatable", True)
    c = m.call(now, **call)
    step, times, outcomes = c.begin(now), [], iter(outcomes)
    while True:
        if isinstance(step, Attempt):
            times.append(now)
            outcome = next(outcomes)
            now += took
            step = c.ended(now, step, outcome)
        elif isinstance(step, Wait):
            now = step.until
            step = c.resumed(now)
        else:
            return step, times


def kinds(m):
    return [item.kind for item in m.drain()]


def test_an_answer_is_an_answer():
    end, times = run(machine(), [Ok("seven")])
    assert end == Answer("seven", degraded=False, age=None, attempts=1)
    assert times == [0.0]


def test_a_refusal_is_passed_on_and_not_repeated():
    no = Rejected("no such thing", status=Status.NOT_FOUND)
    end, times = run(machine(), [no])
    assert end is no
    assert len(times) == 1


def test_a_failure_is_retried_after_a_pause():
    end, times = run(machine(), [refused_connection(), timed_out(), Ok(1)])
    assert end == Answer(1, attempts=3)
    assert times == pytest.approx([0.0, 0.01 + 0.05, 0.01 + 0.05 + 0.01 + 0.1])


@pytest.mark.parametrize(
    ("outcome", "call", "attempts"),
    [
        (refused_connection, {"repeatable": False}, 3),
        (timed_out, {"repeatable": False}, 1),
        (timed_out, {"repeatable": True}, 3),
        (timed_out, {"repeatable": True, "key": "order-7"}, 3),
        (lambda: refused_connection(final=True), {}, 1),
        (lambda: timed_out(final=True), {}, 1),
        (lambda: refused_connection(retry_after=-1.0), {}, 1),
        (lambda: refused_connection(retry_after=5.0), {}, 1),
        (refused_connection, {"context": Context(attempt=2)}, 1),
        (refused_connection, {"context": Context(attempt=1)}, 3),
        (refused_connection, {"deadline": 0.04}, 1),
        (refused_connection, {"context": Context(deadline=0.1)}, 2),
    ],
)
def test_when_a_failed_attempt_is_made_again(outcome, call, attempts):
    end, times = run(machine(), [outcome() for _ in range(9)], **call)
    assert len(times) == attempts
    assert end.attempts == attempts


def test_an_attempt_is_told_its_number_its_time_and_its_key():
    m = machine(deadline=1.0, attempt_timeout=0.4)
    call = m.call(10.0, repeatable=True, key="k-1", context=Context(attempt=2))
    first = call.begin(10.0)
    assert (first.number, first.wire_number, first.key) == (1, 2, "k-1")
    assert first.timeout == pytest.approx(0.4)
    assert first.deadline == pytest.approx(10.4)
    unbounded = machine(deadline=None).call(0.0, repeatable=False).begin(0.0)
    assert unbounded.timeout is None


def test_the_deadline_shrinks_from_attempt_to_attempt():
    m = machine(deadline=1.0, attempt_timeout=0.4)
    call = m.call(0.0, repeatable=True)
    step = call.begin(0.0)
    left = []
    for now in (0.4, 0.85):
        left.append(step.timeout)
        wait = call.ended(now, step, timed_out())
        step = call.resumed(wait.until)
    left.append(step.timeout)
    assert left == pytest.approx([0.4, 0.4, 0.05])


def test_a_call_that_begins_too_late_makes_no_attempt():
    end, times = run(machine(), [], now=5.0, context=Context(deadline=5.0))
    assert (end.reason, end.local, end.attempts, times) == (Reason.EXPIRED, True, 0, [])


def test_an_attempt_ends_once():
    m = machine()
    call = m.call(0.0, repeatable=True)
    step = call.begin(0.0)
    call.ended(0.1, step, Ok(1))
    for outcome in (Ok(1), timed_out()):
        with pytest.raises(RuntimeError, match="ended before"):
            call.ended(0.1, step, outcome)


# what a call that failed says


def test_giving_up_is_marked_so_that_nobody_above_multiplies_it():
    end, _ = run(machine(), [refused_connection() for _ in range(3)])
    assert (end.final, end.attempts) == (True, 3)


@pytest.mark.parametrize(
    ("parts", "call", "outcome"),
    [
        ({"retry": None}, {}, refused_connection),
        ({"retry": Retry(attempts=1)}, {}, refused_connection),
        ({}, {"repeatable": False}, timed_out),
        ({}, {"context": Context(attempt=2)}, refused_connection),
    ],
)
def test_what_is_retried_above_is_not_marked_as_given_up(parts, call, outcome):
    end, _ = run(machine(**parts), [outcome()], **call)
    assert end.final is False


def test_doubt_stays_whatever_a_later_attempt_says():
    end, _ = run(machine(), [timed_out(), refused_connection(), refused_connection()])
    assert isinstance(end, Unknown)
    assert (end.reason, end.attempts, end.final) == (Reason.TIMEOUT, 3, True)
    assert isinstance(end.__cause__, Unavailable)


def test_doubt_stays_when_the_breaker_turns_the_next_attempt_away():
    m = machine(breaker=Breaker(consecutive=1))
    end, times = run(m, [timed_out()])
    assert len(times) == 1
    assert isinstance(end, Unknown)
    assert end.__cause__.reason is Reason.BREAKER_OPEN


def test_doubt_of_a_keyed_command_stays_when_a_later_request_is_turned_away():
    no = Rejected("token expired", status=Status.UNAUTHENTICATED)
    end, _ = run(machine(), [timed_out(), no], key="order-7")
    assert isinstance(end, Unknown)
    assert (end.key, end.__cause__) == ("order-7", no)


def test_a_declared_refusal_settles_the_doubt():
    no = Refused("out of stock")
    end, _ = run(machine(), [timed_out(), no], key="order-7")
    assert end is no


def test_a_query_that_is_turned_away_later_is_turned_away():
    no = Rejected("gone", status=Status.NOT_FOUND)
    end, _ = run(machine(), [timed_out(), no])
    assert end is no


def test_without_doubt_a_call_that_the_breaker_ended_is_unavailable():
    m = machine(breaker=Breaker(consecutive=1))
    first = refused_connection()
    end, _ = run(m, [first])
    assert (type(end), end.reason, end.attempts) == (Unavailable, Reason.BREAKER_OPEN, 1)
    assert end.__cause__ is first
    assert end.retry_after == pytest.approx(27.0 - 0.05)


# the order of the parts


def test_the_budget_is_asked_for_another_attempt_and_never_for_the_first():
    m = machine(budget=Budget(ratio=0, reserve=1), breaker=None)
    for expected in (2, 1, 1):
        end, times = run(m, [refused_connection() for _ in range(9)])
        assert (len(times), end.attempts, end.final) == (expected, expected, True)
    assert kinds(m) == [SignalKind.BUDGET_EXHAUSTED]


def test_a_retry_that_cannot_happen_costs_no_budget():
    m = machine(budget=Budget(ratio=0, reserve=1))
    run(m, [timed_out()], repeatable=False)
    run(m, [refused_connection()], deadline=0.02)
    run(m, [refused_connection()], context=Context(attempt=2))
    assert m.account.balance(1.0) == 1


def test_successes_and_refusals_fill_the_budget():
    m = machine(budget=Budget(ratio=0.5, reserve=0))
    run(m, [Ok(1)])
    run(m, [Rejected("no")])
    assert m.account.balance(0.1) == 1


def test_each_attempt_asks_the_breaker_anew():
    m = machine(breaker=Breaker(consecutive=2), retry=Retry(attempts=5))
    end, times = run(m, [refused_connection() for _ in range(5)])
    assert (len(times), end.reason) == (2, Reason.BREAKER_OPEN)


def test_an_open_breaker_is_not_retried_and_does_not_use_a_place_or_the_budget():
    m = machine(breaker=Breaker(mode="open"))
    end, times = run(m, [])
    assert (times, end.reason, end.local) == ([], Reason.BREAKER_OPEN, True)
    assert (m.gate.in_flight, m.account.balance(0)) == (0, 10)
    assert end.final


@pytest.mark.parametrize(
    "outcome",
    [
        Unavailable(reason=Reason.BREAKER_OPEN),
        Unavailable(reason=Reason.LIMIT),
        Unavailable(reason=Reason.EXPIRED),
    ],
)
def test_what_was_turned_away_on_our_side_further_in_feeds_no_breaker(outcome):
    m = machine(breaker=Breaker(consecutive=1))
    end, times = run(m, [outcome])
    assert end is outcome
    assert len(times) == 1
    assert m.state is State.CLOSED
    assert m.circuit.tally.totals(0.1)[1] == (0, 0)


@pytest.mark.parametrize("outcome", [Ok(1), Rejected("no"), Refused("out of stock")])
def test_an_answer_of_any_kind_is_a_success_for_the_breaker(outcome):
    m = machine()
    run(m, [outcome])
    assert m.circuit.tally.totals(0.1)[1] == (1, 0)


@pytest.mark.parametrize("outcome", [refused_connection(), timed_out(), timed_out(final=True)])
def test_a_failure_of_any_kind_is_a_failure_for_the_breaker(outcome):
    m = machine(retry=None)
    run(m, [outcome])
    assert m.circuit.tally.totals(0.1)[1] == (0, 1)


def test_a_pausing_call_holds_no_place():
    m = machine(limit=Limit(concurrency=1, queue=0))
    call = m.call(0.0, repeatable=True)
    wait = call.ended(0.01, call.begin(0.0), refused_connection())
    assert isinstance(wait, Wait)
    assert run(m, [Ok(2)], now=0.02)[0] == Answer(2)


def test_a_full_limit_is_not_retried_and_feeds_no_breaker():
    m = machine(limit=Limit(concurrency=1, queue=0))
    m.call(0.0, repeatable=True).begin(0.0)
    end, times = run(m, [], now=0.1)
    assert (times, end.reason, end.local, end.final) == ([], Reason.LIMIT, True, True)
    run(m, [], now=0.2)
    assert kinds(m) == [SignalKind.LIMIT_REACHED]
    assert m.circuit.tally.totals(0.1)[1] == (0, 0)


def test_a_call_waits_in_the_queue_and_gets_the_next_place():
    m = machine(limit=Limit(concurrency=1, queue=1, wait=0.5))
    first, second = m.call(0.0, repeatable=True), m.call(0.1, repeatable=True)
    attempt = first.begin(0.0)
    queue = second.begin(0.1)
    assert queue == Queue(until=0.6)
    first.ended(0.2, attempt, Ok(1))
    assert second.granted
    assert m.drain() == [second]
    step = second.resumed(0.2)
    assert isinstance(step, Attempt)
    assert second.ended(0.3, step, Ok(2)) == Answer(2)
    assert m.gate.in_flight == 0


def test_the_wait_in_the_queue_is_clamped_to_the_deadline():
    m = machine(limit=Limit(concurrency=1, queue=1, wait=5.0), deadline=1.0)
    m.call(0.0, repeatable=True).begin(0.0)
    assert m.call(0.1, repeatable=True).begin(0.1) == Queue(until=1.1)


def test_a_call_that_waited_too_long_is_turned_away():
    m = machine(limit=Limit(concurrency=1, queue=1, wait=0.5))
    first, second = m.call(0.0, repeatable=True), m.call(0.1, repeatable=True)
    attempt = first.begin(0.0)
    second.begin(0.1)
    end = second.resumed(0.6)
    assert (end.reason, end.attempts) == (Reason.LIMIT, 0)
    first.ended(0.7, attempt, Ok(1))
    assert (m.gate.in_flight, m.drain()) == (0, [])


def test_a_turn_that_comes_after_the_deadline_is_passed_on():
    m = machine(limit=Limit(concurrency=1, queue=2, wait=5.0), deadline=1.0)
    first, second, third = (m.call(at, repeatable=True) for at in (0.0, 0.0, 0.5))
    attempt = first.begin(0.0)
    second.begin(0.0)
    third.begin(0.5)
    first.ended(0.9, attempt, Ok(1))
    # granted in time, but it runs again too late
    end = second.resumed(1.0)
    assert (end.reason, end.attempts) == (Reason.EXPIRED, 0)
    assert third.granted


def test_an_open_breaker_does_not_queue():
    m = machine(limit=Limit(concurrency=1, queue=5), breaker=Breaker(consecutive=1))
    slow = m.call(0.0, repeatable=True)
    other = m.call(0.0, repeatable=True)
    attempt = slow.begin(0.0)
    waiting = other.begin(0.0)
    assert isinstance(waiting, Queue)
    slow.ended(0.1, attempt, timed_out())
    # its turn came, but the breaker has opened meanwhile: the place goes on
    assert other.resumed(0.1).reason is Reason.BREAKER_OPEN
    assert m.gate.in_flight == 0


def test_nobody_holds_a_probes_place_while_queueing():
    m = machine(
        limit=Limit(concurrency=1, queue=5, wait=100),
        breaker=Breaker(consecutive=1, probes=1, jitter=0),
        deadline=None,
        retry=None,
    )
    run(m, [timed_out()])
    slow = m.call(31.0, repeatable=True)
    m.gate.enter()
    assert isinstance(slow.begin(31.0), Queue)
    assert len(m.circuit.flights) == 0


@pytest.mark.parametrize("where", ["attempt", "queue", "granted", "pause"])
def test_a_cancelled_call_gives_back_what_it_holds(where):
    m = machine(
        limit=Limit(concurrency=1, queue=5),
        breaker=Breaker(consecutive=1, probes=1, jitter=0, ramp=100),
        deadline=None,
    )
    run(m, [timed_out()], took=0)
    m.drain()
    call = m.call(31.0, repeatable=True)
    if where == "attempt":
        call.begin(31.0)
        assert len(m.circuit.flights) == 1
    elif where == "pause":
        m.circuit._close(31.0)
        m.circuit.settings = Breaker()
        assert isinstance(call.ended(31.0, call.begin(31.0), refused_connection()), Wait)
    else:
        m.gate.enter()
        call.begin(31.0)
        if where == "granted":
            assert m.gate.leave(31.0) is call
            call.granted = True
    call.cancelled(31.5)
    if where == "queue":
        m.gate.leave(31.5)
    assert (m.gate.in_flight, len(m.gate.waiting), len(m.circuit.flights)) == (0, 0, 0)
    call.cancelled(31.6)
    assert m.gate.in_flight == 0


def test_a_cancelled_attempt_is_neither_success_nor_failure():
    m = machine()
    call = m.call(0.0, repeatable=True)
    call.begin(0.0)
    call.cancelled(0.5)
    assert m.circuit.tally.totals(0.5)[1] == (0, 0)
    assert m.account.balance(0.5) == 10


def test_a_place_given_back_by_a_cancelled_call_goes_to_the_next():
    m = machine(limit=Limit(concurrency=1, queue=5))
    calls = [m.call(0.0, repeatable=True) for _ in range(3)]
    for call in calls:
        call.begin(0.0)
    calls[0].cancelled(0.1)
    assert calls[1].granted
    calls[1].cancelled(0.1)
    assert calls[2].granted
    assert isinstance(calls[2].resumed(0.1), Attempt)


# fallback


def test_a_fallback_value_answers_and_says_so():
    m = machine(fallback=Fallback(value=0), retry=None)
    assert run(m, [timed_out()])[0] == Answer(0, degraded=True, attempts=1)
    assert run(machine(fallback=Fallback(value=None)), [Ok(1)])[0] == Answer(1)


def test_a_fallback_is_outside_the_breaker_and_the_limit():
    m = machine(fallback=Fallback(value=0), breaker=Breaker(mode="open"))
    assert run(m, [])[0] == Answer(0, degraded=True, attempts=0)
    m = machine(fallback=Fallback(value=0), limit=Limit(concurrency=1, queue=0))
    m.gate.enter()
    assert run(m, [])[0] == Answer(0, degraded=True, attempts=0)


def test_a_fallback_replaces_no_refusal():
    no = Rejected("no")
    assert run(machine(fallback=Fallback(value=0)), [no])[0] is no


@pytest.mark.parametrize(
    ("call", "covered"),
    [({}, True), ({"repeatable": False}, False), ({"key": "order-7"}, False)],
)
def test_a_fallback_never_hides_that_a_command_may_have_been_done(call, covered):
    end, _ = run(machine(fallback=Fallback(value=0), retry=None), [timed_out()], **call)
    assert isinstance(end, Answer) == covered


def test_a_fallback_function_is_left_to_the_driver_with_the_failure():
    m = machine(fallback=Fallback(function=len), retry=None)
    failure = timed_out()
    assert run(m, [failure])[0] == Instead(len, failure, 1)


def test_a_stale_answer_comes_with_its_age_and_before_the_value():
    m = machine(fallback=Fallback(stale=Stale(max_age=60), value="none"), retry=None)
    assert run(m, [Ok("fresh")], cache_key="sku-1")[0] == Answer("fresh")
    end, _ = run(m, [timed_out()], now=20.0, cache_key="sku-1")
    assert end == Answer("fresh", degraded=True, age=pytest.approx(20.0), attempts=1)
    assert run(m, [timed_out()], now=20.0, cache_key="sku-2")[0].value == "none"
    assert run(m, [timed_out()], now=20.0)[0].value == "none"
    assert run(m, [timed_out()], now=90.0, cache_key="sku-1")[0].value == "none"


# what is reported


def test_the_state_of_the_breaker_is_reported_under_the_name_of_the_edge():
    m = machine(breaker=Breaker(consecutive=1, probes=1, jitter=0), retry=None)
    run(m, [timed_out()])
    run(m, [Ok(1)], now=40.0)
    signals = m.drain()
    assert [signal.kind for signal in signals] == [
        SignalKind.BREAKER_OPENED,
        SignalKind.BREAKER_HALF_OPENED,
        SignalKind.BREAKER_CLOSED,
    ]
    assert {signal.subject for signal in signals} == {"shop -> stock"}
    assert m.drain() == []


def test_a_policy_of_nothing_just_makes_the_attempt():
    m = Machine(Policy.none(reason="a test"), random=random.random)
    end, times = run(m, [timed_out()])
    assert (end.attempts, end.final, len(times), m.state) == (1, False, 1, None)
    assert run(m, [Ok(1)])[0] == Answer(1)


def begun(m):
    """A call that was answered, with the first reply of a stream."""
    call = m.call(0.0, repeatable=True)
    step = call.begin(0.0)
    call.answered(0.01, step, "first")
    return call, step


def test_a_stream_that_breaks_is_a_failure_for_the_breaker_and_the_budget():
    m = machine(breaker=Breaker(consecutive=1), budget=GrpcThrottling())
    call, step = begun(m)
    # turned away on our side: that says nothing about the callee
    call.broke(0.5, step, 0.01, Unavailable(reason=Reason.LIMIT))
    assert (m.state, m.account.tokens) == (State.CLOSED, 10)
    call.broke(0.5, step, 0.01, Unknown(reason=Reason.RESET))
    assert (m.state, m.account.tokens) == (State.OPEN, 9)
    assert kinds(m) == [SignalKind.BREAKER_OPENED]
    assert m.gate.in_flight == 0


def test_one_that_breaks_where_nothing_counts_changes_nothing():
    m = machine(breaker=None, budget=None)
    call, step = begun(m)
    call.broke(0.5, step, 0.01, timed_out())
    assert m.state is None
    # a breaker that was put in meanwhile has drawn no ticket for it
    m.reload(0.6, Policy(breaker=Breaker(consecutive=1)))
    call.broke(0.7, step, 0.01, timed_out())
    assert m.state is State.CLOSED
