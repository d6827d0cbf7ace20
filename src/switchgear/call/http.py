"""A wire over HTTP: aiohttp, with its helpfulness turned off.

No cookies, no redirects, and above all no repetition of its own: aiohttp silently sends a request
again when a kept connection was lost, which for a DELETE or PUT is a command carried out twice.

| what happens                                              | outcome                        |
| --------------------------------------------------------- | ------------------------------ |
| no connection: refused, no such name, TLS, no time for it | `Unavailable(CONNECT)`         |
| anything lost after that                                  | `Unknown(RESET)` or `(TIMEOUT)` |
| an answer over `LIMIT`                                    | `Unknown`, final               |
| an answer                                                 | as `answered` says             |

A connection may take nine tenths of the time that is left, so that its failure is told as such and
not as a timeout of the whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from functools import lru_cache
from math import inf
from time import monotonic
from typing import Any, Final

import msgspec

from switchgear.call.core import AskedWrongly, Replies, Settings
from switchgear.call.marks import headers, http_failure
from switchgear.call.streams import Asked
from switchgear.call.transcoding import asked, whole
from switchgear.call.url import Target
from switchgear.contract.codec import codec_of, from_json
from switchgear.contract.message import Message
from switchgear.contract.route import Route
from switchgear.contract.service import Operation
from switchgear.errors import InvalidMessage, MissingExtra
from switchgear.model import wire
from switchgear.model.context import Context
from switchgear.model.outcome import (
    Ok,
    Outcome,
    Reason,
    Refused,
    Rejected,
    Unavailable,
    Unknown,
)
from switchgear.model.wire import Verdict
from switchgear.policy.machine import Attempt

try:
    import aiohttp
    from yarl import URL
except ImportError as error:
    raise MissingExtra("aiohttp", "http") from error

__all__ = ["HttpWire", "answered"]

LIMIT: Final = 64 * 1024 * 1024
"""Bytes of a reply, or of one reply of a stream; gRPC's is the same."""
REFUSAL: Final = "urn:switchgear:refusal:"
_TYPE: Final = "application/json"
# Below the five seconds after which common servers drop an idle connection: a connection that is
# dropped while a request is on its way leaves its outcome unknown.
_KEEP_ALIVE: Final = 4.0
_FAILED: Final = b'{"@problem"'
_NEVER_LEFT: Final = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ServerFingerprintMismatch,
    aiohttp.InvalidURL,
)


class _Problem(
    msgspec.Struct, rename={"outcome": wire.OUTCOME, "retry": wire.RETRY, "trail": wire.TRAIL}
):
    type: str = ""
    title: str = ""
    status: int = 500
    detail: str = ""
    pointer: str | None = None
    refusal: msgspec.Raw = msgspec.Raw()
    outcome: str | None = None
    retry: str | None = None
    trail: str | None = None

    def marks(self) -> dict[str, str]:
        """Return what stands in headers where an answer begins with its failure."""
        told = {wire.OUTCOME: self.outcome, wire.RETRY: self.retry, wire.TRAIL: self.trail}
        return {name: value for name, value in told.items() if value is not None}


class _LastLine(msgspec.Struct, rename={"problem": "@problem"}):
    problem: msgspec.Raw


_problem = msgspec.json.Decoder(_Problem).decode
_last_line = msgspec.json.Decoder(_LastLine).decode


