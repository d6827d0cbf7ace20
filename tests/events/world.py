"""Events and small helpers that the tests of this package share."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from switchgear.contract.event import event
from switchgear.contract.message import Message, field


@event("test.orders", key="order_id")
class OrderPlaced(Message):
    order_id: str = field(1)
    number: int = field(2)


@event("test.orders", key="order_id")
class OrderCancelled(Message):
    order_id: str = field(1)
    number: int = field(2)


@event("test.news", unordered=True)
class News(Message):
    number: int = field(1)


@event("test.pictures", key="name")
class Picture(Message):
    name: str = field(1)
    pixels: str = field(2)


async def until(true: Callable[[], object] | Callable[[], Awaitable[object]], within: float = 90.0):
    """Wait until `true()` is; what these tests wait for happens in other processes or threads."""
    end = time.monotonic() + within
    while True:
        found = true()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return found
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.01)
