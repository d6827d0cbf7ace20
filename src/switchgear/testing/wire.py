"""Calls without a network: a wire that hands requests to handlers in the same process.

What crosses it is encoded and decoded, so that a message that could not travel fails here too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from switchgear.call.core import Asked, Replies
from switchgear.call.streams import Requests
from switchgear.contract.codec import from_json, to_json
from switchgear.contract.message import Message
from switchgear.contract.service import Operation
from switchgear.errors import OperationError
from switchgear.model.context import Context
from switchgear.model.outcome import Ok, Outcome, Refused, Unavailable, Unknown
from switchgear.policy.machine import Attempt
from switchgear.serve.arrival import Arrival
from switchgear.serve.dispatch import Dispatcher, Read

__all__ = ["DirectWire", "NoFake", "NobodyWire"]


class DirectWire:
    """Hands requests to a dispatcher; the other end is `caller`, and sends `headers`."""

    def __init__(
        self, dispatcher: Dispatcher, caller: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self._dispatcher = dispatcher
        self._caller = caller
        self._headers: Sequence[tuple[str, str]] = tuple((headers or {}).items())

    async def send(
        self, operation: Operation, request: Asked, attempt: Attempt, context: Context
    ) -> Outcome[Any]:
        """Ask once; see `Wire.send`."""
        try:
            read = _reads(operation, request)
            until = None if attempt.timeout is None else attempt.deadline
            arrival = self._arrival(operation, attempt, context, until)
            reply = await self._dispatcher.handle(operation, read, arrival)
            return Ok(from_json(operation.reply, to_json(reply), open_names=True))
        except (Refused, Unavailable, Unknown) as outcome:
            return outcome

    async def open(
        self, operation: Operation, request: Asked, attempt: Attempt, context: Context
    ) -> Outcome[Replies]:
        """Begin a stream; see `Wire.open`."""
        read = _reads(operation, request)
        arrival = self._arrival(operation, attempt, context, context.deadline)
        replies = self._replies(operation, read, arrival)
        if isinstance(request, Requests):
            return Ok(replies)
        try:
            first = await anext(replies, None)
        except (Refused, Unavailable, Unknown) as outcome:
            return outcome
        return Ok(_after(first, replies))

    async def _replies(self, operation: Operation, read: Read, arrival: Arrival) -> Replies:
        """Yield replies as the handler gives them: it waits until each was taken."""
        given: asyncio.Queue[Message | None] = asyncio.Queue(1)
        closed = False

        async def carry_out() -> None:
            try:
                await self._dispatcher.stream(operation, read, arrival, given.put)
            finally:
                if not closed:
                    await given.put(None)

        running = asyncio.get_running_loop().create_task(carry_out())
        try:
            while (reply := await given.get()) is not None:
                yield from_json(operation.reply, to_json(reply), open_names=True)
            await running
        finally:
            closed = True
            running.cancel()
            await asyncio.wait([running])
            if not running.cancelled():
                running.exception()  # it was raised above, or nobody reads any more

    async def close(self) -> None:
        """Do nothing: there is no connection."""

    def _arrival(
        self, operation: Operation, attempt: Attempt, context: Context, deadline: float | None
    ) -> Arrival:
        arriving = replace(
            context,
            deadline=deadline,
            attempt=attempt.wire_number,
            caller=self._caller,
            key=None,
            causation=None,
            sequence={},
        )
        return Arrival(
            operation=operation,
            door="direct",
            pairs=self._headers,
            context=arriving,
            given_key=attempt.key,
        )


class NoFake(OperationError):
    """A service under test called another one, and the test gave no fake of it."""

    code = "SG222"


class NobodyWire:
    """Stands where a test gave no fake: whatever is sent over it raises `NoFake`."""

    def __init__(self, contract: str) -> None:
        self._contract = contract

    async def send(
        self, operation: Operation, _request: Asked, _attempt: Attempt, _context: Context
    ) -> Outcome[Any]:
        """Say what is missing."""
        raise self._missing(operation)

    async def open(
        self, operation: Operation, _request: Asked, _attempt: Attempt, _context: Context
    ) -> Outcome[Replies]:
        """Say what is missing."""
        raise self._missing(operation)

    async def close(self) -> None:
        """Do nothing."""

    def _missing(self, operation: Operation) -> NoFake:
        return NoFake(
            f"{operation.full_name} was called, and the test has no fake of it.",
            fix=f"Write: testing(app, fakes={{{self._contract}: ...}}).",
        )


def _reads(operation: Operation, request: Asked) -> Read:
    """Return what hands over the request as the other side would read it."""

    async def each(requests: AsyncIterable[Message]) -> AsyncIterator[Message]:
        async for one in requests:
            yield from_json(operation.request, to_json(one))

    arriving: Message | AsyncIterator[Message]
    if isinstance(request, Message):
        arriving = from_json(operation.request, to_json(request))
    else:
        arriving = each(request)

    async def read() -> Message | AsyncIterator[Message]:
        return arriving

    return read


async def _after(first: Message | None, replies: Replies) -> Replies:
    try:
        if first is not None:
            yield first
            async for reply in replies:
                yield reply
    finally:
        await replies.aclose()
