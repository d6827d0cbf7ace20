from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchgear.saga import machine
from switchgear.saga.plan import Backoff, Plan
from switchgear.saga.state import (
    Answered,
    Entry,
    Expired,
    Fate,
    Left,
    Next,
    Operated,
    Phase,
    What,
)
from tests.saga.plans import (
    BRANCHES,
    CHECKOUT,
    GIVE_UP,
    STARTED,
    Kind,
    Run,
    Side,
    World,
    row,
    script,
    step,
)

OK, REFUSED, REJECTED = What.OK, What.REFUSED, What.REJECTED
UNAVAILABLE, UNKNOWN, UNRECORDED = What.UNAVAILABLE, What.UNKNOWN, What.UNRECORDED


def test_happy_path_takes_one_entry_a_step() -> None:
    world = World(CHECKOUT, script()).finish()
    assert world.status == "done"
    assert [entry.step for entry in world.journal] == ["reserve", "debit", "ship", "confirm"]


# answers of `debit`; status; what was undone; attempts of debit
COMPENSATABLE = [
    ([REFUSED], ["reserve"], 1),
    ([REJECTED], ["reserve"], 1),
    ([UNAVAILABLE], ["reserve"], 2),
    ([UNKNOWN], ["debit", "reserve"], 2),
    ([UNRECORDED], ["debit", "reserve"], 1),
    ([UNKNOWN, UNAVAILABLE], ["debit", "reserve"], 2),
    ([UNKNOWN, REFUSED], ["debit", "reserve"], 2),
    ([UNKNOWN, REJECTED], ["debit", "reserve"], 2),
    ([UNAVAILABLE, REFUSED], ["reserve"], 2),
]


@pytest.mark.parametrize(("answers", "undone", "attempts"), COMPENSATABLE)
def test_a_step_before_the_pivot(answers: list[What], undone: list[str], attempts: int) -> None:
    world = World(CHECKOUT, script(debit=answers)).finish()
    assert (world.status, world.undone) == ("undone", undone)
    assert sum(run.step == "debit" and run.side is Side.DO for run in world.ran) == attempts


@pytest.mark.parametrize("answers", [[UNKNOWN, OK], [UNAVAILABLE, OK]])
def test_a_retry_that_succeeds_clears_the_doubt(answers: list[What]) -> None:
    world = World(CHECKOUT, script(debit=answers)).finish()
    assert (world.status, world.undone) == ("done", [])


# answers of `ship`; status; what was undone
PIVOT = [
    ([REFUSED], "undone"),
    ([REJECTED], "undone"),
    ([UNAVAILABLE], "undone"),
    ([UNKNOWN, REFUSED], "undone"),
    ([UNKNOWN], "queued"),
    ([UNRECORDED], "queued"),
    ([UNKNOWN, UNAVAILABLE], "queued"),
    ([UNKNOWN, REJECTED], "queued"),
    ([UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, OK], "done"),
]


@pytest.mark.parametrize(("answers", "status"), PIVOT)
def test_the_pivot(answers: list[What], status: str) -> None:
    world = World(CHECKOUT, script(ship=answers)).finish()
    assert world.status == status
    assert world.undone == (["debit", "reserve"] if status == "undone" else [])
    assert (world.state.marks["ship"].fate is Fate.ABSENT) == (status == "undone")
    if status == "queued":
        assert world.now >= GIVE_UP


RETRIABLE = [
    ([REFUSED], "queued"),
    ([REJECTED], "queued"),
    ([UNAVAILABLE], "queued"),
    ([UNKNOWN], "queued"),
    ([UNAVAILABLE, UNKNOWN, UNKNOWN, UNAVAILABLE, OK], "done"),
]


@pytest.mark.parametrize(("answers", "status"), RETRIABLE)
def test_a_retriable_step(answers: list[What], status: str) -> None:
    world = World(CHECKOUT, script(confirm=answers)).finish()
    assert (world.status, world.undone) == (status, [])
    assert (world.now >= GIVE_UP) == (status == "queued" and answers[0] not in {REFUSED, REJECTED})


