"""A wire over gRPC: `grpc.aio`, one channel, with its own retries turned off.

What gRPC's statuses mean is in `grpc_status.py`, and why nothing is sent before the channel is
known to be connected in `grpc_link.py`. What is added here is what a contract tells: typed
refusals, and statuses that a callee is known to mean otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from math import inf
from time import monotonic
from typing import Any, Final, NamedTuple, cast

from switchgear.call.core import Replies, Settings
from switchgear.call.grpc_link import READY, AioLink
from switchgear.call.grpc_status import STATUS, answered_slowly, grpc_failure, verdict_of
from switchgear.call.marks import headers
from switchgear.call.streams import Asked, Requests
from switchgear.call.url import Target
from switchgear.contract.codec import codec_of, from_proto
from switchgear.contract.message import Message
from switchgear.contract.service import Operation
from switchgear.errors import InvalidMessage, MissingExtra
from switchgear.model import wire
from switchgear.model.context import Context, Priority, trace_of
from switchgear.model.outcome import (
    Ok,
    Outcome,
    Reason,
    Refused,
    Rejected,
    Status,
    Unavailable,
    Unknown,
)
from switchgear.model.wire import Verdict
from switchgear.policy.machine import Attempt

try:
    import grpc
    from google.protobuf.message import DecodeError
    from google.rpc.error_details_pb2 import (  # type: ignore[import-untyped]
        BadRequest,
        ErrorInfo,
        RetryInfo,
    )
    from google.rpc.status_pb2 import Status as RpcStatus  # type: ignore[import-untyped]
except ImportError as error:
    raise MissingExtra("grpcio", "grpc") from error

__all__ = ["GrpcWire"]

DETAILS: Final = "grpc-status-details-bin"
LIMIT: Final = 64 * 1024 * 1024
_OPTIONS: Final = (
    # the policy retries, and nobody else
    ("grpc.enable_retries", 0),
    ("grpc.service_config_disable_resolution", 1),
    # a callee that is back is asked again soon: gRPC's own pauses go up to two minutes
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 250),
    ("grpc.max_receive_message_length", LIMIT),
    ("grpc.max_send_message_length", -1),
    # a typed refusal travels in the trailers
    ("grpc.max_metadata_size", 256 * 1024),
    ("grpc.absolute_max_metadata_size", 1024 * 1024),
    # two clients of one callee do not share the fate of a connection
    ("grpc.use_local_subchannel_pool", 1),
)


_UNSENT: Final = grpc.StatusCode.INTERNAL, "Internal error from Core"
"""What grpc.aio says of a message that could not be sent."""
_SOON: Final = 1.0
_LOOK: Final = 0.001


class _Method(NamedTuple):
    """One operation on the channel."""

    call: Callable[..., Awaitable[bytes]]
    write: Callable[[Message], bytes]
    read: Callable[[bytes], Message]


class GrpcWire:
    """See `Wire`. It connects when it is first used."""

    def __init__(self, target: Target, settings: Settings) -> None:
        self._target = target
        self._settings = settings
        self._treat = {key: one for key, one in settings.treat.items() if isinstance(key, Status)}
        self._channel: grpc.aio.Channel | None = None
        self._link: AioLink
        self._methods: dict[str, _Method] = {}
        caller = settings.caller
        self._always = None if caller is None else grpc.aio.Metadata((wire.CALLER, caller))
        """What goes out with every call; made once, because gRPC's own conversion is not cheap."""

    async def send(
        self, operation: Operation, request: Asked, attempt: Attempt, context: Context
    ) -> Outcome[Any]:
        """Ask once; see `Wire.send`."""
        if isinstance(request, Requests):
            return request.judged(await self._upload(operation, request, attempt, context))
        channel = self._channel or self._open()
        call, write, read = self._methods.get(operation.grpc_path) or self._method(operation)
        data = write(cast("Message", request))
        if channel.get_state(try_to_connect=True) is not READY and not await self._link.ready(
            attempt.deadline
        ):
            return self._unconnected()
        left = None if attempt.deadline == inf else max(0.001, attempt.deadline - monotonic())
        asked: Any = call(data, timeout=left, metadata=self._metadata(attempt, context))
        try:
            reply = await asked
            if context.spent is not None:
                await answered_slowly(asked, attempt, context.spent)
        except grpc.aio.AioRpcError as failure:
            return self._outcome(operation, failure)
        try:
            return Ok(read(reply))
        except InvalidMessage as unreadable:
            return _unreadable(unreadable)

    async def open(
        self, operation: Operation, request: Asked, attempt: Attempt, context: Context
    ) -> Outcome[Replies]:
        """Begin a stream; see `Wire.open`."""
        if isinstance(request, Requests):
            return await self._converse(operation, request, attempt, context)
        data = codec_of(operation.request).to_proto(request)
        channel = self._channel or self._open()
        if channel.get_state(try_to_connect=True) is not READY and not await self._link.ready(
            attempt.deadline
        ):
            return self._unconnected()
        until = context.deadline
        begin: Any = channel.unary_stream(operation.grpc_path)
        call = begin(
            data,
            timeout=None if until is None else max(0.001, until - monotonic()),
            metadata=self._metadata(attempt, context),
        )
        try:
            first = await call.read()
        except grpc.aio.AioRpcError as failure:
            return self._outcome(operation, failure)
        except asyncio.CancelledError:
            call.cancel()
            raise
        return Ok(self._replies(operation, call, first))

    async def close(self) -> None:
        """Close the channel."""
        channel, self._channel = self._channel, None
        self._methods.clear()
        if channel is not None:
            self._link.close()
            await channel.close()

    async def _upload(
        self, operation: Operation, requests: Requests, attempt: Attempt, context: Context
    ) -> Outcome[Any]:
        """Send a stream and wait for the reply to it."""
        channel = self._channel or self._open()
        if not await self._link.ready(attempt.deadline):
            return self._unconnected()
        left = None if attempt.deadline == inf else max(0.001, attempt.deadline - monotonic())
        begin: Any = channel.stream_unary(operation.grpc_path)
        call = begin(timeout=left, metadata=self._metadata(attempt, context))
        said = _Said(call)
        try:
            await _pump(operation, requests, call)
            reply = await call
        except grpc.aio.AioRpcError as failure:
            return self._outcome(operation, await said.instead_of(failure))
        finally:
            call.cancel()
            await requests.close()
        try:
            return Ok(codec_of(operation.reply).from_proto(reply))
        except InvalidMessage as unreadable:
            return _unreadable(unreadable)

    async def _converse(
        self, operation: Operation, requests: Requests, attempt: Attempt, context: Context
    ) -> Outcome[Replies]:
        """Begin to send a stream, whose replies come meanwhile."""
        channel = self._channel or self._open()
        if not await self._link.ready(attempt.deadline):
            return self._unconnected()
        until = context.deadline
        begin: Any = channel.stream_stream(operation.grpc_path)
        call = begin(
            timeout=None if until is None else max(0.001, until - monotonic()),
            metadata=self._metadata(attempt, context),
        )
        return Ok(self._conversation(operation, requests, call))

    async def _conversation(self, operation: Operation, requests: Requests, call: Any) -> Replies:
        async def ask() -> None:
            try:
                await _pump(operation, requests, call)
            except BaseException:
                call.cancel()  # and reading ends
                raise

        asking = asyncio.get_running_loop().create_task(ask())
        replies = self._replies(operation, call, None, _Said(call))
        try:
            async for reply in replies:
                yield reply
        except (Unknown, asyncio.CancelledError):  # the second if `ask` has cancelled the call
            if asking.done() and not asking.cancelled() and asking.exception() is not None:
                await asking  # what went wrong is ours: the stream of requests itself failed
            raise
        finally:
            await replies.aclose()
            asking.cancel()
            await asyncio.wait([asking])
            if not asking.cancelled():
                asking.exception()  # it was raised above, or nobody reads any more
            await requests.close()

    async def _replies(
        self, operation: Operation, call: Any, first: Any, said: _Said | None = None
    ) -> Replies:
        read = codec_of(operation.reply).from_proto
        try:
            data = first if first is not None else await call.read()
            while data is not grpc.aio.EOF:
                yield read(data)
                data = await call.read()
        except grpc.aio.AioRpcError as error:
            failure = error
            if said is not None and _is_unsent(error):
                async for data in said.rest():
                    yield read(data)
                failure = await said.instead_of(error)
                if failure.code() is grpc.StatusCode.OK:
                    return
            outcome = self._outcome(operation, failure)
            raise outcome from failure
        except InvalidMessage as unreadable:
            raise _unreadable(unreadable) from unreadable
        finally:
            call.cancel()

    def _open(self) -> grpc.aio.Channel:
        target, tls = self._target, self._settings.tls
        # a name that gRPC's resolver takes as it is, an IPv6 address included
        where = f"dns:///{target.authority}"
        options: list[tuple[str, Any]] = list(_OPTIONS)
        if target.secure:
            if tls is not None and tls.server_name is not None:
                options.append(("grpc.ssl_target_name_override", tls.server_name))
            credentials = grpc.ssl_channel_credentials() if tls is None else tls.grpc()
            channel = grpc.aio.secure_channel(where, credentials, options=options)
        else:
            channel = grpc.aio.insecure_channel(where, options=options)
        self._channel, self._link = channel, AioLink(channel)
        return channel

    def _unconnected(self) -> Unavailable:
        what = f"no connection to {self._target.authority}: {self._link.why}"
        return Unavailable(what, reason=Reason.CONNECT)

    def _metadata(self, attempt: Attempt, context: Context) -> grpc.aio.Metadata | None:
        """Return what goes out besides the message; what is the default is left out."""
        if (
            attempt.wire_number == 1
            and attempt.key is None
            and trace_of(context)[0] is None
            and context.priority is Priority.DEFAULT
            and self._settings.token is None
        ):
            return self._always
        marks = headers(attempt, context, monotonic(), caller=self._settings.caller)
        marks.pop(wire.TIMEOUT, None)  # gRPC has its own
        if attempt.wire_number == 1:
            del marks[wire.ATTEMPT]
        if self._settings.token is not None:
            marks["authorization"] = f"Bearer {self._settings.token.reveal()}"
        return grpc.aio.Metadata(*marks.items())

    def _method(self, operation: Operation) -> _Method:
        channel = self._channel or self._open()
        # registered as generated stubs do it; grpc.aio's callables are generic in types that are
        # bytes here
        make: Any = channel.unary_unary
        call = make(operation.grpc_path, _registered_method=True)
        write = codec_of(operation.request).to_proto
        method = _Method(call, write, codec_of(operation.reply).from_proto)
        self._methods[operation.grpc_path] = method
        return method

    def _outcome(
        self, operation: Operation, failure: grpc.aio.AioRpcError
    ) -> Refused | Unavailable | Unknown:
        """Return what a status means."""
        status = STATUS[failure.code()]
        told = failure.details() or ""
        trailers: Mapping[str, Any] = dict(failure.trailing_metadata() or ())
        details = _Details(trailers.get(DETAILS))
        refusal = details.refusal(operation)
        if refusal is not None:
            return refusal
        verdict = self._treat.get(status) or verdict_of(status, told)
        lost = grpc_failure(
            status, told, trailers, verdict=verdict, wait=details.retry_after, cause=failure
        )
        if lost is not None:
            return lost
        if verdict is Verdict.OK:
            # a callee that is said to mean success by it has sent no reply all the same
            return Unknown(told or str(status), reason=Reason.SERVER_ERROR, cause=failure)
        return Rejected(told or str(status), status=status, pointer=details.pointer)


