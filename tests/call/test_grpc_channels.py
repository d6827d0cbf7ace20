"""Channels of grpc and grpc.aio behind a guard, as generated stubs use them, against a bare server.

What a cut wire means is in `test_outcome_table.py`.
"""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
from contextlib import asynccontextmanager

import grpc
import pytest
from tests.patience import longer
from tests.ports import reserved_port

from switchgear.call.grpc_status import AioUnavailable, AioUnknown, GrpcUnavailable, GrpcUnknown
from switchgear.call.guard import Guard
from switchgear.errors import PolicyError
from switchgear.model.context import Context, Priority, bind
from switchgear.model.edge import Pattern
from switchgear.model.outcome import Reason, Unavailable, Unknown
from switchgear.policy.breaker import Breaker, Evidence, State
from switchgear.policy.hedge import Hedge
from switchgear.policy.policy import Policy
from switchgear.policy.retry import Retry

SERVICE = "acme.v1.Things"
ONE, MANY = f"/{SERVICE}/One", f"/{SERVICE}/Many"
TAKE, CHAT = f"/{SERVICE}/Take", f"/{SERVICE}/Chat"
CODE = grpc.StatusCode
NOT_DONE = (("switchgear-outcome", "not-executed"),)


class Server:
    """Answers as its script says, a status with its trailers or nothing, and then well."""

    def __init__(self):
        self.script = []
        self.seen = []
        self.held = asyncio.Event()

    async def _one(self, data, call):
        await self._scripted(call)
        return b"one:" + data

    async def _many(self, data, call):
        await self._scripted(call)
        for number in range(3):
            await call.write(b"%d" % number)
        if data == b"break":
            await call.abort(CODE.UNAVAILABLE, "gone")

    async def _take(self, requests, call):
        return b"".join([one async for one in requests])

    async def _chat(self, requests, call):
        async for one in requests:
            yield one

    async def _scripted(self, call):
        self.seen.append((dict(call.invocation_metadata()), call.time_remaining()))
        act = self.script.pop(0) if self.script else None
        if act == "hold":
            await self.held.wait()
        elif act == "late":
            await asyncio.sleep(0.1)
        elif act == "once it has a rival":
            before = len(self.seen)
            while len(self.seen) == before:
                await asyncio.sleep(0.001)
        elif act is not None:
            status, *trailers = act
            await call.abort(status, "because", tuple(trailers))

    @asynccontextmanager
    async def running(self):
        server = grpc.aio.server()
        methods = {
            "One": grpc.unary_unary_rpc_method_handler(self._one),
            "Many": grpc.unary_stream_rpc_method_handler(self._many),
            "Take": grpc.stream_unary_rpc_method_handler(self._take),
            "Chat": grpc.stream_stream_rpc_method_handler(self._chat),
        }
        server.add_registered_method_handlers(SERVICE, methods)
        self.port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            yield self
        finally:
            await server.stop(0)


@pytest.fixture
async def server():
    async with Server().running() as running:
        yield running


def guard(pattern=None, **parts):
    parts.setdefault("retry", Retry(base=0.001, cap=0.001))
    parts.setdefault("deadline", 60)
    return Guard("things", Policy(**parts), pattern=pattern, caller="shop")


class Sync:
    """A stub of grpc, called from a thread."""

    kinds = (grpc.RpcError, GrpcUnavailable, GrpcUnknown)

    def __init__(self, g, port, **options):
        self.channel = g.grpc(grpc.insecure_channel(f"127.0.0.1:{port}"), **options)
        self._one = self.channel.unary_unary(ONE)
        self._many = self.channel.unary_stream(MANY)

    async def one(self, data=b"x", **settings):
        return await asyncio.to_thread(self._one, data, **settings)

    async def many(self, data=b"x", **settings):
        return await asyncio.to_thread(lambda: list(self._many(data, **settings)))

    async def close(self):
        self.channel.close()


