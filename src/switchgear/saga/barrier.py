"""What a participant needs, so that steps and undos may arrive twice, late, or in the wrong order.

A saga asks again whenever an outcome is unknown, so a participant sees three things:

- the same request again: it must have one effect (*idempotence*);
- an undo whose step never arrived: there is nothing to undo, and that is a success (*null
  compensation*);
- a step that arrives after its undo, held up somewhere on the way: it must not be carried out any
  more, or nobody would ever undo it (*hanging*).

A barrier keeps a row for each key in the participant's own database, in the handler's own
transaction, so the row and the effect are committed together. The key is that of the request,
which our clients derive from the saga's (`saga/<id>/<step>/do/...`), so that a step and its undo
are recognised as belonging together.

    barrier = Barrier()

    async def reserve(self, request: Reserve) -> Reservation:
        async with app.transaction() as tx:
            return await self._reserve(tx, request)

    @barrier.do
    async def _reserve(self, tx: Transaction, request: Reserve) -> Reservation: ...

    @barrier.undo(absent=Released())
    async def _release(self, tx: Transaction, request: Release) -> Released: ...
"""

from __future__ import annotations

import functools
import re
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any, Final, ParamSpec, TypeVar

from switchgear.database.joined import joined
from switchgear.database.port import Database, Transaction
from switchgear.errors import DatabaseError, SagaError
from switchgear.model.context import current
from switchgear.model.outcome import Rejected
from switchgear.saga.codec import Codec
from switchgear.saga.errors import BarrierClosed
from switchgear.saga.plan import Side
from switchgear.saga.signature import hints_of

__all__ = ["Barrier", "Passage", "parsed"]

P = ParamSpec("P")
R = TypeVar("R")

COMPONENT: Final = "saga_barrier"
STEPS: Final = (
    """
    CREATE TABLE switchgear_saga_barrier (
        scope TEXT NOT NULL,
        key TEXT NOT NULL,
        side TEXT NOT NULL,
        closed BIGINT NOT NULL,
        reply {blob},
        PRIMARY KEY (scope, key)
    );
    """,
)
_KEY = re.compile(r"(saga/[^/]+/[^/]+)/(do|undo)(?:/.*)?", re.DOTALL)
_WHERE: Final = "WHERE scope = ? AND key = ?"


class Passage(StrEnum):
    """What a barrier says to a request."""

    FRESH = "fresh"
    """Carry it out."""
    REPEATED = "repeated"
    """It has been carried out: answer as you did then."""
    ABSENT = "absent"
    """An undo whose step was not carried out here, and now never will be: do nothing."""


class Barrier:
    """The barrier of one participant. Its table is in the participant's own database."""

    async def prepare(self, database: Database) -> None:
        """Create or update the table. Do it at start-up."""
        await database.migrate(COMPONENT, STEPS)

    async def enter(self, tx: object, *, key: str | None = None) -> Passage:
        """Say what to do with the request whose key is `key`, by default the current one.

        `tx` is the handler's open transaction, or what `switchgear.database.joined` takes. What
        is decided is noted in it: if the handler fails, it must be rolled back. Raises
        `BarrierClosed` for a step that comes after its undo, and `Rejected` for a key that is not
        a saga's.
        """
        transaction = joined(tx)
        scope, side, whole = parsed(key if key is not None else current().key)
        # Holds the scope's row until the transaction ends, so that a step and its undo that
        # arrive together see one another.
        sql = (
            "INSERT INTO switchgear_saga_barrier (scope, key, side, closed) VALUES (?, '', '', 0) "
            "ON CONFLICT (scope, key) DO UPDATE SET closed = switchgear_saga_barrier.closed "
            "RETURNING closed"
        )
        closed = (await transaction.run(sql, scope))[0][0]
        sql = f"SELECT 1 FROM switchgear_saga_barrier {_WHERE}"  # noqa: S608  constant
        if await transaction.run(sql, scope, whole):
            return Passage.REPEATED
        if side is Side.DO and closed:
            raise BarrierClosed(f"{scope} arrived after its undo; it is not carried out any more.")
        sql = "INSERT INTO switchgear_saga_barrier (scope, key, side, closed) VALUES (?, ?, ?, 0)"
        await transaction.run(sql, scope, whole, side)
        if side is Side.DO:
            return Passage.FRESH
        sql = f"UPDATE switchgear_saga_barrier SET closed = 1 {_WHERE}"  # noqa: S608  constant
        await transaction.run(sql, scope, "")
        sql = "SELECT 1 FROM switchgear_saga_barrier WHERE scope = ? AND side = ? LIMIT 1"
        done = await transaction.run(sql, scope, Side.DO)
        return Passage.FRESH if done else Passage.ABSENT

    def do(self, handler: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
        """Let `handler` carry out a step once for each key; a repetition gets the same reply.

        One of the handler's arguments is its open transaction. Its reply is kept beside the key,
        by its declared type. Errors as in `enter`.
        """
        return self._guarded(handler, Side.DO, None)

    def undo(
        self, *, absent: R
    ) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Awaitable[R]]]:
        """Let a handler carry out an undo once for each key, and not at all without its step.

        `absent` is the reply where there is nothing to undo. Errors as in `enter`.
        """
        return lambda handler: self._guarded(handler, Side.UNDO, absent)

    def _guarded(
        self, handler: Callable[P, Awaitable[R]], side: Side, absent: Any
    ) -> Callable[P, Awaitable[R]]:
        codec: Codec[R] = Codec(hints_of(handler)["return"])

        @functools.wraps(handler)
        async def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            tx = _transaction(handler, (*args, *kwargs.values()))
            scope, found, whole = parsed(current().key)
            if found is not side:
                raise SagaError(
                    f"it is guarded as a {side}, and was called from a {found} of a saga.",
                    where=handler.__qualname__,
                    fix=f"Guard it with @barrier.{found}.",
                )
            passage = await self.enter(tx)
            if passage is Passage.REPEATED:
                sql = f"SELECT reply FROM switchgear_saga_barrier {_WHERE}"  # noqa: S608
                return codec.decode((await tx.run(sql, scope, whole))[0][0])
            reply: R = absent if passage is Passage.ABSENT else await handler(*args, **kwargs)
            data, _ = codec.record(reply)
            sql = f"UPDATE switchgear_saga_barrier SET reply = ? {_WHERE}"  # noqa: S608
            await tx.run(sql, data, scope, whole)
            return reply

        return guarded


def parsed(key: str | None) -> tuple[str, Side, str]:
    """Return the scope of a key (saga and step), the side, and the key itself."""
    match = _KEY.fullmatch(key or "")
    if key is None or match is None:
        raise Rejected(
            f"the request's key is {key!r}, which is not a saga's. Call it from a saga's step, or "
            "send a key like saga/<id>/<step>/do and saga/<id>/<step>/undo."
        )
    return match[1], Side(match[2]), key


def _transaction(handler: Callable[..., object], values: tuple[object, ...]) -> Transaction:
    for value in values:
        try:
            return joined(value)
        except DatabaseError:
            continue
    raise SagaError(
        "none of its arguments is an open transaction.",
        where=handler.__qualname__,
        fix="Pass the handler's transaction: async def reserve(self, tx: Transaction, ...).",
    )
