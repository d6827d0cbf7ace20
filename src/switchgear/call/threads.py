"""The policy machine in threads.

`drive` makes one call in the calling thread. Only the machine's own steps, some microseconds each,
are taken under its lock: nothing is held while a call is under way, so threads never wait for each
other except in a limit's queue.

A thread cannot be interrupted. The attempt is told its deadline and has to keep it (as a socket's
timeout, say); what comes back late is still taken, because it is what happened. A deadline that
nobody keeps is therefore only checked between attempts.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable, Hashable
from time import monotonic
from typing import Any, TypeVar, overload

from switchgear.call.answer import (
    Answer,
    Classify,
    Failure,
    abandoned,
    attempt_ended,
    call_ended,
    deliver,
    in_flight,
    inherited,
)
from switchgear.errors import PolicyError
from switchgear.model.context import Context
from switchgear.model.outcome import Ok, Outcome, Refused, Unavailable, Unknown
from switchgear.model.signal import listening
from switchgear.policy.machine import Attempt, Call, Decision, Instead, Machine, Queue, Wait

__all__ = ["drive"]

T = TypeVar("T")

_OUTCOMES = (Refused, Unavailable, Unknown)


@overload
def drive(
    machine: Machine,
    attempt: Callable[[Attempt], Outcome[T]],
    *,
    repeatable: bool = False,
    key: str | None = None,
    context: Context | None = None,
    deadline: float | None = None,
    cache_key: Hashable = None,
    classify: None = None,
) -> Answer[T]: ...
@overload
def drive(
    machine: Machine,
    attempt: Callable[[Attempt], T],
    *,
    repeatable: bool = False,
    key: str | None = None,
    context: Context | None = None,
    deadline: float | None = None,
    cache_key: Hashable = None,
    classify: Classify,
) -> Answer[T]: ...
def drive(
    machine: Machine,
    attempt: Callable[[Attempt], Any],
    *,
    repeatable: bool = False,
    key: str | None = None,
    context: Context | None = None,
    deadline: float | None = None,
    cache_key: Hashable = None,
    classify: Classify | None = None,
) -> Answer[Any]:
    """Make one call under the machine's policy, in this thread; see `aio.drive`.

    `attempt` has to keep `Attempt.deadline` by itself.
    """
    began = monotonic()
    call = machine.call(
        began,
        repeatable=repeatable,
        key=key,
        context=inherited() if context is None else context,
        deadline=deadline,
        cache_key=cache_key,
    )
    try:
        step = call.begin(began)
        while True:
            if machine.outbox:
                deliver(machine)
            if isinstance(step, Attempt):
                step = _made(call, step, attempt, classify)
            elif isinstance(step, Wait | Queue):
                step = _paused(call, step)
            else:
                break
        if isinstance(step, Instead):
            step = _instead(step)
    except BaseException as error:
        abandoned(call, error, began)
        raise
    if listening():
        call_ended(call, step, began)
    if isinstance(step, Answer):
        return step
    try:
        raise step
    finally:
        del step, call


def _made(
    call: Call, step: Attempt, attempt: Callable[[Attempt], Any], classify: Classify | None
) -> Decision:
    """Make one attempt, and take the next step."""
    reply: Any = None
    failure: Failure | None = None
    token = None if classify is None else in_flight.set(step)
    try:
        reply = attempt(step)
        if classify is None:
            if isinstance(reply, Ok):
                reply = reply.value
            else:
                failure = reply
    except _OUTCOMES as error:
        failure = error
    except Exception as error:
        failure = None if classify is None else classify(error)
        if failure is None:
            raise
    finally:
        if token is not None:
            in_flight.reset(token)
    now = monotonic()
    if listening():
        attempt_ended(step, failure, now)
    try:
        if failure is None:
            return call.answered(now, step, reply)
        return call.ended(now, step, failure)
    finally:
        # a failure's trace holds this frame: the frame must not hold the failure
        reply = failure = None


def _paused(call: Call, step: Wait | Queue) -> Decision:
    """Wait as told, and take the next step."""
    if isinstance(step, Wait):
        time.sleep(max(0.0, step.until - monotonic()))
    else:
        turn = threading.Event()
        call.wake = turn.set
        # in this order: a grant before `wake` was set is seen here
        if not call.granted:
            turn.wait(max(0.0, step.until - monotonic()))
    return call.resumed(monotonic())


def _instead(step: Instead) -> Answer[Any]:
    value = step.function(step.outcome)
    if inspect.iscoroutine(value):
        value.close()
        raise PolicyError(
            f"The fallback {step.function!r} is a coroutine function, and this call is made in a "
            "thread.",
            where="Fallback",
            fix="Give an ordinary function, or make the call under asyncio.",
        )
    return Answer(value, degraded=True, attempts=step.attempts)
