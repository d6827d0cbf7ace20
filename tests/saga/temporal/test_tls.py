"""Temporal behind TLS: who is let in runs sagas, and who is not is told what is wrong."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from services.servers import Temporal

from switchgear.database.sqlite import Sqlite
from switchgear.model.outcome import Unavailable
from switchgear.saga.errors import TemporalRefused
from switchgear.saga.temporal import Place, TemporalEngine, engine
from switchgear.saga.temporal.cluster import Cluster
from switchgear.saga.temporal.place import connect
from tests.certificates import authority
from tests.ports import reserved_port
from tests.saga.shop import Book, Order, checkout, eventually
from tests.saga.temporal.replay import replay_all
from tests.servers import own

PATIENT = 60.0
SETTINGS = bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""How a server of HTTP/2 begins."""


class SecuredTemporal(Temporal):
    """Temporal that lets in nobody without TLS and a certificate."""

    def create(self) -> None:
        authority(self.folder, "DNS:localhost,IP:127.0.0.1")
        super().create()
        ca = str(self.folder / "ca.pem")
        shown = {name: str(self.folder / f"server.{end}") for name, end in _PAIR.items()}
        asking = {"serverName": "localhost", "rootCaFiles": [ca]}
        file = self.folder / "temporal.yaml"
        config = json.loads(file.read_text())
        config["global"]["tls"] = {
            "frontend": {
                "server": {**shown, "requireClientAuth": True, "clientCaFiles": [ca]},
                "client": asking,
            },
            "systemWorker": {**shown, "client": asking},
        }
        file.write_text(json.dumps(config))

    def connection(self, host: str, port: int) -> http.client.HTTPConnection:
        context = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        context.load_cert_chain(self.folder / "client.pem", self.folder / "client.key")
        return http.client.HTTPSConnection(host, port, timeout=5, context=context)


_PAIR = {"certFile": "pem", "keyFile": "key"}


