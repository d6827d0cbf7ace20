"""The explanation equals the execution, for every step and every way to fail."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import pytest

from switchgear.errors import SagaError
from switchgear.saga import NoSuchSaga
from switchgear.saga.allowed import side_of
from switchgear.saga.draw import mermaid, svg
from switchgear.saga.explain import Explanation, Failing, explain, explain_all
from switchgear.saga.plan import Plan, Side, StepPlan
from switchgear.saga.state import Answered, Operated, What
from tests.saga.plans import BRANCHES, CHECKOUT, STARTED, World, row, script, step
from tests.saga.plans import Kind as PlanKind
from tests.saga.shop import Book, checkout

WAYS: dict[Failing, What] = {
    "refused": What.REFUSED,
    "unavailable": What.UNAVAILABLE,
    "unknown": What.UNKNOWN,
}
TWO_BRANCHES = Plan(
    "two-branches",
    1,
    (
        step("a"),
        step("b"),
        step("r", PlanKind.RETRIABLE, after=("a",)),
        step("q", PlanKind.RETRIABLE, after=("b",)),
    ),
)
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
    assert {each.step for each in told.asked} == {
        each for each, mark in world.state.marks.items() if mark.item
    }
    if told.ends == "queued":
        waited = told.give_up is not None
        assert waited == (world.now > 0)
        done = {each for each, mark in world.state.marks.items() if mark.fate == "done"}
        assert set(told.stays) <= done
    for each in told.undone:
        doubtful = world.state.marks[each.step].doubt
        assert doubtful == (each.given == "Unknown") or not each.certain


def reached(plan: Plan, done: frozenset[str], undo: str | None = None) -> World:
    """A saga of which exactly `done` have been done; the undo of `undo` fails for good."""
    world = World(plan, script(**({f"undo_{undo}": [What.REFUSED]} if undo else {})), deadline=5.0)
    for each in plan.steps:
        if each.name in done and each.kind is not PlanKind.START:
            world.tell(Answered(each.name, Side.DO, What.OK))
    return world


def closure(plan: Plan, *names: str) -> frozenset[str]:
    return frozenset(names).union(*(plan.earlier[name] for name in names))


def check_equal(told: Explanation, world: World) -> None:
    """Check that what happened is what was told, now and after the person has decided."""
    assert told.ends == world.status
    assert [each.step for each in told.undone] == world.undone
    assert {(each.step, each.side) for each in told.asked} == {
        (each, side_of(mark)) for each, mark in world.state.marks.items() if mark.item
    }
    undone = {each.step for each in (*told.undone, *told.waits)}
    for each in told.asked:
        world.tell(Operated(each.step, What.RESOLVE))
        world.finish()
    assert world.status == "undone"
    assert set(world.undone) == undone
    told_order = [each.step for each in (*told.undone, *told.waits)]
    assert [each for each in told_order if each in world.undone] == world.undone


SHAPES = (CHECKOUT, STARTED, BRANCHES, READING, FORK, TWO_BRANCHES)


def by_then(plan: Plan, owner: StepPlan, after: tuple[str, ...]) -> frozenset[str]:
    if after:
        return closure(plan, *after, owner.name)
    return frozenset(each.name for each in plan.steps if each.kind not in DECISIVE)


DECISIVE = {PlanKind.PIVOT, PlanKind.RETRIABLE}
UNDOS = [
    (plan, each, after)
    for plan in SHAPES
    for each in plan.steps
    if each.undo
    for after in [
        (),
        *((o.name,) for o in plan.steps if o.kind not in {*DECISIVE, PlanKind.START}),
    ]
    if by_then(plan, each, after) != plan.step.keys()  # nothing is undone of what has ended
]


@pytest.mark.parametrize(("plan", "owner", "after"), UNDOS)
def test_a_failing_undo_equals_the_execution(
    plan: Plan, owner: StepPlan, after: tuple[str, ...]
) -> None:
    told = explain(plan, owner.undo or "", after=after)
    done = by_then(plan, owner, after)
    world = reached(plan, done, owner.name)
    world.now = 5.0
    check_equal(told, world.finish())


REFUTED = [
    (plan, each.name, after)
    for plan in SHAPES
    for each in plan.steps
    if each.kind is not PlanKind.START
    for after in [(), *((other.name,) for other in plan.steps if other.kind is not PlanKind.START)]
]


@pytest.mark.parametrize(("plan", "name", "after"), REFUTED)
def test_a_refuted_step_equals_the_execution(plan: Plan, name: str, after: tuple[str, ...]) -> None:
    told = explain(plan, name, "refuted", after)
    done = closure(plan, *after, name) if after else frozenset(plan.step)
    world = reached(plan, done)
    world.tell(Operated(name, What.REFUTE))
    check_equal(told, world.finish())


def test_after_a_step_in_a_branch_beside_it() -> None:
    assert not explain(BRANCHES, "a").undone[0].certain
    (told,) = explain(BRANCHES, "a", after=["b"]).undone
    assert (told.step, told.certain) == ("b", True)
    world = World(BRANCHES, script(a=[What.REFUSED]))
    world.tell(Answered("b", Side.DO, What.OK))
    assert world.finish().undone == ["b"]
    # on what is before it anyway, it says nothing new
    assert explain(CHECKOUT, "ship", after=["debit"]).undone == explain(CHECKOUT, "ship").undone
    with pytest.raises(SagaError, match="ship does not come before debit"):
        explain(CHECKOUT, "debit", after=["ship"])
    with pytest.raises(SagaError, match="only a step can be refuted"):
        explain(CHECKOUT, "undebit", "refuted")


def test_every_failure_point() -> None:
    told = explain_all(CHECKOUT)
    assert len(told) == 4 * 4 + 2
    assert len({(each.fails, each.how) for each in told}) == len(told)
    assert [each.fails for each in told[-2:]] == ["undebit", "unreserve"]


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
    assert explain(saga, "debit", "refuted").text() == (
        "checkout version 1: debit was done, and is refuted.\n"
        "What was done and cannot be undone stands in front of a person at once:\n"
        "  confirm: runbooks/confirm.md\n"
        "  ship: runbooks/ship.md\n"
        "When the person has decided, unless the pivot stays (skip):\n"
        "  1. release undoes reserve, or else a person does: runbooks/release.md"
    )
    assert explain(saga, "refund", after=["debit"]).text() == (
        "checkout version 1: refund is refused, after debit.\n"
        "It stands in front of a person: runbooks/refund.md.\n"
        "When the person has decided:\n"
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


class TestPictures:
    def test_mermaid(self) -> None:
        saga = checkout(Book())
        told = mermaid(saga.plan, explain(saga, "ship"))
        assert told.splitlines() == [
            "flowchart LR",
            '  s0["reserve<br/>2. release"]:::undone',
            '  s1["debit<br/>1. refund"]:::undone',
            '  s2{{"ship<br/>refused"}}:::failed',
            '  s3["confirm"]:::never',
            "  s0 --> s1",
            "  s1 --> s2",
            "  s2 --> s3",
            "  classDef failed fill:#fee2e2,stroke:#b91c1c,color:#0f172a",
            "  classDef undone fill:#fef3c7,stroke:#b45309,color:#0f172a",
            "  classDef never fill:#ffffff,stroke:#94a3b8,color:#0f172a",
        ]
        assert '"debit<br/>undo: refund"]:::plain' in mermaid(saga.plan)
        assert "refund refused; person: runbooks/refund.md" in mermaid(
            saga.plan, explain(saga, "refund")
        )

    @pytest.mark.parametrize("plan", SHAPES)
    def test_svg_shows_each_step_once_and_no_two_in_one_place(self, plan: Plan) -> None:
        for told in (None, *explain_all(plan)):
            root = ET.fromstring(svg(plan, told))  # noqa: S314  our own
            space = "{http://www.w3.org/2000/svg}"
            names = [text.text for text in root.iter(f"{space}text")]
            assert all(names.count(name) == 1 for name in plan.step)
            boxes = [(box.get("x"), box.get("y")) for box in root.iter(f"{space}rect")][1:]
            assert len(set(boxes)) == len(plan.steps)
            assert len(list(root.iter(f"{space}path"))) == 1 + sum(
                len(each.after) for each in plan.steps
            )

    def test_names_cannot_break_out(self) -> None:
        plan = Plan("odd", 1, (step('a"]<script>'),))
        assert "<script>" not in svg(plan)
        assert "<script>" not in mermaid(plan)
        assert mermaid(plan).count('"') == 2
