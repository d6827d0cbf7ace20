"""The statements of the saga store, as units; see `port.py`.

- A saga is *claimed* by lease: `owner` holds it until `wake`, by the database's clock, and every
  claim raises `fence`. Every write names the fence it was claimed under and writes nothing under
  an older one; since the claim of a saga whose owner vanished writes a line itself, an old owner
  also finds its line number taken.
- `wake` is when a saga may be claimed: the end of its lease, or the time of its next attempt. It
  is NULL when no worker has anything to do, so that finished sagas are in no index that is read.
- The row is written when a saga starts, changes its status, is released or ends. In between, a
  step costs one line of the journal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from switchgear.database.port import Dialect, Row, Value
from switchgear.saga.plan import Side
from switchgear.saga.state import Entry, Next, What
from switchgear.saga.stores import batch, locks
from switchgear.saga.stores.locks import LOCKS
from switchgear.saga.stores.port import (
    Claimed,
    Line,
    NewSaga,
    SagaRow,
    Started,
    Unit,
    Write,
    among,
    in_list,
)

__all__ = ["COMPONENT", "STEPS", "Units"]

COMPONENT: Final = "sagas"
STEPS: Final = (
    """
    CREATE TABLE switchgear_sagas (
        id TEXT PRIMARY KEY,
        definition TEXT NOT NULL,
        input {blob} NOT NULL,
        context {blob} NOT NULL,
        status TEXT NOT NULL,
        began {real} NOT NULL,
        deadline {real},
        ended {real},
        owner TEXT,
        fence BIGINT NOT NULL,
        wake {real}
    );
    CREATE INDEX switchgear_sagas_wake ON switchgear_sagas (definition, wake)
        WHERE wake IS NOT NULL;
    CREATE INDEX switchgear_sagas_owner ON switchgear_sagas (owner) WHERE owner IS NOT NULL;
    CREATE TABLE switchgear_saga_journal (
        id TEXT NOT NULL,
        seq BIGINT NOT NULL,
        fence BIGINT NOT NULL,
        at {real} NOT NULL,
        began {real},
        step TEXT NOT NULL,
        side TEXT NOT NULL,
        attempt BIGINT NOT NULL,
        what TEXT NOT NULL,
        follows TEXT NOT NULL,
        due {real},
        doubt BIGINT NOT NULL,
        data {blob},
        PRIMARY KEY (id, seq)
    );
    CREATE TABLE switchgear_saga_items (
        id TEXT PRIMARY KEY,
        saga TEXT NOT NULL,
        step TEXT NOT NULL,
        side TEXT NOT NULL,
        runbook TEXT NOT NULL,
        instructions TEXT NOT NULL,
        opened {real} NOT NULL,
        closed {real},
        action TEXT,
        actor TEXT,
        reason TEXT
    );
    CREATE INDEX switchgear_saga_items_open ON switchgear_saga_items (opened)
        WHERE closed IS NULL;
    CREATE INDEX switchgear_saga_items_saga ON switchgear_saga_items (saga);
    CREATE TABLE switchgear_saga_plans (
        definition TEXT PRIMARY KEY,
        plan {blob} NOT NULL
    );
    """,
    LOCKS,
    "ALTER TABLE switchgear_saga_items ADD COLUMN told {real}",
)

_NOW: Final = {
    "sqlite": "((julianday('now') - 2440587.5) * 86400.0)",
    # not clock_timestamp(), which is volatile and keeps PostgreSQL from using an index
    "postgres": "CAST(EXTRACT(EPOCH FROM statement_timestamp()) AS DOUBLE PRECISION)",
}
_REAL: Final = {"sqlite": "REAL", "postgres": "DOUBLE PRECISION"}
_BLOB: Final = {"sqlite": "BLOB", "postgres": "BYTEA"}
# workers that claim at once must not wait for one another; SQLite has one writer anyway
_LOCK: Final = {"sqlite": "", "postgres": " FOR UPDATE SKIP LOCKED"}
_HOLD: Final = {"sqlite": "", "postgres": " FOR UPDATE"}
_VERSION: Final = "SELECT version FROM switchgear_schema WHERE component = ?"
_SCHEMA: Final = {
    "sqlite": "SELECT 1 FROM sqlite_master WHERE name = 'switchgear_schema'",
    "postgres": "SELECT 1 WHERE to_regclass('switchgear_schema') IS NOT NULL",
}

_SAGA: Final = "id, definition, input, context, status, began, deadline, ended, fence, owner"
_LINE: Final = "at, began, step, side, attempt, what, follows, due, doubt, data"


class Units:
    """The units of one dialect."""

    def __init__(self, dialect: Dialect) -> None:
        now, real, blob = _NOW[dialect], _REAL[dialect], _BLOB[dialect]
        self._dialect: Dialect = dialect
        self._now = now
        self._lock = _LOCK[dialect]
        self._hold = _HOLD[dialect]
        self._schema = _SCHEMA[dialect]
        self._start = (
            f"INSERT INTO switchgear_sagas ({_SAGA}, wake) "  # noqa: S608  constants
            f"VALUES (?, ?, ?, ?, ?, ?, ?, NULL, ?, ?, {now} + CAST(? AS {real})) "
            "ON CONFLICT (id) DO NOTHING RETURNING id"
        )
        self._line = (
            f"INSERT INTO switchgear_saga_journal (id, seq, fence, {_LINE}) "  # noqa: S608
            f"SELECT id, CAST(? AS BIGINT), fence, CAST(? AS {real}), CAST(? AS {real}), "
            "CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS BIGINT), CAST(? AS TEXT), "
            f"CAST(? AS TEXT), CAST(? AS {real}), CAST(? AS BIGINT), CAST(? AS {blob}) "
            "FROM switchgear_sagas WHERE id = ? AND fence = ? "
            "ON CONFLICT (id, seq) DO NOTHING RETURNING seq"
        )
        self._release = (
            "UPDATE switchgear_sagas SET status = ?, ended = ?, owner = NULL, "  # noqa: S608
            f"wake = {now} + CAST(? AS {real}) WHERE id = ? AND fence = ?"
        )

    def start(self, saga: NewSaga, owner: str | None, lease: float) -> Unit[Started]:
        """Insert `saga`, held by `owner` if given, unless it has to wait for a lock."""
        values = (saga.id, saga.definition, saga.input, saga.context)
        held: tuple[Value, ...] = (1, owner, lease) if owner else (0, None, 0.0)
        # before any lock: whoever starts it at the same time waits here, and then asks for none
        inserted = yield self._start, (*values, "running", saga.began, saga.deadline, *held)
        if not inserted:
            return Started((yield from self.find(saga.id)))
        asked = yield from locks.ask(saga.id, saga.wishes)
        if isinstance(asked, tuple):
            yield "DELETE FROM switchgear_sagas WHERE id = ?", (saga.id,)
            return Started(refused=asked)
        if asked:
            sql = (
                "UPDATE switchgear_sagas SET status = 'waiting', fence = 0, owner = NULL, "
                "wake = NULL WHERE id = ?"
            )
            yield sql, (saga.id,)
        return Started(waits=bool(asked))

    def start_all(
        self, sagas: Sequence[NewSaga], owner: str | None, lease: float
    ) -> Unit[list[Started]]:
        """Do what `start` does, for several."""
        free: dict[str, NewSaga] = {}
        for saga in sagas:
            if not saga.wishes:
                free.setdefault(saga.id, saga)
        inserted: set[str] = set()
        if self._dialect == "postgres" and free:
            # in one order everywhere: two processes that insert the same ids must not form a ring
            new = sorted(free.values(), key=lambda saga: saga.id)
            statement = batch.insert_sagas(new, owner, lease, self._now)
            rows = yield statement
            inserted.update(row[0] for row in rows)
        results = []
        for saga in sagas:
            if saga.id in inserted and free[saga.id] is saga:
                results.append(Started())
            else:
                started = yield from self.start(saga, owner, lease)
                results.append(started)
        return results

    def mend_locks(self) -> Unit[None]:
        """Put right what an earlier release left of locks; see `locks.mend`."""
        return locks.mend(self._dialect, self._now)

    def find(self, saga_id: str) -> Unit[SagaRow | None]:
        """Return the row of a saga."""
        sql = f"SELECT {_SAGA} FROM switchgear_sagas WHERE id = ?"  # noqa: S608  constants
        rows = yield sql, (saga_id,)
        return _saga(rows[0]) if rows else None

    def hold(self, saga_id: str) -> Unit[SagaRow | None]:
        """Return the row of a saga and keep it from being claimed until the unit ends."""
        sql = f"SELECT {_SAGA} FROM switchgear_sagas WHERE id = ?{self._hold}"  # noqa: S608
        rows = yield sql, (saga_id,)
        return _saga(rows[0]) if rows else None

    def version(self) -> Unit[int]:
        """Return the version of the tables in this database; 0: there are none."""
        known = yield self._schema, ()
        rows = (yield _VERSION, (COMPONENT,)) if known else []
        return rows[0][0] if rows else 0

    def lines(self, ids: Sequence[str]) -> Unit[dict[str, list[Line]]]:
        """Return the journals of the sagas `ids`."""
        these, args = among(self._dialect, ids)
        sql = (
            f"SELECT id, {_LINE} FROM switchgear_saga_journal "  # noqa: S608  constants
            f"WHERE id {these} ORDER BY id, seq"
        )
        rows = yield sql, args
        return _journals(ids, rows)

    def replayable(self, ids: Sequence[str]) -> Unit[dict[str, list[Line]]]:
        """Return the journals of `ids`, without what was said of attempts that others followed.

        Where a saga stands depends on the newest of those alone, and a step that is repeated for
        days, with a trace each time, has said more than fits into memory for many sagas.
        """
        these, args = among(self._dialect, ids)
        columns = ", ".join(f"j.{name}" for name in _LINE.removesuffix(", data").split(", "))
        sql = (
            f"SELECT j.id, {columns}, "  # noqa: S608  constants
            "CASE WHEN j.follows <> 'again' OR newest.seq IS NOT NULL THEN j.data END "
            "FROM switchgear_saga_journal AS j LEFT JOIN ("
            "SELECT id, MAX(seq) AS seq FROM switchgear_saga_journal "
            f"WHERE id {these} AND follows = 'again' AND data IS NOT NULL GROUP BY id, step, side"
            ") AS newest ON newest.id = j.id AND newest.seq = j.seq "
            f"WHERE j.id {these} ORDER BY j.id, j.seq"
        )
        rows = yield sql, (*args, *args)
        return _journals(ids, rows)

    def operate(self, write: Write) -> Unit[None]:
        """Write a person's line and release the saga; its row must be held, without an owner."""
        sql = "UPDATE switchgear_sagas SET fence = ? WHERE id = ?"
        yield sql, (write.fence, write.id)
        yield from self.record([write])

    def record(self, writes: Sequence[Write]) -> Unit[list[bool]]:
        """Write the lines in order; False for each whose saga is held by another by now."""
        if self._dialect == "postgres" and len(writes) == len({write.id for write in writes}):
            results = yield from self._record_all(writes)
        else:
            results = []
            for write in writes:
                written = yield from self._record(write)
                results.append(written)
        ended = [
            write.id
            for write, written in zip(writes, results, strict=True)
            if written and write.turn and write.turn.frees and write.turn.ended is not None
        ]
        if ended:
            yield from locks.free(self._dialect, self._now, ended)
        return results

    def _record_all(self, writes: Sequence[Write]) -> Unit[list[bool]]:
        """Write the lines of different sagas in one statement, and what else goes with them."""
        rows = yield batch.insert_lines(writes, self._now)
        written = {row[0] for row in rows}
        for write in writes:
            if write.id in written:
                yield from self._items(write)
        results = []
        for write in writes:
            done = write.id in written or (yield from self._is_mine(write))
            results.append(done)
        return results

    def _record(self, write: Write) -> Unit[bool]:
        entry, key = write.line.entry, (write.id, write.fence)
        inserted = yield (
            self._line,
            (
                write.seq,
                entry.at,
                write.line.began,
                entry.step,
                entry.side or "",
                entry.attempt,
                entry.what,
                entry.next,
                entry.due,
                int(entry.doubt),
                write.line.data,
                *key,
            ),
        )
        if not inserted:
            return (yield from self._is_mine(write))
        turn = write.turn
        if turn is not None and turn.release:
            yield self._release, (turn.status, turn.ended, turn.wake, *key)
        elif turn is not None:
            sql = "UPDATE switchgear_sagas SET status = ? WHERE id = ? AND fence = ?"
            yield sql, (turn.status, *key)
        yield from self._items(write)
        return True

    def _is_mine(self, write: Write) -> Unit[bool]:
        """Tell whether the line stands already: its commit was reported lost, and was not."""
        sql = "SELECT fence FROM switchgear_saga_journal WHERE id = ? AND seq = ?"
        rows = yield sql, (write.id, write.seq)
        return bool(rows) and rows[0][0] == write.fence

    def _items(self, write: Write) -> Unit[None]:
        """Open and close the work items that a line opens and closes."""
        settled = write.settled
        if settled is not None:
            sql = (
                "UPDATE switchgear_saga_items SET closed = ?, action = ?, actor = ?, reason = ? "  # noqa: S608
                f"WHERE saga = ? AND closed IS NULL AND step IN {in_list(settled.steps)}"
            )
            told = (settled.action, settled.actor, settled.reason)
            yield sql, (write.line.entry.at, *told, write.id, *settled.steps)
        item, entry = write.item, write.line.entry
        if item is None:
            return
        sql = (
            "INSERT INTO switchgear_saga_items "
            "(id, saga, step, side, runbook, instructions, opened) VALUES (?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET opened = excluded.opened, closed = NULL, "
            "action = NULL, actor = NULL, reason = NULL, told = NULL, runbook = excluded.runbook, "
            "instructions = excluded.instructions"
        )
        key = (f"{write.id}/{item.name}", write.id, entry.step, entry.side or "")
        yield sql, (*key, item.runbook, item.text, entry.at)

    def release(self, saga_id: str, fence: int, status: str, wake: float) -> Unit[None]:
        """Let another worker claim the saga in `wake` seconds."""
        yield self._release, (status, None, wake, saga_id, fence)

    def due(self, definitions: Sequence[str]) -> Unit[float | None]:
        """Return in how many seconds the first saga may be claimed; None: there is none."""
        sql = (
            f"SELECT MIN(wake) - {self._now} FROM switchgear_sagas "  # noqa: S608  constants
            f"WHERE definition IN {in_list(definitions)} AND wake IS NOT NULL"
        )
        rows = yield sql, tuple(definitions)
        found: float | None = rows[0][0]
        return found

    def claim(
        self, definitions: Sequence[str], owner: str, lease: float, limit: int, at: float
    ) -> Unit[list[Claimed]]:
        """Take up to `limit` sagas that may be claimed, the longest waiting first."""
        sql = (
            "SELECT id, owner FROM switchgear_sagas "  # noqa: S608  constants
            f"WHERE definition IN {in_list(definitions)} AND wake <= {self._now} "
            f"ORDER BY wake LIMIT ?{self._lock}"
        )
        rows = yield sql, (*definitions, limit)
        if not rows:
            return []
        ids = [row[0] for row in rows]
        these, args = among(self._dialect, ids)
        sql = (
            "UPDATE switchgear_sagas SET owner = ?, fence = fence + 1, "  # noqa: S608  constants
            f"wake = {self._now} + ? WHERE id {these}"
        )
        yield sql, (owner, lease, *args)
        for saga_id, former in rows:
            if former is not None:
                yield from self._interrupt(saga_id, at)
        return (yield from self.load(ids))

    def _interrupt(self, saga_id: str, at: float) -> Unit[None]:
        """Note that the former owner of a saga vanished while it held it."""
        sql = "SELECT fence FROM switchgear_sagas WHERE id = ?"
        rows = yield sql, (saga_id,)
        line = Line(Entry(What.INTERRUPTED, Next.AGAIN, at), None, None)
        written = False
        while not written:  # on PostgreSQL the former owner may be committing a line right now
            sql = "SELECT COALESCE(MAX(seq), 0) + 1 FROM switchgear_saga_journal WHERE id = ?"
            last = yield sql, (saga_id,)
            written = yield from self._record(Write(saga_id, rows[0][0], last[0][0], line))

    def load(self, ids: Sequence[str]) -> Unit[list[Claimed]]:
        """Return sagas that this worker holds, with their journals, as far as it needs them."""
        these, args = among(self._dialect, ids)
        sql = f"SELECT {_SAGA} FROM switchgear_sagas WHERE id {these}"  # noqa: S608
        sagas = yield sql, args
        lines = yield from self.replayable(ids)
        return [Claimed(_saga(row), lines[row[0]], len(lines[row[0]])) for row in sagas]

    def extend(self, owner: str, lease: float) -> Unit[list[str]]:
        """Extend the leases of `owner`, and return the ids of the sagas that it holds."""
        sql = (
            f"UPDATE switchgear_sagas SET wake = {self._now} + ? "  # noqa: S608  constants
            "WHERE owner = ? RETURNING id"
        )
        rows = yield sql, (lease, owner)
        return [row[0] for row in rows]

    def give_back(self, owner: str, ids: Sequence[str]) -> Unit[None]:
        """End the leases of sagas that `owner` holds and does not drive."""
        these, args = among(self._dialect, ids)
        sql = (
            f"UPDATE switchgear_sagas SET wake = {self._now} "  # noqa: S608  constants
            f"WHERE owner = ? AND id {these}"
        )
        yield sql, (owner, *args)

    def owners(self) -> Unit[list[str]]:
        """Return the owners of leases."""
        rows = yield "SELECT DISTINCT owner FROM switchgear_sagas WHERE owner IS NOT NULL", ()
        return [row[0] for row in rows]

    def expire(self, owner: str) -> Unit[None]:
        """End the leases of an owner that is known to be dead."""
        yield f"UPDATE switchgear_sagas SET wake = {self._now} WHERE owner = ?", (owner,)  # noqa: S608

    def strangers(self, definitions: Sequence[str]) -> Unit[list[tuple[str, int]]]:
        """Return the definitions, not among `definitions`, of sagas that have not ended.

        Those that wait for a person or for a lock are found there: they are in no index of sagas.
        """
        known = f" AND definition NOT IN {in_list(definitions)}" if definitions else ""
        sql = (
            "SELECT definition, COUNT(*) FROM ("  # noqa: S608  constants
            f"SELECT definition FROM switchgear_sagas WHERE wake IS NOT NULL{known} UNION ALL "
            "SELECT definition FROM switchgear_sagas WHERE wake IS NULL AND ended IS NULL "
            "AND id IN (SELECT saga FROM switchgear_saga_items WHERE closed IS NULL UNION "
            f"SELECT saga FROM switchgear_saga_lock_waits){known}) AS unended GROUP BY definition"
        )
        rows = yield sql, (*definitions, *definitions)
        return [(row[0], row[1]) for row in rows]

    def unended(self) -> Unit[int]:
        """Return how many sagas have not ended; 0 where there are no tables."""
        if not (yield from self.version()):
            return 0
        rows = yield "SELECT COUNT(*) FROM switchgear_sagas WHERE ended IS NULL", ()
        count: int = rows[0][0]
        return count

    def waiting(self) -> Unit[tuple[int, float | None]]:
        """Return how many work items are open, and when the oldest was opened."""
        rows = yield (
            "SELECT COUNT(*), MIN(opened) FROM switchgear_saga_items WHERE closed IS NULL",
            (),
        )
        return rows[0][0], rows[0][1]

    def tell(self, item_id: str, opened: float, at: float) -> Unit[None]:
        """Note that somebody was told of a work item, unless it has opened again since."""
        sql = "UPDATE switchgear_saga_items SET told = ? WHERE id = ? AND opened = ?"
        yield sql, (at, item_id, opened)

    def walk(self, after: str, limit: int) -> Unit[list[tuple[str, str, float | None]]]:
        """Return id, definition and end of sagas after the id `after`, in the order of ids."""
        sql = "SELECT id, definition, ended FROM switchgear_sagas WHERE id > ? ORDER BY id LIMIT ?"
        rows = yield sql, (after, limit)
        return [(row[0], row[1], row[2]) for row in rows]

    def delete(self, ids: Sequence[str]) -> Unit[int]:
        """Delete those of `ids` that have ended, with all that is recorded of them."""
        these, args = among(self._dialect, ids)
        sql = (
            f"DELETE FROM switchgear_sagas WHERE id {these} "  # noqa: S608  constants
            "AND ended IS NOT NULL RETURNING id"
        )
        rows = yield sql, args
        gone = [row[0] for row in rows]
        if gone:
            for table, column in (("journal", "id"), ("items", "saga")):
                these, args = among(self._dialect, gone)
                sql = f"DELETE FROM switchgear_saga_{table} WHERE {column} {these}"  # noqa: S608
                yield sql, args
        return len(gone)

    def plan(self, definition: str) -> Unit[bytes | None]:
        """Return a stored plan."""
        sql = "SELECT plan FROM switchgear_saga_plans WHERE definition = ?"
        rows = yield sql, (definition,)
        return rows[0][0] if rows else None

    def keep_plan(self, definition: str, plan: bytes) -> Unit[None]:
        """Store a plan, so that tools can read journals without the service's code."""
        sql = (
            "INSERT INTO switchgear_saga_plans VALUES (?, ?) "
            "ON CONFLICT (definition) DO UPDATE SET plan = excluded.plan"
        )
        yield sql, (definition, plan)


def _saga(row: Row) -> SagaRow:
    return SagaRow(*row)


def _journals(ids: Sequence[str], rows: Sequence[Row]) -> dict[str, list[Line]]:
    found: dict[str, list[Line]] = {saga_id: [] for saga_id in ids}
    for saga_id, *line in rows:
        found[saga_id].append(_line(line))
    return found


def _line(row: Sequence[Any]) -> Line:
    at, began, step, side, attempt, what, follows, due, doubt, data = row
    entry = Entry(
        What(what),
        Next(follows),
        at,
        step,
        Side(side) if side else None,
        attempt,
        due,
        bool(doubt),
    )
    return Line(entry, began, data)
