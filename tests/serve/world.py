"""A small service for the tests of doors and clients: its contract, its handler, its servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

from switchgear.contract.enums import Enum
from switchgear.contract.message import Message, field
from switchgear.contract.refusal import Refusal
from switchgear.contract.service import command, query, service
from switchgear.model.context import current
from switchgear.model.outcome import Reason, Rejected, Status, Unavailable, Unknown
from switchgear.serve.dispatch import Dispatcher
from switchgear.serve.grpc import Grpc
from switchgear.serve.rest import Rest
from tests.serve.embedded import HttpServer


class Colour(Enum, package="acme.stock.v1"):
    PLAIN = 0
    RED = 1


class Line(Message, package="acme.stock.v1"):
    sku: str = field(1)
    quantity: int = field(2)


class Reserve(Message, package="acme.stock.v1"):
    order_id: str = field(1)
    lines: list[Line] = field(2)
    colour: Colour = field(3, default=Colour.PLAIN)


class Reservation(Message, package="acme.stock.v1"):
    order_id: str = field(1)
    pieces: int = field(2)
    number: int = field(3)


class GetStock(Message, package="acme.stock.v1"):
    sku: str = field(1)
    colours: list[Colour] = field(2, default_factory=list)
    least: int = field(3, default=0)


class Stock(Message, package="acme.stock.v1"):
    sku: str = field(1)
    available: int = field(2)


class Adjust(Message, package="acme.stock.v1"):
    sku: str = field(1)
    by: int = field(2)


class Tagged(Message, package="acme.stock.v1"):
    tags: list[str] = field(1)


class Empty(Message, package="acme.stock.v1"):
    pass


class Seen(Message, package="acme.stock.v1"):
    caller: str | None = field(1)
    key: str | None = field(2)
    attempt: int = field(3)
    left: float | None = field(4)
    priority: str = field(5)
    traceparent: str | None = field(6)


class Do(Message, package="acme.stock.v1"):
    what: str = field(1)


class OutOfStock(Refusal, package="acme.stock.v1"):
    """There is not enough of one article."""

    sku: str = field(1)
    available: int = field(2)


class Undeclared(Refusal):
    """Not in the contract of anything."""

    secret: str = field(1)


@service("acme.inventory.v1")
class Inventory(Protocol):
    """What is in the warehouse."""

    @query("GET /v1/stock/{sku}")
    async def stock(self, request: GetStock) -> Stock:
        """Tell how much there is."""
        ...

    @query("GET /v1/stock/summary")
    async def summary(self, request: Empty) -> Stock: ...

    @query("GET /v1/tagged")
    async def tagged(self, request: Tagged) -> Stock: ...

    @command("POST /v1/reservations", keyed=True, refuses=[OutOfStock])
    async def reserve(self, request: Reserve) -> Reservation:
        """Reserve all lines, or none."""
        ...

    @command("POST /v1/stock/{sku}/adjust")
    async def adjust(self, request: Adjust) -> Stock: ...

    @query("GET /v1/seen")
    async def seen(self, request: Empty) -> Seen: ...

    @command("POST /v1/seen", keyed=True)
    async def seen_keyed(self, request: Empty) -> Seen: ...

    @command("POST /v1/do")
    async def do(self, request: Do) -> Empty: ...

    @query("GET /v1/watch/{sku}", refuses=[OutOfStock])
    def watch(self, request: GetStock) -> AsyncIterator[Stock]: ...


class Handler(Inventory):
    """Counts what it does, and does what it is told."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.ran: list[str] = []
        self.cancelled = asyncio.Event()
        self.release = asyncio.Event()
        self.began = asyncio.Event()

    async def stock(self, request: GetStock) -> Stock:
        self.ran.append("stock")
        if request.sku == "nothing":
            raise Rejected("There is no such article.", status=Status.NOT_FOUND)
        return Stock(sku=request.sku, available=request.least + len(request.colours))

    async def summary(self, request: Empty) -> Stock:
        return Stock(sku="*", available=0)

    async def tagged(self, request: Tagged) -> Stock:
        return Stock(sku=",".join(request.tags[:3]), available=len(request.tags))

    async def reserve(self, request: Reserve) -> Reservation:
        self.ran.append("reserve")
        if request.lines[0].sku == "gone":
            raise OutOfStock(sku="gone", available=3)
        pieces = sum(line.quantity for line in request.lines)
        return Reservation(order_id=request.order_id, pieces=pieces, number=len(self.ran))

    async def adjust(self, request: Adjust) -> Stock:
        self.ran.append("adjust")
        return Stock(sku=request.sku, available=request.by)

    async def seen(self, request: Empty) -> Seen:
        return self._seen()

    async def seen_keyed(self, request: Empty) -> Seen:
        return self._seen()

    def _seen(self) -> Seen:
        from time import monotonic

        context = current()
        left = None if context.deadline is None else context.deadline - monotonic()
        return Seen(
            caller=context.caller,
            key=context.key,
            attempt=context.attempt,
            left=left,
            priority=context.priority,
            traceparent=context.traceparent,
        )

    async def do(self, request: Do) -> Empty:
        self.ran.append(request.what)
        self.began.set()
        match request.what:
            case "raise":
                raise ValueError("the password is hunter2")
            case "refuse":
                raise Undeclared(secret="hunter2")
            case "unavailable":
                raise Unavailable("hunter2", reason=Reason.BREAKER_OPEN, final=True)
            case "unknown":
                raise Unknown("hunter2", reason=Reason.TIMEOUT)
            case "rejected":
                raise Rejected("hunter2", where="other.Service/op")
            case "wrong":
                return Stock(sku="hunter2", available=1)  # type: ignore[return-value]
            case "wait":
                try:
                    await self.release.wait()
                except asyncio.CancelledError:
                    self.cancelled.set()
                    raise
        return Empty()

    async def watch(self, request: GetStock) -> AsyncIterator[Stock]:
        try:
            for number in range(3):
                if request.sku == "refused" or (request.sku == "gone" and number == 2):
                    raise OutOfStock(sku=request.sku, available=number)
                if request.sku == "broken" and number == 2:
                    raise ValueError("hunter2")
                yield Stock(sku=request.sku, available=number)
            if request.sku == "endless":
                await asyncio.Event().wait()
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled.set()
            raise


class Served:
    """The handler behind both doors, and where they are."""

    def __init__(self, handler: Any, dispatcher: Dispatcher, http: str, grpc: str) -> None:
        self.handler = handler
        self.dispatcher = dispatcher
        self.http = http
        self.grpc = grpc

    def url(self, scheme: str) -> str:
        return {"http": self.http, "grpc": self.grpc}[scheme]


@asynccontextmanager
async def serving(handler: object | None = None, **settings) -> AsyncIterator[Served]:
    """Serve the handler at both doors; settings are the dispatcher's, and `rest=` and `grpc=`."""
    rest_settings, grpc_settings = settings.pop("rest", {}), settings.pop("grpc", {})
    handler = handler or Handler()
    dispatcher = Dispatcher([handler], **settings)
    rest, grpc = HttpServer(Rest(dispatcher, **rest_settings)), Grpc(dispatcher, **grpc_settings)
    http_port, grpc_port = await rest.start(), await grpc.start()
    try:
        http_url, grpc_url = f"http://127.0.0.1:{http_port}", f"grpc://127.0.0.1:{grpc_port}"
        yield Served(handler, dispatcher, http_url, grpc_url)
    finally:
        await asyncio.gather(rest.stop(1), grpc.stop(0))
