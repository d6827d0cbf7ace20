"""Streams of requests and of replies: gRPC in all its shapes, REST as lines and as events."""

from __future__ import annotations

import asyncio
import importlib
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol

import grpc
import pytest
from google.protobuf.message import Message as ProtoMessage

from switchgear.call.client import client_over, connect
from switchgear.call.streams import AskedWrongly
from switchgear.contract.message import Message, field
from switchgear.contract.refusal import Refusal
from switchgear.contract.service import command, contract_of, query, service
from switchgear.errors import ContractError
from switchgear.model.outcome import Reason, Rejected, Status, Unavailable, Unknown
from switchgear.policy.policy import Policy
from switchgear.policy.retry import Retry
from switchgear.serve.dispatch import Dispatcher
from switchgear.serve.grpc import Grpc
from switchgear.serve.rest import Rest
from switchgear.testing.wire import DirectWire
from tests.contract.protoc import Protoc
from tests.patience import longer


class Piece(Message, package="upload.v1"):
    number: int = field(1)
    data: bytes = field(2, default=b"")


class Total(Message, package="upload.v1"):
    pieces: int = field(1)
    bytes: int = field(2)


class TooMany(Refusal, package="upload.v1"):
    most: int = field(1)


@service("upload.v1")
class Uploads(Protocol):
    @command(refuses=[TooMany])
    async def upload(self, requests: AsyncIterator[Piece]) -> Total: ...

    @command(refuses=[TooMany])
    def echo(self, requests: AsyncIterator[Piece]) -> AsyncIterator[Piece]: ...

    @query("GET /v1/pieces/{number}", refuses=[TooMany])
    def count(self, request: Piece) -> AsyncIterator[Piece]: ...


def limited(one: Piece) -> None:
    if one.number == 99:
        raise TooMany(most=99)


class Handler(Uploads):
    def __init__(self) -> None:
        self.taken = 0
        self.ended: list[str] = []
        self.hold = asyncio.Event()

    async def upload(self, requests: AsyncIterator[Piece]) -> Total:
        size = 0
        try:
            async for one in requests:
                self.taken += 1
                size += len(one.data)
                limited(one)
                if one.number == 50:
                    await self.hold.wait()
        except BaseException as error:
            self.ended.append(type(error).__name__)
            raise
        return Total(pieces=self.taken, bytes=size)

    async def echo(self, requests: AsyncIterator[Piece]) -> AsyncIterator[Piece]:
        try:
            async for one in requests:
                self.taken += 1
                limited(one)
                yield one
        finally:
            self.ended.append("echo")

    async def count(self, request: Piece) -> AsyncIterator[Piece]:
        for number in range(request.number):
            if number == 99:
                raise TooMany(most=99)
            yield Piece(number=number)


@pytest.fixture
def handler() -> Handler:
    return Handler()


@pytest.fixture
async def port(handler: Handler) -> AsyncIterator[int]:
    door = Grpc(Dispatcher([handler]), limit=1000)
    yield await door.start()
    await door.stop(0)


@pytest.fixture
async def uploads(port: int) -> AsyncIterator[Uploads]:
    async with connect(Uploads, f"grpc://127.0.0.1:{port}", Policy(deadline=60)) as made:
        yield made


async def pieces(*numbers: int, size: int = 1) -> AsyncIterator[Piece]:
    for number in numbers:
        yield Piece(number=number, data=b"x" * size)


async def test_a_stream_of_requests_gets_one_reply(uploads: Uploads) -> None:
    assert await uploads.upload(pieces(1, 2, 3, size=10)) == Total(pieces=3, bytes=30)
    assert await uploads.upload(pieces()) == Total(pieces=3, bytes=0)


async def test_both_ways_at_once(uploads: Uploads) -> None:
    turns: asyncio.Queue[int] = asyncio.Queue()

    async def ask() -> AsyncIterator[Piece]:
        for _ in range(3):
            yield Piece(number=await turns.get())

    turns.put_nowait(1)
    seen = []
    async for reply in uploads.echo(ask()):
        seen.append(reply.number)
        turns.put_nowait(reply.number * 2)  # what is asked next depends on the reply
    assert seen == [1, 2, 4]


async def test_a_refusal_in_the_middle_is_typed(uploads: Uploads, handler: Handler) -> None:
    with pytest.raises(TooMany) as refused:
        await uploads.upload(pieces(1, 99, *range(1000, 3000)))
    assert refused.value.most == 99
    seen = []
    with pytest.raises(TooMany):
        async for reply in uploads.echo(pieces(5, 99, 6)):
            seen += [reply.number]
    assert seen == [5]
    with pytest.raises(TooMany):
        async for _ in uploads.count(Piece(number=200)):
            pass


