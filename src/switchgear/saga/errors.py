"""What a saga says when it cannot be started, asked or operated as wished."""

from __future__ import annotations

from switchgear.errors import SagaError
from switchgear.model.outcome import Reason, Refused, Unknown

__all__ = [
    "BarrierClosed",
    "Held",
    "NoSuchSaga",
    "NotCommitted",
    "SagaConflict",
    "SagaLocked",
    "SagaUndone",
    "SagaUnfinished",
    "StateMoved",
    "StepFailed",
    "TemporalRefused",
    "UnrecordableResult",
]


class SagaConflict(SagaError):
    """The id is taken by another saga, or by the same one with another input."""

    code = "SG701"


class NotCommitted(SagaError):
    """A run was asked for its outcome before the transaction that starts it was committed."""

    code = "SG702"


class NoSuchSaga(SagaError):
    """No saga, definition or work item has this name or id."""

    code = "SG703"


class StateMoved(SagaError):
    """A work item was operated on, and the saga is no longer where the operator saw it."""

    code = "SG704"


class Held(StateMoved):
    """A worker is at work on the saga right now; once it has written down what came of it, act."""

    code = "SG710"

    def __init__(self, saga_id: str) -> None:
        super().__init__(
            f"a worker is at work on saga {saga_id} right now.", fix="Try again in a moment."
        )


class SagaLocked(SagaError):
    """Another saga about the same thing has not ended, and this one does not wait for it."""

    code = "SG711"


class TemporalRefused(SagaError):
    """Temporal, or what it is told about a place or a saga, does not allow what was asked."""

    code = "SG712"


class StepFailed(SagaError):
    """What a step raised, as it stands in the record: the cause of an `Unknown` given to an undo.

    `kind` is the name of the exception's type, or a refusal's contract name.
    """

    code = "SG705"

    def __init__(self, what: str, *, kind: str) -> None:
        super().__init__(what)
        self.kind = kind


class UnrecordableResult(Refused):
    """A step returned what cannot be written to the record as its declared result type."""

    code = "SG706"


class BarrierClosed(Refused):
    """A step arrived at a participant after its undo: it must not be carried out any more."""

    code = "SG707"


class SagaUndone(Refused):
    """The saga ended undone: every effect that it had was compensated.

    `step` is where it turned round and `why` what was recorded there. `refusal` is the typed
    refusal, if a refusal declared in a contract was the reason and its class is loaded here.
    """

    code = "SG708"

    def __init__(self, id: str, *, step: str, why: str, refusal: Refused | None = None) -> None:  # noqa: A002
        at = f" at step {step}" if step else ""
        super().__init__(f"saga {id} was undone; it turned round{at}: {why}")
        self.id = id
        self.step = step
        self.why = why
        self.refusal = refusal
        self.__cause__ = refusal


class SagaUnfinished(Unknown):
    """The saga has not ended in the time given, or waits for a person. Ask again by its id.

    `status` is where it stands: running, undoing or queued.
    """

    code = "SG709"

    def __init__(self, id: str, *, status: str, what: str) -> None:  # noqa: A002
        super().__init__(what, reason=Reason.TIMEOUT, key=id)
        self.id = id
        self.status = status
