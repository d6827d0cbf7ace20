"""A line to a server on loopback that can be cut, or fall silent: what is on its way is lost."""

import asyncio
from contextlib import suppress
from typing import Self


class Line:
    """Passes connections on to `target`; use it with `async with`."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._open: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._down = False
        self._flows = asyncio.Event()
        self._flows.set()
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving)
        self._cut()
        await asyncio.sleep(0)  # the sockets are closed by the loop

    async def interrupt(self, seconds: float = 2.0) -> None:
        """Reset every connection, and take none for a while."""
        self._down = True
        self._cut()
        await asyncio.sleep(seconds)
        self._down = False

    def silence(self) -> None:
        """Take connections, and pass on nothing any more, as a network does that is gone."""
        self._flows.clear()

    def vanish(self) -> None:
        """Pass nothing on any more where a connection is open, as if the server was exchanged."""
        self._flows.clear()
        self._flows = asyncio.Event()
        self._flows.set()

    def _cut(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._down:
            writer.transport.abort()
            return
        self._open.add(writer)
        with suppress(OSError, asyncio.CancelledError):  # cancelled at the end of the test
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            self._open.add(far_writer)
            flows = self._flows
            await asyncio.gather(
                self._pass_on(reader, far_writer, flows), self._pass_on(far_reader, writer, flows)
            )
            self._open -= {writer, far_writer}

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flows: asyncio.Event
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                await flows.wait()
                writer.write(data)
                await writer.drain()
        writer.close()
