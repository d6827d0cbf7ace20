"""Waiting for something to happen, with a bound."""

from __future__ import annotations

import asyncio
from contextlib import suppress

__all__ = ["wait_until"]


async def wait_until(event: asyncio.Event, seconds: float) -> None:
    """Wait for `event`, at most some seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
