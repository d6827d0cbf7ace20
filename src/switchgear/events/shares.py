"""Which keys are a relay's: the keys of an outbox are leased to one relay at a time.

Keys are split into parts by a hash, and relays share the parts as the members of a consumer group
share partitions (the rules are in `brokers/group.py`): evenly, each part with a lease by the
database's clock, and whoever has too much gives it up. A relay gives up and claims between two
batches, so nothing is in flight then.

Relays only *beat*, which writes, while there are events. Where all are idle their leases run out,
and whoever finds an event first begins anew.

The row of a member that is gone stays for `UNDERWAY` after its leases: who holds a topic back has
to know what may still be under way. A hold is written under the lock of the beats, so whoever beats
after that has seen it.

On SQLite there is one part: its relays are processes of one machine, and wait for one writer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from switchgear.database.port import Database, Dialect, Transaction
from switchgear.events.brokers.group import Lease, Member, Plan, plan
from switchgear.events.sql import now, write_many

__all__ = ["HEEDS", "HOLDS", "PARTS", "STEP", "UNDERWAY", "Shares", "begin_anew", "locked"]

PARTS: Final[Mapping[Dialect, int]] = {"sqlite": 1, "postgres": 16}

STEP: Final = """
    DROP TABLE switchgear_relay;
    CREATE TABLE switchgear_relay_member (id TEXT PRIMARY KEY, expires {real} NOT NULL);
    CREATE TABLE switchgear_relay_part (
        part BIGINT PRIMARY KEY, member TEXT, generation BIGINT NOT NULL, expires {real} NOT NULL);
    """
"""A relay of a release that knows no parts fails without its table, and publishes nothing."""

HOLDS: Final = """
    CREATE TABLE switchgear_outbox_hold (topic TEXT PRIMARY KEY, expires {real} NOT NULL);
    """
"""Topics of which nothing is published for now; see `holding.py`."""

HEEDS: Final = "h-"
"""How the id of a relay begins that heeds holds; those of earlier releases begin with a number."""
UNDERWAY: Final = 60.0
"""Seconds within which every adapter's publish ends, in one way or another."""

_TOPIC: Final = "outbox"
_LOCK: Final = "SELECT pg_advisory_xact_lock(1398228818)"
_BOUNDS: Final = (
    "SELECT set_config('lock_timeout', '5000', true), "
    "set_config('idle_in_transaction_session_timeout', '5000', true)"
)
"""In milliseconds: one that stops with the lock, or whose machine is gone, stops no others."""
"""Beats run one after the other ("SWGR" in ASCII); SQLite has one writer anyway."""


class Shares:
    """The parts of the keys that the relay `holder` publishes, each under a lease."""

    def __init__(self, database: Database, holder: str, lease: float) -> None:
        self._database = database
        self._holder = holder
        self._lease = lease
        self._topics = {_TOPIC: range(PARTS[database.dialect])}
        self._owned: dict[int, int] = {}
        self.settled = False
        """All that is its share is its own; else another has yet to give it up."""
        self.held: frozenset[str] = frozenset()
        """Topics that were held back at the last beat."""

    @property
    def parts(self) -> list[int]:
        """What was held at the last beat."""
        return sorted(self._owned)

    @property
    def all(self) -> bool:
        """Whether that is everything."""
        return len(self._owned) == len(self._topics[_TOPIC])

    async def beat(self) -> bool:
        """Renew the leases, claim what is due, give up what is too much; tell of gains."""
        async with self._database.transaction() as tx:
            found, clock = await self._plan(tx)
            kept = {
                part: generation
                for partition, (part, generation, _) in found.owned.items()
                if partition not in found.excess
            }
            await self._write(tx, found, kept, clock + self._lease)
            held = await tx.run("SELECT topic FROM switchgear_outbox_hold WHERE expires > ?", clock)
        gained = not kept.items() <= self._owned.items()
        self._owned = kept
        self.settled = found.settled
        self.held = frozenset(topic for (topic,) in held)
        return gained

    async def leave(self) -> None:
        """Give everything up, so that another relay can have it at once."""
        self._owned = {}
        async with self._database.transaction() as tx:
            await locked(tx)
            await tx.run(
                "UPDATE switchgear_relay_part SET member = NULL, expires = 0 WHERE member = ?",
                self._holder,
            )
            await tx.run("DELETE FROM switchgear_relay_member WHERE id = ?", self._holder)

    async def _plan(self, tx: Transaction) -> tuple[Plan, float]:
        await locked(tx)
        [(clock,)] = await tx.run(f"SELECT {now(tx.dialect)}")
        topics = frozenset(self._topics)
        members = [
            Member(name, topics, expires)
            for name, expires in await tx.run("SELECT id, expires FROM switchgear_relay_member")
        ]
        sql = "SELECT part, member, generation, expires FROM switchgear_relay_part"
        leases = {
            part: Lease(member, generation, expires, 0)
            for part, member, generation, expires in await tx.run(sql)
        }
        found = plan(members, leases, self._holder, self._topics, now=clock, lease=self._lease)
        return found, clock

    async def _write(
        self, tx: Transaction, found: Plan, kept: Mapping[int, int], expires: float
    ) -> None:
        await tx.run(
            "INSERT INTO switchgear_relay_member (id, expires) VALUES (?, ?) "
            "ON CONFLICT (id) DO UPDATE SET expires = excluded.expires",
            self._holder,
            expires,
        )
        for name in found.gone:
            sql = "DELETE FROM switchgear_relay_member WHERE id = ? AND expires < ?"
            await tx.run(sql, name, expires - self._lease - UNDERWAY)
        rows = [
            (part, lease.member, lease.generation, lease.expires)
            if part in kept
            else (part, None, lease.generation, 0.0)
            for part, lease in sorted(found.leases.items())
        ]
        await write_many(
            tx,
            "INSERT INTO switchgear_relay_part (part, member, generation, expires) "
            "VALUES (?, ?, ?, ?) ON CONFLICT (part) DO UPDATE SET member = excluded.member, "
            "generation = excluded.generation, expires = excluded.expires",
            rows,
        )


async def locked(tx: Transaction) -> None:
    """Let nobody beat until `tx` ends."""
    if tx.dialect == "postgres":
        await tx.run(_BOUNDS)
        await tx.run(_LOCK)


async def begin_anew(tx: Transaction) -> None:
    """Let every relay read from the first row on after its next beat. `tx` is `locked`."""
    await tx.run("UPDATE switchgear_relay_part SET generation = generation + 1")
