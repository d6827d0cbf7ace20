"""What a REST door costs: POST of a ten-line order, validated, typed, every field read.

    python benchmarks/rest_door.py [--rounds N] [--seconds S] [--servers uvicorn,granian]

The same handler behind our REST door, Litestar with msgspec, and FastAPI with pydantic, each in a
process of its own on the same server with one worker. One client with 32 connections asks them in
turn, in short rounds, so that whatever else the machine does hits all of them alike. A ratio is the
median of the ratios of each round, with the 10th and 90th percentile beside it. CPU is that of the
server's process, for one request.
"""

import argparse
import os
import random
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from switchgear.contract.codec import to_json
from switchgear.contract.message import Message, field
from switchgear.contract.service import command, service

LINES = 10
CONNECTIONS = 32
CONTENDERS = ("switchgear", "litestar", "fastapi")


class Line(Message, package="bench.v1"):
    sku: str = field(1)
    name: str = field(2)
    quantity: int = field(3)
    cents: int = field(4)


class Order(Message, package="bench.v1"):
    order_id: str = field(1)
    customer_id: str = field(2)
    express: bool = field(3)
    note: str | None = field(4)
    lines: list[Line] = field(5)


class Accepted(Message, package="bench.v1"):
    order_id: str = field(1)
    pieces: int = field(2)
    cents: int = field(3)


@service("bench.v1")
class Orders(Protocol):
    @command("POST /v1/orders")
    async def place(self, request: Order) -> Accepted: ...

    @command("POST /v1/orders/copy")
    async def copy(self, request: Order) -> Order: ...


def an_order() -> Order:
    lines = [
        Line(sku=f"sku-{n:05}", name=f"Product number {n}", quantity=n + 1, cents=1999 + n)
        for n in range(LINES)
    ]
    return Order(
        order_id="4f8a1c9e-order", customer_id="customer-77", express=True, note=None, lines=lines
    )


def totals(order: Any) -> tuple[int, int]:
    """Read every field, as a handler would."""
    pieces = cents = len(order.order_id) + len(order.customer_id) - 25 - order.express
    for line in order.lines:
        pieces += line.quantity + len(line.sku) - 9
        cents += line.quantity * line.cents + len(line.name) - 16
    return pieces, cents


# --- the contenders ------------------------------------------------------------------------------


def switchgear() -> Any:
    from switchgear.serve.dispatch import Dispatcher
    from switchgear.serve.rest import Rest

    class Handler(Orders):
        async def place(self, request: Order) -> Accepted:
            pieces, cents = totals(request)
            return Accepted(order_id=request.order_id, pieces=pieces, cents=cents)

        async def copy(self, request: Order) -> Order:
            totals(request)
            return request

    return Rest(Dispatcher([Handler()]))


def litestar() -> Any:
    import msgspec
    from litestar import Litestar, post

    class LineIn(msgspec.Struct):
        sku: str
        name: str
        quantity: int
        cents: int

    class OrderIn(msgspec.Struct):
        order_id: str
        customer_id: str
        express: bool
        note: str | None
        lines: list[LineIn]

    class AcceptedOut(msgspec.Struct):
        order_id: str
        pieces: int
        cents: int

    @post("/v1/orders", status_code=200)
    async def place(data: OrderIn) -> AcceptedOut:
        pieces, cents = totals(data)
        return AcceptedOut(data.order_id, pieces, cents)

    return Litestar([place], openapi_config=None)


def fastapi() -> Any:
    from fastapi import FastAPI
    from pydantic import BaseModel

    class LineIn(BaseModel):
        sku: str
        name: str
        quantity: int
        cents: int

    class OrderIn(BaseModel):
        order_id: str
        customer_id: str
        express: bool
        note: str | None
        lines: list[LineIn]

    class AcceptedOut(BaseModel):
        order_id: str
        pieces: int
        cents: int

    app = FastAPI(openapi_url=None)

    @app.post("/v1/orders")
    async def place(order: OrderIn) -> AcceptedOut:
        pieces, cents = totals(order)
        return AcceptedOut(order_id=order.order_id, pieces=pieces, cents=cents)

    return app


def application() -> Any:
    """Return the contender that the environment names: servers import it."""
    return {"switchgear": switchgear, "litestar": litestar, "fastapi": fastapi}[
        os.environ["CONTENDER"]
    ]()


# --- processes -----------------------------------------------------------------------------------


