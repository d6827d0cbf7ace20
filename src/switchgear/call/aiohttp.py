"""A client middleware that puts a guard around an aiohttp session.

A middleware carries one request, so each redirect of the session is a call of its own. What it
sends besides the request is in `model/wire.py`. aiohttp's own silent repetition of a request whose
kept connection was lost does not happen behind a guard: that is one of its attempts.

What an answer means, and what is raised where there is none, says `exchange.py`. What is raised
is both one of ours and one of aiohttp's: `except Unavailable` and `except aiohttp.ClientError`
catch it.

| aiohttp raises                                    | outcome                |
| ------------------------------------------------- | ---------------------- |
| `ClientConnectorError`, `ConnectionTimeoutError`  | `Unavailable(CONNECT)` |
| any other timeout                                 | `Unknown(TIMEOUT)`     |
| any other `ClientConnectionError`, `ClientPayloadError` | `Unknown(RESET)` |
| `ClientResponseError`                             | as its status says, or |
| for an answer that is not HTTP                    | `Unknown(RESET)`       |
| anything else                                     | none: it is raised     |
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from switchgear.call import aio
from switchgear.call.answer import Meaning, effects, meant
from switchgear.call.exchange import Exchange
from switchgear.call.marks import http_failure
from switchgear.model.outcome import Outcome, Reason, Unavailable, Unknown
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
        if isinstance(error.__cause__, HttpProcessingError):
            # aiohttp's name for what is not HTTP; the status is of its own making
            return Unknown(f"{error.message}", reason=Reason.RESET, cause=error)
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
        exchange: Exchange[ClientResponse] = Exchange(
            self._guard,
            request.method,
            request.url,
            request.headers,
            repeatable=self._repeatable,
            once=lambda: _used_up(request),
            kinds=_kind,
        )

        async def attempt(step: Attempt) -> Outcome[ClientResponse]:
            exchange.mark(step)
            try:
                response = await handler(request)
                if not self._stream or exchange.keeps(response.status, response.headers):
                    await response.read()
            except (aiohttp.ClientError, OSError) as error:
                return exchange.failed(error)
            return exchange.judged(step, response, response.status, response.headers)

        try:
            with effects(possible=exchange.effect):
                answer = await aio.drive(
                    exchange.machine,
                    attempt,
                    repeatable=exchange.repeatable,
                    key=exchange.key,
                    context=exchange.context,
                    alone=self._stream,
                )
        except (Unavailable, Unknown) as failure:
            return exchange.end(failure)
        return answer.value


def _kind(failure: Unavailable | Unknown) -> type[AiohttpUnavailable | AiohttpUnknown]:
    return AiohttpUnavailable if isinstance(failure, Unavailable) else AiohttpUnknown


def _used_up(request: ClientRequest) -> bool:
    body = request.body
    return not isinstance(body, bytes | tuple) and body.consumed
