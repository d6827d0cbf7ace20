"""`ask_sync`: callers in threads, on one event loop in the background."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta

import pytest
from tests.serve.world import Do, Empty, GetStock, Inventory, Line, OutOfStock, Reserve, serving

from switchgear.call.ask import ask, ask_sync
from switchgear.call.client import AskedWrongly, client, close
from switchgear.model.context import Context, bind
from switchgear.model.outcome import Reason, Unknown
from switchgear.policy.policy import Policy

POLICY = Policy(deadline=60.0, limit=None)


@contextmanager
def elsewhere():
    """The doors, in a thread with an event loop of its own."""
    ready, stop = threading.Event(), None
    found = []

    async def main():
        nonlocal stop
        stop = asyncio.Event()
        async with serving() as served:
            found.extend((served, asyncio.get_running_loop()))
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    assert ready.wait(60)
    try:
        yield found[0]
    finally:
        found[1].call_soon_threadsafe(stop.set)
        thread.join(60)


@pytest.fixture(scope="module")
def world():
    with elsewhere() as served:
        yield served


@pytest.fixture(params=["http", "grpc"])
def inventory(world, request):
    world.handler.reset()
    made = client(Inventory, world.url(request.param), POLICY)
    yield made
    asyncio.run(close(made))


def test_many_threads_share_one_client(inventory):
    def work(number):
        answer = ask_sync(inventory.stock, GetStock(sku="tea", least=number))
        return answer.value.available, answer.attempts

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(work, range(100))) == [(number, 1) for number in range(100)]


def test_what_is_refused_is_raised_in_the_thread(inventory):
    gone = Reserve(order_id="1", lines=[Line(sku="gone", quantity=1)])
    with pytest.raises(OutOfStock):
        ask_sync(inventory.reserve, gone)
    with pytest.raises(Unknown):
        ask_sync(inventory.do, Do(what="raise"))


def test_deadline_and_context_are_those_of_the_thread(inventory):
    ask_sync(inventory.stock, GetStock(sku="tea"))  # it is connected
    with pytest.raises(Unknown) as caught:
        ask_sync(inventory.do, Do(what="wait"), deadline=timedelta(seconds=1))
    assert caught.value.reason is Reason.TIMEOUT
    with bind(Context(deadline=time.monotonic() + 50, attempt=2, key="order-1")):
        seen = ask_sync(inventory.seen, Empty()).value
        keys = [ask_sync(inventory.seen_keyed, Empty()).value.key for _ in range(2)]
    assert 0 < seen.left < 50.1
    assert seen.attempt == 2
    name = "order-1/acme.inventory.v1.Inventory/seen_keyed"
    assert keys == [name, f"{name}#2"]
    assert ask_sync(inventory.seen_keyed, Empty(), key="mine").value.key == "mine"


def test_threads_and_an_event_loop_share_one_client(inventory):
    async def main():
        with pytest.raises(AskedWrongly, match="await ask"):
            ask_sync(inventory.stock, GetStock(sku="tea"))
        sync = asyncio.to_thread(ask_sync, inventory.stock, GetStock(sku="tea", least=1))
        own = ask(inventory.stock, GetStock(sku="tea", least=2))
        answers = await asyncio.gather(sync, own)
        await close(inventory)  # on both loops
        return [answer.value.available for answer in answers]

    assert asyncio.run(main()) == [1, 2]


LEAVES = """
import sys
from tests.serve.world import GetStock, Inventory
from switchgear.call.ask import ask_sync
from switchgear.call.client import client
from switchgear.policy.policy import Policy

def asked():
    made = client(Inventory, sys.argv[1], Policy(deadline=60))
    print(ask_sync(made.stock, GetStock(sku="tea")).value.sku)
    return made

asked()  # dropped at once
kept = asked()
"""


@pytest.mark.parametrize("door", ["http", "grpc"])
def test_what_was_opened_is_closed_when_the_process_ends(world, door):
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", LEAVES, world.url(door)],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    # what asyncio says where a machine is slow is no complaint
    said = [line for line in done.stderr.splitlines() if not line.startswith("Executing <")]
    assert (done.returncode, done.stdout, said) == (0, "tea\ntea\n", [])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_process_has_a_loop_of_its_own(world):
    # gRPC's core does not survive a fork: this is about HTTP and the background thread
    made = client(Inventory, world.http, POLICY)
    ask_sync(made.stock, GetStock(sku="tea"))
    reader, writer = os.pipe()
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork in a process with threads
        child = os.fork()
    if child == 0:
        answer = b"failed"
        try:
            again = client(Inventory, world.http, POLICY)
            answer = ask_sync(again.stock, GetStock(sku="tea")).value.sku.encode()
        finally:
            os.write(writer, answer)
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    assert os.read(reader, 100) == b"tea"
    os.close(reader)
    asyncio.run(close(made))
