"""The library's own tables: which version a database has, and the steps to the newest.

One table, `switchgear_schema`, holds a version per component (outbox, inbox, sagas and so on).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from switchgear.database.port import Dialect, Transaction
from switchgear.errors import DatabaseError

__all__ = ["SchemaError", "migrate", "pending"]

TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS switchgear_schema "
    "(component TEXT PRIMARY KEY, version BIGINT NOT NULL)"
)
VERSION: Final = "SELECT version FROM switchgear_schema WHERE component = ?"
RECORD: Final = (
    "INSERT INTO switchgear_schema VALUES (?, ?) "
    "ON CONFLICT (component) DO UPDATE SET version = excluded.version"
)
_LOCK: Final = "SELECT pg_advisory_xact_lock(1398228803)"
"""CREATE TABLE IF NOT EXISTS is not safe between two PostgreSQL sessions ("SWGC" in ASCII)."""

_TYPES: Final[Mapping[Dialect, Mapping[str, str]]] = {
    "sqlite": {
        "blob": "BLOB",
        "serial": "INTEGER PRIMARY KEY AUTOINCREMENT",
        "real": "REAL",
    },
    "postgres": {
        "blob": "BYTEA",
        "serial": "BIGSERIAL PRIMARY KEY",
        "real": "DOUBLE PRECISION",
    },
}


class SchemaError(DatabaseError):
    """The library's tables in this database are of a later version than this release knows."""

    code = "SG502"


def pending(component: str, steps: Sequence[str], version: int, dialect: Dialect) -> list[str]:
    """Return the statements that lead from `version` to the newest, in the dialect's types.

    Raises `SchemaError` if `version` is later than the newest that this release knows.
    """
    if version > len(steps):
        raise SchemaError(
            f"the tables of {component} are at version {version}, and this release knows up to "
            f"{len(steps)}. Nothing was changed.",
            fix="Upgrade switchgear in this service, or point it at its own database.",
        )
    scripts = (step.format_map(_TYPES[dialect]) for step in steps[version:])
    return [part.strip() for script in scripts for part in script.split(";") if part.strip()]


async def migrate(tx: Transaction, component: str, steps: Sequence[str]) -> None:
    """Bring the tables of `component` up to date inside `tx`."""
    if tx.dialect == "postgres":
        await tx.run(_LOCK)
    await tx.run(TABLE)
    rows = await tx.run(VERSION, component)
    for statement in pending(component, steps, rows[0][0] if rows else 0, tx.dialect):
        await tx.run(statement)
    await tx.run(RECORD, component, len(steps))
