"""A transport adapter that puts a guard around a requests session.

An adapter carries one request, so each redirect of the session is a call of its own. What it sends
besides the request is in `model/wire.py`. urllib3's retries are refused: the policy retries, and
nobody else.

What an answer means, and what is raised where there is none, says `exchange.py`. What is raised is
both one of ours and one of requests': `except Unavailable` and `except requests.ConnectionError`
catch it, and for an attempt that took too long `except requests.Timeout` does too.

| requests raises                                       | outcome                |
| ----------------------------------------------------- | ---------------------- |
| `ConnectTimeout`, `ProxyError`, or `ConnectionError`  | `Unavailable(CONNECT)` |
| for a refused connection or a name that is not found  |                        |
| `SSLError` for a certificate that is not trusted      | `Unavailable(CONNECT)` |
| any other timeout                                     | `Unknown(TIMEOUT)`     |
| any other `ConnectionError`, `ChunkedEncodingError`   | `Unknown(RESET)`       |
| `HTTPError`                                           | as its status says     |
| anything else                                         | none: it is raised     |

A kept connection that was lost is `Unknown` whatever the moment: requests does not tell whether the
request had left. The same goes for a TLS handshake that failed otherwise.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeAlias

import requests
import urllib3
from requests.adapters import BaseAdapter, HTTPAdapter
from typing_extensions import override

from switchgear.call import threads
from switchgear.call.answer import effects
from switchgear.call.exchange import Exchange
from switchgear.call.marks import http_failure
from switchgear.call.process import OfOneProcess, Sender
from switchgear.errors import PolicyError
from switchgear.model.outcome import Outcome, Reason, Unavailable, Unknown
from switchgear.policy.machine import Attempt

if TYPE_CHECKING:
    from switchgear.call.guard import Guard

__all__ = ["Adapter", "RequestsTimeout", "RequestsUnavailable", "RequestsUnknown", "classify"]

# What a session hands to its adapter: one number for both, or two, or urllib3's own object.
Timeout: TypeAlias = "float | tuple[float | None, float | None] | urllib3.Timeout | None"


class RequestsUnavailable(Unavailable, requests.ConnectionError):
    """`Unavailable`, for code that expects the errors of requests."""


class RequestsUnknown(Unknown, requests.ConnectionError):
    """`Unknown`, for code that expects the errors of requests."""


class RequestsTimeout(RequestsUnknown, requests.Timeout):
    """`Unknown`, because no answer came in time."""


def classify(error: Exception) -> Unavailable | Unknown | None:
    """Return the outcome that an error of requests stands for; None: it stands for none."""
    if isinstance(error, requests.HTTPError):
        response = error.response
        return None if response is None else http_failure(response.status_code, response.headers)
    if not isinstance(error, requests.RequestException):
        return None
    what = f"{type(error).__name__}: {error}"
    below = _below(error)
    if isinstance(error, requests.ConnectTimeout | requests.exceptions.ProxyError) or isinstance(
        below, urllib3.exceptions.NewConnectionError | ssl.SSLCertVerificationError
    ):
        return Unavailable(what, reason=Reason.CONNECT, cause=error)
    if isinstance(error, requests.Timeout) or isinstance(below, urllib3.exceptions.TimeoutError):
        return Unknown(what, reason=Reason.TIMEOUT, cause=error)
    if isinstance(error, requests.ConnectionError | requests.exceptions.ChunkedEncodingError):
        return Unknown(what, reason=Reason.RESET, cause=error)
    return None


def _below(error: requests.RequestException) -> object:
    """Return what requests has wrapped: urllib3's error, or for TLS the one of `ssl`."""
    found: object = error.args[0] if error.args else None
    if isinstance(found, urllib3.exceptions.MaxRetryError):
        found = found.reason
    if isinstance(found, urllib3.exceptions.SSLError) and found.args:
        found = found.args[0]
    return found


