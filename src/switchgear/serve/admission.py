"""Admission at the doors: `policy/admission.py` decides, here requests wait and are answered.

A request is admitted after it was read and before anything of its own runs, hooks included. One
that is turned away is answered RESOURCE_EXHAUSTED, 429 over HTTP, with the `not-executed` mark and
the time after which to come back; one whose deadline passed in the queue DEADLINE_EXCEEDED, with
the mark. Why 429 and not 503: the outcome table takes an unmarked 429 for "certainly not done" and
an unmarked 503 for "may have been done". Who lost our mark on the way, or never knew it, is told
the truth all the same, and both doors say one thing.

A stream holds its place until it ends, and how long it takes is no measure of how busy the service
is: give streams that last places of their own (`Admission.operations`). Health checks, reflection
and `/openapi.json` are no operations, and never wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace
from time import monotonic
from typing import Final

from switchgear.contract.refusal import Refusal
from switchgear.contract.service import ServiceContract
from switchgear.errors import PolicyError
from switchgear.model.outcome import Reason, Status
from switchgear.model.signal import Signal, SignalKind, emit, listening
from switchgear.policy.admission import Admission, Turnstile, Verdict, Visitor
from switchgear.policy.settings import seconds
from switchgear.serve.alarm import alarms
from switchgear.serve.arrival import Arrival
from switchgear.serve.failure import Failed, TurnedAway, expired

__all__ = ["Desk", "desks"]

_CLOCKS: Final = 0.005
_WHY: Final = {
    Verdict.QUEUE_FULL: "too many requests wait already",
    Verdict.WAITED: "no place became free in time",
    Verdict.SHEDDABLE: "requests that can be done without are not served now",
}


class Desk:
    """Where requests are admitted that share their places. Belongs to one event loop."""

    __slots__ = ("_retry_after", "settings", "subject", "turnstile")

    def __init__(self, settings: Admission, subject: str) -> None:
        self.settings = settings
        self.subject = subject
        """What shares the places, for signals: a contract, an operation, or the whole service."""
        self.turnstile = Turnstile(settings, self._report)
        self._retry_after = seconds(settings.retry_after)

    async def enter(self, arrival: Arrival) -> Visitor:
        """Admit a request, at once or when a place is free; give it to `leave` when it has ended.

        The priority in the arrival's context becomes the one that is trusted. Raises `TurnedAway`.
        """
        context = arrival.context
        priority = self.settings.priority_of(arrival.operation.name, context.priority)
        if priority is not context.priority:
            arrival.context = replace(context, priority=priority)
        visitor = Visitor(priority, context.deadline)
        began = monotonic()
        self.turnstile.arrive(began, visitor)
        if visitor.verdict is Verdict.ADMITTED and not visitor.spared:
            return visitor
        self._wake()
        if visitor.verdict is None:
            await self._wait(visitor)
        if visitor.verdict is not Verdict.ADMITTED or visitor.spared:
            self._turned_away(arrival, visitor, monotonic() - began)
        return visitor

    def leave(self, arrival: Arrival, visitor: Visitor, end: BaseException | None) -> None:
        """Give the place of an admitted request back; `end` is what it raised, None: nothing."""
        now = monotonic()
        late, done = False, True
        if end is not None:
            late = isinstance(end, Failed) and end.reason is Reason.TIMEOUT
            if isinstance(end, asyncio.CancelledError):
                # gRPC's core cancels what is late, by a clock of its own that is a little before
                # ours; anybody else who cancels says nothing about how busy we are
                late = now >= visitor.deadline - _CLOCKS
            done = isinstance(end, Refusal)
        operation = arrival.operation
        measured = done and not (operation.streaming or operation.takes_stream)
        self.turnstile.left(now, visitor, measured=measured, overloaded=late)
        if self.turnstile.outbox:
            self._wake()

    async def _wait(self, visitor: Visitor) -> None:
        """Wait until the verdict is found, by others or because the time is up."""
        woken = asyncio.get_running_loop().create_future()

        def wake() -> None:
            if not woken.done():
                woken.set_result(None)

        visitor.wake = wake
        slot = alarms().set(visitor.until, wake)
        try:
            await woken
        except asyncio.CancelledError:
            self.turnstile.abandoned(monotonic(), visitor)
            self._wake()
            raise
        finally:
            slot.pop(wake, None)
        self.turnstile.overdue(monotonic(), visitor)

    def _wake(self) -> None:
        """Wake those whose verdict was found."""
        taken, self.turnstile.outbox = self.turnstile.outbox, []
        for visitor in taken:
            if visitor.wake is not None:
                visitor.wake()

    def _turned_away(self, arrival: Arrival, visitor: Visitor, waited: float) -> None:
        """Report a request that was turned away, or would have been; raise if it was."""
        verdict = visitor.verdict
        if listening():
            emit(
                Signal(
                    SignalKind.REQUEST_SHED,
                    arrival.operation.full_name,
                    {
                        "reason": "observed" if visitor.spared else str(verdict),
                        "priority": str(visitor.priority),
                        "waited": waited,
                        "caller": arrival.context.caller,
                    },
                )
            )
        if visitor.spared or verdict is None:
            return
        if verdict is Verdict.EXPIRED:
            raise expired()
        raise TurnedAway(
            f"the service has too much to do: {_WHY[verdict]}.",
            status=Status.RESOURCE_EXHAUSTED,
            retry_after=self._retry_after,
        )

    def _report(
        self, kind: SignalKind, detail: Mapping[str, str | int | float | bool | None]
    ) -> None:
        if listening():
            emit(Signal(kind, self.subject, detail))


def desks(
    contracts: Iterable[ServiceContract],
    admission: Admission | None,
    own: Mapping[str, Admission],
) -> dict[str, Desk]:
    """Return the desk of each operation, by its full name; an operation without has none.

    `own` holds what a contract has instead of `admission`, by its full name. Contracts that were
    given the same object share its places. Raises `PolicyError` if an `Admission` names an
    operation that none of its contracts has.
    """
    found: dict[str, Desk] = {}
    shared: dict[int, Desk] = {}
    names: dict[int, set[str]] = {}
    for contract in contracts:
        settings = own.get(contract.full_name, admission)
        if settings is None:
            continue
        subject = contract.full_name if contract.full_name in own else "service"
        desk = shared.setdefault(id(settings), Desk(settings, subject))
        names.setdefault(id(settings), set()).update(contract.operations)
        for name, operation in contract.operations.items():
            apart = settings.operations.get(name)
            found[operation.full_name] = (
                Desk(apart, operation.full_name) if isinstance(apart, Admission) else desk
            )
    for key, desk in shared.items():
        for name in desk.settings.operations:
            if name not in names[key]:
                raise PolicyError(
                    f"operations names {name}, which is no operation of what it admits to.",
                    where="Admission",
                    fix=f"There are: {', '.join(sorted(names[key]))}.",
                )
    return found
