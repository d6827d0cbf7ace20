"""Quantiles, intervals and sums, against what is known of them."""

import math
from random import Random

import pytest

from switchgear.drills.statistics import (
    in_a_row,
    quantile,
    quantile_interval,
    resampled_sums,
    share_interval,
    sum_quantiles,
)


def test_a_quantile_lies_between_the_values_around_it():
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile([0.0, 10.0], 0.25) == 2.5
    assert quantile([7.0], 0.99) == 7.0


def test_nothing_measured_has_no_quantile():
    with pytest.raises(ValueError, match="no values"):
        quantile([], 0.5)
    with pytest.raises(ValueError, match="no values"):
        quantile_interval([], 0.5)


def test_wilsons_interval_is_the_published_one():
    # Newcombe, "Two-sided confidence intervals for the single proportion" (1998), table I
    low, high = share_interval(81, 263)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    low, high = share_interval(0, 20)
    assert (round(low, 4), round(high, 4)) == (0.0, 0.1611)


def test_a_share_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="is not a share"):
        share_interval(3, 2)


def test_a_95_percent_interval_holds_the_true_value_about_95_times_of_100():
    chance = Random(3)
    for_share = for_quantile = 0
    for _ in range(400):
        sample = [chance.expovariate(1) for _ in range(200)]
        for_share += share_interval(sum(value < 1 for value in sample), 200).holds(1 - math.exp(-1))
        for_quantile += quantile_interval(sample, 0.9).holds(-math.log(0.1))
    assert 0.92 < for_share / 400 < 0.98
    assert 0.93 < for_quantile / 400 <= 0.99


def test_availabilities_in_a_row_multiply():
    assert in_a_row([0.999] * 5) == pytest.approx(0.99500999)


def test_the_sum_of_two_dice_is_known():
    die = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    # P(sum <= 7) = 21/36, P(sum <= 2) = 1/36, P(sum <= 11) = 35/36
    assert sum_quantiles([die, die], [21 / 36, 1 / 36, 35 / 36], step=1.0) == [7, 2, 11]


def test_convolution_and_monte_carlo_agree_on_the_quantiles_of_a_sum():
    chance = Random(1)
    parts = [[chance.expovariate(50) for _ in range(400)] for _ in range(5)]
    by_grid = sum_quantiles(parts, [0.5, 0.99])
    drawn = resampled_sums(parts, 40_000, chance)
    assert by_grid[0] == pytest.approx(quantile(drawn, 0.5), rel=0.02)
    assert by_grid[1] == pytest.approx(quantile(drawn, 0.99), rel=0.03)


def test_the_quantile_of_a_sum_is_not_the_sum_of_quantiles():
    # five exponentials of mean 1 are an Erlang of order 5: its p99 is 11.60, five p99 are 23.03
    chance = Random(2)
    part = [chance.expovariate(1) for _ in range(2000)]
    (of_sum,) = sum_quantiles([part] * 5, [0.99], step=0.02)
    assert of_sum == pytest.approx(11.6, rel=0.05)
    assert 5 * quantile(part, 0.99) > 1.8 * of_sum
