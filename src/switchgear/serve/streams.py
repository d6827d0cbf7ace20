"""The two forms of a stream over REST.

| | JSON lines | server-sent events |
| --- | --- | --- |
| media type | `application/x-ndjson` | `text/event-stream`, where the client accepts it |
| a reply | a line | `data: {...}` |
| a failure after the first reply | a last line `{"@problem": {...}}` | `event: problem` |
| the end | the end of the response | `event: end`: a browser asks again for what just ends |

A failure before the first reply is an answer of its own, with its status. Neither form knows where
a stream was cut: there are no event ids, because a handler is not asked to go on from one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["Form", "form_of"]


@dataclass(frozen=True, slots=True)
class Form:
    """What is written around each reply."""

    type: tuple[bytes, bytes]
    before: bytes
    after: bytes
    problem: tuple[bytes, bytes]
    end: bytes

    def reply(self, json: bytes) -> bytes:
        """Return what is sent for one reply."""
        return b"%s%s%s" % (self.before, json, self.after)

    def failure(self, problem: bytes) -> bytes:
        """Return what is sent last where a stream failed."""
        before, after = self.problem
        return b"%s%s%s" % (before, problem, after)


LINES: Final = Form(
    type=(b"content-type", b"application/x-ndjson"),
    before=b"",
    after=b"\n",
    problem=(b'{"@problem":', b"}\n"),
    end=b"",
)
EVENTS: Final = Form(
    type=(b"content-type", b"text/event-stream"),
    before=b"data: ",
    after=b"\n\n",
    problem=(b"event: problem\ndata: ", b"\n\n"),
    end=b"event: end\ndata: {}\n\n",
)


def form_of(accept: str) -> Form:
    """Return the form that a client asks for: events if it names them, otherwise lines."""
    for one in accept.split(","):
        media, *parameters = (part.strip().lower() for part in one.split(";"))
        if media == "text/event-stream":
            return LINES if "q=0" in parameters else EVENTS
    return LINES
