"""The breaker: its rule of evidence, its states, and both against an independent model."""

from __future__ import annotations

import math
import random
from statistics import NormalDist

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from switchgear.model.signal import SignalKind
from switchgear.policy.breaker import Breaker, Circuit, Evidence, Rule, State, quantile


class Log:
    def __init__(self):
        self.kinds = []
        self.details = []

    def __call__(self, kind, detail):
        self.kinds.append(kind)
        self.details.append(detail)


def circuit(log=None, draw=lambda: 0.0, *, observe=False, **changes):
    return Circuit(Breaker(**changes), draw, log or Log(), observe=observe)


def fail(breaker, now, times=1):
    for _ in range(times):
        breaker.failed(now, breaker.admit(now), 0.0)


def succeed(breaker, now, times=1):
    for _ in range(times):
        breaker.succeeded(now, breaker.admit(now), 0.0)


def opened(**changes):
    breaker = circuit(consecutive=1, **changes)
    fail(breaker, 0.0)
    assert breaker.state is State.OPEN
    return breaker


# evidence


@pytest.mark.parametrize("confidence", [0.5, 0.8, 0.9, 0.95, 0.99, 0.9999])
def test_the_quantile_is_that_of_the_normal_distribution(confidence):
    assert quantile(confidence) == pytest.approx(NormalDist().inv_cdf(confidence), abs=1e-9)


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.999])
def test_the_rule_is_the_lower_bound_of_wilsons_interval(threshold, confidence):
    z = NormalDist().inv_cdf(confidence)
    rule = Rule(threshold, confidence)
    for n in (1, 2, 5, 10, 20, 57, 200, 1000):
        for k in range(n + 1):
            p = k / n
            spread = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
            lower = (p + z * z / (2 * n) - spread) / (1 + z * z / n)
            assert rule.above(k, n) == (lower > threshold), (k, n)


def test_a_handful_of_failures_after_a_quiet_night_does_not_open_it():
    breaker = circuit()
    for step in range(9):
        fail(breaker, 8 * 3600 + step * 0.1)
    assert breaker.state is State.CLOSED


def test_a_morning_with_three_failures_in_ten_does_not_open_it():
    breaker = circuit()
    for step in range(3000):
        (fail if step % 10 < 3 else succeed)(breaker, step * 0.01)
    assert breaker.state is State.CLOSED


def test_a_total_outage_under_load_opens_it_within_a_second():
    breaker = circuit()
    for step in range(1000):
        succeed(breaker, step * 0.01)
    began = now = 10.0
    while breaker.state is State.CLOSED:
        fail(breaker, now)
        now += 0.01
    assert 0.3 < now - began < 1.0


def test_a_total_outage_with_few_calls_opens_it_by_the_long_window():
    breaker, calls = circuit(), 0
    for step in range(20):
        if breaker.state is State.CLOSED:
            fail(breaker, step * 0.7)
            calls += 1
    assert (breaker.state, calls) == (State.OPEN, 10)


def test_the_report_says_what_the_evidence_was():
    log = Log()
    breaker = circuit(log)
    for step in range(20):
        if breaker.state is State.CLOSED:
            fail(breaker, step * 0.001)
    assert log.kinds == [SignalKind.BREAKER_OPENED]
    detail = log.details[0]
    assert (detail["trigger"], detail["failures"], detail["calls"]) == ("failures", 10, 10)
    assert detail["window"] == 10.0
    assert detail["seconds"] == 30.0


def test_without_confidence_the_plain_rate_decides():
    breaker = circuit(confidence=None, evidence=(Evidence(10, 4),))
    succeed(breaker, 0, 2)
    fail(breaker, 0, 1)
    assert breaker.state is State.CLOSED
    fail(breaker, 0, 1)
    assert breaker.state is State.OPEN


def test_consecutive_failures_are_a_trigger_of_their_own_and_a_success_starts_again():
    breaker = circuit(consecutive=3)
    fail(breaker, 0, 2)
    succeed(breaker, 0)
    fail(breaker, 0, 2)
    assert breaker.state is State.CLOSED
    fail(breaker, 0)
    assert breaker.state is State.OPEN


