"""docs/reference/telemetry.md names the metrics and log lines that there are."""

import re
from pathlib import Path

from switchgear.model.signal import BEGINS, Signal, SignalKind
from switchgear.telemetry import LEVELS
from switchgear.telemetry.metrics import _timer

PAGE = (Path(__file__).parents[2] / "docs/reference/telemetry.md").read_text("utf-8")


def test_the_histograms_are_those_of_the_module():
    subjects = [("orders -> a.B/c", {"door": "http"}), ("guard", {"door": "grpc"})]
    timed = {
        _timer(Signal(kind, subject, detail))
        for kind in SignalKind
        if kind not in BEGINS
        for subject, detail in subjects
    }
    rows = re.findall(r"^\| `([a-z.]+\.(?:duration|age))`", PAGE, re.MULTILINE)
    assert set(rows) == timed - {None}


def test_every_state_change_that_is_logged_is_told():
    told = PAGE.partition("## Log lines")[2].partition("A request that failed")[0]
    words = {"breaker", "budget", "limit", "throttle", "policy", "admission", "event", "saga"}
    assert {str(kind).partition(".")[0] for kind in LEVELS} - {"service"} == words
    for word in words:
        assert word in told