@contextmanager
def serving(contender: str, server: str) -> Iterator[tuple[int, int]]:
    """Run a contender in a process of its own; yields its port and its process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    target = "rest_door:application"
    command_line = {
        "uvicorn": [
            "uvicorn",
            target,
            "--factory",
            "--port",
            str(port),
            "--log-level",
            "error",
            "--no-access-log",
            "--lifespan",
            "off",
        ],
        "granian": [
            "granian",
            target,
            "--factory",
            "--interface",
            "asginl",
            "--port",
            str(port),
            "--workers",
            "1",
            "--log-level",
            "error",
            "--no-ws",
        ],
    }[server]
    process = subprocess.Popen(
        [sys.executable, "-m", *command_line],
        cwd=Path(__file__).parent,
        env={**os.environ, "CONTENDER": contender},
        start_new_session=True,
    )
    try:
        wait_for(port)
        yield port, process.pid
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(10)


def wait_for(port: int) -> None:
    until = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
        else:
            return


def cpu(process: int) -> float:
    """Return the CPU seconds of a process, its threads and its children."""
    used = 0.0
    for task in Path(f"/proc/{process}/task").iterdir():
        used += int((task / "schedstat").read_text().split()[0]) / 1e9
        used += sum(cpu(int(child)) for child in (task / "children").read_text().split())
    return used


class Load:
    """A client that costs little: raw sockets, one request in flight on each."""

    def __init__(self, port: int, request: bytes) -> None:
        self._request = request
        self._selector = selectors.DefaultSelector()
        for _ in range(CONNECTIONS):
            one = socket.create_connection(("127.0.0.1", port))
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(one, selectors.EVENT_READ, bytearray())

    def run(self, seconds: float) -> float:
        """Return the requests a second."""
        request, done = self._request, 0
        began = time.perf_counter()
        until = began + seconds
        waiting = len(self._selector.get_map())
        for key in self._selector.get_map().values():
            key.fileobj.send(request)
        while waiting:
            for key, _ in self._selector.select(1):
                data = key.data
                data += key.fileobj.recv(65536)
                if not complete(data):
                    continue
                assert data.startswith(b"HTTP/1.1 20"), bytes(data)
                data.clear()
                done += 1
                if time.perf_counter() < until:
                    key.fileobj.send(request)
                else:
                    waiting -= 1
        return done / (time.perf_counter() - began)


def complete(data: bytearray) -> bool:
    head, separator, body = data.partition(b"\r\n\r\n")
    if not separator:
        return False
    begin = head.lower().index(b"content-length:") + 15
    end = head.find(b"\r\n", begin)
    return len(body) >= int(head[begin : end if end > 0 else len(head)])


def post(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


# --- the measurement -----------------------------------------------------------------------------


def quantiles(values: list[float]) -> tuple[float, float, float]:
    values = sorted(values)
    last = len(values) - 1
    return statistics.median(values), values[round(last * 0.1)], values[round(last * 0.9)]


def told(name: str, values: list[float], unit: str) -> str:
    middle, low, high = quantiles(values)
    return f"  {name:<34}{middle:>10.2f} {unit:<12}({low:.2f} to {high:.2f})"


def ratios(first: list[float], second: list[float]) -> list[float]:
    return [one / other for one, other in zip(first, second, strict=True)]


def measure(server: str, rounds: int, seconds: float) -> None:
    request = post("/v1/orders", to_json(an_order()))
    rate: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    cost: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    with (
        serving(CONTENDERS[0], server) as one,
        serving(CONTENDERS[1], server) as two,
        serving(CONTENDERS[2], server) as three,
    ):
        places = dict(zip(CONTENDERS, (one, two, three), strict=True))
        loads = {name: Load(port, request) for name, (port, _) in places.items()}
        for load in loads.values():
            load.run(0.5)
        for _ in range(rounds):
            for name in random.sample(CONTENDERS, len(CONTENDERS)):
                before = cpu(places[name][1])
                found = loads[name].run(seconds)
                rate[name].append(found)
                cost[name].append((cpu(places[name][1]) - before) / (found * seconds) * 1e6)
    print(f"\nREST door on {server}: POST of a {LINES}-line order, {CONNECTIONS} connections,")
    print(f"{rounds} rounds of {seconds:g} s each")
    for name in CONTENDERS:
        print(told(name, rate[name], "requests/s"))
        print(told("", cost[name], "us of CPU"))
    for name in CONTENDERS[1:]:
        print(told(f"requests/s, switchgear : {name}", ratios(rate["switchgear"], rate[name]), "x"))
        print(told(f"CPU, {name} : switchgear", ratios(cost[name], cost["switchgear"]), "x"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--servers", default="uvicorn,granian")
    options = parser.parse_args()
    for server in options.servers.split(","):
        measure(server, options.rounds, options.seconds)


if __name__ == "__main__":
    main()
