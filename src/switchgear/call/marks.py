"""What an attempt tells the callee besides the message, and what an answer says besides its status.

Every client and adapter sends `headers` and reads its answers here, so that a mark means the same
over each of them. The names are in `model/wire.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import ceil, inf
from typing import Final

from switchgear.model import trail, wire
from switchgear.model.context import Context, Priority, trace_of
from switchgear.model.outcome import Reason, Unavailable, Unknown
from switchgear.model.wire import Verdict
from switchgear.policy.machine import Attempt

__all__ = ["failure", "headers", "http_failure", "pushback", "retry_after"]

_HTTP_REASONS: Final = {408: Reason.TIMEOUT, 499: Reason.CANCELLED, 504: Reason.TIMEOUT}


def headers(
    attempt: Attempt, context: Context, now: float, *, caller: str | None = None
) -> dict[str, str]:
    """Return what goes on a request besides the message, as HTTP headers or gRPC metadata.

    `caller` is the name of this service. Nothing is sent of what is not known.
    """
    sent = {wire.ATTEMPT: str(attempt.wire_number)}
    if attempt.deadline != inf:
        # rounded up: a callee told 0 would not begin
        sent[wire.TIMEOUT] = str(max(1, ceil((attempt.deadline - now) * 1000)))
    if attempt.key is not None:
        sent[wire.IDEMPOTENCY_KEY] = attempt.key
    if context.priority is not Priority.DEFAULT:
        sent[wire.PRIORITY] = context.priority
    traceparent, tracestate = trace_of(context)
    if traceparent is not None:
        sent[wire.TRACEPARENT] = traceparent
        if tracestate is not None:
            sent[wire.TRACESTATE] = tracestate
    if caller is not None:
        sent[wire.CALLER] = caller
    return sent


def failure(
    verdict: Verdict,
    what: str,
    marks: Mapping[str, str],
    *,
    reason: Reason,
    wait: float | None,
    where: str | None = None,
    cause: BaseException | None = None,
) -> Unavailable | Unknown | None:
    """Return the failure that an answer stands for; None: it is an answer, if only a no.

    With the mark `not-executed` what would be unknown is unavailable. `reason` is for what stays
    unknown. `wait` is what the callee asks for, in seconds. `marks` are headers or trailers.
    """
    if verdict in (Verdict.OK, Verdict.REFUSED):
        return None
    kind: type[Unavailable | Unknown] = Unknown
    if marks.get(wire.OUTCOME) == wire.NOT_EXECUTED or verdict is Verdict.UNAVAILABLE:
        kind, reason = Unavailable, Reason.NOT_EXECUTED
    final = marks.get(wire.RETRY) == wire.FINAL
    found = kind(what, reason=reason, retry_after=wait, final=final, where=where, cause=cause)
    found.trail = trail.read(marks.get(wire.TRAIL))
    return found


def http_failure(
    status: int,
    marks: Mapping[str, str],
    *,
    what: str = "",
    verdict: Verdict | None = None,
    where: str | None = None,
) -> Unavailable | Unknown | None:
    """Return the failure that an HTTP answer stands for; None: it is an answer, if only a no.

    `marks` are the headers, found whatever their case. Without a `verdict` it is the usual one of
    the status, and a redirect is an answer: whoever asked knows what to make of it.
    """
    if verdict is None:
        verdict = wire.http_verdict(status) if status >= 400 else Verdict.OK  # noqa: PLR2004
    return failure(
        verdict,
        what or f"answered {status}",
        marks,
        reason=_HTTP_REASONS.get(status, Reason.SERVER_ERROR),
        wait=retry_after(marks.get("retry-after")),
        where=where,
    )


def retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Return the seconds that a Retry-After header asks for: a number, or an HTTP date.

    None: there is no such header, or it cannot be read. `now` is the wall clock.
    """
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())


def pushback(value: str | None) -> float | None:
    """Return the seconds that `grpc-retry-pushback-ms` asks for; negative: not to be asked again.

    What cannot be read asks not to be asked again: that is gRPC's own rule (gRFC A6).
    """
    if value is None:
        return None
    try:
        return int(value) / 1000
    except ValueError:
        return -1.0
