"""Latencies are judged by a machine that kept up, and only shown where it did not."""

import pytest

from switchgear.drills.load import Answer, Sample
from switchgear.drills.long_chain import in_a_row_of
from switchgear.drills.report import Report


def samples(took, late):
    return [Sample(0.0, took, Answer(200), late) for _ in range(2000)]


@pytest.mark.parametrize(("late", "judged"), [(0.001, True), (0.2, False)])
def test_a_machine_that_does_not_keep_up_breaks_no_invariant(late, judged):
    report = Report("long-chain", "")
    one = [0.01 + number % 100 / 1000 for number in range(2000)]
    in_a_row_of(report, one, samples(took=2.0, late=late))  # far from what five in a row take
    latencies = [one for one in report.invariants if "p50" in one.name or "p99" in one.name]
    assert bool(latencies) is judged
    assert report.holds is not judged
    assert ("not judged" in report.shows) is not judged
