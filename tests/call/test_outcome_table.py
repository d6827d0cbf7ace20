"""One table of expectations for every client and adapter: the wire is cut before, while and after a
request is sent, and what is said of it is held against what the callee really carried out.

Each row is a command without a key under a policy of three attempts. So `unavailable` is repeated,
`unknown` is not, and a command is carried out at most once whatever happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import replace

import aiohttp
import grpc
import httpx
import pytest
import requests
from tests.call.cutting import (
    DATA,
    DO,
    HEADERS,
    RST_STREAM,
    WELL,
    Cut,
    GrpcCallee,
    HttpCallee,
    answer,
    frame,
    goaway,
    reset,
    stream_of,
)
from tests.patience import longer
from tests.ports import reserved_port
from tests.serve.world import Do, Inventory

from switchgear.call.client import connect
from switchgear.call.guard import Guard
from switchgear.model.outcome import Unavailable, Unknown
from switchgear.model.signal import SignalKind, subscribe
from switchgear.policy.policy import Policy
from switchgear.policy.retry import Retry

POLICY = Policy(deadline=20, retry=Retry(base=0.001, cap=0.001), breaker=None)


def hurried(expected):
    """Policies for a row: where no answer comes one whose time is up soon, or later if need be."""
    if expected is not TIMEOUT:
        return [POLICY]
    return [replace(POLICY, deadline=deadline) for deadline in longer(1.0)]


# --- the clients: each asks once, as its users do -------------------------------------------------


async def our_http(host, port, policy):
    async with connect(Inventory, f"http://{host}:{port}", policy) as inventory:
        await inventory.do(Do(what="x"))


async def by_httpx(host, port, policy):
    transport = Guard("do", policy).httpx()
    async with httpx.AsyncClient(transport=transport, trust_env=False) as client:
        await client.post(f"http://{host}:{port}/v1/do", content=b"{}")


async def by_httpx_sync(host, port, policy):
    def ask():
        transport = Guard("do", policy).httpx_sync()
        with httpx.Client(transport=transport, trust_env=False) as client:
            client.post(f"http://{host}:{port}/v1/do", content=b"{}")

    await asyncio.to_thread(ask)


async def by_aiohttp(host, port, policy):
    middlewares = [Guard("do", policy).aiohttp()]
    async with aiohttp.ClientSession(middlewares=middlewares) as session:
        async with session.post(f"http://{host}:{port}/v1/do", data=b"{}"):
            pass


async def by_requests(host, port, policy):
    def ask():
        with requests.Session() as session:
            session.trust_env = False
            session.mount("http://", Guard("do", policy).requests())
            session.post(f"http://{host}:{port}/v1/do", data=b"{}")

    await asyncio.to_thread(ask)


async def our_grpc(host, port, policy):
    async with connect(Inventory, f"grpc://{host}:{port}", policy) as inventory:
        await inventory.do(Do(what="x"))


async def by_grpc(host, port, policy):
    def ask():
        with Guard("do", policy).grpc(grpc.insecure_channel(f"dns:///{host}:{port}")) as channel:
            channel.unary_unary(DO)(b"\x0a\x01x")

    await asyncio.to_thread(ask)


async def by_grpc_aio(host, port, policy):
    channel = grpc.aio.insecure_channel(f"dns:///{host}:{port}")
    async with Guard("do", policy).grpc(channel) as guarded:
        await guarded.unary_unary(DO)(b"\x0a\x01x")


HTTP = {
    "our http": our_http,
    "httpx": by_httpx,
    "httpx sync": by_httpx_sync,
    "aiohttp": by_aiohttp,
    "requests": by_requests,
}
GRPC = {"our grpc": our_grpc, "grpc": by_grpc, "grpc.aio": by_grpc_aio}
CLIENTS = HTTP | GRPC


async def told(ask, host, port, policy=POLICY):
    """What each attempt was taken for, and what the caller got."""
    heard, raised = [], None

    def listen(signal):
        if signal.kind is SignalKind.ATTEMPT_ENDED:
            heard.append((signal.detail["outcome"], signal.detail["reason"]))

    with subscribe(listen):
        try:
            await ask(host, port, policy)
        except (Unavailable, Unknown) as failure:
            raised = failure
    if raised is not None:
        assert heard[-1] == (type_of(raised), str(raised.reason))
        assert raised.attempts <= len(heard)
    return heard


def type_of(failure):
    return "unavailable" if isinstance(failure, Unavailable) else "unknown"


CONNECT = ("unavailable", "connect")
NOT_DONE = ("unavailable", "not-executed")
RESET = ("unknown", "reset")
TIMEOUT = ("unknown", "timeout")
CANCELLED = ("unknown", "cancelled")
ERROR = ("unknown", "server-error")


# --- nobody is there ------------------------------------------------------------------------------


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
async def test_what_never_left_was_not_done(client, host):
    assert await told(CLIENTS[client], host, reserved_port()) == [CONNECT] * 3


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_full_backlog_was_not_done(client):
    # a socket that listens and never accepts: the kernel drops what is over its backlog
    with socket.socket() as full, contextlib.ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        # a middleware of aiohttp has no say in how long a connection may take
        expected = [TIMEOUT if client == "aiohttp" else CONNECT]
        for deadline in longer(0.3):
            policy = Policy(deadline=deadline, retry=None)
            found = await told(CLIENTS[client], "127.0.0.1", full.getsockname()[1], policy)
            if found != [TIMEOUT] or found == expected:
                break  # a tenth of the time was enough for telling
        assert found == expected


# --- HTTP -----------------------------------------------------------------------------------------


def before_reading(callee, connection):
    connection.recv(1, socket.MSG_PEEK)
    reset(connection)


def at_once(callee, connection):
    reset(connection)


def while_reading(callee, connection):
    callee.read_head(connection)
    reset(connection)


def after_reading(callee, connection):
    callee.read(connection)
    reset(connection)


def in_good_order(callee, connection):
    callee.read(connection)


def sends(data, *, then=None):
    def moment(callee, connection):
        callee.read(connection)
        connection.sendall(data)
        if then is not None:
            then(connection)

    return moment


def never(callee, connection):
    callee.read(connection)
    connection.recv(1)


HALF = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}"

HTTP_TABLE = {
    "reset before it is read": (before_reading, RESET, 0),
    "reset while it is read": (while_reading, RESET, 0),
    "reset after it is read": (after_reading, RESET, 1),
    "closed after it is read": (in_good_order, RESET, 1),
    "half a status line": (sends(b"HTTP/1."), RESET, 1),
    "half a head": (sends(HALF[:40]), RESET, 1),
    "half a body": (sends(HALF), RESET, 1),
    "half a body, then reset": (sends(HALF, then=reset), RESET, 1),
    "half a chunk": (sends(CHUNKED), RESET, 1),
    "another protocol": (sends(b"nonsense\r\n\r\n"), RESET, 1),
    "no answer": (never, TIMEOUT, 1),
    "half a body, and no more": (sends(HALF, then=lambda c: c.recv(1)), TIMEOUT, 1),
    "500": (sends(answer(500)), ERROR, 1),
    "502": (sends(answer(502)), ERROR, 1),
    "503": (sends(answer(503)), ERROR, 1),
    "504": (sends(answer(504)), TIMEOUT, 1),
    "408": (sends(answer(408)), TIMEOUT, 1),
    "499": (sends(answer(499)), CANCELLED, 1),
    "503, not executed": (sends(answer(503, switchgear_outcome="not-executed")), NOT_DONE, 3),
    "429": (sends(answer(429)), NOT_DONE, 3),
    "503, not executed, given up below": (
        sends(answer(503, switchgear_outcome="not-executed", switchgear_retry="no")),
        NOT_DONE,
        1,
    ),
    "429, come back in a minute": (sends(answer(429, retry_after="60")), NOT_DONE, 1),
}


@pytest.mark.parametrize("client", HTTP)
@pytest.mark.parametrize("row", HTTP_TABLE)
async def test_http(client, row):
    moment, expected, requests_read = HTTP_TABLE[row]
    for policy in hurried(None if row.isdigit() else expected):
        callee = HttpCallee(moment)
        try:
            found = await told(HTTP[client], "127.0.0.1", callee.port, policy)
        finally:
            callee.close()
        if callee.executed or expected is not TIMEOUT:
            break  # it was read before the time was up
    assert set(found) == {expected}
    assert len(found) == max(1, requests_read)
    assert callee.executed == requests_read


@pytest.mark.parametrize("client", HTTP)
async def test_a_connection_that_is_reset_at_once_was_lost_before_or_after_it_was_made(client):
    callee = HttpCallee(at_once)
    try:
        found = await told(HTTP[client], "127.0.0.1", callee.port)
    finally:
        callee.close()
    # which of the two, the kernel decides; neither is a timeout or an answer
    assert set(found) <= {CONNECT, RESET}
    assert callee.executed == 0


@pytest.mark.parametrize("client", HTTP)
async def test_a_kept_connection_closed_before_the_next_request_is_not_used(client):
    def closes(callee, connection):
        callee.read(connection)
        connection.sendall(WELL)

    callee = HttpCallee(closes)
    try:
        found = await told(twice(client, callee.closed), "127.0.0.1", callee.port)
    finally:
        callee.close()
    assert (found, callee.executed) == ([("ok", None)] * 2, 2)


@pytest.mark.parametrize("client", HTTP)
async def test_a_kept_connection_lost_with_the_next_request_is_unknown(client):
    # whether the callee closed before or after it had the request cannot be told from here
    def closes(callee, connection):
        callee.read(connection)
        connection.sendall(WELL)
        callee.read(connection)

    callee = HttpCallee(closes)
    try:
        found = await told(twice(client), "127.0.0.1", callee.port)
    finally:
        callee.close()
    assert (found, callee.executed) == ([("ok", None), RESET], 2)


def twice(client, closed=None):
    """Two requests, the second one when the connection was closed, or at once."""

    async def pause():
        if closed is not None:
            await asyncio.to_thread(closed.wait, 60)
            for _ in range(5):  # until the loop has seen it
                await asyncio.sleep(0)

    async def our(host, port, policy):
        async with connect(Inventory, f"http://{host}:{port}", policy) as inventory:
            await inventory.do(Do(what="x"))
            await pause()
            await inventory.do(Do(what="x"))

    async def httpx_async(host, port, policy):
        transport = Guard("do", policy).httpx()
        async with httpx.AsyncClient(transport=transport, trust_env=False) as session:
            await session.post(f"http://{host}:{port}/", content=b"{}")
            await pause()
            await session.post(f"http://{host}:{port}/", content=b"{}")

    async def aiohttp_async(host, port, policy):
        async with aiohttp.ClientSession(middlewares=[Guard("do", policy).aiohttp()]) as session:
            for _ in range(2):
                async with session.post(f"http://{host}:{port}/", data=b"{}"):
                    pass
                await pause()

    def in_a_thread(make):
        def ask(host, port, policy):
            with make(Guard("do", policy)) as session:
                session.post(f"http://{host}:{port}/")
                if closed is not None:
                    closed.wait(60)
                session.post(f"http://{host}:{port}/")

        return lambda *args: asyncio.to_thread(ask, *args)

    def session_of_requests(guard):
        session = requests.Session()
        session.mount("http://", guard.requests())
        return session

    return {
        "our http": our,
        "httpx": httpx_async,
        "aiohttp": aiohttp_async,
        "httpx sync": in_a_thread(lambda guard: httpx.Client(transport=guard.httpx_sync())),
        "requests": in_a_thread(session_of_requests),
    }[client]


# --- gRPC -----------------------------------------------------------------------------------------


def cut_at(upward, kind, *, half=False, number=1):
    """Cut at the n-th frame of a kind, or in the middle of it."""
    seen = []

    def moment(proxy, going_up, found, data):
        if (going_up, found) == (upward, kind):
            seen.append(1)
            if len(seen) >= number:
                raise Cut(data[: len(data) // 2]) if half else Cut
        return data

    return moment


def swallow(proxy, upward, kind, data):
    """Nothing that belongs to a call comes back."""
    return data if upward else b""


def say(make, *, forward):
    """Answer the client's request with a frame of our own, and pass the request on or not."""

    def moment(proxy, upward, kind, data):
        if upward and kind == HEADERS:
            return make(stream_of(data)), data if forward else b""
        return (data if forward else b"") if upward else b""

    return moment


