"""What it costs to turn an order of ten lines into bytes and back.

    python benchmarks/codec.py [--rounds N]

Each contender does the same work in turn, round after round, so that whatever else the machine does
hits all of them alike. A figure is the median of the rounds; a ratio is the median of the ratios of
each round, with the 10th and 90th percentile beside it: how many times as long we take as that
contender. Times are CPU times of the thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import msgspec
from google.protobuf import json_format
from pydantic import BaseModel

from switchgear.contract.codec import from_json, from_proto, to_json, to_proto
from switchgear.contract.descriptors import message_class
from switchgear.contract.message import Message, field

LINES = 10


class Line(Message):
    sku: str = field(1)
    name: str = field(2)
    quantity: int = field(3)
    cents: int = field(4)


class Order(Message):
    order_id: str = field(1)
    customer_id: str = field(2)
    express: bool = field(3)
    note: str | None = field(4)
    lines: list[Line] = field(5)


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


class PydanticLine(BaseModel):
    sku: str
    name: str
    quantity: int
    cents: int


class PydanticOrder(BaseModel):
    order_id: str
    customer_id: str
    express: bool
    note: str | None
    lines: list[PydanticLine]


def an_order() -> Order:
    lines = [
        Line(sku=f"sku-{n:05}", name=f"Product number {n}", quantity=n + 1, cents=1999 + n)
        for n in range(LINES)
    ]
    return Order(
        order_id="4f8a1c9e-order", customer_id="customer-77", express=True, note=None, lines=lines
    )


def contenders() -> dict[str, dict[str, Callable[[], Any]]]:
    order = an_order()
    json, proto = to_json(order), to_proto(order)
    proto_class = message_class(Order)
    bare = proto_class.FromString(proto)
    model = PydanticOrder.model_validate_json(json)
    raw_decode = msgspec.json.Decoder(RawOrder).decode
    raw_encode = msgspec.json.Encoder().encode
    raw = raw_decode(json)

    def parse_and_read() -> None:
        message = proto_class.FromString(proto)
        _ = message.order_id, message.customer_id, message.express
        _ = message.note if message.HasField("note") else None
        for line in message.lines:
            _ = line.sku, line.name, line.quantity, line.cents

    def build_and_serialize() -> bytes:
        message = proto_class()
        message.order_id = order.order_id
        message.customer_id = order.customer_id
        message.express = order.express
        for line in order.lines:
            added = message.lines.add()
            added.sku = line.sku
            added.name = line.name
            added.quantity = line.quantity
            added.cents = line.cents
        return message.SerializeToString()

    return {
        "to_json": {
            "switchgear": lambda: to_json(order),
            "msgspec": lambda: raw_encode(raw),
            "pydantic": model.model_dump_json,
            "json_format": lambda: json_format.MessageToJson(bare),
        },
        "from_json": {
            "switchgear": lambda: from_json(Order, json),
            "msgspec": lambda: raw_decode(json),
            "pydantic": lambda: PydanticOrder.model_validate_json(json),
            "json_format": lambda: json_format.Parse(json, proto_class()),
        },
        "to_proto": {
            "switchgear": lambda: to_proto(order),
            "upb, field by field": build_and_serialize,
        },
        "from_proto": {
            "switchgear": lambda: from_proto(Order, proto),
            "upb, every field read": parse_and_read,
        },
    }


def measure(work: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in work}
    counts = {name: _count(function) for name, function in work.items()}
    for _ in range(rounds):
        for name, function in work.items():
            count = counts[name]
            start = time.thread_time()
            for _ in range(count):
                function()
            times[name].append((time.thread_time() - start) / count * 1e6)
    return times


def _count(function: Callable[[], Any]) -> int:
    """Return how many calls fill about two milliseconds."""
    function()
    start = time.perf_counter()
    for _ in range(5):
        function()
    return max(1, int(0.002 / ((time.perf_counter() - start) / 5)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200)
    rounds = parser.parse_args().rounds
    print(f"An order of {LINES} lines; {len(to_json(an_order()))} bytes of JSON, ", end="")
    print(f"{len(to_proto(an_order()))} bytes of protobuf; {rounds} rounds.\n")
    print(f"{'':12}{'':24}{'us':>8}   we take so many times as long (10th to 90th percentile)")
    for task, work in contenders().items():
        times = measure(work, rounds)
        ours = times["switchgear"]
        for name, theirs in times.items():
            ratios = sorted(o / t for t, o in zip(theirs, ours, strict=True))
            middle = statistics.median(ratios)
            low, high = ratios[len(ratios) // 10], ratios[-len(ratios) // 10]
            told = "" if name == "switchgear" else f"{middle:8.2f} ({low:.2f} to {high:.2f})"
            print(f"{task:12}{name:24}{statistics.median(theirs):8.2f}{told}")
            task = ""  # noqa: PLW2901 - printed once


if __name__ == "__main__":
    main()
