"""Sagas: several steps, all or none, written undo first.

checkout = Saga("checkout", version=1, deadline=timedelta(minutes=15))

@checkout.undo(runbook="runbooks/release.md")
async def release(order: Order, done: Reservation | Unknown, ctx: Context) -> None: ...

@release.undoes
async def reserve(order: Order, ctx: Context) -> Reservation: ...

checkout.path(reserve >> debit >> ship >> confirm)
engine = Engine(database, sagas=[checkout])
run = await engine.start(tx, checkout, order, id=order.order_id)
"""

from switchgear.saga.context import StepContext
from switchgear.saga.context import StepContext as Context
from switchgear.saga.definition import Runbook, Saga, Step, Undo
from switchgear.saga.engine import Engine
from switchgear.saga.errors import (
    BarrierClosed,
    Held,
    NoSuchSaga,
    NotCommitted,
    SagaConflict,
    SagaLocked,
    SagaUndone,
    SagaUnfinished,
    StateMoved,
    StepFailed,
    TemporalRefused,
    UnrecordableResult,
)
from switchgear.saga.plan import Backoff, Kind, Plan, Side
from switchgear.saga.run import Done, Run, RunState
from switchgear.saga.state import Fate

__all__ = [
    "Backoff",
    "BarrierClosed",
    "Context",
    "Done",
    "Engine",
    "Fate",
    "Held",
    "Kind",
    "NoSuchSaga",
    "NotCommitted",
    "Plan",
    "Run",
    "RunState",
    "Runbook",
    "Saga",
    "SagaConflict",
    "SagaLocked",
    "SagaUndone",
    "SagaUnfinished",
    "Side",
    "StateMoved",
    "Step",
    "StepContext",
    "StepFailed",
    "TemporalRefused",
    "Undo",
    "UnrecordableResult",
]