async def test_a_stream_is_sent_once(uploads: Uploads, port: int, handler: Handler) -> None:
    policy = Policy(retry=Retry(attempts=5), deadline=60)

    async def failing() -> AsyncIterator[Piece]:
        yield Piece(number=1)
        raise LookupError("the file is gone")

    async with connect(Uploads, f"grpc://127.0.0.1:{port}", policy) as impatient:
        with pytest.raises(LookupError, match="the file is gone"):
            await impatient.upload(failing())
        with pytest.raises(LookupError, match="the file is gone"):
            async for _ in impatient.echo(failing()):
                pass
        # no second attempt, though there are five: the handler has seen each message once
        assert handler.taken <= 2


async def test_a_deadline_ends_the_handler(port: int, handler: Handler) -> None:
    for deadline in longer(1.0):
        policy = Policy(deadline=deadline, retry=None)
        async with connect(Uploads, f"grpc://127.0.0.1:{port}", policy) as hasty:
            with pytest.raises((Unavailable, Unknown)) as late:
                await hasty.upload(pieces(50))
        if handler.taken:
            break
    assert isinstance(late.value, Unknown)
    assert late.value.reason is Reason.TIMEOUT
    async with asyncio.timeout(60):
        while not handler.ended:
            await asyncio.sleep(0.01)
    assert handler.ended == ["CancelledError"]


async def test_a_sender_is_held_back_by_a_slow_handler(uploads: Uploads, handler: Handler) -> None:
    sent = 0

    async def flood() -> AsyncIterator[Piece]:
        nonlocal sent
        yield Piece(number=50)  # the handler stops here
        for number in range(100_000):
            sent += 1
            yield Piece(number=1_000_000 + number, data=b"x" * 900)

    asked = asyncio.ensure_future(uploads.upload(flood()))
    before = -1
    while before != sent or not sent:  # until nothing more is taken
        before = sent
        await asyncio.sleep(0.1)
        if asked.done():
            break
    assert 0 < sent < 50_000
    asked.cancel()
    await asyncio.wait([asked])


async def test_one_message_has_a_limit_and_has_to_be_readable(uploads: Uploads, port: int) -> None:
    with pytest.raises(Rejected):
        await uploads.upload(pieces(1, size=2000))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:

        async def broken() -> AsyncIterator[bytes]:
            yield b"\xff\xff"

        call = channel.stream_unary("/upload.v1.Uploads/Upload")(broken())
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_giving_up_a_conversation_ends_both_sides(uploads: Uploads, handler: Handler) -> None:
    closed = []

    async def ask() -> AsyncIterator[Piece]:
        try:
            yield Piece(number=1)
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    replies: Any = uploads.echo(ask())
    assert (await anext(replies)).number == 1
    await replies.aclose()
    assert closed == [True]
    async with asyncio.timeout(60):
        while not handler.ended:
            await asyncio.sleep(0.01)
    assert handler.ended == ["echo"]


async def test_wrong_requests_are_not_sent(uploads: Uploads, handler: Handler) -> None:
    with pytest.raises(AskedWrongly, match="not a stream"):
        await uploads.upload(Piece(number=1))  # type: ignore[arg-type]

    async def other() -> AsyncIterator[Any]:
        yield Total(pieces=1, bytes=1)

    with pytest.raises(AskedWrongly, match="is Total, not Piece"):
        await uploads.upload(other())
    async with connect(Uploads, "http://127.0.0.1:1") as rest:
        with pytest.raises(AskedWrongly, match="no route over REST"):
            await rest.upload(pieces(1))


async def test_without_a_network_it_is_the_same(handler: Handler) -> None:
    direct = client_over(Uploads, DirectWire(Dispatcher([handler]), "test"))
    assert await direct.upload(pieces(1, 2)) == Total(pieces=2, bytes=2)
    assert [one.number async for one in direct.echo(pieces(3, 4))] == [3, 4]
    assert [one.number async for one in direct.count(Piece(number=3))] == [0, 1, 2]
    with pytest.raises(TooMany):
        await direct.upload(pieces(99))
    with pytest.raises(TooMany):
        async for _ in direct.echo(pieces(99)):
            pass
    replies: Any = direct.count(Piece(number=10))
    assert (await anext(replies)).number == 0
    await replies.aclose()


