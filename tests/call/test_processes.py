"""Threads, forked and spawned processes: nobody waits for a lock or reads another's answer.

Real threads, real forks. Whether threads wait for each other is told by a barrier that opens only
when all of them are inside, never by a clock.
"""

from __future__ import annotations

import asyncio
import copy
import multiprocessing
import os
import pickle
import threading
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from random import Random

import grpc
import httpx
import pytest
import requests
from tests.call.cutting import DO, GrpcCallee, HttpCallee
from tests.serve.world import Do, Inventory

from switchgear.call.ask import ask_sync
from switchgear.call.client import client, close
from switchgear.call.guard import Guard
from switchgear.call.process import Sender
from switchgear.errors import PolicyError
from switchgear.model.outcome import Reason, Refused, Rejected, Status, Unavailable, Unknown
from switchgear.model.trail import Hop
from switchgear.policy.breaker import Breaker, Evidence, State
from switchgear.policy.fallback import NOTHING, Fallback, Stale
from switchgear.policy.limit import Limit
from switchgear.policy.machine import Machine
from switchgear.policy.policy import Policy

THREADS = 20
PATIENCE = 240


# --- threads --------------------------------------------------------------------------------------


def at_once(work, number=THREADS):
    """Do `work(n)` in as many threads; what one raises is raised here."""
    with ThreadPoolExecutor(number) as pool:
        return [one.result(PATIENCE) for one in [pool.submit(work, n) for n in range(number)]]


def test_threads_behind_one_guard_are_inside_at_the_same_time():
    g = Guard("stock", Policy(deadline=60))
    inside = threading.Barrier(THREADS, timeout=PATIENCE)
    locked = []

    @g
    def stock(number):
        # opens when all are inside: with a lock held during a call, nobody would come second
        inside.wait()
        locked.append(g.machine.lock.locked())
        inside.wait()
        return number

    assert at_once(stock) == list(range(THREADS))
    assert locked == [False] * THREADS
    assert g.machine.state is State.CLOSED


class Together:
    """Answers nobody before all have asked."""

    def __init__(self):
        self.asked = threading.Barrier(THREADS, timeout=PATIENCE)

    def __call__(self, callee, connection):
        callee.read(connection)
        self.asked.wait()
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")


@contextmanager
def listening(moment):
    callee = HttpCallee(moment)
    try:
        yield callee
    finally:
        callee.close()


def test_threads_ask_over_httpx_at_the_same_time():
    g = Guard("stock", Policy(deadline=60))
    with listening(Together()) as callee, httpx.Client(transport=g.httpx_sync()) as session:
        found = at_once(lambda _: session.get(f"http://127.0.0.1:{callee.port}/").status_code)
    assert found == [200] * THREADS


def test_threads_ask_over_requests_at_the_same_time():
    g = Guard("stock", Policy(deadline=60))
    with listening(Together()) as callee, requests.Session() as session:
        session.mount("http://", g.requests(requests.adapters.HTTPAdapter(pool_maxsize=THREADS)))
        found = at_once(lambda _: session.get(f"http://127.0.0.1:{callee.port}/").status_code)
    assert found == [200] * THREADS


def test_threads_ask_with_ask_sync_at_the_same_time():
    with listening(Together()) as callee:
        inventory = client(Inventory, f"http://127.0.0.1:{callee.port}", Policy(deadline=60))
        at_once(lambda _: ask_sync(inventory.do, Do(what="x")))
        asyncio.run(close(inventory))