async def _pump(operation: Operation, requests: Requests, call: Any) -> None:
    """Send the requests one by one: each is taken when the one before was.

    Returns early where the callee has ended the call: what it said is the outcome.
    """
    write = codec_of(operation.request).to_proto
    async for request in requests:
        if call.done():
            return
        try:
            await call.write(write(request))
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):  # it ended meanwhile
            return
    if not call.done():
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await call.done_writing()


class _Said:
    """How a call to which requests are sent one by one has ended, by what the callee said.

    A message that cannot be sent because the callee has ended the call is an end of its own to
    grpc.aio, which takes the place of the callee's or comes in front of it, and after which what
    the callee had sent before is not read any more.
    """

    def __init__(self, call: Any) -> None:
        self._call = call
        self._end: grpc.aio.AioRpcError | None = None
        call.add_done_callback(self._look)  # called once, and perhaps not for the end that counts

    def _look(self, call: Any) -> None:
        metadata = _known(call.initial_metadata()), _known(call.trailing_metadata())
        end = grpc.aio.AioRpcError(_known(call.code()), *metadata, _known(call.details()))
        if not _is_unsent(end):
            self._end = end

    async def rest(self) -> AsyncIterator[bytes]:
        """Return what the callee had sent before: until that is read, its end is not told."""
        # there is no public way; a test counts the replies before a refusal
        receive = self._call._cython_call.receive_serialized_message  # noqa: SLF001
        with suppress(TimeoutError):
            while (data := await asyncio.wait_for(receive(), _SOON)) is not grpc.aio.EOF:
                yield data

    async def instead_of(self, failure: grpc.aio.AioRpcError) -> grpc.aio.AioRpcError:
        """Return what the callee said where `failure` is only that a message was not sent."""
        if not _is_unsent(failure):
            return failure
        until = monotonic() + _SOON  # it comes with the failure, or has come
        while self._end is None and monotonic() < until:
            await asyncio.sleep(_LOOK)
            self._look(self._call)
        return self._end or failure


