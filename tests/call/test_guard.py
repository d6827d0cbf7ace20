"""Guards around functions."""

from __future__ import annotations

import asyncio
import inspect
import socket
import ssl
import sys
import threading
import time

import pytest

from switchgear.call.answer import Answer, inherited, remaining
from switchgear.call.guard import Guard, classify
from switchgear.call.marks import headers, http_failure, retry_after
from switchgear.errors import MissingExtra, PolicyError
from switchgear.model.context import Context, Priority, bind, current, derived_key
from switchgear.model.edge import Pattern
from switchgear.model.outcome import Reason, Refused, Rejected, Unavailable, Unknown
from switchgear.policy.breaker import Breaker, State
from switchgear.policy.fallback import Fallback, Stale
from switchgear.policy.policy import Policy
from switchgear.policy.retry import Retry


def guard(pattern=None, classify=None, **parts):
    parts.setdefault("retry", Retry(base=0.001, cap=0.001))
    parts.setdefault("deadline", 60)
    return Guard("stock", Policy(**parts), pattern=pattern, classify=classify)


class Flaky:
    """Raises what it is told, one after the other, then answers."""

    def __init__(self, *errors):
        self.errors = list(errors)
        self.asked = 0

    def __call__(self):
        self.asked += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


# what an exception means


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (ConnectionRefusedError("refused"), Unavailable, Reason.CONNECT),
        (socket.gaierror(-2, "name not known"), Unavailable, Reason.CONNECT),
        (ssl.SSLCertVerificationError("expired"), Unavailable, Reason.CONNECT),
        (TimeoutError(), Unknown, Reason.TIMEOUT),
        (ConnectionResetError("reset"), Unknown, Reason.RESET),
        (BrokenPipeError("pipe"), Unknown, Reason.RESET),
        (ssl.SSLError("bad record"), Unknown, Reason.RESET),
        (OSError(113, "no route to host"), Unknown, Reason.RESET),
    ],
)
def test_what_an_exception_means(error, kind, reason):
    found = classify(error)
    assert (type(found), found.reason, found.__cause__) == (kind, reason, error)


@pytest.mark.parametrize("error", [ValueError("no"), KeyError("k"), FileNotFoundError(2, "f")])
def test_what_an_exception_does_not_mean(error):
    assert classify(error) is None


def test_an_outcome_means_itself():
    no = Rejected("no")
    assert classify(no) is no


# functions


async def test_an_async_function_keeps_its_face_and_gets_a_policy():
    flaky = Flaky(ConnectionRefusedError(), ConnectionRefusedError())

    @guard()
    async def stock(sku: str) -> str:
        """How many are left."""
        return f"{sku}: {flaky()}"

    assert await stock("a") == "a: answer"
    assert flaky.asked == 3
    assert (stock.__name__, stock.__doc__) == ("stock", "How many are left.")
    assert inspect.iscoroutinefunction(stock)


def test_a_sync_function_keeps_its_face_and_gets_a_policy():
    flaky = Flaky(ConnectionRefusedError(), ConnectionRefusedError())

    @guard()
    def stock(sku: str) -> str:
        return f"{sku}: {flaky()}"

    assert stock(sku="a") == "a: answer"
    assert flaky.asked == 3
    assert not inspect.iscoroutinefunction(stock)


@pytest.mark.parametrize(
    ("pattern", "options", "asked"),
    [
        (None, {}, 1),
        (None, {"repeatable": True}, 3),
        (Pattern.QUERY, {}, 3),
        (Pattern.QUERY, {"repeatable": False}, 1),
        (Pattern.COMMAND, {}, 1),
    ],
)
def test_what_may_have_been_done_is_repeated_only_where_that_is_declared(pattern, options, asked):
    flaky = Flaky(*(TimeoutError() for _ in range(9)))
    with pytest.raises(Unknown) as raised:
        guard(pattern)(**options)(flaky)()
    assert (flaky.asked, raised.value.attempts) == (asked, asked)
    assert isinstance(raised.value.__cause__, TimeoutError)


