"""Streams of requests: whatever yields messages, sent one by one, and never twice.

A stream cannot be asked for again: once its first message was taken, an attempt that failed is the
last one (`final`), also where the callee certainly did nothing.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from typing import Any, TypeAlias, TypeVar

from switchgear.contract.message import Message
from switchgear.contract.service import Operation
from switchgear.errors import CallError
from switchgear.model.outcome import Outcome, Unavailable, Unknown

__all__ = ["Asked", "AskedWrongly", "Requests", "check_request"]

T = TypeVar("T")

Asked: TypeAlias = Message | AsyncIterable[Message]
"""What is sent: one message, or a stream of them where the operation takes one."""


class AskedWrongly(CallError):
    """A call was made in a way that its contract does not allow; nothing was sent."""

    code = "SG401"


class Requests:
    """The messages of one call: taken once, whatever the number of attempts."""

    def __init__(self, operation: Operation, source: AsyncIterable[Message]) -> None:
        self._operation = operation
        self._source = source
        self.taken = False
        """Whether something was taken, so that another attempt would send a part only."""

    async def __aiter__(self) -> AsyncIterator[Message]:
        """Yield the messages; raises `AskedWrongly` for one of another type."""
        self.taken = True
        async for one in self._source:
            yield _checked(self._operation, one)

    def judged(self, outcome: Outcome[T]) -> Outcome[T]:
        """Return an outcome, which is final if it cannot be tried again."""
        if self.taken and isinstance(outcome, Unavailable | Unknown):
            outcome.final = True
        return outcome

    async def close(self) -> None:
        """Let whoever yields the messages clean up."""
        if isinstance(self._source, AsyncGenerator):
            await self._source.aclose()


def check_request(operation: Operation, request: Any) -> None:
    """Raise `AskedWrongly` for what the operation does not take."""
    if not operation.takes_stream:
        _checked(operation, request)
    elif not hasattr(request, "__aiter__"):
        raise AskedWrongly(
            f"the request is {type(request).__name__}, and not a stream.",
            where=operation.full_name,
            fix=f"Give an async iterator of {operation.request.__name__}.",
        )


def _checked(operation: Operation, request: object) -> Message:
    if not isinstance(request, operation.request):
        raise AskedWrongly(
            f"the request is {type(request).__name__}, not {operation.request.__name__}.",
            where=operation.full_name,
        )
    return request
