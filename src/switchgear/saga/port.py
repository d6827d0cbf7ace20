"""What runs a service's sagas, wherever that is, and what a person works with."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Protocol

from switchgear.database.port import Database
from switchgear.saga import runbook
from switchgear.saga.definition import Saga, Step
from switchgear.saga.evidence import Evidence, WorkItem
from switchgear.saga.run import Run
from switchgear.saga.state import What
from switchgear.saga.story import Decision

__all__ = ["DatabaseDesk", "Desk", "Sagas"]


class Sagas(Protocol):
    """An engine: `Engine` in the service's own database, or `TemporalEngine` on a cluster."""

    @property
    def running(self) -> bool:
        """Whether sagas are taken up here."""
        ...

    async def start(self, tx: object, saga: Saga, input: Any, *, id: str) -> Run:  # noqa: A002
        """Start `saga` inside the transaction `tx`: it runs if and only if `tx` commits."""
        ...

    async def begin(self, saga: Saga, input: Any, *, id: str) -> Run:  # noqa: A002
        """Start `saga` by itself, and return once it is durable."""
        ...

    def start_sync(self, connection: object, saga: Saga, input: Any, *, id: str) -> Run:  # noqa: A002
        """Do what `start` does on a connection that does not await."""
        ...

    async def refute(
        self,
        tx: object,
        id: str,  # noqa: A002  it is called that everywhere
        step: Step[..., Any] | str,
        *,
        actor: str,
        evidence: str,
    ) -> str:
        """Say that a step, recorded as done, does not hold after all."""
        ...

    def wake(self) -> None:
        """Look for work now."""
        ...

    def get(self, id: str) -> Run:  # noqa: A002  it is called that everywhere
        """Return the run of the saga `id`, which may have been started anywhere."""
        ...


class Desk(Protocol):
    """Where a person sees sagas that wait, and acts. Errors are those of `runbook`."""

    async def items(self, *, closed: bool) -> list[WorkItem]:
        """Return the open work items, oldest first; with `closed`, the closed ones."""
        ...

    async def show(self, id: str) -> Evidence:  # noqa: A002  it is called that everywhere
        """Return the evidence on a saga, by its id or that of a work item."""
        ...

    async def act(self, id: str, action: What, decision: Decision) -> WorkItem:  # noqa: A002
        """Take an action on a work item, by its id or that of its saga."""
        ...

    async def refute(self, id: str, step: str, decision: Decision) -> str:  # noqa: A002
        """Say that a step does not hold, and return the saga's status."""
        ...


class DatabaseDesk:
    """The desk of sagas in a database.

    `known` tells which definitions the service declares, and None where its code is not here: see
    `runbook.operate`.
    """

    def __init__(
        self, database: Database, known: Callable[[], Collection[str] | None] = lambda: None
    ) -> None:
        self._database = database
        self._known = known

    async def items(self, *, closed: bool) -> list[WorkItem]:
        """Return the open work items, oldest first; with `closed`, the closed ones."""
        return await runbook.list_items(self._database, closed=closed)

    async def show(self, id: str) -> Evidence:  # noqa: A002
        """Return the evidence on a saga, by its id or that of a work item."""
        return await runbook.show(self._database, id)

    async def act(self, id: str, action: What, decision: Decision) -> WorkItem:  # noqa: A002
        """Take an action on a work item, by its id or that of its saga."""
        return await runbook.operate(self._database, id, action, decision, known=self._known())

    async def refute(self, id: str, step: str, decision: Decision) -> str:  # noqa: A002
        """Say that a step does not hold, and return the saga's status."""
        actor, evidence, known = decision.actor, decision.reason, self._known()
        return await runbook.refute(self._database, id, step, actor, evidence, known=known)