def test_slow_answers_open_it_too_where_time_matters():
    log = Log()
    breaker = circuit(log, slow=0.5, slow_threshold=0.5)
    for _ in range(20):
        if breaker.state is State.CLOSED:
            breaker.succeeded(0, breaker.admit(0), 0.6)
    assert breaker.state is State.OPEN
    assert log.details[0]["trigger"] == "slow"


def test_a_failure_that_was_slow_counts_as_both():
    breaker = circuit(slow=0.5, threshold=0.9, slow_threshold=0.5)
    for step in range(20):
        if breaker.state is State.CLOSED:
            ended = breaker.succeeded if step % 2 else breaker.failed
            ended(0, breaker.admit(0), 0.6)
    assert breaker.state is State.OPEN


def test_quick_calls_are_counted_as_quick_and_forgotten_when_it_closes():
    breaker = circuit(slow=0.5, consecutive=1, probes=1, ramp=5)
    succeed(breaker, 0.0, 3)
    assert breaker.tardy.totals(0.0)[1] == (3, 0)
    fail(breaker, 0.0)
    succeed(breaker, 30.0)
    assert breaker.tardy.totals(30.0)[1] == (0, 0)
    # in the ramp
    succeed(breaker, 31.0)
    assert breaker.tardy.totals(31.0)[1] == (1, 0)


# open, half-open, ramp


def test_open_turns_everybody_away_until_its_time_is_over():
    breaker = opened()
    assert breaker.admit(29.99) is None
    assert not breaker.admits(29.99)
    assert breaker.wait(10) == 20.0
    assert breaker.admits(30.0)
    assert breaker.admit(30.0) is not None
    assert breaker.state is State.HALF_OPEN


def test_half_open_lets_exactly_the_probes_in_however_many_come():
    breaker = opened(probes=3)
    tickets = [breaker.admit(30.0) for _ in range(100)]
    assert sum(ticket is not None for ticket in tickets) == 3
    breaker.released(tickets[0])
    assert breaker.admit(30.1) is not None
    assert breaker.admit(30.1) is None


def test_as_many_successes_as_probes_close_it():
    breaker = opened(probes=3)
    for _ in range(2):
        succeed(breaker, 31.0)
    assert breaker.state is State.HALF_OPEN
    succeed(breaker, 31.0)
    assert breaker.state is State.CLOSED


def test_one_failed_probe_opens_it_for_longer_up_to_the_longest():
    breaker = opened(open=10, longest=35)
    lasting = []
    now = breaker.until
    for _ in range(4):
        fail(breaker, now)
        lasting.append(breaker.until - now)
        now = breaker.until
    assert lasting == [20.0, 35.0, 35.0, 35.0]


def test_a_slow_probe_is_a_failed_one_where_time_matters():
    breaker = opened(slow=0.5)
    breaker.succeeded(31.0, breaker.admit(30.0), 0.7)
    assert breaker.state is State.OPEN


def test_openings_are_shortened_at_random_so_that_callers_do_not_probe_together():
    draw = random.Random(7).random
    lasting = set()
    for _ in range(200):
        breaker = circuit(draw=draw, consecutive=1, jitter=0.2)
        fail(breaker, 0.0)
        lasting.add(breaker.until)
    assert len(lasting) == 200
    assert 24.0 <= min(lasting) < 25.0
    assert 29.0 < max(lasting) <= 30.0


def test_a_late_result_of_an_earlier_state_changes_nothing():
    breaker = circuit(consecutive=3)
    late = breaker.admit(0.0)
    fail(breaker, 0.0, 3)
    probe = breaker.admit(30.0)
    breaker.failed(30.1, late, 30.1)
    breaker.succeeded(30.1, late, 30.1)
    assert (breaker.state, breaker.proved) == (State.HALF_OPEN, 0)
    breaker.failed(30.2, probe, 0.2)
    assert breaker.state is State.OPEN
    breaker.succeeded(30.3, probe, 0.3)
    assert breaker.state is State.OPEN


