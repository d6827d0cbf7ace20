"""The tables of events as a team's own migration tool wants them: SQL, or a step for Alembic.

The library makes its tables by itself where it may. Where it may not, because only migrations may
change the schema, the same statements come from here:

    switchgear events sql --dialect postgres > migrations/switchgear.sql

    # in a revision of Alembic
    from switchgear.events import migrations

    def upgrade() -> None:
        migrations.upgrade(op)

Both record the versions that the library looks for when it starts, so it then changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from switchgear.database import schema
from switchgear.database.joined import joined_sync
from switchgear.database.port import Dialect
from switchgear.errors import DatabaseError
from switchgear.events.brokers.postgres_log import STEPS as LOG
from switchgear.events.inbox import STEPS as INBOX
from switchgear.events.outbox import STEPS as OUTBOX
from switchgear.events.parked import STEPS as PARKED

__all__ = ["COMPONENTS", "script", "upgrade"]

COMPONENTS: Final[Mapping[str, Sequence[str]]] = {
    "outbox": OUTBOX,
    "inbox": INBOX,
    "parked": PARKED,
    "log": LOG,
}
"""The steps of every part: a producer needs the first, a consumer the first three, and the database
of a `postgresql://` broker the last."""

SERVICE: Final = ("outbox", "inbox", "parked")
"""What a service's own database needs."""


def script(
    dialect: Dialect,
    components: Sequence[str] = SERVICE,
    *,
    since: Mapping[str, int] | None = None,
) -> list[str]:
    """Return the statements that make the tables of `components`, in order.

    `since` are the versions that the database has already, as `switchgear_schema` holds them.
    """
    statements = [schema.TABLE]
    for name in components:
        steps = COMPONENTS[name]
        statements += schema.pending(name, steps, (since or {}).get(name, 0), dialect)
        # both values are ours: a name of the mapping above, and a number
        statements.append(
            schema.RECORD.replace("?", f"'{name}'", 1).replace("?", str(len(steps)), 1)
        )
    return statements


def upgrade(op: Any, components: Sequence[str] = SERVICE) -> None:
    """Make the tables of `components` in a revision of Alembic, or bring them up to date.

    `op` is `alembic.op`. In offline mode (`alembic upgrade --sql`) it writes all of it down, as for
    a database that has none. Raises `DatabaseError` if the database is not of a supported kind.
    """
    if op.get_context().as_sql:
        name = op.get_context().dialect.name
        for statement in script("postgres" if name == "postgresql" else "sqlite", components):
            op.execute(statement)
        return
    tx = joined_sync(op.get_bind())
    if tx is None:
        raise DatabaseError("Alembic has no connection.", fix="Run it online, or with --sql.")
    tx.run(schema.TABLE)
    rows = [(name, tx.run(schema.VERSION, name)) for name in components]
    since = {name: found[0][0] for name, found in rows if found}
    for statement in script(tx.dialect, components, since=since):
        tx.run(statement)
