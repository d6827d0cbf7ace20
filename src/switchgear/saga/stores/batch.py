"""Many lines in few statements, for databases to which a statement is a way there and back.

A group of lines that share a commit is written by one INSERT for up to 64 of them, and the rows of
the sagas that are released by one UPDATE. The sizes are few, so that the database knows the
statements already. Everything is as in `units.py`: a line is written only under the fence that its
saga has, and only where its number is not taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

from switchgear.database.port import Value
from switchgear.saga.stores.port import NewSaga, Unit, Write

__all__ = ["insert_lines", "insert_sagas", "release_rows"]

T = TypeVar("T")
_SIZES: Final = (64, 16, 4, 1)
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
_ROW: Final = (
    ("id", "TEXT"),
    ("fence", "BIGINT"),
    ("status", "TEXT"),
    ("ended", "DOUBLE PRECISION"),
    ("wake", "DOUBLE PRECISION"),
)


def _rows(columns: Sequence[tuple[str, str]], count: int) -> str:
    """Return a table `n` of `count` rows of placeholders."""
    row = ", ".join(f"CAST(? AS {kind})" for _, kind in columns)
    names = ", ".join(name for name, _ in columns)
    return f"(VALUES {', '.join([f'({row})'] * count)}) AS n ({names})"


_NAMES: Final = ", ".join(name for name, _ in _LINE)
_INSERT: Final = {
    size: (
        f"INSERT INTO switchgear_saga_journal ({_NAMES}) "  # noqa: S608  constants
        f"SELECT {', '.join(f'n.{name}' for name, _ in _LINE)} FROM {_rows(_LINE, size)} "
        "JOIN switchgear_sagas AS s ON s.id = n.id AND s.fence = n.fence "
        "ON CONFLICT (id, seq) DO NOTHING RETURNING id"
    )
    for size in _SIZES
}
_RELEASE: Final = {
    size: (
        "UPDATE switchgear_sagas AS s SET status = n.status, ended = n.ended, "  # noqa: S608
        f"owner = NULL, wake = {{now}} + n.wake FROM {_rows(_ROW, size)} "
        "WHERE s.id = n.id AND s.fence = n.fence"
    )
    for size in _SIZES
}


_SAGA: Final = (
    ("id", "TEXT"),
    ("definition", "TEXT"),
    ("input", "BYTEA"),
    ("context", "BYTEA"),
    ("status", "TEXT"),
    ("began", "DOUBLE PRECISION"),
    ("deadline", "DOUBLE PRECISION"),
    ("fence", "BIGINT"),
    ("owner", "TEXT"),
    ("wake", "DOUBLE PRECISION"),
)
_START: Final = {
    size: (
        f"INSERT INTO switchgear_sagas ({', '.join(name for name, _ in _SAGA)}) "  # noqa: S608
        f"SELECT {', '.join(f'n.{name}' for name, _ in _SAGA[:-1])}, {{now}} + n.wake "
        f"FROM {_rows(_SAGA, size)} ON CONFLICT (id) DO NOTHING RETURNING id"
    )
    for size in _SIZES
}


def insert_sagas(
    sagas: Sequence[NewSaga], owner: str | None, lease: float, now: str
) -> Unit[set[str]]:
    """Insert different sagas that want no lock; return the ids of those that were new."""
    inserted: set[str] = set()
    held = (1 if owner else 0, owner, lease if owner else 0.0)
    for chunk in _chunks(sagas):
        args: list[Value] = []
        for saga in chunk:
            args += (saga.id, saga.definition, saga.input, saga.context)
            args += ("running", saga.began, saga.deadline, *held)
        rows = yield _START[len(chunk)].format(now=now), tuple(args)
        inserted.update(row[0] for row in rows)
    return inserted


def insert_lines(writes: Sequence[Write]) -> Unit[set[str]]:
    """Insert the lines of different sagas; return the ids of those that were written."""
    written: set[str] = set()
    for chunk in _chunks(writes):
        args: list[Value] = []
        for write in chunk:
            entry, line = write.line.entry, write.line
            args += (write.id, write.seq, write.fence, entry.at, line.began, entry.step)
            args += (entry.side or "", entry.attempt, entry.what, entry.next, entry.due)
            args += (int(entry.doubt), line.data)
        rows = yield _INSERT[len(chunk)], tuple(args)
        written.update(row[0] for row in rows)
    return written


def release_rows(writes: Sequence[Write], now: str) -> Unit[None]:
    """Release the sagas of `writes`, which all have a turn that says so. `now` is SQL."""
    for chunk in _chunks(writes):
        args: list[Value] = []
        for write in chunk:
            turn = write.turn
            if turn is not None:
                args += (write.id, write.fence, turn.status, turn.ended, turn.wake)
        yield _RELEASE[len(chunk)].format(now=now), tuple(args)


def _chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    begin = 0
    for size in _SIZES:
        while len(items) - begin >= size:
            yield items[begin : begin + size]
            begin += size
