"""httpx, aiohttp and requests behind a guard, over real sockets.

What a cut wire means is in `test_outcome_table.py`.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import struct
import threading
import time
from contextlib import asynccontextmanager, suppress

import aiohttp
import httpx
import pytest
import requests
import urllib3
from requests.adapters import HTTPAdapter
from tests.call.cutting import WELL, HttpCallee, exactly
from tests.certificates import certificate
from tests.patience import longer
from tests.ports import reserved_port

from switchgear.call.aiohttp import AiohttpUnavailable, AiohttpUnknown
from switchgear.call.guard import Guard
from switchgear.call.httpx import HttpxUnavailable, HttpxUnknown
from switchgear.call.requests import RequestsTimeout, RequestsUnavailable, RequestsUnknown
from switchgear.errors import PolicyError
from switchgear.model.context import Context, Priority, bind
from switchgear.model.edge import Pattern
from switchgear.model.outcome import Reason, Unavailable, Unknown
from switchgear.model.signal import SignalKind, subscribe
from switchgear.policy.breaker import Breaker, State
from switchgear.policy.hedge import Hedge
from switchgear.policy.policy import Policy
from switchgear.policy.retry import Retry


class Server:
    """An HTTP server that does to each connection what the script says, then answers 200.

    Each entry of the script is a function of the connection, called where its name says: a
    `before_` function instead of reading the request, any other after it was read.
    """

    def __init__(self, *script):
        self.script = list(script)
        self.requests = []
        self.asked = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(60)
                act = self.script.pop(0) if self.script else answer(200, body=b"well")
                if act.__name__.startswith("before"):
                    act(connection)
                    continue
                self.requests.append(read_request(connection))
                self.asked.set()
                act(connection)

    def close(self):
        # unblocks accept()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


def read_request(connection):
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    line, *lines = head.decode().split("\r\n")
    headers = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    while len(body) < int(headers.get("content-length", 0)):
        body += connection.recv(65536)
    while headers.get("transfer-encoding") == "chunked" and not body.endswith(b"0\r\n\r\n"):
        body += connection.recv(65536)
    return line.split()[0], headers, body


def answer(status, *, body=b"", **marks):
    def reply(connection):
        lines = [f"HTTP/1.1 {status} Status", f"Content-Length: {len(body)}", "Connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in marks.items()]
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    return reply


def reset(connection):
    """Cut the wire after the request was read."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def before_reset(connection):
    """Cut the wire when the request has arrived, before it was read."""
    connection.recv(1, socket.MSG_PEEK)
    reset(connection)


def hang_up(connection):
    """Close the connection in good order, without an answer."""


def cut_in_the_body(connection):
    """Promise more than is sent."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc")


def slow(connection):
    """Answer nothing for as long as anybody waits."""
    with suppress(OSError):
        while connection.recv(65_536):
            pass


def in_a_while(connection):
    """Answer later than a rival would be sent."""
    time.sleep(0.1)
    answer(200)(connection)


def trickle(connection):
    """Send the head at once and the body forever."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    for _ in range(6_000):
        try:
            connection.sendall(b"x")
        except OSError:
            return
        time.sleep(0.01)


@pytest.fixture
def serve():
    servers = []

    def make(*script):
        servers.append(Server(*script))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


def guard(**parts):
    parts.setdefault("retry", Retry(base=0.001, cap=0.001))
    parts.setdefault("deadline", 20)
    return Guard("stock", Policy(**parts), caller="shop")


@asynccontextmanager
async def by_httpx(g, **options):
    async with httpx.AsyncClient(transport=g.httpx(**options)) as client:

        async def send(method, url, **request):
            response = await client.request(method, url, **request)
            return response.status_code, response.content

        yield send


@asynccontextmanager
async def by_httpx_sync(g, **options):
    with httpx.Client(transport=g.httpx_sync(**options)) as client:

        def sync(method, url, request):
            response = client.request(method, url, **request)
            return response.status_code, response.content

        async def send(method, url, **request):
            return await asyncio.to_thread(sync, method, url, request)

        yield send


