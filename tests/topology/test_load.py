"""Who comes, and when."""

import math
from itertools import pairwise
from random import Random

import pytest

from switchgear.topology.simulate.estimate import estimate
from switchgear.topology.simulate.load import Diurnal, Ramp, Steady, Steps, arrivals, evenly, spike

UNTIL = 400.0
LOADS = {
    "steady": (Steady(50.0), 50 * UNTIL),
    "steps": (Steps(((0.0, 10.0), (100.0, 90.0))), 10 * 100 + 90 * 300),
    "spike": (spike(20.0, 200.0, 100.0, 50.0), 20 * 350 + 200 * 50),
    "ramp": (Ramp(0.0, 80.0, 100.0, 300.0), 80 * 100 + 80 * 100),
    "diurnal": (Diurnal(50.0, 0.9, 200.0, 50.0), 50 * UNTIL),
}


@pytest.mark.parametrize("name", LOADS)
def test_as_many_come_as_the_rate_says(name):
    load, expected = LOADS[name]
    times = list(arrivals(load, Random(5), UNTIL))
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] < UNTIL
    assert len(times) == pytest.approx(expected, abs=4 * math.sqrt(expected))
    assert len(list(evenly(load, UNTIL))) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("name", LOADS)
def test_they_come_when_the_rate_is_high(name):
    load, _ = LOADS[name]
    times = list(arrivals(load, Random(6), UNTIL))
    for begin in range(0, int(UNTIL), 40):
        expected = sum(load.rate(begin + second + 0.5) for second in range(40))
        there = sum(begin <= time < begin + 40 for time in times)
        assert there == pytest.approx(expected, abs=4 * math.sqrt(expected) + 4)


def test_arrivals_at_random_are_a_poisson_process():
    gaps = [b - a for a, b in pairwise(arrivals(Steady(50.0), Random(7), UNTIL))]
    mean = sum(gaps) / len(gaps)
    spread = sum((gap - mean) ** 2 for gap in gaps) / len(gaps)
    assert mean == pytest.approx(0.02, rel=0.03)
    assert math.sqrt(spread) == pytest.approx(mean, rel=0.03)


def test_nobody_comes_at_a_rate_of_nothing():
    assert list(arrivals(Steady(0.0), Random(1), UNTIL)) == []
    assert list(evenly(Steps(((0.0, 0.0), (10.0, 1.0))), 13.0)) == [10.0, 11.0, 12.0]


# Student's t, as tables have it
@pytest.mark.parametrize(
    ("runs", "reach"), [(2, 12.706), (3, 4.303), (4, 3.182), (10, 2.262), (30, 2.045)]
)
def test_the_interval_of_a_mean(runs, reach):
    values = [float(number) for number in range(runs)]
    mean = sum(values) / runs
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / (runs - 1))
    one = estimate(values)
    assert one.mean == pytest.approx(mean)
    assert (one.high - one.low) / 2 == pytest.approx(reach * spread / math.sqrt(runs), rel=2e-3)


def test_a_single_run_has_no_interval_and_none_has_no_mean():
    assert (estimate([3.0]).low, estimate([3.0]).high) == (3.0, 3.0)
    assert math.isnan(estimate([math.nan]).mean)
    assert estimate([1.0, math.nan, 3.0]).runs == 2
