"""A channel of `grpc`, guarded: generated stubs take it in place of the one that it wraps.

A call that streams its reply is guarded until its first message, and is begun when that is asked
for. From then on it is bounded by the caller's own timeout and by what the work in progress has
left; what ends it is raised as outcomes are, and counts for the breaker. A call that streams its
request is passed on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Self

import grpc
from typing_extensions import override

from switchgear.call import threads
from switchgear.call.answer import Begun, effects
from switchgear.call.grpc_link import Link
from switchgear.call.grpc_status import Pairs, Rpc, target_of
from switchgear.errors import PolicyError
from switchgear.model import wire
from switchgear.model.outcome import Ok, Outcome, Reason, Refused, Unavailable, Unknown
from switchgear.policy.machine import Attempt

if TYPE_CHECKING:
    from switchgear.call.guard import Guard

__all__ = ["GuardedChannel"]

_END: Final = object()


class GuardedChannel(grpc.Channel):
    """See `Guard.grpc`."""

    def __init__(
        self, guard: Guard, wrapped: grpc.Channel, repeatable: frozenset[str] | None
    ) -> None:
        self._guard = guard
        self._wrapped = wrapped
        self._repeatable = repeatable
        self._target = target_of(wrapped)
        self._link = Link(wrapped)

    # grpc's stubs are generic in messages, which a channel never looks at
    @override
    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        inner = self._wrapped.unary_unary(method, *args, **kwargs)
        return _Unary(self, inner, method)

    @override
    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        inner = self._wrapped.unary_stream(method, *args, **kwargs)
        return _Streaming(self, inner, method)

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

    def drive(
        self,
        rpc: Rpc,
        begin: Callable[[Attempt], Any],
        *,
        patient: bool | None,
        alone: bool = False,
    ) -> Any:
        """Make a call under the guard's policy; raises what its caller gets to see."""

        def attempt(step: Attempt) -> Outcome[Any]:
            if not self._link.ready(step.deadline, patient=bool(patient)):
                return rpc.unconnected()
            try:
                return Ok(begin(step))
            except grpc.RpcError as error:
                return rpc.judged(error)

        try:
            with effects(possible=rpc.effect):
                answer = threads.drive(
                    rpc.machine,
                    attempt,
                    repeatable=rpc.repeatable,
                    key=rpc.key,
                    context=rpc.context,
                    deadline=rpc.deadline,
                    alone=alone,
                )
        except (Refused, Unavailable, Unknown) as outcome:
            raise rpc.end(outcome, aio=False) from outcome.__cause__
        return answer.value

    @override
    def subscribe(
        self,
        callback: Callable[[grpc.ChannelConnectivity], None],
        try_to_connect: bool = False,
    ) -> None:
        self._wrapped.subscribe(callback, try_to_connect)

    @override
    def unsubscribe(self, callback: Callable[[grpc.ChannelConnectivity], None]) -> None:
        self._wrapped.unsubscribe(callback)

    @override
    def close(self) -> None:
        self._wrapped.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# not generic at run time
class _Unary(grpc.UnaryUnaryMultiCallable):  # type: ignore[type-arg]
    """A method with one request and one reply."""

    def __init__(self, channel: GuardedChannel, inner: Any, method: str) -> None:
        self._channel = channel
        self._inner = inner
        self._method = method

    @override
    def __call__(self, request: Any, *args: Any, **settings: Any) -> Any:
        reply, _ = self.with_call(request, *args, **settings)
        return reply

    @override
    def with_call(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Pairs | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        rpc = self._channel.rpc(self._method, metadata, timeout)

        def begin(step: Attempt) -> Any:
            reply, call = self._inner.with_call(
                request,
                timeout=rpc.left(step.deadline),
                metadata=rpc.metadata(step),
                credentials=credentials,
                compression=compression,
            )
            if rpc.context.spent is not None:
                trailers: Any = dict(call.trailing_metadata() or ())
                rpc.context.spent.answered(step.call, trailers.get(wire.TRAIL))
            return reply, call

        return self._channel.drive(rpc, begin, patient=wait_for_ready)

    @override
    def future(self, *_: Any, **__: Any) -> Any:
        raise PolicyError(
            f"{self._method} was called with .future(), which cannot be guarded: nobody would be "
            "there to retry it.",
            where="Guard.grpc",
            fix="Call it in a thread: executor.submit(stub.Method, request).",
        )


class _Streaming(grpc.UnaryStreamMultiCallable):  # type: ignore[type-arg]
    """A method that streams its reply."""

    def __init__(self, channel: GuardedChannel, inner: Any, method: str) -> None:
        self._channel = channel
        self._inner = inner
        self._method = method

    @override
    def __call__(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Pairs | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        rpc = self._channel.rpc(self._method, metadata, timeout)
        until = rpc.until(monotonic())

        def begin(step: Attempt) -> tuple[Any, Any, Begun]:
            call = self._inner(
                request,
                timeout=rpc.left(until),
                metadata=rpc.metadata(step),
                credentials=credentials,
                compression=compression,
            )
            first = _first(call, step)
            return call, first, rpc.begun(step, until)

        return _Replies(
            rpc, lambda: self._channel.drive(rpc, begin, patient=wait_for_ready, alone=True)
        )


class _Replies:
    """The replies of a stream, and whatever else gRPC's call object can be asked."""

    def __init__(self, rpc: Rpc, begin: Callable[[], tuple[Any, Any, Begun]]) -> None:
        self._rpc = rpc
        self._begin = begin
        self._call: Any = None
        self._first: Any = _END
        self._stream: Begun | None = None
        self._error: Exception | None = None

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        call = self._begun()
        first, self._first = self._first, _END
        if first is not _END:
            return first
        try:
            return next(call)
        except grpc.RpcError as error:
            raise self._rpc.broken(self._stream, error, aio=False) from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._begun(), name)

    def cancel(self) -> bool:
        """Give the stream up."""
        return False if self._call is None else bool(self._call.cancel())

    def _begun(self) -> Any:
        if self._error is not None:
            raise self._error
        if self._call is None:
            try:
                self._call, self._first, self._stream = self._begin()
            except Exception as error:
                self._error = error
                raise
        return self._call


def _first(call: Any, step: Attempt) -> Any:
    """Wait for the first reply of a stream as long as the attempt may; `_END`: it has none."""
    overdue = threading.Event()

    def give_up() -> None:
        overdue.set()
        call.cancel()

    timer = None
    if step.deadline != inf:
        timer = threading.Timer(max(0.0, step.deadline - monotonic()), give_up)
        timer.daemon = True
        timer.start()
    try:
        return next(call, _END)
    except grpc.RpcError as error:
        if not overdue.is_set():
            raise
        raise Unknown("no message in time", reason=Reason.TIMEOUT) from error
    finally:
        if timer is not None:
            timer.cancel()
