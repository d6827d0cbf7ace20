"""Client-side throttling: the formula against a model, and what a callee sees of it."""

from __future__ import annotations

import json
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from switchgear.errors import PolicyError
from switchgear.policy.throttle import Throttle, Throttling

BOOK = Throttle(reserve=0, most=1, window=120)


def unused():
    raise AssertionError("a number was drawn although nothing is throttled")


def test_while_all_is_well_nothing_is_drawn_and_all_pass():
    throttling = Throttling(Throttle())
    for step in range(1000):
        assert throttling.admit(step / 10, unused)
        throttling.accepted(step / 10)
    assert throttling.standing


def test_a_share_of_failures_below_the_ratio_throttles_nothing():
    throttling = Throttling(BOOK)
    for _ in range(50):
        throttling.accepted(1.0)
        throttling.turned_away(1.0)
    assert throttling.share(1.0) == 0
    assert throttling.admit(1.0, unused)
    assert not throttling.active


@pytest.mark.parametrize(
    ("accepts", "others", "share"),
    [
        (0, 1, 1 / 2),
        (0, 99, 99 / 100),
        (10, 10, 0),
        (10, 30, 20 / 41),
        (1, 1, 0),
        (100, 101, 1 / 202),
    ],
)
def test_the_formula_of_the_book(accepts, others, share):
    throttling = Throttling(BOOK)
    for _ in range(accepts):
        throttling.accepted(5.0)
    for _ in range(others):
        throttling.turned_away(5.0)
    assert throttling.share(5.0) == pytest.approx(share)
    if share:
        # the number drawn is below the share: turned away; equal to it: not
        assert not throttling.admit(5.0, lambda: share - 1e-9)
    again = throttling.share(5.0)
    assert throttling.admit(5.0, lambda: again)


def test_a_handful_of_failures_after_a_quiet_night_throttles_nothing():
    throttling = Throttling(Throttle())
    for _ in range(10):
        throttling.turned_away(30_000.0)
        assert throttling.admit(30_000.0, unused)
    throttling.turned_away(30_000.0)
    assert throttling.share(30_000.0) == pytest.approx(1 / 12)


def test_what_it_turns_away_itself_keeps_it_up():
    throttling = Throttling(BOOK)
    throttling.turned_away(0.0)
    before = throttling.share(0.0)
    assert not throttling.admit(0.0, lambda: 0.0)
    assert throttling.share(0.0) > before


def test_what_left_the_window_is_forgotten():
    throttling = Throttling(Throttle(reserve=0, window=10))
    throttling.turned_away(0.5)
    assert not throttling.admit(9.9, lambda: 0.0)
    assert throttling.active
    assert throttling.admit(20.0, unused)
    assert not throttling.active
    assert throttling.standing


def drive(throttling, *, offered, capacity, seconds, start=0.0, seed=3):
    """Offer requests a second, evenly, to a callee that takes `capacity` of them on each second."""
    random = Random(seed).random
    sent = taken = 0
    this_second, left = -1, 0
    for step in range(offered * seconds):
        now = start + step / offered
        if int(now) != this_second:
            this_second, left = int(now), capacity
        if not throttling.admit(now, random):
            continue
        sent += 1
        if left:
            left -= 1
            taken += 1
            throttling.accepted(now)
        else:
            throttling.turned_away(now)
    return sent / seconds, taken / seconds


@pytest.mark.parametrize(("ratio", "offered"), [(2.0, 300), (2.0, 1000), (1.5, 500)])
def test_a_callee_that_is_overloaded_sees_the_ratio_of_what_it_takes_on(ratio, offered):
    throttling = Throttling(Throttle(ratio=ratio))
    drive(throttling, offered=offered, capacity=100, seconds=60)
    sent, taken = drive(throttling, offered=offered, capacity=100, seconds=60, start=60.0)
    assert sent == pytest.approx(ratio * 100, rel=0.05)
    assert taken == pytest.approx(100, rel=0.02)


def test_after_an_outage_the_bound_on_the_share_is_what_makes_it_recover():
    bounded, book = Throttling(Throttle(window=120)), Throttling(BOOK)
    for throttling in (bounded, book):
        drive(throttling, offered=1000, capacity=0, seconds=120)
    sent, _ = drive(bounded, offered=1000, capacity=1000, seconds=20, start=120.0)
    # 5% of what is offered, from the first second
    assert sent == pytest.approx(50, rel=0.2)
    late, _ = drive(book, offered=1000, capacity=1000, seconds=20, start=120.0)
    assert late < 1
    sent, _ = drive(bounded, offered=1000, capacity=1000, seconds=20, start=270.0)
    assert sent == 1000


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.01, 0.5, 3.0, 40.0, -2.0]),
            st.sampled_from(["ask", "accepted", "turned away"]),
            st.floats(0, 1, exclude_max=True),
        ),
        max_size=80,
    ),
    st.sampled_from([Throttle(), Throttle(reserve=0, most=1), Throttle(ratio=1.1, window=5)]),
    st.floats(0, 1e5),
)
@settings(max_examples=120, deadline=None)
def test_it_does_what_a_model_does_that_keeps_every_request(moves, rule, now):
    throttling = Throttling(rule)
    slot = rule.window / 10
    latest, seen = now, []
    for ahead, what, drawn in moves:
        now += ahead
        latest = max(latest, now)
        if what == "accepted":
            throttling.accepted(now)
            seen.append((latest, True))
        elif what == "turned away":
            throttling.turned_away(now)
            seen.append((latest, False))
        else:
            recent = [good for time, good in seen if time // slot > latest // slot - 10]
            accepts, requests = recent.count(True), len(recent)
            excess = requests - rule.ratio * accepts - rule.reserve
            share = min(rule.most, max(0.0, excess / (requests + 1)))
            assert throttling.admit(now, lambda drawn=drawn: drawn) == (drawn >= share)
            if drawn < share:
                seen.append((latest, False))


def test_a_description_is_plain_data_with_every_setting():
    plain = Throttle().describe()
    assert json.loads(json.dumps(plain)) == plain
    assert plain == {"ratio": 2.0, "window": 30.0, "reserve": 10, "most": 0.95}


@pytest.mark.parametrize(
    ("setting", "value", "allowed"),
    [
        ("ratio", 0.9, "at least 1 and at most 100"),
        ("window", 0, "above 0"),
        ("window", "30s", "seconds or a timedelta"),
        ("reserve", -1, "at least 0"),
        ("most", 0, "above 0 and at most 1"),
    ],
)
def test_a_setting_out_of_range_is_refused_with_its_name_and_its_range(setting, value, allowed):
    with pytest.raises(PolicyError) as refused:
        Throttle(**{setting: value})
    assert setting in str(refused.value)
    assert allowed in str(refused.value)
