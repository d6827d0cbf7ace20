"""What our own two wires make of a callee that misbehaves. Real sockets; the question is always the
same: was it certainly not done, or may it have been done?

What holds for every client and adapter is in `test_outcome_table.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
from contextlib import asynccontextmanager

import grpc
import pytest
from tests.certificates import authority
from tests.patience import longer
from tests.ports import reserved_port
from tests.serve.embedded import HttpServer
from tests.serve.world import Adjust, Do, GetStock, Handler, Inventory, OutOfStock, Reserve, Stock

from switchgear.call.client import connect
from switchgear.call.grpc import _Said
from switchgear.call.http import answered
from switchgear.call.tls import Tls
from switchgear.contract.service import contract_of
from switchgear.errors import ConfigError
from switchgear.model import wire
from switchgear.model.outcome import (
    Ok,
    Reason,
    Refused,
    Rejected,
    Status,
    Unavailable,
    Unknown,
)
from switchgear.policy.policy import Policy
from switchgear.serve.dispatch import Dispatcher
from switchgear.serve.grpc import Grpc
from switchgear.serve.rest import Rest
from switchgear.serve.tls import Certificate

ONCE = Policy(deadline=30.0, retry=None, breaker=None)
REPEATED = Policy(deadline=30.0)
REPLY = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 27\r\n\r\n"
    b'{"sku":"tea","available":1}'
)


@asynccontextmanager
async def listening(serve):
    """A server that does with each connection what `serve(reader, writer)` does."""

    tasks = set()

    async def connected(reader, writer):
        tasks.add(asyncio.current_task())
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await serve(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def asking(scheme, port, policy=ONCE, **settings):
    host = settings.pop("host", "127.0.0.1")
    async with connect(Inventory, f"{scheme}://{host}:{port}", policy, **settings) as made:
        yield made


async def request_of(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            head += await reader.readexactly(int(line.split(b":")[1]))
    return head


# --- the request never left ----------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["http", "grpc"])
async def test_why_there_is_no_connection_is_told(scheme):
    async with asking(scheme, reserved_port()) as inventory:
        for _ in range(2):
            with pytest.raises(Unavailable, match="refused|Connect call failed"):
                await inventory.do(Do(what="x"))


@pytest.mark.parametrize("scheme", ["https", "grpcs"])
async def test_a_failed_handshake_is_unavailable(scheme):
    async def serve(reader, writer):
        await reader.read(100)
        writer.write(b"this is not TLS")

    async with listening(serve) as port, asking(scheme, port) as inventory:
        with pytest.raises(Unavailable) as caught:
            await inventory.do(Do(what="x"))
        assert caught.value.reason is Reason.CONNECT
        assert "tls" in caught.value.what.lower() or "ssl" in caught.value.what.lower()


@pytest.mark.parametrize("scheme", ["https", "grpc", "grpcs"])
async def test_a_callee_that_never_shakes_hands_is_unavailable(scheme):
    async def serve(reader, writer):
        await reader.read()

    for deadline in longer(0.3):
        policy = Policy(deadline=deadline, retry=None)
        async with listening(serve) as port, asking(scheme, port, policy) as inventory:
            with pytest.raises((Unavailable, Unknown)) as caught:
                await inventory.do(Do(what="x"))
        if caught.value.reason is not Reason.TIMEOUT:
            break  # a tenth of the time was enough for telling
    assert isinstance(caught.value, Unavailable)
    assert caught.value.reason is Reason.CONNECT


# --- replies over the limit ----------------------------------------------------------------------

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


CHUNKED = (b"transfer-encoding: chunked\r\n\r\n", b"400\r\n" + b" " * 0x400 + b"\r\n")
UNTIL_THE_END = (b"\r\n", b" " * 0x400)
TOLD = (b"content-length: 1000000000\r\n\r\n", b"")


@pytest.mark.parametrize(
    ("head", "piece", "streamed"),
    [
        (*TOLD, False),
        (*CHUNKED, False),
        (*UNTIL_THE_END, False),
        (*CHUNKED, True),
        (*UNTIL_THE_END, True),
    ],
)
async def test_a_reply_over_the_limit_is_not_read_to_its_end(monkeypatch, head, piece, streamed):
    monkeypatch.setattr("switchgear.call.http.LIMIT", 4096)

    async def serve(reader, writer):
        await request_of(reader)
        writer.write(OK + head)
        while True:  # until the client hangs up
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
            if reader.at_eof():
                break

    async with listening(serve) as port, asking("http", port) as inventory:
        with pytest.raises(Unknown, match="limit") as caught:
            if streamed:
                await anext(inventory.watch(GetStock(sku="tea")))
            else:
                await inventory.do(Do(what="x"))
        assert caught.value.final


# --- it may have been done -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "reply",
    [
        REPLY[:-3],
        REPLY[:40],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{}",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{{{",
        b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
    ],
)
async def test_half_a_reply_and_nonsense_are_unknown(reply):
    async def serve(reader, writer):
        await request_of(reader)
        writer.write(reply)
        await writer.drain()

    async with listening(serve) as port, asking("http", port) as inventory:
        with pytest.raises(Unknown):
            await inventory.adjust(Adjust(sku="tea", by=1))


async def test_a_command_over_a_lost_kept_connection_is_sent_once():
    requests = []

    async def serve(reader, writer):
        await request_of(reader)
        requests.append("first")
        writer.write(REPLY)
        await writer.drain()
        await request_of(reader)
        requests.append("lost")

    async with listening(serve) as port, asking("http", port) as inventory:
        assert (await inventory.stock(GetStock(sku="tea"))).available == 1
        # a GET, which aiohttp would send again by itself: here it is the policy that decides
        with pytest.raises(Unknown):
            await inventory.stock(GetStock(sku="tea"))
        assert requests == ["first", "lost"]


async def test_a_prefix_stands_before_every_route():
    asked = []

    async def serve(reader, writer):
        asked.append((await request_of(reader)).split(b"\r\n")[0].decode())
        writer.write(REPLY.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        await writer.drain()

    async with listening(serve) as port:
        url = f"http://127.0.0.1:{port}/shop/inventory/"
        async with connect(Inventory, url, ONCE) as inventory:
            await inventory.stock(GetStock(sku="a b", colours=[], least=2))
            await inventory.adjust(Adjust(sku="ä", by=1))
    assert asked == [
        "GET /shop/inventory/v1/stock/a%20b?least=2 HTTP/1.1",
        "POST /shop/inventory/v1/stock/%C3%A4/adjust HTTP/1.1",
    ]


async def test_a_query_is_repeated_within_its_policy():
    requests = []

    async def serve(reader, writer):
        await request_of(reader)
        requests.append(1)
        if len(requests) == 2:
            writer.write(REPLY)
            await writer.drain()

    async with listening(serve) as port, asking("http", port, REPEATED) as inventory:
        assert (await inventory.stock(GetStock(sku="tea"))).available == 1
        assert len(requests) == 2


# --- gRPC servers that are not ours --------------------------------------------------------------


@asynccontextmanager
async def foreign(behave):
    """A bare grpc.aio server."""
    methods = {name: grpc.unary_unary_rpc_method_handler(behave) for name in ("Do", "Stock")}
    server = grpc.aio.server()
    server.add_registered_method_handlers("acme.inventory.v1.Inventory", methods)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


@pytest.mark.parametrize("status", list(Status)[1:])
async def test_every_status_means_what_the_table_says(status):
    calls = []

    async def behave(data, call):
        calls.append(1)
        await call.abort(grpc.StatusCode[status.value], "because")

    expected = {
        wire.Verdict.REFUSED: Rejected,
        wire.Verdict.UNAVAILABLE: Unavailable,
        wire.Verdict.UNKNOWN: Unknown,
    }[wire.grpc_verdict(status)]
    async with foreign(behave) as port, asking("grpc", port) as inventory:
        with pytest.raises(expected) as caught:
            await inventory.do(Do(what="x"))
        assert calls == [1]
        if isinstance(caught.value, Rejected):
            assert (caught.value.status, caught.value.what) == (status, "because")


async def test_the_mark_and_the_pushback_are_understood():
    async def behave(data, call):
        await call.abort(
            grpc.StatusCode.UNAVAILABLE,
            "busy",
            ((wire.OUTCOME, wire.NOT_EXECUTED), (wire.GRPC_PUSHBACK, "1500"), (wire.RETRY, "no")),
        )

    async with foreign(behave) as port, asking("grpc", port) as inventory:
        with pytest.raises(Unavailable) as caught:
            await inventory.do(Do(what="x"))
        found = caught.value
        assert (found.reason, found.retry_after, found.final) == (Reason.NOT_EXECUTED, 1.5, True)


@pytest.mark.parametrize("value", ["-1", "soon"])
async def test_a_pushback_that_says_no_is_heeded(value):
    calls = []

    async def behave(data, call):
        calls.append(1)
        await call.abort(grpc.StatusCode.UNAVAILABLE, "no", ((wire.GRPC_PUSHBACK, value),))

    async with foreign(behave) as port, asking("grpc", port, REPEATED) as inventory:
        with pytest.raises(Unknown) as caught:
            await inventory.stock(GetStock(sku="x"))
        assert caught.value.retry_after < 0
        assert calls == [1]


async def test_a_reply_over_our_limit_was_carried_out(monkeypatch):
    import switchgear.call.grpc as module

    options = [one for one in module._OPTIONS if one[0] != "grpc.max_receive_message_length"]
    monkeypatch.setattr(module, "_OPTIONS", (*options, ("grpc.max_receive_message_length", 1000)))

    async def behave(data, call):
        return b"\x0a\xd0\x0f" + b"x" * 2000

    async with foreign(behave) as port, asking("grpc", port) as inventory:
        with pytest.raises(Unknown) as caught:
            await inventory.stock(GetStock(sku="x"))
        assert caught.value.final  # as over HTTP: another would be as large


async def test_trailers_over_our_limit_were_carried_out():
    calls = []

    async def behave(data, call):
        calls.append(1)
        call.set_trailing_metadata((("x-bin", b"x" * 2_000_000),))
        return b""

    async with foreign(behave) as port, asking("grpc", port) as inventory:
        with pytest.raises(Unknown):
            await inventory.do(Do(what="x"))
        assert calls == [1]


async def test_a_large_refusal_arrives():
    class Verbose(Handler):
        async def reserve(self, request):
            raise OutOfStock(sku="x" * 100_000, available=1)

    door = Grpc(Dispatcher([Verbose()]))
    port = await door.start()
    async with asking("grpc", port) as inventory:
        with pytest.raises(OutOfStock):
            await inventory.reserve(Reserve(order_id="1", lines=[]))
    await door.stop(0)
    # a door may be opened again
    port = await door.start()
    async with asking("grpc", port) as inventory:
        await inventory.stock(GetStock(sku="tea"))
    await door.stop(0)


class Ending:
    """A call of grpc.aio, as far as its ends are concerned."""

    def __init__(self):
        self.callbacks = []

    def add_done_callback(self, callback):
        self.callbacks.append(callback)

    def end(self, code, details, trailers=()):
        self.said = code, details, grpc.aio.Metadata(*trailers)
        while self.callbacks:  # of the first end alone
            self.callbacks.pop()(self)

    async def code(self):
        return self.said[0]

    async def details(self):
        return self.said[1]

    async def initial_metadata(self):
        return grpc.aio.Metadata()

    async def trailing_metadata(self):
        return self.said[2]


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (1,)])
async def test_a_message_that_was_not_sent_does_not_hide_what_the_callee_said(order, monkeypatch):
    monkeypatch.setattr("switchgear.call.grpc._SOON", 60.0 if len(order) > 1 else 0.0)
    code, unsent = grpc.StatusCode, grpc.aio.Metadata()
    ends = [
        (code.FAILED_PRECONDITION, "no", [("why", "full")]),
        (code.INTERNAL, "Internal error from Core", []),
    ]
    call = Ending()
    said = _Said(call)
    raised = grpc.aio.AioRpcError(ends[1][0], unsent, unsent, ends[1][1])
    asked = asyncio.create_task(said.instead_of(raised))
    for number in order:
        call.end(*ends[number])
        await asyncio.sleep(0)
    found = await asked
    if len(order) == 1:
        assert found is raised
    else:
        assert (found.code(), found.details()) == (code.FAILED_PRECONDITION, "no")
        assert dict(found.trailing_metadata()) == {"why": "full"}
    other = grpc.aio.AioRpcError(code.INTERNAL, unsent, unsent, "of its own")
    assert await said.instead_of(other) is other


async def test_a_request_over_their_limit_is_rejected():
    door = Grpc(Dispatcher([Handler()]), limit=1000)
    port = await door.start()
    async with asking("grpc", port) as inventory:
        with pytest.raises(Rejected) as caught:
            await inventory.do(Do(what="x" * 2000))
        assert caught.value.status is Status.RESOURCE_EXHAUSTED
    await door.stop(0)


async def test_a_callee_that_comes_back_is_found_again():
    door, port = Grpc(Dispatcher([Handler()])), reserved_port()
    await door.start(port=port)
    async with asking("grpc", port, ONCE) as inventory:
        await inventory.do(Do(what="x"))
        await door.stop(0)
        # until the end of the connection has reached us, a request may still be sent into it
        with pytest.raises(Unavailable):
            while True:
                with contextlib.suppress(Unknown):
                    await inventory.do(Do(what="x"))
        again = Grpc(Dispatcher([Handler()]))
        await again.start(port=port)
        async with asyncio.timeout(60):
            while True:
                try:
                    await inventory.do(Do(what="x"))
                    break
                except Unavailable:
                    await asyncio.sleep(0.02)
        await again.stop(0)


# --- HTTP answers --------------------------------------------------------------------------------

STOCK = contract_of(Inventory).operations["stock"]


@pytest.mark.parametrize(
    "code", [200, 204, 302, 400, 401, 404, 408, 409, 422, 429, 499, 500, 501, 503, 504]
)
def test_every_http_status_means_what_the_table_says(code):
    verdict = wire.http_verdict(code)
    outcome = answered(STOCK, code, {}, b'{"sku":"a","available":1}', verdict)
    expected = {
        wire.Verdict.OK: Ok,
        wire.Verdict.REFUSED: Rejected,
        wire.Verdict.UNAVAILABLE: Unavailable,
        wire.Verdict.UNKNOWN: Unknown,
    }[verdict]
    assert type(outcome) is expected


def test_marks_of_an_http_answer():
    marks = {"switchgear-outcome": "not-executed", "retry-after": "3", "switchgear-retry": "no"}
    found = answered(STOCK, 504, marks, b"", wire.Verdict.UNKNOWN)
    assert isinstance(found, Unavailable)
    assert (found.reason, found.retry_after, found.final) == (Reason.NOT_EXECUTED, 3.0, True)
    dated = answered(
        STOCK, 503, {"retry-after": "Fri, 01 Jan 2100 00:00:00 GMT"}, b"", wire.Verdict.UNKNOWN
    )
    assert dated.retry_after > 1e9


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"type":5}', b'{"type":"urn:switchgear:refusal:other.No"}']
)
def test_a_problem_that_is_none_is_a_status(body):
    marks = {"content-type": "application/problem+json"}
    found = answered(STOCK, 422, marks, body, wire.Verdict.REFUSED)
    assert isinstance(found, Refused)
    assert isinstance(found, Rejected)


@pytest.mark.parametrize("sku", ["", ".", ".."])
async def test_what_cannot_be_in_a_path_is_not_sent(sku):
    async with asking("http", reserved_port()) as inventory:
        with pytest.raises(Rejected) as caught:
            await inventory.stock(GetStock(sku=sku))
        assert caught.value.pointer == "/sku"


# --- TLS -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    """An authority, a server's certificate for localhost and a client's."""
    folder = tmp_path_factory.mktemp("pki")
    authority(folder, "DNS:localhost")
    return folder


@asynccontextmanager
async def secured(scheme, pki, *, mutual=False):
    ca = pki / "ca.pem" if mutual else None
    certificate = Certificate(pki / "server.pem", pki / "server.key", ca)
    dispatcher = Dispatcher([Handler()])
    if scheme == "https":
        door = HttpServer(Rest(dispatcher), certificate=certificate)
    else:
        door = Grpc(dispatcher, certificate=certificate)
    port = await door.start()
    try:
        yield port
    finally:
        await door.stop(0)


@pytest.mark.parametrize("scheme", ["https", "grpcs"])
async def test_both_doors_and_both_wires_speak_tls(pki, scheme):
    stock = Stock(sku="tea", available=0)
    async with secured(scheme, pki) as port:
        trusting = Tls(ca=pki / "ca.pem")
        async with asking(scheme, port, host="localhost", tls=trusting) as inventory:
            assert await inventory.stock(GetStock(sku="tea")) == stock
        # not trusted, or the certificate of somebody else: the request never left
        for host, tls in (("localhost", None), ("127.0.0.1", trusting)):
            async with asking(scheme, port, host=host, tls=tls) as inventory:
                with pytest.raises(Unavailable) as caught:
                    await inventory.stock(GetStock(sku="tea"))
                assert caught.value.reason is Reason.CONNECT


@pytest.mark.parametrize("scheme", ["https", "grpcs"])
async def test_a_client_may_have_to_show_a_certificate(pki, scheme):
    async with secured(scheme, pki, mutual=True) as port:
        shown = Tls(ca=pki / "ca.pem", cert=pki / "client.pem", key=pki / "client.key")
        async with asking(scheme, port, host="localhost", tls=shown) as inventory:
            assert (await inventory.stock(GetStock(sku="tea"))).sku == "tea"
        async with asking(scheme, port, host="localhost", tls=Tls(ca=pki / "ca.pem")) as inventory:
            with pytest.raises((Unavailable, Unknown)):
                await inventory.stock(GetStock(sku="tea"))


def test_a_key_of_another_certificate_is_told_as_such(pki):
    with pytest.raises(ConfigError, match="(?i)mismatch"):
        Certificate(pki / "server.pem", pki / "client.key")
    with pytest.raises(ConfigError, match="PEM"):
        Certificate(pki / "server.pem", pki / "server.key", pki / "server.key")
    for make in (Tls.context, Tls.grpc):
        with pytest.raises(ConfigError, match="(?i)mismatch"):
            make(Tls(cert=pki / "server.pem", key=pki / "client.key"))


def test_a_key_that_is_encrypted_is_told_and_nobody_is_asked_for_its_password(pki):
    words = ["openssl", "pkey", "-in", "server.key", "-aes256", "-passout", "pass:x"]
    subprocess.run([*words, "-out", "locked.key"], cwd=pki, check=True, capture_output=True)
    with pytest.raises(ConfigError, match="not encrypted"):
        Certificate(pki / "server.pem", pki / "locked.key")
    with pytest.raises(ConfigError):
        Tls(cert=pki / "server.pem", key=pki / "locked.key").context()


def test_a_context_of_tls_checks_names(pki):
    context = Tls(ca=pki / "ca.pem").context()
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
