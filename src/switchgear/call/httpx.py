"""Transports that put a guard around an httpx client.

A transport carries one request, so redirects and authentication flows of the client are calls of
their own. What it sends besides the request is in `model/wire.py`.

An answer is returned as a response, whatever its status: a 4xx is a definitive no, and after the
last attempt a 5xx is what there is. Only where nobody answered is something raised, and it is both
one of ours and one of httpx's: `except Unavailable` and `except httpx.TransportError` catch it.

| httpx raises                                                | outcome                |
| ----------------------------------------------------------- | ---------------------- |
| `ConnectError`, `ConnectTimeout`                            | `Unavailable(CONNECT)` |
| `PoolTimeout`                                               | `Unavailable(LIMIT)`   |
| any other `TimeoutException`                                | `Unknown(TIMEOUT)`     |
| any other `NetworkError`, `RemoteProtocolError`, `ProxyError` | `Unknown(RESET)`     |
| anything else                                               | none: it is raised     |
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any

import httpx
from typing_extensions import override

from switchgear.call import aio, threads
from switchgear.call.answer import Meaning, headers, http_failure, inherited, meant
from switchgear.model import wire
from switchgear.model.context import Context
from switchgear.model.outcome import Ok, Outcome, Reason, Refused, Unavailable, Unknown
from switchgear.policy.machine import Attempt

if TYPE_CHECKING:
    from switchgear.call.guard import Guard

__all__ = ["AsyncTransport", "HttpxUnavailable", "HttpxUnknown", "SyncTransport", "classify"]

_MEANINGS: tuple[Meaning, ...] = (
    ((httpx.ConnectError, httpx.ConnectTimeout), Unavailable, Reason.CONNECT),
    ((httpx.PoolTimeout,), Unavailable, Reason.LIMIT),
    ((httpx.TimeoutException,), Unknown, Reason.TIMEOUT),
    ((httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError), Unknown, Reason.RESET),
)


class HttpxUnavailable(Unavailable, httpx.TransportError):
    """`Unavailable`, for code that expects the errors of httpx."""


class HttpxUnknown(Unknown, httpx.TransportError):
    """`Unknown`, for code that expects the errors of httpx."""


def classify(error: Exception) -> Unavailable | Unknown | None:
    """Return the outcome that an error of httpx stands for; None: it stands for none."""
    if isinstance(error, httpx.HTTPStatusError):
        return http_failure(error.response.status_code, error.response.headers)
    return meant(error, _MEANINGS)


class _Exchange:
    """One request on its way, through all its attempts."""

    __slots__ = ("_answers", "_context", "_guard", "_request", "key", "repeatable")

    def __init__(self, guard: Guard, request: httpx.Request, repeatable: frozenset[str]) -> None:
        self._guard = guard
        self._request = request
        self._context: Context = inherited()
        self.key = request.headers.get(wire.IDEMPOTENCY_KEY)
        self.repeatable = self.key is not None or request.method in repeatable
        self._answers: dict[Unavailable | Unknown, httpx.Response] = {}
        """The response behind each failed attempt that had one."""

    def mark(self, attempt: Attempt) -> None:
        """Put on the request what this attempt tells the callee."""
        marks = headers(attempt, self._context, monotonic(), caller=self._guard.caller)
        for name, value in marks.items():
            if name != wire.TRACEPARENT or name not in self._request.headers:
                self._request.headers[name] = value

    def judged(self, response: httpx.Response) -> Outcome[httpx.Response]:
        failure = http_failure(response.status_code, response.headers, where=self._where)
        if failure is None:
            return Ok(response)
        self._answers[failure] = response
        return self._once(failure)

    def failed(self, error: httpx.TransportError) -> Unavailable | Unknown:
        failure = self._guard.outcome(error)
        if failure is None or isinstance(failure, Refused):
            raise error
        return self._once(failure)

    def end(self, failure: Unavailable | Unknown) -> httpx.Response:
        """Return the response that the failure stands for, or raise what there is to say."""
        response = self._answers.get(failure)
        if response is not None:
            return response
        kind = HttpxUnavailable if isinstance(failure, Unavailable) else HttpxUnknown
        raised = kind(
            failure.what,
            reason=failure.reason,
            retry_after=failure.retry_after,
            final=failure.final,
            where=self._where,
            cause=failure.__cause__,
        )
        raised.attempts = failure.attempts
        raised.request = self._request
        if isinstance(raised, HttpxUnknown):
            raised.key = self.key
        raise raised

    def _once(self, failure: Unavailable | Unknown) -> Unavailable | Unknown:
        """Forbid another attempt of a body that could be sent only once."""
        if not isinstance(self._request.stream, httpx.ByteStream):
            failure.final = True
        return failure

    @property
    def _where(self) -> str:
        return f"{self._request.method} {self._request.url}"


class AsyncTransport(httpx.AsyncBaseTransport):
    """See `Guard.httpx`."""

    def __init__(
        self,
        guard: Guard,
        wrapped: httpx.AsyncBaseTransport | None,
        repeatable: frozenset[str],
        *,
        stream: bool,
    ) -> None:
        self._guard = guard
        self._wrapped = wrapped or httpx.AsyncHTTPTransport()
        self._repeatable = repeatable
        self._stream = stream

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        exchange = _Exchange(self._guard, request, self._repeatable)

        async def attempt(step: Attempt) -> Outcome[httpx.Response]:
            exchange.mark(step)
            try:
                response = await self._wrapped.handle_async_request(request)
                if not self._stream or response.status_code >= 500:  # noqa: PLR2004
                    response = await _read(response)
            except httpx.TransportError as error:
                return exchange.failed(error)
            return exchange.judged(response)

        try:
            answer = await aio.drive(
                self._guard.machine, attempt, repeatable=exchange.repeatable, key=exchange.key
            )
        except (Unavailable, Unknown) as failure:
            return exchange.end(failure)
        return answer.value

    @override
    async def aclose(self) -> None:
        await self._wrapped.aclose()


class SyncTransport(httpx.BaseTransport):
    """See `Guard.httpx_sync`."""

    def __init__(
        self,
        guard: Guard,
        wrapped: httpx.BaseTransport | None,
        repeatable: frozenset[str],
        *,
        stream: bool,
    ) -> None:
        self._guard = guard
        self._wrapped = wrapped or httpx.HTTPTransport()
        self._repeatable = repeatable
        self._stream = stream

    @override
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        exchange = _Exchange(self._guard, request, self._repeatable)
        asked = request.extensions.get("timeout", {})

        def attempt(step: Attempt) -> Outcome[httpx.Response]:
            exchange.mark(step)
            request.extensions["timeout"] = _clamped(asked, step)
            try:
                response = self._wrapped.handle_request(request)
                if not self._stream or response.status_code >= 500:  # noqa: PLR2004
                    response = _read_sync(response, step)
            except httpx.TransportError as error:
                return exchange.failed(error)
            return exchange.judged(response)

        try:
            answer = threads.drive(
                self._guard.machine, attempt, repeatable=exchange.repeatable, key=exchange.key
            )
        except (Unavailable, Unknown) as failure:
            return exchange.end(failure)
        return answer.value

    @override
    def close(self) -> None:
        self._wrapped.close()


def _clamped(asked: dict[str, float | None], attempt: Attempt) -> dict[str, float | None]:
    """Return the client's timeouts, none of them longer than what the attempt has left."""
    if attempt.deadline == inf:
        return asked
    left = max(0.001, attempt.deadline - monotonic())
    clamped: dict[str, float | None] = {}
    for phase in ("connect", "read", "write", "pool"):
        limit = asked.get(phase)
        clamped[phase] = left if limit is None else min(limit, left)
    return clamped


async def _read(response: httpx.Response) -> httpx.Response:
    """Return the response with its body in memory, as it came over the wire."""
    stream: Any = response.stream
    try:
        body = b"".join([chunk async for chunk in stream])
    finally:
        await response.aclose()
    return _with_body(response, body)


def _read_sync(response: httpx.Response, attempt: Attempt) -> httpx.Response:
    stream: Any = response.stream
    try:
        body = b"".join(_in_time(stream, attempt))
    finally:
        response.close()
    return _with_body(response, body)


def _in_time(chunks: Iterator[bytes], attempt: Attempt) -> Iterator[bytes]:
    # a body that trickles keeps every read within its timeout, and the whole never ends
    for chunk in chunks:
        if monotonic() > attempt.deadline:
            raise httpx.ReadTimeout("the body did not arrive in time")
        yield chunk


def _with_body(response: httpx.Response, body: bytes) -> httpx.Response:
    return httpx.Response(
        response.status_code,
        headers=response.headers,
        stream=httpx.ByteStream(body),
        extensions=response.extensions,
    )
