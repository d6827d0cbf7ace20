"""The tables of the log in PostgreSQL, as functions on a connection: append, read, lag, retention.

Offsets are given out under the lock of the partition's row, which is held until the commit: they
are in the order of the commits, without gaps, so that a reader who has seen one has seen all
below. Locks are taken in the order of the partitions' ids, so nobody waits in a circle.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from switchgear.events.brokers.hashing import partition_of
from switchgear.events.brokers.port import (
    BrokerUnavailable,
    Delivery,
    Lag,
    Partition,
    Record,
    TopicRefused,
)

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

    Connection: TypeAlias = asyncpg.Connection | PoolConnectionProxy

__all__ = [
    "NOW",
    "STEPS",
    "Rearranged",
    "append",
    "expire",
    "heads",
    "lag",
    "parts_of",
    "read",
    "search",
    "topic_parts",
]

NOW: Final = "(extract(epoch FROM clock_timestamp())::float8)"
"""The database's clock, in Unix seconds; leases live by it alone."""

STEPS: Final = (
    """
    CREATE TABLE switchgear_log_part (
        id {serial}, topic TEXT NOT NULL, number BIGINT NOT NULL, head BIGINT NOT NULL DEFAULT 0,
        tail BIGINT NOT NULL DEFAULT 0, UNIQUE (topic, number)) WITH (fillfactor = 50);
    CREATE TABLE switchgear_log (
        part BIGINT NOT NULL, place BIGINT NOT NULL, key TEXT, headers BYTEA NOT NULL,
        value BYTEA NOT NULL, at {real} NOT NULL, PRIMARY KEY (part, place))
        WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.02);
    CREATE TABLE switchgear_log_group (
        name TEXT PRIMARY KEY, epoch BIGINT NOT NULL, seen {real} NOT NULL) WITH (fillfactor = 50);
    CREATE TABLE switchgear_log_member (
        grp TEXT NOT NULL, id TEXT NOT NULL, topics TEXT NOT NULL, expires {real} NOT NULL,
        PRIMARY KEY (grp, id)) WITH (fillfactor = 50);
    CREATE TABLE switchgear_log_lease (
        grp TEXT NOT NULL, part BIGINT NOT NULL, member TEXT, generation BIGINT NOT NULL,
        expires {real} NOT NULL, position BIGINT NOT NULL, PRIMARY KEY (grp, part))
        WITH (fillfactor = 50);
    """,
    """
    ALTER TABLE switchgear_log_part ADD COLUMN parts BIGINT NOT NULL DEFAULT 0;
    ALTER TABLE switchgear_log_part ADD COLUMN held {real} NOT NULL DEFAULT 0;
    """,
)
"""The log's tables; `Database.migrate("log", STEPS)` creates them.

`parts`: how many partitions the topic has, once that was changed; `held`: until when nothing is
appended to the topic. See `events/arrange.py`.
"""

_SEARCH: Final = 3_600.0
"""Seconds that a search may take, which reads the whole log."""
_STEP: Final = 500
_MOST_BYTES: Final = 8_000_000
"""Bytes of values after which a read ends."""
_HEADERS: Final = msgspec.json.Decoder(dict[str, str])


class Rearranged(Exception):
    """A topic has other partitions by now; nothing was appended."""

    def __init__(self, topic: str) -> None:
        super().__init__(topic)
        self.topic = topic