def test_a_keyed_function_is_repeated_where_it_has_a_key():
    g, seen = guard(), []

    @g(keyed="key")
    def pay(amount, *, key=None):
        seen.append((amount, key))
        raise TimeoutError

    with pytest.raises(Unknown) as raised:
        pay(5, key="order-7")
    assert seen == [(5, "order-7")] * 3
    assert raised.value.key == "order-7"
    with pytest.raises(Unknown) as raised:
        pay(5)
    assert (len(seen), raised.value.key) == (4, None)


async def test_methods_can_be_guarded():
    g = guard()

    class Inventory:
        def __init__(self):
            self.flaky = Flaky(ConnectionRefusedError())

        @g
        async def stock(self):
            return self.flaky()

        @g
        def stock_sync(self):
            return self.flaky()

    inventory = Inventory()
    assert await inventory.stock() == "answer"
    assert inventory.stock_sync() == "answer"
    assert await g.ask(inventory.stock) == Answer("answer")
    assert g.ask(inventory.stock_sync) == Answer("answer")


def test_everything_behind_a_guard_shares_its_breaker():
    g = guard(breaker=Breaker(consecutive=2), retry=None)
    fails, works = g(Flaky(ConnectionRefusedError(), ConnectionRefusedError())), g(lambda: 1)
    for _ in range(2):
        with pytest.raises(Unavailable):
            fails()
    assert g.machine.state is State.OPEN
    with pytest.raises(Unavailable) as raised:
        works()
    assert (raised.value.reason, raised.value.local) == (Reason.BREAKER_OPEN, True)


def test_an_exception_that_means_nothing_is_raised_as_it_is_and_feeds_nothing():
    g = guard(Pattern.QUERY, breaker=Breaker(consecutive=1))
    bug = KeyError("bug")
    flaky = Flaky(bug)
    with pytest.raises(KeyError) as raised:
        g(flaky)()
    assert raised.value is bug
    assert (flaky.asked, g.machine.state, g.machine.gate.in_flight) == (1, State.CLOSED, 0)


def test_who_knows_better_says_what_an_exception_means():
    class OutOfStock(Exception):
        pass

    class Down(Exception):
        pass

    def mine(error):
        if isinstance(error, OutOfStock):
            return Refused("out of stock")
        return Unknown(reason=Reason.SERVER_ERROR) if isinstance(error, Down) else None

    g = guard(classify=mine, breaker=Breaker(consecutive=2), retry=None)
    with pytest.raises(Refused) as refused:
        g(Flaky(OutOfStock()))()
    assert isinstance(refused.value.__cause__, OutOfStock)
    for _ in range(2):
        with pytest.raises(Unknown):
            g(Flaky(Down()))()
    assert g.machine.state is State.OPEN
    with pytest.raises(Unavailable):
        guard(classify=mine, retry=None)(Flaky(ConnectionRefusedError()))()


async def test_a_guarded_function_that_is_too_slow_is_cancelled():
    @guard(deadline=0.02)
    async def slow():
        await asyncio.sleep(30)

    with pytest.raises(Unknown) as raised:
        await slow()
    assert raised.value.reason is Reason.TIMEOUT


async def test_cancelling_a_guarded_call_cancels_it():
    g = guard()

    @g
    async def slow():
        await asyncio.sleep(30)

    task = asyncio.create_task(slow())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert g.machine.gate.in_flight == 0


async def test_asking_shows_whether_an_answer_is_degraded_and_how_old():
    g = guard(Pattern.QUERY, fallback=Fallback(stale=Stale()), retry=None)
    errors = []

    @g
    async def stock(sku, *, site="all"):
        if errors:
            raise errors.pop()
        return f"{sku} at {site}"

    assert await g.ask(stock, "a", site="x") == Answer("a at x")
    errors.append(TimeoutError())
    stale = await g.ask(stock, "a", site="x")
    assert (stale.value, stale.degraded, stale.age is not None) == ("a at x", True, True)
    errors.append(TimeoutError())
    with pytest.raises(Unknown):
        await stock("b", site="x")
    # what cannot be hashed is not kept
    await stock(["a"])
    errors.append(TimeoutError())
    with pytest.raises(Unknown):
        await stock(["a"])


