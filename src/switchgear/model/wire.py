"""What goes on the wires besides the message: header names, and how an answer maps to an outcome.

The header names are the same in HTTP and in gRPC metadata (lower case). `docs/reference/wire.md`
prints both tables; a test keeps the page and this module equal.

The mapping is conservative. Only what certainly was not done is `Unavailable`: the request never
left, or the callee says so with `OUTCOME: not-executed` or with 429 / RESOURCE_EXHAUSTED. Every
other failure after sending is `Unknown`, whatever its name suggests.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from switchgear.model.outcome import Status

__all__ = [
    "ATTEMPT",
    "CALLER",
    "FINAL",
    "GRPC_PUSHBACK",
    "IDEMPOTENCY_KEY",
    "NOT_EXECUTED",
    "OUTCOME",
    "PRIORITY",
    "RETRY",
    "TIMEOUT",
    "TRACEPARENT",
    "TRACESTATE",
    "TRAIL",
    "Verdict",
    "grpc_verdict",
    "http_status",
    "http_verdict",
    "status_of_http",
]

TIMEOUT: Final = "switchgear-timeout"
"""HTTP request: whole milliseconds that the caller still has. gRPC uses its own `grpc-timeout`."""
ATTEMPT: Final = "switchgear-attempt"
"""Request: which attempt this is, from 1. Above 1, the callee does not retry its own calls."""
PRIORITY: Final = "switchgear-priority"
"""Request: critical, default or sheddable."""
CALLER: Final = "switchgear-caller"
"""Request: the name of the calling service. A hint for people and graphs, not authentication."""
IDEMPOTENCY_KEY: Final = "idempotency-key"
"""Request: the key of a keyed command."""
TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
OUTCOME: Final = "switchgear-outcome"
"""Response: `not-executed` where the callee certainly did nothing."""
NOT_EXECUTED: Final = "not-executed"
RETRY: Final = "switchgear-retry"
"""Response: `no` where a layer below has already retried and given up."""
FINAL: Final = "no"
TRAIL: Final = "switchgear-trail"
"""Response: the edges that a failure has passed, the first cause first; see `model/trail.py`."""
GRPC_PUSHBACK: Final = "grpc-retry-pushback-ms"
"""gRPC response: milliseconds to wait before another attempt; negative means do not retry."""


class Verdict(StrEnum):
    """The class of outcome that a status stands for, before marks and overrides."""

    OK = "ok"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    UNKNOWN = "unknown"


_HTTP: Final = {
    Status.OK: 200,
    Status.CANCELLED: 499,
    Status.UNKNOWN: 500,
    Status.INVALID_ARGUMENT: 400,
    Status.DEADLINE_EXCEEDED: 504,
    Status.NOT_FOUND: 404,
    Status.ALREADY_EXISTS: 409,
    Status.PERMISSION_DENIED: 403,
    Status.RESOURCE_EXHAUSTED: 429,
    Status.FAILED_PRECONDITION: 422,
    Status.ABORTED: 409,
    Status.OUT_OF_RANGE: 400,
    Status.UNIMPLEMENTED: 501,
    Status.INTERNAL: 500,
    Status.UNAVAILABLE: 503,
    Status.DATA_LOSS: 500,
    Status.UNAUTHENTICATED: 401,
}

_STATUS: Final = {
    400: Status.INVALID_ARGUMENT,
    401: Status.UNAUTHENTICATED,
    403: Status.PERMISSION_DENIED,
    404: Status.NOT_FOUND,
    405: Status.UNIMPLEMENTED,
    409: Status.ABORTED,
    413: Status.RESOURCE_EXHAUSTED,
    414: Status.RESOURCE_EXHAUSTED,
    415: Status.INVALID_ARGUMENT,
    422: Status.FAILED_PRECONDITION,
    429: Status.RESOURCE_EXHAUSTED,
    431: Status.RESOURCE_EXHAUSTED,
    500: Status.INTERNAL,
    501: Status.UNIMPLEMENTED,
    503: Status.UNAVAILABLE,
    504: Status.DEADLINE_EXCEEDED,
}

_GRPC_REFUSED: Final = frozenset(
    {
        Status.INVALID_ARGUMENT,
        Status.NOT_FOUND,
        Status.ALREADY_EXISTS,
        Status.PERMISSION_DENIED,
        Status.FAILED_PRECONDITION,
        Status.OUT_OF_RANGE,
        Status.UNIMPLEMENTED,
        Status.UNAUTHENTICATED,
    }
)


def http_status(status: Status) -> int:
    """Return the HTTP status under which a canonical status is answered."""
    return _HTTP[status]


def status_of_http(code: int) -> Status:
    """Return the canonical status that an HTTP status stands for."""
    if code in _STATUS:
        return _STATUS[code]
    if 200 <= code < 300:  # noqa: PLR2004
        return Status.OK
    return Status.INVALID_ARGUMENT if 400 <= code < 500 else Status.UNKNOWN  # noqa: PLR2004


def http_verdict(code: int) -> Verdict:
    """Classify an HTTP status that carries none of our marks.

    408 is a timeout of the request and 499 a cancellation: both may have been carried out. 409 is
    what a keyed command in progress answers: its outcome is not known yet. 501 says that the
    server cannot do what was asked at all (RFC 9110, 15.6.2), as UNIMPLEMENTED does.
    """
    if 200 <= code < 300:  # noqa: PLR2004
        return Verdict.OK
    if code == 429:  # noqa: PLR2004
        return Verdict.UNAVAILABLE
    if code == 501 or (400 <= code < 500 and code not in (408, 409, 499)):  # noqa: PLR2004
        return Verdict.REFUSED
    return Verdict.UNKNOWN


def grpc_verdict(status: Status) -> Verdict:
    """Classify a gRPC status that carries none of our marks."""
    if status is Status.OK:
        return Verdict.OK
    if status is Status.RESOURCE_EXHAUSTED:
        return Verdict.UNAVAILABLE
    return Verdict.REFUSED if status in _GRPC_REFUSED else Verdict.UNKNOWN
