"""Many lines in one statement, for databases to which a statement is a way there and back.

The rows of a group that shares a commit go along as arrays, so that there is one statement for any
number of them, which the database knows already: the lines, and what they change of their sagas'
rows. Everything is as in `units.py`: a line is written only under the fence that its saga has, and
only where its number is not taken; a saga's row is changed only where its line was written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from switchgear.database.port import Value
from switchgear.saga.stores.port import NewSaga, Statement, Write

__all__ = ["insert_lines", "insert_sagas", "is_whole"]

_LINE: Final = (
    ("id", "TEXT"),
    ("seq", "BIGINT"),
    ("fence", "BIGINT"),
    ("at", "DOUBLE PRECISION"),
    ("began", "DOUBLE PRECISION"),
    ("step", "TEXT"),
    ("side", "TEXT"),
    ("attempt", "BIGINT"),
    ("what", "TEXT"),
    ("follows", "TEXT"),
    ("due", "DOUBLE PRECISION"),
    ("doubt", "BIGINT"),
    ("data", "BYTEA"),
)
_TURN: Final = (
    ("status", "TEXT"),
    ("ended", "DOUBLE PRECISION"),
    ("release", "BOOLEAN"),
    ("wake", "DOUBLE PRECISION"),
)
_SAGA: Final = (
    ("id", "TEXT"),
    ("definition", "TEXT"),
    ("input", "BYTEA"),
    ("context", "BYTEA"),
    ("began", "DOUBLE PRECISION"),
    ("deadline", "DOUBLE PRECISION"),
)


_STAYS: Final = (None, None, False, None)


def _table(columns: Sequence[tuple[str, str]]) -> str:
    """Return a table `n` whose columns are placeholders for arrays."""
    arrays = ", ".join(f"CAST(? AS {kind}[])" for _, kind in columns)
    return f"unnest({arrays}) AS n ({_names(columns)})"


def _names(columns: Sequence[tuple[str, str]], prefix: str = "") -> str:
    return ", ".join(prefix + name for name, _ in columns)


_LINES: Final = (
    f"WITH n AS (SELECT * FROM {_table(_LINE + _TURN)}), line AS ("  # noqa: S608  constants
    f"INSERT INTO switchgear_saga_journal ({_names(_LINE)}) SELECT {_names(_LINE, 'n.')} "
    "FROM n JOIN switchgear_sagas AS s ON s.id = n.id AND s.fence = n.fence "
    "ON CONFLICT (id, seq) DO NOTHING RETURNING id), turned AS ("
    "UPDATE switchgear_sagas AS s SET status = n.status, "
    "ended = CASE WHEN n.release THEN n.ended ELSE s.ended END, "
    "owner = CASE WHEN n.release THEN NULL ELSE s.owner END, "
    "wake = CASE WHEN n.release THEN {now} + n.wake ELSE s.wake END "
    "FROM n JOIN line ON line.id = n.id "
    "WHERE n.status IS NOT NULL AND s.id = n.id AND s.fence = n.fence) SELECT id FROM line"
)
_SAGAS: Final = (
    f"INSERT INTO switchgear_sagas ({_names(_SAGA)}, status, fence, owner, wake) "  # noqa: S608
    f"SELECT {_names(_SAGA, 'n.')}, 'running', CAST(? AS BIGINT), CAST(? AS TEXT), "
    f"{{now}} + CAST(? AS DOUBLE PRECISION) FROM {_table(_SAGA)} "
    "ON CONFLICT (id) DO NOTHING RETURNING id"
)


def insert_sagas(sagas: Sequence[NewSaga], owner: str | None, lease: float, now: str) -> Statement:
    """Insert different sagas that want no lock; its rows are the ids of those that were new."""
    rows = [
        (saga.id, saga.definition, saga.input, saga.context, saga.began, saga.deadline)
        for saga in sagas
    ]
    held = (1 if owner else 0, owner, lease if owner else 0.0)
    return _SAGAS.format(now=now), (*held, *_columns(rows))


def insert_lines(writes: Sequence[Write], now: str) -> Statement:
    """Insert the lines of different sagas, and change those sagas' rows as their turns say.

    Its rows are the ids of those whose line was written. `now` is SQL.
    """
    rows: list[tuple[Value | bool, ...]] = []
    for write in writes:
        entry, line, turn = write.line.entry, write.line, write.turn
        row = (write.id, write.seq, write.fence, entry.at, line.began, entry.step)
        told = (entry.side or "", entry.attempt, entry.what, entry.next, entry.due)
        turned = (turn.status, turn.ended, turn.release, turn.wake) if turn else _STAYS
        rows.append((*row, *told, int(entry.doubt), line.data, *turned))
    return _LINES.format(now=now), _columns(rows)


def is_whole(writes: Sequence[Write]) -> bool:
    """Tell whether `insert_lines` writes all that goes with `writes`: no work item, no lock."""
    return all(
        write.item is None
        and write.settled is None
        and not (write.turn is not None and write.turn.frees)
        for write in writes
    )


def _columns(rows: Sequence[Sequence[object]]) -> tuple[Value, ...]:
    return tuple(list(column) for column in zip(*rows, strict=True))
