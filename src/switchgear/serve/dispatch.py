"""One pipeline behind both doors: from a request that arrived to a reply, or the reason for none.

The order
---------
1. deadline      passed on arrival: turned away, and nothing runs
2. admission     where the service has one: a place, a wait for one, or turned away (`admission.py`)
3. context       bound for the rest; the handler's own calls and events inherit it
4. before        the hooks authenticate and fill in who asks; they may reject
5. read          the door reads the body and the message: nothing is read for who may not ask
6. idempotency   of a keyed command that carries a key: a stored reply ends it here
7. handler       cancelled when the deadline passes, or when the door learns that the client left
8. outcome       what the handler raised becomes what the caller may know (`failure.py`)

A cancelled handler leaves nothing half done in the database: its open transaction is rolled back,
and a COMMIT that was sent is waited for.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from time import monotonic
from types import MappingProxyType, NoneType
from typing import Any, Final, TypeAlias, TypeVar

from switchgear.contract.deprecated import Uses, uses_of
from switchgear.contract.message import Message
from switchgear.contract.refusal import Refusal
from switchgear.contract.service import (
    DEFAULT_RETENTION,
    Operation,
    ServiceContract,
    contracts_of,
)
from switchgear.database.port import commits
from switchgear.errors import ContractError, InvalidMessage
from switchgear.model.context import Context, bind
from switchgear.model.outcome import Refused, Rejected, Status, Unavailable, Unknown
from switchgear.model.signal import Detail, Signal, SignalKind, began, emit, listening
from switchgear.model.trail import told
from switchgear.model.wire import http_status
from switchgear.policy.admission import Admission, Visitor
from switchgear.serve import kept
from switchgear.serve.admission import desks
from switchgear.serve.alarm import Within
from switchgear.serve.arrival import Arrival
from switchgear.serve.failure import (
    Failed,
    alone,
    expired,
    failure_of,
    outcome_of,
    overran,
    took_too_long,
)
from switchgear.serve.idempotency import Idempotency, Keyed, Stored, digest
from switchgear.serve.late import Lateness

__all__ = ["Asked", "Before", "Dispatcher", "Read"]

T = TypeVar("T")

log = logging.getLogger("switchgear.serve")

Before: TypeAlias = Callable[[Arrival], Awaitable[str | Context | None]]
"""Runs before the handler. Returns who asks, a whole context, or None; or raises `Rejected`."""

Asked: TypeAlias = Message | AsyncIterator[Message]
"""What a handler is given: one message, or a stream of them where the operation takes one."""

Read: TypeAlias = Callable[[], Awaitable[Asked]]
"""Reads the message; called once at most. Raises `InvalidMessage`, or an outcome.

Where the operation takes a stream it returns the iterator, which raises the same.
"""

_UNBOUND: Final = nullcontext()
_CLOCKS: Final = 0.005
_SPARE: Final = 0.025
_SHARE: Final = 0.1
"""How much of a request's time its own calls do not get: a tenth, and at most so many seconds."""

Emit: TypeAlias = Callable[[Message], Awaitable[None]]
# The handler's method: a coroutine function, or a function that returns an async iterator.
Method: TypeAlias = Callable[[Any], Any]


