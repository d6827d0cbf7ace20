"""An attempt and its rivals under asyncio, each in a task of its own.

The first that ends the call wins. A loser is cancelled and not waited for; it keeps its place of
the limit until it has really ended. Deadlines, and the time at which a rival is due, are in the
wheel: what a hedged call costs more than another one is a task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from math import inf
from time import monotonic
from typing import Any

from switchgear.call.answer import (
    Classify,
    Failure,
    attempt_began,
    attempt_ended,
    deliver,
    in_flight,
)
from switchgear.call.wheel import Bucket, new_wheel, wheels
from switchgear.model.outcome import Ok, Reason, Refused, Unavailable, Unknown
from switchgear.policy.machine import Attempt, Call, Decision

__all__ = ["Race"]

Result = tuple[Any, Failure | None]

_losers: dict[asyncio.Task[Result], tuple[Call, Attempt]] = {}
"""Kept here until they have ended, since a loop holds its tasks weakly."""


class Race:
    """The attempts of one call that are in flight at the same time."""

    def __init__(
        self,
        call: Call,
        attempt: Callable[[Attempt], Awaitable[Any]],
        classify: Classify | None,
    ) -> None:
        self._call = call
        self._attempt = attempt
        self._classify = classify
        self._loop = loop = asyncio.get_running_loop()
        self._wheel = wheels.get(loop) or new_wheel(loop)
        self._flights: dict[asyncio.Task[Result], Attempt] = {}
        self._turn: asyncio.Future[None] = loop.create_future()
        """Done once something has happened."""
        self._late = False
        """A rival is due."""
        self._bucket: Bucket = {}

    async def run(self, first: Attempt) -> Decision:
        """Make the attempt, until the call goes on without any of them in flight."""
        call, flights = self._call, self._flights
        try:
            self._send(first)
            while True:
                await self._turn
                self._turn = self._loop.create_future()
                if self._late:
                    self._late = False
                    rival = call.hedge(monotonic())
                    if rival is not None:
                        self._send(rival)
                    deliver(call.machine)
                for task in [task for task in flights if task.done()]:
                    decision = self._landed(flights.pop(task), *task.result())
                    if decision not in flights.values():
                        return decision
        finally:
            self._bucket.pop(self, None)
            if flights:
                _sweep()
            for task, step in flights.items():
                _losers[task] = call, step
                task.add_done_callback(_lost)
                task.cancel()

    def cancel(self) -> None:
        """Event, from the wheel: the attempt that was sent last is late."""
        self._late = True
        self._wake()

    def _wake(self, _: object = None) -> None:
        if not self._turn.done():
            self._turn.set_result(None)

    def _send(self, step: Attempt) -> None:
        task = self._loop.create_task(self._attempted(step))
        task.add_done_callback(self._wake)
        self._flights[task] = step
        if step.hedge_at != inf:
            self._bucket = self._wheel.put(self, step.hedge_at, self)

    def _landed(self, step: Attempt, reply: Any, failure: Failure | None) -> Decision:
        """Event: an attempt has ended."""
        call, now = self._call, monotonic()
        if failure is None:
            decision: Decision = call.answered(now, step, reply)
        else:
            decision = call.ended(now, step, failure)
        deliver(call.machine)
        return decision

    async def _attempted(self, step: Attempt) -> Result:
        """Make one attempt, and report it; return its reply, or how it failed."""
        flight = attempt_began(step)
        end: BaseException | None = None
        try:
            reply, end = result = await self._made(step)
            del reply
            return result
        except BaseException as error:
            end = error
            raise
        finally:
            if flight:
                attempt_ended(step, end, monotonic(), flight)
            del end

    async def _made(self, step: Attempt) -> Result:
        if self._classify is not None:
            in_flight.set(step)
        bucket: Bucket | None = None
        task = asyncio.current_task()
        if step.deadline != inf and task is not None:
            bucket = self._wheel.put(step, step.deadline, task)
        try:
            reply = await self._attempt(step)
        except (Refused, Unavailable, Unknown) as error:
            return None, error
        except asyncio.CancelledError:
            if bucket is None or step in bucket or task is None or task.cancelling() > 1:
                raise
            name = self._call.machine.name
            return None, Unknown(f"{name}: no answer in time", reason=Reason.TIMEOUT)
        except Exception as error:
            failure = None if self._classify is None else self._classify(error)
            if failure is None:
                raise
            return None, failure
        finally:
            if bucket is not None:
                bucket.pop(step, None)
        if self._classify is not None:
            return reply, None
        return (reply.value, None) if isinstance(reply, Ok) else (None, reply)


def _lost(task: asyncio.Task[Result]) -> None:
    """Event: a loser has ended, or never will."""
    call, step = _losers.pop(task, (None, None))
    if call is None or step is None:
        return
    if task.done() and not task.cancelled():
        task.exception()
    call.lost(monotonic(), step)
    deliver(call.machine)


def _sweep() -> None:
    """Give back the places of losers whose loop was closed before they had ended."""
    for task in list(_losers):
        if task.get_loop().is_closed():
            _lost(task)