@asynccontextmanager
async def by_aiohttp(g, *, connector=None, **options):
    middlewares = [g.aiohttp(**options)]
    async with aiohttp.ClientSession(middlewares=middlewares, connector=connector) as session:

        async def send(method, url, content=None, **request):
            async with session.request(method, url, data=content, **request) as response:
                return response.status, await response.read()

        yield send


@asynccontextmanager
async def by_requests(g, *, stream=False, **options):
    with requests.Session() as session:
        session.mount("http://", g.requests(**options))

        def sync(method, url, request):
            request["data"] = request.pop("content", None)
            response = session.request(method, url, stream=stream, **request)
            return response.status_code, response.content

        async def send(method, url, **request):
            return await asyncio.to_thread(sync, method, url, request)

        yield send


CLIENTS = {
    "httpx": by_httpx,
    "httpx_sync": by_httpx_sync,
    "aiohttp": by_aiohttp,
    "requests": by_requests,
}


@pytest.fixture(params=CLIENTS)
def client(request):
    return CLIENTS[request.param]


@pytest.fixture
def errors(client):
    """The errors of the client's own kind that our outcomes are."""
    if client is by_aiohttp:
        return aiohttp.ClientError, AiohttpUnavailable, AiohttpUnknown
    if client is by_requests:
        return requests.ConnectionError, RequestsUnavailable, RequestsUnknown
    return httpx.TransportError, HttpxUnavailable, HttpxUnknown


async def test_an_answer_comes_with_its_body(client, serve):
    server = serve(answer(200, body=b"seven"))
    async with client(guard()) as send:
        assert await send("GET", server.url) == (200, b"seven")


async def test_a_refused_connection_was_not_done_and_is_retried(client, errors):
    g = guard()
    async with client(g) as send:
        with pytest.raises(errors[0]) as raised:
            await send("POST", f"http://127.0.0.1:{reserved_port()}/orders")
    error = raised.value
    assert isinstance(error, errors[1])
    assert isinstance(error, Unavailable)
    assert (error.reason, error.attempts, error.final) == (Reason.CONNECT, 3, True)
    assert isinstance(error.__cause__, errors[0])
    assert "POST http://127.0.0.1" in str(error)


@pytest.mark.parametrize("cut", [before_reset, reset, hang_up, cut_in_the_body])
async def test_a_wire_that_is_cut_is_unknown_and_only_a_safe_method_is_repeated(
    client, errors, serve, cut
):
    server = serve(cut, cut)
    async with client(guard()) as send:
        with pytest.raises(Unknown) as raised:
            await send("POST", server.url, content=b"{}")
        assert isinstance(raised.value, errors[2])
        assert (raised.value.reason, raised.value.attempts) == (Reason.RESET, 1)
        assert await send("GET", server.url) == (200, b"well")


async def test_a_request_with_an_idempotency_key_is_repeated_under_it(client, serve):
    server = serve(reset, hang_up)
    async with client(guard()) as send:
        headers = {"Idempotency-Key": "order-7"}
        assert await send("POST", server.url, content=b"{}", headers=headers) == (200, b"well")
    assert [body for _, _, body in server.requests] == [b"{}"] * 3
    assert {sent["idempotency-key"] for _, sent, _ in server.requests} == {"order-7"}


async def test_an_answer_that_is_too_slow_is_unknown(client, errors, serve):
    for deadline in longer(0.1):
        server = serve(slow)
        async with client(guard(deadline=deadline)) as send:
            with pytest.raises((Unavailable, Unknown)) as raised:
                await send("GET", server.url)
        if server.asked.is_set():
            break
    assert (raised.value.reason, isinstance(raised.value, errors[2])) == (Reason.TIMEOUT, True)


async def test_a_body_that_trickles_is_bounded_by_the_deadline_too(client, errors, serve):
    for deadline in longer(0.1):
        server = serve(trickle)
        async with client(guard(deadline=deadline)) as send:
            with pytest.raises((Unavailable, Unknown)) as raised:
                await send("GET", server.url)
        if server.asked.is_set():
            break
    assert isinstance(raised.value, errors[2])
    assert raised.value.reason is Reason.TIMEOUT