class HttpWire:
    """See `Wire`. It connects when it is first used."""

    def __init__(self, target: Target, settings: Settings) -> None:
        self._settings = settings
        self._base = f"{target.scheme}://{target.authority}{target.prefix}"
        self._static: dict[str, URL] = {}
        self._treat = {
            key: verdict for key, verdict in settings.treat.items() if key in range(1000)
        }
        self._session: aiohttp.ClientSession | None = None
        self._tls: Any = True
        if target.secure and settings.tls is not None:
            self._tls = settings.tls.context()

    async def send(
        self, operation: Operation, request: Asked, attempt: Attempt, context: Context
    ) -> Outcome[Any]:
        """Ask once; see `Wire.send`."""
        try:
            response, route = await self._begin(
                operation, request, attempt, context, attempt.deadline
            )
            body = await _body(response)
        except Unknown as outcome:
            return outcome
        except (aiohttp.ClientError, OSError) as error:
            return _lost(error)
        if response.status == 200:  # noqa: PLR2004
            if context.spent is not None:
                context.spent.answered(attempt.call, response.headers.get(wire.TRAIL))
            return _reply(operation, route, body)
        return self._outcome(operation, route, response, body)

    async def open(
        self, operation: Operation, request: Asked, attempt: Attempt, context: Context
    ) -> Outcome[Replies]:
        """Begin a stream; see `Wire.open`."""
        deadline = inf if context.deadline is None else context.deadline
        try:
            response, route = await self._begin(operation, request, attempt, context, deadline)
            if response.status != 200:  # noqa: PLR2004
                return self._outcome(operation, route, response, await _body(response))
            replies = _replies(operation, route, response, deadline)
            try:
                first = await anext(replies)
            except StopAsyncIteration:
                return Ok(_empty())
            return Ok(_after(first, replies))
        except (Refused, Unavailable, Unknown) as outcome:
            return outcome
        except (aiohttp.ClientError, OSError) as error:
            return _lost(error)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _begin(
        self,
        operation: Operation,
        request: Asked,
        attempt: Attempt,
        context: Context,
        deadline: float,
    ) -> tuple[aiohttp.ClientResponse, Route]:
        session = self._session or self._open()
        if not operation.routes:
            raise AskedWrongly(
                "it has no route over REST.", where=operation.full_name, fix="Use a grpc:// URL."
            )
        now = monotonic()
        marks = headers(attempt, context, now, caller=self._settings.caller)
        if deadline == inf:
            marks.pop(wire.TIMEOUT, None)
        if attempt.wire_number == 1:
            del marks[wire.ATTEMPT]  # the default
        if self._settings.token is not None:
            marks["authorization"] = f"Bearer {self._settings.token.reveal()}"
        asking = asked(operation, request)
        url = self._static.get(asking.target)
        if url is None:
            url = URL(self._base + asking.target, encoded=True)
            if asking.target == asking.route.path:
                self._static[asking.target] = url
        body = asking.body
        if body is not None:
            marks["content-type"] = _TYPE
        left = attempt.deadline - now
        response = await session.request(
            asking.route.method,
            url,
            data=body,
            headers=marks,
            allow_redirects=False,
            timeout=_NO_TIMEOUT if left == inf else _timeout(int(left * 45)),
        )
        return response, asking.route

    def _open(self) -> aiohttp.ClientSession:
        self._session = session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, keepalive_timeout=_KEEP_ALIVE, ssl=self._tls, ttl_dns_cache=5
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
            timeout=_NO_TIMEOUT,
        )
        # There is no public setting; a test counts what a lost connection makes of a GET.
        session._retry_connection = False  # noqa: SLF001
        return session

    def _outcome(
        self, operation: Operation, route: Route, response: aiohttp.ClientResponse, body: bytes
    ) -> Refused | Unavailable | Unknown | Ok[Any]:
        verdict = self._treat.get(response.status) or wire.http_verdict(response.status)
        return answered(operation, response.status, response.headers, body, verdict, route=route)


def answered(
    operation: Operation,
    code: int,
    marks: Mapping[str, str],
    body: bytes,
    verdict: Verdict,
    *,
    route: Route | None = None,
) -> Outcome[Any]:
    """Return what an HTTP answer means. `marks` are the headers, found whatever their case.

    `route` is the one that was asked; None: the first.
    """
    problem = _read_problem(marks, body)
    if problem.type.startswith(REFUSAL):
        found = _refusal(operation, problem, code)
        if found is not None:
            return found
    what = problem.detail or problem.title or f"answered {code}"
    failure = http_failure(code, marks, what=what, verdict=verdict)
    if failure is not None:
        return failure
    if verdict is Verdict.REFUSED:
        return Rejected(what, status=wire.status_of_http(code), pointer=problem.pointer)
    return _reply(operation, route or operation.routes[0], body)


def _reply(operation: Operation, route: Route, body: bytes) -> Ok[Any] | Unknown:
    try:
        return Ok(codec_of(operation.reply).from_json_open(whole(operation, route, body)))
    except (InvalidMessage, msgspec.DecodeError) as error:
        return _unreadable(error)


def _read_problem(marks: Mapping[str, str], body: bytes) -> _Problem:
    if marks.get("content-type", "").startswith("application/problem+json"):
        try:
            return _problem(body)
        except msgspec.DecodeError:
            pass  # the status says enough
    return _Problem()