UNDO = [
    ([REFUSED], "queued"),
    ([REJECTED], "queued"),
    ([UNAVAILABLE], "queued"),
    ([UNKNOWN], "queued"),
    ([UNKNOWN, OK], "undone"),
    ([UNAVAILABLE, OK], "undone"),
]


@pytest.mark.parametrize(("answers", "status"), UNDO)
def test_an_undo(answers: list[What], status: str) -> None:
    world = World(CHECKOUT, script(ship=[REFUSED], undo_debit=answers)).finish()
    assert world.status == status
    # the undo before it waits: the order of compensation is kept
    assert world.undone == (["debit", "reserve"] if status == "undone" else [])


def test_a_step_that_did_something_before_it_failed_is_in_doubt() -> None:
    world = World(CHECKOUT, script())
    world.tell(Answered("reserve", Side.DO, REFUSED, partial=True))
    assert world.finish().undone == ["reserve"]

    world = World(CHECKOUT, script())
    world.step()
    world.step()
    entry = world.tell(Answered("ship", Side.DO, REFUSED, partial=True))
    assert entry.next is Next.AGAIN


def test_retry_after_is_waited_for() -> None:
    world = World(CHECKOUT, script())
    entry = world.tell(Answered("reserve", Side.DO, UNAVAILABLE, retry_after=42.0))
    assert entry.due == 42.0


def test_retry_after_is_not_believed_for_ever() -> None:
    world = World(CHECKOUT, script())
    entry = world.tell(Answered("reserve", Side.DO, UNAVAILABLE, retry_after=1e12))
    assert entry.due == 3600.0


class TestDeadline:
    def test_before_the_pivot_it_compensates(self) -> None:
        world = World(CHECKOUT, script(), deadline=5.0)
        world.step()
        world.now = 5.0
        assert world.finish().status == "undone"
        assert world.undone == ["reserve"]
        assert [run.step for run in world.ran] == ["reserve", "reserve"]

    def test_a_step_that_ends_after_it_is_undone(self) -> None:
        world = World(CHECKOUT, script(), deadline=5.0)
        world.now = 6.0
        world.tell(Answered("reserve", Side.DO, OK))
        assert world.state.phase is Phase.UNDOING
        assert world.finish().undone == ["reserve"]

    def test_the_last_step_is_not_undone_for_being_late(self) -> None:
        world = World(row(step("only")), script(), deadline=5.0)
        world.now = 6.0
        world.tell(Answered("only", Side.DO, OK))
        assert world.status == "done"

    def test_an_attempt_that_would_come_too_late_is_not_waited_for(self) -> None:
        world = World(CHECKOUT, script(), deadline=5.0)
        entry = world.tell(Answered("reserve", Side.DO, UNAVAILABLE, retry_after=5.0))
        assert entry.next is Next.UNDO

    def test_from_the_first_attempt_at_the_pivot_it_means_nothing(self) -> None:
        world = World(CHECKOUT, script(ship=[UNKNOWN, OK], confirm=[UNKNOWN, OK]), deadline=5.0)
        world.step()
        world.step()
        assert not machine.expired(CHECKOUT, world.state, 9.0, flying={"ship"})
        world.tell(Answered("ship", Side.DO, UNKNOWN))
        world.now = 9.0
        assert not machine.expired(CHECKOUT, world.state, 9.0)
        assert world.finish().status == "done"

    def test_a_pivot_that_succeeds_after_it_is_not_undone(self) -> None:
        world = World(CHECKOUT, script(), deadline=5.0)
        world.step()
        world.step()
        world.now = 9.0
        assert world.tell(Answered("ship", Side.DO, OK)).next is Next.GO
        assert world.finish().status == "done"

    def test_a_pivot_that_was_never_attempted_does_not_count(self) -> None:
        world = World(CHECKOUT, script(), deadline=5.0)
        world.step()
        world.step()
        assert world.state.marks["ship"].fate is Fate.BEGUN
        world.now = 5.0
        assert world.finish().undone == ["debit", "reserve"]
        assert world.state.marks["ship"].fate is Fate.ABSENT

    def test_a_pivot_that_may_have_been_attempted_does(self) -> None:
        world = World(CHECKOUT, script(), deadline=5.0)
        world.step()
        world.step()
        world.interrupt()
        world.now = 5.0
        assert world.finish().status == "done"

    def test_a_step_that_never_began_may_be_undone(self) -> None:
        """Rule 6: its worker died between the record and the attempt, then the time was up."""
        world = World(CHECKOUT, script(), deadline=5.0)
        world.interrupt()
        world.now = 5.0
        assert world.finish().undone == ["reserve"]
        assert [run.side for run in world.ran] == [Side.UNDO]