def refused_stream(stream):
    return frame(RST_STREAM, stream, (7).to_bytes(4, "big"))


def internal_error(stream):
    return frame(RST_STREAM, stream, (2).to_bytes(4, "big"))


def passed(proxy, upward, kind, data):
    return data


MARK = (("switchgear-outcome", "not-executed"),)
CODE = grpc.StatusCode

# moment, what the server does, the outcome, how often it may have been carried out
GRPC_TABLE = {
    "reset while the head is sent": (cut_at(True, HEADERS), {}, RESET, 0),
    "reset in the middle of the head": (cut_at(True, HEADERS, half=True), {}, RESET, 0),
    "reset while the message is sent": (cut_at(True, DATA), {}, RESET, 0),
    "reset before the answer": (cut_at(False, HEADERS), {}, RESET, 1),
    "reset in the middle of the answer": (cut_at(False, HEADERS, half=True), {}, RESET, 1),
    "reset before the reply": (cut_at(False, DATA), {}, RESET, 1),
    "reset in the middle of the reply": (cut_at(False, DATA, half=True), {}, RESET, 1),
    "reset before the trailers": (cut_at(False, HEADERS, number=2), {}, RESET, 1),
    "no answer": (swallow, {}, TIMEOUT, 1),
    "the stream is aborted": (say(internal_error, forward=False), {}, ERROR, 0),
    "UNAVAILABLE": (passed, {"status": CODE.UNAVAILABLE}, RESET, 1),
    "INTERNAL": (passed, {"status": CODE.INTERNAL}, ERROR, 1),
    "ABORTED": (passed, {"status": CODE.ABORTED}, ERROR, 1),
    "DEADLINE_EXCEEDED": (passed, {"status": CODE.DEADLINE_EXCEEDED}, TIMEOUT, 1),
    "CANCELLED": (passed, {"status": CODE.CANCELLED}, CANCELLED, 1),
    "RESOURCE_EXHAUSTED": (passed, {"status": CODE.RESOURCE_EXHAUSTED}, NOT_DONE, 3),
    "UNAVAILABLE, not executed": (
        passed,
        {"status": CODE.UNAVAILABLE, "trailers": MARK},
        NOT_DONE,
        3,
    ),
    "not executed, given up below": (
        passed,
        {"status": CODE.UNAVAILABLE, "trailers": (*MARK, ("switchgear-retry", "no"))},
        NOT_DONE,
        1,
    ),
    "not executed, with a pushback": (
        passed,
        {"status": CODE.UNAVAILABLE, "trailers": (*MARK, ("grpc-retry-pushback-ms", "-1"))},
        NOT_DONE,
        1,
    ),
}