def _is_unsent(failure: grpc.aio.AioRpcError) -> bool:
    return (failure.code(), failure.details()) == _UNSENT


def _known(asked: Coroutine[Any, Any, Any]) -> Any:
    """Return what a call that has ended says of itself, without waiting for it."""
    try:
        asked.send(None)
    except StopIteration as said:
        return said.value
    finally:
        asked.close()
    raise LookupError("the call has not ended")


class _Details:
    """What `grpc-status-details-bin` says, as far as we understand it."""

    def __init__(self, data: object) -> None:
        self.pointer: str | None = None
        self.retry_after: float | None = None
        self._unknown: list[tuple[str, bytes]] = []
        if not isinstance(data, bytes):
            return
        try:
            for one in RpcStatus.FromString(data).details:
                self._take(one)
        except DecodeError:
            return  # somebody else's idea of the header; the status says enough

    def _take(self, one: Any) -> None:
        info, bad, retry = ErrorInfo(), BadRequest(), RetryInfo()
        if one.Unpack(info):
            self.pointer = info.metadata.get("pointer", self.pointer)
        elif one.Unpack(retry):
            self.retry_after = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
        elif one.Unpack(bad):
            if self.pointer is None and bad.field_violations:
                field: str = bad.field_violations[0].field
                self.pointer = "/" + field.replace("[", "/").replace("]", "").replace(".", "/")
        else:
            self._unknown.append((one.type_url.rpartition("/")[2], one.value))

    def refusal(self, operation: Operation) -> Refused | None:
        """Return the declared refusal among the details."""
        for name, data in self._unknown:
            declared = operation.refusal(name)
            if declared is None:
                continue
            try:
                return declared.from_message(from_proto(declared.__message__, data))
            except InvalidMessage:
                return Rejected(f"refused with {name}, unreadably", status=declared.status)
        return None


def _unreadable(error: InvalidMessage) -> Unknown:
    """Return what it means that the callee did it and nobody understands what it says."""
    return Unknown(
        f"the reply is not what the contract says: {error}",
        reason=Reason.SERVER_ERROR,
        final=True,
        cause=error,
    )