class TestInterruption:
    def test_it_uses_up_no_attempts(self) -> None:
        world = World(CHECKOUT, script())
        for _ in range(20):
            world.interrupt()
        assert machine.runs(CHECKOUT, world.state) == (Run("reserve", Side.DO, 21, 0.0),)
        assert world.tell(Answered("reserve", Side.DO, UNAVAILABLE)).next is Next.AGAIN
        assert world.finish().status == "done"

    def test_it_puts_the_step_in_doubt(self) -> None:
        world = World(CHECKOUT, script(reserve=[UNAVAILABLE]))
        world.interrupt()
        assert world.finish().undone == ["reserve"]

    def test_an_undo_is_asked_again(self) -> None:
        world = World(CHECKOUT, script(debit=[REFUSED]))
        world.step()
        world.step()
        for _ in range(20):
            world.interrupt()
        assert world.finish().undone == ["reserve"]
        assert world.ran[-1].attempt == 21

    def test_a_work_item_stays(self) -> None:
        world = World(CHECKOUT, script(ship=[REFUSED], undo_debit=[REFUSED])).finish()
        world.interrupt()
        assert world.status == "queued"

    def test_siblings_are_settled_while_undoing(self) -> None:
        world = World(BRANCHES, script())
        world.tell(Answered("a", Side.DO, REFUSED))
        world.interrupt()
        assert world.state.marks["b"].fate is Fate.UNSURE
        assert world.finish().undone == ["b"]


class TestBranches:
    def test_both_begin_at_once_and_join(self) -> None:
        world = World(BRANCHES, script())
        assert [run.step for run in machine.runs(BRANCHES, world.state)] == ["a", "b"]
        world.tell(Answered("b", Side.DO, OK))
        assert [run.step for run in machine.runs(BRANCHES, world.state)] == ["a"]
        world.tell(Answered("a", Side.DO, OK))
        assert [run.step for run in machine.runs(BRANCHES, world.state)] == ["c"]
        assert world.finish().status == "done"

    @pytest.mark.parametrize(
        ("answer", "undone"), [(OK, ["b"]), (REFUSED, []), (UNAVAILABLE, []), (UNKNOWN, ["b"])]
    )
    def test_undoing_waits_for_the_sibling(self, answer: What, undone: list[str]) -> None:
        world = World(BRANCHES, script())
        world.tell(Answered("a", Side.DO, REFUSED))
        assert machine.awaited(world.state) == ("b",)
        assert machine.runs(BRANCHES, world.state) == ()
        assert world.status == "undoing"
        world.tell(Answered("b", Side.DO, answer))
        assert world.finish().undone == undone

    def test_a_sibling_between_attempts_is_not_attempted_again(self) -> None:
        world = World(BRANCHES, script())
        world.tell(Answered("b", Side.DO, UNKNOWN))
        world.tell(Answered("a", Side.DO, REFUSED))
        world.tell(Left("b"))
        assert world.finish().undone == ["b"]

    def test_a_failing_undo_holds_up_its_own_branch_alone(self) -> None:
        world = World(BRANCHES, script(c=[REFUSED], undo_a=[REFUSED])).finish()
        assert (world.status, world.undone) == ("queued", ["b"])

    def test_a_stuck_retriable_step_does_not_hold_up_its_sibling(self) -> None:
        world = World(BRANCHES, script(r=[REFUSED])).finish()
        assert world.status == "queued"
        assert world.state.marks["q"].fate is Fate.DONE


