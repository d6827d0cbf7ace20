"""What is behind the methods of a client: an operation, its policy at work, and a wire.

`Wire` is the port: a way to ask one service once. `http.py` and `grpc.py` are two; a test may give
its own, which calls a handler in the same process.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from math import inf
from time import monotonic
from typing import Any, Protocol, TypeAlias, TypeVar, cast
from uuid import uuid4
from weakref import WeakKeyDictionary

from switchgear.call import aio
from switchgear.call.answer import Answer, Begun, Machines, deliver, inherited
from switchgear.call.process import OfOneProcess, abandon
from switchgear.call.streams import Asked, AskedWrongly, Requests, check_request
from switchgear.call.tls import Secret, Tls
from switchgear.contract.codec import to_json
from switchgear.contract.message import Message
from switchgear.contract.service import Operation, ServiceContract
from switchgear.database.port import committed
from switchgear.model.context import Context, derived_key
from switchgear.model.edge import Edge, Pattern
from switchgear.model.outcome import Outcome, Refused, Status, Unavailable, Unknown
from switchgear.model.wire import Verdict
from switchgear.policy.machine import Attempt, Machine
from switchgear.policy.policy import Policy

__all__ = ["Asked", "AskedWrongly", "Core", "Replies", "Settings", "Wire"]

T = TypeVar("T")


Replies: TypeAlias = AsyncGenerator[Message, None]
"""The replies of a stream. Whoever iterates closes it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What every wire is told besides the target."""

    caller: str | None = None
    tls: Tls | None = None
    token: Secret | None = None
    treat: Mapping[int | Status, Verdict] = field(default_factory=dict)


class Wire(Protocol):
    """A way to reach one service. Made and used inside one event loop."""

    async def send(
        self, operation: Operation, request: Asked, attempt: Attempt, context: Context
    ) -> Outcome[Any]:
        """Ask once, and say how it went. Each outcome that is an exception is a new object.

        It is cancelled when the attempt's deadline has passed.
        """
        ...

    async def open(
        self, operation: Operation, request: Asked, attempt: Attempt, context: Context
    ) -> Outcome[Replies]:
        """Begin a stream once: `Ok` once its first reply is there, or it ended without one.

        Where the operation takes a stream as well, nothing tells whose turn it is, and `Ok` is that
        the call was begun.

        The stream is bounded by the deadline of the context, not of the attempt; it raises the
        outcome if it fails later. Closing the iterator gives it up.
        """
        ...

    async def close(self) -> None:
        """Release the connections."""
        ...


class _Line:
    """One operation of a client, with the state of its policy."""

    __slots__ = ("command", "edge", "machine", "operation", "repeatable")

    def __init__(self, operation: Operation, edge: Edge, machine: Machine) -> None:
        self.operation = operation
        self.command = operation.pattern is Pattern.COMMAND
        self.repeatable = operation.repeatable and not operation.takes_stream
        self.edge = edge
        self.machine = machine


class Core(OfOneProcess):
    """What is behind the methods of one client."""

    def __init__(
        self,
        contract: ServiceContract,
        wire: Callable[[], Wire],
        policies: Callable[[Operation], Policy],
        caller: str | None,
    ) -> None:
        self.contract = contract
        self._make = wire
        self._wires: WeakKeyDictionary[asyncio.AbstractEventLoop, Wire] = WeakKeyDictionary()
        self._latest: tuple[asyncio.AbstractEventLoop, Wire] | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._machines = Machines()
        self.lines: dict[str, _Line] = {}
        for operation in contract.operations.values():
            policy = policies(operation)
            edge = Edge(
                caller=caller or "?",
                callee=contract.full_name,
                operation=operation.full_name,
                pattern=operation.pattern,
                policy=policy.describe(),
                keyed=operation.keyed,
            )
            machine = self._machines.new(edge.name, policy)
            self.lines[operation.name] = _Line(operation, edge, machine)

    def _forked(self) -> None:
        self._lock = threading.Lock()
        abandon((self._wires, self._latest, list(self._wires.values())))
        self._wires, self._latest = WeakKeyDictionary(), None
        self._machines.forget(line.machine for line in self.lines.values())

    def reload(self, policies: Callable[[Operation], Policy]) -> None:
        """Go on under other policies, with the state that there is; calls under way are not cut."""
        changes = []
        for line in self.lines.values():
            policy = policies(line.operation)
            line.edge = replace(line.edge, policy=policy.describe())
            changes.append((line.machine, policy))
        self._machines.reload(changes)
        for machine, _ in changes:
            deliver(machine)

    async def call(
        self, name: str, request: Asked, deadline: float | None = None, key: str | None = None
    ) -> Answer[Any]:
        """Make one call."""
        line = self.lines[name]
        operation = line.operation
        if operation.streaming:
            raise AskedWrongly(
                "a stream is not one answer.",
                where=operation.full_name,
                fix="Iterate over it: `async for reply in client.method(request)`.",
            )
        send, context = self._wire().send, inherited()
        asked = _once(operation, request)
        return await self._drive(
            line,
            request,
            lambda attempt: send(operation, asked, attempt, context),
            context,
            deadline=deadline,
            key=key,
        )

    async def stream(self, name: str, request: Asked) -> Replies:
        """Yield the replies of one stream; the policy covers the time up to the first of them.

        Where requests are streamed too, it covers the time up to the connection. A stream that
        fails later is a failed call all the same, for the breaker and for the budget.
        """
        line = self.lines[name]
        operation = line.operation
        begin, context, since = self._wire().open, inherited(), monotonic()
        asked = _once(operation, request)
        last: Attempt | None = None

        def attempt(step: Attempt) -> Awaitable[Outcome[Replies]]:
            nonlocal last
            last = step
            return begin(operation, asked, step, context)

        answer = await self._drive(line, request, attempt, context)
        until = inf if context.deadline is None else context.deadline
        begun = None if answer.degraded or last is None else Begun(last, since=since, until=until)
        replies: Replies = answer.value
        try:
            async for reply in replies:
                yield reply
        except (Refused, Unavailable, Unknown) as outcome:
            if outcome.where is None:  # else it is of a call that the iterator of requests made
                outcome.where = operation.full_name
                if begun is not None and not isinstance(outcome, Refused):
                    begun.failed(outcome)
            raise
        finally:
            await replies.aclose()

    async def close(self) -> None:
        """Close the wires of all event loops; calls in flight are cancelled."""
        with self._lock:
            self._closed = True
            wires = list(self._wires.items())
            self._wires.clear()
            self._latest = None
        here = asyncio.get_running_loop()
        for loop, wire in wires:
            if loop is here:
                await wire.close()
            elif loop.is_running():
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(wire.close(), loop))

    def closing(self, loop: asyncio.AbstractEventLoop) -> Callable[[], Coroutine[Any, Any, None]]:
        """Return what closes the wire of `loop`, on that loop, without keeping the client alive."""
        wires = self._wires

        async def close() -> None:
            wire = wires.pop(loop, None)
            if wire is not None:
                await wire.close()

        return close

    def _wire(self) -> Wire:
        loop = asyncio.get_running_loop()
        latest = self._latest
        if latest is not None and latest[0] is loop:
            return latest[1]
        wire = self._wires.get(loop)
        if wire is None:
            with self._lock:
                if self._closed:
                    raise AskedWrongly(
                        "the client is closed.",
                        where=self.contract.full_name,
                        fix="Keep it open for the service's life.",
                    )
                wire = self._wires[loop] = self._make()
        self._latest = (loop, wire)
        return wire

    async def _drive(
        self,
        line: _Line,
        request: Asked,
        attempt: Callable[[Attempt], Awaitable[Outcome[T]]],
        context: Context,
        *,
        deadline: float | None = None,
        key: str | None = None,
    ) -> Answer[T]:
        operation = line.operation
        check_request(operation, request)
        if operation.keyed:
            # a key of its own makes the attempts of this call safe, though not a call made again
            key = key or derived_key(operation.full_name) or uuid4().hex
        elif key is not None:
            raise AskedWrongly(
                "a key is for commands that are declared with keyed=True.",
                where=operation.full_name,
                fix="Declare it so, or leave the key out.",
            )
        one = isinstance(request, Message) and not operation.streaming
        keeps = line.machine.shelf is not None and one
        try:
            answer = await aio.drive(
                line.machine,
                attempt,
                repeatable=line.repeatable,
                key=key,
                context=context,
                deadline=deadline,
                cache_key=to_json(cast("Message", request)) if keeps else None,
                alone=operation.streaming or operation.takes_stream,
            )
        except (Refused, Unavailable, Unknown) as outcome:
            if outcome.where is None:
                outcome.where = operation.full_name
            if isinstance(outcome, Unknown):
                outcome.key = outcome.key or key
                if line.command:
                    committed()
            raise
        except BaseException:
            # cancelled, or broken by the reply: it may have been sent
            if line.command:
                committed()
            raise
        if line.command:
            # an effect of the work in progress: a door says that a request was not executed only
            # where it had none at all
            committed()
        return answer


def _once(operation: Operation, request: Any) -> Any:
    """Return what the attempts of one call are given: a stream is there for one of them."""
    return Requests(operation, request) if operation.takes_stream else request