async def parts_of(connection: Connection, topics: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Return the ids of the partitions of topics that there are, in order."""
    rows = await connection.fetch(
        "SELECT topic, array_agg(id ORDER BY number) FROM switchgear_log_part "
        "WHERE topic = ANY($1) GROUP BY topic",
        topics,
    )
    return {topic: tuple(parts) for topic, parts in rows}


async def topic_parts(
    connection: Connection, topic: str, partitions: int | None, default: int
) -> tuple[int, ...]:
    """Return the ids of a topic's partitions in order, creating the topic if it is new.

    Raises `TopicRefused` if `partitions` is given and the topic has another number of them.
    """
    sql = "SELECT id FROM switchgear_log_part WHERE topic = $1 ORDER BY number"
    rows = await connection.fetch(sql, topic)
    if not rows:
        # another process may be doing the same: it has all of them then, or none
        await connection.execute(
            "INSERT INTO switchgear_log_part (topic, number) SELECT $1, generate_series(0, $2 - 1) "
            "ON CONFLICT DO NOTHING",
            topic,
            partitions or default,
        )
        rows = await connection.fetch(sql, topic)
    if partitions is not None and len(rows) != partitions:
        raise TopicRefused(
            topic,
            f"the topic {topic} has {len(rows)} partitions, and {partitions} were asked for.",
            fix="A key would change its partition. Leave the number out to take the topic's own.",
        )
    return tuple(row[0] for row in rows)


async def append(
    connection: Connection,
    records: Sequence[Record],
    topics: Mapping[str, Sequence[int]],
    spread: int,
) -> None:
    """Append records in order, inside a transaction that is open.

    `spread` is where records without a key begin to go round. Raises `Rearranged` if a topic has
    other partitions than `topics` says, and `BrokerUnavailable` for one that is held back.
    """
    parts = [_part(record, topics[record.topic], spread + n) for n, record in enumerate(records)]
    rows = await connection.fetch(
        "SELECT id, head, parts, topic, held > " + NOW + " FROM switchgear_log_part "  # noqa: S608  constant
        "WHERE id = ANY($1) ORDER BY id FOR UPDATE",
        sorted(set(parts)),
    )
    for _, _, count, topic, held in rows:
        if held:
            raise BrokerUnavailable(f"the topic {topic} is held back until it has been rearranged")
        if count not in (0, len(topics[topic])):
            raise Rearranged(topic)
    heads = {row[0]: itertools.count(row[1]) for row in rows}
    places = [next(heads[part]) for part in parts]
    # within a partition the time does not go back, whoever appended last
    await connection.execute(
        "INSERT INTO switchgear_log (part, place, key, headers, value, at) "  # noqa: S608  constant
        "SELECT part, place, key, headers, value, " + NOW + " FROM unnest("
        "$1::bigint[], $2::bigint[], $3::text[], $4::bytea[], $5::bytea[]) "
        "AS new (part, place, key, headers, value)",
        parts,
        places,
        [record.key for record in records],
        [msgspec.json.encode(record.headers) for record in records],
        [record.value for record in records],
    )
    await connection.execute(
        "UPDATE switchgear_log_part SET head = new.head FROM unnest($1::bigint[], $2::bigint[]) "
        "AS new (id, head) WHERE switchgear_log_part.id = new.id",
        list(heads),
        [next(head) for head in heads.values()],
    )


async def read(
    connection: Connection, wanted: Sequence[tuple[Partition, int, int]], limit: int
) -> list[Delivery]:
    """Read at most `limit` records of the partitions `(partition, id, position)`.

    Each partition gets an equal share; large records end its share early.
    """
    share = max(1, limit // len(wanted))
    numbered = {part: partition for partition, part, _ in wanted}
    rows = await connection.fetch(
        "SELECT part, place, key, headers, value, at FROM unnest($1::bigint[], $2::bigint[]) "
        "AS wanted (id, position) CROSS JOIN LATERAL (SELECT *, coalesce(sum(octet_length(value)) "
        "OVER (ORDER BY place ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS size "
        "FROM (SELECT * FROM switchgear_log WHERE part = id AND place >= position "
        "ORDER BY place LIMIT $3) AS next) AS found WHERE size < $4 ORDER BY part, place",
        [part for _, part, _ in wanted],
        [position for _, _, position in wanted],
        share,
        _MOST_BYTES // len(wanted),
    )
    found = [
        Delivery(numbered[part], place, key, _headers(headers), value, at)
        for part, place, key, headers, value, at in rows
    ]
    return found[:limit]


async def heads(
    connection: Connection, parts: Sequence[int], groups: Sequence[str]
) -> tuple[dict[int, int], dict[str, int]]:
    """Return the next offset of partitions by id, and the epoch of groups by name."""
    rows = await connection.fetch(
        "SELECT id, NULL, head FROM switchgear_log_part WHERE id = ANY($1) "
        "UNION ALL SELECT NULL, name, epoch FROM switchgear_log_group WHERE name = ANY($2)",
        parts,
        groups,
    )
    return (
        {part: head for part, _, head in rows if part is not None},
        {name: epoch for _, name, epoch in rows if name is not None},
    )


async def lag(connection: Connection, group: str, topics: Sequence[str]) -> Lag:
    """Return how many records `group` has not committed, and the age of the oldest."""
    row: Any = await connection.fetchrow(
        "SELECT coalesce(sum(head - position), 0)::bigint, " + NOW + " - min(at) FROM ("  # noqa: S608  constants
        "SELECT part.id, head, greatest(tail, coalesce(lease.position, 0)) AS position "
        "FROM switchgear_log_part AS part LEFT JOIN switchgear_log_lease AS lease "
        "ON lease.grp = $1 AND lease.part = part.id WHERE topic = ANY($2)) AS behind "
        "LEFT JOIN switchgear_log AS log ON log.part = behind.id AND log.place = behind.position "
        "WHERE head > position",
        group,
        topics,
    )
    events, oldest = row
    return Lag(events, None if oldest is None else max(0.0, oldest))


async def search(connection: Connection, text: bytes, limit: int) -> list[Delivery]:
    """Return records with `text` in their headers or value, in the order of the partitions."""
    rows = await connection.fetch(
        "SELECT topic, number, place, key, headers, value, at FROM switchgear_log AS log "
        "JOIN switchgear_log_part AS part ON part.id = log.part "
        "WHERE position($1::bytea in headers) > 0 OR position($1::bytea in value) > 0 "
        "ORDER BY part, place LIMIT $2",
        text,
        limit,
        timeout=_SEARCH,
    )
    return [
        Delivery(Partition(topic, number), place, key, _headers(headers), value, at)
        for topic, number, place, key, headers, value, at in rows
    ]


async def expire(connection: Connection, *, age: float, forget: float) -> int:
    """Delete one small step of what need not be kept, and return how many records that were.

    What a group has not read is kept, unless nobody has joined the group for `forget` seconds.
    Runs in a transaction of its own; another process that does the same is not waited for.
    """
    row = await connection.fetchrow(
        "SELECT part.id, tail, least(head, tail + $3, min(lease.position)) AS until "  # noqa: S608  constants
        "FROM switchgear_log_part AS part LEFT JOIN (switchgear_log_lease AS lease "
        "JOIN switchgear_log_group AS grp ON grp.name = lease.grp AND grp.seen > " + NOW + " - $2) "
        "ON lease.part = part.id WHERE EXISTS (SELECT FROM switchgear_log AS log "
        "WHERE log.part = part.id AND log.place = tail AND log.at < " + NOW + " - $1) "
        "GROUP BY part.id HAVING least(head, min(lease.position)) > tail LIMIT 1",
        age,
        forget,
        _STEP,
    )
    if row is None:
        return 0
    part, tail, until = row
    if not await connection.fetch(
        "SELECT FROM switchgear_log_part WHERE id = $1 AND tail = $2 FOR UPDATE SKIP LOCKED",
        part,
        tail,
    ):
        return 0
    young = await connection.fetchval(
        "SELECT min(place) FROM switchgear_log WHERE part = $1 AND place >= $2 AND place < $3 "  # noqa: S608  constants
        "AND at >= " + NOW + " - $4",
        part,
        tail,
        until,
        age,
    )
    until = until if young is None else young
    await connection.execute(
        "DELETE FROM switchgear_log WHERE part = $1 AND place >= $2 AND place < $3",
        part,
        tail,
        until,
    )
    await connection.execute("UPDATE switchgear_log_part SET tail = $2 WHERE id = $1", part, until)
    return int(until - tail)


def _part(record: Record, parts: Sequence[int], spread: int) -> int:
    if record.key is None:
        return parts[spread % len(parts)]
    return parts[partition_of(record.key, len(parts))]


def _headers(data: bytes) -> dict[str, str]:
    """Return a record's headers; none where they cannot be read, and it is parked then."""
    try:
        return _HEADERS.decode(data)
    except msgspec.DecodeError:
        return {}
