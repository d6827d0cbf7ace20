"""The explanation equals the execution, for every step and every way to fail."""

from __future__ import annotations

import json

import pytest

from switchgear.saga import NoSuchSaga
from switchgear.saga.explain import Failing, explain
from switchgear.saga.plan import Plan
from switchgear.saga.state import What
from tests.saga.plans import BRANCHES, CHECKOUT, STARTED, World, row, script, step
from tests.saga.plans import Kind as PlanKind
from tests.saga.shop import Book, checkout

WAYS: dict[Failing, What] = {
    "refused": What.REFUSED,
    "unavailable": What.UNAVAILABLE,
    "unknown": What.UNKNOWN,
}
READING = row(step("a"), step("look", PlanKind.READ), step("b"), step("p", PlanKind.PIVOT))
FORK = Plan(
    "fork",
    1,
    (
        step("a"),
        step("b", after=("a",)),
        step("c", after=("a",)),
        step("d", after=("c",)),
        step("e", after=("b", "d")),
    ),
)
POINTS = [
    (plan, each.name, how)
    for plan in (CHECKOUT, STARTED, BRANCHES, READING, FORK)
    for each in plan.steps
    if each.kind is not PlanKind.START
    for how in WAYS
]


@pytest.mark.parametrize(("plan", "name", "how"), POINTS)
def test_it_equals_the_execution(plan: Plan, name: str, how: Failing) -> None:
    told = explain(plan, name, how)
    world = World(plan, script(**{name: [WAYS[how]]})).finish()
    assert told.ends == world.status
    undone = [each.step for each in told.undone]
    assert [each for each in undone if each in world.undone] == world.undone
    certain = {each.step for each in told.undone if each.certain}
    assert certain <= set(world.undone) <= set(undone)
    if plan in (CHECKOUT, STARTED, READING):  # no branches: nothing is left open
        assert undone == world.undone
    if told.ends == "queued":
        waited = told.give_up is not None
        assert waited == (world.now > 0)
        done = {each for each, mark in world.state.marks.items() if mark.fate == "done"}
        assert set(told.stays) <= done
    for each in told.undone:
        doubtful = world.state.marks[each.step].doubt
        assert doubtful == (each.given == "Unknown") or not each.certain


@pytest.mark.parametrize(("plan", "name", "how"), POINTS)
def test_waves_keep_the_order(plan: Plan, name: str, how: Failing) -> None:
    wave = {each.step: each.wave for each in explain(plan, name, how).undone}
    for each, number in wave.items():
        assert all(wave[later] < number for later in plan.later[each] if later in wave)


def test_side_by_side() -> None:
    waves = [(each.step, each.wave) for each in explain(BRANCHES, "c").undone]
    assert waves == [("b", 1), ("a", 1)]


def test_in_words() -> None:
    saga = checkout(Book())
    assert explain(saga, "ship").text() == (
        "checkout version 1: ship is refused.\n"
        "The saga turns round, and ends undone:\n"
        "  1. refund undoes debit, or else a person does: runbooks/refund.md\n"
        "  2. release undoes reserve, or else a person does: runbooks/release.md"
    )
    assert explain(saga, saga.steps["ship"], "unknown").text() == (
        "checkout version 1: ship is attempted, and its outcome stays unknown.\n"
        "After 1 hour of repeating it stands in front of a person: runbooks/ship.md.\n"
        "What stays: reserve, debit."
    )
    assert "which may have been done" in explain(saga, "debit", "unknown").text()
    assert "Nothing has to be undone" in explain(saga, "reserve").text()
    assert "At once it stands" in explain(saga, "confirm").text()
    assert "if it was done by then" in explain(BRANCHES, "a").text()
    assert "10 seconds" in explain(CHECKOUT, "ship", "unknown").text()


def test_as_json() -> None:
    told = explain(checkout(Book()), "ship").as_dict()
    assert json.loads(json.dumps(told))["undone"][0] == {
        "step": "debit",
        "undo": "refund",
        "wave": 1,
        "given": "result",
        "certain": True,
        "runbook": "runbooks/refund.md",
    }


def test_the_undo_of_the_start_is_given_the_reason() -> None:
    assert [each.given for each in explain(STARTED, "ship").undone] == [
        "result",
        "result",
        "reason",
    ]


def test_an_unknown_step() -> None:
    with pytest.raises(NoSuchSaga, match=r"no step start.*are reserve"):
        explain(STARTED, "start")
    with pytest.raises(NoSuchSaga, match=r"no step pack.*reserve, debit, ship, confirm"):
        explain(checkout(Book()), "pack")