class Adapter(OfOneProcess, BaseAdapter):
    """See `Guard.requests`."""

    def __init__(
        self, guard: Guard, wrapped: HTTPAdapter | None, repeatable: frozenset[str]
    ) -> None:
        super().__init__()
        self._guard = guard
        self._sender = Sender(wrapped, HTTPAdapter)
        self._repeatable = repeatable
        if self._sender.own.max_retries.total not in (0, False):
            raise PolicyError(
                "the adapter retries by itself, inside the policy's attempts.",
                where=f"Guard({guard.name!r}).requests()",
                fix="Give an HTTPAdapter without max_retries: the policy has Retry.",
            )

    @override
    def _forked(self) -> None:
        self._sender.forked()

    @override
    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Timeout = None,
        verify: bool | str = True,
        cert: bytes | str | tuple[bytes | str, bytes | str] | None = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        sender = self._sender.take()
        exchange: Exchange[requests.Response] = Exchange(
            self._guard,
            request.method or "GET",
            request.url,
            request.headers,
            repeatable=self._repeatable,
            once=lambda: not isinstance(request.body, bytes | str | None),
            kinds=_kind,
        )
        # the session's own arguments, as they are
        settings: Any = {"verify": verify, "cert": cert, "proxies": proxies}

        def attempt(step: Attempt) -> Outcome[requests.Response]:
            sent = request.copy()  # two may be under way at a time
            exchange.mark(step, sent.headers)
            clamped: Any = _clamped(timeout, step)
            try:
                response = sender.send(sent, stream=True, timeout=clamped, **settings)
                if not stream or exchange.keeps(response.status_code, response.headers):
                    _read(response, step)
            except requests.RequestException as error:
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
                    alone=stream or exchange.single,
                )
        except (Unavailable, Unknown) as failure:
            try:
                return exchange.end(failure)
            except requests.RequestException as error:
                error.request = request
                raise
        return answer.value

    @override
    def close(self) -> None:
        self._sender.own.close()


def _kind(failure: Unavailable | Unknown) -> type[RequestsUnavailable | RequestsUnknown]:
    if isinstance(failure, Unavailable):
        return RequestsUnavailable
    return RequestsTimeout if failure.reason is Reason.TIMEOUT else RequestsUnknown


def _clamped(asked: Timeout, attempt: Attempt) -> Timeout:
    """Return the session's timeouts, none of them longer than what the attempt has left.

    A connection gets nine tenths, so that its failure is told as such and not as a timeout.
    """
    if attempt.deadline == inf:
        return asked
    left = max(0.001, attempt.deadline - monotonic())
    if isinstance(asked, urllib3.Timeout):
        connect, read = asked.connect_timeout, asked.read_timeout
    else:
        connect, read = asked if isinstance(asked, tuple) else (asked, asked)
    return _least(left * 0.9, connect), _least(left, read)


def _least(left: float, limit: object) -> float:
    # None, or urllib3's own word for it, is no limit
    return min(left, limit) if isinstance(limit, int | float) else left


def _read(response: requests.Response, attempt: Attempt) -> None:
    """Read the body into the response, where the session finds it."""
    raw = response.raw
    response.raw = _InTime(raw, attempt.deadline)
    try:
        _ = response.content
    except BaseException:
        response.close()
        raise
    finally:
        response.raw = raw
    if _cut_short(response):
        raise requests.ConnectionError("the head of the answer was cut short", response=response)


def _cut_short(response: requests.Response) -> bool:
    """Tell whether an answer may have lost the rest of its head.

    Python's http.client takes the end of a connection for the end of the head. What says neither
    how long its body is nor that the connection ends with it, and has none, is not trusted.
    """
    marks = response.headers
    return not (
        response.content
        or response.raw.version != 11  # noqa: PLR2004  HTTP/1.1, as http.client writes it
        or response.status_code in (204, 304)
        or response.request.method == "HEAD"
        or "content-length" in marks
        or "transfer-encoding" in marks
        or marks.get("connection", "").lower() == "close"
    )


class _InTime:
    """A body that is given up when it is not there in time.

    A body that trickles keeps every read within its timeout, and the whole never ends.
    """

    def __init__(self, raw: Any, deadline: float) -> None:
        self._raw = raw
        self._deadline = deadline
        self.close = raw.close
        self.release_conn = raw.release_conn

    def stream(self, amount: int, *, decode_content: bool) -> Iterator[bytes]:
        """Return what is there, piece by piece; urllib3's own waits until a piece is full."""
        while data := self._raw.read1(amount, decode_content=decode_content):
            yield data
            if monotonic() > self._deadline:
                raise requests.ReadTimeout("the body did not arrive in time")
