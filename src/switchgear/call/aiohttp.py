"""A client middleware that puts a guard around an aiohttp session.

A middleware carries one request, so each redirect of the session is a call of its own. What it
sends besides the request is in `model/wire.py`. aiohttp's own silent repetition of a request whose
kept connection was lost does not happen behind a guard: that is one of its attempts.

An answer is returned as a response, whatever its status: a 4xx is a definitive no, and after the
last attempt a 5xx is what there is. Only where nobody answered is something raised, and it is both
one of ours and one of aiohttp's: `except Unavailable` and `except aiohttp.ClientError` catch it.

| aiohttp raises                                    | outcome                |
| ------------------------------------------------- | ---------------------- |
| `ClientConnectorError`, `ConnectionTimeoutError`  | `Unavailable(CONNECT)` |
| any other timeout                                 | `Unknown(TIMEOUT)`     |
| any other `ClientConnectionError`, `ClientPayloadError` | `Unknown(RESET)` |
| `ClientResponseError`                             | as its status says     |
| anything else                                     | none: it is raised     |
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

import aiohttp

from switchgear.call import aio
from switchgear.call.answer import Meaning, headers, http_failure, inherited, meant
from switchgear.model import wire
from switchgear.model.context import Context
from switchgear.model.outcome import Ok, Outcome, Reason, Refused, Unavailable, Unknown
from switchgear.policy.machine import Attempt

if TYPE_CHECKING:
    from aiohttp import ClientHandlerType, ClientRequest, ClientResponse

    from switchgear.call.guard import Guard

__all__ = ["AiohttpUnavailable", "AiohttpUnknown", "Middleware", "classify"]

_MEANINGS: tuple[Meaning, ...] = (
    (
        (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError),
        Unavailable,
        Reason.CONNECT,
    ),
    ((aiohttp.ServerTimeoutError, aiohttp.SocketTimeoutError), Unknown, Reason.TIMEOUT),
    ((aiohttp.ClientConnectionError, aiohttp.ClientPayloadError), Unknown, Reason.RESET),
)


class AiohttpUnavailable(Unavailable, aiohttp.ClientError):
    """`Unavailable`, for code that expects the errors of aiohttp."""


class AiohttpUnknown(Unknown, aiohttp.ClientError):
    """`Unknown`, for code that expects the errors of aiohttp."""


def classify(error: Exception) -> Unavailable | Unknown | None:
    """Return the outcome that an error of aiohttp stands for; None: it stands for none."""
    if isinstance(error, aiohttp.ClientResponseError):
        return http_failure(error.status, error.headers or {})
    return meant(error, _MEANINGS)


class Middleware:
    """See `Guard.aiohttp`."""

    def __init__(self, guard: Guard, repeatable: frozenset[str], *, stream: bool) -> None:
        self._guard = guard
        self._repeatable = repeatable
        self._stream = stream

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Carry one request, in as many attempts as the policy allows."""
        context = inherited()
        key = request.headers.get(wire.IDEMPOTENCY_KEY)
        answers: dict[Unavailable | Unknown, ClientResponse] = {}

        async def attempt(step: Attempt) -> Outcome[ClientResponse]:
            self._mark(request, step, context)
            outcome = await self._send(request, handler)
            if isinstance(outcome, Ok):
                response = outcome.value
                failure = http_failure(response.status, response.headers, where=_where(request))
                if failure is None:
                    return outcome
                answers[failure] = response
                outcome = failure
            return _once(request, outcome)

        try:
            answer = await aio.drive(
                self._guard.machine,
                attempt,
                repeatable=key is not None or request.method in self._repeatable,
                key=key,
            )
        except (Unavailable, Unknown) as failure:
            if failure in answers:
                return answers[failure]
            raise _adopted(failure, _where(request)) from failure.__cause__
        return answer.value

    def _mark(self, request: ClientRequest, attempt: Attempt, context: Context) -> None:
        """Put on the request what this attempt tells the callee."""
        marks = headers(attempt, context, monotonic(), caller=self._guard.caller)
        for name, value in marks.items():
            if name != wire.TRACEPARENT or name not in request.headers:
                request.headers[name] = value

    async def _send(
        self, request: ClientRequest, handler: ClientHandlerType
    ) -> Ok[ClientResponse] | Unavailable | Unknown:
        try:
            response = await handler(request)
            if not self._stream or response.status >= 500:  # noqa: PLR2004
                await response.read()
        except (aiohttp.ClientError, OSError) as error:
            failure = self._guard.outcome(error)
            if failure is None or isinstance(failure, Refused):
                raise
            return failure
        return Ok(response)


def _where(request: ClientRequest) -> str:
    return f"{request.method} {request.url}"


def _once(request: ClientRequest, failure: Unavailable | Unknown) -> Unavailable | Unknown:
    """Forbid another attempt of a body that could be sent only once."""
    body = request.body
    if not isinstance(body, bytes | tuple) and body.consumed:
        failure.final = True
    return failure


def _adopted(failure: Unavailable | Unknown, where: str) -> AiohttpUnavailable | AiohttpUnknown:
    kind = AiohttpUnavailable if isinstance(failure, Unavailable) else AiohttpUnknown
    raised = kind(
        failure.what,
        reason=failure.reason,
        retry_after=failure.retry_after,
        final=failure.final,
        where=where,
    )
    raised.attempts = failure.attempts
    if isinstance(raised, AiohttpUnknown) and isinstance(failure, Unknown):
        raised.key = failure.key
    return raised
