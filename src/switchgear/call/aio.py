"""The policy machine under asyncio.

`drive` makes one call: it takes each decision of the machine and does what it says. Attempts run
in the caller's own task, so context variables, tracing and cancellation are those of the caller.

Deadlines share a timer (`wheel.py`). An attempt that may get a rival (`Attempt.hedge_at`) runs in a
task of its own, and so does the rival (`race.py`).

Whose cancellation it was is told as `asyncio.timeout` tells it: by the count of `Task.cancelling`
before the attempt and after `Task.uncancel`. If the caller cancels too, that is never swallowed.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Hashable
from math import inf
from time import monotonic
from typing import Any, TypeVar, overload

from switchgear.call.answer import (
    Answer,
    Classify,
    Failure,
    abandoned,
    attempt_began,
    attempt_ended,
    call_began,
    call_ended,
    deliver,
    in_flight,
    inherited,
    took,
    trailed,
)
from switchgear.call.race import Race
from switchgear.call.wheel import SLOTS_A_SECOND, Bucket, new_wheel, wheels
from switchgear.model.context import Context
from switchgear.model.outcome import Ok, Outcome, Reason, Refused, Unavailable, Unknown
from switchgear.model.signal import listening
from switchgear.policy.machine import Attempt, Call, Decision, Instead, Machine, Queue, Wait

__all__ = ["drive"]

T = TypeVar("T")

_OUTCOMES = (Refused, Unavailable, Unknown)
_PAUSES = (Wait, Queue)


@overload
async def drive(
    machine: Machine,
    attempt: Callable[[Attempt], Awaitable[Outcome[T]]],
    *,
    repeatable: bool = False,
    key: str | None = None,
    context: Context | None = None,
    deadline: float | None = None,
    cache_key: Hashable = None,
    alone: bool = False,
    classify: None = None,
) -> Answer[T]: ...
@overload
async def drive(
    machine: Machine,
    attempt: Callable[[Attempt], Awaitable[T]],
    *,
    repeatable: bool = False,
    key: str | None = None,
    context: Context | None = None,
    deadline: float | None = None,
    cache_key: Hashable = None,
    alone: bool = False,
    classify: Classify,
) -> Answer[T]: ...
async def drive(  # noqa: C901, PLR0912, PLR0915  the one loop, kept flat for speed
    machine: Machine,
    attempt: Callable[[Attempt], Awaitable[Any]],
    *,
    repeatable: bool = False,
    key: str | None = None,
    context: Context | None = None,
    deadline: float | None = None,
    cache_key: Hashable = None,
    alone: bool = False,
    classify: Classify | None = None,
) -> Answer[Any]:
    """Make one call under the machine's policy.

    `attempt` asks the callee once and says how it went: it returns an outcome, or raises one of
    the three that are exceptions. It is cancelled when its deadline has passed, which counts as
    `Unknown(TIMEOUT)`. Each outcome that is an exception has to be a new object. Whatever else it
    raises reaches the caller unchanged, is not retried, and feeds nothing.

    repeatable: a query, or a command that is sent with the idempotency key `key`.
    context: what the call inherits; without it, `current()` and the guarded attempt around it.
    deadline: seconds from now, instead of the policy's; never beyond the context's.
    cache_key: names the question, for a fallback to stale answers; None: nothing is kept.
    alone: `attempt` cannot be under way twice at a time: the policy's hedge does nothing.
    classify: for an `attempt` that knows nothing of outcomes: it returns the bare value, and what
    it raises is looked up here, None meaning "as it is". Calls made inside inherit from it.

    Raises Refused, Unavailable or Unknown where nobody answered, not even the fallback.
    """
    began = monotonic()
    context = inherited() if context is None else context
    call = Call(machine, began, repeatable, key, context, deadline, cache_key)
    loop = asyncio.get_running_loop()
    task = asyncio.current_task(loop)
    if task is None:
        raise RuntimeError("a guarded call has to be made inside a task")
    heard = listening()
    span = flight = 0
    step: Decision | None = None
    try:
        if heard:
            span = call_began(call, context)
        step = call.begin(began)
        while True:
            if machine.outbox:
                deliver(machine)
            if not isinstance(step, Attempt):
                if not isinstance(step, _PAUSES):
                    break
                step = await _paused(call, step)
                continue
            if step.hedge_at != inf and not alone:
                step = await Race(call, attempt, classify).run(step)
                continue
            # written out here, because another coroutine would cost as much as the machine's step
            bucket: Bucket | None = None
            if step.deadline != inf:
                wheel = wheels.get(loop) or new_wheel(loop)
                slot = int(step.deadline * SLOTS_A_SECOND) + 1
                bucket = wheel.buckets.get(slot) or wheel.open(slot)
                bucket[step] = task
            if heard:
                flight = attempt_began(step)
            cancelling = task.cancelling()
            token = None if classify is None else in_flight.set(step)
            reply: Any = None
            failure: Failure | None = None
            try:
                reply = await attempt(step)
                if classify is None:
                    if isinstance(reply, Ok):
                        reply = reply.value
                    else:
                        failure = reply
            except _OUTCOMES as error:
                failure = error
            except asyncio.CancelledError:
                if bucket is None or step in bucket or task.cancelling() - 1 > cancelling:
                    raise
                failure = Unknown(f"{machine.name}: no answer in time", reason=Reason.TIMEOUT)
            except Exception as error:
                failure = None if classify is None else classify(error)
                if failure is None:
                    raise
            finally:
                # no longer there: the wheel has cancelled it, however it took that
                if bucket is not None and bucket.pop(step, None) is None:
                    task.uncancel()
                if token is not None:
                    in_flight.reset(token)
            now = monotonic()
            if heard:
                attempt_ended(step, failure, now, flight)
                flight = 0
            if failure is None:
                answer = call.answered(now, step, reply)
                if machine.outbox:
                    deliver(machine)
                if context.spent is not None:
                    took(call, now - began, context.spent)
                if heard:
                    call_ended(call, answer, began, span)
                return answer
            step = call.ended(now, step, failure)
            # a failure's trace holds this frame: the frame must not hold the failure
            reply = failure = None
        if isinstance(step, Instead):
            step = await _instead(step)
    except BaseException as error:
        if flight and isinstance(step, Attempt):
            attempt_ended(step, error, monotonic(), flight)
        abandoned(call, error, began, span)
        raise
    step = trailed(step, call, began, context.spent)
    if heard:
        call_ended(call, step, began, span)
    if isinstance(step, Answer):
        return step
    try:
        raise step
    finally:
        del step, call


async def _paused(call: Call, step: Wait | Queue) -> Decision:
    """Wait as told, and take the next step."""
    if isinstance(step, Wait):
        await asyncio.sleep(step.until - monotonic())
    else:
        await _turn(call, step)
    return call.resumed(monotonic())


async def _turn(call: Call, step: Queue) -> None:
    """Wait in the queue until the call is granted a place, or its wait is over."""
    loop = asyncio.get_running_loop()
    turn: asyncio.Future[None] = loop.create_future()

    def settle() -> None:
        if not turn.done():
            turn.set_result(None)

    def wake() -> None:
        # whoever gives the place back may run in another loop or thread
        try:
            loop.call_soon_threadsafe(settle)
        except RuntimeError:
            # this loop was closed with the call still in the queue: the next one gets the place
            call.cancelled(monotonic())

    call.wake = wake
    # in this order: a grant before `wake` was set is seen here
    if call.granted:
        return
    timer = None if step.until == inf else loop.call_later(step.until - monotonic(), settle)
    try:
        await turn
    finally:
        if timer is not None:
            timer.cancel()


async def _instead(step: Instead) -> Answer[Any]:
    value = step.function(step.outcome)
    if inspect.isawaitable(value):
        value = await value
    return Answer(value, degraded=True, attempts=step.attempts)