class Aio:
    """A stub of grpc.aio."""

    kinds = (grpc.aio.AioRpcError, AioUnavailable, AioUnknown)

    def __init__(self, g, port, **options):
        self.channel = g.grpc(grpc.aio.insecure_channel(f"127.0.0.1:{port}"), **options)
        self._one = self.channel.unary_unary(ONE)
        self._many = self.channel.unary_stream(MANY)

    async def one(self, data=b"x", **settings):
        return await self._one(data, **settings)

    async def many(self, data=b"x", **settings):
        return [one async for one in self._many(data, **settings)]

    async def close(self):
        await self.channel.close()


@pytest.fixture(params=[Sync, Aio])
async def stub(request):
    made = []

    def make(g, port, **options):
        made.append(request.param(g, port, **options))
        return made[-1]

    yield make
    for one in made:
        await one.close()


async def test_a_call_is_answered_and_says_what_it_knows(server, stub):
    context = Context(
        deadline=time.monotonic() + 9,
        priority=Priority.CRITICAL,
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        tracestate="x=1",
    )
    server.script = [(CODE.UNAVAILABLE, *NOT_DONE)]
    things = stub(guard(), server.port)
    with bind(context):
        assert await things.one(metadata=(("mine", "1"),)) == b"one:x"
        assert await things.one(metadata=(("traceparent", "mine"),)) == b"one:x"
    (first, left), (second, _), (third, _) = server.seen
    assert 0 < left <= 9.01  # from 1 s on gRPC writes a deadline in steps of 10 ms, rounded up
    assert (first["switchgear-attempt"], second["switchgear-attempt"]) == ("1", "2")
    assert (first["mine"], second["mine"]) == ("1", "1")
    assert first["switchgear-priority"] == "critical"
    assert first["switchgear-caller"] == "shop"
    assert (first["traceparent"], first["tracestate"]) == (context.traceparent, "x=1")
    assert (third["traceparent"], "tracestate" in third) == ("mine", False)
    assert "switchgear-timeout" not in first


async def test_a_command_is_not_repeated_and_what_may_be_is(server, stub):
    failed = (CODE.UNAVAILABLE,)
    things = stub(guard(), server.port, repeatable=frozenset({MANY}))
    server.script = [failed]
    with pytest.raises(Unknown) as raised:
        await things.one()
    assert (raised.value.reason, raised.value.attempts) == (Reason.RESET, 1)
    server.script = [failed]
    assert await things.one(metadata=(("idempotency-key", "7"),)) == b"one:x"
    assert [seen["idempotency-key"] for seen, _ in server.seen[1:]] == ["7", "7"]
    server.script = [failed]
    assert await things.many() == [b"0", b"1", b"2"]
    server.script = [failed]
    assert await stub(guard(Pattern.QUERY), server.port).one() == b"one:x"


async def test_the_error_is_of_both_kinds(server, stub):
    server.script = [(CODE.INTERNAL, ("detail", "7"))]
    things = stub(guard(retry=None), server.port)
    with pytest.raises(Unknown) as raised:
        await things.one()
    error = raised.value
    assert isinstance(error, type(things).kinds[0])
    assert isinstance(error, type(things).kinds[2])
    assert (error.code(), error.details()) == (CODE.INTERNAL, "because")
    assert ("detail", "7") in tuple(error.trailing_metadata())
    assert str(error) == f"[SG430] {ONE}: because"
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  our own
    assert (type(again), again.code(), again.reason) == (type(error), CODE.INTERNAL, error.reason)


async def test_who_is_not_there_is_told_apart(stub):
    things = stub(guard(), reserved_port())
    with pytest.raises(Unavailable) as raised:
        await things.one()
    assert isinstance(raised.value, type(things).kinds[1])
    assert (raised.value.code(), raised.value.reason) == (CODE.UNAVAILABLE, Reason.CONNECT)
    assert raised.value.attempts == 3


