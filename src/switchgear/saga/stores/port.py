"""The port to a saga store: units of SQL, and two ways to run them.

A *unit* is a generator that yields statements and is sent their rows. It is one transaction, and
does not know how it is run: in one go inside SQLite's writer thread, or statement by statement
over a connection that awaits. So there is one set of statements for every database.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

from switchgear.database.port import Dialect, Row, Value
from switchgear.saga.state import Entry

__all__ = [
    "Claimed",
    "Line",
    "NewItem",
    "NewSaga",
    "SagaRow",
    "Settled",
    "Started",
    "Statement",
    "Store",
    "Turn",
    "Unit",
    "Wish",
    "Write",
    "among",
    "drive",
    "drive_sync",
    "in_list",
]

T = TypeVar("T")
Statement: TypeAlias = tuple[str, tuple[Value, ...]]
Unit: TypeAlias = Generator[Statement, list[Row], T]


@dataclass(frozen=True, slots=True)
class Wish:
    """A lock that a saga is to hold from its start to its end: `order/o-1`."""

    name: str
    refuse: bool
    """Whether the saga is refused, and does not wait, while another holds it."""


@dataclass(frozen=True, slots=True)
class NewSaga:
    """A saga to be started. Times are epoch seconds."""

    id: str
    definition: str
    input: bytes
    context: bytes
    began: float
    deadline: float | None
    wishes: tuple[Wish, ...] = ()


@dataclass(frozen=True, slots=True)
class Started:
    """What became of a saga that was to be started."""

    existing: SagaRow | None = None
    """The saga that had its id already; then nothing was written."""
    waits: bool = False
    """It waits for a lock."""
    refused: tuple[str, str] | None = None
    """The lock for which it was refused, and the saga that holds it; nothing was written."""


@dataclass(frozen=True, slots=True)
class SagaRow:
    """A saga as it is stored. `fence` is the number of times that it was claimed."""

    id: str
    definition: str
    input: bytes
    context: bytes
    status: str
    began: float
    deadline: float | None
    ended: float | None
    fence: int
    owner: str | None = None
    """The worker that holds it."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the journal: the entry, and what goes with it."""

    entry: Entry
    began: float | None
    """When the attempt began."""
    data: bytes | None
    """A result if the entry is ok; else what failed, or who did what and why."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A saga that this worker now holds. `seq` is the number of journal lines."""

    row: SagaRow
    lines: list[Line]
    seq: int


@dataclass(frozen=True, slots=True)
class Turn:
    """A change of the saga's row that goes with a line: its status, and the lease if it ends."""

    status: str
    release: bool = False
    wake: float | None = None
    """Seconds from now until a released saga may be claimed; None: not until someone acts."""
    ended: float | None = None
    frees: bool = False
    """Whether its locks are handed on, if it ends."""


@dataclass(frozen=True, slots=True)
class NewItem:
    """A work item that opens. `name` is the function that a person is asked about."""

    name: str
    runbook: str
    text: str


@dataclass(frozen=True, slots=True)
class Settled:
    """Work items that nobody need deal with any more: those of `steps`, and what settled them."""

    steps: tuple[str, ...]
    action: str
    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class Write:
    """One line for the journal of a saga that this worker holds."""

    id: str
    fence: int
    seq: int
    line: Line
    turn: Turn | None = None
    item: NewItem | None = None
    settled: Settled | None = None


class Store(Protocol):
    """Runs units on a service's own database."""

    @property
    def dialect(self) -> Dialect:
        """Which SQL the database speaks."""
        ...

    async def write(self, unit: Unit[T]) -> T:
        """Run `unit` as one transaction; return once it is durable."""
        ...

    async def apart(self, unit: Unit[T]) -> T:
        """Run `unit`, whose statements need not stand or fall together; all of them are durable.

        Each may be a transaction of its own, which saves the ways to a server that begin and end
        one.
        """
        ...

    async def read(self, unit: Unit[T]) -> T:
        """Run `unit`, which only reads."""
        ...

    async def record(self, write: Write) -> bool:
        """Write one line; concurrent ones share a commit. False: the lease has been lost."""
        ...


def drive_sync(run: Callable[[str, tuple[Value, ...]], list[Row]], unit: Unit[T]) -> T:
    """Run `unit` with `run`, which executes one portable statement."""
    try:
        sql, args = next(unit)
        while True:
            sql, args = unit.send(run(sql, args))
    except StopIteration as stop:
        result: T = stop.value
        return result


async def drive(run: Callable[..., Awaitable[list[Row]]], unit: Unit[T]) -> T:
    """Run `unit` with `run`, which executes one portable statement: that of a transaction, say."""
    try:
        sql, args = next(unit)
        while True:
            sql, args = unit.send(await run(sql, *args))
    except StopIteration as stop:
        result: T = stop.value
        return result


def among(dialect: Dialect, values: Sequence[str]) -> tuple[str, tuple[Value, ...]]:
    """Return the condition that a text is one of `values`, and its arguments.

    On PostgreSQL it is one statement for any number of them, which stays prepared.
    """
    if dialect == "postgres":
        return "= ANY(CAST(? AS TEXT[]))", ([*values],)
    return f"IN {in_list(values)}", tuple(values)


def in_list(values: Sequence[Value]) -> str:
    """Return `(?, ?, ?)` with a placeholder for each of `values`."""
    return f"({', '.join('?' * len(values))})"
