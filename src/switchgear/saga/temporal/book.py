"""What one saga's workflow keeps: its journal, what that adds up to, and its work items. No I/O.

The decisions are those of `machine.py`, as in every other driver. What is written here is never
stored: Temporal's history is, and a replay of it comes to the same book.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Final

import msgspec

from switchgear.errors import SagaError
from switchgear.saga import machine
from switchgear.saga.acting import check_act, check_decision, check_refute, meant, taken
from switchgear.saga.codec import Failure
from switchgear.saga.errors import NoSuchSaga, StateMoved
from switchgear.saga.evidence import WorkItem
from switchgear.saga.plan import Plan, Side
from switchgear.saga.state import (
    Answered,
    Entry,
    Expired,
    Happening,
    Next,
    Operated,
    Run,
    State,
    What,
)
from switchgear.saga.stores.port import Line
from switchgear.saga.story import FAILED, Decision, Story
from switchgear.saga.temporal.wire import (
    MOST,
    MOST_SAID,
    NOTHING,
    Action,
    Attempt,
    Begin,
    Former,
    Outcome,
    Record,
    Refutation,
    Snapshot,
    Told,
    beyond,
)

__all__ = ["Book", "shortened"]

_CANCELLED: Final = Decision("Temporal", "the workflow was cancelled")
_ENDED: Final = frozenset({"done", "undone"})
_LINES: Final = 500
"""Lines that go on into the next history."""
_TOGETHER: Final = 3_000_000
"""Bytes of the attempts that begin together."""
_BESIDE: Final = 10_000
"""Bytes of an attempt that are no input and no results."""
_BYTES: Final = 400_000
"""Bytes of the lines in what travels, beside inputs and results of at most `MOST`."""
_TEXTS: Final = 200_000
"""Bytes of the runbooks' texts in what travels, beside those."""
_LEFT_OUT: Final = (
    "The text is in {}. It is left out here: with those of this saga's other work items it is more "
    "than Temporal carries."
)


