"""Adaptive limits: bounds whatever happens, and convergence against a queue in virtual time."""

from __future__ import annotations

import heapq
import json
from collections import deque
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from switchgear.errors import PolicyError
from switchgear.policy.adaptive import Aimd, Gradient, Vegas
from switchgear.policy.limit import Gate, Limit

KINDS = [Aimd(), Gradient(), Vegas()]


class Callee:
    """A server with workers and a queue, and callers who keep it as busy as the limit lets them.

    A deterministic event loop: `run` advances virtual time; nothing else does.
    """

    def __init__(self, limit, *, workers=10, service=0.05, spread=False, patience=None, seed=1):
        self.limit = limit
        self.workers = workers
        self.service = service
        self.spread = spread
        self.patience = patience
        self.random = Random(seed)
        self.now = 0.0
        self.in_flight = 0
        self.busy = 0
        self.queue = deque()
        self.events = []
        self.order = 0
        self.served = 0
        self.history = []

    def at(self, when, what, *facts):
        self.order += 1
        heapq.heappush(self.events, (when, self.order, what, facts))

    def run(self, seconds, *, callers=10**6):
        """Let that many callers call again as soon as they may."""
        end = self.now + seconds
        self.callers = callers
        self.work()
        self.fill()
        while self.events and self.events[0][0] <= end:
            self.now, _, what, facts = heapq.heappop(self.events)
            what(*facts)
            self.fill()
        self.now = end

    def fill(self):
        while self.in_flight < min(self.limit.limit, self.callers):
            self.begin()

    def begin(self):
        self.in_flight += 1
        call = [self.now, False]
        if self.patience is not None:
            self.at(self.now + self.patience, self.gave_up, call)
        self.queue.append(call)
        self.work()

    def work(self):
        while self.queue and self.busy < self.workers:
            self.busy += 1
            self.serve(self.queue.popleft())

    def serve(self, call):
        takes = self.random.expovariate(1 / self.service) if self.spread else self.service
        self.at(self.now + takes, self.done, call)

    def done(self, call):
        self.busy -= 1
        self.work()
        self.ended(call, overloaded=False)

    def gave_up(self, call):
        self.ended(call, overloaded=True)

    def ended(self, call, *, overloaded):
        began, over = call
        if over:
            return
        call[1] = True
        self.served += not overloaded
        self.limit.ended(self.now, self.now - began, self.in_flight, overloaded)
        self.in_flight -= 1
        self.history.append((self.now, self.limit.limit))

    def limits(self, since):
        return [limit for time, limit in self.history if time >= since]