async def test_503_may_have_been_done_unless_it_carries_the_mark(client, serve):
    server = serve(
        answer(503, body=b"busy"),
        answer(503, body=b"not done", switchgear_outcome="not-executed"),
    )
    async with client(guard()) as send:
        assert await send("POST", server.url, content=b"{}") == (503, b"busy")
        assert await send("POST", server.url, content=b"{}") == (200, b"well")
    assert len(server.requests) == 3


async def test_a_layer_that_gave_up_is_not_asked_again(client, serve):
    server = serve(answer(503, switchgear_outcome="not-executed", switchgear_retry="no"))
    async with client(guard()) as send:
        assert (await send("GET", server.url))[0] == 503
    assert len(server.requests) == 1


async def test_429_was_not_done_and_says_when_to_come_back(client, serve):
    server = serve(answer(429, retry_after="0"), answer(429, retry_after="60"))
    async with client(guard()) as send:
        # the second one asks for more time than the deadline leaves
        assert (await send("POST", server.url))[0] == 429
    assert len(server.requests) == 2


async def test_after_the_last_attempt_the_answer_is_what_there_is(client, serve):
    server = serve(*(answer(500, body=b"%d" % number) for number in range(3)))
    async with client(guard()) as send:
        assert await send("GET", server.url) == (500, b"2")


async def test_an_earlier_doubt_is_not_hidden_by_a_later_answer(client, serve):
    server = serve(reset, *(answer(503, switchgear_outcome="not-executed") for _ in range(2)))
    async with client(guard()) as send:
        with pytest.raises(Unknown) as raised:
            await send("GET", server.url)
    assert (raised.value.reason, raised.value.attempts) == (Reason.RESET, 3)


async def test_a_definitive_no_is_an_answer_and_a_success_for_the_breaker(client, serve):
    g = guard(breaker=Breaker(consecutive=1))
    server = serve(answer(404, body=b"no such thing"))
    async with client(g) as send:
        assert await send("GET", server.url) == (404, b"no such thing")
    assert g.machine.state is State.CLOSED


async def test_an_open_breaker_sends_nothing(client, errors, serve):
    g = guard(breaker=Breaker(consecutive=1), retry=None)
    server = serve(answer(500))
    async with client(g) as send:
        await send("GET", server.url)
        with pytest.raises(errors[1]) as raised:
            await send("GET", server.url)
    assert (raised.value.reason, raised.value.attempts) == (Reason.BREAKER_OPEN, 0)
    assert raised.value.retry_after > 20
    assert len(server.requests) == 1


async def test_what_is_sent_along(client, serve):
    server = serve(answer(503, switchgear_outcome="not-executed"))
    context = Context(
        deadline=time.monotonic() + 60,
        priority=Priority.CRITICAL,
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        tracestate="x=1",
    )
    async with client(guard()) as send:
        with bind(context):
            await send("GET", server.url)
            await send("GET", server.url, headers={"traceparent": "mine"})
    first, second, third = (headers for _, headers, _ in server.requests)
    assert (first["switchgear-attempt"], second["switchgear-attempt"]) == ("1", "2")
    assert 0 < int(second["switchgear-timeout"]) <= int(first["switchgear-timeout"]) <= 60_000
    assert first["switchgear-priority"] == "critical"
    assert first["switchgear-caller"] == "shop"
    assert first["traceparent"] == context.traceparent
    assert first["tracestate"] == "x=1"
    assert (third["traceparent"], "tracestate" in third) == ("mine", False)


async def test_an_attempt_of_a_retry_above_says_so_and_is_not_retried(client, serve):
    server = serve(answer(503, switchgear_outcome="not-executed"))
    async with client(guard()) as send:
        with bind(Context(attempt=2)):
            assert (await send("GET", server.url))[0] == 503
    assert [headers["switchgear-attempt"] for _, headers, _ in server.requests] == ["2"]