async def test_a_definitive_no_is_grpcs_own_error_and_a_success_for_the_breaker(server, stub):
    g = guard(breaker=Breaker(consecutive=1))
    server.script = [(CODE.NOT_FOUND,)] * 2
    things = stub(g, server.port)
    for method in (things.one, things.many):
        with pytest.raises(grpc.RpcError) as raised:
            await method()
        assert not isinstance(raised.value, Unknown | Unavailable)
        assert raised.value.code() is CODE.NOT_FOUND
    assert g.machine.state is State.CLOSED


async def test_an_open_breaker_sends_nothing(server, stub):
    server.script = [(CODE.INTERNAL,)]
    things = stub(guard(breaker=Breaker(consecutive=1), retry=None), server.port)
    for method in (things.one, things.one, things.many):
        with pytest.raises((Unavailable, Unknown)) as raised:
            await method()
    assert (raised.value.reason, raised.value.attempts) == (Reason.BREAKER_OPEN, 0)
    assert raised.value.code() is CODE.UNAVAILABLE
    assert len(server.seen) == 1


async def test_each_method_may_have_a_breaker_of_its_own(server, stub):
    policy = Policy(breaker=Breaker(consecutive=1), retry=None, deadline=60)
    for per in ("operation", "host"):
        server.script = [(CODE.INTERNAL,)]
        things = stub(Guard("things", policy, per=per), server.port)
        with pytest.raises(Unknown):
            await things.one()
        with pytest.raises(Unavailable):
            await things.one()
        if per == "operation":
            assert await things.many() == [b"0", b"1", b"2"]
        else:
            with pytest.raises(Unavailable):
                await things.many()


async def test_a_call_that_takes_too_long_is_unknown(server, stub):
    for method in ("one", "many"):
        for deadline in longer(0.15):
            things = stub(guard(deadline=deadline), server.port)
            server.seen, server.script = [], ["hold"]
            with pytest.raises((Unavailable, Unknown)) as raised:
                await getattr(things, method)()
            if server.seen:
                break
        assert isinstance(raised.value, Unknown)
        assert (raised.value.reason, raised.value.code()) == (
            Reason.TIMEOUT,
            CODE.DEADLINE_EXCEEDED,
        )
    # the caller's own timeout counts where it is shorter
    things = stub(guard(deadline=600, breaker=None), server.port)
    for timeout in longer(0.15):
        server.seen, server.script = [], ["hold"]
        with pytest.raises((Unavailable, Unknown)) as raised:
            await things.one(timeout=timeout)
        if server.seen:
            break
    assert isinstance(raised.value, Unknown)
    assert server.seen[-1][1] < 61


async def test_who_is_ready_to_wait_for_a_callee_waits(stub):
    port = reserved_port()
    things = stub(guard(retry=None, deadline=60), port)
    with pytest.raises(Unavailable):
        await things.one()
    asked = asyncio.create_task(things.one(wait_for_ready=True))
    await asyncio.sleep(0)
    late = grpc.aio.server()
    methods = {"One": grpc.unary_unary_rpc_method_handler(Server()._one)}
    late.add_registered_method_handlers(SERVICE, methods)
    late.add_insecure_port(f"127.0.0.1:{port}")
    await late.start()
    assert await asked == b"one:x"
    await late.stop(0)


async def test_a_stream_is_guarded_until_its_first_message(server, stub):
    things = stub(guard(Pattern.QUERY), server.port)
    server.script = [(CODE.UNAVAILABLE,)]
    assert await things.many() == [b"0", b"1", b"2"]
    assert len(server.seen) == 2
    # after that it is not begun again
    with pytest.raises(Unknown) as raised:
        await things.many(b"break")
    assert isinstance(raised.value, type(things).kinds[2])
    assert (raised.value.code(), len(server.seen)) == (CODE.UNAVAILABLE, 3)


