"""A broker with a server: our adapter beside FastStream and the raw client, on the same server.

    python benchmarks/brokers.py --broker nats [--rounds 15] [--events 4000] [--url nats://...]
    python benchmarks/brokers.py --broker kafka --rounds 4 [--consume 100000] [--only produce]
    python benchmarks/brokers.py --broker rabbitmq
    python benchmarks/brokers.py --broker sqs --events 2000          # ElasticMQ, a stand-in

Without a URL the server is started on loopback, and it flushes to the disk before it confirms.
Every event has 200 bytes and the six headers of a CloudEvent, and over 100 keys go to 8 partitions.

- publish: 64 publishers, each awaits the confirmation of one event before it publishes the next.
- produce (Kafka): as fast as the client takes them, and the confirmation of all. Ours: publishes
  of 500, all under way at once. Raw: one pipeline that is told of nothing but its end, and one that
  is told of each event, as ours is. Waiting for each 500: both confirm 500 before the next begin.
- relay (Kafka): `--consume` events that wait in an outbox on PostgreSQL, read, published in batches
  of up to 1000, deleted; beside it the raw client, which neither reads nor deletes anything.
- consume: `--consume` events that wait on the broker, each acknowledged once it was handled (ours,
  through the port: once for each poll). The clock starts when a tenth is consumed, for everybody:
  joining a group takes a time of its own. Through the lanes: with `inbox=False`, and with the
  inbox and the handlers in transactions on SQLite, which the others have nothing like; on Kafka
  also with it on PostgreSQL, started beside it. FastStream decodes the JSON, as the lanes do; the
  raw clients look at nothing.

Each round times every subject once, in a new random order; a ratio is taken inside one round, so a
machine that is busy in one round is busy for both. Printed are the median over the rounds and the
range of the middle half. Peers that are not installed are left out.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from broker_peers.kafka import kafka_subjects
from broker_peers.nats import nats_subjects
from broker_peers.rabbitmq import rabbitmq_subjects
from broker_peers.sqs import sqs_subjects
from services import make

BOUND = 120.0
BROKERS = {
    "nats": nats_subjects,
    "kafka": kafka_subjects,
    "rabbitmq": rabbitmq_subjects,
    "sqs": sqs_subjects,
}


def spread(values: list[float], form: str) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"


async def measure(
    broker: str, url: str, rounds: int, *, events: int, consumed: int, only: str
) -> None:
    rates: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    async with BROKERS[broker](url) as subjects:
        for number in range(rounds + 1):
            for what, by in subjects.items():
                if only not in what:
                    continue
                count = events if what == "publish" else consumed
                order = list(by.items())
                random.shuffle(order)
                for who, subject in order:
                    async with asyncio.timeout(BOUND):
                        rate = count / await subject(count)
                    if number:  # the first round warms up
                        rates[what][who].append(rate)
    for what, by in rates.items():
        count = events if what == "publish" else consumed
        print(f"\n{what}, {count} events, {rounds} rounds: events/s, and ours : theirs")
        for who, found in by.items():
            print(f"  {who:24} {spread(found, ',.0f')}")
        for who in [one for one in by if one.startswith("ours")]:
            for peer in [one for one in by if not one.startswith("ours")]:
                ratios = [a / b for a, b in zip(by[who], by[peer], strict=True)]
                print(f"  {who} : {peer:20} {spread(ratios, '.2f')}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--broker", choices=list(BROKERS), default="nats")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--events", type=int, default=4_000)
    parser.add_argument("--consume", type=int, help="default: 100,000 on Kafka, else --events")
    parser.add_argument("--url", help="of a server that runs already")
    parser.add_argument("--only", default="", help="what has this in its name")
    options = parser.parse_args()
    consumed = options.consume or (100_000 if options.broker == "kafka" else options.events)

    def run(url: str) -> None:
        counts = {"events": options.events, "consumed": consumed}
        asyncio.run(measure(options.broker, url, options.rounds, **counts, only=options.only))

    if options.url:
        run(options.url)
        return
    with tempfile.TemporaryDirectory(prefix="switchgear-bench-") as folder:
        server = make(options.broker, Path(folder))
        try:
            run(server.url)
        finally:
            server.kill()


if __name__ == "__main__":
    main()
