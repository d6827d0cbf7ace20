"""The two forms of a stream over REST.

| | JSON lines | server-sent events |
| --- | --- | --- |
| media type | `application/x-ndjson` | `text/event-stream`, where the client accepts it |
| a reply | a line | `data: {...}` |
| a failure after the first reply | a last line `{"@problem": {...}}` | `event: problem` |
| the end | the end of the response | `event: end`: a browser asks again for what just ends |

| silence | nothing is sent | a comment, `:`, now and then: a proxy cuts what is silent for long |

A failure before the first reply is an answer of its own, with its status; once a comment was sent,
it is the event. Neither form knows where a stream was cut: there are no event ids, and
`Last-Event-ID` is not read, because a handler is not asked to go on from one. A contract whose
streams can be taken up again has a field for the place in its request, for every wire.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import monotonic
from types import TracebackType
from typing import Final, Self

from switchgear.serve.asgi import Headers, Send

__all__ = ["Form", "Outlet", "form_of"]


@dataclass(frozen=True, slots=True)
class Form:
    """What is written around each reply."""

    headers: Headers
    before: bytes
    after: bytes
    problem: tuple[bytes, bytes]
    end: bytes
    beat: bytes
    """What says that the stream goes on; empty: nothing does."""

    def reply(self, json: bytes) -> bytes:
        """Return what is sent for one reply."""
        return b"%s%s%s" % (self.before, json, self.after)

    def failure(self, problem: bytes) -> bytes:
        """Return what is sent last where a stream failed."""
        before, after = self.problem
        return b"%s%s%s" % (before, problem, after)


LINES: Final = Form(
    headers=[(b"content-type", b"application/x-ndjson")],
    before=b"",
    after=b"\n",
    problem=(b'{"@problem":', b"}\n"),
    end=b"",
    beat=b"",
)
EVENTS: Final = Form(
    headers=[
        (b"content-type", b"text/event-stream"),
        (b"cache-control", b"no-store"),
        (b"x-accel-buffering", b"no"),  # nginx would hold events back until it has many
    ],
    before=b"data: ",
    after=b"\n\n",
    problem=(b"event: problem\ndata: ", b"\n\n"),
    end=b"event: end\ndata: {}\n\n",
    beat=b":\n\n",
)


def form_of(accept: str) -> Form:
    """Return the form that a client asks for: events if it names them, otherwise lines."""
    for one in accept.split(","):
        media, *parameters = (part.strip().lower() for part in one.split(";"))
        if media == "text/event-stream":
            return LINES if "q=0" in parameters else EVENTS
    return LINES


class Outlet:
    """The response that a stream is: it begins with what is sent first.

    `beat`: after how many seconds of silence a heartbeat is sent, where the form has one, from
    `begin` to the end of the `with`. Nothing is ever sent by two at a time.
    """

    def __init__(self, send: Send, form: Form, headers: Headers, beat: float | None) -> None:
        self._send = send
        self._form = form
        self._headers = [*form.headers, *headers]
        self._every = beat if form.beat else None
        self._lock = asyncio.Lock()
        """Held by a heartbeat alone: a reply costs more with it."""
        self._busy = False
        """Whether a reply is being sent."""
        self._latest = 0.0
        self._beating: asyncio.Task[None] | None = None
        self.started = False
        """Whether the status has left."""

    def begin(self) -> None:
        """Let heartbeats begin: the handler is about to run."""
        if self._every is not None:
            self._latest = monotonic()
            self._beating = asyncio.get_running_loop().create_task(self._beats(self._every))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.wait([self._beating])
            if not self._beating.cancelled():
                self._beating.exception()  # nobody is there: who sends next is told the same

    async def write(self, data: bytes) -> None:
        """Send; it returns when the client has taken enough of what was sent before."""
        if self._every is None:
            await self._put(data)
            return
        if self._lock.locked():
            async with self._lock:  # a heartbeat is on its way
                pass
        self._busy = True
        try:
            await self._put(data)
        finally:
            self._busy, self._latest = False, monotonic()

    async def end(self) -> None:
        """End the response."""
        await self._send({"type": "http.response.body", "body": b""})

    async def _put(self, data: bytes) -> None:
        if not self.started:
            self.started = True
            start = {"type": "http.response.start", "status": 200, "headers": self._headers}
            await self._send(start)
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def _beats(self, every: float) -> None:
        while True:
            left = self._latest + every - monotonic()
            if left > 0:
                await asyncio.sleep(left)
            elif self._busy:
                await asyncio.sleep(every)  # the client takes its time: it is no silence
            else:
                async with self._lock:
                    await self._put(self._form.beat)
                self._latest = monotonic()
