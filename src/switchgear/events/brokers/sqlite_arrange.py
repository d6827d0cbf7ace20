"""Holding a topic of the embedded log back, and giving it more partitions; see `arrange.py`.

Each runs inside a write transaction, so nothing is appended or committed meanwhile.
"""

from __future__ import annotations

import sqlite3

from switchgear.errors import BrokerError
from switchgear.events.brokers.sqlite_log import NOW, parts_of

__all__ = ["hold", "release"]


def hold(connection: sqlite3.Connection, topic: str, seconds: float) -> dict[str, int]:
    """Append nothing to a topic for so many seconds; return who is behind in it, and how far.

    Raises `BrokerError` if there is no such topic.
    """
    _parts(connection, topic)
    connection.execute(
        f"UPDATE part SET held = max(held, {NOW} + ?) WHERE topic = ?",  # noqa: S608  a constant
        (seconds, topic),
    )
    return _behind(connection, topic)


def release(connection: sqlite3.Connection, topic: str, partitions: int | None) -> None:
    """Let records be appended again, to `partitions` from now on.

    Raises `BrokerError`, and changes nothing, if that would break the order of a key.
    """
    parts = _parts(connection, topic)
    if partitions is not None and partitions != len(parts):
        (held,) = connection.execute(
            f"SELECT min(held > {NOW}) FROM part WHERE topic = ?",  # noqa: S608  a constant
            (topic,),
        ).fetchone()
        check_growth(topic, len(parts), partitions, held=held, behind=_behind(connection, topic))
        numbers = range(len(parts), partitions)
        connection.executemany(
            "INSERT INTO part (topic, number) VALUES (?, ?)", [(topic, one) for one in numbers]
        )
        # a group holds back what it has not read, also where nobody has claimed the partition yet
        connection.execute(
            "INSERT OR IGNORE INTO lease (grp, part, generation, expires, position) "
            "SELECT DISTINCT lease.grp, fresh.id, 0, 0, 0 FROM lease JOIN part ON part.id = "
            "lease.part JOIN part AS fresh ON fresh.topic = part.topic AND fresh.number >= ? "
            "WHERE part.topic = ?",
            (len(parts), topic),
        )
        connection.execute("UPDATE part SET parts = ? WHERE topic = ?", (partitions, topic))
    connection.execute("UPDATE part SET held = 0 WHERE topic = ?", (topic,))
    # members look at the partitions anew
    connection.execute(
        "UPDATE grp SET epoch = epoch + 1 WHERE name IN (SELECT grp FROM lease "
        "JOIN part ON part.id = lease.part WHERE topic = ?)",
        (topic,),
    )


def check_growth(topic: str, old: int, new: int, *, held: bool, behind: dict[str, int]) -> None:
    """Raise `BrokerError` if a topic cannot get another number of partitions now."""
    if new < old:
        raise BrokerError(
            f"the topic {topic} has {old} partitions, and fewer were asked for.",
            fix="A log only gets more of them; use a new topic.",
        )
    if not held:
        raise BrokerError(
            f"the topic {topic} is not held back: a key's next event could overtake one before it.",
            fix="Hold it first, and let every group read what is there.",
        )
    if behind:
        names = ", ".join(f"{group} ({events} events)" for group, events in sorted(behind.items()))
        raise BrokerError(
            f"not everybody has read the topic {topic} to its end: {names}.",
            fix="Let them run until they have.",
        )


def _parts(connection: sqlite3.Connection, topic: str) -> tuple[int, ...]:
    found = parts_of(connection, topic)
    if not found:
        raise no_topic(topic)
    return found


def no_topic(topic: str) -> BrokerError:
    """Return what is raised for a topic that there is not."""
    return BrokerError(
        f"there is no topic {topic}.", fix="A topic is made when it is first published or read."
    )


def _behind(connection: sqlite3.Connection, topic: str) -> dict[str, int]:
    return dict(
        connection.execute(
            "SELECT grp, sum(head - max(position, tail)) FROM part JOIN lease "
            "ON lease.part = part.id WHERE topic = ? AND head > max(position, tail) GROUP BY grp",
            (topic,),
        )
    )
