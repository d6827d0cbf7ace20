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