@pytest.mark.parametrize("kind", [Gradient(initial=4), Vegas(initial=4)])
@pytest.mark.parametrize("spread", [False, True], ids=["constant", "exponential"])
def test_a_limit_that_watches_latency_finds_the_workers_of_the_callee(kind, spread):
    callee = Callee(kind.estimator(), workers=10, spread=spread)
    callee.run(120)
    late = callee.limits(60)
    # Vegas looks once a minute, with half of it
    assert sorted(late)[len(late) // 50] >= 9
    assert max(late) <= 24
    served = callee.served
    callee.run(60)
    # the whole of what ten workers can do, but for what Vegas gives up to look
    assert callee.served - served > 60 * 10 / 0.05 * 0.95


def test_a_limit_that_watches_failures_keeps_the_queue_below_the_callers_patience():
    callee = Callee(Aimd().estimator(), workers=10, patience=0.2)
    callee.run(60)
    # 40 in flight would take 4 service times: all of the patience
    late = callee.limits(30)
    assert min(late) >= 25
    assert max(late) <= 42


@pytest.mark.parametrize("kind", [Gradient(initial=4), Vegas(initial=4)])
def test_it_follows_a_callee_that_loses_workers_and_gets_them_back(kind):
    callee = Callee(kind.estimator(), workers=20)
    callee.run(60)
    assert 18 <= callee.limit.limit <= 34
    callee.workers = 5
    callee.run(120)
    few = callee.limit.limit
    assert 4 <= few <= 18
    callee.workers = 20
    callee.run(240)
    assert callee.limit.limit >= 18


def test_under_a_load_that_never_ends_vegas_stays_and_gradient_creeps_as_documented():
    lengths = {}
    for kind in (Vegas(initial=4, window=0.1), Gradient(initial=4, window=0.1)):
        callee = Callee(kind.estimator(), workers=10)
        callee.run(60)
        early = callee.limit.limit
        callee.run(240)
        lengths[type(kind).__name__] = callee.limit.limit - early
    assert abs(lengths["Vegas"]) <= 6
    # 2400 windows: 2 * queue / memory places for each of them
    assert 0 < lengths["Gradient"] <= 2400 * 2 * 4 / 600 + 4


def test_vegas_notices_a_callee_that_became_slower_for_good():
    callee = Callee(Vegas(initial=4, probe=30).estimator(), workers=10)
    callee.run(60)
    callee.service = 0.2
    callee.run(120)
    assert callee.limits(150)[-1] >= 9
    served = callee.served
    callee.run(60)
    assert callee.served - served > 60 * 10 / 0.2 * 0.93


@pytest.mark.parametrize("kind", KINDS)
def test_a_limit_that_is_not_in_use_does_not_rise(kind):
    callee = Callee(kind.estimator(), workers=100)
    callee.run(60, callers=9)
    assert callee.limits(0) == [20] * len(callee.history)
    callee.run(60, callers=12)
    # it rises, though never far above twice what is in flight
    assert 20 < callee.limit.limit <= 24 + 8


@pytest.mark.parametrize("kind", KINDS)
def test_an_outage_brings_the_limit_to_its_minimum_and_the_end_of_it_brings_it_back(kind):
    callee = Callee(kind.estimator(), workers=0, patience=0.1)
    callee.run(60)
    assert callee.limit.limit <= 2
    callee.queue.clear()
    callee.workers = 10
    callee.run(60)
    assert callee.limit.limit >= 9


@pytest.mark.parametrize("kind", [Gradient(), Vegas()])
def test_a_few_timeouts_among_many_are_hardly_felt(kind):
    limit = kind.estimator()
    for step in range(100_000):
        limit.ended(step / 1000, 0.05, 20, overloaded=step % 1000 == 0)
    assert limit.limit >= 20


def test_a_share_of_overloaded_attempts_holds_aimd_where_its_formula_says():
    limit = Aimd(maximum=10**6).estimator()
    seen = []
    for step in range(200_000):
        # a place is used for a second, so an attempt that is overloaded began a second ago
        now = step / 100
        limit.ended(now, 0.01, 10**6, overloaded=step % 100 == 0)
        seen.append(limit.limit)
    mean = sum(seen[100_000:]) / 100_000
    assert pytest.approx(mean, rel=0.05) == (1 / (0.01 * 0.1)) ** 0.5


def test_attempts_of_one_overload_cut_once():
    limit = Aimd(initial=100).estimator()
    for step in range(50):
        limit.ended(10 + step / 1000, 1.0, 100 - step, overloaded=True)
    assert limit.limit == 90
    limit.ended(10.5, 0.4, 10, overloaded=True)
    assert limit.limit == 81


def test_an_attempt_that_is_slow_counts_as_overloaded_where_aimd_is_told_so():
    limit = Aimd(initial=100, slow=0.5).estimator()
    limit.ended(1.0, 0.5, 100, overloaded=False)
    assert limit.limit == 100
    limit.ended(2.0, 0.51, 100, overloaded=False)
    assert limit.limit == 90


@pytest.mark.parametrize("kind", [Gradient(), Vegas()])
def test_one_pause_of_an_hour_is_forgotten_within_a_minute(kind):
    limit = kind.estimator()
    for step in range(1000):
        limit.ended(step / 100, 0.05, 20, overloaded=False)
    before = limit.limit
    for _ in range(20):
        limit.ended(3610.0, 3600.0, 20, overloaded=False)
    for step in range(4000):
        limit.ended(3610 + step / 100, 0.05, min(20, limit.limit), overloaded=False)
    assert before * 0.8 <= limit.limit
    # and a callee that becomes slower is seen: the pause is not the measure
    held = limit.limit
    for step in range(1000):
        limit.ended(3650 + step / 100, 0.5, limit.limit, overloaded=False)
    assert limit.limit < held


@pytest.mark.parametrize("kind", KINDS)
def test_a_burst_after_an_idle_hour_finds_a_limit_near_the_one_before(kind):
    callee = Callee(kind.estimator(), workers=10, patience=0.5)
    callee.run(120)
    before = callee.limit.limit
    callee.run(3600, callers=0)
    resumed = callee.now
    callee.run(5)
    # Vegas may use the time to measure anew, at half the limit
    assert min(callee.limits(resumed)) >= before // 2
    assert before * 0.7 <= min(callee.limits(resumed + 3))
    assert max(callee.limits(resumed)) <= before * 1.4 + 6


@pytest.mark.parametrize("kind", KINDS)
def test_attempts_that_take_no_time_at_all_do_no_harm(kind):
    limit = kind.estimator()
    for step in range(1000):
        limit.ended(step / 10, 0.0, limit.limit, overloaded=False)
    assert limit.limit >= 20
    for step in range(1000):
        limit.ended(100 + step / 10, 0.015 * (step % 2), limit.limit, overloaded=False)
    assert limit.limit >= 20


def test_a_limit_is_in_use_from_half_of_it_on():
    for in_flight, limit in ((9, 20), (10, 21)):
        aimd = Aimd(increase=20).estimator()
        aimd.ended(0.0, 0.05, in_flight, overloaded=False)
        assert aimd.limit == limit
    for in_flight, limit in ((9, 20), (10, 24)):
        gradient = Gradient(smoothing=1, samples=2).estimator()
        for now in (0.0, 1.0):
            gradient.ended(now, 0.05, in_flight, overloaded=False)
        assert gradient.limit == limit


def test_an_attempt_that_began_with_the_last_cut_knows_of_it():
    limit = Aimd(initial=100).estimator()
    limit.ended(10.0, 5.0, 100, overloaded=True)
    limit.ended(11.0, 1.5, 100, overloaded=True)
    assert limit.limit == 90
    limit.ended(11.0, 1.0, 100, overloaded=True)
    assert limit.limit == 81


def test_a_gate_tells_how_many_were_in_flight_the_one_that_left_included():
    for others, limit in ((1, 3), (0, 2)):
        gate = Gate(Limit(concurrency=Aimd(initial=3, minimum=2, increase=3)))
        for _ in range(1 + others):
            assert gate.enter()
        gate.leave(0.0)
        gate.learn(0.0, 0.05, overloaded=False)
        # 2 of 3 is more than half; 1 is not, and then an overload is the only news
        assert gate.concurrency == (4 if others else 3)
        gate.learn(1.0, 0.05, overloaded=True)
        assert gate.concurrency >= limit


@given(
    st.lists(st.floats(0.001, 10), min_size=1, max_size=30),
    st.sampled_from([Gradient(), Gradient(tolerance=1.5, queue=50, smoothing=0.7, memory=12)]),
)
@settings(max_examples=60, deadline=None)
def test_the_gradient_is_that_of_its_formula(means, kind):
    kind = replace(kind, initial=5000, maximum=10**6, samples=1, window=0.5)
    limit = kind.estimator()
    limit.ended(0.0, means[0], 10**6, overloaded=False)
    expected, usual = 5000.0, means[0]
    for number, mean in enumerate(means, 1):
        limit.ended(float(number), mean, 10**6, overloaded=False)
        weight = 1 / number if number <= 10 else 2 / (kind.memory + 1)
        usual = usual * (1 - weight) + weight * min(mean, 10 * usual)
        if usual > 2 * mean:
            usual *= 0.9
        gradient = max(0.5, min(1, kind.tolerance * usual / mean))
        wanted = gradient * expected + kind.queue
        expected = max(1, (1 - kind.smoothing) * expected + kind.smoothing * wanted)
        # the limit is the whole part of it
        assert expected - 1.001 <= limit.limit <= expected + 0.001


moves = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.001, 0.2, 1.0, 70.0, 4000.0, -0.5, -5000.0]),
        st.sampled_from([0.0, 1e-9, 0.01, 0.05, 3.0, 1e9, -1.0, float("inf")]),
        st.integers(1, 400),
        st.booleans(),
        st.integers(1, 15),
    ),
    max_size=60,
)


