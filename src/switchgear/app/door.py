"""The doors of a process: uvicorn and gRPC, each on an address, closed when we say so."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from switchgear.app.health import App
from switchgear.config import Address, Tls
from switchgear.errors import MissingExtra, OperationError
from switchgear.serve.dispatch import Dispatcher
from switchgear.serve.tls import Certificate

if TYPE_CHECKING:
    import uvicorn

__all__ = ["Door", "GrpcDoor", "HttpDoor", "bound"]


def bound(address: Address, *, setting: str) -> socket.socket:
    """Return a listening socket. `setting` is named in the `OperationError` if that fails."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    held = socket.socket(family, socket.SOCK_STREAM)
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((address.host, address.port))
        held.listen(2048)
    except OSError as error:
        held.close()
        raise refused(address, error, setting) from error
    return held


def refused(address: Address, error: OSError, setting: str) -> OperationError:
    """Say in one line why an address cannot be listened on."""
    if error.errno == errno.EADDRINUSE:
        return OperationError(
            f"{address} is in use.",
            where=setting,
            fix="Stop what listens there (an earlier run?), or choose another port.",
        )
    if error.errno == errno.EACCES:
        return OperationError(
            f"this user may not listen on {address}.",
            where=setting,
            fix="Choose a port of 1024 or above.",
        )
    reason = error.strerror or os.strerror(error.errno or 0)
    return OperationError(
        f"{address} cannot be listened on: {reason}.",
        where=setting,
        fix="Use an address of this machine: 127.0.0.1, or 0.0.0.0 for all of them.",
    )


class Door(Protocol):
    """What listens on an address."""

    address: Address
    """Where it listens; the port is known once it is open."""

    async def open(self) -> None:
        """Listen. Raises `OperationError` if the address cannot be used."""
        ...

    async def close(self, within: float) -> None:
        """Take nothing new, let what runs finish within `within` seconds, then cut it."""
        ...


class HttpDoor:
    """Serves an ASGI application on an address until it is closed.

    `lifespan` lets uvicorn start and stop the application too, for one that is not ours.
    """

    def __init__(
        self,
        app: App,
        address: Address,
        setting: str,
        tls: Tls | None = None,
        *,
        lifespan: bool = False,
    ) -> None:
        self._app = app
        self._asked = address
        self._setting = setting
        self._tls = tls
        self._lifespan = lifespan
        self._server: uvicorn.Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self.address = address

    async def open(self) -> None:
        """Bind and accept; see `Door`."""
        server = self._server = _server(self._app, self._tls, lifespan=self._lifespan)
        held = bound(self._asked, setting=self._setting)
        self.address = Address(self._asked.host, held.getsockname()[1])
        self._serving = asyncio.create_task(server.serve([held]))
        opened = asyncio.create_task(server.opened.wait())
        await asyncio.wait([self._serving, opened], return_when=asyncio.FIRST_COMPLETED)
        opened.cancel()
        if self._serving.done():
            held.close()
            self._serving.result()
            raise OperationError(
                "the application refused to start.",
                where=self._setting,
                fix="The reason is in the log above.",
            )

    async def close(self, within: float) -> None:
        """Drain; see `Door`."""
        if self._server is None or self._serving is None:
            return
        # uvicorn waits as long for connections, and then cancels what still runs
        self._server.config.timeout_graceful_shutdown = within  # type: ignore[assignment]
        self._server.should_exit = True
        await self._serving


def _server(app: App, tls: Tls | None, *, lifespan: bool) -> Any:
    """Make a server that leaves signals alone and tells when it accepts."""
    try:
        import uvicorn  # noqa: PLC0415  an optional dependency
    except ImportError as error:
        raise MissingExtra("uvicorn", "http") from error
    from switchgear.app.http_protocol import HttpProtocol  # noqa: PLC0415  as above

    class Server(uvicorn.Server):
        def __init__(self, config: uvicorn.Config) -> None:
            super().__init__(config)
            self.opened = asyncio.Event()

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            self.opened.set()

    config = uvicorn.Config(
        app,
        http=HttpProtocol,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="auto" if lifespan else "off",
        ws="auto" if lifespan else "none",
        **(_certificate(tls).uvicorn() if tls else {}),
    )
    return Server(config)


class GrpcDoor:
    """Serves handlers over gRPC until it is closed."""

    def __init__(
        self, dispatcher: Dispatcher, address: Address, setting: str, tls: Tls | None = None
    ) -> None:
        from switchgear.serve.grpc import Grpc  # noqa: PLC0415  an optional dependency

        self._server = Grpc(dispatcher, certificate=_certificate(tls) if tls else None)
        self._setting = setting
        self.address = address

    async def open(self) -> None:
        """Bind and accept; see `Door`."""
        # gRPC does not say why it cannot bind: a socket of our own does
        bound(self.address, setting=self._setting).close()
        port = await self._server.start(self.address.host, self.address.port)
        self.address = Address(self.address.host, port)

    async def close(self, within: float) -> None:
        """Drain; see `Door`."""
        await self._server.stop(within)


def _certificate(tls: Tls) -> Certificate:
    return Certificate(tls.certificate, tls.key, tls.clients)
