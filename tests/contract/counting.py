"""Contracts with streams in them, for the clients of other languages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from switchgear import Message, Refusal, command, field, query, service


class CountTo(Message, package="counting.v1"):
    last: int = field(1)


class At(Message, package="counting.v1"):
    number: int = field(1)


class TooFar(Refusal, package="counting.v1"):
    """Nobody counts that far."""

    most: int = field(1)


@service("counting.v1")
class Counting(Protocol):
    """Counts, and repeats what it hears."""

    @query("GET /v1/count/{last}", refuses=[TooFar])
    def count(self, request: CountTo) -> AsyncIterator[At]:
        """Count from one."""
        ...

    @command()
    def echo(self, requests: AsyncIterator[At]) -> AsyncIterator[At]:
        """Say each number once more."""
        ...
