"""Who works the store off, where partitions do not say it: one member of the group, by a lease.

The lease is a row in the consumer's database, by the database's clock. It is asked for when there
is something to work off, renewed while there is, and otherwise runs out: an idle consumer writes
nothing.
"""

from __future__ import annotations

import os
import secrets
import time
from typing import Final

from switchgear.database.port import Database
from switchgear.events.sql import now
from switchgear.model.outcome import Unavailable, Unknown

__all__ = ["STEP", "Keeper"]

STEP: Final = """
    CREATE TABLE switchgear_keeper (
        consumer TEXT PRIMARY KEY, holder TEXT NOT NULL, expires {real} NOT NULL);
    CREATE INDEX switchgear_parked_ready ON switchgear_parked (consumer) WHERE state = 'ready';
"""

_RENEW: Final = 1 / 3
"""The part of a lease after which its holder renews it, and others look at it again."""


class Keeper:
    """One member's view of the lease; it ends `seconds` after its holder renewed it last."""

    def __init__(self, database: Database, consumer: str, seconds: float) -> None:
        self._database = database
        self._consumer = consumer
        self._seconds = seconds
        self._holder = f"{os.getpid()}-{secrets.token_hex(6)}"
        self._held_until = 0.0
        self._ask_at = 0.0

    @property
    def held(self) -> bool:
        """Whether it is certainly ours now."""
        return time.monotonic() < self._held_until

    async def take(self) -> bool:
        """Take it, or renew it when that is due; tell whether it is ours."""
        began = time.monotonic()
        if began >= self._ask_at:
            mine = await self._acquire()
            self._ask_at = began + self._seconds * _RENEW
            self._held_until = began + self._seconds if mine else 0.0
        return self.held

    async def give_back(self) -> None:
        """Let others have it at once."""
        if not self.held:
            return
        self._held_until = self._ask_at = 0.0
        try:
            async with self._database.transaction() as tx:
                await tx.run(
                    "DELETE FROM switchgear_keeper WHERE consumer = ? AND holder = ?",
                    self._consumer,
                    self._holder,
                )
        except (Unavailable, Unknown):
            return  # it runs out by itself

    async def _acquire(self) -> bool:
        clock = now(self._database.dialect)
        async with self._database.transaction() as tx:
            rows = await tx.run(
                "INSERT INTO switchgear_keeper (consumer, holder, expires) "  # noqa: S608  constant
                f"VALUES (?, ?, {clock} + ?) ON CONFLICT (consumer) DO UPDATE SET "
                "holder = excluded.holder, expires = excluded.expires "
                "WHERE switchgear_keeper.holder = excluded.holder "
                f"OR switchgear_keeper.expires < {clock} RETURNING holder",
                self._consumer,
                self._holder,
                self._seconds,
            )
        return bool(rows)
