"""HTTP/1.1 at our own REST door: uvicorn on httptools, with bounds on what is no body.

httptools keeps what it has not understood yet for as long as it takes: a header of 60 MB is 60 MB
of memory, a head that never ends a connection for ever. So a head (the request line and the
headers, and the trailers behind a body) has a size and a time:

| the head                                        | answer                              |
| ----------------------------------------------- | ----------------------------------- |
| is over `HEAD` bytes                            | 431; 414 if that is the URL alone   |
| has begun and is not whole after `PATIENCE`     | 408, `not-executed`                 |
| has not begun after `PATIENCE`                  | the connection is closed            |
| is no HTTP                                      | 400                                 |

A client that takes nothing of an answer for `TAKING` seconds is cut off, so that nobody holds a
stream's place for ever by not reading it. Who works on each reply for a minute is well inside.

The connection ends with the answer. What still comes in is dropped for `LINGER` seconds, because
closing at once would reset the connection, and the client would not see why. Bodies are bounded by
`serve/rest.py`, and for another ASGI application by itself.
"""

from __future__ import annotations

from asyncio import TimerHandle, Transport
from http import HTTPStatus
from typing import Any, Final, cast

from switchgear.errors import MissingExtra
from switchgear.model.outcome import Rejected, Status
from switchgear.serve.failure import Failure
from switchgear.serve.problem import MEDIA_TYPE, problem

try:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ImportError as error:
    raise MissingExtra("uvicorn and httptools", "http") from error

__all__ = ["HEAD", "HttpProtocol"]

HEAD: Final = 64 * 1024
PATIENCE: Final = 30.0
LINGER: Final = 1.0
TAKING: Final = 300.0


class _Turned(Exception):
    """The parser is to stop: the request is turned away."""


class HttpProtocol(HttpToolsProtocol):
    """One connection. Named to `uvicorn.Config(http=...)`, which makes one each."""

    patience = PATIENCE
    taking = TAKING

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.url = b""  # uvicorn has none before the first request
        self._unread = 0
        """Bytes that were fed, and that nothing has come of yet."""
        self._chunk = 0
        self._progress = False
        self._in_head = False
        self._over = False
        self._timer: TimerHandle | None = None
        self._full: TimerHandle | None = None
        """Rings when the client has taken nothing for too long."""

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Wait for a first request, though not for ever."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(self.patience, self._late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._stop_waiting()
        self._taken()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Wait for the client to take what was sent, though not for ever."""
        super().pause_writing()
        self._full = self.loop.call_later(self.taking, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: the client has taken most of it."""
        self._taken()
        super().resume_writing()

    def _taken(self) -> None:
        if self._full is not None:
            self._full.cancel()
            self._full = None

    def data_received(self, data: bytes) -> None:
        """Feed the parser, and see whether anything came of it."""
        if not self._over:
            self._chunk, self._progress = len(data), False
            super().data_received(data)
            self._fed()

    def _fed(self) -> None:
        if self._over:
            return
        if not self._progress:
            self._unread += self._chunk
            if self._unread > HEAD:
                self._turn(*self._too_large())
                return
        if self._in_head and self._timer is None:
            self._timer = self.loop.call_later(self.patience, self._late)

    def on_message_begin(self) -> None:
        """Begin a head."""
        self._in_head = self._progress = True
        self._unread = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """End a head; what came in one piece is measured now."""
        if self._unread + self._chunk > HEAD:
            size = sum(len(name) + len(value) for name, value in self.headers)
            if len(self.url) + size > HEAD:
                raise _Turned
        self._in_head, self._progress = False, True
        self._unread = 0
        self._stop_waiting()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        self._progress = True
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        self._progress = True
        self._unread = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Say why the parser has stopped, which uvicorn does with a text of its own."""
        del msg
        if self._in_head and self._unread + self._chunk > HEAD:
            self._turn(*self._too_large())
        else:
            self._turn(HTTPStatus.BAD_REQUEST, Status.INVALID_ARGUMENT, "this is not HTTP/1.1.")

    def _too_large(self) -> tuple[HTTPStatus, Status, str]:
        if len(self.url) > HEAD:
            what = f"the URL is over the limit of {HEAD} bytes: send it as a body."
            return HTTPStatus.REQUEST_URI_TOO_LONG, Status.RESOURCE_EXHAUSTED, what
        what = f"the headers are over the limit of {HEAD} bytes."
        return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, Status.RESOURCE_EXHAUSTED, what

    def _late(self) -> None:
        """End a connection on which no head has arrived in time."""
        self._timer = None
        if self._in_head:
            what = "the headers did not arrive in time."
            self._turn(HTTPStatus.REQUEST_TIMEOUT, Status.DEADLINE_EXCEEDED, what)
        else:
            self.transport.close()

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _turn(self, code: HTTPStatus, status: Status, what: str) -> None:
        """Answer, and end the connection."""
        self._stop_waiting()
        self._over = True
        cycle = cast("Any", self.cycle)  # None before the first request
        if cycle is not None and not cycle.response_complete:
            # another request's answer is still to come: nothing can be said before it
            self.transport.abort()
            return
        late = code is HTTPStatus.REQUEST_TIMEOUT
        failure = Failure(status, Rejected.code, what, not_executed=late)
        _, body = problem(failure, path=self.url.decode("latin-1")[:200], status=code)
        lines = [
            f"HTTP/1.1 {code.value} {code.phrase}",
            f"content-type: {MEDIA_TYPE}",
            f"content-length: {len(body)}",
            *(f"{name}: {value}" for name, value in failure.marks().items()),
            "connection: close\r\n\r\n",
        ]
        self.transport.write("\r\n".join(lines).encode("latin-1") + body)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._timer = self.loop.call_later(LINGER, self.transport.close)
