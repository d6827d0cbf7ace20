"""A process that publishes, or reads as a member of a group, until it is killed.

member.py URL publish NAME COUNT     publishes COUNT records of the keys NAME-0 to NAME-4
member.py URL read GROUP LEASE       prints "<partition> <offset>" for each record it gets, and
                                     commits at each line on its standard input
"""

import asyncio
import sys

from switchgear.events.brokers.port import LeaseLost, Record
from switchgear.events.brokers.url import broker_of

TOPIC = "test.orders"


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


async def publish(url: str, name: str, count: int) -> None:
    broker = broker_of(url)
    for number in range(0, count, 10):
        await broker.publish(
            [
                Record(TOPIC, f"{name}-{one % 5}", {"number": str(one)}, b"")
                for one in range(number, number + 10)
            ]
        )
    await broker.close()


async def read(url: str, group: str, lease: float) -> None:
    loop = asyncio.get_running_loop()
    broker = broker_of(url)
    subscription = await broker.subscribe(group, [TOPIC], lease=lease)
    positions = {}
    lines: asyncio.Queue[None] = asyncio.Queue()

    def typed() -> None:
        while sys.stdin.readline():
            loop.call_soon_threadsafe(lines.put_nowait, None)

    reading = loop.run_in_executor(None, typed)
    while True:
        polled = await subscription.poll(100, 0.05)
        for partition in polled.assigned:
            say("owns", partition.number)
        for delivery in polled.deliveries:
            positions[delivery.partition] = delivery.offset + 1
            say("got", delivery.partition.number, delivery.offset)
        if not lines.empty():
            lines.get_nowait()
            try:
                await subscription.commit(positions)
                say("committed")
            except LeaseLost:
                say("lost")
        if reading.done():
            return


if __name__ == "__main__":
    url, kind, *rest = sys.argv[1:]
    if kind == "publish":
        asyncio.run(publish(url, rest[0], int(rest[1])))
    else:
        asyncio.run(read(url, rest[0], float(rest[1])))