def test_asking_what_is_not_guarded_is_refused():
    g, other = guard(), guard()
    with pytest.raises(PolicyError, match="not guarded by this guard"):
        g.ask(len, "abc")
    with pytest.raises(PolicyError, match="not guarded by this guard"):
        g.ask(other(len), "abc")


# what cannot be guarded


def test_generators_are_refused():
    def values():
        yield 1

    async def async_values():
        yield 1

    for function in (values, async_values):
        with pytest.raises(PolicyError, match="a generator cannot be guarded"):
            guard()(function)


def test_what_is_no_name_or_no_policy_is_refused():
    for name in ("", Policy()):
        with pytest.raises(PolicyError, match="is no name of a callee"):
            Guard(name)
    with pytest.raises(PolicyError, match="3 is no policy"):
        Guard("stock", 3)
    with pytest.raises(PolicyError, match="3 is no policy"):
        guard().reload(3)


@pytest.mark.parametrize("thing", [str, 7])
def test_what_is_no_function_is_refused(thing):
    with pytest.raises(PolicyError, match="is not a function"):
        guard()(thing)


def test_what_returns_something_unfinished_is_refused_when_it_does():
    async def coroutine():
        """Never run."""

    for lazy in (lambda: (n for n in range(3)), lambda: coroutine()):  # noqa: PLW0108
        with pytest.raises(PolicyError, match="has not run yet"):
            guard()(lazy)()


def test_a_key_that_is_no_parameter_and_a_pattern_that_is_no_call_are_refused():
    with pytest.raises(PolicyError, match="names no parameter"):
        guard()(keyed="kee")(lambda key: key)
    with pytest.raises(PolicyError, match="pattern"):
        Guard("stock", pattern=Pattern.EVENT)


@pytest.mark.parametrize("client", ["httpx", "aiohttp", "requests", "grpc"])
def test_a_missing_client_is_named_with_the_command_that_installs_it(client, monkeypatch):
    monkeypatch.setitem(sys.modules, client, None)
    monkeypatch.delitem(sys.modules, f"switchgear.call.{client}", raising=False)
    with pytest.raises(MissingExtra, match=client) as missing:
        getattr(guard(), client)(*([None] if client == "grpc" else []))
    assert "pip install 'switchgear[" in str(missing.value)


# what is inherited


async def test_a_guarded_function_knows_what_time_it_has():
    @guard(deadline=500, breaker=None)
    async def one():
        return remaining()

    @guard(deadline=500, breaker=None)
    def other():
        return remaining()

    assert 400 < await one() <= 500
    assert 400 < other() <= 500
    assert remaining() is None
    with bind(Context(deadline=time.monotonic() + 100)):
        assert 0 < await one() <= 100
        assert 0 < remaining() <= 100
    with bind(Context(deadline=time.monotonic() - 1)):
        assert remaining() == 0


async def test_a_guard_inside_a_guard_inherits_its_deadline_and_its_attempt():
    inner_guard, seen = guard(deadline=500, breaker=None), []

    @inner_guard(repeatable=True)
    async def inner():
        seen.append(remaining())
        raise TimeoutError

    @guard(deadline=50)(repeatable=True)
    async def outer():
        await inner()

    with pytest.raises(Unknown) as raised:
        await outer()
    # the inner one retries and gives up, and the outer one does not multiply that
    assert (len(seen), raised.value.final) == (3, True)
    assert all(left <= 50 for left in seen)


async def test_a_retry_of_the_outer_guard_is_not_retried_by_the_inner_one():
    asked = []
    inner_guard = guard()

    @inner_guard(repeatable=True)
    async def inner():
        asked.append(inherited().attempt)
        raise TimeoutError

    failures = [ConnectionResetError()]

    @guard()(repeatable=True)
    async def outer():
        if failures:
            raise failures.pop()
        await inner()

    with pytest.raises(Unknown):
        await outer()
    # attempts 2 and 3 of the outer one asked once each: the inner one left the retrying to it
    assert asked == [2, 3]


async def test_a_task_that_outlives_its_attempt_is_not_bound_by_it():
    later = asyncio.Event()

    async def background():
        await later.wait()
        return remaining()

    @guard(deadline=50)
    async def starts():
        return asyncio.create_task(background())

    task = await starts()
    later.set()
    assert await task is None


