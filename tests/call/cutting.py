"""Callees that cut the wire at a chosen moment: a raw HTTP server, and a proxy that reads HTTP/2.

Both count what was carried out, so that a test can hold an outcome against the truth. They run in
threads, for clients of every kind.
"""

from __future__ import annotations

import socket
import struct
import threading
from concurrent import futures
from contextlib import suppress

import grpc

DO = "/acme.inventory.v1.Inventory/Do"


def reset(connection):
    """Close with RST instead of FIN."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RD)
    connection.close()


class _Listening:
    """Accepts connections, and serves each in a thread."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.executed = 0
        self.connections = 0
        self.closed = threading.Event()
        """Set when a connection was closed at this end."""
        self._open = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            thread = threading.Thread(target=self._guarded, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _guarded(self, connection):
        with suppress(OSError, EOFError):
            self.serve(connection)
        with suppress(OSError):
            connection.close()
        self.closed.set()

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)


def exactly(connection, size):
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return data


# --- HTTP ----------------------------------------------------------------------------------------

WELL = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


def answer(status, **marks):
    # whoever sends it closes: a client must not be tempted to send its next request there
    lines = [f"HTTP/1.1 {status} Status", "Content-Length: 0", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in marks.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


class HttpCallee(_Listening):
    """Does with each connection what `moment(callee, connection)` does."""

    def __init__(self, moment):
        self.moment = moment
        super().__init__()

    def serve(self, connection):
        connection.settimeout(60)
        self.moment(self, connection)

    def read_head(self, connection):
        data = b""
        while b"\r\n\r\n" not in data:
            part = connection.recv(65536)
            if not part:
                raise EOFError
            data += part
        return data

    def read(self, connection):
        """Read a whole request, and carry it out."""
        head, _, body = self.read_head(connection).partition(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        exactly(connection, length - len(body))
        self.executed += 1


# --- gRPC ----------------------------------------------------------------------------------------

DATA, HEADERS, RST_STREAM, GOAWAY = 0, 1, 3, 7
_PREFACE = 24


class Upstream:
    """A real gRPC server, which counts."""

    def __init__(self, status=None, trailers=()):
        self.executed = 0
        self._status, self._trailers = status, trailers
        self._server = grpc.server(futures.ThreadPoolExecutor(2))
        handler = grpc.unary_unary_rpc_method_handler(self._do)
        methods = grpc.method_handlers_generic_handler(DO.split("/")[1], {"Do": handler})
        self._server.add_generic_rpc_handlers((methods,))
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def _do(self, _, context):
        self.executed += 1
        if self._status is not None:
            context.set_trailing_metadata(self._trailers)
            context.abort(self._status, "because")
        return b""

    def close(self):
        self._server.stop(0).wait(5)


class Cut(Exception):
    """Reset both sides."""


class GrpcCallee(_Listening):
    """A proxy in front of a real server. `moment(proxy, upward, kind, frame)` sees each frame of a
    stream, on its way up or down, and returns what is passed on in its place, or raises `Cut`."""

    def __init__(self, moment, *, on_accept=None, **upstream):
        self.moment, self.on_accept = moment, on_accept
        self.upstream = Upstream(**upstream)
        self.answer_to_client = None
        super().__init__()

    def serve(self, connection):
        if self.on_accept is not None:
            self.on_accept(connection)
            return
        above = socket.create_connection(("127.0.0.1", self.upstream.port))
        self._open.append(above)
        down = threading.Thread(target=self._pump, args=(above, connection, False), daemon=True)
        down.start()
        try:
            above.sendall(exactly(connection, _PREFACE))
            self._pump(connection, above, True)
        finally:
            down.join(5)
            above.close()

    def _pump(self, source, sink, upward):
        try:
            while True:
                head = exactly(source, 9)
                frame = head + exactly(source, int.from_bytes(head[:3], "big"))
                if int.from_bytes(head[5:9], "big"):
                    frame = self.moment(self, upward, head[3], frame)
                    if frame is not None and not isinstance(frame, bytes):
                        back, frame = frame
                        source.sendall(back)
                if frame:
                    sink.sendall(frame)
        except Cut as cut:
            if cut.args:
                with suppress(OSError):
                    sink.sendall(cut.args[0])
            reset(source)
            reset(sink)
        except (OSError, EOFError):
            for one in (source, sink):
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    @property
    def executed(self):
        return self.upstream.executed

    @executed.setter
    def executed(self, _):
        pass

    def close(self):
        super().close()
        self.upstream.close()


def frame(kind, stream, payload):
    return len(payload).to_bytes(3, "big") + bytes([kind, 0]) + stream.to_bytes(4, "big") + payload


def goaway(last):
    return frame(GOAWAY, 0, last.to_bytes(4, "big") + (0).to_bytes(4, "big"))


def stream_of(data):
    return int.from_bytes(data[5:9], "big")
