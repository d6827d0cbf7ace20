"""A channel of `grpc.aio`, guarded: generated stubs take it in place of the one that it wraps.

As with gRPC's own calls, one begins when the method is called, in a task of its own, and is awaited
or iterated over later; who cancels that cancels the call. A call that streams its reply is guarded
until its first message. From then on it is bounded by the caller's own timeout and by what the work
in progress has left; what ends it is raised as outcomes are, and counts for the breaker. A call
that streams its request is passed on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import suppress
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import grpc
import grpc.aio
from typing_extensions import override

from switchgear.call import aio
from switchgear.call.answer import Begun, effects
from switchgear.call.grpc_link import AioLink
from switchgear.call.grpc_status import Pairs, Rpc, answered_slowly, target_of
from switchgear.model.outcome import Ok, Outcome, Refused, Unavailable, Unknown
from switchgear.policy.machine import Attempt

if TYPE_CHECKING:
    from switchgear.call.guard import Guard

__all__ = ["GuardedAioChannel"]

_EOF = grpc.aio.EOF


class GuardedAioChannel(grpc.aio.Channel):
    """See `Guard.grpc`."""

    def __init__(
        self, guard: Guard, wrapped: grpc.aio.Channel, repeatable: frozenset[str] | None
    ) -> None:
        self._guard = guard
        self._wrapped = wrapped
        self._repeatable = repeatable
        self._target = target_of(wrapped)
        self._link = AioLink(wrapped)

    # grpc's stubs are generic in messages, which a channel never looks at
    @override
    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return _Unary(self, self._wrapped.unary_unary(method, *args, **kwargs), method)

    @override
    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return _Streaming(self, self._wrapped.unary_stream(method, *args, **kwargs), method)

    @override
    def stream_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._wrapped.stream_unary(method, *args, **kwargs)

    @override
    def stream_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._wrapped.stream_stream(method, *args, **kwargs)

    def rpc(self, method: str, metadata: Pairs | None, timeout: float | None) -> Rpc:
        """Return a new call."""
        return Rpc(
            self._guard,
            self._target,
            method,
            metadata,
            asked=timeout,
            repeatable=self._repeatable,
        )

    async def drive(
        self,
        rpc: Rpc,
        begin: Callable[[Attempt], Awaitable[Any]],
        *,
        patient: bool | None,
        alone: bool = False,
    ) -> Any:
        """Make a call under the guard's policy; raises what its caller gets to see."""

        async def attempt(step: Attempt) -> Outcome[Any]:
            if not await self._link.ready(step.deadline, patient=bool(patient)):
                return rpc.unconnected()
            try:
                return Ok(await begin(step))
            except grpc.aio.AioRpcError as error:
                return rpc.judged(error)

        try:
            with effects(possible=rpc.effect):
                answer = await aio.drive(
                    rpc.machine,
                    attempt,
                    repeatable=rpc.repeatable,
                    key=rpc.key,
                    context=rpc.context,
                    deadline=rpc.deadline,
                    alone=alone,
                )
        except (Refused, Unavailable, Unknown) as outcome:
            raise rpc.end(outcome, aio=True) from outcome.__cause__
        return answer.value

    @override
    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._wrapped.get_state(try_to_connect)

    @override
    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._wrapped.wait_for_state_change(last_observed_state)

    @override
    async def channel_ready(self) -> None:
        await self._wrapped.channel_ready()

    @override
    async def close(self, grace: float | None = None) -> None:
        self._link.close()
        await self._wrapped.close(grace)

    @override
    async def __aenter__(self) -> Self:
        return self

    @override
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.close()


