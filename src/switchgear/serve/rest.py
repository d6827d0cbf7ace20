"""The REST door: an ASGI application for the routes that the contracts declare.

A path parameter, a query parameter and a member of the JSON body are all fields of the request
message (`switchgear.serve.transcoding`). Every error is problem+json.

Besides the operations: `/openapi.json`, `/docs`, `/livez` and `/readyz`. Mounted in another
application, all of them move under its prefix (`root_path`).

A stream is answered as JSON lines, or as server-sent events where the client asks for them
(`switchgear.serve.streams`); a connection that just ends is a stream that was cut.

A client that hangs up cancels the handler, as a deadline does: a transaction is then rolled back,
or its commit waited for.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from time import monotonic
from typing import Any, Final, NamedTuple, TypeAlias
from urllib.parse import quote

from switchgear.contract.message import Message
from switchgear.contract.route import Route
from switchgear.contract.service import Operation
from switchgear.model import wire
from switchgear.model.outcome import Refused, Rejected, Status, Unavailable, Unknown
from switchgear.model.trail import write
from switchgear.serve import asgi
from switchgear.serve.alarm import Within
from switchgear.serve.arrival import Arrival, context_of
from switchgear.serve.asgi import Headers, Receive, Scope, Send
from switchgear.serve.cors import Cors
from switchgear.serve.dispatch import Asked, Dispatcher, Read
from switchgear.serve.failure import TurnedAway, failure_of
from switchgear.serve.openapi import document, page, written
from switchgear.serve.problem import MEDIA_TYPE, problem, retry_after
from switchgear.serve.routing import Router
from switchgear.serve.streams import Outlet, form_of
from switchgear.serve.transcoding import Transcoding

__all__ = ["Readiness", "Rest"]

log = logging.getLogger("switchgear.serve")

Readiness: TypeAlias = Callable[[], bool | Awaitable[bool]]
"""Tells whether requests should be sent here."""

LIMIT: Final = 1024 * 1024
HEARTBEAT: Final = 15.0
"""Proxies cut what is silent for a minute, most of them."""
_TOO_LARGE: Final = 413
_PATIENCE: Final = 30.0
"""Seconds in which a body has to arrive; the caller's deadline may be sooner."""
_AS_THEY_ARE: Final = "/:!$&'()+,;=@"
"""What RFC 3986 lets stand in a path, but for what a template cannot say."""
_JSON: Final = (b"content-type", b"application/json")
_PROBLEM: Final = (b"content-type", MEDIA_TYPE.encode())
_TRAIL: Final = wire.TRAIL.encode()
_HTML: Final = [
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'"),
]
_ENTITY: Final = ("accept", "content-type", "content-length", "content-encoding", "origin")
_READ: Final[Mapping[bytes, str]] = {
    name.encode(): name
    for name in (
        wire.TIMEOUT,
        wire.ATTEMPT,
        wire.PRIORITY,
        wire.CALLER,
        wire.IDEMPOTENCY_KEY,
        wire.TRACEPARENT,
        wire.TRACESTATE,
        *_ENTITY,
    )
}


class _Turned(Rejected):
    """Turned away by the door itself, with an HTTP status of its own."""

    def __init__(
        self, http: int, status: Status, detail: str, *headers: tuple[bytes, bytes]
    ) -> None:
        super().__init__(detail, status=status)
        self.http = http
        self.headers = headers


class _Entry(NamedTuple):
    """One operation as it is reached by one of its routes."""

    operation: Operation
    route: Route
    transcoding: Transcoding


class _Streaming(NamedTuple):
    """A request whose answer is a stream."""

    arrival: Arrival
    read: Read
    watch: asgi.Watch
    answer: Callable[[Message], bytes]


class _Late(TurnedAway):
    """The body did not arrive, and no deadline of the caller's has said until when."""

    http = 408
    headers = ((b"connection", b"close"),)


