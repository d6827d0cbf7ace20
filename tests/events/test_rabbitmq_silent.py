"""A queue without a leader on a real RabbitMQ: its partition waits, and the others go on."""

import asyncio
import contextlib
import os
import secrets
import subprocess

import pytest

from switchgear.database.sqlite import Sqlite
from switchgear.events.brokers import rabbitmq_asking, rabbitmq_group
from switchgear.events.brokers.hashing import partition_of
from switchgear.events.brokers.port import BrokerUnavailable, Partition, Record
from switchgear.events.brokers.rabbitmq_asking import unanswered
from switchgear.events.brokers.rabbitmq_client import RabbitSettings
from switchgear.events.brokers.url import broker_of
from switchgear.events.bus import Bus
from tests.events.world import OrderPlaced, until
from tests.servers import own

TOPIC = "test.orders"
KEYS = {partition_of(str(number), 3): str(number) for number in range(30)}
"""A key of each of three partitions."""
BREAKS = {
    "hangs": ("sys:suspend(whereis({0}))", "sys:resume(whereis({0}))"),
    "is gone": (
        "ra:stop_server(quorum_queues, {{{0}, node()}})",
        "ra:restart_server(quorum_queues, {{{0}, node()}})",
    ),
}


@pytest.fixture(scope="module")
def server():
    with own("rabbitmq") as found:
        yield found


@pytest.fixture
def evaluate(server):
    """Lets the server do something to a queue's process; `{0}` is its name."""

    def run(code, queue):
        name = f'list_to_atom("%2F_{queue}")'
        subprocess.run(
            [
                server.program.parent / "rabbitmqctl",
                "-n",
                server._node,
                "eval",
                f"{code.format(name)}.",
            ],
            check=True,
            capture_output=True,
            env={
                **os.environ,
                "HOME": str(server.folder),
                "ERL_EPMD_PORT": str(server._mapper),
                "ERL_EPMD_ADDRESS": "127.0.0.1",
                "RABBITMQ_CTL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            },
        )

    return run


@pytest.fixture
def prefix():
    return f"t{secrets.token_hex(6)}."


@pytest.fixture
async def broker(server, prefix):
    opened = broker_of(f"{server.url}?prefix={prefix}&partitions=3")
    yield opened
    await opened.close()


@pytest.fixture(params=BREAKS)
def broken(request, evaluate, prefix, monkeypatch):
    """Breaks the queue of the partition that it is called with, and mends it when called again."""
    monkeypatch.setattr(rabbitmq_group, "_PATIENCE", 2.0)
    monkeypatch.setattr(rabbitmq_group, "_AGAIN_MOST", 0.2)
    breaking = iter(BREAKS[request.param])

    def change(group, number):
        evaluate(next(breaking), f"{prefix}{group}/{TOPIC}/{number}")

    return change


async def polled(subscription, owned, wanted, values=()):
    """Poll until `wanted` is owned and `values` have come; `owned` is kept up to date."""
    found = []
    async with asyncio.timeout(60):
        while owned != wanted or set(found) != set(values):
            told = await subscription.poll(100, 1.0)
            owned.update(told.assigned)
            owned.difference_update(told.lost, told.revoking)
            await subscription.release(told.revoking)
            found += [one.value for one in told.deliveries]


async def test_a_queue_that_does_not_answer_costs_nobody_the_others(broker, broken, caplog):
    await broker.declare("g", [TOPIC])
    broken("g", 1)
    silent, others = Partition(TOPIC, 1), {Partition(TOPIC, 0), Partition(TOPIC, 2)}
    first, owned = await broker.subscribe("g", [TOPIC]), set()
    await broker.publish([Record(TOPIC, KEYS[number], {}, b"%d" % number) for number in (0, 2)])
    await polled(first, owned, others, [b"0", b"2"])

    def said():
        return [one.getMessage() for one in caplog.records if "[1]; other" in one.getMessage()]

    await until(said, within=60)
    connection = first._ledger._connection

    async def told():
        with contextlib.suppress(BrokerUnavailable):  # not in time: then the next time
            return (await broker.lag("g", [TOPIC])).silent == {silent}
        return False

    await until(told)
    second, owned_too = await broker.subscribe("g", [TOPIC]), set()
    await shared(first, owned, second, owned_too, others)
    assert first._ledger._connection is connection, "it was not lost over it"
    broken("g", 1)
    everything = {silent, *others}
    await shared(first, owned, second, owned_too, everything)
    await broker.publish([Record(TOPIC, KEYS[1], {}, b"1")])
    found = []
    async with asyncio.timeout(60):
        while b"1" not in found:
            for member in (first, second):
                found += [one.value for one in (await member.poll(100, 0.2)).deliveries]
    assert not (await broker.lag("g", [TOPIC])).silent


async def shared(first, owned, second, owned_too, wanted):
    """Let both members poll until they own `wanted` between them, and each something."""
    async with asyncio.timeout(60):
        while not (owned and owned_too and owned | owned_too == wanted):
            for member, its in ((first, owned), (second, owned_too)):
                told = await member.poll(100, 0.1)
                its.update(told.assigned)
                its.difference_update(told.lost, told.revoking)
                await member.release(told.revoking)
    assert not owned & owned_too


async def test_one_of_many_that_ends_the_connection_is_found(server, evaluate, broker, prefix):
    await broker.declare("g", [TOPIC])
    queues = [f"{prefix}g/{TOPIC}/{number}" for number in range(3)]
    settings = RabbitSettings([("127.0.0.1", server.port)])
    assert await unanswered(settings, [*queues, "no such queue"], within=30.0) == frozenset()
    evaluate(BREAKS["is gone"][0], queues[2])
    assert await unanswered(settings, queues, within=30.0) == {queues[2]}
    assert await unanswered(settings, [], within=30.0) == frozenset()


async def test_who_ended_a_connection_is_found_whatever_the_others_saw(monkeypatch):
    class Line:
        lost = False

        def __init__(self, *_):
            lines.append(self)

        async def connection(self): ...

        async def close(self): ...

    async def answers(line, queue, within):
        line.lost = line.lost or queue in {"3", "4"}
        await asyncio.sleep(0)
        return None if line.lost else queue != "6"

    lines = []
    monkeypatch.setattr(rabbitmq_asking, "Link", Line)
    monkeypatch.setattr(rabbitmq_asking, "_answers", answers)
    queues = [str(number) for number in range(8)]
    settings = RabbitSettings([("127.0.0.1", 1)])
    assert await unanswered(settings, queues, within=1.0) == {"3", "4", "6"}
    assert len(lines) < 2 * len(queues)


async def test_it_is_told_in_the_health_of_the_subscription(broker, broken, tmp_path):
    await broker.declare("one.x", [TOPIC])
    broken("one.x", 0)
    database = Sqlite(tmp_path / "one.db")
    bus = Bus(broker, database, "one")

    @bus.on(OrderPlaced, name="x", on_failure="block_key")
    async def handle(event: OrderPlaced, tx) -> None: ...

    await bus.start()

    async def told() -> tuple[int, str | None] | None:
        with contextlib.suppress(BrokerUnavailable):  # it did not tell in time: then the next time
            found = (await bus.health()).subscriptions["one.x"]
            return found.silent, found.error
        return None

    async def silent():
        return await told() == (1, f"the broker does not answer for {TOPIC}[0]")

    async def well():
        return await told() == (0, None)

    await until(silent, within=60)
    broken("one.x", 0)
    await until(well, within=60)
    await bus.stop()
    await database.close()