class Dispatcher:
    """Handlers, and what happens around each of their operations.

    `handlers` are instances of classes that implement contracts. `before` hooks run in order.
    `idempotency` remembers keyed commands; without it they are remembered in memory, which a
    restart forgets, and a warning says so. `admission` bounds what is carried out at once;
    `admissions` holds what a contract has instead, by its full name. `latency` says in how many
    seconds an answer is promised, by the full name of an operation or of its contract, or by "" for
    all: what takes longer is late (`late.py`).

    Raises `ContractError` if a handler implements no contract, or two implement the same, and
    `PolicyError` if an `Admission` names an operation that is not there.
    """

    def __init__(
        self,
        handlers: Iterable[object],
        *,
        before: Sequence[Before] = (),
        idempotency: Idempotency | None = None,
        admission: Admission | None = None,
        admissions: Mapping[str, Admission] = MappingProxyType({}),
        latency: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        contracts: dict[str, ServiceContract] = {}
        self._methods: dict[str, Method] = {}
        for handler in handlers:
            where = f"{type(handler).__module__}.{type(handler).__qualname__}"
            found = contracts_of(handler)
            if not found:
                raise ContractError(
                    "It is not a handler.", where=where, fix="Derive it from a @service Protocol."
                )
            for contract in found:
                if contract.full_name in contracts:
                    raise ContractError(
                        f"Two handlers implement {contract.full_name}.",
                        where=where,
                        fix="Serve one of them.",
                    )
                contracts[contract.full_name] = contract
                for operation in contract.operations.values():
                    self._methods[operation.full_name] = getattr(handler, operation.name)
        self.contracts: Mapping[str, ServiceContract] = MappingProxyType(contracts)
        """What is served, by full name."""
        self._before = tuple(before)
        self._aging = {
            operation.full_name: uses
            for contract in contracts.values()
            for operation in contract.operations.values()
            if (uses := uses_of(operation.request)) is not None
        }
        """Operations whose requests have something deprecated in them."""
        self._desks = desks(contracts.values(), admission, admissions)
        keyed = [
            operation.full_name
            for contract in contracts.values()
            for operation in contract.operations.values()
            if operation.keyed
        ]
        if keyed and idempotency is None:
            log.warning(
                "the replies to %s are remembered in memory only, and a restart forgets them: "
                "give the service a database",
                ", ".join(keyed),
            )
        self.idempotency = idempotency or Idempotency(None)
        self._lateness = Lateness(latency)

    async def handle(self, operation: Operation, read: Read, arrival: Arrival) -> Message:
        """Carry out what `read` reads and return the reply.

        Raises the outcome for the caller: a declared refusal, `Rejected`, `TurnedAway` (certainly
        not done), or `Failed` or `InProgress` (may have been done). Cancellation passes through.
        """
        method = self._method(operation)
        work: Callable[[Any], Awaitable[Message]] = method
        if operation.keyed and arrival.given_key is not None:
            work = partial(self._once, method, arrival)
        return await self._around(arrival, read, work, operation.reply)

    async def stream(self, operation: Operation, read: Read, arrival: Arrival, send: Emit) -> None:
        """Carry out a streaming request, handing each reply to `send`. Raises as `handle`."""
        method = self._method(operation)

        async def work(request: Asked) -> None:
            replies = method(request)
            try:
                async for reply in replies:
                    await send(_checked(operation, reply))
            finally:
                close = getattr(replies, "aclose", None)
                if close is not None:
                    await close()

        await self._around(arrival, read, work, NoneType)

    def _method(self, operation: Operation) -> Method:
        method = self._methods.get(operation.full_name)
        if method is None:
            raise Rejected(f"{operation.full_name} is not served.", status=Status.UNIMPLEMENTED)
        return method

    async def _around(
        self,
        arrival: Arrival,
        read: Read,
        work: Callable[[Any], Awaitable[T]],
        expected: type[T],
    ) -> T:
        """Run `work` in its context and its time; turn what it raises into the outcome."""
        end: BaseException | None = None
        desk = self._desks.get(arrival.operation.full_name) if self._desks else None
        visitor: Visitor | None = None
        span = began(SignalKind.REQUEST_BEGAN, *_begun(arrival)) if listening() else 0
        with commits() as effects:
            try:
                if desk is not None:
                    visitor = await desk.enter(arrival)
                with _bound(arrival):
                    if self._before or arrival.operation.keyed:
                        await self._prepare(arrival)
                    request = await self._read(arrival, read)
                    arrival.begun = True
                    if visitor is not None:
                        visitor.began = monotonic()
                    with bind(_inside(arrival)):
                        reply = await work(request)
                if not isinstance(reply, expected):
                    _checked(arrival.operation, reply)
                self._lateness.answered(arrival, monotonic())
                return reply
            except Exception as error:
                end = _outcome(error, arrival, effects.count)
                if end is error:
                    raise
                raise end from error
            except BaseException as error:
                end = _cut(error, arrival)
                raise
            finally:
                if desk is not None and visitor is not None:
                    desk.leave(arrival, visitor, end)
                if listening():
                    emit(_ended(arrival, end, span))
                del end

    async def _read(self, arrival: Arrival, read: Read) -> Asked:
        try:
            found: Any = await read()
        except InvalidMessage as error:
            raise Rejected(error.what, pointer=error.pointer) from error
        uses = self._aging.get(arrival.operation.full_name) if self._aging else None
        if arrival.operation.takes_stream:
            return _each(found, arrival, uses)
        if uses is not None and listening():
            _tell(arrival, uses(found))
        return found  # type: ignore[no-any-return]  # what the door says it is

    async def _prepare(self, arrival: Arrival) -> None:
        """Run the hooks, and read the key of a keyed command."""
        for hook in self._before:
            with bind(arrival.context):
                _take(arrival, await hook(arrival))
        if arrival.operation.keyed:
            arrival.read_key()

    async def _once(self, method: Method, arrival: Arrival, request: Message) -> Message:
        """Carry out a keyed command, or return what its first request was answered."""
        operation, key = arrival.operation, arrival.key or ""
        reply: Message | None = None
        refusal: Refusal | None = None
        mine: Stored | None = None

        async def work() -> Stored:
            nonlocal reply, refusal, mine
            try:
                reply = _checked(operation, await method(request))
                mine = Stored(kept.write(reply))
            except Exception as error:
                found = alone(error)
                if not isinstance(found, Refusal) or type(found) not in operation.refuses:
                    raise
                refusal = found
                mine = Stored(kept.write(refusal.to_message()), refusal.full_name)
            return mine

        keyed = Keyed(
            id=digest(arrival.principal or "", operation.full_name, key),
            operation=operation.full_name,
            key=key,
            fingerprint=digest(operation.full_name, kept.canonical(request)),
            retention=(operation.retention or DEFAULT_RETENTION).total_seconds(),
        )
        stored = await self.idempotency.run(keyed, work)
        if stored is not mine:
            reply, refusal = _replayed(operation, stored)
        if refusal is not None:
            raise refusal
        if reply is None:
            raise RuntimeError(f"{operation.full_name} has neither replied nor refused")
        return reply


class _Deadline(Within):
    """The deadline of a request: the outcome depends on whether its handler had begun."""

    __slots__ = ("_arrival",)

    def __init__(self, when: float, arrival: Arrival) -> None:
        super().__init__(when)
        self._arrival = arrival

    def late(self, error: BaseException | None) -> Exception:
        """Return the outcome."""
        if self._arrival.begun:
            took = monotonic() - self._arrival.received
            return overran(error, self._arrival.operation, took)
        return expired("before the whole request was there")


def _bound(arrival: Arrival) -> AbstractContextManager[None]:
    """Return what keeps the deadline of a request; raises `TurnedAway` if it has passed."""
    deadline = arrival.context.deadline
    if deadline is None:
        return _UNBOUND
    if deadline <= monotonic():
        raise expired()
    # gRPC's own core cancels a handler at its deadline
    return _UNBOUND if arrival.door == "grpc" else _Deadline(deadline, arrival)


async def _each(
    requests: AsyncIterator[Message], arrival: Arrival, uses: Uses | None
) -> AsyncIterator[Message]:
    """Yield the messages of a stream; one that cannot be read rejects the rest."""
    try:
        async for one in requests:
            if uses is not None and listening():
                _tell(arrival, uses(one))
            yield one
    except InvalidMessage as error:
        raise Rejected(error.what, pointer=error.pointer) from error


def _tell(arrival: Arrival, used: set[str]) -> None:
    """Report what a request used of what is deprecated, so that a team knows when it can go."""
    for name in sorted(used):
        detail = {"field": name, "caller": arrival.context.caller, "door": arrival.door}
        emit(Signal(SignalKind.DEPRECATED_USED, arrival.operation.full_name, detail))


def _checked(operation: Operation, reply: object) -> Message:
    """Return what a handler returned; raises `TypeError` if the contract says something else."""
    if not isinstance(reply, operation.reply):
        raise TypeError(
            f"{operation.full_name} returned {type(reply).__name__}, not {operation.reply.__name__}"
        )
    return reply


def _replayed(operation: Operation, stored: Stored) -> tuple[Message | None, Refusal | None]:
    """Read a stored reply or refusal."""
    if stored.refusal is None:
        return kept.read(operation.reply, stored.body), None
    declared = operation.refusal(stored.refusal)
    if declared is None:
        # an earlier release declared it
        raise RuntimeError(f"the stored refusal {stored.refusal} is no longer declared")
    return None, declared.from_message(kept.read(declared.__message__, stored.body))


def _take(arrival: Arrival, found: str | Context | None) -> None:
    """Put what a `before` hook returned into the arrival."""
    if found is None:
        return
    if isinstance(found, str):
        arrival.context = replace(arrival.context, caller=found)
        arrival.principal = found
    else:
        arrival.context = found
        arrival.principal = found.caller


def _outcome(error: Exception, arrival: Arrival, committed: int) -> Refused | Unavailable | Unknown:
    """Return the outcome for the caller, with what the caller may know."""
    found = outcome_of(error, arrival.operation, committed=committed)
    if isinstance(found, Failed) and found.trail and not arrival.named:
        # at the edge of the system: nobody outside is told what is inside
        found.trail = ()
    return found


def _cut(error: BaseException, arrival: Arrival) -> BaseException:
    """Return what cut a request; log it, where it was gRPC's core at the deadline."""
    deadline = arrival.context.deadline
    if arrival.door == "grpc" and arrival.begun and deadline is not None:
        now = monotonic()
        # the core has a clock of its own
        if now >= deadline - _CLOCKS:
            took_too_long(arrival.operation, now - arrival.received)
    return error


def _inside(arrival: Arrival) -> Context:
    """Return the context for the handler: its own calls end a little before the request has to.

    A call that takes all the time there is would otherwise end when nobody waits any more for the
    door to say which it was.
    """
    context, deadline = arrival.context, arrival.context.deadline
    if deadline is not None:
        deadline -= min(_SPARE, max(0.0, deadline - monotonic()) * _SHARE)
    return context.due(deadline, arrival.spent)


def _begun(arrival: Arrival) -> tuple[str, dict[str, Detail]]:
    """Return what there is to say of a request that begins, and of which operation."""
    context = arrival.context
    return arrival.operation.full_name, {
        "door": arrival.door,
        "caller": context.caller,
        "attempt": context.attempt,
        "traceparent": context.traceparent,
        "tracestate": context.tracestate,
        **_route(arrival),
    }


def _route(arrival: Arrival) -> dict[str, Detail]:
    """Return how the operation is called over HTTP."""
    route = arrival.route
    if route is None:
        return {}
    scheme = arrival.source.get("scheme", "http")
    return {"method": route.method, "route": route.path, "scheme": scheme}


def _ended(arrival: Arrival, end: BaseException | None, span: int) -> Signal:
    outcome, status = "ok", Status.OK
    if isinstance(end, Refused | Unavailable | Unknown):
        status = failure_of(end).status
        outcome = (
            "refused"
            if isinstance(end, Refused)
            else "unavailable"
            if isinstance(end, Unavailable)
            else "unknown"
        )
    elif end is not None:
        deadline = arrival.context.deadline
        late = deadline is not None and deadline <= monotonic()
        outcome = "unknown" if late else "cancelled"
        status = Status.DEADLINE_EXCEEDED if late else Status.CANCELLED
    return Signal(
        SignalKind.REQUEST_ENDED,
        arrival.operation.full_name,
        {
            "outcome": outcome,
            "status": str(status),
            "seconds": monotonic() - arrival.received,
            "door": arrival.door,
            "caller": arrival.context.caller,
            "attempt": arrival.context.attempt,
            "code": http_status(status) if arrival.door == "http" else None,
            "trail": told(arrival.trail) or None,
            **_route(arrival),
        },
        span,
    )
