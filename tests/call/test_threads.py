"""The policy machine in threads: nobody waits for anybody."""

from __future__ import annotations

import threading
import time

import pytest

from switchgear.call.answer import Answer, new_machine
from switchgear.call.threads import drive
from switchgear.errors import PolicyError
from switchgear.model.context import Context
from switchgear.model.outcome import Ok, Reason, Unavailable, Unknown
from switchgear.policy.breaker import Breaker, State
from switchgear.policy.fallback import Fallback
from switchgear.policy.limit import Limit
from switchgear.policy.policy import Policy
from switchgear.policy.retry import Retry


def machine(**parts):
    parts.setdefault("retry", Retry(base=0.001, cap=0.001))
    parts.setdefault("deadline", 60)
    return new_machine("stock", Policy(**parts))


def in_threads(count, work):
    ends = []

    def run():
        try:
            ends.append(work())
        except (Unavailable, Unknown) as error:
            ends.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return ends


def test_a_call_is_retried_until_it_is_answered():
    outcomes = iter([Unavailable(reason=Reason.CONNECT), Unknown(reason=Reason.RESET), Ok(7)])
    assert drive(machine(), lambda _: next(outcomes), repeatable=True) == Answer(7, attempts=3)


def test_how_a_call_failed_is_raised():
    def attempt(_):
        raise Unknown(reason=Reason.TIMEOUT)

    with pytest.raises(Unknown) as raised:
        drive(machine(), attempt, key="order-7")
    assert (raised.value.key, raised.value.attempts) == ("order-7", 1)


def test_twenty_threads_are_in_their_calls_at_once():
    m = machine()
    everybody = threading.Barrier(20)

    def attempt(_):
        # passes only when all twenty are in here together
        everybody.wait(60)
        return Ok(True)

    assert in_threads(20, lambda: drive(m, attempt)) == [Answer(True)] * 20


def test_an_attempt_knows_its_time_and_a_late_answer_is_an_answer():
    m = machine(deadline=0.02)

    def attempt(step):
        time.sleep(step.timeout + 0.01)
        return Ok("late")

    assert drive(m, attempt) == Answer("late")


def test_a_late_failure_is_not_retried():
    m, seen = machine(deadline=0.02), []

    def attempt(step):
        seen.append(step)
        time.sleep(0.03)
        return Unknown(reason=Reason.TIMEOUT)

    with pytest.raises(Unknown):
        drive(m, attempt, repeatable=True)
    assert len(seen) == 1


def test_a_limit_is_kept_and_those_who_queue_all_have_their_turn():
    m = machine(limit=Limit(concurrency=3, queue=50, wait=60), breaker=None)
    lock = threading.Lock()
    under_way = most = 0

    def attempt(_):
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.002)
        with lock:
            under_way -= 1
        return Ok(1)

    assert in_threads(30, lambda: drive(m, attempt)) == [Answer(1)] * 30
    assert most <= 3
    assert (m.gate.in_flight, len(m.gate.waiting)) == (0, 0)


def test_a_full_queue_turns_away_and_a_long_wait_ends():
    m = machine(limit=Limit(concurrency=1, queue=1, wait=0.02), breaker=None)
    holder = m.call(time.monotonic(), repeatable=True)
    holder.begin(time.monotonic())
    ends = in_threads(5, lambda: drive(m, lambda _: Ok(1)))
    assert {end.reason for end in ends} == {Reason.LIMIT}
    holder.cancelled(time.monotonic())
    assert drive(m, lambda _: Ok(1)) == Answer(1)


def test_half_open_lets_exactly_the_probes_through_among_a_hundred_threads():
    m = machine(breaker=Breaker(consecutive=1, open=0.02, jitter=0, probes=4, ramp=0), retry=None)
    with pytest.raises(Unknown):
        drive(m, lambda _: Unknown(reason=Reason.TIMEOUT))
    time.sleep(0.03)
    lock, rest_turned_away = threading.Lock(), threading.Event()
    under_way = most = turned_away = 0

    def probe(_):
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        assert rest_turned_away.wait(60)
        with lock:
            under_way -= 1
        return Ok(1)

    def call():
        nonlocal turned_away
        try:
            return drive(m, probe)
        except Unavailable:
            with lock:
                turned_away += 1
                if turned_away == 96:
                    rest_turned_away.set()
            raise

    ends = in_threads(100, call)
    assert most == 4
    assert sum(isinstance(end, Answer) for end in ends) == 4
    assert m.state is State.CLOSED


def test_what_is_not_an_outcome_is_raised_as_it_is():
    m = machine(limit=Limit(concurrency=1, queue=0), breaker=Breaker(consecutive=1))

    def bug(_):
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        drive(m, bug, repeatable=True)
    assert (m.gate.in_flight, m.state) == (0, State.CLOSED)


def test_fallbacks_in_threads():
    failing = lambda _: Unavailable(reason=Reason.CONNECT)  # noqa: E731
    m = machine(fallback=Fallback(function=lambda failure: failure.attempts))
    assert drive(m, failing, context=Context(attempt=2)) == Answer(1, degraded=True, attempts=1)

    async def coroutine(_):
        """Cannot be awaited in a thread."""

    with pytest.raises(PolicyError, match="coroutine function"):
        drive(machine(fallback=Fallback(function=coroutine)), failing)