async def test_a_stream_that_breaks_is_a_failure_for_the_breaker(server, stub):
    evidence = [Evidence(600, 3)]
    g = guard(breaker=Breaker(threshold=0.9, confidence=None, evidence=evidence), retry=None)
    things = stub(g, server.port)
    for _ in range(3):
        assert await things.many() == [b"0", b"1", b"2"]
    assert g.machine.circuit.tally.totals(time.monotonic()) == [(3, 0)]
    # each is one failure, and not a success besides
    for number in range(27):
        with pytest.raises(Unknown) as raised:
            await things.many(b"break")
        assert [hop.edge for hop in raised.value.trail] == ["things"]
        assert g.machine.circuit.tally.totals(time.monotonic()) == [(3, number + 1)]
    assert g.machine.state is State.OPEN


async def test_a_stream_outlives_the_deadline_of_its_beginning(server):
    things = Aio(guard(deadline=1.0), server.port)
    await things.channel.channel_ready()
    replies = things._many(b"x")
    assert await replies.read() == b"0"
    await asyncio.sleep(1.1)
    assert [one async for one in replies] == [b"1", b"2"]
    assert (await replies.code(), replies.done()) == (CODE.OK, True)
    await things.close()


async def test_a_call_is_asked_of_the_attempt_that_won(server):
    # the rival is sent, and the first attempt answers before it
    g = guard(Pattern.QUERY, hedge=Hedge(after=0.03), deadline=20)
    things = Aio(g, server.port)
    server.script = ["once it has a rival", "hold"]
    call = things._one(b"x")
    assert (await call, await call.code(), len(server.seen)) == (b"one:x", CODE.OK, 2)
    await things.close()
    things = Sync(g, server.port)
    server.script = ["once it has a rival", "hold"]
    reply, won = await asyncio.to_thread(things._one.with_call, b"x")
    assert (reply, won.code(), len(server.seen)) == (b"one:x", CODE.OK, 4)
    server.held.set()
    await things.close()


async def test_a_stream_has_no_rival(server, stub):
    things = stub(guard(Pattern.QUERY, hedge=Hedge(after=0.03)), server.port)
    server.script = ["late", "hold"]
    assert await things.many() == [b"0", b"1", b"2"]
    assert len(server.seen) == 1


async def test_requests_that_stream_are_passed_on(server):
    async def requests():
        for one in (b"a", b"b"):
            yield one

    async with guard().grpc(grpc.aio.insecure_channel(f"127.0.0.1:{server.port}")) as channel:
        assert await channel.stream_unary(TAKE)(requests()) == b"ab"
        assert [one async for one in channel.stream_stream(CHAT)(requests())] == [b"a", b"b"]
    sync = guard().grpc(grpc.insecure_channel(f"127.0.0.1:{server.port}"))

    def ask():
        with sync:
            chat = sync.stream_stream(CHAT)(iter([b"a", b"b"]))
            return sync.stream_unary(TAKE)(iter([b"a", b"b"])), list(chat)

    assert await asyncio.to_thread(ask) == (b"ab", [b"a", b"b"])


# --- grpc.aio's call objects ----------------------------------------------------------------------


async def test_a_call_of_grpc_aio_begins_at_once_and_can_be_asked(server):
    things = Aio(guard(), server.port)
    calls = [things._one(b"%d" % number) for number in range(3)]
    done = []
    calls[0].add_done_callback(done.append)
    assert [await call for call in calls] == [b"one:0", b"one:1", b"one:2"]
    assert await calls[0].code() is CODE.OK
    assert await calls[0].details() == ""
    assert list(await calls[0].trailing_metadata()) == []
    assert list(await calls[0].initial_metadata()) == []
    await calls[0].wait_for_connection()
    assert (calls[0].done(), calls[0].cancelled(), done) == (True, False, [calls[0]])
    server.script = [(CODE.INTERNAL, ("detail", "7"))]
    failed = things._one(b"x")
    assert await failed.code() is CODE.INTERNAL
    assert ("detail", "7") in tuple(await failed.trailing_metadata())
    with pytest.raises(AioUnknown):
        await failed
    await things.close()


