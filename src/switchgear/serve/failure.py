"""How a request can fail, and what each door says about it.

| what happened                                        | HTTP, gRPC                | mark          |
| ---------------------------------------------------- | ------------------------- | ------------- |
| a refusal that the operation declares                | its status (422, ...)     |               |
| `Rejected` by the door, by `before`, by the handler  | its status (400, 404 ...) |               |
| an idempotency key with another message              | 422 FAILED_PRECONDITION   |               |
| the first request with the key has not ended         | 409 ABORTED               |               |
| too much to do: no place for the request             | 429 RESOURCE_EXHAUSTED    | not-executed  |
| the deadline passed before the handler began         | 504 DEADLINE_EXCEEDED     | not-executed  |
| the deadline passed while the handler ran            | 504 DEADLINE_EXCEEDED     |               |
| the database was locked or gone; nothing committed   | 503 UNAVAILABLE           | not-executed  |
| the same, after a commit; lost during a commit       | 500 INTERNAL              |               |
| a call of the handler's own was `Unavailable`        | 503 UNAVAILABLE           | retry: no, if |
| a call of the handler's own was `Unknown`            | 500 INTERNAL              | it was final  |
| a call of the handler's own was rejected             | 500 INTERNAL              |               |
| a refusal that is not declared; anything else        | 500 INTERNAL              |               |

The last six are in the log with an id, and only the id goes out. A handler turns a request away by
raising `Rejected` itself; one that comes from a call of its own has `where` set, and is the
handler's mistake, not the caller's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from switchgear.contract.message import Message
from switchgear.contract.refusal import Refusal
from switchgear.contract.service import Operation
from switchgear.database.port import DatabaseUnavailable
from switchgear.model import wire
from switchgear.model.outcome import Reason, Refused, Rejected, Status, Unavailable, Unknown
from switchgear.model.trail import Hop, Trail, told, write
from switchgear.serve.unit import InProgress

__all__ = [
    "Failed",
    "Failure",
    "TurnedAway",
    "alone",
    "encode",
    "expired",
    "failure_of",
    "outcome_of",
    "overran",
    "took_too_long",
]

log = logging.getLogger("switchgear.serve")

_BUSY_RETRY: Final = 1.0
_DEEPEST: Final = 16
"""How many causes of an error are looked at for the failure of a call."""


class TurnedAway(Unavailable):
    """The request was certainly not carried out; the door says so with the `not-executed` mark."""

    code = "SG301"

    def __init__(
        self, what: str, *, status: Status = Status.UNAVAILABLE, retry_after: float | None = None
    ) -> None:
        super().__init__(what, reason=Reason.NOT_EXECUTED, retry_after=retry_after)
        self.status = status


class Failed(Unknown):
    """The request may have been carried out. `id` is that of the log's entry, if there is one."""

    code = "SG302"

    def __init__(
        self,
        what: str,
        *,
        status: Status = Status.INTERNAL,
        reason: Reason = Reason.SERVER_ERROR,
        final: bool = False,
        id: str | None = None,  # noqa: A002  what the log and the wire call it
        cause: BaseException | None = None,
    ) -> None:
        super().__init__(what, reason=reason, final=final, cause=cause)
        self.status = status
        self.id = id


@dataclass(frozen=True, slots=True)
class Failure:
    """What a door says about a request that failed."""

    status: Status
    code: str
    """Stable code of the error: the problem's type where it is no refusal."""
    detail: str
    pointer: str | None = None
    """The offending field, as an RFC 6901 JSON pointer."""
    refusal: Refusal | None = None
    retry_after: float | None = None
    id: str | None = None
    not_executed: bool = False
    final: bool = False
    trail: Trail = ()

    def marks(self) -> dict[str, str]:
        """Return the marks of `switchgear.model.wire` that go with it."""
        found: dict[str, str] = {}
        if self.not_executed:
            found[wire.OUTCOME] = wire.NOT_EXECUTED
        if self.final:
            found[wire.RETRY] = wire.FINAL
        if self.trail:
            found[wire.TRAIL] = write(self.trail)
        return found


def expired(when: str = "when the request arrived") -> TurnedAway:
    """Return the outcome of a request whose deadline had passed before its handler began."""
    return TurnedAway(f"the deadline had passed {when}.", status=Status.DEADLINE_EXCEEDED)


def overran(cause: BaseException | None, operation: Operation, took: float) -> Failed:
    """Return the outcome of a request whose deadline passed while its handler ran.

    A call of its own would have ended before, so the handler itself took the time: `took` seconds.
    """
    failed = Failed(
        "the deadline passed while the request was being carried out.",
        status=Status.DEADLINE_EXCEEDED,
        reason=Reason.TIMEOUT,
        cause=cause,
    )
    failed.trail = took_too_long(operation, took)
    return failed


def took_too_long(operation: Operation, took: float) -> Trail:
    """Log that a handler was cut at its deadline, after `took` seconds, and return the trail."""
    trail = (Hop(operation.full_name, "unknown", "timeout", seconds=took),)
    fields = {"operation": operation.full_name} | _first(trail)
    what = "%s was not carried out in time (%s)"
    log.warning(what, operation.full_name, told(trail), extra={"fields": fields})
    return trail


