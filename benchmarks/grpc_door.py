"""What our codec, pipeline and policy cost over gRPC.

    python benchmarks/grpc_door.py [--rounds N] [--calls N]

A ten-line order goes there and back, and both sides read every field. Bare: `grpc.aio` with the
stubs that protoc generates from the exported `.proto`; no policy, no deadline unless it says so.
Ours: our client with the default policy, and our door. Client and server are processes of their
own; the pairs take turns in short rounds, so that whatever else the machine does hits all of them
alike. CPU is that of client and server together, for one call. A ratio is the median of the ratios
of each round, with the 10th and 90th percentile beside it.
"""

import argparse
import asyncio
import importlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import google.rpc
import grpc
import grpc_tools
from grpc_tools import protoc
from rest_door import CONNECTIONS, LINES, Orders, an_order, cpu, ratios, told, totals

from switchgear.call.client import client, close
from switchgear.contract.export import proto_files
from switchgear.policy.policy import Policy
from switchgear.serve.dispatch import Dispatcher
from switchgear.serve.grpc import Grpc

PAIRS = {
    "bare client, bare server": ("bare", "bare"),
    "our client, our door": ("ours", "ours"),
    "bare with a deadline, bare server": ("timed", "bare"),
    "bare client, our door": ("bare", "ours"),
    "our client, bare server": ("ours", "bare"),
    "our client without policy, our door": ("unguarded", "ours"),
}


def generate(folder: Path) -> None:
    """Write what protoc makes of the exported contract."""
    texts = proto_files(Orders)
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    common = Path(next(iter(google.rpc.__path__))).parents[1]
    paths = [f"-I{one}" for one in (folder, well_known, common)]
    outputs = [f"--python_out={folder}", f"--grpc_python_out={folder}"]
    assert protoc.main(["protoc", *paths, *outputs, *texts]) == 0


def generated() -> tuple[Any, Any]:
    sys.path.insert(0, os.environ["GENERATED"])
    return importlib.import_module("bench.v1_pb2"), importlib.import_module("bench.v1_pb2_grpc")


# --- the servers ---------------------------------------------------------------------------------


async def serve(kind: str) -> None:
    if kind == "ours":

        class Handler(Orders):
            async def place(self, request):  # type: ignore[no-untyped-def]
                raise NotImplementedError

            async def copy(self, request):  # type: ignore[no-untyped-def]
                totals(request)
                return request

        door = Grpc(Dispatcher([Handler()]))
        port = await door.start()
    else:
        pb, stubs = generated()

        class Servicer(stubs.OrdersServicer):  # type: ignore[misc]
            async def Copy(self, request, context):  # type: ignore[no-untyped-def]  # noqa: N802
                totals(request)
                return copied(pb, request)

        server = grpc.aio.server()
        stubs.add_OrdersServicer_to_server(Servicer(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
    print(port, flush=True)
    await asyncio.Event().wait()


def copied(pb: Any, order: Any) -> Any:
    """Build the reply field by field, as a handler does that has an order of its own."""
    reply = pb.Order(order_id=order.order_id, customer_id=order.customer_id, express=order.express)
    for line in order.lines:
        reply.lines.add(sku=line.sku, name=line.name, quantity=line.quantity, cents=line.cents)
    return reply


# --- the clients ---------------------------------------------------------------------------------


def our_call(port: int, policy: Policy | None) -> tuple[Callable[[], Awaitable[Any]], Any]:
    orders = client(Orders, f"grpc://127.0.0.1:{port}", policy, caller="bench")
    order = an_order()

    async def call() -> None:
        totals(await orders.copy(order))

    return call, orders


def bare_call(port: int, deadline: float | None) -> tuple[Callable[[], Awaitable[Any]], Any]:
    pb, stubs = generated()
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
    stub = stubs.OrdersStub(channel)
    order = an_order()

    async def call() -> None:
        totals(await stub.Copy(copied(pb, order), timeout=deadline))

    return call, channel


async def hammer(call: Callable[[], Awaitable[Any]], calls: int) -> float:
    """Make the calls, some at once; return how many a second."""
    left = calls

    async def work() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await call()

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
    return calls / (time.perf_counter() - began)


async def measure(ports: dict[str, tuple[int, int]], rounds: int, calls: int) -> None:
    made: dict[str, Callable[[], Awaitable[Any]]] = {}
    opened: list[Any] = []
    for name, (caller, callee) in PAIRS.items():
        port = ports[callee][0]
        if caller in ("bare", "timed"):
            made[name], one = bare_call(port, 1.0 if caller == "timed" else None)
        else:
            unguarded = Policy.none(reason="this is measured")
            made[name], one = our_call(port, unguarded if caller == "unguarded" else None)
        opened.append(one)
        await hammer(made[name], 200)
    rate: dict[str, list[float]] = {name: [] for name in PAIRS}
    cost: dict[str, list[float]] = {name: [] for name in PAIRS}
    for _ in range(rounds):
        for name in random.sample(list(PAIRS), len(PAIRS)):
            server = ports[PAIRS[name][1]][1]
            before = time.process_time() + cpu(server)
            rate[name].append(await hammer(made[name], calls))
            cost[name].append((time.process_time() + cpu(server) - before) / calls * 1e6)
    for one in opened:
        await (one.close() if isinstance(one, grpc.aio.Channel) else close(one))
    print(f"gRPC: a {LINES}-line order there and back, {CONNECTIONS} calls at once,")
    print(f"{rounds} rounds of {calls} calls each")
    for name in PAIRS:
        print(told(name, rate[name], "calls/s"))
        print(told("", cost[name], "us of CPU"))
    first, *others = PAIRS
    for name in others:
        print(told(f"calls/s, {name} : bare", ratios(rate[name], rate[first]), "x"))
        print(told("  CPU, bare : that", ratios(cost[first], cost[name]), "x"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=600)
    parser.add_argument("--serve")
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.serve))
        return
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        generate(Path(folder))
        os.environ["GENERATED"] = folder
        ports = {}
        for kind in ("bare", "ours"):
            process = subprocess.Popen(
                [sys.executable, __file__, "--serve", kind], stdout=subprocess.PIPE, text=True
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
            ports[kind] = (int(process.stdout.readline()), process.pid)  # type: ignore[union-attr]
        asyncio.run(measure(ports, options.rounds, options.calls))


if __name__ == "__main__":
    main()