class TestOperator:
    def queued(self, **answers: list[What]) -> World:
        return World(CHECKOUT, script(**answers)).finish()

    def test_retry_begins_the_attempts_afresh(self) -> None:
        world = self.queued(ship=[REFUSED], undo_debit=[UNAVAILABLE, UNAVAILABLE, UNAVAILABLE, OK])
        assert world.status == "queued"
        world.tell(Operated("debit", What.RETRY))
        assert world.finish().status == "undone"
        assert world.undone == ["debit", "reserve"]

    def test_retry_of_a_pivot_begins_give_up_afresh(self) -> None:
        world = self.queued(ship=[UNKNOWN])
        since = world.now
        world.tell(Operated("ship", What.RETRY))
        assert world.finish().status == "queued"
        assert world.now >= since + GIVE_UP

    def test_resolve_of_an_undo_goes_on_with_the_rest(self) -> None:
        world = self.queued(ship=[REFUSED], undo_debit=[REFUSED])
        world.tell(Operated("debit", What.RESOLVE))
        assert world.finish().status == "undone"
        assert world.state.marks["debit"].fate is Fate.UNDONE

    def test_skip_of_an_undo_says_so(self) -> None:
        world = self.queued(ship=[REFUSED], undo_debit=[REFUSED])
        world.tell(Operated("debit", What.SKIP))
        assert world.finish().status == "undone"
        assert world.state.marks["debit"].fate is Fate.SKIPPED
        assert world.undone == ["reserve"]

    def test_resolve_of_a_pivot_goes_forward(self) -> None:
        world = self.queued(ship=[UNKNOWN])
        world.tell(Operated("ship", What.RESOLVE))
        assert world.finish().status == "done"

    def test_abort_of_a_pivot_compensates(self) -> None:
        world = self.queued(ship=[UNKNOWN])
        world.tell(Operated("ship", What.ABORT))
        assert (world.finish().status, world.undone) == ("undone", ["debit", "reserve"])

    def test_skip_of_a_retriable_step(self) -> None:
        world = self.queued(confirm=[REFUSED])
        world.tell(Operated("confirm", What.SKIP))
        assert world.status == "done"

    @pytest.mark.parametrize(
        ("answers", "name", "action", "says"),
        [
            ({"ship": [UNKNOWN]}, "ship", What.SKIP, "cannot be skipped"),
            ({"confirm": [REFUSED]}, "confirm", What.ABORT, "only a pivot"),
            ({"confirm": [REFUSED]}, "reserve", What.RETRY, "no open work item"),
            ({"confirm": [REFUSED]}, "nothing", What.RETRY, "no step"),
            ({"ship": [REFUSED], "undo_debit": [REFUSED]}, "debit", What.ABORT, "only a pivot"),
        ],
    )
    def test_complaints(
        self, answers: dict[str, list[What]], name: str, action: What, says: str
    ) -> None:
        world = self.queued(**answers)
        assert says in (machine.complaint(CHECKOUT, world.state, name, action) or "")
        with pytest.raises(ValueError, match=says):
            world.tell(Operated(name, action))

    def test_a_step_whose_result_is_needed_cannot_be_skipped(self) -> None:
        plan = row(
            step("p", Kind.PIVOT),
            step("r", Kind.RETRIABLE),
            step("q", Kind.RETRIABLE, needs=("r",)),
        )
        world = World(plan, script(r=[REFUSED])).finish()
        assert "q needs its result" in (machine.complaint(plan, world.state, "r", What.SKIP) or "")