def outcome_of(
    error: BaseException, operation: Operation, *, committed: int
) -> Refused | Unavailable | Unknown:
    """Return the outcome, for the caller, of a request whose handler raised `error`.

    `committed` is how many effects it had before. Logs what is the service's own failure.
    """
    error = alone(error)
    if isinstance(error, Refusal) and type(error) in operation.refuses:
        return error
    if isinstance(error, Rejected) and error.where is None:
        return error
    if isinstance(error, InProgress | Failed | TurnedAway):
        return error
    if isinstance(error, DatabaseUnavailable) and not committed:
        return TurnedAway(
            "the database is busy or gone, and nothing was done.",
            retry_after=error.retry_after or _BUSY_RETRY,
        )
    inner = isinstance(error, Unavailable | Unknown) and not isinstance(error, DatabaseUnavailable)
    name = uuid4().hex
    trail = _trail_of(error)
    fields = {"operation": operation.full_name, "error_id": name} | _first(trail)
    # a failure tells its trail itself, if there is more to tell than its own edge
    cause = "" if not trail or (inner and trail[1:]) else f" ({told(trail)})"
    if inner:
        log.warning(
            "%s failed, error id %s: %s%s",
            operation.full_name,
            name,
            error,
            cause,
            extra={"fields": fields},
        )
    else:
        log.error(
            "%s failed, error id %s%s",
            operation.full_name,
            name,
            cause,
            exc_info=error,
            extra={"fields": fields},
        )
    away = inner and isinstance(error, Unavailable)
    failed = Failed(
        "a service that this one depends on is not available."
        if away
        else "the service failed; its log has the reason under this id.",
        status=Status.UNAVAILABLE if away else Status.INTERNAL,
        final=isinstance(error, Unavailable | Unknown) and error.final,
        id=name,
        cause=error,
    )
    failed.trail = trail
    return failed


def _trail_of(error: BaseException | None) -> Trail:
    """Return the trail of a failed call, be it that a handler has raised something else for it."""
    for _ in range(_DEEPEST):
        if error is None:
            break
        if isinstance(error, Unavailable | Unknown) and error.trail:
            return error.trail
        error = error.__cause__ or error.__context__
    return ()


def _first(trail: Trail) -> dict[str, object]:
    """Return the first cause as fields of a log line."""
    if not trail:
        return {}
    first = trail[0]
    return {"first_cause": first.edge, "reason": first.reason, "trail": write(trail)}


def failure_of(outcome: Refused | Unavailable | Unknown) -> Failure:
    """Return what a door says about `outcome`, which `Dispatcher.handle` raised."""
    if isinstance(outcome, Refusal):
        doc = (type(outcome).__doc__ or "").strip().split("\n", 1)[0]
        return Failure(outcome.status, outcome.code, doc or outcome.what, refusal=outcome)
    if isinstance(outcome, Rejected):
        return Failure(outcome.status, outcome.code, outcome.what, pointer=outcome.pointer)
    if isinstance(outcome, TurnedAway):
        return Failure(
            outcome.status,
            outcome.code,
            outcome.what,
            retry_after=outcome.retry_after,
            not_executed=True,
        )
    if isinstance(outcome, Failed):
        return Failure(
            outcome.status,
            outcome.code,
            outcome.what,
            id=outcome.id,
            final=outcome.final,
            trail=outcome.trail,
        )
    if isinstance(outcome, InProgress):
        return Failure(Status.ABORTED, outcome.code, outcome.what, retry_after=outcome.retry_after)
    raise TypeError(f"{outcome!r} is not what a dispatcher raises")


TITLES: Final[Mapping[Status, str]] = {
    Status.CANCELLED: "Cancelled",
    Status.UNKNOWN: "Failed",
    Status.INVALID_ARGUMENT: "Not valid",
    Status.DEADLINE_EXCEEDED: "Deadline passed",
    Status.NOT_FOUND: "Not found",
    Status.ALREADY_EXISTS: "Exists already",
    Status.PERMISSION_DENIED: "Not permitted",
    Status.RESOURCE_EXHAUSTED: "Too much",
    Status.FAILED_PRECONDITION: "Not possible as things stand",
    Status.ABORTED: "In progress",
    Status.OUT_OF_RANGE: "Out of range",
    Status.UNIMPLEMENTED: "Not offered",
    Status.INTERNAL: "Failed",
    Status.UNAVAILABLE: "Not available",
    Status.DATA_LOSS: "Failed",
    Status.UNAUTHENTICATED: "Not authenticated",
}
"""What a person reads first."""


def encode(encoder: Callable[[Message], bytes], reply: Message, operation: Operation) -> bytes:
    """Write a reply; raises `Failed` where a handler has returned what cannot be written."""
    try:
        return encoder(reply)
    except Exception as error:
        raise outcome_of(error, operation, committed=1) from error


def alone(error: BaseException) -> BaseException:
    """Unwrap a group that holds one error: what a task group makes of a refusal raised in it."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
