"""A saga that was started: where it stands, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol, TypeVar

import msgspec

from switchgear.saga.codec import Failure, refusal_of
from switchgear.saga.definition import Step
from switchgear.saga.errors import SagaUndone, SagaUnfinished
from switchgear.saga.state import Fate, What
from switchgear.saga.stores.port import Line
from switchgear.saga.story import Decision, Story

__all__ = ["Done", "Run", "RunState", "end_of", "undone"]

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Done:
    """A saga that went through, with the results of its steps."""

    id: str
    results: Mapping[str, bytes]

    def result(self, step: Step[..., R]) -> R:
        """Return what `step` returned. Raises `LookupError` if it was skipped."""
        return step.codec.decode(self.results[step.name])


@dataclass(frozen=True, slots=True)
class RunState:
    """Where a saga stands. Times are epoch seconds."""

    id: str
    saga: str
    version: int
    status: str
    """waiting (for a lock), running, undoing, queued (for a person), done or undone."""
    steps: Mapping[str, Fate]
    began: float
    deadline: float | None
    ended: float | None


class Asked(Protocol):
    """What a run asks its engine."""

    async def outcome(self, saga_id: str, within: float) -> Done:
        """Wait for the end of a saga."""
        ...

    async def state(self, saga_id: str) -> RunState:
        """Return where a saga stands."""
        ...


class Run:
    """A handle on one saga. It holds nothing: make another by `engine.get(id)`, anywhere."""

    def __init__(self, engine: Asked, id: str) -> None:  # noqa: A002  it is called that
        self._engine = engine
        self.id = id

    def __repr__(self) -> str:
        return f"<run {self.id}>"

    async def result(self, *, within: float | timedelta) -> Done:
        """Wait until the saga has ended, at most `within` (seconds or a timedelta).

        Raises `SagaUndone` if it was undone, `SagaUnfinished` if it has not ended in time or
        waits for a person, and `NotCommitted` if no committed transaction has started it.
        """
        seconds = within.total_seconds() if isinstance(within, timedelta) else within
        return await self._engine.outcome(self.id, seconds)

    async def state(self) -> RunState:
        """Return where the saga stands. Raises `NotCommitted` like `result`."""
        return await self._engine.state(self.id)


def undone(saga_id: str, turned: Line | None) -> SagaUndone:
    """Return the error that tells why a saga ended undone."""
    if turned is None or turned.data is None:
        what: Any = turned.entry.what if turned else What.LEFT
        step = turned.entry.step if turned else ""
        why = "its deadline passed" if what in {What.EXPIRED, What.OK} else f"{what}"
        return SagaUndone(saga_id, step=step, why=why)
    if turned.entry.what in {What.REFUTE, What.EXPIRED}:
        decision = msgspec.json.decode(turned.data, type=Decision)
        how = "refuted" if turned.entry.what is What.REFUTE else "cancelled"
        why = f"{how} by {decision.actor}: {decision.reason}"
        return SagaUndone(saga_id, step=turned.entry.step, why=why)
    if turned.entry.what in {What.OK, What.ABORT}:
        late = turned.entry.what is What.OK
        why = "it was done after the deadline" if late else "it was aborted by a person"
        return SagaUndone(saga_id, step=turned.entry.step, why=why)
    failure = msgspec.json.decode(turned.data, type=Failure)
    why = f"{turned.entry.what}: {failure.what}"
    return SagaUndone(saga_id, step=turned.entry.step, why=why, refusal=refusal_of(failure))


def end_of(saga_id: str, story: Story, stored: str) -> Done:
    """Return the end that `story` tells, or raise it."""
    status = stored if stored == "waiting" else story.status
    if status == "done":
        return Done(saga_id, story.results)
    if status == "undone":
        raise undone(saga_id, story.turned)
    if status == "queued":
        told = f"saga {saga_id} waits for a person: see `switchgear saga show {saga_id}`."
    elif status == "waiting":
        told = f"saga {saga_id} waits for a lock: `switchgear saga show {saga_id}` says whose."
    else:
        told = f"saga {saga_id} has not ended yet; it is {status}. Ask again by its id."
    raise SagaUnfinished(saga_id, status=status, what=told)
