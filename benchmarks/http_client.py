"""What our typed HTTP client costs over raw aiohttp with msgspec.

    python benchmarks/http_client.py [--rounds N] [--calls N]

Both send a ten-line order, typed, to the same server, 32 calls at once, and read a typed reply.
Raw: one aiohttp session with its defaults, `msgspec.json.encode` and a decoder of the reply's type;
no deadline, no policy. Ours: the contract's client with the default policy. They take turns in
short rounds, so that whatever else the machine does hits both alike. CPU is that of the client's
process, for one call. A ratio is the median of the ratios of each round, with the 10th and 90th
percentile beside it. The server is ours on granian, in a process of its own.
"""

import argparse
import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import msgspec
from grpc_door import hammer
from rest_door import CONNECTIONS, LINES, Orders, an_order, ratios, serving, told

from switchgear.call.client import client, close
from switchgear.policy.policy import Policy


class RawLine(msgspec.Struct):
    sku: str
    name: str
    quantity: int
    cents: int


class RawOrder(msgspec.Struct):
    order_id: str
    customer_id: str
    express: bool
    note: str | None
    lines: list[RawLine]


class RawAccepted(msgspec.Struct):
    order_id: str
    pieces: int
    cents: int


async def measure(port: int, rounds: int, calls: int) -> None:
    url = f"http://127.0.0.1:{port}"
    order = an_order()
    raw_order = msgspec.convert(msgspec.to_builtins(order), RawOrder)
    decode = msgspec.json.Decoder(RawAccepted).decode
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
    headers = {"content-type": "application/json"}
    guarded = client(Orders, url, caller="bench")
    unguarded = client(Orders, url, Policy.none(reason="this is measured"), caller="bench")

    async def raw() -> Any:
        body = msgspec.json.encode(raw_order)
        async with session.post(f"{url}/v1/orders", data=body, headers=headers) as answer:
            return decode(await answer.read())

    subjects: dict[str, Callable[[], Awaitable[Any]]] = {
        "aiohttp and msgspec": raw,
        "switchgear": lambda: guarded.place(order),
        "switchgear without policy": lambda: unguarded.place(order),
    }
    rate: dict[str, list[float]] = {name: [] for name in subjects}
    cost: dict[str, list[float]] = {name: [] for name in subjects}
    for call in subjects.values():
        await hammer(call, 200)
    for _ in range(rounds):
        for name in random.sample(list(subjects), len(subjects)):
            before = time.process_time()
            rate[name].append(await hammer(subjects[name], calls))
            cost[name].append((time.process_time() - before) / calls * 1e6)
    await session.close()
    await close(guarded)
    await close(unguarded)
    print(f"HTTP client: POST of a {LINES}-line order, {CONNECTIONS} calls at once,")
    print(f"{rounds} rounds of {calls} calls each")
    for name in subjects:
        print(told(name, rate[name], "calls/s"))
        print(told("", cost[name], "us of CPU"))
    first, *others = subjects
    for name in others:
        print(told(f"calls/s, {name} : raw", ratios(rate[name], rate[first]), "x"))
        print(told("  CPU, raw : that", ratios(cost[first], cost[name]), "x"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--calls", type=int, default=400)
    options = parser.parse_args()
    with serving("switchgear", "granian") as (port, _):
        asyncio.run(measure(port, options.rounds, options.calls))


if __name__ == "__main__":
    main()
