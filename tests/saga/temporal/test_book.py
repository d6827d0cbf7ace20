"""What a workflow keeps of its saga, without Temporal."""

from __future__ import annotations

import msgspec
import pytest

from switchgear.errors import SagaError
from switchgear.saga import Fate, NoSuchSaga, Side, StateMoved, machine
from switchgear.saga.attempt import Answer
from switchgear.saga.codec import Failure
from switchgear.saga.plan import Plan
from switchgear.saga.run import undone
from switchgear.saga.state import Entry, Next, Run, What
from switchgear.saga.story import Decision
from switchgear.saga.temporal.activities import _bounded
from switchgear.saga.temporal.book import Book, shortened
from switchgear.saga.temporal.wire import Action, Begin, Outcome, Refutation, Snapshot, Told, raw
from tests.saga.plans import BRANCHES, CHECKOUT

ME = Decision("me", "because")


def book_of(plan: Plan, deadline: float | None = 100.0, **more: object) -> Book:
    nothing = msgspec.Raw(b"null")
    return Book(Begin("o-1", plan, nothing, nothing, deadline=deadline, **more), 0.0)


def travelled(book: Book) -> Book:
    """The book as the next run of its workflow has it."""
    sent = msgspec.json.encode(book.former())
    return Book(msgspec.json.decode(sent, type=Begin), 50.0)


def settle(book: Book, now: float) -> None:
    while (happening := machine.happening(book.plan, book.state, now)) is not None:
        book.tell(happening, now=now, draw=0.0)


def answer(book: Book, step: str, what: What | None, now: float = 1.0) -> None:
    settle(book, now)
    (run,) = (each for each in machine.runs(book.plan, book.state) if each.step == step)
    data = None
    if what is What.OK:
        data = b"7"
    elif what is not None:
        data = msgspec.json.encode(Failure("Failure", "it failed"))
    book.answered(run, Outcome(what, now, raw(data)), now=now, draw=0.0)


def test_an_interruption_concerns_its_own_step_alone() -> None:
    book = book_of(BRANCHES)
    answer(book, "a", None)
    marks = book.state.marks
    assert (marks["a"].doubt, marks["a"].do.attempt, marks["a"].do.failures) == (True, 2, 0)
    assert (marks["b"].doubt, marks["b"].do.attempt) == (False, 1)


class TestCancelled:
    def test_before_the_pivot_is_the_deadline(self) -> None:
        book = book_of(CHECKOUT)
        answer(book, "reserve", What.OK)
        book.cancel(2.0)
        settle(book, 2.0)
        answer(book, "reserve", What.OK, 3.0)
        assert book.story.status == "undone"
        assert "cancelled by Temporal" in undone("o-1", book.story.turned).why
        # and so it is in the next history
        assert travelled(book).cancelled

    def test_without_a_deadline(self) -> None:
        book = book_of(CHECKOUT, None)
        book.cancel(2.0)
        settle(book, 2.0)
        assert book.story.status == "undone"
        assert book.state.marks["reserve"].fate is Fate.ABSENT  # nobody has attempted it

    def test_from_the_pivot_on_means_nothing(self) -> None:
        book = book_of(CHECKOUT)
        for step in ("reserve", "debit", "ship"):
            answer(book, step, What.OK)
        book.cancel(2.0)
        settle(book, 200.0)
        answer(book, "confirm", What.OK, 200.0)
        assert book.story.status == "done"


class TestInTime:
    def test_what_has_to_have_begun(self) -> None:
        book = book_of(CHECKOUT)
        (run,) = machine.runs(book.plan, book.state)
        assert book.in_time(run, (), 40.0) == 60.0
        assert book.in_time(run, (), 100.0) is None  # that is decided already
        for step in ("reserve", "debit"):
            answer(book, step, What.OK)
        (pivot,) = machine.runs(book.plan, book.state)
        assert book.in_time(pivot, (), 40.0) == 60.0
        answer(book, "ship", What.UNKNOWN)  # it may have been done: the deadline means nothing now
        (again,) = machine.runs(book.plan, book.state)
        assert book.in_time(again, (), 40.0) is None
        assert book.in_time(Run("debit", Side.UNDO, 1, 0.0), (), 40.0) is None
        assert book_of(CHECKOUT, None).in_time(run, (), 40.0) is None