# not generic at run time
class _Unary(grpc.aio.UnaryUnaryMultiCallable):  # type: ignore[type-arg]
    """A method with one request and one reply."""

    def __init__(self, channel: GuardedAioChannel, inner: Any, method: str) -> None:
        self._channel = channel
        self._inner = inner
        self._method = method

    @override
    def __call__(
        self,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        rpc = self._channel.rpc(self._method, metadata, timeout)
        call = _Call()

        async def begin(step: Attempt) -> tuple[Any, Any]:
            inner = call.last = self._inner(
                request,
                timeout=rpc.left(step.deadline),
                metadata=grpc.aio.Metadata(*rpc.metadata(step)),
                credentials=credentials,
                compression=compression,
            )
            reply = await inner
            if rpc.context.spent is not None:
                await answered_slowly(inner, step, rpc.context.spent)
            return inner, reply

        return call.begun(self._channel.drive(rpc, begin, patient=wait_for_ready))


class _Streaming(grpc.aio.UnaryStreamMultiCallable):  # type: ignore[type-arg]
    """A method that streams its reply."""

    def __init__(self, channel: GuardedAioChannel, inner: Any, method: str) -> None:
        self._channel = channel
        self._inner = inner
        self._method = method

    @override
    def __call__(
        self,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        rpc = self._channel.rpc(self._method, metadata, timeout)
        until = rpc.until(monotonic())
        call = _Replies(rpc, until)

        async def begin(step: Attempt) -> tuple[Any, Any]:
            inner = call.last = self._inner(
                request,
                timeout=rpc.left(until),
                metadata=grpc.aio.Metadata(*rpc.metadata(step)),
                credentials=credentials,
                compression=compression,
            )
            call.step = step
            try:
                return inner, await inner.read()
            except BaseException:
                inner.cancel()
                raise

        return call.begun(self._channel.drive(rpc, begin, patient=wait_for_ready, alone=True))


class _Asked(grpc.aio.Call):
    """A call that was begun: what gRPC's call objects can be asked, of its last attempt."""

    def __init__(self) -> None:
        self.last: Any = None
        """gRPC's own object for the last attempt; None: none was made."""
        self._task: asyncio.Task[Any]

    def begun(self, driving: Any) -> Any:
        """Run `driving` in a task, and return this call."""
        self._task = asyncio.get_running_loop().create_task(self._settled(driving))
        return self

    async def _settled(self, driving: Any) -> Any:
        # of attempts that were under way together, this is the one that won
        self.last, reply = await driving
        return reply

    async def _error(self) -> Any:
        """Wait for the task; return what it raised."""
        with suppress(Exception):
            await asyncio.shield(self._task)
        return self._task.exception()

    @override
    async def code(self) -> grpc.StatusCode:
        error = await self._error()
        found: grpc.StatusCode = await self.last.code() if error is None else error.code()
        return found

    @override
    async def details(self) -> str:
        error = await self._error()
        found: str = await self.last.details() if error is None else error.details()
        return found

    @override
    async def initial_metadata(self) -> grpc.aio.Metadata:
        error = await self._error()
        found = await self.last.initial_metadata() if error is None else error.initial_metadata()
        return found or grpc.aio.Metadata()

    @override
    async def trailing_metadata(self) -> grpc.aio.Metadata:
        error = await self._error()
        found = await self.last.trailing_metadata() if error is None else error.trailing_metadata()
        return found or grpc.aio.Metadata()

    @override
    async def wait_for_connection(self) -> None:
        error = await self._error()
        if error is not None:
            raise error

    @override
    def done(self) -> bool:
        return self._task.done()

    @override
    def cancelled(self) -> bool:
        return self._task.cancelled()

    @override
    def cancel(self) -> bool:
        return self._task.cancel()

    @override
    def time_remaining(self) -> float | None:
        found: float | None = None if self.last is None else self.last.time_remaining()
        return found

    @override
    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._task.add_done_callback(lambda _: callback(self))


class _Call(_Asked, grpc.aio.UnaryUnaryCall[Any, Any]):
    """A call with one reply."""

    @override
    def __await__(self) -> Generator[Any, None, Any]:
        return self._task.__await__()


class _Replies(_Asked, grpc.aio.UnaryStreamCall[Any, Any]):
    """A call that streams its reply."""

    def __init__(self, rpc: Rpc, until: float) -> None:
        super().__init__()
        self._rpc = rpc
        self._until = until
        self._first = True
        self.step: Attempt | None = None
        """The last attempt."""
        self._begun: Begun | None = None

    @override
    async def read(self) -> Any:
        if self._first:
            message = await self._task
            self._first = False
            if self.cancelled():
                raise asyncio.CancelledError
            self._begun = None if self.step is None else self._rpc.begun(self.step, self._until)
            return message
        try:
            return await self.last.read()
        except grpc.aio.AioRpcError as error:
            raise self._rpc.broken(self._begun, error, aio=True) from error

    @override
    async def __aiter__(self) -> AsyncIterator[Any]:
        while (message := await self.read()) is not _EOF:
            yield message

    @override
    def cancel(self) -> bool:
        if self._task.done() and self.last is not None:
            return bool(self.last.cancel())
        return super().cancel()

    @override
    def done(self) -> bool:
        return self._task.done() and (self.last is None or self.last.done())

    @override
    def cancelled(self) -> bool:
        return self._task.cancelled() or (self.last is not None and self.last.cancelled())

    @override
    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        def begun(_: object) -> None:
            if self.last is None:
                callback(self)
            else:
                self.last.add_done_callback(lambda _: callback(self))

        self._task.add_done_callback(begun)
