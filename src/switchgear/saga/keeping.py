"""What becomes of finished sagas: kept as long as their definition says, archived, then deleted.

Each worker walks through the table a few hundred rows at a time, by the primary key, and begins
again at its end. So a saga that ends writes to no index for this, and a table of millions costs the
work that is going on nothing. What is to go is first written to the archive, if there is one, and
synced; only then is it deleted. After a crash in between, or where two workers meet, the archive
has a saga twice, and never not at all.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from switchgear.saga.definition import Saga
from switchgear.saga.evidence import evidence_of
from switchgear.saga.stores.port import Store
from switchgear.saga.stores.units import Units

__all__ = ["Keeper"]

_ROWS: Final = 500
_BATCHES: Final = 20


class Keeper:
    """Walks through the sagas of one store. `archive` is a folder; None: nothing is archived."""

    def __init__(
        self, store: Store, units: Units, sagas: Mapping[str, Saga], archive: Path | None
    ) -> None:
        self._store = store
        self._units = units
        self._keep = {
            definition: saga.keep.total_seconds()
            for definition, saga in sagas.items()
            if saga.keep is not None
        }
        self._archive = archive
        self._after = ""

    async def sweep(self, now: float) -> int:
        """Go some way through the table; return how many sagas were deleted."""
        deleted = 0
        for _ in range(_BATCHES if self._keep else 0):
            rows = await self._store.read(self._units.walk(self._after, _ROWS))
            self._after = rows[-1][0] if len(rows) == _ROWS else ""
            over = [
                saga_id
                for saga_id, definition, ended in rows
                if ended is not None and now - ended > self._keep.get(definition, now)
            ]
            if over:
                deleted += await self._put_away(over, now)
            if not self._after:
                break
        return deleted

    async def _put_away(self, ids: Sequence[str], now: float) -> int:
        if self._archive is not None:
            lines = [
                msgspec.json.encode(await self._store.read(evidence_of(self._units, saga_id)))
                for saga_id in ids
            ]
            day = datetime.fromtimestamp(now, UTC).date().isoformat()
            file = self._archive / f"sagas-{day}.jsonl"
            await asyncio.to_thread(_append, file, b"\n".join([*lines, b""]))
        # one that was refuted in the meantime has not ended any more, and stays
        return await self._store.write(self._units.delete(ids))


def _append(file: Path, data: bytes) -> None:
    """Write at the end of a file, whole, and return once it is on the disk."""
    file.parent.mkdir(parents=True, exist_ok=True)
    opened = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        written = 0
        while written < len(data):
            written += os.write(opened, data[written:])
        os.fsync(opened)
    finally:
        os.close(opened)