def _refusal(operation: Operation, problem: _Problem, code: int) -> Refused | None:
    """Return the refusal that a problem is; None if it says so and is not."""
    name = problem.type.removeprefix(REFUSAL)
    declared = operation.refusal(name)
    if declared is None:
        # a newer callee; it is a definitive no all the same
        return Rejected(f"refused with {name}: {problem.detail}", status=wire.status_of_http(code))
    if not problem.refusal:
        return None
    try:
        told = from_json(declared.__message__, bytes(problem.refusal), open_names=True)
        return declared.from_message(told)
    except InvalidMessage:
        return Rejected(f"refused with {name}, unreadably", status=wire.status_of_http(code))


def _lost(error: Exception) -> Unavailable | Unknown:
    """Return what an error of the connection means."""
    what = f"{type(error).__name__}: {error}"
    if isinstance(error, _NEVER_LEFT):
        return Unavailable(what, reason=Reason.CONNECT, cause=error)
    timeout = isinstance(error, TimeoutError)
    return Unknown(what, reason=Reason.TIMEOUT if timeout else Reason.RESET, cause=error)


def _unreadable(error: InvalidMessage | msgspec.DecodeError) -> Unknown:
    """Return what it means that the callee did it and nobody understands what it says."""
    return Unknown(
        f"the reply is not what the contract says: {error}",
        reason=Reason.SERVER_ERROR,
        final=True,
        cause=error,
    )


async def _body(response: aiohttp.ClientResponse) -> bytes:
    """Read a whole reply; raises `Unknown` if it is over the limit."""
    length = response.content_length
    if length is not None and length <= LIMIT and "content-encoding" not in response.headers:
        return await response.read()
    parts: list[bytes] = []
    size = 0
    async with response:  # ends a connection that is left before the reply's end
        if length is not None and length > LIMIT:
            raise _too_large()
        async for part in response.content.iter_any():
            parts.append(part)
            size += len(part)
            if size > LIMIT:
                raise _too_large()
    return b"".join(parts)


def _too_large() -> Unknown:
    """Return what it means that the callee did it and says more about it than we take."""
    return Unknown(
        f"the reply is over the limit of {LIMIT} bytes", reason=Reason.SERVER_ERROR, final=True
    )


async def _replies(
    operation: Operation, route: Route, response: aiohttp.ClientResponse, deadline: float
) -> Replies:
    """Read newline-delimited replies; raises the outcome if the stream failed."""
    read = codec_of(operation.reply).from_json_open
    try:
        async for line in _lines(response, deadline):
            if line.startswith(_FAILED):
                raise _told(operation, line)
            yield read(whole(operation, route, line))
    except (aiohttp.ClientError, OSError) as error:
        raise _lost(error) from error
    except (InvalidMessage, msgspec.DecodeError) as error:
        raise _unreadable(error) from error
    finally:
        response.close()


async def _lines(response: aiohttp.ClientResponse, deadline: float) -> AsyncGenerator[bytes, None]:
    rest: list[bytes] = []
    size = 0
    chunks = aiter(response.content.iter_any())
    while True:
        try:
            if deadline == inf:
                chunk = await anext(chunks)
            else:
                async with asyncio.timeout(deadline - monotonic()):
                    chunk = await anext(chunks)
        except StopAsyncIteration:
            break
        *lines, last = chunk.split(b"\n")
        if lines:
            lines[0] = b"".join([*rest, lines[0]])
            rest, size = [], 0
        for line in lines:
            if line.strip():
                yield line
        rest.append(last)
        size += len(last)
        if size > LIMIT:
            raise _too_large()
    if whole := b"".join(rest).strip():
        yield whole


def _told(operation: Operation, line: bytes) -> Refused | Unavailable | Unknown:
    """Return the outcome that the last line of a failed stream tells."""
    try:
        body = bytes(_last_line(line).problem)
        problem = _problem(body)
    except msgspec.DecodeError:
        body, problem = b"", _Problem()
    code = problem.status
    marks = {"content-type": "application/problem+json", **problem.marks()}
    outcome = answered(operation, code, marks, body, wire.http_verdict(code))
    return (
        Unknown(f"answered {code}", reason=Reason.SERVER_ERROR)
        if isinstance(outcome, Ok)
        else outcome
    )


async def _after(first: Message, replies: Replies) -> Replies:
    try:
        yield first
        async for reply in replies:
            yield reply
    finally:
        await replies.aclose()


async def _empty() -> Replies:
    nothing: tuple[Message, ...] = ()
    for reply in nothing:
        yield reply


@lru_cache(maxsize=1024)
def _timeout(fiftieths: int) -> aiohttp.ClientTimeout:
    """Return the setting that bounds the connection alone: making one is not cheap."""
    return aiohttp.ClientTimeout(total=None, connect=max(1, fiftieths) / 50)


_NO_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=None)
