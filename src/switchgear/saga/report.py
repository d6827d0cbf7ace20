"""The signals that tell of a saga's course, whoever drives it."""

from __future__ import annotations

from switchgear.model.signal import Detail, Signal, SignalKind, emit, listening
from switchgear.saga.plan import Plan
from switchgear.saga.state import Next
from switchgear.saga.stores.port import Line

__all__ = ["report_line", "report_start"]


def report_start(plan: Plan, saga_id: str) -> None:
    """Tell that a saga begins."""
    if listening():
        _report(plan, saga_id, SignalKind.SAGA_STARTED)


def report_line(
    plan: Plan,
    line: Line,
    *,
    saga_id: str,
    began: float,
    before: str,
    status: str,
    error: str | None = None,
) -> None:
    """Tell of a line of the journal of a saga that `began` then.

    Its status was `before`, and is `status` now. `error` is what the step failed with.
    """
    if not listening():
        return
    entry = line.entry
    if entry.side is not None:
        took = None if line.began is None else entry.at - line.began
        _report(
            plan,
            saga_id,
            SignalKind.SAGA_STEP,
            step=entry.step,
            side=entry.side,
            attempt=entry.attempt,
            what=entry.what,
            next=entry.next,
            seconds=took,
        )
    if before == "running" and entry.next is Next.UNDO:
        kind = SignalKind.SAGA_COMPENSATING
        _report(plan, saga_id, kind, step=entry.step, what=entry.what)
    if entry.next is Next.QUEUE:
        kind = SignalKind.SAGA_QUEUED
        _report(plan, saga_id, kind, step=entry.step, side=entry.side, error=error)
    if status in {"done", "undone"}:
        _report(plan, saga_id, SignalKind.SAGA_ENDED, status=status, seconds=entry.at - began)


def _report(plan: Plan, saga_id: str, kind: SignalKind, **detail: Detail) -> None:
    emit(Signal(kind, plan.saga, {"id": saga_id, "version": plan.version, **detail}))