@given(
    moves,
    st.sampled_from([Aimd, Gradient, Vegas]),
    st.tuples(st.integers(1, 5), st.integers(5, 50), st.integers(50, 300)),
    st.floats(-1e6, 1e6),
)
@settings(max_examples=150, deadline=None)
def test_whatever_happens_the_limit_stays_between_its_bounds(happenings, kind, bounds, now):
    minimum, initial, maximum = bounds
    limit = kind(minimum=minimum, initial=initial, maximum=maximum).estimator()
    assert limit.limit == initial
    for ahead, took, in_flight, overloaded, times in happenings:
        now += ahead
        for _ in range(times):
            before = limit.limit
            limit.ended(now, took, in_flight, overloaded)
            assert isinstance(limit.limit, int)
            assert minimum <= limit.limit <= maximum
            if overloaded and kind is Aimd:
                # the others decide by a whole window, which an overload may be the end of
                assert limit.limit <= before


@given(moves, st.sampled_from(KINDS))
@settings(max_examples=60, deadline=None)
def test_after_whatever_happened_a_healthy_callee_gets_its_traffic_back(happenings, kind):
    limit = kind.estimator()
    now = 1000.0
    for ahead, took, in_flight, overloaded, times in happenings:
        now += ahead
        for _ in range(times):
            limit.ended(now, took, in_flight, overloaded)
    for step in range(10_000):
        limit.ended(now + step / 10, 0.05, limit.limit, overloaded=False)
    assert limit.limit >= 20


