"""What the edges of one caller and callee share, what each has of its own, and other policies."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from typing import Protocol
from weakref import ref

import httpx
import pytest

from switchgear.call import aio, threads
from switchgear.call.answer import new_machine
from switchgear.call.client import client_over, core_of, edges_of, reload
from switchgear.call.guard import Guard
from switchgear.contract.message import Message, field
from switchgear.contract.service import command, query, service
from switchgear.database.port import commits
from switchgear.errors import ConfigError, PolicyError
from switchgear.model.context import keyed
from switchgear.model.edge import Pattern
from switchgear.model.outcome import Ok, Reason, Unavailable, Unknown
from switchgear.policy.breaker import Breaker, State
from switchgear.policy.budget import Budget
from switchgear.policy.fallback import Fallback, Stale
from switchgear.policy.hedge import Hedge
from switchgear.policy.limit import Limit
from switchgear.policy.policy import Policy
from switchgear.policy.retry import Retry

QUICK = Retry(base=0.001, cap=0.001)


class Ask(Message):
    text: str = field(1)


class Told(Message):
    text: str = field(1)


@service("test.together.v1")
class Talk(Protocol):
    @query("GET /v1/ask/{text}")
    async def ask(self, request: Ask) -> Told: ...
    @command("POST /v1/tell")
    async def tell(self, request: Ask) -> Told: ...


class Wire:
    """Answers, or fails as it is told."""

    def __init__(self):
        self.outcome = None
        self.sent = 0

    async def send(self, operation, request, attempt, context):
        self.sent += 1
        return Ok(Told(text=request.text)) if self.outcome is None else self.outcome()

    async def close(self):
        pass


def down():
    return Unavailable(reason=Reason.CONNECT)


@pytest.fixture
def wire():
    return Wire()


async def fails(call):
    with pytest.raises((Unavailable, Unknown)):
        await call


async def test_the_operations_of_a_client_share_their_budget_and_not_their_breakers(wire):
    policy = Policy(retry=QUICK, budget=Budget(reserve=2), breaker=Breaker(consecutive=4))
    talk = client_over(Talk, wire, policy)
    wire.outcome = down
    await fails(talk.ask(Ask(text="a")))
    assert wire.sent == 3
    await fails(talk.tell(Ask(text="a")))
    assert wire.sent == 4
    await fails(talk.ask(Ask(text="a")))
    lines = core_of(talk).lines
    assert (lines["ask"].machine.state, lines["tell"].machine.state) == (State.OPEN, State.CLOSED)


async def test_operations_with_budgets_of_their_own_have_them(wire):
    talk = client_over(
        Talk,
        wire,
        Policy(retry=QUICK, budget=Budget(reserve=0)),
        operations={"tell": Policy(retry=QUICK, budget=Budget(reserve=1))},
    )
    wire.outcome = down
    await fails(talk.ask(Ask(text="a")))
    await fails(talk.tell(Ask(text="a")))
    assert wire.sent == 3


async def test_a_client_takes_another_policy_with_the_state_that_it_has(wire):
    talk = client_over(Talk, wire, Policy(breaker=Breaker(consecutive=1), budget=Budget(reserve=1)))
    wire.outcome = down
    await fails(talk.tell(Ask(text="a")))
    reload(talk, Policy(breaker=Breaker(consecutive=7)), operations={"ask": Policy(deadline=9)})
    assert core_of(talk).lines["tell"].machine.state is State.OPEN
    ask, tell = edges_of(talk)
    assert (ask.policy["deadline"], tell.policy["breaker"]["consecutive"]) == (9, 7)
    with pytest.raises(ConfigError, match="has no operation shout"):
        reload(talk, operations={"shout": Policy()})


async def test_a_client_that_is_to_keep_answers_from_now_on_does(wire):
    talk = client_over(Talk, wire)
    reload(talk, Policy(fallback=Fallback(stale=Stale()), retry=None))
    await talk.ask(Ask(text="a"))
    wire.outcome = down
    assert (await talk.ask(Ask(text="a"))).text == "a"


# guards


def test_by_default_all_behind_a_guard_is_one():
    guard = Guard("stock")
    assert guard.machine_at(operation="a") is guard.machine_at(host="b") is guard.machine


def test_a_guard_may_have_a_breaker_for_each_host_and_one_budget():
    guard = Guard("stock", per="host")
    a, b = guard.machine_at(host="a:80"), guard.machine_at(host="b:80")
    assert a is guard.machine_at(host="a:80")
    assert a.circuit is not b.circuit
    assert a.account is b.account is guard.machine.account
    assert a.name == "stock a:80"
    assert guard.describe()["per"] == "host"


def test_hosts_without_end_are_forgotten_those_used_last_stay():
    guard = Guard("stock", per="host")
    first, second = guard.machine_at(host="0"), ref(guard.machine_at(host="1"))
    for number in range(2, 1000):
        guard.machine_at(host=str(number))
    assert guard.machine_at(host="0") is first
    guard.machine_at(host="one more")
    assert guard.machine_at(host="0") is first
    gc.collect()
    assert second() is None


def test_what_is_in_use_is_reloaded_and_found_again_beyond_that_number():
    guard = Guard("stock", per="host")
    used = guard.machine_at(host="used")
    for number in range(1001):
        guard.machine_at(host=str(number))
    guard.reload(Policy(limit=Limit(concurrency=7)))
    assert used.gate.concurrency == 7
    assert guard.machine_at(host="used") is used


def test_hosts_may_be_new_while_the_policy_is_reloaded():
    guard, ended = Guard("stock", per="host"), threading.Event()

    def reload_on():
        while not ended.is_set():
            guard.reload(Policy())

    reloading = threading.Thread(target=reload_on)
    reloading.start()
    try:
        machines = [guard.machine_at(host=str(number)) for number in range(500)]
    finally:
        ended.set()
        reloading.join()
    guard.reload(Policy(limit=Limit(concurrency=7)))
    assert {machine.gate.concurrency for machine in machines} == {7}


def test_a_guard_may_have_a_breaker_for_each_function():
    guard = Guard("stock", Policy(breaker=Breaker(consecutive=1), retry=None), per="operation")

    @guard
    def broken():
        raise ConnectionResetError

    @guard
    def well():
        return 1

    for _ in range(2):
        with pytest.raises((Unavailable, Unknown)):
            broken()
    assert well() == 1


def test_what_is_not_known_is_refused():
    with pytest.raises(PolicyError, match="per is 'host', and these calls name no host"):
        Guard("stock", per="host")(len)
    with pytest.raises(PolicyError, match="per is 'port'; it has to be one of"):
        Guard("stock", per="port")


async def test_a_guard_takes_another_policy_for_all_that_it_stands_for():
    guard = Guard("stock", Policy(breaker=Breaker(consecutive=1)), per="host")
    one = guard.machine_at(host="a")
    guard.reload(Policy(deadline=7, fallback=Fallback(stale=Stale())))
    assert (one.deadline, guard.machine.deadline) == (7, 7)
    assert guard.machine_at(host="b").deadline == 7
    assert guard.policy.deadline == 7


async def test_a_function_keeps_answers_once_its_guard_is_told_to():
    guard, answers = Guard("stock", pattern=Pattern.QUERY), iter([1])

    @guard
    async def ask():
        try:
            return next(answers)
        except StopIteration:
            raise ConnectionRefusedError from None

    guard.reload(Policy(fallback=Fallback(stale=Stale()), retry=None))
    assert await ask() == 1
    assert await ask() == 1


@pytest.mark.parametrize(
    ("pattern", "count"), [(None, 2), (Pattern.COMMAND, 2), (Pattern.QUERY, 0)]
)
async def test_a_guarded_call_is_an_effect_unless_it_is_a_query(pattern, count):
    guard = Guard("stock", Policy(retry=None), pattern=pattern)

    @guard
    async def one():
        return 1

    @guard
    def two():
        return 2

    with commits() as effects:
        await one()
        two()
    assert effects.count == count


async def test_a_query_takes_no_key_of_the_work_in_progress():
    with keyed("order-7") as context:
        await Guard("stock", pattern=Pattern.QUERY)(asyncio.sleep)(0)
        assert context.sequence == {}
        await Guard("stock")(asyncio.sleep)(0)
        assert context.sequence == {"stock": 1}


async def test_a_guarded_call_that_certainly_was_not_made_is_no_effect():
    guard = Guard("stock", Policy(retry=None))

    @guard
    async def call(error):
        raise error

    with commits() as effects:
        await fails(call(ConnectionRefusedError()))
        assert effects.count == 0
        await fails(call(ConnectionResetError()))
        assert effects.count == 1


# the adapters


async def test_httpx_sends_rivals_as_requests_of_their_own():
    seen = []

    class Slow(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request):
            seen.append(request)
            if len(seen) == 1:
                await asyncio.Event().wait()
            return httpx.Response(200, text="well")

    guard = Guard("stock", Policy(hedge=Hedge(after=0.002), deadline=60))
    async with httpx.AsyncClient(transport=guard.httpx(Slow())) as client:
        response = await client.get("http://stock/tea")
    assert response.text == "well"
    first, second = seen
    assert first is not second
    assert [one.headers["switchgear-attempt"] for one in seen] == ["1", "2"]


async def test_http_adapters_have_a_breaker_for_each_host_if_asked():
    class Broken(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request):
            if request.url.host == "a":
                raise httpx.ConnectError("refused")
            return httpx.Response(200)

    guard = Guard("any", Policy(breaker=Breaker(consecutive=1), retry=None), per="host")
    async with httpx.AsyncClient(transport=guard.httpx(Broken())) as client:
        for _ in range(2):
            with pytest.raises(Unavailable):
                await client.get("http://a/")
        assert (await client.get("http://b/")).status_code == 200
    assert guard.machine_at(host="a").state is State.OPEN


@pytest.mark.parametrize(("method", "count"), [("GET", 0), ("POST", 1)])
async def test_a_request_that_may_change_something_is_an_effect(method, count):
    transport = httpx.MockTransport(lambda _: httpx.Response(200))
    async with httpx.AsyncClient(transport=Guard("stock").httpx(transport)) as client:
        with commits() as effects:
            await client.request(method, "http://stock/")
    assert effects.count == count


# many at once


def at_the_end_of_its_opening(**breaker):
    """A machine whose breaker has been open for long enough."""
    policy = Policy(deadline=60, breaker=Breaker(consecutive=1, **breaker), retry=None)
    machine = new_machine("stock", policy)
    machine.circuit.failed(0.0, machine.circuit.standing, 0.1)
    assert machine.circuit.until < time.monotonic()
    return machine


async def test_of_a_hundred_tasks_in_half_open_exactly_the_probes_ask():
    machine, go, asked = at_the_end_of_its_opening(open=0.001, probes=3), asyncio.Event(), []

    async def attempt(step):
        asked.append(step)
        await go.wait()
        return Ok(1)

    async def call():
        try:
            return (await aio.drive(machine, attempt)).value
        except Unavailable as error:
            return error.reason

    tasks = [asyncio.create_task(call()) for _ in range(100)]
    async with asyncio.timeout(60):
        while sum(task.done() for task in tasks) < 97:
            await asyncio.sleep(0)
    assert len(asked) == 3
    go.set()
    ends = [await task for task in tasks]
    assert (ends.count(1), ends.count(Reason.BREAKER_OPEN)) == (3, 97)
    assert machine.state is State.CLOSED


def test_of_a_hundred_threads_in_half_open_exactly_the_probes_ask():
    machine, go, asked = at_the_end_of_its_opening(open=0.001, probes=3), threading.Event(), []
    turned_away = threading.Semaphore(0)
    ends = []

    def attempt(step):
        asked.append(step)
        go.wait(60)
        return Ok(1)

    def call():
        try:
            ends.append(threads.drive(machine, attempt).value)
        except Unavailable as error:
            ends.append(error.reason)
            turned_away.release()

    callers = [threading.Thread(target=call) for _ in range(100)]
    for caller in callers:
        caller.start()
    for _ in range(97):
        assert turned_away.acquire(timeout=60)
    assert len(asked) == 3
    go.set()
    for caller in callers:
        caller.join(60)
    assert (ends.count(1), ends.count(Reason.BREAKER_OPEN)) == (3, 97)
    assert machine.state is State.CLOSED


async def test_functions_of_one_name_and_questions_that_are_equal_are_told_apart():
    guard = Guard("files", Policy(fallback=Fallback(stale=Stale()), retry=None))

    def client(base):
        @guard(repeatable=True)
        async def fetch(path):
            await asyncio.sleep(0)
            return f"{base}{path}"

        return fetch

    eu, us = client("eu/"), client("us/")
    assert await asyncio.gather(eu("1"), us("1"), eu(1), eu(True)) == [
        "eu/1",
        "us/1",
        "eu/1",
        "eu/True",
    ]


@pytest.mark.parametrize("error", [asyncio.CancelledError, ValueError])
async def test_what_was_cut_short_may_have_had_an_effect(error, wire):
    guard = Guard("stock", Policy(retry=None))

    @guard
    async def call():
        raise error

    with commits() as effects, pytest.raises(error):
        await call()
    assert effects.count == 1

    def broken():
        raise error

    wire.outcome = broken
    with commits() as effects, pytest.raises(error):
        await client_over(Talk, wire).tell(Ask(text="a"))
    assert effects.count == 1
    with commits() as effects, pytest.raises(error):
        await client_over(Talk, wire).ask(Ask(text="a"))
    assert effects.count == 0


async def test_a_body_that_can_be_sent_once_gets_no_rival():
    seen = []

    class Slow(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request):
            seen.append(await request.aread())
            await asyncio.sleep(0.02)
            return httpx.Response(200)

    async def body():
        yield b"once"

    guard = Guard("stock", Policy(hedge=Hedge(after=0.002), deadline=60))
    async with httpx.AsyncClient(transport=guard.httpx(Slow())) as client:
        headers = {"Idempotency-Key": "k"}
        assert (await client.post("http://stock/", content=body(), headers=headers)).is_success
    assert seen == [b"once"]


def test_reloading_gives_every_part_one_budget():
    guard = Guard("stock", Policy(budget=Budget(reserve=5)), per="host")
    one, two = guard.machine_at(host="a"), guard.machine_at(host="b")
    guard.reload(Policy(budget=Budget(reserve=7)))
    three = guard.machine_at(host="c")
    assert one.account is two.account is three.account is guard.machine.account
    assert one.account.balance(0.0) == 7