_Asked: TypeAlias = tuple[Scope, dict[str, str], Headers]
"""A request: the scope, its headers that matter, and what goes on every answer to it."""
_Content: TypeAlias = tuple[int, bytes, Headers]
Page: TypeAlias = Callable[["Rest", Scope], Awaitable[_Content]]


class Rest:
    """The ASGI application of one service.

    `limit` bounds a request's body, in bytes. `heartbeat`: after how many seconds of silence a
    stream of events gets a comment, so that no proxy cuts it; None: never. `cors` is off without a
    `Cors`. `ready` is asked by `/readyz`. `docs=False` leaves out `/openapi.json` and `/docs`.
    `lifespan` is entered when the server starts and left when it stops; a mounted application is
    not told of either.

    Raises `ContractError` if two operations share a route.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        *,
        title: str = "",
        version: str = "",
        limit: int = LIMIT,
        heartbeat: float | None = HEARTBEAT,
        cors: Cors | None = None,
        docs: bool = True,
        ready: Readiness | None = None,
        lifespan: Callable[[], AbstractAsyncContextManager[object]] | None = None,
    ) -> None:
        self._dispatcher = dispatcher
        self._limit = limit
        self._heartbeat = heartbeat
        self._cors = cors
        self._ready = ready
        self._lifespan = lifespan
        self._title = title
        self._version = version
        self._document: Mapping[str, Any] | None = None
        self._router: Router[_Entry | Page] = Router()
        for contract in dispatcher.contracts.values():
            for operation in contract.operations.values():
                for route in operation.routes:  # without one it is reached over gRPC alone
                    entry = _Entry(operation, route, Transcoding(operation, route))
                    self._router.add(route.method, route.path, entry)
        self._router.add("GET", "/livez", Rest._livez)
        self._router.add("GET", "/readyz", Rest._readyz)
        if docs:
            self._router.add("GET", "/openapi.json", Rest._openapi)
            self._router.add("GET", "/docs", Rest._docs)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, as ASGI 3 calls it."""
        kind = scope["type"]
        if kind == "http":
            await self._http(scope, receive, send)
        elif kind == "lifespan":
            await self._live(receive, send)
        elif kind == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        found: dict[str, str] = {}
        for name, value in scope["headers"]:
            known = _READ.get(name)
            if known is not None:
                found[known] = value.decode("latin-1")
        extra: Headers = []
        if self._cors is not None:
            origin = found.get("origin")
            extra = self._cors.answer(None if origin is None else origin.encode("latin-1"))
        asked = (scope, found, extra)
        try:
            await self._route(asked, receive, send)
        except (Refused, Unavailable, Unknown) as outcome:
            await self._fail(asked, outcome, receive, send)
        except asgi.Gone:
            return  # nobody is there to be answered

    async def _route(self, asked: _Asked, receive: Receive, send: Send) -> None:
        """Find out what is asked for, and do it."""
        scope, found, extra = asked
        method: str = scope["method"]
        wanted = "GET" if method == "HEAD" else method
        match = self._router.find(_path(scope), wanted)
        if match is None:
            raise _Turned(404, Status.NOT_FOUND, "there is nothing under this path.")
        entry = match.methods.get(wanted)
        if entry is None:
            offered = sorted({*match.methods, *(["HEAD"] if "GET" in match.methods else ())})
            if method == "OPTIONS" and self._cors is not None and "origin" in found:
                origin = found["origin"].encode("latin-1")
                await asgi.answer(send, 204, b"", self._cors.preflight(origin, offered))
                return
            allow = ", ".join(offered)
            what = f"{method} is not offered here; {allow} is."
            raise _Turned(405, Status.UNIMPLEMENTED, what, (b"allow", allow.encode()))
        if isinstance(entry, _Entry):
            await self._operate(entry, match.parameters, asked, receive, send)
            return
        status, body, headers = await entry(self, scope)
        await asgi.answer(send, status, b"" if method == "HEAD" else body, [*extra, *headers])

    async def _operate(
        self,
        entry: _Entry,
        parameters: Mapping[str, str],
        asked: _Asked,
        receive: Receive,
        send: Send,
    ) -> None:
        """Carry out one operation and answer it."""
        now = monotonic()
        scope, found, extra = asked
        operation = entry.operation
        arrival = Arrival(
            operation=operation,
            route=entry.route,
            door="http",
            pairs=scope["headers"],
            source=scope,
            context=context_of(found, now),
            received=now,
            given_key=found.get(wire.IDEMPOTENCY_KEY),
        )
        # a server drops what is sent to a client that left: for a stream only watching tells
        watch = asgi.Watch(receive, 0.0) if operation.streaming else asgi.Watch(receive)

        async def read() -> Asked:
            body = await self._body(receive, found) if entry.route.has_body else b""
            request = entry.transcoding.request(parameters, scope["query_string"], body)
            if operation.streaming and scope["method"] == "HEAD":
                form = form_of(found.get("accept", ""))
                await asgi.answer(send, 200, b"", [*form.headers, *extra])
                raise asgi.Gone  # nobody is there for the replies
            watch.begin()
            return request

        if operation.streaming:
            stream = _Streaming(arrival, read, watch, entry.transcoding.answer)
            await self._stream(stream, asked, send)
            return
        with watch:
            reply = await self._dispatcher.handle(operation, read, arrival)
        encoded = entry.transcoding.answer(reply)
        length = (b"content-length", b"%d" % len(encoded))
        headers = [_JSON, length, *extra]
        if arrival.trail:
            headers.append((_TRAIL, write(arrival.trail).encode()))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if scope["method"] == "HEAD":
            encoded = b""
        await send({"type": "http.response.body", "body": encoded})

    async def _body(self, receive: Receive, found: Mapping[str, str]) -> bytes:
        length = found.get("content-length", "")
        try:
            with Within(monotonic() + _PATIENCE):
                body = await asgi.read_body(receive, length, self._limit)
        except TimeoutError:
            what = "the body did not arrive in time."
            raise _Late(what, status=Status.DEADLINE_EXCEEDED) from None
        except asgi.TooLarge:
            raise _Turned(
                _TOO_LARGE,
                Status.RESOURCE_EXHAUSTED,
                f"the body is over the limit of {self._limit} bytes.",
                (b"connection", b"close"),
            ) from None
        if body and not _is_json(found):
            raise _Turned(
                415,
                Status.INVALID_ARGUMENT,
                "the body is not application/json in UTF-8, uncompressed.",
                (b"accept", b"application/json"),
            )
        return body

    async def _stream(self, stream: _Streaming, asked: _Asked, send: Send) -> None:
        scope, found, extra = asked
        form = form_of(found.get("accept", ""))
        out = Outlet(send, form, extra, self._heartbeat)

        async def begin() -> Asked:
            request = await stream.read()
            out.begin()
            return request

        async def emit(reply: Message) -> None:
            await out.write(form.reply(stream.answer(reply)))

        try:
            async with out:
                with stream.watch:
                    arrival = stream.arrival
                    await self._dispatcher.stream(arrival.operation, begin, arrival, emit)
        except (Refused, Unavailable, Unknown) as outcome:
            if not out.started:
                raise
            _, body = problem(failure_of(outcome), path=scope["path"], marks=True)
            await out.write(form.failure(body))
        else:
            await out.write(form.end)
        await out.end()

    async def _fail(
        self, asked: _Asked, outcome: Refused | Unavailable | Unknown, receive: Receive, send: Send
    ) -> None:
        scope, _, extra = asked
        failure = failure_of(outcome)
        turned = outcome if isinstance(outcome, _Turned | _Late) else None
        code = None if turned is None else turned.http
        status, body = problem(failure, path=scope["path"], status=code)
        headers = [_PROBLEM, *extra, *(() if turned is None else turned.headers)]
        headers += [(name.encode(), value.encode()) for name, value in failure.marks().items()]
        wait = retry_after(failure)
        if wait is not None:
            headers.append((b"retry-after", wait.encode()))
        if failure.status is Status.UNAUTHENTICATED:
            headers.append((b"www-authenticate", b"Bearer"))
        shown = b"" if scope["method"] == "HEAD" else body
        unread = receive if status == _TOO_LARGE else None
        await asgi.answer(send, status, shown, headers, unread=unread)

    async def _livez(self, _: Scope) -> _Content:
        return 200, b'{"status":"ok"}', [_JSON]

    async def _readyz(self, _: Scope) -> _Content:
        ready = True
        if self._ready is not None:
            told = self._ready()
            ready = await told if inspect.isawaitable(told) else told
        if ready:
            return 200, b'{"status":"ok"}', [_JSON]
        return 503, b'{"status":"not ready"}', [_JSON]

    async def _openapi(self, scope: Scope) -> _Content:
        return 200, written(self._described(), _prefix(scope)), [_JSON]

    async def _docs(self, scope: Scope) -> _Content:
        return 200, page(self._described(), _prefix(scope)), _HTML

    def _described(self) -> Mapping[str, Any]:
        if self._document is None:
            contracts = list(self._dispatcher.contracts.values())
            self._document = document(contracts, title=self._title, version=self._version)
        return self._document

    async def _live(self, receive: Receive, send: Send) -> None:
        """Enter and leave the lifespan as the server starts and stops."""
        await receive()
        manager = self._lifespan() if self._lifespan is not None else None
        try:
            if manager is not None:
                await manager.__aenter__()
        except Exception as error:
            log.exception("the application could not start")
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            raise
        await send({"type": "lifespan.startup.complete"})
        await receive()
        try:
            if manager is not None:
                await manager.__aexit__(None, None, None)
        except Exception as error:
            log.exception("the application could not stop")
            await send({"type": "lifespan.shutdown.failed", "message": str(error)})
            raise
        await send({"type": "lifespan.shutdown.complete"})