class TestRefuted:
    def done(self, plan=CHECKOUT, **answers: list[What]) -> World:
        world = World(plan, script(**answers)).finish()
        assert world.status == "done"
        return world

    def refute(self, world: World, name: str) -> World:
        world.tell(Operated(name, What.REFUTE))
        return world.finish()

    def items(self, world: World) -> list[str]:
        return [name for name, mark in world.state.marks.items() if mark.item]

    def test_before_anything_irreversible_everything_else_is_undone(self) -> None:
        world = World(STARTED, script())
        world.step()
        world.step()
        self.refute(world, "reserve")
        assert (world.status, world.undone) == ("undone", ["debit", "start"])
        assert world.state.marks["reserve"].fate is Fate.REFUTED
        assert world.state.marks["ship"].fate is Fate.ABSENT

    def test_after_the_end_a_person_decides_about_what_cannot_be_undone(self) -> None:
        world = self.refute(self.done(), "debit")
        assert (world.status, world.undone) == ("queued", [])
        assert self.items(world) == ["ship", "confirm"]
        world.tell(Operated("confirm", What.SKIP))
        assert world.finish().status == "queued"
        world.tell(Operated("ship", What.RESOLVE))  # the parcel was called back
        assert (world.finish().status, world.undone) == ("undone", ["reserve"])
        assert world.state.marks["ship"].fate is Fate.UNDONE

    def test_what_the_pivot_stands_on_stays_with_it(self) -> None:
        world = self.refute(self.done(STARTED), "debit")
        world.tell(Operated("ship", What.SKIP))
        world.tell(Operated("confirm", What.SKIP))
        assert (world.finish().status, world.undone) == ("undone", [])
        fates = {name: mark.fate for name, mark in world.state.marks.items()}
        assert fates.pop("debit") is Fate.REFUTED
        assert set(fates.values()) == {Fate.SKIPPED}

    def test_what_nothing_irreversible_stands_on_is_undone_at_once(self) -> None:
        plan = Plan(
            "aside",
            1,
            (step("a"), step("b"), step("r", Kind.RETRIABLE, after=("a",))),
        )
        world = self.refute(self.done(plan), "a")
        assert (world.status, world.undone, self.items(world)) == ("queued", ["b"], ["r"])

    def test_the_pivot_itself(self) -> None:
        world = self.refute(self.done(), "ship")
        assert self.items(world) == ["confirm"]
        world.tell(Operated("confirm", What.RESOLVE))
        assert world.finish().undone == ["debit", "reserve"]

    @pytest.mark.parametrize(
        ("answers", "fate"),
        [
            ([OK], Fate.DONE),
            ([UNKNOWN], Fate.UNSURE),
            ([UNKNOWN, UNAVAILABLE], Fate.UNSURE),
            ([UNKNOWN, REFUSED], Fate.ABSENT),
            ([UNAVAILABLE], Fate.ABSENT),
            ([REFUSED], Fate.ABSENT),
        ],
    )
    def test_a_pivot_that_is_attempted_meanwhile(self, answers: list[What], fate: Fate) -> None:
        """Undoing waits for its answer, and then a person decides if it may have been done."""
        world = World(CHECKOUT, script())
        world.step()
        world.step()
        for answer in answers[:-1]:
            world.tell(Answered("ship", Side.DO, answer))
        world.tell(Operated("debit", What.REFUTE))
        assert machine.awaited(world.state) == ("ship",)
        world.tell(Answered("ship", Side.DO, answers[-1]))
        assert world.state.marks["ship"].fate is fate
        world.finish()
        assert world.status == ("undone" if fate is Fate.ABSENT else "queued")
        assert world.undone == (["reserve"] if fate is Fate.ABSENT else [])

    @pytest.mark.parametrize(("answers", "fate"), [([OK], Fate.ABSENT), ([UNKNOWN], Fate.UNSURE)])
    def test_a_pivot_between_attempts(self, answers: list[What], fate: Fate) -> None:
        world = World(CHECKOUT, script(ship=answers))
        world.step()
        world.step()
        if answers == [UNKNOWN]:
            world.step()
        self.refute(world, "reserve")
        assert world.state.marks["ship"].fate is fate

    def test_a_pivot_in_front_of_a_person(self) -> None:
        world = World(CHECKOUT, script(ship=[UNKNOWN])).finish()
        assert self.items(world) == ["ship"]
        self.refute(world, "debit")
        assert (world.status, self.items(world)) == ("queued", ["ship"])
        assert world.state.marks["ship"].fate is Fate.UNSURE
        world.tell(Operated("ship", What.RESOLVE))
        assert world.finish().undone == ["reserve"]

    @pytest.mark.parametrize(
        ("name", "says"), [("ship", "waiting"), ("start", "cannot be refuted"), ("x", "no step")]
    )
    def test_complaints(self, name: str, says: str) -> None:
        world = World(STARTED, script())
        world.step()
        assert says in (machine.complaint(STARTED, world.state, name, What.REFUTE) or "")
        world.finish()
        self.refute(world, "debit")
        assert "no undo" in (machine.complaint(STARTED, world.state, "ship", What.RETRY) or "")
        assert "refuted" in (machine.complaint(STARTED, world.state, "debit", What.REFUTE) or "")

    def test_what_is_being_undone_is_not_refuted(self) -> None:
        world = World(CHECKOUT, script(ship=[REFUSED], undo_debit=[REFUSED])).finish()
        assert "has begun" in (machine.complaint(CHECKOUT, world.state, "debit", What.REFUTE) or "")
        assert machine.complaint(CHECKOUT, world.state, "reserve", What.REFUTE) is None
        self.refute(world, "reserve")
        world.tell(Operated("debit", What.RESOLVE))
        assert (world.finish().status, world.undone) == ("undone", [])
        assert "saga undone" in (
            machine.complaint(CHECKOUT, world.state, "reserve", What.REFUTE) or ""
        )