async def test_which_methods_may_be_repeated_is_a_setting(client, serve):
    server = serve(reset)
    async with client(guard(), repeatable=frozenset({"PUT"})) as send:
        assert await send("PUT", server.url, content=b"{}") == (200, b"well")


async def test_behind_a_guard_for_queries_every_method_may_be_repeated(client, serve):
    server = serve(reset)
    retry = Retry(base=0.001, cap=0.001)
    g = Guard("search", Policy(retry=retry), pattern=Pattern.QUERY)
    async with client(g) as send:
        assert await send("POST", server.url, content=b"{}") == (200, b"well")


async def test_each_host_may_have_a_breaker_of_its_own(client, serve):
    policy = Policy(breaker=Breaker(consecutive=1), retry=None)
    g = Guard("stock", policy, per="host")
    broken, well = serve(answer(500)), serve()
    async with client(g) as send:
        assert (await send("GET", broken.url))[0] == 500
        with pytest.raises(Unavailable):
            await send("GET", broken.url)
        assert await send("GET", well.url) == (200, b"well")


async def test_no_password_and_no_token_is_told(client):
    async with client(guard(retry=None)) as send:
        with pytest.raises(Unavailable) as raised:
            url = f"http://me:secret@127.0.0.1:{reserved_port()}/orders?token=secret"
            await send("GET", url)
    assert "secret" not in raised.value.where


def one_connection(client):
    """Options of a client that has only one connection at a time."""
    if client is by_aiohttp:
        return {"connector": aiohttp.TCPConnector(limit=1)}
    if client is by_requests:
        return {"wrapped": HTTPAdapter(pool_maxsize=1, pool_block=True)}
    kind = httpx.HTTPTransport if client is by_httpx_sync else httpx.AsyncHTTPTransport
    return {"wrapped": kind(limits=httpx.Limits(max_connections=1))}


@pytest.mark.parametrize("status", [408, 429, 500])
async def test_a_failed_answer_is_read_even_where_the_body_streams(client, serve, status):
    """Or its connection would be nobody's to give back."""
    server = serve(answer(status, body=b"first"), answer(200, body=b"second"))
    async with client(guard(deadline=60), stream=True, **one_connection(client)) as send:
        assert await send("GET", server.url) == (200, b"second")
    assert len(server.requests) == 2


@pytest.mark.parametrize("client", [by_httpx, by_aiohttp])
async def test_a_body_that_can_be_sent_once_is_sent_once(client, serve):
    async def body():
        yield b"once"

    server = serve(answer(503, switchgear_outcome="not-executed"))
    async with client(guard()) as send:
        assert (await send("PUT", server.url, content=body()))[0] == 503
    assert len(server.requests) == 1


@pytest.mark.parametrize("client", [by_httpx, by_aiohttp])
async def test_a_request_that_is_late_gets_a_rival(client):
    # both are on their way at once, each with its own marks and over its own connection
    seen, done = [], threading.Event()

    def moment(callee, connection):
        head, _, body = callee.read_head(connection).partition(b"\r\n\r\n")
        body += exactly(connection, 2 - len(body))
        (attempt,) = re.findall(rb"switchgear-attempt: (\d)", head.lower())
        seen.append((attempt, body))
        if attempt == b"1":
            done.wait(60)
        else:
            connection.sendall(WELL)

    callee = HttpCallee(moment)
    g = guard(deadline=60, hedge=Hedge(after=0.03))
    try:
        async with client(g) as send:
            headers = {"Idempotency-Key": "order-7"}
            url = f"http://127.0.0.1:{callee.port}/"
            assert await send("PUT", url, content=b"{}", headers=headers) == (200, b"{}")
            async with asyncio.timeout(60):
                while g.machine.gate.in_flight:  # the loser is cancelled, and not waited for
                    await asyncio.sleep(0)
    finally:
        done.set()
        callee.close()
    # the first may arrive after its rival
    assert sorted(seen) == [(b"1", b"{}"), (b"2", b"{}")]