@pytest.mark.parametrize("kind", KINDS)
def test_a_description_is_plain_data_with_every_setting(kind):
    plain = kind.describe()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["kind"] == type(kind).__name__.lower()
    assert (plain["initial"], plain["minimum"], plain["maximum"]) == (20, 1, 1000)


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: Gradient(minimum=0), ("minimum", "at least 1")),
        (lambda: Vegas(minimum=30), ("minimum", "initial")),
        (lambda: Aimd(initial=30, maximum=20), ("initial", "maximum")),
        (lambda: Aimd(backoff=1), ("backoff", "at least 0.1 and at most 0.99")),
        (lambda: Aimd(increase=0), ("increase", "above 0")),
        (lambda: Aimd(slow="1s"), ("slow", "seconds or a timedelta")),
        (lambda: Gradient(queue=0), ("queue", "at least 1")),
        (lambda: Gradient(tolerance=0.9), ("tolerance", "at least 1 and at most 10")),
        (lambda: Gradient(smoothing=0), ("smoothing", "above 0 and at most 1")),
        (lambda: Gradient(window=0), ("window", "above 0")),
        (lambda: Gradient(samples=0), ("samples", "at least 1")),
        (lambda: Gradient(memory=9), ("memory", "at least 10")),
        (lambda: Vegas(window=5, probe=4), ("window is 5", "probe is 4")),
    ],
)
def test_a_setting_out_of_range_is_refused_with_its_name_and_its_range(make, names):
    with pytest.raises(PolicyError) as refused:
        make()
    for name in names:
        assert name in str(refused.value)