class TestItems:
    def stuck(self) -> Book:
        book = book_of(CHECKOUT)
        for step in ("reserve", "debit"):
            answer(book, step, What.OK)
        answer(book, "ship", What.REFUSED)
        answer(book, "debit", What.REFUSED)
        return book

    def test_a_person_acts(self) -> None:
        book = self.stuck()
        (item,) = book.open_items
        assert (item.id, item.side, book.story.status) == ("o-1/undebit", Side.UNDO, "queued")
        with pytest.raises(NoSuchSaga, match="no work item o-1/other"):
            book.item_for(Action("o-1/other", What.RETRY, ME))
        with pytest.raises(SagaError, match="needs an actor"):
            book.item_for(Action("o-1", What.RETRY, Decision("", "x")))
        with pytest.raises(StateMoved, match="only a pivot"):
            book.item_for(Action("o-1", What.ABORT, ME))
        acted, line = book.act(Action("o-1", What.SKIP, ME), now=9.0)
        assert line is not None
        assert (acted.action, acted.actor, acted.closed, acted.status) == (
            "skip",
            "me",
            9.0,
            "undoing",
        )
        # the same again is no second line, also in the next history
        assert book.act(Action("o-1", What.SKIP, ME), now=10.0)[1] is None
        assert travelled(book).act(Action("o-1", What.SKIP, ME), now=10.0)[1] is None
        with pytest.raises(StateMoved, match="is closed: skip by me"):
            book.item_for(Action("o-1", What.RETRY, ME))

    def test_without_one(self) -> None:
        with pytest.raises(StateMoved, match="has no work item; it is running"):
            book_of(CHECKOUT).item_for(Action("o-1", What.RETRY, ME))

    def test_what_a_refutation_settles_is_closed(self) -> None:
        book = book_of(CHECKOUT)
        for step in ("reserve", "debit", "ship"):
            answer(book, step, What.OK)
        answer(book, "confirm", What.REFUSED)
        assert [item.step for item in book.open_items] == ["confirm"]
        assert book.refute(Refutation("ship", ME), now=5.0) is not None
        assert book.refute(Refutation("ship", ME), now=5.0) is None
        settle(book, 5.0)
        assert not book.open_items
        (item,) = book.record().items
        assert (item.action, item.actor) == ("refute", "me")

    def test_the_text_of_the_runbook(self) -> None:
        book = self.stuck()
        (item,) = book.open_items
        assert book.instruct(item, "Ring them.").instructions == "Ring them."
        assert travelled(book).open_items[0].instructions == "Ring them."


def test_a_long_journal_is_shortened_and_decides_the_same() -> None:
    book = book_of(CHECKOUT)
    for step in ("reserve", "debit"):
        answer(book, step, What.OK)
    now = 1.0
    for _ in range(600):
        now += 10.0
        (run,) = machine.runs(book.plan, book.state)
        book.interrupted(run, now=now)
    other = travelled(book)
    assert other.state == book.state
    assert other.story.results == book.story.results == {"reserve": b"7", "debit": b"7"}
    lines = other.record().lines
    assert len(book.record().lines) == 602
    assert [told.entry.step for told in lines[:2]] == ["reserve", "debit"]
    assert len(lines) == 502
    answer(other, "ship", What.OK, now)
    answer(other, "confirm", What.OK, now)
    assert other.story.status == "done"


