"""Telling somebody that a saga waits for them: each work item, at least once.

An item that opens is in the database before anybody is told, and what was told is noted there. So a
message is repeated after a crash, and never lost with a worker. A receiver tells repetitions by the
item's `id` and `opened`: the same item can open again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

import msgspec

from switchgear.errors import MissingExtra, SagaError
from switchgear.model.signal import Signal, SignalKind, emit, listening
from switchgear.saga.evidence import WorkItem, select_items
from switchgear.saga.stores.port import Store
from switchgear.saga.stores.units import Units

__all__ = ["Hook", "Notifier", "webhook"]

Hook: TypeAlias = Callable[[WorkItem], Awaitable[None]]
"""Tells somebody. If it raises, it is asked again later."""

_log = logging.getLogger("switchgear.saga")
_MOST = 100
_WITHIN = 30.0


class Notifier:
    """Tells of the open work items of one store, by `hook` and as the signal `saga.waiting`."""

    def __init__(
        self, store: Store, units: Units, hook: Hook | None, *, clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._units = units
        self._hook = hook
        self._clock = clock

    async def tell(self) -> None:
        """Tell of every open item that nobody was told of; leave the rest when one cannot be."""
        if listening():
            count, opened = await self._store.read(self._units.waiting())
            age = 0.0 if opened is None else max(self._clock() - opened, 0.0)
            emit(Signal(SignalKind.SAGA_WAITING, "work items", {"open": count, "seconds": age}))
        if self._hook is None:
            return
        tail = "WHERE closed IS NULL AND told IS NULL ORDER BY opened LIMIT ?"
        for item in await self._store.read(select_items(tail, _MOST)):
            try:
                async with asyncio.timeout(_WITHIN):
                    await self._hook(item)
            except Exception as error:  # noqa: BLE001  it is somebody else's code
                _log.warning(
                    "nobody could be told that %s waits for a person; trying again: %s: %s",
                    item.id,
                    type(error).__name__,
                    error,
                )
                return
            await self._store.write(self._units.tell(item.id, item.opened, self._clock()))


def webhook(url: str, *, headers: Mapping[str, str] | None = None, timeout: float = 10.0) -> Hook:
    """Return a hook that sends each work item to `url`: a POST with the item as JSON.

    `headers` are sent along, such as an Authorization; `timeout` is in seconds. Any answer but a
    2xx counts as failed, and a redirection is not followed. Raises `MissingExtra` without aiohttp,
    and `SagaError` if the URL is not one of http or https.
    """
    try:
        import aiohttp  # noqa: PLC0415  an optional dependency
    except ImportError as error:
        raise MissingExtra("aiohttp", "http") from error
    if not url.startswith(("http://", "https://")):
        raise SagaError(
            "the URL of the webhook has no http:// or https:// in front.", where="webhook"
        )
    sent = {"Content-Type": "application/json", **(headers or {})}

    async def send(item: WorkItem) -> None:
        within = aiohttp.ClientTimeout(total=timeout)
        data = msgspec.json.encode(item)
        async with (
            aiohttp.ClientSession(timeout=within) as session,
            session.post(url, data=data, headers=sent, allow_redirects=False) as reply,
        ):
            if reply.status // 100 != 2:  # noqa: PLR2004  2xx
                raise SagaError(f"the webhook answered {reply.status}.")

    return send