def test_a_method_that_takes_a_stream_has_no_route_and_no_key() -> None:
    with pytest.raises(ContractError, match="has no route"):

        @service("wrong.v1")
        class Routed(Protocol):
            @command("POST /v1/x")
            async def x(self, requests: AsyncIterator[Piece]) -> Total: ...

    with pytest.raises(ContractError, match="cannot stream"):

        @service("wrong.v1")
        class Keyed(Protocol):
            @command(keyed=True)
            async def x(self, requests: AsyncIterator[Piece]) -> Total: ...

    assert contract_of(Uploads).operations["upload"].route is None


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What protoc and grpcio's plugin make of the exported contract."""
    folder = tmp_path_factory.mktemp("stubs")
    protoc = Protoc(folder, Uploads)
    protoc(f"--python_out={folder}", f"--grpc_python_out={folder}")
    sys.path.insert(0, str(folder))
    try:
        yield (
            importlib.import_module("upload.v1_pb2"),
            importlib.import_module("upload.v1_pb2_grpc"),
        )
    finally:
        sys.path.remove(str(folder))


async def test_stubs_of_grpcio_speak_with_the_door(stubs: Any, port: int) -> None:
    messages, services = stubs

    def some(*numbers: int) -> list[ProtoMessage]:
        return [messages.Piece(number=number, data=b"abc") for number in numbers]

    def ask() -> tuple[Any, list[int], list[int], Any]:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = services.UploadsStub(channel)
            total = stub.Upload(iter(some(1, 2)))
            echoed = [one.number for one in stub.Echo(iter(some(7, 8)))]
            counted = [one.number for one in stub.Count(messages.Piece(number=3))]
            try:
                stub.Upload(iter(some(99)))
            except grpc.RpcError as error:
                return total, echoed, counted, error
        raise AssertionError

    total, echoed, counted, error = await asyncio.to_thread(ask)
    assert (total.pieces, total.bytes) == (2, 6)
    assert (echoed, counted) == ([7, 8], [0, 1, 2])
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION


async def ask_rest(handler: Handler, path: str, accept: str) -> tuple[int, str, str]:
    """Return status, media type and body of an answer."""
    import httpx

    app = Rest(Dispatcher([handler]))
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=60) as http:
        answer = await http.get(path, headers={"accept": accept})
    return answer.status_code, answer.headers["content-type"], answer.text


async def test_server_sent_events(handler: Handler) -> None:
    status, media, body = await ask_rest(handler, "/v1/pieces/2", "text/event-stream")
    assert (status, media) == (200, "text/event-stream")
    assert body == (
        'data: {"number":0,"data":""}\n\ndata: {"number":1,"data":""}\n\nevent: end\ndata: {}\n\n'
    )
    _, _, body = await ask_rest(handler, "/v1/pieces/200", "text/event-stream;q=0.9, */*")
    *_, last, rest = body.split("\n\n")
    assert rest == ""
    assert last.startswith(
        'event: problem\ndata: {"type":"urn:switchgear:refusal:upload.v1.TooMany"'
    )
    assert "event: end" not in body


async def test_json_lines_unless_events_are_named(handler: Handler) -> None:
    for accept in ("*/*", "application/x-ndjson", "", "text/event-stream;q=0"):
        _, media, body = await ask_rest(handler, "/v1/pieces/1", accept)
        assert media == "application/x-ndjson"
        assert body == '{"number":0,"data":""}\n'
    _, _, empty = await ask_rest(handler, "/v1/pieces/0", "*/*")
    assert empty == ""


async def test_curl_reads_events_from_a_real_server(handler: Handler, tmp_path: Path) -> None:
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(Rest(Dispatcher([handler])), port=0, log_level="error"))
    serving = asyncio.ensure_future(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}/v1/pieces/2"
    curl = ["curl", "-sN", "--max-time", "60", "-H", "accept: text/event-stream", url]
    done = await asyncio.to_thread(subprocess.run, curl, capture_output=True, check=True)
    assert done.stdout.endswith(b"event: end\ndata: {}\n\n")
    assert done.stdout.count(b"data: ") == 3
    server.should_exit = True
    await serving


async def test_a_conversation_that_never_connects_is_unavailable() -> None:
    async with connect(Uploads, "grpc://127.0.0.1:1", Policy(deadline=0.5)) as nobody:
        with pytest.raises(Exception, match="no connection") as raised:
            async for _ in nobody.echo(pieces(1)):
                pass
        assert getattr(raised.value, "status", Status.UNAVAILABLE) is Status.UNAVAILABLE
