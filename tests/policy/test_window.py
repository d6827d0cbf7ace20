"""The tally, against a model that keeps every event."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from switchgear.policy.window import SLOTS, Tally

steps = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.001, 0.05, 0.1, 0.3, 1.0, 4.0, 11.0, 500.0]),
        st.sampled_from(["good", "bad", "look"]),
    ),
    max_size=80,
)


@given(steps, st.sampled_from([(1.0,), (1.0, 10.0), (0.25, 3.0)]), st.floats(0, 1e6))
@settings(max_examples=150, deadline=None)
def test_a_tally_counts_the_events_whose_slot_is_in_the_window(moves, lengths, now):
    tally = Tally(lengths)
    events = []
    for ahead, what in moves:
        now += ahead
        if what == "good":
            tally.add_good(now)
            events.append((now, True))
        elif what == "bad":
            tally.add_bad(now)
            events.append((now, False))
        expected = []
        for length in lengths:
            slot = length / SLOTS
            oldest = now // slot - SLOTS + 1
            inside = [good for time, good in events if time // slot >= oldest]
            expected.append((inside.count(True), inside.count(False)))
        assert tally.totals(now) == expected


@given(steps, st.floats(0, 1e6), st.integers(0, 100))
@settings(max_examples=100, deadline=None)
def test_what_is_taken_back_was_never_counted(moves, now, which):
    tally, other = Tally([1.0, 10.0]), Tally([1.0, 10.0])
    goods = [number for number, (_, what) in enumerate(moves) if what == "good"]
    wrong = goods[which % len(goods)] if goods else None
    when = now
    for number, (ahead, what) in enumerate(moves):
        now += ahead
        if what == "good":
            tally.add_good(now)
            if number != wrong:
                other.add_good(now)
            else:
                when = now
        elif what == "bad":
            tally.add_bad(now)
            other.add_bad(now)
    if wrong is not None:
        tally.take_back(now, when)
    assert tally.totals(now) == other.totals(now)


def test_nothing_that_is_not_there_is_taken_back():
    tally = Tally([1.0, 10.0])
    tally.add_good(3.0)
    for when in (2.0, 4.5, 400.0, 0.0):
        tally.take_back(3.9, when)
    assert tally.totals(3.9) == [(1, 0), (1, 0)]
    tally.take_back(20.0, 3.0)  # it is no longer there
    assert tally.totals(20.0) == [(0, 0), (0, 0)]


def test_time_that_runs_backwards_counts_as_the_latest_time_seen():
    tally = Tally([1.0])
    tally.add_good(5.0)
    tally.add_bad(4.2)
    assert tally.totals(5.05) == [(1, 1)]


def test_a_cleared_tally_has_forgotten_everything():
    tally = Tally([1.0, 10.0])
    tally.add_bad(3.0)
    tally.clear()
    assert tally.totals(3.0) == [(0, 0), (0, 0)]
