"""When a subscription counts as stuck, or stale; time is an argument."""

from __future__ import annotations

from datetime import timedelta

import pytest

from switchgear.events.progress import Progress, Seen, Verdict, in_seconds


def seen(events: int = 5, oldest: float | None = None, done: int = 0, **more: float) -> Seen:
    return Seen(events, oldest, more.get("stored"), done)


def test_without_progress_it_is_stuck_after_its_bound() -> None:
    one = Progress(stuck_after=60.0)
    verdicts = [one.look(now, seen(oldest=now + 7.0)) for now in (0.0, 30.0, 59.9, 60.0, 90.0)]
    assert [verdict.stuck for verdict in verdicts] == [None, None, None, 60.0, 90.0]


@pytest.mark.parametrize(
    "moved",
    [
        seen(oldest=130.0, done=1),  # this process has concluded one
        seen(events=4, oldest=130.0),  # another member has
        seen(oldest=128.0),  # the oldest is a younger one
        seen(events=0),
    ],
)
def test_any_progress_is_enough(moved: Seen) -> None:
    one = Progress(stuck_after=60.0)
    for now in (0.0, 59.0):
        one.look(now, seen(oldest=70.0 + now))
    assert one.look(60.0, moved).stuck is None
    assert one.look(119.0, moved._replace(oldest=(moved.oldest or 0.0) + 59.0)).stuck is None


def test_a_clock_that_differs_a_little_is_no_progress() -> None:
    one = Progress(stuck_after=60.0)
    for now in range(0, 61, 5):
        verdict = one.look(float(now), seen(oldest=now + 7.0 + (now % 10) / 8))
    assert verdict.stuck == 60.0


def test_where_the_broker_does_not_know_ages() -> None:
    one = Progress(stuck_after=60.0)
    assert [one.look(float(now), seen()).stuck for now in (0, 60)] == [None, 60.0]
    assert one.look(61.0, seen(done=1)).stuck is None


def test_it_arrives_and_is_not_stuck_from_before() -> None:
    one = Progress(stuck_after=60.0)
    one.look(0.0, seen(events=0))
    one.look(1_000.0, seen(oldest=1.0))
    assert one.look(1_010.0, seen(oldest=11.0)).stuck is None


def test_stale_is_older_than_declared() -> None:
    one = Progress(60.0, fresh_within=5.0)
    assert one.look(0.0, seen(oldest=5.0)) == Verdict(None, None)
    assert one.look(1.0, seen(oldest=5.1)).stale == 5.1
    assert one.look(2.0, seen(events=0)).stale is None
    # a key that is tried again from the database waits as well
    assert one.look(3.0, seen(events=0, stored=9.0)).stale == 9.0
    assert Progress(60.0).look(0.0, seen(oldest=1e9)).stale is None


def test_times_are_seconds_or_spans() -> None:
    assert in_seconds(timedelta(minutes=2)) == in_seconds(120) == 120.0