def test_a_probe_returned_twice_counts_once():
    breaker = opened(probes=2)
    probe = breaker.admit(30.0)
    breaker.succeeded(30.1, probe, 0.1)
    breaker.succeeded(30.1, probe, 0.1)
    breaker.failed(30.1, probe, 0.1)
    assert (breaker.state, breaker.proved) == (State.HALF_OPEN, 1)


def test_a_lost_probe_gives_its_place_up_in_time():
    breaker = opened(probes=1, lost_after=60)
    lost = breaker.admit(30.0)
    assert breaker.admit(89.9) is None
    assert breaker.admit(90.0) is not None
    breaker.succeeded(91.0, lost, 61.0)
    assert breaker.state is State.HALF_OPEN


def recovered(draw, **changes):
    breaker = opened(probes=2, ramp=10, **changes)
    breaker._random = draw
    succeed(breaker, 30.0, 2)
    assert breaker.state is State.CLOSED
    return breaker


@pytest.mark.parametrize(("after", "share"), [(1.0, 0.1), (5.0, 0.5), (9.0, 0.9)])
def test_after_closing_a_growing_share_of_the_traffic_passes(after, share):
    breaker = recovered(random.Random(1).random)
    passed = sum(breaker.admit(30.0 + after) is not None for _ in range(5000))
    assert passed / 5000 == pytest.approx(share, abs=0.03)


def test_a_caller_with_little_traffic_does_not_notice_the_ramp():
    breaker = recovered(lambda: 0.999)
    for step in range(50):
        assert breaker.admit(30.0 + step * 0.5) is not None


def test_the_ramp_ends_the_episode():
    breaker = recovered(lambda: 0.0, open=30)
    fail(breaker, 39.0)
    assert breaker.until - 39.0 == 60.0
    breaker = recovered(lambda: 0.0)
    fail(breaker, 41.0)
    assert breaker.until - 41.0 == 30.0


def test_without_a_ramp_everybody_passes_at_once():
    breaker = opened(probes=1, ramp=0)
    succeed(breaker, 30.0)
    assert all(breaker.admit(30.0) is not None for _ in range(100))


# modes


def test_forced_open_turns_all_away_and_never_probes():
    breaker = circuit(mode="open")
    assert breaker.admit(0) is None
    assert not breaker.admits(1e6)
    assert breaker.admit(1e6) is None
    assert breaker.wait(0) is None


def test_forced_open_while_it_is_open_has_no_end_that_could_be_told():
    breaker = opened(jitter=0)
    assert breaker.wait(10.0) == 20.0
    breaker.reload(10.0, Breaker(mode="open"))
    assert breaker.wait(10.0) is None
    assert breaker.admit(1e6) is None


def test_what_was_reloaded_while_closed_goes_on_with_one_ticket_for_all():
    breaker = circuit()
    breaker.reload(1.0, Breaker(consecutive=2))
    assert breaker.standing is not None
    assert breaker.admit(1.0) is breaker.standing
    fail(breaker, 1.0, 2)
    assert breaker.state is State.OPEN
    assert breaker.admit(1.0) is None  # it does more than observe


def test_forced_closed_lets_all_pass_whatever_happens():
    breaker = circuit(mode="closed", consecutive=1)
    fail(breaker, 0, 100)
    assert breaker.state is State.CLOSED


def test_observing_reports_but_lets_all_pass():
    log = Log()
    breaker = circuit(log, observe=True, consecutive=1, probes=1)
    fail(breaker, 0)
    assert breaker.state is State.OPEN
    assert breaker.admits(1)
    fail(breaker, 1, 50)
    probe, free = breaker.admit(30), breaker.admit(30)
    breaker.failed(30, free, 0)
    assert breaker.state is State.HALF_OPEN
    breaker.succeeded(30, probe, 0)
    assert log.kinds == [
        SignalKind.BREAKER_OPENED,
        *[SignalKind.POLICY_OBSERVED] * 50,
        SignalKind.BREAKER_HALF_OPENED,
        SignalKind.POLICY_OBSERVED,
        SignalKind.BREAKER_CLOSED,
    ]


# the whole, against a model that keeps every event and reads the textbook

Z = NormalDist().inv_cdf(0.975)
LENGTHS = ((1.0, 4), (10.0, 3))
PROBES, RAMP, OPEN, LONGEST, LOST = 2, 5.0, 20.0, 70.0, 15.0


