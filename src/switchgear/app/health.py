"""`/livez` and `/readyz`: what an orchestrator asks a service.

Alive means that the event loop turns. Ready means that work may be sent: everything is open, and
nobody has asked the service to stop.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final, TypeAlias

__all__ = ["App", "Health", "Message", "Receive", "Scope", "Send", "with_health"]

# ASGI's own types: its messages are open dictionaries
Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_LIVE: Final = "/livez"
_READY: Final = "/readyz"


class Health:
    """How a service is; the runtime changes it, the doors show it.

    `check` looks at the parts when somebody asks whether it is ready.
    """

    def __init__(self, service: str, *, check: Callable[[], Awaitable[None]] | None = None) -> None:
        self.service = service
        self.check = check
        self.state = "starting"
        """starting, ready, draining or stopped."""
        self.parts: dict[str, str] = {}
        """What it cannot work without, each with `ok` or with what is wrong."""
        self.details: Mapping[str, object] = {}
        """What else there is to know; it does not decide whether the service is ready."""

    @property
    def ready(self) -> bool:
        """Whether work may be sent."""
        return self.state == "ready" and all(said == "ok" for said in self.parts.values())

    def describe(self) -> dict[str, object]:
        """Return what `/readyz` answers."""
        told: dict[str, object] = {"service": self.service, "state": self.state}
        told["ready"] = self.ready
        if self.parts:
            told["parts"] = dict(self.parts)
        return told | dict(self.details)


def with_health(app: App, health: Health) -> App:
    """Return `app` with `GET /livez` and `GET /readyz` in front of it."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        # mounted in another application, the path begins with its prefix
        path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        if (
            scope["type"] == "http"
            and path in (_LIVE, _READY)
            and scope["method"] in ("GET", "HEAD")
        ):
            live = path == _LIVE
            if not live and health.check is not None and health.state == "ready":
                await health.check()
            status = 200 if live or health.ready else 503
            body = {"service": health.service, "alive": True} if live else health.describe()
            await _answer(send, status, json.dumps(body).encode())
            return
        await app(scope, receive, send)

    return wrapped


async def _answer(send: Send, status: int, body: bytes) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
