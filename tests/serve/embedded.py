"""uvicorn inside the event loop of a test: no signals, no logging, a free port."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any, Final

import uvicorn

from switchgear.errors import OperationError
from switchgear.serve.asgi import App
from switchgear.serve.tls import Certificate

__all__ = ["HttpServer"]

# Longer than clients keep idle connections: a connection that the server drops while a request is
# on its way leaves that request's outcome unknown.
_KEEP_ALIVE: Final = 75


class HttpServer:
    """Serves `app` over HTTP/1.1. `certificate` turns TLS on; `settings` go to `uvicorn.Config`."""

    def __init__(
        self,
        app: App,
        *,
        certificate: Certificate | None = None,
        lifespan: bool = False,
        **settings: Any,
    ) -> None:
        tls = {} if certificate is None else certificate.uvicorn()
        fixed: dict[str, Any] = {
            "lifespan": "on" if lifespan else "off",
            "log_config": None,
            "access_log": False,
            "ws": "none",
            "timeout_keep_alive": _KEEP_ALIVE,
            "server_header": False,
        }
        # its type for applications is narrower than what ASGI says
        target: Any = app
        self._config: uvicorn.Config = uvicorn.Config(target, **{**fixed, **tls, **settings})
        self._make = uvicorn.Server
        self._server: uvicorn.Server | None = None
        self._ticks: asyncio.Task[None] | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen, and return the port: `port`, or a free one for 0.

        Raises `OperationError` if the address cannot be used or the application does not start.
        """
        listener = _listen(host, port)
        server = self._server = self._make(self._config)
        if not self._config.loaded:
            self._config.load()
        server.lifespan = self._config.lifespan_class(self._config)
        try:
            await server.startup(sockets=[listener])
        except SystemExit as error:
            listener.close()
            raise OperationError(
                "the application did not start; the log says why.",
                fix="Mend what the last error in the log names.",
            ) from error
        self._ticks = asyncio.get_running_loop().create_task(self._tick(server))
        found: int = listener.getsockname()[1]
        return found

    async def stop(self, grace: float = 5.0) -> None:
        """Drain: take nothing new, and wait `grace` seconds for what runs, then cancel it."""
        server, self._server = self._server, None
        if server is None:
            return
        if self._ticks is not None:
            self._ticks.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._ticks
        self._config.timeout_graceful_shutdown = max(1, round(grace))
        await server.shutdown()

    @staticmethod
    async def _tick(server: uvicorn.Server) -> None:
        while True:
            await server.on_tick(0)
            await asyncio.sleep(1)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OperationError(
            f"HTTP cannot listen on {host}:{port}: {error.strerror}.",
            fix="Stop what listens there, or choose another port.",
        ) from error
    listener.setblocking(False)
    return listener