@pytest.mark.parametrize("how", ["task", "call"])
async def test_cancelling_reaches_the_callee(server, how):
    g = guard(deadline=30)
    things = Aio(g, server.port)
    server.script = ["hold"]
    call = things._one(b"x")
    while not server.seen:
        await asyncio.sleep(0.001)
    if how == "call":
        assert call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    else:
        task = asyncio.ensure_future(call)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (call.cancelled(), g.machine.gate.in_flight) == (True, 0)
    await things.close()


async def test_a_stream_of_grpc_aio_can_be_given_up(server):
    things = Aio(guard(), server.port)
    begun, unread = things._many(b"x"), things._many(b"x")
    done = asyncio.Event()
    begun.add_done_callback(lambda _: done.set())
    assert await begun.read() == b"0"
    begun.cancel()
    await done.wait()
    assert begun.cancelled()
    unread.cancel()
    with pytest.raises(asyncio.CancelledError):
        await unread.read()
    await things.close()


# --- grpc's call objects --------------------------------------------------------------------------


async def test_what_grpcs_calls_can_be_asked(server):
    things = Sync(guard(Pattern.QUERY), server.port)

    def ask():
        reply, call = things._one.with_call(b"x")
        assert (reply, call.code()) == (b"one:x", CODE.OK)
        replies = things._many(b"x")
        assert replies.cancel() is False
        assert next(replies) == b"0"
        assert replies.is_active()
        assert replies.cancel()
        with pytest.raises(Unknown) as raised:
            list(replies)
        assert raised.value.code() is CODE.CANCELLED
        with pytest.raises(PolicyError, match="future"):
            things._one.future(b"x")

    await asyncio.to_thread(ask)
    server.script = [(CODE.INTERNAL,)] * 3
    failed = things._many(b"x")
    for _ in range(2):
        # once it has failed it stays so
        with pytest.raises(GrpcUnknown):
            await asyncio.to_thread(next, failed)
    assert len(server.seen) == 5
    await things.close()


class Tag(grpc.UnaryUnaryClientInterceptor):
    def intercept_unary_unary(self, continuation, details, request):
        return continuation(details, request + b"!")


async def test_a_channel_with_interceptors_can_be_guarded_and_is_asked_for_its_connection(server):
    def ask(port):
        channel = grpc.intercept_channel(grpc.insecure_channel(f"127.0.0.1:{port}"), Tag())
        with guard(retry=None).grpc(channel) as guarded:
            return guarded.unary_unary(ONE)(b"x")

    assert await asyncio.to_thread(ask, server.port) == b"one:x!"
    with pytest.raises(GrpcUnavailable) as raised:
        await asyncio.to_thread(ask, reserved_port())
    assert raised.value.reason is Reason.CONNECT


async def test_an_error_of_grpc_inside_a_guarded_function_means_the_same(server):
    g = guard(retry=None)
    channel = grpc.insecure_channel(f"127.0.0.1:{server.port}")

    @g
    def one():
        return channel.unary_unary(ONE)(b"x", timeout=5)

    server.script = [(CODE.RESOURCE_EXHAUSTED,), (CODE.UNAVAILABLE,), (CODE.NOT_FOUND,)]
    with pytest.raises(Unavailable):
        await asyncio.to_thread(one)
    with pytest.raises(Unknown):
        await asyncio.to_thread(one)
    with pytest.raises(grpc.RpcError) as raised:
        await asyncio.to_thread(one)
    assert raised.value.code() is CODE.NOT_FOUND
    with pytest.raises(grpc.RpcError):
        # a fake of somebody's tests
        g(lambda: (_ for _ in ()).throw(grpc.RpcError()).__next__())()
    channel.close()


async def test_threads_share_a_guarded_channel(server):
    things = Sync(guard(), server.port)
    answers = []

    def ask(number):
        answers.append(things._one(b"%d" % number))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        await asyncio.to_thread(one.join)
    assert sorted(answers) == [b"one:%d" % number for number in range(8)]
    await things.close()
