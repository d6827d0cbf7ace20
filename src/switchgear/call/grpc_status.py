"""What gRPC's errors mean, for every client that speaks it, and the errors of guarded channels.

| what happens                                            | outcome                         |
| ------------------------------------------------------- | ------------------------------- |
| the channel does not get connected, in time or at all   | `Unavailable(CONNECT)`          |
| a status with the `not-executed` mark                   | `Unavailable(NOT_EXECUTED)`     |
| any other status                                        | as `wire.grpc_verdict` says     |

so UNAVAILABLE after sending is `Unknown`. What gRPC's own core answers with RESOURCE_EXHAUSTED is
told by its words, because nothing else tells it: a reply or trailers over a limit of ours are
`Unknown`, and final, because another would be as large; a request over a limit of theirs is a
definitive no.

A guarded channel raises gRPC's own error for a definitive no. For the other two it raises what is
both ours and gRPC's: `except Unavailable` and `except grpc.RpcError` catch it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from switchgear.call.answer import Begun, inherited
from switchgear.call.exchange import adopted
from switchgear.call.marks import failure, headers, pushback
from switchgear.errors import MissingExtra
from switchgear.model import wire
from switchgear.model.context import Context
from switchgear.model.edge import Pattern
from switchgear.model.outcome import Reason, Refused, Rejected, Status, Unavailable, Unknown
from switchgear.model.trail import FLOOR, Spent
from switchgear.model.wire import Verdict
from switchgear.policy.machine import Attempt

try:
    import grpc
    import grpc.aio
except ImportError as error:
    raise MissingExtra("grpcio", "grpc") from error

if TYPE_CHECKING:
    from switchgear.call.guard import Guard

__all__ = [
    "STATUS",
    "AioUnavailable",
    "AioUnknown",
    "GrpcUnavailable",
    "GrpcUnknown",
    "Pairs",
    "Rpc",
    "answered_slowly",
    "classify",
    "grpc_failure",
    "verdict_of",
]

Pairs: TypeAlias = Iterable[tuple[str, str | bytes]]

STATUS: Final = {code: Status[code.name] for code in grpc.StatusCode}
_REASONS: Final = {
    Status.DEADLINE_EXCEEDED: Reason.TIMEOUT,
    Status.CANCELLED: Reason.CANCELLED,
    Status.UNAVAILABLE: Reason.RESET,
}
_CODES: Final = {
    Reason.TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    Reason.EXPIRED: grpc.StatusCode.DEADLINE_EXCEEDED,
    Reason.CANCELLED: grpc.StatusCode.CANCELLED,
}
_OUR_LIMITS: Final = ("Stream removed", "CLIENT: ", "metadata size exceeds")
_THEIR_LIMIT: Final = "SERVER: Received message larger"


def verdict_of(status: Status, told: str) -> Verdict:
    """Return the class of outcome that a status and gRPC's words for it stand for."""
    if status is Status.RESOURCE_EXHAUSTED:
        if _THEIR_LIMIT in told:
            return Verdict.REFUSED
        if _over_our_limit(told):
            return Verdict.UNKNOWN
    return wire.grpc_verdict(status)


def _over_our_limit(told: str) -> bool:
    """Tell whether gRPC's words for RESOURCE_EXHAUSTED are about what we were answered."""
    return any(words in told for words in _OUR_LIMITS)


def grpc_failure(
    status: Status,
    told: str,
    trailers: Mapping[str, Any],
    *,
    verdict: Verdict | None = None,
    wait: float | None = None,
    cause: BaseException | None = None,
) -> Unavailable | Unknown | None:
    """Return the failure that a status stands for; None: it is a definitive no, or no failure.

    wait: seconds to wait, as the status' details say; a pushback in the trailers outweighs it.
    """
    asked = pushback(trailers.get(wire.GRPC_PUSHBACK))
    found = failure(
        verdict or verdict_of(status, told),
        told or str(status),
        trailers,
        reason=_REASONS.get(status, Reason.SERVER_ERROR),
        wait=wait if asked is None else asked,
        cause=cause,
    )
    if found is not None and status is Status.RESOURCE_EXHAUSTED and _over_our_limit(told):
        found.final = True  # it would be as large again
    return found


