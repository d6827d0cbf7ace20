"""The story of a correlation, put together from what is found in several places."""

from __future__ import annotations

from typing import Any

import pytest

from switchgear.events.timeline import Heard, Listener, Origin, State, Timeline, Told, timeline

LISTENERS = {
    "t.Placed": [Listener("stock.reserve", "stock.reserve", undo=False)],
    "t.Refused": [Listener("stock.release", "stock.release", undo=True)],
}


def told(number: int, kind: str, cause: int | None = None, **more: Any) -> Told:
    causation = None if cause is None else str(cause)
    return Told(f"s/{number}", str(number), kind, "s", "k", float(number), "1", causation, **more)


def lines(story: Timeline) -> list[tuple[int, str, str, str]]:
    return [(one.depth, one.step, one.kind, one.state) for one in story.lines]


def test_events_stand_below_their_causes_with_their_handlers() -> None:
    story = timeline(
        "1",
        [told(3, "t.Refused", 2), told(2, "t.Reserved", 1), told(1, "t.Placed")],
        [
            Heard("stock.reserve", "s/1", "done", 1.5),
            Heard("stock.release", "s/3", "done", 3.5),
            Heard("elsewhere.x", "s/3", "done", 3.6),
        ],
        LISTENERS,
    )
    assert lines(story) == [
        (0, "Placed", "event", "published"),
        (1, "stock.reserve", "handler", "done"),
        (1, "Reserved", "event", "published"),
        (2, "Refused", "event", "published"),
        (3, "elsewhere.x", "handler", "done"),
        (3, "stock.release", "undo", "done"),
    ]
    assert (story.status, story.began, story.missing) == ("at rest", 1.0, ())
    assert story.lines[0].known == "s/1, key k"


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("parked", "waits for a person"),
        ("behind", "waits for a person"),
        ("retrying", "going on"),
        ("waiting", "going on"),
        ("discarded", "at rest"),
        ("done", "at rest"),
    ],
)
def test_how_it_stands(state: State, status: str) -> None:
    heard = [Heard("stock.reserve", "s/1", state)]
    assert timeline("1", [told(1, "t.Placed")], heard, LISTENERS).status == status


def test_nothing_says_that_it_was_handled() -> None:
    story = timeline("1", [told(1, "t.Placed")], [], LISTENERS)
    assert lines(story)[1] == (1, "stock.reserve", "handler", "waiting")


def test_what_is_in_the_outbox_is_not_waited_for() -> None:
    story = timeline("1", [told(1, "t.Placed", published=False)], [], LISTENERS)
    assert lines(story) == [(0, "Placed", "event", "in the outbox")]
    assert story.status == "going on"
    both = [told(1, "t.Placed"), told(1, "t.Placed", published=False)]
    for order in (both, both[::-1]):
        assert lines(timeline("1", order, [], LISTENERS))[0][3] == "published"


def test_causes_that_are_gone_are_named() -> None:
    story = timeline("1", [told(3, "t.Refused", 2)], [], LISTENERS)
    assert story.missing == ("2",)
    assert lines(story)[0] == (0, "Refused", "event", "published")


def test_a_replaced_event_goes_on_under_its_new_identity() -> None:
    new = told(2, "t.Placed", 1, replaces="s/1")
    heard = [
        Heard("stock.reserve", "s/1", "replaced", 1.0, "by ann: typo"),
        Heard("stock.reserve", "s/2", "done", 2.0),
    ]
    story = timeline("1", [told(1, "t.Placed"), new], heard, LISTENERS)
    assert [line[3] for line in lines(story)] == ["published", "replaced", "published", "done"]
    assert story.lines[2].known == "s/2, key k, in the place of s/1"


def test_events_that_name_each_other_do_not_hang() -> None:
    story = timeline("1", [told(1, "t.Placed", 2), told(2, "t.Placed", 1)], [], {})
    assert story.lines == ()


def test_of_an_event_that_is_not_found_stands_who_has_handled_it() -> None:
    heard = [
        Heard("stock.reserve", "s/1", "done", 1.5),
        Heard("mail.thank", "s/1", "done", 1.2),
        Heard("elsewhere.x", "s/9", "done", 9.5),
    ]
    story = timeline("1", [], heard, LISTENERS, gone=["s/1", "s/2"])
    assert lines(story) == [
        (0, "1", "event", "not found"),
        (1, "mail.thank", "handler", "done"),
        (1, "stock.reserve", "handler", "done"),
    ]
    assert (story.status, story.began) == ("at rest", 1.2)
    story = timeline("1", [told(1, "t.Placed")], heard, LISTENERS, gone=["s/1"])
    assert (0, "1", "event", "not found") not in lines(story)
    assert (1, "mail.thank", "handler", "done") in lines(story)


def test_events_stand_below_the_step_of_a_saga_that_caused_them() -> None:
    do, undo = "saga/o-1/debit/do", "saga/o-1/debit/undo"
    events = [
        told(1, "t.Placed"),
        told(2, "t.Charged")._replace(causation=do),
        told(3, "t.Counted", 2),
        told(4, "t.Refused")._replace(causation=undo),
    ]
    origins = {do: Origin("debit", undo=False, known="saga o-1"), undo: Origin("debit", True, "")}
    story = timeline("1", events, [], LISTENERS, origins={**origins, "e": Origin("x", True, "")})
    assert lines(story) == [
        (0, "Placed", "event", "published"),
        (1, "stock.reserve", "handler", "waiting"),
        (0, "debit", "step", ""),
        (1, "Charged", "event", "published"),
        (2, "Counted", "event", "published"),
        (0, "debit", "undo", ""),
        (1, "Refused", "event", "published"),
        (2, "stock.release", "undo", "waiting"),
    ]
    assert story.missing == ()