class TestSizes:
    def large(self, size: int) -> Outcome:
        return Outcome(What.OK, 1.0, raw(b'"' + b"x" * (size - 2) + b'"'))

    def test_what_runs_in_parallel_is_looked_at_together(self) -> None:
        book = book_of(BRANCHES)
        a, b = Run("a", Side.DO, 1, 0.0), Run("b", Side.DO, 1, 0.0)
        assert book.beyond(b, self.large(600_000)) is None  # each fits where it is alone
        book.answered(a, self.large(600_000), now=1.0, draw=0.0)
        assert book.beyond(b, self.large(600_000)) == 1_200_004
        assert book.beyond(a, self.large(600_000)) is None  # it would replace its own
        assert book.beyond(b, Outcome(What.OK, 1.0, raw(b"null"))) is None
        assert book.beyond(b, Outcome(What.UNKNOWN, 1.0)) is None
        assert book.beyond(b, None) is None

    def test_a_saga_that_is_too_large_already_still_ends(self) -> None:
        book = book_of(BRANCHES)
        for step in ("a", "b"):
            book.answered(Run(step, Side.DO, 1, 0.0), self.large(600_000), now=1.0, draw=0.0)
        for run in (Run("c", Side.DO, 1, 0.0), Run("a", Side.UNDO, 1, 0.0)):
            small = Answer(What.OK, 1.0, None if run.side is Side.UNDO else b"null")
            assert _bounded(book.attempt(run), small) is small
        refused = _bounded(
            book.attempt(Run("c", Side.DO, 1, 0.0)), Answer(What.OK, 1.0, b"1" * 2_000)
        )
        assert refused.what is What.UNRECORDED
        assert b"at most 1000000" in (refused.data or b"")

    def test_how_many_attempts_begin_together(self) -> None:
        book = book_of(BRANCHES)
        assert book.at_once() > 200
        book.answered(Run("a", Side.DO, 1, 0.0), self.large(900_000), now=1.0, draw=0.0)
        assert book.at_once() == 3
        book.answered(Run("b", Side.DO, 1, 0.0), self.large(9_000_000), now=1.0, draw=0.0)
        assert book.at_once() == 1

    def test_what_a_person_gives(self) -> None:
        book = TestItems().stuck()
        action = Action("o-1", What.RESOLVE, Decision("me", "by hand", "x" * 1_000_001))
        with pytest.raises(SagaError, match="at most 1000000"):
            book.check(action)
        book.check(Action("o-1", What.RESOLVE, Decision("me", "by hand", "x")))
        with pytest.raises(SagaError, match="at most 10000"):
            book.check_refutation(Refutation("reserve", Decision("me", "x" * 10_001)))

    def test_the_fields_of_refusals(self) -> None:
        book = book_of(BRANCHES)
        refused = Failure("shop.OutOfStock", "none left", fields={"sku": "x" * 90_000}, trace="t")
        for step in book.plan.steps:
            book.story.failures[step.name, Side.DO] = refused
        snapshot = Snapshot.of(book.story)
        assert len(msgspec.json.encode(snapshot)) < 10_000
        told = snapshot.story(book.plan).failures["a", Side.DO]
        assert told == Failure("shop.OutOfStock", "none left")

    def test_the_texts_of_runbooks(self) -> None:
        book = book_of(BRANCHES)
        for step in ("a", "b"):
            book.answered(Run(step, Side.DO, 1, 0.0), self.large(490_000), now=1.0, draw=0.0)
        for step in ("c", "p"):
            answer(book, step, What.OK)
        answer(book, "r", What.REFUSED)
        answer(book, "q", What.REFUSED)
        for item in book.open_items:
            book.instruct(item, item.step * 150_000)
        kept = {item.step: item.instructions for item in book.record().items}
        assert kept["q"] == "q" * 150_000, "the newest"
        assert kept["r"].startswith("The text is in ")
        assert len(msgspec.json.encode(book.record())) < 2_000_000, "what Temporal takes"
        book.act(Action("o-1/q", What.SKIP, ME), now=9.0)
        other = travelled(book)
        kept = {item.step: item.instructions for item in other.record().items}
        assert kept["r"] == "r" * 150_000, "what waits comes first"
        assert [item.instructions for item in other.open_items] == ["r" * 150_000]
        assert kept["q"].startswith("The text is in ")

    def test_a_step_that_fails_for_ever_does_not_outgrow_what_travels(self) -> None:
        book = book_of(CHECKOUT, None)
        for step in ("reserve", "debit", "ship"):
            answer(book, step, What.OK)
        told = msgspec.json.encode(Failure("ValueError", "x" * 3_000, trace="t" * 4_000))
        for attempt in range(1, 900):
            run = Run("confirm", Side.DO, attempt, 0.0)
            book.answered(run, Outcome(What.UNKNOWN, 2.0, raw(told)), now=2.0, draw=0.0)
        for sent in (book.former().former, book.record()):
            assert len(msgspec.json.encode(sent)) < 500_000
            assert [line.entry.step for line in sent.lines[:3]] == ["reserve", "debit", "ship"]
            traced = [line for line in sent.lines if b'"trace"' in bytes(line.data)]
            assert traced == [sent.lines[-1]]  # the newest says where
        other = travelled(book)
        answer(other, "confirm", What.OK, 1e9)
        assert other.story.status == "done"

    def test_lines_that_decided_are_kept_before_attempts(self) -> None:
        def line(follows: Next, size: int) -> Told:
            entry = Entry(What.UNKNOWN, follows, 1.0, "a", Side.DO, 1)
            return Told(entry, 1.0, raw(b'"' + b"x" * size + b'"'))

        old, again = line(Next.UNDO, 4_000), line(Next.AGAIN, 200)
        kept = shortened([old, *[again] * 1_000], 10_000)
        assert bytes(kept[0].data) == bytes(old.data)
        assert {told.entry.next for told in kept[1:]} == {Next.AGAIN}
        assert len(msgspec.json.encode(kept)) < 10_500
        (bare,) = shortened([line(Next.QUEUE, 20_000)], 10_000)
        assert not bytes(bare.data)


def test_the_end_of_a_saga_that_is_taken_up_again() -> None:
    book = book_of(CHECKOUT)
    for step in ("reserve", "debit", "ship"):
        answer(book, step, What.OK)
    assert travelled(book).ended is None
    answer(book, "confirm", What.OK, 7.0)
    assert travelled(book).ended == book.ended == 7.0