def classify(error: Exception) -> Unavailable | Unknown | None:
    """Return the outcome that an error of gRPC stands for; None: it stands for none."""
    # a bare RpcError has none of the methods
    if not isinstance(error, grpc.RpcError) or not callable(getattr(error, "code", None)):
        return None
    pairs: Any = error.trailing_metadata() or ()
    trailers = dict(pairs)
    return grpc_failure(STATUS[error.code()], error.details() or "", trailers, cause=error)


async def answered_slowly(call: Any, attempt: Attempt, spent: Spent) -> None:
    """Read where the time of an answer went, if it took any: trailers cost more than most calls."""
    if monotonic() - attempt.started > FLOOR:
        trailers = dict(await call.trailing_metadata() or ())
        spent.answered(attempt.call, trailers.get(wire.TRAIL))


class _Code(str):  # noqa: SLOT000  a str cannot have slots of its own and a value
    """A stable code of ours which, called, is gRPC's: both have chosen the name `code`."""

    status: grpc.StatusCode

    def __call__(self) -> grpc.StatusCode:
        return self.status


class _Told:
    """What gRPC's errors can be asked: the status, and what came with it."""

    def _take(self, status: grpc.StatusCode, last: grpc.RpcError | None) -> None:
        ours: Any = self  # it is mixed into an error of ours
        code = _Code(type(ours).code)
        code.status = status
        ours.code = code
        # plain values, because errors are pickled and gRPC's are not made for it
        self._details = str(self) if last is None else last.details()
        pairs: Any = () if last is None else last.trailing_metadata() or ()
        self._trailing = tuple((name, value) for name, value in pairs)

    def details(self) -> str | None:
        """Return what the callee said, or what happened where it said nothing."""
        return self._details

    def trailing_metadata(self) -> tuple[Any, ...]:
        """Return the trailing metadata of the last attempt."""
        return self._trailing

    def initial_metadata(self) -> tuple[Any, ...]:
        """Return nothing: what failed has none that matters."""
        return ()

    def debug_error_string(self) -> str:
        """Return the whole sentence."""
        return str(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


class _AioTold(_Told):
    """The same with the metadata of grpc.aio, which is a mapping too."""

    def trailing_metadata(self) -> Any:
        """Return the trailing metadata of the last attempt."""
        return grpc.aio.Metadata(*self._trailing)

    def initial_metadata(self) -> Any:
        """Return nothing: what failed has none that matters."""
        return grpc.aio.Metadata()


# gRPC's `code` is a method and ours is text; `_Code` is both
class GrpcUnavailable(_Told, Unavailable, grpc.RpcError):  # type: ignore[misc]
    """`Unavailable`, for code that expects the errors of grpc."""


class GrpcUnknown(_Told, Unknown, grpc.RpcError):  # type: ignore[misc]
    """`Unknown`, for code that expects the errors of grpc."""


class AioUnavailable(_AioTold, Unavailable, grpc.aio.AioRpcError):  # type: ignore[misc]
    """`Unavailable`, for code that expects the errors of grpc.aio."""


class AioUnknown(_AioTold, Unknown, grpc.aio.AioRpcError):  # type: ignore[misc]
    """`Unknown`, for code that expects the errors of grpc.aio."""


def target_of(channel: object) -> str:
    """Return what a channel leads to, as it was made; its own id where it does not tell."""
    below: Any = channel
    while below is not None:
        target = getattr(below, "target", None) or getattr(below, "_target", None)
        found = target() if callable(target) else target
        if found:
            return found.decode() if isinstance(found, bytes) else str(found)
        # what wraps a channel, as interceptors do, keeps it under this name
        below = getattr(below, "_channel", None)
    return f"channel {id(channel)}"


class Rpc:
    """One call over a guarded channel, through all its attempts.

    `metadata` is the caller's own; `asked` its timeout in seconds, which bounds the call if it is
    shorter than the policy's deadline. `repeatable` are full names of methods, or None.
    """

    __slots__ = (
        "_guard",
        "_metadata",
        "_method",
        "_names",
        "_since",
        "asked",
        "context",
        "deadline",
        "effect",
        "key",
        "machine",
        "repeatable",
    )

    def __init__(
        self,
        guard: Guard,
        target: str,
        method: str,
        metadata: Pairs | None,
        *,
        asked: float | None,
        repeatable: frozenset[str] | None,
    ) -> None:
        self._guard = guard
        self._method = method
        self._since = monotonic()
        self._metadata = tuple(metadata or ())
        given = dict(self._metadata)
        self._names = {wire.TIMEOUT, *given}  # gRPC has its own way to say a timeout
        if wire.TRACEPARENT in given:
            self._names.add(wire.TRACESTATE)
        self.context: Context = inherited()
        key = given.get(wire.IDEMPOTENCY_KEY)
        self.key = None if key is None else str(key)
        self.repeatable = (
            self.key is not None
            or guard.pattern is Pattern.QUERY
            or (repeatable is not None and method in repeatable)
        )
        self.effect = guard.pattern is not Pattern.QUERY
        """Whether the call may change something at the callee."""
        self.machine = guard.machine_at(operation=method, host=target)
        """The policy at work for this call."""
        usual = self.machine.deadline
        self.asked = asked
        self.deadline = asked if asked is None or usual is None else min(asked, usual)

    def metadata(self, attempt: Attempt) -> tuple[tuple[str, str | bytes], ...]:
        """Return the caller's metadata, and what this attempt tells the callee."""
        marks = headers(attempt, self.context, monotonic(), caller=self._guard.caller)
        ours = [pair for pair in marks.items() if pair[0] not in self._names]
        return (*self._metadata, *ours)

    def until(self, now: float) -> float:
        """Return the time by which a stream must have ended, once it has begun."""
        ends = [inf if self.asked is None else now + self.asked]
        if self.context.deadline is not None:
            ends.append(self.context.deadline)
        return min(ends)

    @staticmethod
    def left(deadline: float) -> float | None:
        """Return the seconds until a deadline, as gRPC takes them."""
        return None if deadline == inf else max(0.001, deadline - monotonic())

    def begun(self, attempt: Attempt, until: float) -> Begun:
        """Return a stream whose first message is there."""
        return Begun(attempt, since=self._since, until=until)

    def broken(self, begun: Begun | None, error: grpc.RpcError, *, aio: bool) -> Exception:
        """Return what the caller gets to see of a stream that `error` has ended."""
        outcome = self.judged(error)
        if begun is not None and not isinstance(outcome, Refused):
            begun.failed(outcome)
        return self.end(outcome, aio=aio)

    def unconnected(self) -> Unavailable:
        """Return the outcome of an attempt for which there was no connection."""
        return Unavailable(f"{self._method}: no connection", reason=Reason.CONNECT)

    def judged(self, error: grpc.RpcError) -> Refused | Unavailable | Unknown:
        """Return how an attempt that raised `error` went."""
        found = self._guard.outcome(error)
        if found is not None:
            return found
        refused = Rejected(error.details() or "", status=STATUS[error.code()])
        refused.__cause__ = error
        return refused

    def end(self, outcome: Refused | Unavailable | Unknown, *, aio: bool) -> Exception:
        """Return what the caller gets to see of how the call ended."""
        last = outcome.__cause__
        if isinstance(outcome, Refused):
            return last if isinstance(last, grpc.RpcError) else outcome
        away = isinstance(outcome, Unavailable)
        kind: Any
        if aio:
            kind = AioUnavailable if away else AioUnknown
        else:
            kind = GrpcUnavailable if away else GrpcUnknown
        raised: Any = adopted(outcome, kind, self._method)
        told = last if isinstance(last, grpc.RpcError) else None
        status = _CODES.get(outcome.reason)
        if status is None:
            status = grpc.StatusCode.UNAVAILABLE if told is None else told.code()
        raised._take(status, told)  # noqa: SLF001  made here
        found: Exception = raised
        return found
