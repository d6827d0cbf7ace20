"""Holding a topic of PostgreSQL's log back, and giving it more partitions; see `arrange.py`.

Both lock the rows of the topic's partitions, in their order, as appends do: an append sees what was
decided, or is over before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from switchgear.events.brokers.postgres_log import NOW
from switchgear.events.brokers.sqlite_arrange import check_growth, no_topic

if TYPE_CHECKING:
    from switchgear.events.brokers.postgres_log import Connection

__all__ = ["hold", "release"]


async def hold(connection: Connection, topic: str, seconds: float) -> dict[str, int]:
    """Append nothing to a topic for so many seconds; return who is behind in it, and how far.

    Raises `BrokerError` if there is no such topic.
    """
    await _locked(connection, topic)
    await connection.execute(
        "UPDATE switchgear_log_part SET held = greatest(held, " + NOW + " + $2) WHERE topic = $1",  # noqa: S608  constant
        topic,
        seconds,
    )
    return await _behind(connection, topic)


async def release(connection: Connection, topic: str, partitions: int | None) -> None:
    """Let records be appended again, to `partitions` from now on.

    Raises `BrokerError`, and changes nothing, if that would break the order of a key.
    """
    old, held = await _locked(connection, topic)
    if partitions is not None and partitions != old:
        behind = await _behind(connection, topic)
        check_growth(topic, old, partitions, held=held, behind=behind)
        await connection.execute(
            "INSERT INTO switchgear_log_part (topic, number) "
            "SELECT $1, generate_series($2::bigint, $3::bigint - 1)",
            topic,
            old,
            partitions,
        )
        # a group holds back what it has not read, also where nobody has claimed the partition yet
        await connection.execute(
            "INSERT INTO switchgear_log_lease (grp, part, generation, expires, position) "
            "SELECT DISTINCT lease.grp, fresh.id, 0, 0, 0 FROM switchgear_log_lease AS lease "
            "JOIN switchgear_log_part AS part ON part.id = lease.part "
            "JOIN switchgear_log_part AS fresh ON fresh.topic = part.topic AND fresh.number >= $2 "
            "WHERE part.topic = $1 ON CONFLICT DO NOTHING",
            topic,
            old,
        )
        await connection.execute(
            "UPDATE switchgear_log_part SET parts = $2 WHERE topic = $1", topic, partitions
        )
    await connection.execute("UPDATE switchgear_log_part SET held = 0 WHERE topic = $1", topic)
    # members look at the partitions anew
    await connection.execute(
        "UPDATE switchgear_log_group SET epoch = epoch + 1 WHERE name IN (SELECT grp "
        "FROM switchgear_log_lease AS lease JOIN switchgear_log_part AS part "
        "ON part.id = lease.part WHERE topic = $1)",
        topic,
    )


async def _locked(connection: Connection, topic: str) -> tuple[int, bool]:
    """Lock the topic; return its number of partitions, and whether it is held back."""
    rows = await connection.fetch(
        "SELECT held > " + NOW + " FROM switchgear_log_part WHERE topic = $1 "  # noqa: S608  constant
        "ORDER BY id FOR UPDATE",
        topic,
    )
    if not rows:
        raise no_topic(topic)
    return len(rows), all(row[0] for row in rows)


async def _behind(connection: Connection, topic: str) -> dict[str, int]:
    rows = await connection.fetch(
        "SELECT grp, sum(head - greatest(position, tail))::bigint FROM switchgear_log_part AS part "
        "JOIN switchgear_log_lease AS lease ON lease.part = part.id "
        "WHERE topic = $1 AND head > greatest(position, tail) GROUP BY grp",
        topic,
    )
    return {row[0]: row[1] for row in rows}