def wilson(k, n):
    p = k / n
    spread = Z * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    return (p + Z * Z / (2 * n) - spread) / (1 + Z * Z / n)


class Model:
    """What the prose at the head of breaker.py says, without any of its code."""

    def __init__(self):
        self.state = "closed"
        self.events = []
        self.until = 0.0
        self.openings = 0
        self.closed_at = -RAMP
        self.places = {}
        self.passed = []
        self.successes = 0
        self.epoch = 0

    def ramping(self, now):
        return self.state == "closed" and now < self.closed_at + RAMP

    def admit(self, now, chance):
        if self.state == "open":
            if now < self.until:
                return None
            self.turn("half-open")
            self.successes = 0
        if self.state == "closed":
            if not self.ramping(now):
                self.openings = 0
                return "shared"
            since = now - self.closed_at
            this_second = sum(1 for at in self.passed if int(at - self.closed_at) == int(since))
            if this_second >= PROBES and chance >= since / RAMP:
                return None
            self.passed.append(now)
            return "shared"
        if len(self.places) >= PROBES:
            self.places = {who: end for who, end in self.places.items() if end > now}
        if len(self.places) == PROBES:
            return None
        ticket = object()
        self.places[ticket] = now + LOST
        return ticket

    def turn(self, state):
        self.state = state
        self.epoch += 1
        self.places = {}

    def open(self, now, chance):
        if self.state == "closed" and not self.ramping(now):
            self.openings = 0
        lasting = min(LONGEST, OPEN * 2**self.openings) * (1 - 0.2 * chance)
        self.openings += 1
        self.until = now + lasting
        self.turn("open")

    def ended(self, now, ticket, epoch, good, chance):
        if epoch != self.epoch:
            return
        if self.state == "half-open":
            if ticket not in self.places:
                return
            del self.places[ticket]
            if not good:
                self.open(now, chance)
                return
            self.successes += 1
            if self.successes == PROBES:
                self.turn("closed")
                self.closed_at = now
                self.events = []
                self.passed = []
            return
        self.events.append((now, good))
        if good:
            return
        for length, least in LENGTHS:
            slot = length / 10
            inside = [g for t, g in self.events if t // slot > now // slot - 10]
            if len(inside) >= least and wilson(inside.count(False), len(inside)) > 0.5:
                self.open(now, chance)
                return


class BreakerAgainstModel(RuleBasedStateMachine):
    @initialize(start=st.floats(0, 1e5))
    def begin(self, start):
        self.now = start
        self.chance = 0.0
        self.circuit = circuit(
            draw=lambda: self.chance,
            evidence=tuple(Evidence(*window) for window in LENGTHS),
            probes=PROBES,
            ramp=RAMP,
            open=OPEN,
            longest=LONGEST,
            lost_after=LOST,
        )
        self.model = Model()
        self.model.closed_at = start - RAMP
        self.held = []
        self.returned = []

    @rule(ahead=st.sampled_from([0.0, 0.01, 0.1, 0.7, 2.0, 6.0, 17.0, 25.0, 90.0]))
    def time_passes(self, ahead):
        self.now += ahead

    @rule(chance=st.floats(0, 0.999), times=st.integers(1, 5))
    def calls_begin(self, chance, times):
        self.chance = chance
        for _ in range(times):
            possible = self.circuit.admits(self.now)
            ticket = self.circuit.admit(self.now)
            expected = self.model.admit(self.now, chance)
            assert (ticket is None) == (expected is None)
            assert possible or ticket is None
            if ticket is not None:
                self.held.append((ticket, expected, self.model.epoch))

    @precondition(lambda self: self.held)
    @rule(data=st.data(), good=st.booleans(), chance=st.floats(0, 0.999))
    def a_call_ends(self, data, good, chance):
        self.chance = chance
        place = data.draw(st.integers(0, len(self.held) - 1))
        entry = self.held.pop(place)
        self._return(entry, good, chance)
        if entry[1] != "shared":
            self.returned.append(entry)

    @precondition(lambda self: len(self.held) > 3)
    @rule(good=st.booleans(), chance=st.floats(0, 0.999))
    def all_calls_end(self, good, chance):
        self.chance = chance
        while self.held:
            self._return(self.held.pop(0), good, chance)

    def _return(self, entry, good, chance):
        ticket, expected, epoch = entry
        (self.circuit.succeeded if good else self.circuit.failed)(self.now, ticket, 0.0)
        self.model.ended(self.now, expected, epoch, good, chance)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def a_call_is_cancelled(self, data):
        ticket, expected, epoch = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.circuit.released(ticket)
        if epoch == self.model.epoch:
            self.model.places.pop(expected, None)

    @precondition(lambda self: self.returned)
    @rule(data=st.data(), good=st.booleans())
    def a_result_comes_twice(self, data, good):
        ticket, _, _ = data.draw(st.sampled_from(self.returned))
        (self.circuit.succeeded if good else self.circuit.failed)(self.now, ticket, 0.0)

    @invariant()
    def they_agree(self):
        if hasattr(self, "circuit"):
            assert self.circuit.state == self.model.state
            if self.model.state == "open":
                assert self.circuit.until == pytest.approx(self.model.until)
            if self.model.state == "half-open":
                assert self.circuit.proved == self.model.successes
                assert len(self.circuit.flights) == len(self.model.places) <= PROBES


TestBreakerAgainstModel = BreakerAgainstModel.TestCase
TestBreakerAgainstModel.settings = settings(max_examples=120, stateful_step_count=60, deadline=None)


# a success that was none: a stream that failed after its first reply


def broken(breaker, now, times=1, after=0.0):
    for _ in range(times):
        ticket = breaker.admit(now)
        breaker.succeeded(now, ticket, 0.0)
        breaker.broke(now + after, ticket, now)


def test_streams_that_all_fail_are_an_outage():
    plain = {"confidence": None, "evidence": [Evidence(10, 10)]}
    breaker = circuit(threshold=0.9, **plain)
    broken(breaker, 5.0, 9, after=0.4)
    assert breaker.state is State.CLOSED
    broken(breaker, 5.0, 1, after=0.4)
    assert breaker.state is State.OPEN


def test_streams_that_all_fail_are_failures_in_a_row():
    breaker = circuit(consecutive=3)
    broken(breaker, 5.0, 2, after=0.4)
    assert breaker.state is State.CLOSED
    broken(breaker, 6.0, after=0.4)
    assert breaker.state is State.OPEN


def test_a_call_that_went_well_meanwhile_ends_the_row():
    breaker = circuit(consecutive=3)
    broken(breaker, 5.0, 2)
    ticket = breaker.admit(6.0)
    breaker.succeeded(6.0, ticket, 0.0)
    succeed(breaker, 6.1)
    breaker.broke(6.2, ticket, 6.0)
    assert (breaker.state, breaker.row) == (State.CLOSED, 1)
    fail(breaker, 6.3)
    assert breaker.state is State.CLOSED


def test_one_that_lasted_is_a_failure_beside_its_success():
    breaker = circuit(confidence=None, evidence=[Evidence(10, 4)])
    tickets = [breaker.admit(5.0) for _ in range(2)]
    for ticket in tickets:
        breaker.succeeded(5.0, ticket, 0.0)
    for ticket in tickets:
        breaker.broke(65.0, ticket, 5.0)
    assert breaker.tally.totals(65.0) == [(0, 2)]
    succeed(breaker, 65.0, 3)
    assert breaker.state is State.CLOSED
    broken(breaker, 65.0)
    assert breaker.state is State.OPEN
    assert breaker.tally.totals(65.0) == [(3, 3)]


def test_a_probe_whose_stream_breaks_opens_again():
    breaker = opened(probes=2, jitter=0)
    now = breaker.until
    ticket = breaker.admit(now)
    breaker.succeeded(now, ticket, 0.0)
    assert breaker.state is State.HALF_OPEN
    breaker.broke(now + 0.1, ticket, now)
    assert breaker.state is State.OPEN
    breaker.broke(now + 0.2, ticket, now)  # a late one changes nothing
    assert breaker.episode == 2