def test_keyed_work_sends_the_same_keys_on_every_attempt_and_others_per_call():
    g, keys = guard(), []

    @g(repeatable=True)
    def work(failures):
        keys.append((derived_key("pay"), derived_key("pay")))
        if failures:
            raise failures.pop()

    with bind(Context(key="order-7")):
        work([TimeoutError()])
        work([])
        after = derived_key("pay")
    first = ("order-7/stock/pay", "order-7/stock/pay#2")
    assert keys == [first, first, ("order-7/stock#2/pay", "order-7/stock#2/pay#2")]
    assert after == "order-7/pay"
    assert current().key is None


async def test_keyed_work_does_the_same_under_asyncio():
    g, keys = guard(), []

    @g(repeatable=True)
    async def work(failures):
        keys.append(derived_key("pay"))
        if failures:
            raise failures.pop()

    with bind(Context(key="order-7")):
        await work([TimeoutError()])
        await work([])
    assert keys == ["order-7/stock/pay", "order-7/stock/pay", "order-7/stock#2/pay"]


def test_tasks_and_threads_share_one_guard():
    g = guard(breaker=Breaker(consecutive=4), retry=None)

    @g
    async def from_tasks():
        raise ConnectionRefusedError

    @g
    def from_threads():
        raise ConnectionRefusedError

    def work():
        with pytest.raises(Unavailable):
            from_threads()
        with pytest.raises(Unavailable):
            asyncio.run(from_tasks())

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert g.machine.state is State.OPEN


def test_a_guard_describes_itself():
    plain = Guard("stock", pattern=Pattern.QUERY).describe()
    assert (plain["name"], plain["pattern"]) == ("stock", "query")
    assert plain["policy"]["deadline"] == 1.0


# what goes over HTTP


def test_the_headers_of_an_attempt():
    g = guard(deadline=0.3)
    context = Context(
        attempt=2,
        priority=Priority.SHEDDABLE,
        traceparent="00-ab-cd-01",
        tracestate="x=1",
    )
    call = g.machine.call(10.0, repeatable=True, key="k", context=context)
    attempt = call.begin(10.0)
    assert headers(attempt, context, 10.0999, caller="shop") == {
        "switchgear-attempt": "2",
        "switchgear-timeout": "201",
        "idempotency-key": "k",
        "switchgear-priority": "sheddable",
        "traceparent": "00-ab-cd-01",
        "tracestate": "x=1",
        "switchgear-caller": "shop",
    }
    assert headers(attempt, Context(), 99.0)["switchgear-timeout"] == "1"


@pytest.mark.parametrize(
    ("status", "marks", "kind", "reason"),
    [
        (200, {}, None, None),
        (302, {}, None, None),
        (404, {}, None, None),
        (400, {"switchgear-outcome": "not-executed"}, None, None),
        (429, {}, Unavailable, Reason.NOT_EXECUTED),
        (503, {"switchgear-outcome": "not-executed"}, Unavailable, Reason.NOT_EXECUTED),
        (503, {}, Unknown, Reason.SERVER_ERROR),
        (500, {}, Unknown, Reason.SERVER_ERROR),
        (504, {}, Unknown, Reason.TIMEOUT),
        (408, {}, Unknown, Reason.TIMEOUT),
        (409, {}, Unknown, Reason.SERVER_ERROR),
        (499, {}, Unknown, Reason.CANCELLED),
    ],
)
def test_the_failure_that_an_http_status_stands_for(status, marks, kind, reason):
    failure = http_failure(status, marks)
    assert (failure and type(failure), failure and failure.reason) == (kind, reason)


def test_the_marks_of_a_failed_answer():
    failure = http_failure(503, {"retry-after": "3", "switchgear-retry": "no"})
    assert (failure.retry_after, failure.final) == (3.0, True)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("7", 7.0),
        (" 0 ", 0.0),
        ("soon", None),
        ("-5", None),
        ("Wed, 21 Oct 2015 07:28:30 GMT", 30.0),
        ("Wed, 21 Oct 2015 07:27:00 GMT", 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(value, expected):
    from datetime import UTC, datetime

    now = datetime(2015, 10, 21, 7, 28, tzinfo=UTC)
    assert retry_after(value, now) == expected
