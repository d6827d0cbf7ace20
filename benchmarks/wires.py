"""What JSON over REST and protobuf over gRPC cost for every operation of the shop.

    python benchmarks/wires.py [--calls N] [--rounds N] [--bytes]

First the bytes of every message (with --bytes nothing else), then what a call of each operation
costs. One process serves both doors, this one calls them with the library's client, sixteen calls
at a time. CPU is what both processes used for a call, by the kernel's count, and the two doors take
turns round by round. A figure is the median of the rounds. The last column is the rate of calls at
which what gRPC saves is one core.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import statistics
import sys
import time
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from switchgear.call.client import connect
from switchgear.contract.codec import to_json, to_proto
from switchgear.contract.declaration import fields_of
from switchgear.contract.kinds import Shape
from switchgear.contract.message import Message
from switchgear.contract.money import Money
from switchgear.contract.service import Operation, ServiceContract
from switchgear.policy.policy import Policy
from switchgear.serve.dispatch import Dispatcher
from switchgear.serve.grpc import Grpc
from switchgear.serve.rest import Rest

sys.path.insert(0, str(Path(__file__).parents[1]))

LINES = 10
CONCURRENT = 16
UNGUARDED = Policy.none(reason="the wires are measured, not the policy")
CONSTANTS: dict[str, Any] = {
    "string": "order-4f8a1c9e",
    "bool": True,
    "bytes": b"0123456789abcdef",
    "double": 12.5,
    "float": 12.5,
    "timestamp": datetime(2026, 1, 31, 12, tzinfo=UTC),
    "duration": timedelta(seconds=90),
}


def example(cls: type[Message]) -> Message:
    """Return a message with something in every field; lists have ten elements."""
    if cls is Money:
        return Money.of("19.99", "EUR")
    values = {}
    for name, field in fields_of(cls).items():
        kind = field.kind
        if kind.name == "message":
            one: Any = example(kind.python)
        elif kind.name == "enum":
            one = list(kind.python)[-1]
        else:
            one = 3 if kind.is_int else CONSTANTS[kind.name]
        values[name] = [one] * LINES if field.type.shape is Shape.LIST else one
    return cls(**values)


def contracts() -> list[ServiceContract]:
    from examples.shop.contracts import Inventory, Orders, Payments, Shipping

    from switchgear.contract.service import contract_of

    return [contract_of(one) for one in (Inventory, Payments, Shipping, Orders)]


def sizes() -> None:
    """Print the bytes of every message of the shop, those of events and refusals too."""
    from examples.shop import contracts as shop

    from switchgear.contract.library import library_of

    print("| message | JSON, bytes | protobuf, bytes | smaller |\n| --- | --- | --- | --- |")
    for cls in library_of(shop).messages:
        one = example(cls)
        json, proto = len(to_json(one)), len(to_proto(one))
        print(f"| `{cls.__name__}` | {json} | {proto} | {1 - proto / json:.0%} |")
    print(flush=True)


def handler_of(contract: ServiceContract) -> object:
    """Return a handler that answers everything with the same replies."""

    def answering(operation: Operation) -> Any:
        reply = example(operation.reply)

        async def method(_self: object, _request: Message) -> Message:
            return reply

        return method

    methods = {name: answering(one) for name, one in contract.operations.items()}
    return type(f"{contract.name}Handler", (contract.protocol,), methods)()


def serve(pipe: Connection) -> None:
    """Serve both doors and tell their ports, until the pipe is closed."""
    import logging

    import uvicorn

    logging.disable(logging.CRITICAL)

    async def run() -> None:
        dispatcher = Dispatcher([handler_of(one) for one in contracts()])
        door = Grpc(dispatcher)
        grpc_port = await door.start()
        config = uvicorn.Config(
            Rest(dispatcher), port=0, http="httptools", lifespan="off", log_level="critical"
        )
        server = uvicorn.Server(config)
        serving = asyncio.ensure_future(server.serve())
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        pipe.send((server.servers[0].sockets[0].getsockname()[1], grpc_port))
        await asyncio.to_thread(pipe.poll, None)
        server.should_exit = True
        await serving
        await door.stop(0)

    asyncio.run(run())


def cpu(pid: int) -> float:
    """Return the CPU seconds that the threads of a process have used."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((one / "schedstat").read_text().split()[0]) for one in threads) / 1e9


async def cost(method: Any, request: Message, pid: int, calls: int) -> float:
    """Return the CPU microseconds that one call takes, here and there."""

    async def ask(count: int) -> None:
        for _ in range(count):
            await method(request)

    await asyncio.gather(*(ask(1) for _ in range(CONCURRENT)))
    before = cpu(pid) + time.process_time()
    await asyncio.gather(*(ask(calls // CONCURRENT) for _ in range(CONCURRENT)))
    return (cpu(pid) + time.process_time() - before) / calls * 1e6


async def measure(ports: tuple[int, int], pid: int, calls: int, rounds: int) -> None:
    columns = ("JSON, bytes", "protobuf, bytes", "smaller", "REST, us", "gRPC, us", "saved")
    print(f"| operation | {' | '.join(columns)} | one core at |")
    print(f"| {' | '.join(['---'] * 8)} |")
    for contract in contracts():
        rest, grpc = (f"http://127.0.0.1:{ports[0]}", f"grpc://127.0.0.1:{ports[1]}")
        async with (
            connect(contract.protocol, rest, UNGUARDED) as over_rest,
            connect(contract.protocol, grpc, UNGUARDED) as over_grpc,
        ):
            for operation in contract.operations.values():
                request = example(operation.request)
                found: dict[str, list[float]] = {"rest": [], "grpc": []}
                for _ in range(rounds):
                    for name, one in (("rest", over_rest), ("grpc", over_grpc)):
                        method = getattr(one, operation.name)
                        found[name].append(await cost(method, request, pid, calls))
                tell(operation, request, found)


def tell(operation: Operation, request: Message, found: dict[str, list[float]]) -> None:
    reply = example(operation.reply)
    json = len(to_json(request)) + len(to_json(reply))
    proto = len(to_proto(request)) + len(to_proto(reply))
    rest, grpc = statistics.median(found["rest"]), statistics.median(found["grpc"])
    saved = [one - other for one, other in zip(found["rest"], found["grpc"], strict=True)]
    low, high = min(saved), max(saved)
    middle = statistics.median(saved)
    rate = f"{1e6 / middle:,.0f}/s" if middle > 0 else "never"
    print(
        f"| `{operation.full_name}` | {json} | {proto} | {1 - proto / json:.0%} "
        f"| {rest:.0f} | {grpc:.0f} | {middle:.0f} ({low:.0f} to {high:.0f}) | {rate} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=800)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--bytes", action="store_true", help="only the bytes of every message")
    given = parser.parse_args()
    sizes()
    if given.bytes:
        return
    here, there = multiprocessing.get_context("spawn").Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(there,))
    server.start()
    try:
        asyncio.run(measure(here.recv(), server.pid or 0, given.calls, given.rounds))
    finally:
        here.send(None)
        server.join(10)


if __name__ == "__main__":
    main()