def test_a_read_is_never_undone() -> None:
    plan = row(step("a"), step("look", Kind.READ), step("b"))
    for answers in ([REFUSED], [UNKNOWN], [UNRECORDED]):
        assert World(plan, script(look=answers)).finish().undone == ["a"]
    assert World(plan, script(b=[REFUSED])).finish().undone == ["a"]


def test_an_answer_for_what_does_not_run_is_refused() -> None:
    world = World(CHECKOUT, script())
    for wrong in (Answered("debit", Side.DO, OK), Answered("reserve", Side.UNDO, OK)):
        with pytest.raises(ValueError, match="not running"):
            world.tell(wrong)


def test_backoff_grows_to_its_bound_and_never_overflows() -> None:
    backoff = Backoff(attempts=9, first=1.0, factor=2.0, most=8.0)
    assert [backoff.wait(n, 0.0) for n in range(1, 6)] == [0.5, 1.0, 2.0, 4.0, 4.0]
    assert backoff.wait(1, 0.5) == 0.75
    assert backoff.wait(10_000, 0.0) == 4.0


@pytest.mark.parametrize(
    "wrong", [{"attempts": 0}, {"first": -1.0}, {"factor": 0.5}, {"first": 9.0, "most": 1.0}]
)
def test_backoff_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="out of range"):
        Backoff(**wrong)


# --- every combination -------------------------------------------------------------------------

ANSWERS = [OK, REFUSED, REJECTED, UNAVAILABLE, UNKNOWN, UNRECORDED]
NOTHING = {Fate.WAITING, Fate.ABSENT, Fate.REFUTED}
HALVES = st.sampled_from(ANSWERS)
LISTS = st.lists(HALVES, min_size=1, max_size=4)