async def test_where_the_body_is_left_unread_an_attempt_gets_no_rival(client, serve):
    # its body would be nobody's to close
    heard = []
    with subscribe(heard.append):
        async with client(guard(deadline=60, hedge=Hedge(after=0.01)), stream=True) as send:
            assert (await send("GET", serve(in_a_while).url))[0] == 200
    assert SignalKind.HEDGE_SENT not in [signal.kind for signal in heard]


@pytest.mark.parametrize("client", [by_httpx, by_aiohttp])
async def test_the_callers_cancellation_reaches_the_socket(client, serve):
    g = guard(deadline=60)
    server = serve(slow)
    async with client(g) as send:
        task = asyncio.create_task(send("GET", server.url))
        await asyncio.to_thread(server.asked.wait, 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert g.machine.gate.in_flight == 0


async def test_a_body_of_requests_that_can_be_sent_once_is_sent_once(serve):
    server = serve(answer(503, switchgear_outcome="not-executed"))
    async with by_requests(guard()) as send:
        assert (await send("PUT", server.url, content=iter([b"once"])))[0] == 503
    assert len(server.requests) == 1


async def test_code_that_expects_a_timeout_of_requests_gets_one(serve):
    for deadline in longer(0.1):
        server = serve(slow)
        async with by_requests(guard(deadline=deadline)) as send:
            with pytest.raises((Unavailable, requests.Timeout)) as raised:
                await send("GET", server.url)
        if server.asked.is_set():
            break
    assert isinstance(raised.value, RequestsTimeout)
    assert raised.value.request.url == server.url + "/"


async def test_the_timeouts_of_a_session_are_kept_where_they_are_shorter(serve):
    for timeout in (0.1, (60, 0.1), urllib3.Timeout(connect=60, read=0.1)):
        server = serve(slow)
        async with by_requests(guard(deadline=60, retry=None)) as send:
            with pytest.raises(RequestsTimeout):
                await send("GET", server.url, timeout=timeout)


def test_an_adapter_that_retries_by_itself_is_refused():
    with pytest.raises(PolicyError, match="max_retries"):
        guard().requests(requests.adapters.HTTPAdapter(max_retries=2))


async def test_a_certificate_that_is_not_trusted_was_not_done(tmp_path):
    chain, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    g = guard(retry=None)

    def ask():
        with requests.Session() as session:
            session.mount("https://", g.requests())
            session.get(url)

    with pytest.raises(Unavailable) as raised:
        await asyncio.to_thread(ask)
    assert raised.value.reason is Reason.CONNECT
    server.close()


async def test_errors_of_the_clients_inside_a_guarded_function_mean_the_same(serve):
    g = guard(retry=None)

    @g
    async def with_httpx(url):
        async with httpx.AsyncClient() as client:
            (await client.get(url)).raise_for_status()

    @g
    async def with_aiohttp(url):
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            response.raise_for_status()

    @g
    def by_requests_in_a_thread(url):
        requests.get(url, timeout=5).raise_for_status()

    async def with_requests(url):
        await asyncio.to_thread(by_requests_in_a_thread, url)

    nobody = f"http://127.0.0.1:{reserved_port()}"
    for function in (with_httpx, with_aiohttp, with_requests):
        with pytest.raises(Unavailable) as refused:
            await function(nobody)
        assert refused.value.reason is Reason.CONNECT
        with pytest.raises(Unknown) as failed:
            await function(serve(answer(503)).url)
        assert failed.value.reason is Reason.SERVER_ERROR
    with pytest.raises(httpx.HTTPStatusError):
        await with_httpx(serve(answer(404)).url)
    with pytest.raises(httpx.UnsupportedProtocol):
        await with_httpx("gopher://old")


async def test_a_name_that_is_not_known_was_not_done():
    g = guard(retry=None)
    for client in (by_httpx, by_aiohttp):
        async with client(g) as send:
            with pytest.raises(Unavailable) as raised:
                await send("POST", "http://no-such-host.invalid/")
            assert raised.value.reason is Reason.CONNECT
