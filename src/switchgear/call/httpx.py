"""Transports that put a guard around an httpx client.

A transport carries one request, so redirects and authentication flows of the client are calls of
their own. What it sends besides the request is in `model/wire.py`.

What an answer means, and what is raised where there is none, says `exchange.py`. What is raised
is both one of ours and one of httpx's: `except Unavailable` and `except httpx.TransportError`
catch it.

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
from switchgear.call.answer import Meaning, effects, meant
from switchgear.call.exchange import Exchange
from switchgear.call.marks import http_failure
from switchgear.call.process import OfOneProcess, Sender
from switchgear.model.outcome import Outcome, Reason, Unavailable, Unknown
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


def _kind(failure: Unavailable | Unknown) -> type[HttpxUnavailable | HttpxUnknown]:
    return HttpxUnavailable if isinstance(failure, Unavailable) else HttpxUnknown


def _exchange(
    guard: Guard, request: httpx.Request, repeatable: frozenset[str]
) -> Exchange[httpx.Response]:
    return Exchange(
        guard,
        request.method,
        request.url,
        request.headers,
        repeatable=repeatable,
        once=lambda: not isinstance(request.stream, httpx.ByteStream),
        kinds=_kind,
    )


class AsyncTransport(OfOneProcess, httpx.AsyncBaseTransport):
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
        self._sender = Sender(wrapped, httpx.AsyncHTTPTransport)
        self._repeatable = repeatable
        self._stream = stream

    @override
    def _forked(self) -> None:
        self._sender.forked()

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        exchange = _exchange(self._guard, request, self._repeatable)
        sender = self._sender.take()
        asked = request.extensions.get("timeout", {})

        async def attempt(step: Attempt) -> Outcome[httpx.Response]:
            sent = _copy(request)
            exchange.mark(step, sent.headers)
            sent.extensions["timeout"] = _clamped(asked, step)
            try:
                response = await sender.handle_async_request(sent)
                if not self._stream or exchange.keeps(response.status_code, response.headers):
                    response = await _read(response)
            except httpx.TransportError as error:
                return exchange.failed(error)
            return exchange.judged(step, response, response.status_code, response.headers)

        try:
            with effects(possible=exchange.effect):
                answer = await aio.drive(
                    exchange.machine,
                    attempt,
                    repeatable=exchange.repeatable,
                    key=exchange.key,
                    context=exchange.context,
                    alone=self._stream or exchange.single,
                )
        except (Unavailable, Unknown) as failure:
            return _end(exchange, failure, request)
        return answer.value

    @override
    async def aclose(self) -> None:
        await self._sender.own.aclose()


class SyncTransport(OfOneProcess, httpx.BaseTransport):
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
        self._sender = Sender(wrapped, httpx.HTTPTransport)
        self._repeatable = repeatable
        self._stream = stream

    @override
    def _forked(self) -> None:
        self._sender.forked()

    @override
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        exchange = _exchange(self._guard, request, self._repeatable)
        sender = self._sender.take()
        asked = request.extensions.get("timeout", {})

        def attempt(step: Attempt) -> Outcome[httpx.Response]:
            sent = _copy(request)
            exchange.mark(step, sent.headers)
            sent.extensions["timeout"] = _clamped(asked, step)
            try:
                response = sender.handle_request(sent)
                if not self._stream or exchange.keeps(response.status_code, response.headers):
                    response = _read_sync(response, step)
            except httpx.TransportError as error:
                return exchange.failed(error)
            return exchange.judged(step, response, response.status_code, response.headers)

        try:
            with effects(possible=exchange.effect):
                answer = threads.drive(
                    exchange.machine,
                    attempt,
                    repeatable=exchange.repeatable,
                    key=exchange.key,
                    context=exchange.context,
                    alone=self._stream or exchange.single,
                )
        except (Unavailable, Unknown) as failure:
            return _end(exchange, failure, request)
        return answer.value

    @override
    def close(self) -> None:
        self._sender.own.close()


def _copy(request: httpx.Request) -> httpx.Request:
    """Return a request of its own for one attempt, since two may be under way at a time."""
    extensions = dict(request.extensions)
    headers, stream = request.headers, request.stream
    return httpx.Request(
        request.method, request.url, headers=headers, stream=stream, extensions=extensions
    )


def _end(
    exchange: Exchange[httpx.Response], failure: Unavailable | Unknown, request: httpx.Request
) -> httpx.Response:
    try:
        return exchange.end(failure)
    except httpx.TransportError as error:
        error.request = request
        raise


def _clamped(asked: dict[str, float | None], attempt: Attempt) -> dict[str, float | None]:
    """Return the client's timeouts, none of them longer than what the attempt has left.

    A connection gets nine tenths, so that its failure is told as such and not as a timeout.
    """
    if attempt.deadline == inf:
        return asked
    left = max(0.001, attempt.deadline - monotonic())
    clamped: dict[str, float | None] = {}
    for phase in ("connect", "read", "write", "pool"):
        limit = asked.get(phase)
        most = left * 0.9 if phase == "connect" else left
        clamped[phase] = most if limit is None else min(limit, most)
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
