"""The activities of one saga's definition: attempts of its half steps, as every driver makes them.

An activity beats while it attempts, so that a worker that vanished is missed soon. What it is given
is what the workflow knows; types and functions are those of the definition that this worker has.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
from temporalio import activity
from temporalio.exceptions import ApplicationError

from switchgear.saga.attempt import Answer, Attempts, Instance
from switchgear.saga.carried import Carried
from switchgear.saga.definition import Saga
from switchgear.saga.evidence import WorkItem
from switchgear.saga.guard import Guards
from switchgear.saga.notify import Hook
from switchgear.saga.plan import Kind, Side
from switchgear.saga.state import What
from switchgear.saga.stores.port import SagaRow
from switchgear.saga.temporal.wire import (
    NOTIFY,
    RUNBOOK,
    UNREADABLE,
    Asked,
    Attempt,
    Outcome,
    activity_name,
    beyond,
    raw,
    too_large,
)

__all__ = ["BEATS", "Activities"]

BEATS: Final = 4
"""How often a worker is heard of in the time after which it would be given up."""


class Activities:
    """What a worker does for the sagas of one definition.

    `guards` are the breakers of its undos, and `hook` is told of work items.
    """

    def __init__(self, saga: Saga, guards: Guards, hook: Hook | None = None) -> None:
        self._saga = saga
        self._guards = guards
        self._hook = hook
        self._running: set[Attempts] = set()
        self._halted = False

    def halt(self) -> None:
        """Cut short what is attempted: its outcome is unknown, and another worker asks again."""
        self._halted = True
        for attempts in self._running:
            attempts.halt()

    def all(self) -> list[Callable[..., Awaitable[Any]]]:
        """Return the activities, by the names that the workflow calls them by."""
        halves = [
            self._half(step.name, side)
            for step in self._saga.steps.values()
            for side in Side
            if (step.kind is not Kind.START if side is Side.DO else step.undo is not None)
        ]

        @activity.defn(name=RUNBOOK)
        async def runbook(asked: Asked) -> str:
            whole = self._saga.asked(asked.step, asked.side)
            return await asyncio.to_thread(whole.instructions)

        @activity.defn(name=NOTIFY)
        async def notify(item: WorkItem) -> None:
            # if it fails, Temporal asks again
            if self._hook is not None:
                await self._hook(item)

        return [*halves, runbook, notify]

    def _half(self, step: str, side: Side) -> Callable[[Attempt], Awaitable[Outcome]]:
        @activity.defn(name=activity_name(self._saga.name, step, side))
        async def attempt(given: Attempt) -> Outcome:
            return await self._attempt(given)

        return attempt

    async def _attempt(self, given: Attempt) -> Outcome:
        try:
            instance = self._instance(given)
        except (msgspec.MsgspecError, LookupError, ValueError) as error:
            raise ApplicationError(
                f"saga {given.id} cannot be read: {error}. Has a type lost a field?",
                type=UNREADABLE,
            ) from error
        attempts = Attempts(instance, _server_clock(), self._guards.of(self._saga))
        if self._halted:
            attempts.halt()
        self._running.add(attempts)
        try:
            async with _beating(given.lease):
                answer = _bounded(given, await attempts.run(given.run))
        finally:
            self._running.discard(attempts)
        return Outcome(
            answer.what,
            answer.began,
            raw(answer.data),
            partial=answer.partial,
            retry_after=answer.retry_after,
        )

    def _instance(self, given: Attempt) -> Instance:
        story = given.snapshot.story(self._saga.plan)
        row = SagaRow(
            id=given.id,
            definition=self._saga.plan.id,
            input=bytes(given.input),
            context=bytes(given.context),
            status=story.status,
            began=given.began,
            deadline=given.snapshot.state.deadline,
            ended=None,
            fence=0,
        )
        carried = msgspec.json.decode(row.context, type=Carried)
        return Instance(self._saga, row, story, carried, self._saga.input.decode(row.input))


def _server_clock() -> Callable[[], float]:
    """Return a clock that goes by the server's, which the workflow's deadline is by."""
    began, here = activity.info().started_time.timestamp(), time.monotonic()
    return lambda: began + time.monotonic() - here


@asynccontextmanager
async def _beating(lease: float) -> AsyncIterator[None]:
    async def beat() -> None:
        while True:
            activity.heartbeat()
            await asyncio.sleep(lease / BEATS)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _bounded(given: Attempt, answer: Answer) -> Answer:
    """Refuse a result with which the saga would grow beyond what Temporal carries.

    What runs in parallel is not known here: the workflow looks once more.
    """
    run = given.run
    if answer.what is not What.OK or run.side is Side.UNDO:
        return answer
    size = beyond(given.input, given.snapshot.results, run.step, answer.data or b"")
    if size is None:
        return answer
    return Answer(What.UNRECORDED, answer.began, too_large(run.step, size))
