"""The port to a service's own database: what the outbox, the inbox, idempotency and sagas need.

A `Transaction` is one open transaction; a `Database` opens them. The library's own statements are
portable SQL with `?` placeholders (`run`); a team's statements go through `execute` untouched, in
the dialect and with the placeholders of its database.

Certainty matters more than success here. `DatabaseUnavailable` means that nothing was committed;
a connection lost during COMMIT is `Unknown`. `commits()` lets a door tell whether a piece of work
had already committed something before it failed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from types import TracebackType
from typing import Any, Literal, Protocol, TypeAlias

from switchgear.errors import DatabaseError
from switchgear.model.outcome import Reason, Unavailable

__all__ = [
    "Callbacks",
    "Commits",
    "Database",
    "DatabaseUnavailable",
    "Dialect",
    "Reader",
    "Row",
    "Transaction",
    "TransactionAborted",
    "Value",
    "commits",
    "committed",
    "placeholders",
]

Dialect: TypeAlias = Literal["sqlite", "postgres"]
# a list is an array, which PostgreSQL alone has
Value: TypeAlias = str | int | float | bytes | list[Any] | None
# A column's type is known to the statement's author alone, and drivers hand out their own types.
Row: TypeAlias = tuple[Any, ...]


class DatabaseUnavailable(Unavailable):
    """The database was locked, full or gone, and nothing was committed."""

    code = "SG501"

    def __init__(
        self, what: str, *, retry_after: float | None = 1.0, cause: BaseException | None = None
    ) -> None:
        super().__init__(what, reason=Reason.NOT_EXECUTED, retry_after=retry_after, cause=cause)


class TransactionAborted(DatabaseError):
    """PostgreSQL undid a transaction in which a statement had failed, instead of committing it.

    After a statement that fails, a transaction of PostgreSQL can only be rolled back, also where
    the error was caught; and to COMMIT it then answers ROLLBACK, which is no error to most drivers.
    """

    code = "SG504"

    def __init__(self) -> None:
        super().__init__(
            "nothing was committed: a statement of the transaction had failed, and its error was "
            "caught.",
            fix="Let the error pass, or put the statement into a savepoint "
            "(`async with connection.transaction()`, `session.begin_nested()`).",
        )


class Transaction(Protocol):
    """One open transaction of a service's own database."""

    @property
    def dialect(self) -> Dialect:
        """Which SQL the database speaks."""
        ...

    @property
    def connection(self) -> Any:
        """The driver's own object: an asyncpg connection, an AsyncSession, a sqlite3 connection."""
        ...

    async def execute(self, sql: str, *args: Any) -> list[Row]:
        """Run one statement as the team wrote it and return its rows (none for a plain write)."""
        ...

    async def run(self, sql: str, *args: Value) -> list[Row]:
        """Run one portable statement, with `?` for its arguments, and return its rows."""
        ...

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call `callback` once the transaction has been committed, and never if it is not."""
        ...


class Reader(Protocol):
    """Something that statements can be read from."""

    @property
    def dialect(self) -> Dialect:
        """Which SQL the database speaks."""
        ...

    async def run(self, sql: str, *args: Value) -> list[Row]:
        """Run one portable statement that only reads, and return its rows."""
        ...


class Database(Protocol):
    """A service's own database."""

    @property
    def dialect(self) -> Dialect:
        """Which SQL the database speaks."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Open a transaction; it commits when the block ends and rolls back when it raises.

        Raises `DatabaseUnavailable` if nothing was committed, `Unknown` if the connection was lost
        while committing.
        """
        ...

    async def alone(self, sql: str, *args: Value) -> list[Row]:
        """Run one portable statement as a transaction of its own, and return its rows.

        It is for the library's own statements: they leave nothing behind in the session, so that
        a database may run it in one way there and back. Raises what `transaction` raises.
        """
        ...

    def reading(self) -> AbstractAsyncContextManager[Reader]:
        """Give something to read committed data from, which never waits for whoever is writing.

        Each statement sees what is committed when it begins. Raises `DatabaseUnavailable`.
        """
        ...

    async def migrate(self, component: str, steps: Sequence[str]) -> None:
        """Bring the library's tables of `component` to the version that `steps` lead to.

        Each step is a script of portable statements separated by `;`, in which `{blob}`,
        `{serial}` and `{real}` stand for the dialect's types. Several processes may call it at
        once. Raises `SchemaError` if the database is already at a later version.
        """
        ...

    async def close(self) -> None:
        """Release connections and threads; open transactions end first."""
        ...


class Callbacks:
    """What to call once a transaction has been committed."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[[], None]] = []

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call `callback` once this transaction has been committed, and never if it is not."""
        self._callbacks.append(callback)

    def committed(self) -> None:
        """Run the callbacks; whoever commits calls it."""
        for callback in self._callbacks:
            callback()


@dataclass(slots=True)
class Commits:
    """How many transactions a piece of work has committed so far."""

    count: int = 0


_commits: ContextVar[Commits | None] = ContextVar("switchgear_commits", default=None)


class commits:  # noqa: N801  used as a function; a class, because it is entered for every request
    """Count the transactions that are committed in the body of the `with`, in any of its tasks."""

    __slots__ = ("_token",)

    def __enter__(self) -> Commits:
        seen = Commits()
        self._token = _commits.set(seen)
        return seen

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _commits.reset(self._token)


def committed() -> None:
    """Note that a transaction of the work in progress was committed; adapters call it."""
    seen = _commits.get()
    if seen is not None:
        seen.count += 1


@lru_cache(maxsize=512)
def placeholders(sql: str, style: Literal["$", ":p", "%s"]) -> str:
    """Replace each `?` by a placeholder: `$1` and so on, `:p1` and so on, or `%s`.

    For the library's own statements only: a `?` inside a literal would be replaced as well.
    """
    if style == "%s":
        return sql.replace("%", "%%").replace("?", "%s")
    numbers = count(1)
    return "".join(f"{style}{next(numbers)}" if char == "?" else char for char in sql)
