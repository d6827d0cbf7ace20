"""What a report says, as JSON and as text."""

import json
from io import StringIO

import pytest
from rich.console import Console

from switchgear.drills.report import Figure, Report
from switchgear.drills.show import Progress, show, shown
from switchgear.drills.statistics import Interval


def a_report(*, holds: bool = True) -> Report:
    report = Report("slow-thing", "a thing is slow", "Slow things are slow.")
    report.figure("p50", 0.201, "s", variant="healthy", section="1. A page")
    report.figure("p50", 2.417, "s", variant="naive", section="1. A page")
    report.figure("answered", 0.9948, "share", variant="naive", section="1. A page")
    report.figure("seen by", "a visitor", variant="naive", section="2. Another")
    report.check("it is slow", holds=holds, detail="2.42 s")
    return report


def text_of(report: Report) -> str:
    console = Console(file=StringIO(), width=80, color_system=None)
    show(report, console)
    return console.file.getvalue()


def test_json_has_the_documented_fields_and_no_other():
    line = json.loads(json.dumps(a_report().as_json()))
    assert set(line) == {"drill", "holds", "invariants", "figures"}
    assert line["drill"] == "slow-thing"
    assert line["holds"] is True
    assert line["invariants"] == [{"name": "it is slow", "holds": True, "detail": "2.42 s"}]
    assert line["figures"][0] == {
        "name": "1. A page: p50",
        "value": 0.201,
        "unit": "s",
        "variant": "healthy",
    }


def test_an_interval_is_two_more_figures():
    report = Report("d", "b")
    report.figure("share", 0.5, "share", interval=Interval(0.4, 0.6))
    assert [(one["name"], one["value"]) for one in report.as_json()["figures"]] == [
        ("share", 0.5),
        ("share, 95% interval from", 0.4),
        ("share, 95% interval to", 0.6),
    ]


def test_a_drill_that_checked_nothing_does_not_hold():
    assert not Report("d", "b").holds


def test_the_print_has_a_title_a_row_a_figure_a_line_an_invariant_and_a_sentence():
    lines = [line.rstrip() for line in text_of(a_report()).splitlines() if line.strip()]
    assert lines[0] == "slow-thing: a thing is slow"
    assert ["healthy", "naive"] in [line.split() for line in lines]
    assert any(line.split() == ["p50", "201", "ms", "2.42", "s"] for line in lines)
    assert any(line.split() == ["answered", "99.48", "%"] for line in lines)
    assert lines[-2].strip() == "✓ it is slow  (2.42 s)"
    assert lines[-1].strip() == "Slow things are slow."


def test_an_interval_has_a_line_of_its_own_and_one_unit():
    report = Report("d", "b")
    report.figure("latency", 0.2, "s", variant="measured", interval=Interval(0.19, 0.211))
    report.figure("answered", 0.99, "share", variant="measured", interval=Interval(0.98, 1.0))
    text = text_of(report)
    assert "190..211 ms" in text
    assert "98..100 %" in text


def test_a_heading_stands_alone_and_columns_stand_below_one_another():
    report = Report("d", "b")
    report.figure("short", "1", variant="v", section="A heading that is longer than any name")
    report.figure("short", "22", variant="v", section="Another")
    lines = [line.rstrip() for line in text_of(report).splitlines()]
    assert "A heading that is longer than any name" in lines
    assert len({len(line) for line in lines if line.startswith("short")}) == 1


def test_a_broken_invariant_has_a_cross():
    assert "✗ it is slow" in text_of(a_report(holds=False))


@pytest.mark.parametrize(
    ("figure", "expected"),
    [
        (Figure("t", 0.0042, "s"), "4.2 ms"),
        (Figure("t", 0.2, "s"), "200 ms"),
        (Figure("t", 3.0, "s", at_least=True), "> 3.00 s"),
        (Figure("t", 1.0, "share"), "100 %"),
        (Figure("t", 0.995, "share"), "99.5 %"),
        (Figure("t", 81), "81"),
        (Figure("t", 1234567), "1\N{NO-BREAK SPACE}234\N{NO-BREAK SPACE}567"),
        (Figure("t", 1.1), "1.10"),
        (Figure("t", 12.5, "EUR"), "12.50 EUR"),
    ],
)
def test_figures_are_shown_as_people_read_them(figure, expected):
    assert shown(figure) == expected


def test_progress_off_a_terminal_is_a_line_for_each_thing():
    console = Console(file=StringIO(), width=80, color_system=None, force_terminal=False)
    with Progress(console, 6) as progress:
        progress.begin(2, "leaf-down")
        progress.say("starting the chain")
    assert console.file.getvalue() == "leaf-down (2 of 6), 0 s: starting the chain ...\n"


def test_progress_on_a_terminal_is_one_line_that_changes():
    console = Console(file=StringIO(), width=80, force_terminal=True)
    with Progress(console, 6) as progress:
        progress.begin(2, "leaf-down")
        progress.say("starting the chain")
    assert "leaf-down (2 of 6)" in console.file.getvalue()
