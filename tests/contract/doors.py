"""The shop's warehouse and a counter behind both doors, for the clients of other languages."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from switchgear.serve.dispatch import Dispatcher
from switchgear.serve.grpc import Grpc
from switchgear.serve.rest import Rest
from tests.contract.counting import At, Counting, CountTo, TooFar
from tests.serve.embedded import HttpServer

__all__ = ["Doors", "warehouse"]

SHOP = importlib.import_module("examples.shop.contracts")


class Warehouse(SHOP.Inventory):  # type: ignore[name-defined,misc]
    """Has two of everything, and reserves nothing."""

    async def stock(self, request: Any) -> Any:
        return SHOP.Stock(sku=request.sku, available=2, reserved=0)

    async def reserve(self, request: Any) -> Any:
        raise SHOP.OutOfStock(sku=request.lines[0].sku, available=2)

    async def release(self, request: Any) -> Any:
        return SHOP.Released(pieces=0)


class Counter(Counting):
    """Counts to two, and no further."""

    async def count(self, request: CountTo) -> AsyncIterator[At]:
        for number in range(1, request.last + 1):
            if number > 2:
                raise TooFar(most=2)
            yield At(number=number)

    async def echo(self, requests: AsyncIterator[At]) -> AsyncIterator[At]:
        async for one in requests:
            yield one


class Doors(NamedTuple):
    """Where they are."""

    grpc: str
    rest: str


@asynccontextmanager
async def warehouse() -> AsyncIterator[Doors]:
    """Serve it on loopback, while the client of another process calls."""
    dispatcher = Dispatcher([Warehouse(), Counter()])
    grpc, rest = Grpc(dispatcher), HttpServer(Rest(dispatcher))
    try:
        yield Doors(f"127.0.0.1:{await grpc.start()}", f"http://127.0.0.1:{await rest.start()}")
    finally:
        await asyncio.gather(grpc.stop(0), rest.stop(1))
