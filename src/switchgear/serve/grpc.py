"""The gRPC door: `grpc.aio` with generic handlers, health and reflection.

Handlers get and give bytes; our codec reads and writes them. A client that cancels, or whose
deadline passes, cancels the handler: a transaction is then rolled back, or its commit waited for.

Reflection answers with the descriptors that were built at run time, under both of its names (`v1`,
which new tools ask for first, has the same messages as `v1alpha`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from time import monotonic
from typing import Any, Final, NoReturn, TypeAlias

from switchgear.contract.codec import codec_of, to_proto
from switchgear.contract.descriptors import descriptor_pool
from switchgear.contract.message import Message
from switchgear.contract.service import Operation
from switchgear.errors import MissingExtra, OperationError
from switchgear.model import wire
from switchgear.model.outcome import Refused, Unavailable, Unknown
from switchgear.model.trail import write
from switchgear.serve.arrival import Arrival, context_of
from switchgear.serve.dispatch import Asked, Dispatcher
from switchgear.serve.failure import encode, failure_of
from switchgear.serve.tls import Certificate

try:
    import grpc
    from grpc_health.v1 import health, health_pb2, health_pb2_grpc
    from grpc_reflection.v1alpha import reflection, reflection_pb2

    from switchgear.serve.status import code_of, trailers
except ImportError as error:
    raise MissingExtra("grpcio", "grpc") from error

__all__ = ["Grpc"]

LIMIT: Final = 1024 * 1024
_READ: Final = frozenset(
    {
        wire.ATTEMPT,
        wire.PRIORITY,
        wire.CALLER,
        wire.IDEMPOTENCY_KEY,
        wire.TRACEPARENT,
        wire.TRACESTATE,
    }
)
_REFLECTION: Final = ("grpc.reflection.v1.ServerReflection", reflection.SERVICE_NAME)

# grpc.aio's context is generic in two types that say nothing here.
Call: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Unary: TypeAlias = Callable[[Any, Call], Awaitable[bytes]]
Streaming: TypeAlias = Callable[[Any, Call], AsyncIterator[bytes]]
Methods: TypeAlias = "dict[str, grpc.RpcMethodHandler[Any, Any]]"
Options: TypeAlias = Sequence[tuple[str, Any]]
"""Channel arguments: each has a type of its own."""


class Grpc:
    """The gRPC server of one service. Start it inside the event loop that runs the handlers.

    `limit` bounds a request message, in bytes. `certificate` turns TLS on. `options` are channel
    arguments of gRPC's core.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        *,
        limit: int = LIMIT,
        certificate: Certificate | None = None,
        reflect: bool = True,
        options: Options = (),
    ) -> None:
        self._dispatcher = dispatcher
        self._certificate = certificate
        self._reflect = reflect
        self._options: Options = (
            ("grpc.max_receive_message_length", limit),
            ("grpc.max_send_message_length", -1),
            # off: a second server on one port is a mistake to be told of, not to be shared
            ("grpc.so_reuseport", 0),
            *options,
        )
        self._server: grpc.aio.Server | None = None
        self._health = health.aio.HealthServicer()

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen, and return the port: `port`, or a free one for 0.

        Raises `OperationError` if the address cannot be used.
        """
        server = self._server = grpc.aio.server(options=self._options)
        self._health = health.aio.HealthServicer()
        for contract in self._dispatcher.contracts.values():
            methods = {one.rpc_name: self._method(one) for one in contract.operations.values()}
            _add(server, contract.full_name, methods)
        stands_in: Any = _Generic(server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, stands_in)
        if self._reflect:
            self._add_reflection(server)
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if self._certificate is None:
                bound = server.add_insecure_port(where)
            else:
                bound = server.add_secure_port(where, self._certificate.grpc())
        except RuntimeError as error:
            raise OperationError(
                f"gRPC cannot listen on {where}.",
                fix="Stop what listens there, or choose another port.",
            ) from error
        await server.start()
        await self.ready(serving=True)
        return bound

    async def ready(self, *, serving: bool) -> None:
        """Tell health checks whether requests should be sent here."""
        state = health_pb2.HealthCheckResponse
        for name in ("", *self._dispatcher.contracts):
            await self._health.set(name, state.SERVING if serving else state.NOT_SERVING)

    async def stop(self, grace: float = 5.0) -> None:
        """Drain: tell health checks, take nothing new, and wait `grace` seconds for what runs."""
        if self._server is not None:
            await self._health.enter_graceful_shutdown()
            await self._server.stop(grace)
            self._server = None

    def _method(self, operation: Operation) -> grpc.RpcMethodHandler[bytes, bytes]:
        if operation.takes_stream and operation.streaming:
            return grpc.stream_stream_rpc_method_handler(self._streaming(operation))
        if operation.takes_stream:
            return grpc.stream_unary_rpc_method_handler(self._unary(operation))
        if operation.streaming:
            return grpc.unary_stream_rpc_method_handler(self._streaming(operation))
        return grpc.unary_unary_rpc_method_handler(self._unary(operation))

    def _unary(self, operation: Operation) -> Unary:
        carry_out = self._dispatcher.handle
        take = _taking(operation)
        answered = codec_of(operation.reply)

        async def handle(data: Any, call: Call) -> bytes:
            async def read() -> Asked:
                return take(data)

            try:
                arrival = _arrival(operation, call)
                reply = await carry_out(operation, read, arrival)
                encoded = encode(answered.to_proto, reply, operation)
                if arrival.trail:
                    call.set_trailing_metadata(((wire.TRAIL, write(arrival.trail)),))
                return encoded
            except (Refused, Unavailable, Unknown) as outcome:
                await _abort(call, outcome)

        return handle

    def _streaming(self, operation: Operation) -> Streaming:
        dispatcher = self._dispatcher
        take = _taking(operation)

        async def handle(data: Any, call: Call) -> None:
            async def read() -> Asked:
                return take(data)

            async def send(reply: Message) -> None:
                await call.write(encode(to_proto, reply, operation))

            try:
                await dispatcher.stream(operation, read, _arrival(operation, call), send)
            except (Refused, Unavailable, Unknown) as outcome:
                await _abort(call, outcome)

        # grpc.aio takes a coroutine function that writes as well as an iterator
        return handle  # type: ignore[return-value]

    def _add_reflection(self, server: grpc.aio.Server) -> None:
        pool = descriptor_pool(*self._dispatcher.contracts.values())
        for file in (health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR):
            pool.AddSerializedFile(file.serialized_pb)
        names = (*self._dispatcher.contracts, health.SERVICE_NAME, reflection.SERVICE_NAME)
        servicer = reflection.aio.ReflectionServicer(names, pool=pool)
        method = grpc.stream_stream_rpc_method_handler(
            servicer.ServerReflectionInfo,
            request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        for name in _REFLECTION:
            _add(server, name, {"ServerReflectionInfo": method})


def _add(server: grpc.aio.Server, name: str, methods: Methods) -> None:
    """Add a service, though not as a registered one.

    For each call that arrives, grpc.aio touches every registered method of the server once.
    """
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, methods),))


class _Generic:
    """Stands in for a server where generated code adds to it, and would register as well."""

    def __init__(self, server: grpc.aio.Server) -> None:
        self.add_generic_rpc_handlers = server.add_generic_rpc_handlers

    def add_registered_method_handlers(self, name: str, methods: Methods) -> None:
        """Do nothing: the generic handlers were added."""


def _taking(operation: Operation) -> Callable[[Any], Asked]:
    """Return what makes of gRPC's bytes, or of its iterator of bytes, what the handler takes.

    gRPC reads from the connection as the handler takes, so that a client sends no faster.
    """
    decode: Callable[[bytes], Message] = codec_of(operation.request).from_proto
    if not operation.takes_stream:
        return decode

    async def each(incoming: AsyncIterator[bytes]) -> AsyncIterator[Message]:
        async for data in incoming:
            yield decode(data)

    return each


def _arrival(operation: Operation, call: Call) -> Arrival:
    now = monotonic()
    pairs = call.invocation_metadata() or ()
    found = {name: str(value) for name, value in pairs if name in _READ}
    left: float | None = call.time_remaining()
    return Arrival(
        operation=operation,
        door="grpc",
        pairs=pairs,
        source=call,
        context=context_of(found, now, deadline=None if left is None else now + left),
        received=now,
        given_key=found.get(wire.IDEMPOTENCY_KEY),
    )


async def _abort(call: Call, outcome: Refused | Unavailable | Unknown) -> NoReturn:
    failure = failure_of(outcome)
    await call.abort(code_of(failure.status), failure.detail, trailers(failure))