@pytest.fixture(scope="module")
def server() -> Iterator[SecuredTemporal]:
    with own("temporal", SecuredTemporal) as server:
        assert isinstance(server, SecuredTemporal)
        yield server


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another authority, whose name is the same."""
    folder = tmp_path_factory.mktemp("strangers")
    authority(folder, "DNS:localhost,IP:127.0.0.1")
    return folder


OURS = "ca=ca.pem&certificate=client.pem&key=client.key"


async def test_sagas_run_over_tls_with_a_certificate_of_the_client(
    server: SecuredTemporal, tmp_path: Path, book: Book
) -> None:
    place = Place.of(f"{server.url}?tls=true&{OURS}", folder=server.folder)
    saga = checkout(book)
    database = Sqlite(tmp_path / "service.db", busy=1.0)
    async with TemporalEngine(database, place, [saga], service="shop", lease=5.0) as engine:
        await (await engine.begin(saga, Order("o-1"), id="o-1")).result(within=PATIENT)
    await replay_all(Cluster(await connect(place), "shop"))
    await database.close()
    assert book.names == ["reserve", "debit", "ship", "confirm"]


async def test_a_name_that_is_not_the_hosts(server: SecuredTemporal) -> None:
    url = f"{server.url}?tls=true&server_name=localhost&{OURS}"
    await connect(Place.of(url, folder=server.folder), within=PATIENT)


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ("", Unavailable, r"is not trusted: .*certificate.* Name who signed it \(ca\)"),
        ("&ca={strangers}/ca.pem", Unavailable, "is not trusted: .*certificate"),
        (f"&{OURS}&server_name=elsewhere", Unavailable, "not valid for 'elsewhere'"),
        ("&ca=ca.pem", TemporalRefused, "does not take a client without a certificate"),
        (
            "&ca=ca.pem&certificate={strangers}/client.pem&key={strangers}/client.key",
            TemporalRefused,
            "does not take the certificate: .*alert.* of an authority that the server trusts",
        ),
        (
            f"&{OURS.replace('client.key', 'server.key')}",
            TemporalRefused,
            "(?i)cannot be used: .*mismatch.* the key of this certificate",
        ),
    ],
)
async def test_who_is_not_let_in_is_told_why(
    server: SecuredTemporal, strangers: Path, options: str, error: type[Exception], told: str
) -> None:
    url = f"{server.url}?tls=true{options.format(strangers=strangers)}"
    with pytest.raises(error, match=told):
        await connect(Place.of(url, folder=server.folder), within=PATIENT)


async def test_a_wire_without_tls_to_a_server_with_it(server: SecuredTemporal) -> None:
    with pytest.raises(TemporalRefused, match=r"speaks TLS, and this wire is not.* Say tls=true"):
        await connect(Place.of(server.url), within=PATIENT)


class Plain:
    """A server that speaks no TLS."""

    def __init__(self) -> None:
        self.port = 0
        self.met = 0
        """How many connections it was asked for."""
        self.open: set[asyncio.Transport] = set()


class Connection(asyncio.Protocol):
    def __init__(self, server: Plain) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.met += 1
        self._server.open.add(transport)
        transport.write(SETTINGS)

    def connection_lost(self, error: Exception | None) -> None:
        self._server.open.discard(self._transport)


@asynccontextmanager
async def plain(port: int = 0) -> AsyncIterator[Plain]:
    plain, loop = Plain(), asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(plain), "127.0.0.1", port)
    async with server:
        plain.port = server.sockets[0].getsockname()[1]
        yield plain
        server.close()
        for transport in plain.open:
            transport.abort()
        await eventually(lambda: not plain.open)


async def test_a_wire_with_tls_to_a_server_without_it() -> None:
    async with plain() as there:
        place = Place.of(f"temporal://127.0.0.1:{there.port}/default?tls=true")
        with pytest.raises(TemporalRefused, match=r"speaks no TLS.* say tls=false") as raised:
            await connect(place, within=PATIENT)
    assert raised.value.where == str(place)


async def test_nobody_at_all() -> None:
    for tls in ("true", "false"):
        place = Place.of(f"temporal://127.0.0.1:{reserved_port()}/default?tls={tls}")
        with pytest.raises(Unavailable, match="cannot be reached"):
            await connect(place, within=1.0)


async def test_what_is_wrong_once_the_server_is_there_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_AGAIN", 0.01)
    port = reserved_port()
    place = Place.of(f"temporal://127.0.0.1:{port}/default?tls=true")
    database = Sqlite(tmp_path / "service.db")
    caplog.set_level(logging.WARNING, "switchgear.saga")
    async with TemporalEngine(database, place, service="shop"), plain(port) as there:
        await eventually(lambda: "speaks no TLS" in caplog.text)
        met = there.met
        await eventually(lambda: there.met > met + 4)  # it goes on asking
    await database.close()
    assert caplog.text.count("speaks no TLS") == 1
    assert "Traceback" not in caplog.text


class Gateway(grpc.GenericRpcHandler):
    """What stands in front of Temporal Cloud: it lets in who has the key, and passes all on."""

    def __init__(self, channel: grpc.aio.Channel, key: str) -> None:
        self._channel = channel
        self._key = key

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        method = handler_call_details.method

        async def passed(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
            if ("authorization", f"Bearer {self._key}") not in context.invocation_metadata():
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, "Jwt is missing")
            asked = self._channel.unary_unary(method)
            return await asked(request, timeout=context.time_remaining())

        return grpc.unary_unary_rpc_method_handler(passed)


async def test_a_key(place: Place, strangers: Path) -> None:
    server = grpc.aio.server()
    pair = [(strangers / f"server.{end}").read_bytes() for end in ("key", "pem")]
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([tuple(pair)]))
    async with grpc.aio.insecure_channel(place.address) as channel:
        server.add_generic_rpc_handlers([Gateway(channel, "sesame")])
        await server.start()
        url = f"temporal://127.0.0.1:{port}/{place.namespace}?ca=ca.pem&tls=true"
        try:
            right = Place.of(url, {"api_key": "sesame"}, folder=strangers)
            await connect(right, within=PATIENT)
            for options in ({"api_key": "open"}, {}):
                with pytest.raises(TemporalRefused, match=r"Jwt is missing.*Correct api_key") as no:
                    await connect(Place.of(url, options, folder=strangers), within=PATIENT)
                assert "open" not in str(no.value)
        finally:
            await server.stop(None)