@pytest.mark.parametrize("client", GRPC)
@pytest.mark.parametrize("row", GRPC_TABLE)
async def test_grpc(client, row):
    moment, server, expected, executed = GRPC_TABLE[row]
    for policy in hurried(expected if row == "no answer" else None):
        callee = GrpcCallee(moment, **server)
        try:
            found = await told(GRPC[client], "127.0.0.1", callee.port, policy)
        finally:
            callee.close()
        if callee.executed or expected is not TIMEOUT:
            break  # it was read before the time was up
    assert set(found) == {expected}
    assert len(found) == max(1, executed)
    assert callee.executed == executed


@pytest.mark.parametrize("client", GRPC)
async def test_a_connection_that_ends_before_its_handshake_was_not_done(client):
    callee = GrpcCallee(passed, on_accept=reset)
    try:
        found = await told(GRPC[client], "127.0.0.1", callee.port)
    finally:
        callee.close()
    assert (set(found), callee.executed) == ({CONNECT}, 0)


@pytest.mark.parametrize("client", GRPC)
@pytest.mark.parametrize("refusal", [refused_stream, lambda _: goaway(0)])
async def test_a_stream_that_the_server_has_not_taken_is_carried_out_at_most_once(client, refusal):
    # HTTP/2 says that such a stream was not processed, and gRPC's core may send it again by itself
    refused = []

    def moment(proxy, upward, kind, data):
        if upward and kind == HEADERS and not refused:
            refused.append(stream_of(data))
            return refusal(stream_of(data)), b""
        late = upward and kind == DATA and stream_of(data) in refused and proxy.connections == 1
        return b"" if late else data

    callee = GrpcCallee(moment)
    try:
        found = await told(GRPC[client], "127.0.0.1", callee.port)
    finally:
        callee.close()
    assert found in ([("ok", None)], [RESET])
    assert callee.executed == (found == [("ok", None)])
