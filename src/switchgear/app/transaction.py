"""One transaction of the service's own database, with events and sagas in the same commit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from switchgear.contract.message import Message
from switchgear.database.port import Dialect, Row, Value
from switchgear.database.port import Transaction as DatabaseTransaction
from switchgear.errors import SagaError

if TYPE_CHECKING:
    from switchgear.events.bus import Bus
    from switchgear.saga.definition import Saga, Step
    from switchgear.saga.port import Sagas
    from switchgear.saga.run import Run

__all__ = ["Transaction"]

T = TypeVar("T")


class Transaction:
    """What `app.transaction()` opens, and what a handler of events gets.

    Statements, events and sagas of the block become true together when it ends, or not at all.
    """

    def __init__(
        self,
        inner: DatabaseTransaction,
        bus: Bus,
        engine: Sagas,
        sagas: Sequence[Saga] = (),
        published: Callable[[Message], None] | None = None,
    ) -> None:
        self._inner = inner
        self._bus = bus
        self._engine = engine
        self._sagas = sagas
        self._published = published
        self._rows: list[Any] = []  # as the bus prepares them, and nobody else reads them

    @property
    def dialect(self) -> Dialect:
        """Which SQL the database speaks: `sqlite` or `postgres`."""
        return self._inner.dialect

    @property
    def connection(self) -> Any:
        """The driver's own object: an asyncpg connection, an AsyncSession, a sqlite3 connection."""
        return self._inner.connection

    async def execute(self, sql: str, *args: Any) -> list[Row]:
        """Run one statement with the database's own placeholders and return its rows."""
        return await self._inner.execute(sql, *args)

    async def run(self, sql: str, *args: Value) -> list[Row]:
        """Run one portable statement, with `?` for its arguments, and return its rows."""
        return await self._inner.run(sql, *args)

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call `callback` once the transaction has been committed, and never if it is not."""
        self._inner.after_commit(callback)

    def publish(self, *events: Message, deadline: datetime | None = None) -> None:
        """Publish events with the commit: they leave once it has happened, in this order.

        `deadline` is when they stop being of interest. Raises `EventDeclarationError` for a
        message that is not an event.
        """
        for event in events:
            self._rows.append(self._bus.prepare(event, deadline=deadline))
            if self._published is not None:
                self._inner.after_commit(partial(self._published, event))

    async def start(self, saga: Saga, input: T, *, id: str) -> Run:  # noqa: A002  as sagas call it
        """Start a saga with the commit. Its `id` names it; starting it twice is one saga.

        `await run.result(within=seconds)`, after the block, waits for its end.
        Raises `SagaConflict` if the id belongs to another saga or another input, and `SagaError`
        for a saga that the service does not run.
        """
        if saga not in self._sagas:
            raise SagaError(
                f"the service does not run the saga {saga.name}, so nobody would carry it on.",
                fix=f"Declare it beside the service: app.runs({saga.name}).",
            )
        return await self._engine.start(self._inner, saga, input, id=id)

    async def refute(
        self,
        step: Step[..., Any],
        id: str,  # noqa: A002  likewise
        *,
        actor: str,
        evidence: str,
    ) -> str:
        """Say that `step` of the saga `id`, recorded as done, does not hold after all.

        The saga turns round with the commit, also after its end. Raises `NoSuchSaga`, `StateMoved`
        and `Held`; an event's handler lets them pass, and is asked again.
        """
        return await self._engine.refute(self._inner, id, step, actor=actor, evidence=evidence)

    async def flush(self) -> None:
        """Write the events published so far into the outbox; the end of the block does it too."""
        rows, self._rows = self._rows, []
        if rows:
            await self._bus.flush(self._inner, rows)
