"""When an attempt is made again, and how long after."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchgear.model.outcome import Ok, Reason, Rejected, Unavailable, Unknown
from switchgear.policy.retry import Retry, pause, worth_retrying


@pytest.mark.parametrize(
    ("outcome", "repeatable", "otherwise"),
    [
        (Ok(1), False, False),
        (Rejected("no"), False, False),
        (Unavailable(reason=Reason.CONNECT), True, True),
        (Unavailable(reason=Reason.NOT_EXECUTED), True, True),
        (Unavailable(reason=Reason.BREAKER_OPEN), False, False),
        (Unavailable(reason=Reason.LIMIT), False, False),
        (Unavailable(reason=Reason.BUDGET), False, False),
        (Unavailable(reason=Reason.THROTTLED), False, False),
        (Unavailable(reason=Reason.EXPIRED), False, False),
        (Unknown(reason=Reason.TIMEOUT), True, False),
        (Unknown(reason=Reason.RESET), True, False),
        (Unknown(reason=Reason.SERVER_ERROR), True, False),
        (Unknown(reason=Reason.CANCELLED), True, False),
    ],
)
def test_what_is_worth_retrying(outcome, repeatable, otherwise):
    assert worth_retrying(outcome, repeatable=True) == repeatable
    assert worth_retrying(outcome, repeatable=False) == otherwise


@pytest.mark.parametrize(
    ("jitter", "number", "u", "expected"),
    [
        ("full", 1, 0.5, 0.05),
        ("full", 2, 0.5, 0.1),
        ("full", 3, 1.0, 0.4),
        ("full", 9, 1.0, 2.0),
        ("equal", 1, 0.0, 0.05),
        ("equal", 2, 0.5, 0.15),
        ("equal", 9, 1.0, 2.0),
    ],
)
def test_the_formulas(jitter, number, u, expected):
    settings = Retry(base=0.1, cap=2.0, jitter=jitter)
    assert pause(settings, number, 0.0, None, lambda: u) == pytest.approx(expected)


def test_decorrelated_jitter_grows_from_the_pause_before():
    settings = Retry(base=0.1, cap=2.0, jitter="decorrelated")
    assert pause(settings, 1, 0.0, None, lambda: 0.9) == pytest.approx(0.1)
    assert pause(settings, 2, 0.1, None, lambda: 1.0) == pytest.approx(0.3)
    assert pause(settings, 3, 0.3, None, lambda: 0.5) == pytest.approx(0.5)
    assert pause(settings, 4, 1.9, None, lambda: 1.0) == 2.0


@given(
    st.sampled_from(["full", "equal", "decorrelated"]),
    st.integers(1, 100),
    st.floats(0, 10),
    st.floats(0, 0.999),
)
def test_no_pause_is_negative_or_longer_than_the_cap(jitter, number, previous, u):
    settings = Retry(base=0.1, cap=3.0, jitter=jitter)
    assert 0 <= pause(settings, number, previous, None, lambda: u) <= 3.0


def test_what_the_callee_asked_for_is_waited_before_the_jitter():
    settings = Retry(base=0.1)
    assert pause(settings, 1, 0.0, 2.0, lambda: 0.5) == pytest.approx(2.05)


@pytest.mark.parametrize("asked", [None, 5.0])
def test_a_thousand_callers_that_fail_together_come_back_spread_out(asked):
    settings = Retry(base=0.1)
    draw = random.Random(42).random
    pauses = sorted(pause(settings, 1, 0.0, asked, draw) - (asked or 0.0) for _ in range(1000))
    # in the busiest tenth of the time there are about a tenth of the callers
    for tenth in range(10):
        inside = sum(tenth * 0.01 <= wait < (tenth + 1) * 0.01 for wait in pauses)
        assert 65 < inside < 140
