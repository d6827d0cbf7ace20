"""The workflow that interprets any saga: it asks the machine, and has activities attempt.

It is a driver like `driver.py`, and decides nothing itself: order, undo, pivot, doubt, `give_up`
and deadline are `machine.py`. Time and chance are the workflow's, so that a replay comes to the
same decisions; everything else that they depend on is in what it was started with. It runs no code
of the service, and needs none.

- An attempt is one activity, `checkout/reserve/do`, under the key of its half step. Temporal does
  not repeat it: the machine says when, with its own backoff, and a timer waits.
- A worker that vanished is told by the heartbeat that is missing. It is an interruption, as it is
  everywhere.
- A cancellation is the deadline, moved to now. Nothing that runs is cut short by it, and no undo.
- Operator actions are updates, the record is a query.

What may be changed here is what a replay of histories that exist does not notice; a test replays
one of each kind that was recorded before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, Final, NoReturn

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    TimeoutType,
    is_cancelled_exception,
)
from temporalio.exceptions import TimeoutError as Timeout

from switchgear.errors import SwitchgearError
from switchgear.saga import machine
from switchgear.saga.context import key_of
from switchgear.saga.evidence import WorkItem
from switchgear.saga.report import report_line, report_start
from switchgear.saga.state import Run, What
from switchgear.saga.stores.port import Line
from switchgear.saga.temporal.book import Book
from switchgear.saga.temporal.wire import (
    ACT,
    NOTIFY,
    RECORD,
    REFUTE,
    REPORT,
    RUNBOOK,
    UNREADABLE,
    WORKFLOW,
    Action,
    Asked,
    Begin,
    Outcome,
    Record,
    Refutation,
    activity_name,
    raw,
    too_large,
)

__all__ = ["SagaWorkflow"]

_ONCE: Final = RetryPolicy(maximum_attempts=1)
_PATIENTLY: Final = RetryPolicy(maximum_interval=timedelta(minutes=5))
_GRACE: Final = 5.0
"""Seconds beyond its own limit that an attempt has for telling how it ended."""
_UNREADABLE: Final = 60.0
_TOGETHER: Final = "results-together"
_PARTS: Final = "attempts-in-parts"
_SHOWN: Final = "shown-at-first"
_ENDED: Final = frozenset({"done", "undone"})


# it runs nothing but the library's own code, whose imports are checked: no clock, no randomness
@workflow.defn(name=WORKFLOW, sandboxed=False)
class SagaWorkflow:
    """One saga."""

    @workflow.init
    def __init__(self, begin: Begin) -> None:
        self._book = Book(begin, workflow.info().start_time.timestamp())
        self._flying: dict[str, Run] = {}
        self._later: dict[str, tuple[Run, asyncio.Task[None]]] = {}
        self._told: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._shown: tuple[str, list[WorkItem]] = ("running", [])
        self._broken: BaseException | None = None
        self._moved = False

    @workflow.run
    async def run(self, begin: Begin) -> Record:
        """Drive the saga to its end."""
        book = self._book
        self._take_up(begin)
        while True:
            self._advance()
            if book.story.status in _ENDED:
                return book.record()
            if self._is_long() and not self._flying:
                workflow.continue_as_new(book.former())
            try:
                await workflow.wait_condition(lambda: self._moved)
            except asyncio.CancelledError:
                if workflow.cancellation_reason() is None:
                    raise  # the worker forgets the workflow, which goes on elsewhere
                book.cancel(workflow.time())
            if self._broken is not None:
                # a defect: Temporal tries again until it is mended. What an activity raised would
                # end the workflow
                raise RuntimeError(f"a part of saga {begin.id} failed") from self._broken
            self._moved = False

    # --- from outside -------------------------------------------------------------------------

    @workflow.query(name=RECORD)
    def record(self) -> Record:
        """Return everything that is known of the saga."""
        return self._book.record()

    @workflow.update(name=ACT)
    def act(self, action: Action) -> WorkItem:
        """Take a person's action on a work item."""
        before = self._book.story.status
        item, line = self._book.act(action, now=workflow.time())
        if line is not None:
            self._follow(line, before)
        return item

    @act.validator
    def _check_act(self, action: Action) -> None:
        try:
            self._book.check(action)
        except SwitchgearError as error:
            _refuse(error)

    @workflow.update(name=REFUTE)
    def refute(self, given: Refutation) -> str:
        """Take in that a step does not hold, and return where the saga stands."""
        before = self._book.story.status
        line = self._book.refute(given, now=workflow.time())
        if line is not None:
            self._follow(line, before)
        return self._book.story.status

    @refute.validator
    def _check_refute(self, given: Refutation) -> None:
        try:
            self._book.check_refutation(given)
        except SwitchgearError as error:
            _refuse(error)

    # --- driving ------------------------------------------------------------------------------

    def _take_up(self, begin: Begin) -> None:
        book = self._book
        if begin.former is None:
            _report(partial(report_start, book.plan, begin.id))
        if book.state.deadline is not None:
            self._spawn(self._alarm(book.state.deadline))
        for item in book.open_items:
            if item.id not in self._told:  # an update may have come before
                self._tell_of(item)
        # a new run has no memo; histories from before that was shown here do so with the next line
        if begin.former is not None and self._unshown() and workflow.patched(_SHOWN):
            self._show()

    def _advance(self) -> None:
        """Tell what has happened without an attempt, then begin what is to be attempted."""
        book = self._book
        while True:
            now = workflow.time()
            happening = machine.happening(book.plan, book.state, now, self._flying)
            if happening is None:
                break
            before = book.story.status
            self._follow(book.tell(happening, now=now, draw=workflow.random().random()), before)
        todo = {run.step: run for run in machine.runs(book.plan, book.state)}
        for step, (run, task) in list(self._later.items()):
            if todo.get(step) != run:
                task.cancel()
                del self._later[step]
        if self._is_long():
            return  # what flies has to land before a new history can begin
        room = book.at_once()
        for step, run in todo.items():
            if step in self._flying or step in self._later:
                continue
            # histories from before that was counted began all at once
            if run.due <= now and (room > 0 or not workflow.patched(_PARTS)):
                room -= 1
                self._flying[step] = run
                self._spawn(self._attempt(run))
            else:
                self._later[step] = run, self._spawn(self._wait(run, run.due - now))

    def _is_long(self) -> bool:
        info = workflow.info()
        most = self._book.begin.events
        return info.is_continue_as_new_suggested() or info.get_current_history_length() >= most

    async def _wait(self, run: Run, seconds: float) -> None:
        await asyncio.sleep(max(seconds, 0.001))
        del self._later[run.step]
        self._moved = True

    async def _alarm(self, deadline: float) -> None:
        while (left := deadline - workflow.time()) > 0:  # noqa: ASYNC110  a clock of its own
            await asyncio.sleep(max(left, 0.001))
        self._moved = True

    async def _attempt(self, run: Run) -> None:
        """Attempt a half step once, and write down what came of it."""
        book = self._book
        step = book.plan.step[run.step]
        others = self._flying.keys() - {run.step}
        in_time = book.in_time(run, others, workflow.time())
        lease = timedelta(seconds=book.begin.lease)
        pause = 0.0
        outcome: Outcome | None = Outcome(None, workflow.time())
        try:
            outcome = await workflow.execute_activity(
                activity_name(book.plan.saga, run.step, run.side),
                book.attempt(run),
                result_type=Outcome,
                activity_id=key_of(book.begin.id, run.step, run.side),
                start_to_close_timeout=timedelta(seconds=step.attempt_timeout + _GRACE) + lease,
                schedule_to_start_timeout=None if in_time is None else _at_least(in_time),
                heartbeat_timeout=lease,
                retry_policy=_ONCE,
            )
        except ActivityError as error:
            cause = error.cause
            if isinstance(cause, Timeout):
                if cause.type is TimeoutType.SCHEDULE_TO_START:
                    outcome = None  # nobody has begun it
            else:
                # a defect of the worker's, not of the step's: do not run into it without a pause
                pause = _UNREADABLE
                if isinstance(cause, ApplicationError) and cause.type == UNREADABLE:
                    outcome = None
        del self._flying[run.step]
        size = book.beyond(run, outcome)
        # histories from before that was looked at are to be decided as they were
        if outcome is not None and size is not None and workflow.patched(_TOGETHER):
            told = too_large(run.step, size)
            outcome = Outcome(What.UNRECORDED, outcome.began, raw(told))
        if outcome is not None:
            before, now = book.story.status, workflow.time()
            line = book.answered(run, outcome, now=now, draw=workflow.random().random())
            self._follow(line, before)
        if pause:
            again = {each.step: each for each in machine.runs(book.plan, book.state)}
            if run.step in again:
                waiting = again[run.step]
                self._later[run.step] = waiting, self._spawn(self._wait(waiting, pause))
        self._moved = True

    # --- what follows -------------------------------------------------------------------------

    def _follow(self, line: Line, before: str) -> None:
        """Do what a line means for others: report it, tell of work items, show where it stands."""
        book = self._book
        self._moved = True
        _report(
            partial(
                report_line,
                book.plan,
                line,
                saga_id=book.begin.id,
                began=book.began,
                before=before,
                status=book.story.status,
            )
        )
        known = {item.id: item for item in book.open_items}
        for name, task in list(self._told.items()):
            if name not in known:
                task.cancel()
                del self._told[name]
        for name, item in known.items():
            if name not in self._told:
                self._tell_of(item)
        self._show()

    def _tell_of(self, item: WorkItem) -> None:
        self._told[item.id] = self._spawn(self._tell(item))

    async def _tell(self, item: WorkItem) -> None:
        """Fetch the runbook's text for a work item, and tell somebody of it."""
        book, within = self._book, timedelta(minutes=1)
        if not item.instructions:
            with _going_on(f"{item.id} has no instructions"):
                text = await workflow.execute_activity(
                    RUNBOOK,
                    Asked(item.step, item.side),
                    result_type=str,
                    start_to_close_timeout=within,
                    retry_policy=_PATIENTLY,
                )
                item = book.instruct(item, text)
                self._show()
        with _going_on(f"nobody was told of {item.id}"):
            await workflow.execute_activity(
                NOTIFY, item, start_to_close_timeout=within, retry_policy=_PATIENTLY
            )

    def _show(self) -> None:
        """Put into the memo what a list of sagas shows, if that has changed."""
        if shown := self._unshown():
            self._shown = shown
            workflow.upsert_memo({"status": shown[0], "items": shown[1]})

    def _unshown(self) -> tuple[str, list[WorkItem]] | None:
        """Return what the memo is to tell, None if it does."""
        book = self._book
        status = book.story.status
        # without the texts: Temporal wants a memo to be small
        items = [replace(item, status=status, instructions="") for item in book.open_items]
        return None if (status, items) == self._shown else (status, items)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._landed)
        return task

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not is_cancelled_exception(error):
            self._broken, self._moved = error, True


@contextmanager
def _going_on(what: str) -> Iterator[None]:
    """Log that an activity failed for good: no saga is to stand still for that."""
    try:
        yield
    except ActivityError as error:
        if is_cancelled_exception(error):
            raise
        workflow.logger.error("%s: %s", what, error.cause)


def _report(report: Callable[[], None]) -> None:
    """Have something reported, once: not when it is only remembered."""
    lent = workflow.extern_functions().get(REPORT)
    if lent is not None and not workflow.unsafe.is_replaying():
        lent(report)


def _at_least(seconds: float) -> timedelta:
    """Return a timeout; zero would mean that there is none."""
    return timedelta(seconds=max(seconds, 0.001))


def _refuse(error: SwitchgearError) -> NoReturn:
    raise ApplicationError(
        error.what,
        error.where,
        error.fix,
        type=type(error).__name__,
        non_retryable=True,
    ) from None
