"""Hands sagas whose start has been committed on to Temporal, until it has them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import Final

import msgspec

from switchgear.model.outcome import Unavailable, Unknown
from switchgear.saga.definition import Saga
from switchgear.saga.errors import SagaConflict, TemporalRefused
from switchgear.saga.outage import Outage
from switchgear.saga.starting import check_same
from switchgear.saga.stores.port import Store
from switchgear.saga.temporal import starts
from switchgear.saga.temporal.cluster import Cluster
from switchgear.saga.temporal.starts import Start
from switchgear.saga.temporal.wire import Begin

__all__ = ["Relay", "compare", "until"]

_log = logging.getLogger("switchgear.saga")
_POLL: Final = 1.0
"""Seconds between two looks for starts that another process left."""
_AGAIN: Final = 5.0
_BATCH: Final = 50


class Relay:
    """Hands on the starts of one store, until it is stopped, once.

    `sagas` are those whose inputs can be compared here.
    """

    def __init__(self, store: Store, sagas: Mapping[str, Saga], outage: Outage) -> None:
        self._store = store
        self._sagas = sagas
        self._outage = outage
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()

    def wake(self) -> None:
        """Look now."""
        self._wake.set()

    def stop(self) -> None:
        """End `run` once what is being handed on has been."""
        self._stopping.set()
        self._wake.set()

    async def run(self, cluster: Cluster) -> None:
        """Hand on what has been committed, and what will be, until it is stopped."""
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                rows = await self._store.read(starts.pending(_BATCH))
                await self._hand_all_on(cluster, rows)
                self._outage.ended()
            except (Unavailable, Unknown) as error:
                self._outage.began(error)
                await until(self._stopping, _POLL)
            except TemporalRefused as error:
                _log.error("a saga cannot be started, and waits: %s", error)
                await until(self._stopping, _AGAIN)
            else:
                if len(rows) < _BATCH:
                    await until(self._wake, _POLL)

    async def _hand_all_on(self, cluster: Cluster, rows: list[Start]) -> None:
        """Hand on all that can be; then raise what kept one from it."""
        handed = (self._hand_on(cluster, row) for row in rows)
        for error in await asyncio.gather(*handed, return_exceptions=True):
            if error is not None:
                raise error

    async def _hand_on(self, cluster: Cluster, start: Start) -> None:
        given = msgspec.json.decode(start.given, type=Begin)
        try:
            if not await cluster.start(given, start.queue):
                begun = await cluster.begun(start.id)
                if begun is not None:
                    compare(self._sagas.get(given.plan.id), start, begun)
        except SagaConflict as error:
            _log.error("saga %s was committed and cannot start: %s", start.id, error)
            await self._store.write(starts.refuse(start, error.what))
        else:
            await self._store.write(starts.drop(start))


def compare(saga: Saga | None, start: Start, begun: Begin) -> None:
    """Refuse a start whose id stands for another saga or input.

    Without the definition, `saga` None, an input is the same if its bytes are. Who started it has
    the definition, and compares once more when they ask for the result.
    """
    given = msgspec.json.decode(start.given, type=Begin)
    if saga is None:
        if (given.plan.saga, bytes(given.input)) != (begun.plan.saga, bytes(begun.input)):
            raise SagaConflict(
                f"the id {start.id} is that of a saga {begun.plan.saga} with an input of its own.",
                where=f"start of saga {given.plan.saga}",
                fix="Start it under another id.",
            )
        return
    check_same(
        saga,
        start.id,
        bytes(given.input),
        name=begun.plan.saga,
        existing=bytes(begun.input),
        ids="a service",
    )


async def until(event: asyncio.Event, seconds: float) -> None:
    """Wait for `event`, at most some seconds."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