class Book:
    """The book of one saga, which began at `now` unless a former run of its workflow says when."""

    def __init__(self, begin: Begin, now: float) -> None:
        plan, former = begin.plan, begin.former
        self.begin = begin
        self.ended: float | None = None
        self.cancelled = former is not None and former.cancelled
        self._by = (What.SKIP, _CANCELLED)
        """What a person did last: the reason for an item to be closed."""
        self._lines: list[Told] = []
        self._items: dict[str, WorkItem] = {}
        if former is None:
            deadline = None if begin.deadline is None else now + begin.deadline
            self.began = now
            self.story = Story(plan, machine.begin(plan, now, deadline))
        else:
            self.began = former.began
            self.story = former.snapshot.story(plan)
            self._lines += former.lines
            self._items |= {each.id: each for each in former.items}
            if former.lines and self.story.status in _ENDED:
                self.ended = former.lines[-1].entry.at

    @property
    def plan(self) -> Plan:
        """The plan that it began with."""
        return self.begin.plan

    @property
    def state(self) -> State:
        """Where it stands."""
        return self.story.state

    @property
    def open_items(self) -> list[WorkItem]:
        """The work items that wait for a person."""
        return [item for item in self._items.values() if item.closed is None]

    # --- what happens -------------------------------------------------------------------------

    def tell(
        self,
        happening: Happening,
        *,
        now: float,
        draw: float,
        began: float | None = None,
        data: bytes | None = None,
    ) -> Line:
        """Write down what has happened, and what the machine decides of it."""
        entry = machine.decide(self.plan, self.state, happening, now=now, draw=draw)
        if self.cancelled and isinstance(happening, Expired):
            data = msgspec.json.encode(_CANCELLED)
        return self._write(Line(entry, began, data))

    def answered(self, run: Run, outcome: Outcome, *, now: float, draw: float) -> Line:
        """Write down how an attempt ended."""
        if outcome.what is None:
            return self.interrupted(run, now=now)
        answer = Answered(
            run.step,
            run.side,
            outcome.what,
            partial=outcome.partial,
            retry_after=outcome.retry_after,
        )
        data = bytes(outcome.data) or None
        return self.tell(answer, now=now, draw=draw, began=outcome.began, data=data)

    def beyond(self, run: Run, outcome: Outcome | None) -> int | None:
        """Return how large a result would make the saga, if that is beyond what Temporal carries.

        An attempt refuses that itself, but knows nothing of those that ran beside it.
        """
        if outcome is None or outcome.what is not What.OK or run.side is Side.UNDO:
            return None
        return beyond(self.begin.input, self.story.results, run.step, bytes(outcome.data))

    def interrupted(self, run: Run, *, now: float) -> Line:
        """Write down that nobody knows what became of an attempt: its worker is gone."""
        entry = Entry(What.INTERRUPTED, Next.AGAIN, now, run.step, run.side, run.attempt)
        return self._write(Line(entry, None, None))

    def cancel(self, now: float) -> None:
        """Let the deadline be now: it means as much, and from the pivot on as little."""
        state, self.cancelled = self.state, True
        at = now if state.deadline is None else min(state.deadline, now)
        self.story.state = replace(state, deadline=at)

    # --- what a person does -------------------------------------------------------------------

    def item_for(self, action: Action) -> WorkItem:
        """Return the item that an action is about; it is closed if the action was taken before.

        Raises `SagaError` and `StateMoved` if it cannot be taken.
        """
        check_decision(action.action, action.decision)
        items = list(reversed(self._items.values()))
        if action.item != self.begin.id and action.item not in self._items:
            raise NoSuchSaga(f"saga {self.begin.id} has no work item {action.item}.")
        item = meant(items, action.item)
        if item is None:
            raise StateMoved(f"saga {self.begin.id} has no work item; it is {self.story.status}.")
        if not taken(item, action.action, action.decision, self.story.status):
            check_act(self.plan, self.state, item, action.action, action.decision)
        return item

    def check(self, action: Action) -> None:
        """Refuse an action that cannot be taken: what `item_for` refuses, or too much of a text.

        Only before it is accepted. What a history says was accepted, is taken.
        """
        item = self.item_for(action)
        if item.closed is None:
            self._check_size(item.step, action.decision)

    def check_refutation(self, given: Refutation) -> None:
        """Refuse a refutation, as `check` does an action."""
        if not self.refuted_before(given):
            self._check_size(given.step, given.decision)

    def _check_size(self, step: str, decision: Decision) -> None:
        said = msgspec.json.encode((decision.actor, decision.reason))
        if len(said) > MOST_SAID:
            raise SagaError(
                f"actor and reason are {len(said)} bytes, and on Temporal they are at most "
                f"{MOST_SAID}.",
                where=f"step {step} of saga {self.begin.id}",
                fix="Give a reference to what is long.",
            )
        data = msgspec.json.encode(decision.result)
        size = beyond(self.begin.input, self.story.results, step, data)
        if size is not None:
            raise SagaError(
                f"with it, the saga's input and results are {size} bytes, and on Temporal they are "
                f"at most {MOST}.",
                where=f"step {step} of saga {self.begin.id}",
                fix="Give a reference to what is large.",
            )

    def act(self, action: Action, *, now: float) -> tuple[WorkItem, Line | None]:
        """Take an action. The line is None if it was taken before."""
        item = self.item_for(action)
        line = None
        if item.closed is None:
            data = msgspec.json.encode(action.decision)
            operated = Operated(item.step, action.action)
            self._by = action.action, action.decision
            line = self.tell(operated, now=now, draw=0.0, data=data)
            item = self._items[item.id]
        return replace(item, status=self.story.status), line

    def refuted_before(self, given: Refutation) -> bool:
        """Tell whether a refutation says nothing new. Raises what `act` raises."""
        check_decision(What.REFUTE, given.decision)
        return check_refute(self.plan, self.state, self.begin.id, given.step)

    def refute(self, given: Refutation, *, now: float) -> Line | None:
        """Take in a refutation, None if it says nothing new."""
        if self.refuted_before(given):
            return None
        data = msgspec.json.encode(given.decision)
        self._by = What.REFUTE, given.decision
        return self.tell(Operated(given.step, What.REFUTE), now=now, draw=0.0, data=data)

    def instruct(self, item: WorkItem, text: str) -> WorkItem:
        """Put the text of the runbook into an item, if it is still the same."""
        known = self._items[item.id]
        if known.opened != item.opened:
            return item
        self._items[item.id] = replace(known, instructions=text)
        return self._items[item.id]

    # --- what is told -------------------------------------------------------------------------

    def attempt(self, run: Run) -> Attempt:
        """Return what an activity needs for `run`."""
        begin = self.begin
        return Attempt(
            id=begin.id,
            run=run,
            input=begin.input,
            context=begin.context,
            began=self.began,
            snapshot=Snapshot.of(self.story),
            lease=begin.lease,
        )

    def at_once(self) -> int:
        """Return how many attempts may begin together: each carries all results along.

        Temporal ends a workflow that asks for more than 4 MiB in one task.
        """
        results = self.story.results.values()
        each = _BESIDE + sum(len(bytes(data)) for data in (self.begin.input, *results))
        return max(_TOGETHER // each, 1)

    def in_time(self, run: Run, others: Collection[str], now: float) -> float | None:
        """Return in how many seconds an attempt must have begun; None: whenever it can.

        One that has not begun when the deadline turns the saga round is not to begin any more: then
        nobody has attempted it. `others` are the steps that are being attempted beside it.
        """
        state = self.state
        if run.side is Side.UNDO or state.deadline is None or state.deadline <= now:
            return None
        turns = machine.expired(self.plan, replace(state, deadline=now), now, others)
        return state.deadline - now if turns else None

    def record(self) -> Record:
        """Return everything that is known."""
        return Record(
            id=self.begin.id,
            plan=self.plan,
            input=self.begin.input,
            began=self.began,
            status=self.story.status,
            snapshot=Snapshot.of(self.story),
            lines=shortened(self._lines, _BYTES),
            items=[replace(each, status=self.story.status) for each in self._carried()],
            ended=self.ended,
            context=self.begin.context,
        )

    def former(self) -> Begin:
        """Return what a workflow goes on with in a new history: of the attempts, the newest."""
        lines = self._lines
        if len(lines) > _LINES:
            older = [one for one in lines[:-_LINES] if one.entry.next is not Next.AGAIN]
            lines = [*older, *lines[-_LINES:]]
        lines = shortened(lines, _BYTES)
        former = Former(
            self.began,
            Snapshot.of(self.story),
            lines,
            self._carried(),
            cancelled=self.cancelled,
        )
        return msgspec.structs.replace(self.begin, former=former)

    def _carried(self) -> list[WorkItem]:
        """Return the work items with as many of their runbooks' texts as travel.

        First come those that wait, the newest before the others; the rest says where its text is.
        """
        items, left = dict(self._items), _TEXTS
        newest = list(items.values())[::-1]
        for item in sorted(newest, key=lambda each: each.closed is not None):
            size = len(msgspec.json.encode(item.instructions))
            if size <= left:
                left -= size
            else:
                items[item.id] = replace(item, instructions=_LEFT_OUT.format(item.runbook))
        return list(items.values())

    def _write(self, line: Line) -> Line:
        entry = line.entry
        self.story.add(line, machine.evolve(self.plan, self.state, entry))
        kept = line if entry.what is not What.OK else replace(line, data=None)
        if entry.what in FAILED:
            self._untrace(entry)
        self._lines.append(Told.of(kept))
        self.ended = entry.at if self.story.status in _ENDED else None
        if entry.next is Next.QUEUE:
            self._open(entry)
        for each in self.open_items:
            # also of other steps: a pivot that stays keeps what it stands on
            if not self.state.marks[each.step].item:
                self._close(each, entry.at)
        return line

    def _untrace(self, entry: Entry) -> None:
        """Forget where an earlier failure of a half step was raised: it is the newest that tells.

        A step with a defect fails for as long as it is retried, with a trace of some kB each time.
        """
        for at in range(len(self._lines) - 1, -1, -1):
            told = self._lines[at]
            one = told.entry
            if one.what in FAILED and (one.step, one.side) == (entry.step, entry.side):
                if bytes(told.data):
                    failure = msgspec.json.decode(told.data, type=Failure)
                    short = msgspec.structs.replace(failure, trace=None)
                    data = msgspec.Raw(msgspec.json.encode(short))
                    self._lines[at] = msgspec.structs.replace(told, data=data)
                return

    def _open(self, entry: Entry) -> None:
        step = self.plan.step[entry.step]
        undo = entry.side is Side.UNDO and step.undo is not None
        name = step.undo if undo and step.undo else step.name
        runbook = step.undo_runbook if undo else step.runbook
        item = WorkItem(
            f"{self.begin.id}/{name}",
            self.begin.id,
            entry.step,
            entry.side or Side.DO,
            runbook or "",
            "",
            entry.at,
            definition=self.plan.id,
        )
        self._items.pop(item.id, None)  # the newest is the last
        self._items[item.id] = item

    def _close(self, item: WorkItem, now: float) -> None:
        action, decision = self._by
        self._items[item.id] = replace(
            item, closed=now, action=action, actor=decision.actor, reason=decision.reason
        )


def shortened(lines: Sequence[Told], most: int) -> list[Told]:
    """Return what of `lines` fits into `most` bytes: the newest, and of older ones what decided.

    A line that does not fit is told without what was said. Attempts that are only followed by
    another one have half of the room, so that they drive out nothing else.
    """
    left, kept = most, []
    for line in reversed(lines):
        reserved = most // 2 if line.entry.next is Next.AGAIN else 0
        for told in (line, msgspec.structs.replace(line, data=NOTHING)):
            size = len(msgspec.json.encode(told))
            if size <= left - reserved:
                kept.append(told)
                left -= size
                break
    return kept[::-1]
