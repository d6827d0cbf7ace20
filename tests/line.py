"""A line to a server on loopback that can be cut: what is on its way is lost, both ways."""

import asyncio
from contextlib import suppress
from typing import Self


class Line:
    """Passes connections on to `target`; use it with `async with`."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._open: set[asyncio.StreamWriter] = set()
        self._down = False
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self._cut()

    async def interrupt(self, seconds: float = 2.0) -> None:
        """Reset every connection, and take none for a while."""
        self._down = True
        self._cut()
        await asyncio.sleep(seconds)
        self._down = False

    def _cut(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._down:
            writer.transport.abort()
            return
        with suppress(OSError, asyncio.CancelledError):  # cancelled at the end of the test
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            self._open |= {writer, far_writer}
            await asyncio.gather(_pass_on(reader, far_writer), _pass_on(far_reader, writer))
            self._open -= {writer, far_writer}


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()
