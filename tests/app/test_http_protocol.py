"""The REST door bounds what is no body: heads, trailers, and how long they take."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest

from switchgear.app.door import HttpDoor
from switchgear.app.http_protocol import HEAD, HttpProtocol
from switchgear.config import Address

HOST = b"host: x\r\n"


async def echo(scope, receive, send):
    """Answers with the size of the path, the headers and the body."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message["body"])
        more = message["more_body"]
    body = json.dumps([len(scope["raw_path"]), len(scope["headers"]), size]).encode()
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@contextlib.asynccontextmanager
async def connected():
    door = HttpDoor(echo, Address("127.0.0.1", 0), "services.x.http")
    await door.open()
    reader, writer = await asyncio.open_connection("127.0.0.1", door.address.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        await door.close(1.0)


async def answer(reader):
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    status, *lines = head.split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines if line)
    body = await reader.readexactly(int(headers["content-length"]))
    return int(status.split()[1]), headers, json.loads(body)


async def sent(*pieces, within=0.02):
    """The answer to what is sent, and whether the connection was ended with it."""
    async with connected() as (reader, writer):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        status, headers, body = await answer(reader)
        ended = False
        with contextlib.suppress(TimeoutError, ConnectionResetError):
            ended = await asyncio.wait_for(reader.read(1), within) == b""
        return status, headers, body, ended


@pytest.mark.parametrize(
    ("status", "pieces"),
    [
        pytest.param(431, [b"GET / HTTP/1.1\r\n", b"a: " + b"x" * 4 * HEAD], id="endless header"),
        pytest.param(431, [b"GET / HTTP/1.1\r\n", b"a: b\r\n" * HEAD], id="endless headers"),
        pytest.param(
            431, [b"GET / HTTP/1.1\r\na: " + b"x" * HEAD + b"\r\n\r\n"], id="whole, in few pieces"
        ),
        pytest.param(414, [b"GET /", b"x" * 4 * HEAD], id="endless url"),
        pytest.param(414, [b"GET /" + b"x" * HEAD + b" HTTP/1.1\r\n\r\n"], id="long url"),
        pytest.param(400, [b"\x16\x03\x01\x02\x00\x01\x00"], id="TLS, where none is spoken"),
        pytest.param(400, [b"GET /\xff HTTP/1.1\r\n" + HOST + b"\r\n"], id="not ASCII"),
    ],
)
async def test_a_head_that_is_turned_away(status, pieces):
    found, headers, body, ended = await sent(*pieces, within=60)
    assert (found, body["status"], ended) == (status, status, True)
    assert headers["content-type"] == "application/problem+json"
    assert headers["connection"] == "close"


async def test_what_is_within_the_limit_passes():
    long = b"x" * (HEAD // 2)
    request = b"POST /%b HTTP/1.1\r\na: %b\r\ncontent-length: %d\r\n\r\n" % (
        long,
        long[:-100],
        HEAD,
    )
    status, _, body, ended = await sent(request[:100], request[100:], b"y" * HEAD)
    assert (status, body, ended) == (200, [HEAD // 2 + 1, 2, HEAD], False)


async def test_a_large_body_is_not_a_head():
    chunk = b"10000\r\n" + b"y" * 0x10000 + b"\r\n"
    head = b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"
    status, _, body, _ = await sent(head, *[chunk] * 16, b"0\r\n\r\n")
    assert (status, body[2]) == (200, 16 * 0x10000)


@pytest.mark.parametrize("pieces", [[b"0\r\n", b"a: "], [b"0", b";"]], ids=["trailer", "extension"])
async def test_what_follows_a_body_is_bounded_too(pieces):
    async with connected() as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\ny\r\n")
        for piece in [*pieces, *[b"z" * HEAD] * 8]:
            writer.write(piece)
            with contextlib.suppress(ConnectionError):
                await writer.drain()
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""


async def test_a_head_has_to_arrive_in_time(monkeypatch):
    # long enough for the beginning to arrive
    monkeypatch.setattr(HttpProtocol, "patience", 1.0)
    status, headers, _, ended = await sent(b"GET / HTTP/1.1\r\na: ", within=60)
    assert (status, headers["switchgear-outcome"], ended) == (408, "not-executed", True)


async def test_a_connection_that_says_nothing_is_closed(monkeypatch):
    monkeypatch.setattr(HttpProtocol, "patience", 0.05)
    async with connected() as (reader, _):
        assert await reader.read() == b""


async def test_the_second_head_of_a_connection_is_bounded(monkeypatch):
    async with connected() as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert (await answer(reader))[0] == 200
        writer.write(b"GET / HTTP/1.1\r\na: " + b"x" * 4 * HEAD)
        assert (await answer(reader))[0] == 431


async def test_who_takes_nothing_of_an_answer_is_cut_off(monkeypatch):
    monkeypatch.setattr(HttpProtocol, "taking", 2.0)
    sent, left = [], asyncio.Event()

    async def flood(scope, receive, send):
        async def watch():
            while (await receive())["type"] != "http.disconnect":
                pass
            left.set()

        watching = asyncio.create_task(watch())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not left.is_set():
            sent.append(1)
            piece = {"type": "http.response.body", "body": b"x" * 2**16, "more_body": True}
            await send(piece)
        await watching

    door = HttpDoor(flood, Address("127.0.0.1", 0), "services.x.http")
    await door.open()
    reader, writer = await asyncio.open_connection("127.0.0.1", door.address.port)
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    for _ in range(5):  # whoever reads slowly stays
        await reader.readexactly(2**20)
        await asyncio.sleep(0.1)
    assert not left.is_set()
    before = len(sent)
    await asyncio.wait_for(left.wait(), 60)
    assert len(sent) - before < 2**9  # what the buffers hold
    writer.close()
    await door.close(1.0)
