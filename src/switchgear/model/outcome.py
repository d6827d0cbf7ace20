"""How any call ends: one taxonomy, used by policies, sagas and events alike.

| outcome       | meaning              | breaker | retry                      | saga             |
| ------------- | -------------------- | ------- | -------------------------- | ---------------- |
| `Ok`          | done                 | success | no                         | go on            |
| `Refused`     | a definitive no      | success | no                         | compensate       |
| `Unavailable` | certainly not done   | failure | inside budget and deadline | retry, then undo |
| `Unknown`     | may have been done   | failure | a query or a keyed command | ask, same key    |

An outcome is a value: inside the library it is passed, never thrown. The three that are not `Ok`
are also exceptions, so that the same object is what a caller of a typed client catches.
`Refused` has two kinds: a `Refusal` that the contract declares (in `switchgear.contract`), and
`Rejected`, where the request itself was turned away.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeAlias, TypeVar

from switchgear.errors import CallError
from switchgear.model.trail import Trail, told

__all__ = [
    "Ok",
    "Outcome",
    "Reason",
    "Refused",
    "Rejected",
    "Status",
    "Unavailable",
    "Unknown",
    "twin",
]

T = TypeVar("T")


class Status(StrEnum):
    """The canonical status names of gRPC (google.rpc.Code), used on both wires."""

    OK = "OK"
    CANCELLED = "CANCELLED"
    UNKNOWN = "UNKNOWN"
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    ABORTED = "ABORTED"
    OUT_OF_RANGE = "OUT_OF_RANGE"
    UNIMPLEMENTED = "UNIMPLEMENTED"
    INTERNAL = "INTERNAL"
    UNAVAILABLE = "UNAVAILABLE"
    DATA_LOSS = "DATA_LOSS"
    UNAUTHENTICATED = "UNAUTHENTICATED"


class Reason(StrEnum):
    """Why a call was `Unavailable` or `Unknown`. The caller's side decides the first group."""

    BREAKER_OPEN = "breaker-open"
    LIMIT = "limit"
    BUDGET = "budget"
    THROTTLED = "throttled"
    EXPIRED = "expired"
    """The deadline had passed before the request left."""

    CONNECT = "connect"
    """Refused connection, name not found, failed handshake: the request never left."""
    NOT_EXECUTED = "not-executed"
    """The callee says, by our mark or by RESOURCE_EXHAUSTED / 429, that it did nothing."""

    TIMEOUT = "timeout"
    RESET = "reset"
    CANCELLED = "cancelled"
    SERVER_ERROR = "server-error"
    """A failure after the request was sent that does not say whether it was carried out."""


# not frozen: a frozen dataclass costs several times as much to make, and one is made per call
@dataclass(slots=True)
class Ok(Generic[T]):
    """The call was carried out and answered with `value`."""

    value: T


class Refused(CallError):
    """A definitive no: nothing was done, and asking again will not change that."""

    code = "SG410"


class Rejected(Refused):
    """The request itself was turned away: malformed, not permitted, no such thing.

    `pointer` names the offending field where one is known, as an RFC 6901 JSON pointer.
    """

    code = "SG411"

    def __init__(
        self,
        what: str,
        *,
        status: Status = Status.INVALID_ARGUMENT,
        pointer: str | None = None,
        where: str | None = None,
    ) -> None:
        super().__init__(what, where=where)
        self.status = status
        self.pointer = pointer


class _Failed(CallError):
    """What `Unavailable` and `Unknown` have in common."""

    def __init__(
        self,
        what: str = "",
        *,
        reason: Reason,
        retry_after: float | None = None,
        final: bool = False,
        where: str | None = None,
        cause: BaseException | None = None,
    ) -> None:
        super().__init__(what or f"{type(self).__name__}: {reason}", where=where)
        self.reason = reason
        self.retry_after = retry_after
        """Seconds that the callee asked us to wait before another attempt; None: it did not say."""
        self.final = final
        """A layer below has already retried and given up: layers above must not multiply it."""
        self.attempts = 1
        """How many attempts were made in all."""
        self.trail: Trail = ()
        """The edges that it has passed, in this process and below, the first cause first."""
        self.__cause__ = cause

    def __str__(self) -> str:
        # a trail of one hop says nothing that is not said already
        return f"{super().__str__()} ({told(self.trail)})" if self.trail[1:] else super().__str__()


class Unavailable(_Failed):
    """Certainly not done. Safe to try again, whatever the operation."""

    code = "SG420"

    @property
    def local(self) -> bool:
        """Turned away on the caller's side: says nothing about the callee's health."""
        return self.reason in _LOCAL


class Unknown(_Failed):
    """May have been done: a timeout, a lost reply, a failure after the request was sent.

    `key` is the idempotency key under which it was sent, if there was one: asking again with the
    same key is how the outcome becomes known.
    """

    code = "SG430"

    def __init__(
        self,
        what: str = "",
        *,
        reason: Reason,
        key: str | None = None,
        retry_after: float | None = None,
        final: bool = False,
        where: str | None = None,
        cause: BaseException | None = None,
    ) -> None:
        super().__init__(
            what, reason=reason, retry_after=retry_after, final=final, where=where, cause=cause
        )
        self.key = key


_LOCAL = frozenset(
    {Reason.BREAKER_OPEN, Reason.LIMIT, Reason.BUDGET, Reason.THROTTLED, Reason.EXPIRED}
)

E = TypeVar("E", bound=CallError)


def twin(outcome: E) -> E:
    """Return another object that is the same failure, for one more caller to catch.

    An exception that is raised twice would collect the traces of both.
    """
    other = type(outcome).__new__(type(outcome), *outcome.args)
    vars(other).update(vars(outcome))
    other.__cause__ = outcome.__cause__
    return other


Outcome: TypeAlias = Ok[T] | Refused | Unavailable | Unknown