def test_threads_ask_over_grpc_at_the_same_time():
    inside = threading.Barrier(4, timeout=PATIENCE)

    def together(_, context):
        inside.wait()
        return b""

    server = grpc.server(ThreadPoolExecutor(4))
    handler = grpc.unary_unary_rpc_method_handler(together)
    methods = grpc.method_handlers_generic_handler(DO.split("/")[1], {"Do": handler})
    server.add_generic_rpc_handlers((methods,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    g = Guard("stock", Policy(deadline=60))
    with g.grpc(grpc.insecure_channel(f"127.0.0.1:{port}")) as channel:
        do = channel.unary_unary(DO)
        assert at_once(lambda _: do(b"x"), 4) == [b""] * 4
    server.stop(0).wait(PATIENCE)


# --- pickling -------------------------------------------------------------------------------------


def again(value):
    return pickle.loads(pickle.dumps(value))  # noqa: S301  our own


@pytest.mark.parametrize(
    "settings",
    [
        Policy(),
        Policy.none(reason="a test"),
        Policy(
            deadline=0.3,
            attempt_timeout=0.1,
            breaker=Breaker(consecutive=3, evidence=(Evidence(1, 5),)),
            limit=Limit(concurrency=2),
            fallback=Fallback(stale=Stale(max_age=5), value={"a": 1}),
        ),
    ],
)
def test_settings_are_pickled_and_copied(settings):
    assert again(settings) == copy.deepcopy(settings) == settings
    assert again(settings).describe() == settings.describe()


def test_no_value_stays_no_value():
    assert again(Fallback(stale=Stale())).value is NOTHING


@pytest.mark.parametrize("kind", [Unavailable, Unknown])
def test_outcomes_are_pickled(kind):
    failure = kind("gone", reason=Reason.TIMEOUT, retry_after=1.5, final=True, where="a -> b")
    failure.attempts, failure.trail = 3, (Hop("a -> b", "unknown", "timeout"),)
    found = again(failure)
    assert type(found) is kind
    assert (str(found), found.__dict__) == (str(failure), failure.__dict__)
    rejected = again(Rejected("no", status=Status.NOT_FOUND, pointer="/sku"))
    assert (rejected.status, rejected.pointer, str(rejected)) == ("NOT_FOUND", "/sku", "[SG411] no")
    assert isinstance(rejected, Refused)


def test_what_belongs_to_a_process_refuses_and_says_what_to_do():
    g = Guard("stock")
    inventory = client(Inventory, "http://127.0.0.1:1")
    for one in (g, g.machine, inventory, g.httpx(), g.httpx_sync(), g.requests()):
        for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(PolicyError, match="belongs to the process") as raised:
                attempt(one)
        assert "each process has its own" in str(raised.value)


def test_a_machine_of_a_simulator_is_pickled_with_its_state():
    machine = Machine(Policy(breaker=Breaker(consecutive=1)), random=Random(1).random)
    call = machine.call(0, repeatable=False)
    call.ended(0, call.begin(0), Unknown(reason=Reason.RESET))
    found = again(machine)
    assert (found.state, found.policy) == (State.OPEN, machine.policy)
    assert found.random() == machine.random()


shared = Guard("shared", Policy(retry=None, breaker=Breaker(consecutive=1), deadline=60))


@shared
def which(*, fail=False):
    if fail:
        raise ConnectionResetError
    return os.getpid(), str(shared.machine.state)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_guarded_function_goes_to_another_process_by_its_name(method, monkeypatch):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    monkeypatch.syspath_prepend(Path(__file__).parents[2])
    opened()
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        process, state = pool.submit(which).result(PATIENCE)
        assert (process != os.getpid(), state) == (True, "closed")
        # what is raised there arrives here as what it is
        failure = pool.submit(which, fail=True).exception(PATIENCE)
    assert isinstance(failure, Unknown)
    assert failure.reason is Reason.RESET


def opened():
    """Open the breaker of `shared` in this process."""
    shared.machine.circuit.reload(0, shared.policy.breaker)
    with pytest.raises((Unknown, Unavailable)):
        which(fail=True)
    assert shared.machine.state is State.OPEN


# --- fork -----------------------------------------------------------------------------------------

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


def forked(work):
    """Return what `work()` returns in a forked process, as text."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork in a process with threads
        child = os.fork()
    if child == 0:
        try:
            said = str(work())
        except BaseException as error:  # noqa: BLE001  whatever it is, the parent is told
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    return said


@needs_fork
def test_policies_begin_anew_in_a_forked_process():
    opened()
    assert forked(lambda: which()[1]) == "closed"
    assert shared.machine.state is State.OPEN


@needs_fork
def test_what_was_in_flight_holds_no_place_and_no_lock_in_a_forked_process():
    g = Guard("stock", Policy(deadline=60, limit=Limit(concurrency=1, queue=0), breaker=None))
    inside, leave = threading.Event(), threading.Event()

    @g
    def stock(*, wait):
        if wait:
            inside.set()
            leave.wait(PATIENCE)
        return "well"

    thread = threading.Thread(target=stock, kwargs={"wait": True})
    thread.start()
    inside.wait(PATIENCE)
    g.machine.lock.acquire()
    try:
        assert forked(lambda: stock(wait=False)) == "well"
    finally:
        g.machine.lock.release()
    with pytest.raises(Unavailable):
        stock(wait=False)
    leave.set()
    thread.join()


class Numbered:
    """Answers each request with the number of its connection and of the request on it."""

    def __call__(self, callee, connection):
        mine = callee.connections
        for number in range(10):
            callee.read(connection)
            body = b"%d.%d" % (mine, number)
            head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
            connection.sendall(head + body)


@needs_fork
@pytest.mark.parametrize("kind", ["httpx", "requests"])
def test_a_forked_process_opens_connections_of_its_own(kind):
    g = Guard("stock", Policy(deadline=60))
    with listening(Numbered()) as callee, session_of(kind, g) as session:
        url = f"http://127.0.0.1:{callee.port}/"
        assert session.get(url).text == "1.0"
        assert forked(lambda: session.get(url).text) == "2.0"
        assert session.get(url).text == "1.1"


@needs_fork
@pytest.mark.parametrize("kind", ["httpx", "requests"])
def test_what_was_given_to_a_guard_and_used_says_so_in_a_forked_process(kind):
    g = Guard("stock", Policy(deadline=60, retry=None))
    given = httpx.HTTPTransport() if kind == "httpx" else requests.adapters.HTTPAdapter()
    with listening(Numbered()) as callee, session_of(kind, g, given) as session:
        url = f"http://127.0.0.1:{callee.port}/"
        # not used yet: nothing is shared
        assert forked(lambda: session.get(url).text) == "1.0"
        session.get(url)
        assert "before this process was forked" in forked(lambda: session.get(url))


def session_of(kind, g, given=None):
    if kind == "httpx":
        return httpx.Client(transport=g.httpx_sync(given), trust_env=False)
    session = requests.Session()
    session.trust_env = False
    session.mount("http://", g.requests(given))
    return session


@needs_fork
async def test_our_own_client_works_in_a_forked_process():
    with listening(in_json) as callee:
        inventory = client(Inventory, f"http://127.0.0.1:{callee.port}", Policy(deadline=60))

        async def do():
            await inventory.do(Do(what="x"))

        def do_sync():
            return ask_sync(inventory.do, Do(what="x")).attempts

        await do()
        await asyncio.to_thread(do_sync)
        assert forked(lambda: asyncio.run(do())) == "None"
        assert forked(do_sync) == "1"
        await do()
        await asyncio.to_thread(do_sync)
        await close(inventory)
        assert (callee.executed, callee.connections) == (6, 4)


def in_json(callee, connection):
    while True:
        callee.read(connection)
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
        )


FORKS_AFTER_GRPC = """
import asyncio, os, sys
from tests.serve.world import Do, Inventory
from switchgear.call.client import client, close
from switchgear.errors import PolicyError
from switchgear.policy.policy import Policy

inventory = client(Inventory, "grpc://127.0.0.1:" + sys.argv[1], Policy(deadline=60))
async def ask():
    await inventory.do(Do(what="x"))
asyncio.run(ask())
if os.fork() == 0:
    try:
        asyncio.run(ask())
    except PolicyError as error:
        print(error, flush=True)
    os._exit(0)
os.wait()
asyncio.run(ask())
print("and the parent goes on", flush=True)
os._exit(0)
"""


@needs_fork
def test_grpc_aio_says_that_it_does_not_survive_a_fork():
    # in a process of its own: this one has used gRPC in every way
    import subprocess
    import sys

    callee = GrpcCallee(lambda proxy, upward, kind, data: data)
    try:
        told = subprocess.run(
            [sys.executable, "-c", FORKS_AFTER_GRPC, str(callee.port)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        ).stdout
    finally:
        callee.close()
    assert "was used before this process was forked" in told
    assert "and the parent goes on" in told


def test_what_a_sender_makes_is_made_again_only_after_it_was_used():
    made = []
    sender = Sender(None, lambda: made.append(1) or object())
    before = sender.own
    sender.forked()
    assert sender.take() is before
    sender.forked()
    assert (sender.take() is before, len(made)) == (False, 2)
