"""Semantic locks: one saga at a time about one thing, from its start to its end.

- A lock has a row while a saga holds it, and sagas that wait for it have rows in the order in which
  they asked. Both are written in the transaction that starts the saga, and the lock is handed on in
  the commit that ends it: so nothing has to be cleaned up after a crash.
- A saga's own row comes first: of two that start one saga at once, the second asks for no lock.
- Asking for a lock keeps its row until the transaction ends, so that a saga that asks and one that
  ends do not miss one another. A saga asks for all its locks at once, in the order of their names,
  and sagas that end in one commit hand theirs on in that order too: nothing waits in a circle,
  neither sagas nor transactions.
- A saga that waits is in no index that a worker reads. Its turn comes when it holds all its locks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from switchgear.database.port import Dialect
from switchgear.saga.stores.port import Unit, Wish, among

__all__ = ["LOCKS", "ask", "free", "holders", "mend"]

LOCKS: Final = """
    CREATE TABLE switchgear_saga_locks (
        name TEXT PRIMARY KEY,
        saga TEXT NOT NULL
    );
    CREATE INDEX switchgear_saga_locks_saga ON switchgear_saga_locks (saga);
    CREATE TABLE switchgear_saga_lock_waits (
        turn {serial},
        name TEXT NOT NULL,
        saga TEXT NOT NULL
    );
    CREATE INDEX switchgear_saga_lock_waits_name ON switchgear_saga_lock_waits (name, turn);
    CREATE INDEX switchgear_saga_lock_waits_saga ON switchgear_saga_lock_waits (saga);
    """
_HOLD: Final = {"sqlite": "", "postgres": " FOR UPDATE"}
_ASK: Final = (
    "INSERT INTO switchgear_saga_locks (name, saga) VALUES (?, ?) "
    "ON CONFLICT (name) DO UPDATE SET saga = switchgear_saga_locks.saga RETURNING saga"
)
_RUN: Final = (
    "UPDATE switchgear_sagas SET status = 'running', wake = {now} "
    "WHERE id = ? AND status = 'waiting' AND NOT EXISTS "
    "(SELECT 1 FROM switchgear_saga_lock_waits WHERE saga = ?)"
)


def ask(saga_id: str, wishes: Sequence[Wish]) -> Unit[tuple[str, str] | list[str]]:
    """Take the locks, or queue for those that others hold.

    Returns the names that are waited for; or, where one that must not be waited for is held, that
    name and its holder, and then no lock has been taken.
    """
    waits: list[str] = []
    for wish in sorted(wishes, key=lambda each: each.name):
        rows = yield _ASK, (wish.name, saga_id)
        holder = rows[0][0]
        if holder == saga_id:
            continue
        if wish.refuse:
            yield "DELETE FROM switchgear_saga_locks WHERE saga = ?", (saga_id,)
            yield "DELETE FROM switchgear_saga_lock_waits WHERE saga = ?", (saga_id,)
            return wish.name, holder
        sql = "INSERT INTO switchgear_saga_lock_waits (name, saga) VALUES (?, ?)"
        yield sql, (wish.name, saga_id)
        waits.append(wish.name)
    return waits


def free(dialect: Dialect, now: str, ids: Sequence[str]) -> Unit[None]:
    """Hand the locks of sagas that have ended to those that wait longest. `now` is SQL."""
    these, args = among(dialect, ids)
    sql = (
        "SELECT name FROM switchgear_saga_locks "  # noqa: S608  constants
        f"WHERE saga {these} ORDER BY name{_HOLD[dialect]}"
    )
    names = yield sql, args
    for (name,) in names:
        sql = "SELECT saga FROM switchgear_saga_lock_waits WHERE name = ? ORDER BY turn LIMIT 1"
        first = yield sql, (name,)
        if not first:
            yield "DELETE FROM switchgear_saga_locks WHERE name = ?", (name,)
            continue
        heir = first[0][0]
        yield "UPDATE switchgear_saga_locks SET saga = ? WHERE name = ?", (heir, name)
        sql = "DELETE FROM switchgear_saga_lock_waits WHERE name = ? AND saga = ?"
        yield sql, (name, heir)
        yield _RUN.format(now=now), (heir, heir)


def mend(dialect: Dialect, now: str) -> Unit[None]:
    """Free what an earlier release could block when one saga was started twice at once.

    It waited for a lock that it held, or it held one, or waited for one, although it had ended.
    `now` is SQL.
    """
    sql = (
        "DELETE FROM switchgear_saga_lock_waits WHERE EXISTS (SELECT 1 FROM switchgear_saga_locks "
        "AS l WHERE l.name = switchgear_saga_lock_waits.name "
        "AND l.saga = switchgear_saga_lock_waits.saga)"
    )
    yield sql, ()
    # an ended saga may have been deleted since
    sql = (
        "DELETE FROM switchgear_saga_lock_waits WHERE NOT EXISTS (SELECT 1 FROM switchgear_sagas "
        "AS s WHERE s.id = switchgear_saga_lock_waits.saga AND s.ended IS NULL)"
    )
    yield sql, ()
    sql = (
        "SELECT DISTINCT l.saga FROM switchgear_saga_locks AS l LEFT JOIN switchgear_sagas AS s "
        "ON s.id = l.saga WHERE s.id IS NULL OR s.ended IS NOT NULL"
    )
    rows = yield sql, ()
    if rows:
        yield from free(dialect, now, [row[0] for row in rows])
    sql = (
        f"UPDATE switchgear_sagas SET status = 'running', wake = {now} "  # noqa: S608  constants
        "WHERE status = 'waiting' AND id IN (SELECT saga FROM switchgear_saga_locks) "
        "AND id NOT IN (SELECT saga FROM switchgear_saga_lock_waits)"
    )
    yield sql, ()


def holders(saga_id: str) -> Unit[list[tuple[str, str]]]:
    """Return the locks that a saga waits for, each with the saga that holds it."""
    sql = (
        "SELECT l.name, l.saga FROM switchgear_saga_lock_waits AS w "
        "JOIN switchgear_saga_locks AS l ON l.name = w.name WHERE w.saga = ? ORDER BY w.turn"
    )
    rows = yield sql, (saga_id,)
    return [(row[0], row[1]) for row in rows]
