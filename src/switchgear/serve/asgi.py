"""What the REST door needs of ASGI 3: reading a body, sending an answer, noticing a departure."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import suppress
from time import monotonic
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

from switchgear.serve.alarm import Interruption, Slot, alarms

__all__ = [
    "App",
    "Gone",
    "Headers",
    "Message",
    "Receive",
    "Scope",
    "Send",
    "TooLarge",
    "Watch",
    "answer",
    "read_body",
]

# ASGI's own types: its messages are mappings of strings to whatever the message says.
Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers: TypeAlias = list[tuple[bytes, bytes]]

PATIENCE: Final = 0.25
_LINGER: Final = 1.0
_NO_CONTENT: Final = 204


class Gone(BaseException):
    """The client has left: there is nobody to answer.

    Not an Exception: it is no failure of the request, which it ends as a cancellation would.
    """


class TooLarge(Exception):
    """The body is over the limit; the rest of it was not read."""


async def read_body(receive: Receive, length: str, limit: int) -> bytes:
    """Read a request's body of at most `limit` bytes.

    `length` is the Content-Length header, "" if there is none. Raises `TooLarge`, before anything
    is read where the header says so, and `Gone`.
    """
    if length.isdigit() and int(length) > limit:
        raise TooLarge
    message = await receive()
    if message["type"] == "http.disconnect":
        raise Gone
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        if len(body) > limit:
            raise TooLarge
        return body
    chunks = [body]
    size = len(body)
    while message.get("more_body", False):
        if size > limit:
            raise TooLarge
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
    if size > limit:
        raise TooLarge
    return b"".join(chunks)


async def answer(
    send: Send,
    status: int,
    body: bytes,
    headers: Iterable[tuple[bytes, bytes]],
    *,
    unread: Receive | None = None,
) -> None:
    """Send a whole answer.

    unread: where the rest of a request comes from that is not wanted any more. It is dropped for a
    second before the answer is ended: a server that closes a connection on which something still
    comes in resets it, and the client may not see the answer.
    """
    told = [*headers]
    if status != _NO_CONTENT:  # RFC 9110, 8.6
        told.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": told})
    if unread is not None:
        await send({"type": "http.response.body", "body": body, "more_body": True})
        body = b""
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER):
                while (await unread()).get("more_body", False):
                    pass
    await send({"type": "http.response.body", "body": body})


class Watch(Interruption):
    """Cancels the task of the `with` block when the client leaves; then `Gone` is raised instead.

    From `begin` on, when the body has been read. It looks after `patience` seconds, because looking
    costs more than most requests.
    """

    __slots__ = ("_patience", "_receive", "_slot", "_watcher")

    def __init__(self, receive: Receive, patience: float = PATIENCE) -> None:
        super().__init__()
        self._receive = receive
        self._patience = patience
        self._watcher: asyncio.Task[None] | None = None
        self._slot: Slot | None = None

    def __enter__(self) -> Self:
        return self

    def begin(self) -> None:
        """Set the alarm at which it begins to look."""
        self._slot = alarms().set(monotonic() + self._patience, self)

    def __call__(self) -> None:
        """Begin to look: the alarm rings."""
        self._watcher = asyncio.get_running_loop().create_task(self._look())

    async def _look(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.interrupt()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._slot is not None:
            self._slot.pop(self, None)
        if self._watcher is not None:
            self._watcher.cancel()
        if self.end(error):
            raise Gone from error
