"""The policy machine in threads.

`drive` makes one call in the calling thread. Only the machine's own steps, some microseconds each,
are taken under its lock: nothing is held while a call is under way, so threads never wait for each
other except in a limit's queue.

A thread cannot be interrupted. The attempt is told its deadline and has to keep it (as a socket's
timeout, say); what comes back late is still taken, because it is what happened. A deadline that
nobody keeps is therefore only checked between attempts.

An attempt that may get a rival (`Attempt.hedge_at`) runs in a thread of its own, and so does the
rival. A loser goes on until it ends by itself, and holds its place of the limit that long. Where no
thread can be had, the attempt is made in the caller's and gets no rival.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable, Hashable
from contextvars import copy_context
from math import inf
from queue import Empty, SimpleQueue
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
    trailed,
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
    alone: bool = False,
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
    alone: bool = False,
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
    alone: bool = False,
    classify: Classify | None = None,
) -> Answer[Any]:
    """Make one call under the machine's policy, in this thread; see `aio.drive`.

    `attempt` has to keep `Attempt.deadline` by itself.
    """
    began = monotonic()
    context = inherited() if context is None else context
    call = machine.call(
        began,
        repeatable=repeatable,
        key=key,
        context=context,
        deadline=deadline,
        cache_key=cache_key,
    )
    span = call_began(call, context)
    try:
        step = call.begin(began)
        while True:
            if machine.outbox:
                deliver(machine)
            if isinstance(step, Attempt):
                if step.hedge_at != inf and not alone:
                    step = Race(call, attempt, classify).run(step)
                else:
                    step = _follow(call, step, *_attempted(step, attempt, classify))
            elif isinstance(step, Wait | Queue):
                step = _paused(call, step)
            else:
                break
        if isinstance(step, Instead):
            step = _instead(step)
    except BaseException as error:
        abandoned(call, error, began, span)
        raise
    step = trailed(step, call, began, context.spent)
    if listening():
        call_ended(call, step, began, span)
    if isinstance(step, Answer):
        return step
    try:
        raise step
    finally:
        del step, call


Result = tuple[Any, Failure | None]


def _attempted(
    step: Attempt, attempt: Callable[[Attempt], Any], classify: Classify | None
) -> Result:
    """Make one attempt; return its reply, or how it failed."""
    flight = attempt_began(step)
    end: BaseException | None = None
    try:
        reply, end = result = _made(step, attempt, classify)
        del reply
        return result
    except BaseException as error:
        end = error
        raise
    finally:
        if flight:
            attempt_ended(step, end, monotonic(), flight)
        del end


def _made(step: Attempt, attempt: Callable[[Attempt], Any], classify: Classify | None) -> Result:
    token = None if classify is None else in_flight.set(step)
    try:
        reply = attempt(step)
    except _OUTCOMES as error:
        return None, error
    except Exception as error:
        failure = None if classify is None else classify(error)
        if failure is None:
            raise
        return None, failure
    finally:
        if token is not None:
            in_flight.reset(token)
    if classify is not None:
        return reply, None
    return (reply.value, None) if isinstance(reply, Ok) else (None, reply)


def _follow(call: Call, step: Attempt, reply: Any, failure: Failure | None) -> Decision:
    """Take the next step after an attempt has ended."""
    now = monotonic()
    try:
        if failure is None:
            return call.answered(now, step, reply)
        return call.ended(now, step, failure)
    finally:
        # a failure's trace holds this frame: the frame must not hold the failure
        del reply, failure


class Race:
    """An attempt and its rivals, each in a thread; the first that ends the call wins."""

    def __init__(
        self, call: Call, attempt: Callable[[Attempt], Any], classify: Classify | None
    ) -> None:
        self._call = call
        self._attempt = attempt
        self._classify = classify
        self._ends: SimpleQueue[tuple[Attempt, Result | BaseException]] = SimpleQueue()
        self._lock = threading.Lock()
        self._over = False

    def run(self, first: Attempt) -> Decision:
        """Make the attempt, until the call goes on without any of them in flight."""
        call, flights = self._call, [first]
        if not self._sent(first):
            return _follow(call, first, *_attempted(first, self._attempt, self._classify))
        late = first.hedge_at
        try:
            while True:
                try:
                    timeout = None if late == inf else max(0.0, late - monotonic())
                    step, result = self._ends.get(timeout=timeout)
                except Empty:
                    rival, late = call.hedge(monotonic()), inf
                    if rival is not None and self._sent(rival):
                        flights.append(rival)
                        late = rival.hedge_at
                    elif rival is not None:
                        call.unsent(monotonic(), rival)
                    deliver(call.machine)
                    continue
                flights.remove(step)
                if isinstance(result, BaseException):
                    raise result
                decision = _follow(call, step, *result)
                deliver(call.machine)
                if decision not in flights:
                    return decision
        finally:
            with self._lock:
                self._over = True
            while not self._ends.empty():
                self._lost(self._ends.get()[0])

    def _sent(self, step: Attempt) -> bool:
        """Begin an attempt; False: the system has no thread for it."""
        work = copy_context()
        thread = threading.Thread(
            target=work.run, args=(self._fly, step), name="switchgear-attempt", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:
            return False
        return True

    def _fly(self, step: Attempt) -> None:
        result: Result | BaseException
        try:
            result = _attempted(step, self._attempt, self._classify)
        except BaseException as error:  # noqa: BLE001  raised again in the caller's thread
            result = error
        with self._lock:
            if not self._over:
                self._ends.put((step, result))
                return
        self._lost(step)

    def _lost(self, step: Attempt) -> None:
        self._call.lost(monotonic(), step)
        deliver(self._call.machine)


def _paused(call: Call, step: Wait | Queue) -> Decision:
    """Wait as told, and take the next step."""
    if isinstance(step, Wait):
        time.sleep(max(0.0, step.until - monotonic()))
    else:
        turn = threading.Event()
        call.wake = turn.set
        # in this order: a grant before `wake` was set is seen here
        if not call.granted:
            turn.wait(None if step.until == inf else max(0.0, step.until - monotonic()))
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