def _prefix(scope: Scope) -> str:
    """Return the prefix under which we are mounted, as it stands in a URL."""
    return quote(scope.get("root_path", "").rstrip("/"), safe="/")


def _path(scope: Scope) -> str:
    """Return the path below the prefix, still percent-encoded where it was.

    Where the server does not tell how it was, a slash is a slash: `a%2Fb` is then two segments.
    """
    path: str = scope["path"]
    raw: bytes | None = scope.get("raw_path")
    root: str = scope.get("root_path", "")
    below = not root or path == root or path.startswith(f"{root.rstrip('/')}/")
    if raw is not None and b"%" in raw:
        encoded = raw.partition(b"?")[0].decode("latin-1")
        depth = root.rstrip("/").count("/") if below else 0
        return "/" + "/".join(encoded.split("/")[depth + 1 :])
    inside = (path[len(root.rstrip("/")) :] or "/") if root and below else path
    if raw is None:  # optional in ASGI; the path is decoded, and we are about to decode it
        return quote(inside, safe=_AS_THEY_ARE)
    return inside


def _is_json(found: Mapping[str, str]) -> bool:
    """Tell whether the body is JSON as we read it.

    A body without a media type is not: browsers send such bodies across origins without asking.
    """
    media = found.get("content-type", "")
    if media == "application/json":
        return "content-encoding" not in found
    name, _, parameters = media.partition(";")
    name = name.strip().lower()
    if name != "application/json" and not (
        name.startswith("application/") and name.endswith("+json")
    ):
        return False
    for parameter in parameters.split(";"):
        key, _, value = parameter.partition("=")
        if key.strip().lower() == "charset" and value.strip(' "').lower() not in {"utf-8", "utf8"}:
            return False
    return found.get("content-encoding", "identity").lower() == "identity"
