"""One attempt of a half step: bind what it needs, run it under a time limit, tell how it ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeAlias

import msgspec

from switchgear.database.port import commits
from switchgear.model.context import Context, bind
from switchgear.model.outcome import Reason, Refused, Rejected, Unavailable, Unknown
from switchgear.model.signal import Detail, Signal, SignalKind, began, emit, listening
from switchgear.saga.carried import Carried
from switchgear.saga.codec import failure_of
from switchgear.saga.context import StepContext, key_of
from switchgear.saga.definition import Saga, Step
from switchgear.saga.errors import UnrecordableResult
from switchgear.saga.nested import Binding
from switchgear.saga.plan import Kind, Side
from switchgear.saga.run import undone
from switchgear.saga.state import Fate, Run, What
from switchgear.saga.stores.port import Line, SagaRow
from switchgear.saga.story import Story

__all__ = ["Answer", "Attempts", "Call", "Carry", "Instance"]

_REVERSIBLE = frozenset({Kind.COMPENSATABLE, Kind.READ})


@dataclass(slots=True)
class Instance:
    """One saga that this worker holds."""

    saga: Saga
    row: SagaRow
    story: Story
    carried: Carried
    given: Any
    """The input."""
    values: dict[str, Any] = field(default_factory=dict)
    """Results that were read back already."""

    @classmethod
    def of(cls, saga: Saga, row: SagaRow, lines: list[Line]) -> Instance:
        """Take up a saga where its journal ends. Raises `MsgspecError` if it cannot be read."""
        story = Story.of(saga.plan, row, lines)
        carried = msgspec.json.decode(row.context, type=Carried)
        return cls(saga, row, story, carried, saga.input.decode(row.input))

    def result(self, step: str) -> object:
        """Return the recorded result of `step`. Raises `LookupError` if it has none."""
        if step not in self.values:
            self.values[step] = self.saga.steps[step].codec.decode(self.story.results[step])
        return self.values[step]

    def input_of(self, step: Step[..., Any]) -> object:
        """Return the input that `step` is given: the saga's own, or that of a nested one."""
        made = self.given
        for given in self.saga.givens(step):
            args, named = self.bound(given.bindings, None)
            made = given.function(made, *args, **named)
        return made

    def bound(
        self, bindings: tuple[Binding, ...], ctx: StepContext | None
    ) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments after the input. Raises `LookupError` if a result is missing."""
        args: list[Any] = []
        named: dict[str, Any] = {}
        for binding in bindings:
            value = ctx if binding.producer is None else self.result(binding.producer)
            if binding.keyword:
                named[binding.parameter] = value
            else:
                args.append(value)
        return args, named


@dataclass(frozen=True, slots=True)
class Answer:
    """How one attempt ended; `what` None: it was cut short because the worker stops."""

    what: What | None
    began: float
    data: bytes | None = None
    partial: bool = False
    retry_after: float | None = None


Call: TypeAlias = Callable[[], Awaitable[bytes | None]]
"""Calls a step or an undo, and returns the recorded result."""
Carry: TypeAlias = Callable[[Run, Call], Awaitable[bytes | None]]
"""Carries an attempt to the participant and back; where nothing is simulated, it only calls."""


async def _straight(_run: Run, call: Call) -> bytes | None:
    return await call()


class Attempts:
    """The attempts that run for one saga."""

    def __init__(
        self, instance: Instance, clock: Callable[[], float], carry: Carry = _straight
    ) -> None:
        self._instance = instance
        self._clock = clock
        self._carry = carry
        self._scopes: dict[str, asyncio.Timeout] = {}
        self._halted = False

    def halt(self) -> None:
        """Cut short what runs, and what is begun later."""
        self._halted = True
        now = asyncio.get_running_loop().time()
        for scope in self._scopes.values():
            if not scope.expired():
                scope.reschedule(now)

    async def run(self, run: Run) -> Answer:
        """Attempt a half step once. Whatever it raises is an answer."""
        began = self._clock()
        if self._halted:
            return Answer(None, began)
        instance = self._instance
        step = instance.saga.steps[run.step]
        limit = instance.saga.plan.step[run.step].attempt_timeout
        deadline = instance.row.deadline
        if run.side is Side.UNDO or step.kind not in _REVERSIBLE:
            deadline = None
        if deadline is not None:
            limit = min(limit, deadline - began)
        ctx = self._context(run, deadline)
        context = Context(
            deadline=time.monotonic() + limit,
            attempt=run.attempt,
            key=ctx.key,
            priority=instance.carried.priority,
            traceparent=instance.carried.traceparent,
            tracestate=instance.carried.tracestate,
            correlation=instance.carried.correlation,
            causation=ctx.key,
        )
        half = self._undo if run.side is Side.UNDO else self._do
        scope = asyncio.timeout(limit)
        self._scopes[run.step] = scope
        end: BaseException | None = None
        span = _begun(instance, run, context) if listening() else 0
        with bind(context), commits() as committed:
            try:
                async with scope:
                    data = await self._carry(run, partial(half, step, ctx))
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  every end counts
                end = error
                # clients and databases count their effects; a guard only that it was called
                did = committed.count > 0 or sum(context.sequence.values()) > 1
                return self._failed(error, began, scope, partial=did)
            finally:
                del self._scopes[run.step]
                if span:
                    emit(_ended(instance, run, end, span))
                del end
        return Answer(What.OK, began, data)

    def _context(self, run: Run, deadline: float | None) -> StepContext:
        saga_id = self._instance.row.id
        scope = self._instance.saga.steps[run.step].scope
        return StepContext(
            key=key_of(saga_id, run.step, run.side),
            id=saga_id,
            step=run.step,
            attempt=run.attempt,
            deadline=None if deadline is None else datetime.fromtimestamp(deadline, UTC),
            find=lambda name: self._instance.result(scope + name),
        )

    async def _do(self, step: Step[..., Any], ctx: StepContext) -> bytes:
        instance = self._instance
        args, named = instance.bound(instance.saga.bindings(step), ctx)
        result = await step.function(instance.input_of(step), *args, **named)
        data, instance.values[step.name] = step.codec.record(result)
        return data

    async def _undo(self, step: Step[..., Any], ctx: StepContext) -> bytes | None:
        if step.undo is None:
            raise LookupError(f"step {step.name} has no undo")
        if step.kind is Kind.START:
            await step.undo.function(self._instance.given, self._why(), ctx)
            return None
        sure = self._instance.story.state.marks[step.name].fate is Fate.DONE
        done = self._instance.result(step.name) if sure else self._unknown(step)
        await step.undo.function(self._instance.input_of(step), done, ctx)
        return None

    def _why(self) -> str:
        """Return what turned the saga round."""
        told = undone(self._instance.row.id, self._instance.story.turned)
        return f"{told.step}: {told.why}" if told.step else told.why

    def _unknown(self, step: Step[..., Any]) -> Unknown:
        """Return what an undo is given for a step that may have been done."""
        story = self._instance.story
        failure = story.failures.get((step.name, Side.DO))
        told = failure.what if failure else "its worker stopped while it was attempted"
        reason = Reason(failure.reason) if failure and failure.reason else Reason.SERVER_ERROR
        unknown = Unknown(
            f"step {step.name} may have been done: {told}",
            reason=reason if failure else Reason.CANCELLED,
            key=key_of(self._instance.row.id, step.name, Side.DO),
            cause=failure.revived() if failure else None,
        )
        unknown.attempts = story.state.marks[step.name].do.attempt
        return unknown

    def _failed(
        self, error: BaseException, began: float, scope: asyncio.Timeout, *, partial: bool
    ) -> Answer:
        """Classify what an attempt raised. What is no outcome is a bug, and may have been done."""
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise error
        what = _what(error)
        if self._halted and what is What.UNKNOWN:
            return Answer(None, began)
        if scope.expired() and isinstance(error, TimeoutError):
            error = Unknown("the attempt took longer than it may", reason=Reason.TIMEOUT)
        retry_after = getattr(error, "retry_after", None) if what in _WAITS else None
        data = msgspec.json.encode(failure_of(error))
        return Answer(what, began, data, partial=partial, retry_after=retry_after)


_WAITS = frozenset({What.UNAVAILABLE, What.UNKNOWN})


def _begun(instance: Instance, run: Run, context: Context) -> int:
    """Signal that an attempt begins, and return the id for its end."""
    return began(
        SignalKind.SAGA_STEP_BEGAN,
        instance.saga.name,
        {
            "id": instance.row.id,
            "step": run.step,
            "side": run.side,
            "attempt": run.attempt,
            "traceparent": context.traceparent,
            "tracestate": context.tracestate,
        },
    )


def _ended(instance: Instance, run: Run, end: BaseException | None, span: int) -> Signal:
    outcome = "ok" if end is None else str(_what(end))
    detail: dict[str, Detail] = {
        "id": instance.row.id,
        "step": run.step,
        "side": run.side,
        "attempt": run.attempt,
        "outcome": outcome,
    }
    return Signal(SignalKind.SAGA_STEP_ENDED, instance.saga.name, detail, span)


def _what(error: BaseException) -> What:
    match error:
        case UnrecordableResult():
            return What.UNRECORDED
        case Rejected():
            return What.REJECTED
        case Refused():
            return What.REFUSED
        case Unavailable():
            return What.UNAVAILABLE
        case _:
            return What.UNKNOWN