def check_invariants(world: World) -> None:
    """All done, or all undone in reverse order, or in front of a person; one end."""
    plan, marks = world.plan, world.state.marks
    fates = {name: mark.fate for name, mark in marks.items()}
    if world.status == "done":
        assert set(fates.values()) == {Fate.DONE}
        assert not world.undone
    elif world.status == "undone":
        assert not [n for n, mark in marks.items() if mark.item]
        for planned in plan.steps:
            if planned.kind is Kind.START:
                assert fates[planned.name] is Fate.UNDONE
                assert world.undone[-1] == planned.name
            elif planned.kind is Kind.COMPENSATABLE:
                assert fates[planned.name] in {*NOTHING, Fate.UNDONE}
            else:
                assert fates[planned.name] in {*NOTHING, Fate.DONE}
                assert planned.kind is not Kind.PIVOT or fates[planned.name] is not Fate.DONE
    else:
        assert world.status == "queued"
        assert any(mark.item for mark in marks.values())
    # reverse order of dependency: nothing is undone before what depends on it
    for index, name in enumerate(world.undone):
        assert not plan.later[name] & set(world.undone[index + 1 :])
    # every effect is accounted for: done steps are undone, and what may be done as well
    may = {
        entry.step
        for entry in world.journal
        if entry.side is Side.DO and entry.what in {OK, UNKNOWN, UNRECORDED}
    }
    if world.status == "undone":
        owed = {name for name in may if plan.step[name].kind is Kind.COMPENSATABLE}
        owed -= {name for name, fate in fates.items() if fate is Fate.REFUTED}
        assert set(world.undone) >= owed
    # a replay of the journal adds up to the same state, whatever the policy says by then
    lax = replace(
        plan, steps=tuple(replace(each, retry=Backoff(99), give_up=None) for each in plan.steps)
    )
    state = machine.begin(lax, 0.0, world.deadline)
    for entry in world.journal:
        state = machine.evolve(lax, state, entry)
    assert state == world.state


def refute_any(world: World) -> None:
    for name in world.state.marks:
        if machine.complaint(world.plan, world.state, name, What.REFUTE) is None:
            world.tell(Operated(name, What.REFUTE))
            return


@given(
    plan=st.sampled_from([CHECKOUT, STARTED, BRANCHES]),
    answers=st.dictionaries(
        st.sampled_from(
            [
                half
                for each in ("reserve", "debit", "ship", "confirm", *"abcprq")
                for half in (each, f"undo_{each}")
            ]
        ),
        LISTS,
    ),
    deadline=st.none() | st.floats(0, 20),
    crashes=st.sets(st.integers(0, 12), max_size=4),
    refuted=st.integers(0, 40),
)
def test_every_saga_ends_done_undone_or_in_front_of_a_person(
    plan, answers, deadline, crashes, refuted
):
    world = World(plan, script(**answers), deadline=deadline)
    for number in range(500):
        if number in crashes and world.status not in {"done", "undone", "queued"}:
            world.interrupt()
        if number == refuted:
            refute_any(world)
        if not world.step():
            break
    check_invariants(world)
    end = world.state
    assert not world.step()
    assert world.state is end
    # a person gets it out of the queue
    for _ in range(12):
        if world.status != "queued":
            break
        for name, mark in world.state.marks.items():
            if mark.item:
                world.tell(Operated(name, What.RESOLVE))
                break
        world.finish()
    assert world.status in {"done", "undone"}


def test_all_combinations_of_four_steps() -> None:
    """Every answer of every step and undo, exhaustively: 6^4 forward, and 6^2 undone each."""
    seen = set()
    for first in ANSWERS:
        for second in ANSWERS:
            for third in ANSWERS:
                for fourth in ANSWERS:
                    for undo in ANSWERS:
                        world = World(
                            CHECKOUT,
                            script(
                                reserve=[first],
                                debit=[second],
                                ship=[third],
                                confirm=[fourth],
                                undo_reserve=[undo],
                                undo_debit=[undo],
                            ),
                        ).finish()
                        check_invariants(world)
                        seen.add(world.status)
    assert seen == {"done", "undone", "queued"}


def test_expired_and_left_are_decided() -> None:
    world = World(BRANCHES, script(), deadline=1.0)
    world.now = 1.0
    assert machine.expired(BRANCHES, world.state, 1.0)
    assert world.tell(Expired()) == Entry(What.EXPIRED, Next.UNDO, 1.0)
    assert world.tell(Left("a")).next is Next.UNDO
    assert world.finish().status == "undone"
    assert world.undone == []
