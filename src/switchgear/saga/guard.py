"""The breakers of undos: who fails is not asked by every saga that has to turn round.

An outage turns many sagas round at once, and their undos all go to who is out of order or has just
come back. So the undos of one kind share a breaker in each worker, with the rules of the policies
(`switchgear.policy.breaker`). An undo that it turns away was attempted without effect: that is in
the record, and it is repeated when the breaker lets calls through again. It uses up an attempt like
any other, so that a participant that never comes back puts every saga in front of a person.

| an attempt ends                         | for the breaker          |
| --------------------------------------- | ------------------------ |
| done, refused, rejected                 | a success: it answered   |
| unavailable, unknown, a bug, timed out  | a failure                |
| cut short because the worker stops      | nothing                  |
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from switchgear.model.context import current
from switchgear.model.outcome import Reason, Refused, Unavailable
from switchgear.model.signal import Signal, SignalKind, emit, listening
from switchgear.policy.breaker import Circuit, Ticket
from switchgear.saga.attempt import Call, Carry
from switchgear.saga.definition import Saga
from switchgear.saga.plan import Side
from switchgear.saga.state import Run

__all__ = ["Guards"]


class Guards:
    """The breakers of one worker. `draw` gives numbers in [0, 1), `clock` seconds that only grow.

    `of(saga)` is what carries the attempts of one of its sagas.
    """

    def __init__(
        self, draw: Callable[[], float], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._draw = draw
        self._clock = clock
        self._circuits: dict[tuple[str, str], Circuit] = {}

    def of(self, saga: Saga) -> Carry:
        """Return what carries the attempts of a saga."""

        async def carry(run: Run, call: Call) -> bytes | None:
            if run.side is not Side.UNDO:
                return await call()
            return await self._undo(self._circuit(saga, run.step), call)

        return carry

    async def _undo(self, circuit: Circuit, call: Call) -> bytes | None:
        began = self._clock()
        ticket = circuit.admit(began)
        if ticket is None:
            raise Unavailable(
                "the breaker of this undo is open: it was not called",
                reason=Reason.BREAKER_OPEN,
                retry_after=circuit.wait(began),
            )
        end: Callable[[float, Ticket, float], None] | None = circuit.failed
        try:
            result = await call()
            end = circuit.succeeded
        except Refused:
            end = circuit.succeeded
            raise
        except asyncio.CancelledError:
            if not _is_late():
                end = None
            raise
        finally:
            now = self._clock()
            if end is None:
                circuit.released(ticket)
            else:
                end(now, ticket, now - began)
        return result

    def _circuit(self, saga: Saga, step: str) -> Circuit:
        key = saga.plan.id, step
        found = self._circuits.get(key)
        if found is None:
            found = self._circuits[key] = _circuit_of(saga, step, self._draw)
        return found


def _is_late() -> bool:
    """Tell whether the attempt has had the time that it may take."""
    deadline = current().deadline
    return deadline is not None and time.monotonic() >= deadline


def _circuit_of(saga: Saga, step: str, draw: Callable[[], float]) -> Circuit:
    undo = saga.steps[step].undo
    if undo is None:
        raise LookupError(f"step {step} has no undo")
    name = f"{saga.name}/{undo.name}"

    def report(kind: SignalKind, detail: Mapping[str, str | int | float | bool | None]) -> None:
        if listening():
            emit(Signal(kind, name, detail))

    return Circuit(undo.breaker, draw, report)
