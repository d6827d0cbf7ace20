"""The REST door, as foreign clients see it: real sockets, nothing of ours on the other side."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import httpx
import pytest
import pytest_asyncio

from tests.patience import longer
from tests.serve.world import Handler, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server():
    async with serving() as served:
        yield served


@pytest.fixture
def world(server):
    server.handler.reset()
    return server


@pytest_asyncio.fixture(loop_scope="module")
async def http(world):
    async with httpx.AsyncClient(base_url=world.http, timeout=60) as client:
        yield client


async def test_path_query_and_body_make_one_message(world, http):
    answer = await http.get("/v1/stock/tea?colours=RED&colours=PLAIN&least=4")
    assert (answer.status_code, answer.json()) == (200, {"sku": "tea", "available": 6})
    assert answer.headers["content-type"] == "application/json"
    answer = await http.post("/v1/stock/green%2Ftea%20%C3%A9/adjust", json={"by": "-3"})
    assert answer.json() == {"sku": "green/tea é", "available": -3}


async def test_a_list_in_the_query_may_be_empty_or_long(http):
    assert (await http.get("/v1/tagged")).json() == {"sku": "", "available": 0}
    query = "&".join(f"tags={number}" for number in range(3000))
    assert (await http.get(f"/v1/tagged?{query}")).json()["available"] == 3000
    document = (await http.get("/openapi.json")).json()
    [parameter] = document["paths"]["/v1/tagged"]["get"]["parameters"]
    assert not parameter.get("required")


async def test_a_literal_path_wins_over_a_template(http):
    assert (await http.get("/v1/stock/summary")).json() == {"sku": "*", "available": 0}
    assert (await http.get("/v1/stock/summary%20")).json()["sku"] == "summary "


async def test_the_path_wins_over_the_body(http):
    answer = await http.post("/v1/stock/tea/adjust", json={"sku": "coffee", "by": 1})
    assert answer.json() == {"sku": "tea", "available": 1}


async def test_head_answers_as_get_without_a_body(http):
    answer = await http.head("/v1/stock/tea")
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["content-length"]) == len('{"sku":"tea","available":0}')


async def test_head_does_not_begin_a_stream(http):
    answer = await http.head("/v1/watch/endless")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-ndjson")


async def test_a_refusal_is_a_typed_problem(http):
    order = {"order_id": "1", "lines": [{"sku": "gone", "quantity": 1}]}
    answer = await http.post("/v1/reservations", json=order)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "urn:switchgear:refusal:acme.stock.v1.OutOfStock",
        "title": "OutOfStock",
        "status": 422,
        "detail": "There is not enough of one article.",
        "instance": "/v1/reservations",
        "refusal": {"sku": "gone", "available": 3},
    }


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b"{", ""),
        (b"[]", ""),
        (b"", "/order_id"),
        (b'{"lines":[]}', "/order_id"),
        (b'{"order_id":1,"lines":[]}', "/order_id"),
        (b'{"order_id":"1","lines":[{"sku":"a","quantity":"many"}]}', "/lines/0/quantity"),
        (b'{"order_id":"1","lines":[{"sku":"a"}]}', "/lines/0/quantity"),
        (b'{"order_id":"1","lines":[],"colour":"MAUVE"}', "/colour"),
        (b'{"order_id":"\xff","lines":[]}', ""),
    ],
)
async def test_bad_input_is_400_with_a_pointer(world, http, body, pointer):
    headers = {"content-type": "application/json"}
    answer = await http.post("/v1/reservations", content=body, headers=headers)
    problem = answer.json()
    assert (answer.status_code, problem["status"]) == (400, 400)
    assert problem["type"] == "urn:switchgear:error:SG411"
    assert problem["pointer"] == pointer
    assert world.handler.ran == []


@pytest.mark.parametrize(
    ("path", "pointer"),
    [
        ("/v1/stock/tea?least=many", "/least"),
        ("/v1/stock/tea?least=1&least=2", "/least"),
        ("/v1/stock/tea?colours=MAUVE", "/colours/0"),
        ("/v1/stock/%FF", "/sku"),
        ("/v1/stock/tea?least=%FF", None),
    ],
)
async def test_bad_parameters_are_400_with_a_pointer(http, path, pointer):
    answer = await http.get(path)
    assert answer.status_code == 400
    assert answer.json().get("pointer") == pointer


async def test_a_handler_may_turn_a_request_away_itself(http):
    answer = await http.get("/v1/stock/nothing")
    assert answer.status_code == 404
    assert answer.json()["detail"] == "There is no such article."


async def test_an_unknown_path_is_404(http):
    for path in ("/", "/v1", "/v1/stock", "/v1/stock/", "/v1/stock/tea/", "/v1//tea"):
        answer = await http.get(path)
        assert (answer.status_code, answer.json()["status"]) == (404, 404), path


async def test_an_unknown_method_is_405_and_says_what_is_offered(http):
    answer = await http.post("/v1/stock/tea", json={})
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
    answer = await http.options("/v1/seen")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, POST")
    answer = await http.put("/v1/reservations", json={})
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/xml"},
        {"content-type": "application/json; charset=latin-1"},
        {"content-type": "application/json", "content-encoding": "gzip"},
        {},
    ],
)
async def test_another_media_type_is_415(world, http, headers):
    answer = await http.post("/v1/do", content=b'{"what":"x"}', headers=headers)
    assert (answer.status_code, answer.headers["accept"]) == (415, "application/json")
    assert world.handler.ran == []


@pytest.mark.parametrize(
    "media", ["application/json; charset=UTF-8", "application/vnd.shop+json", "Application/JSON"]
)
async def test_json_has_several_names(http, media):
    answer = await http.post("/v1/do", content=b'{"what":"x"}', headers={"content-type": media})
    assert answer.status_code == 200


async def test_a_body_over_the_limit_is_413_and_is_not_read():
    async with serving(rest={"limit": 1000}) as world:
        port = int(world.http.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"POST /v1/do HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"content-length: 1000000000\r\n\r\n{"
        )
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
        assert head.startswith(b"HTTP/1.1 413")
        writer.close()

        async def endless():
            while True:
                yield b"x" * 100
                await asyncio.sleep(0)

        headers = {"content-type": "application/json"}
        async with aiohttp.ClientSession() as session:
            url = f"{world.http}/v1/do"
            async with session.post(url, data=b"x" * 1001, headers=headers) as answer:
                assert answer.status == 413
                assert (await answer.json(content_type=None))["status"] == 413
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"POST /v1/do HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"transfer-encoding: chunked\r\n\r\n" + b"400\r\n" + b"x" * 0x400 + b"\r\n"
        )
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
        assert head.startswith(b"HTTP/1.1 413")
        # a client that only reads when all is sent sees the answer too: no reset
        for _ in range(50):
            writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        assert b'"status":413' in await asyncio.wait_for(reader.read(), 60)
        writer.close()
        assert world.handler.ran == []


async def test_an_exception_is_500_with_an_id_that_is_in_the_log(http, caplog):
    for what in ("raise", "refuse", "rejected", "wrong", "unknown"):
        caplog.clear()
        answer = await http.post("/v1/do", json={"what": what})
        problem = answer.json()
        assert (answer.status_code, problem["type"]) == (500, "urn:switchgear:error:SG302")
        assert "hunter2" not in answer.text
        name = problem["instance"].removeprefix("urn:uuid:")
        assert len(name) == 32
        assert name in caplog.text
        assert "switchgear-outcome" not in answer.headers


async def test_a_dependency_that_is_not_available_is_503_without_the_mark(http):
    answer = await http.post("/v1/do", json={"what": "unavailable"})
    assert answer.status_code == 503
    assert "switchgear-outcome" not in answer.headers
    assert answer.headers["switchgear-retry"] == "no"
    assert "hunter2" not in answer.text


async def test_a_deadline_that_has_passed_is_504_and_nothing_runs(world, http):
    for left in ("0", "-5"):
        answer = await http.get("/v1/stock/tea", headers={"switchgear-timeout": left})
        assert answer.status_code == 504
        assert answer.headers["switchgear-outcome"] == "not-executed"
    assert world.handler.ran == []


async def test_a_deadline_cancels_the_handler(world, http):
    for deadline in longer(1.0):
        headers = {"switchgear-timeout": f"{deadline * 1000:.0f}"}
        answer = await http.post("/v1/do", json={"what": "wait"}, headers=headers, timeout=120)
        if world.handler.began.is_set():
            break
    assert answer.status_code == 504
    assert "switchgear-outcome" not in answer.headers
    assert world.handler.cancelled.is_set()


async def test_a_client_that_hangs_up_cancels_the_handler(world):
    port = int(world.http.rpartition(":")[2])
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"POST /v1/do HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b'content-length: 15\r\n\r\n{"what":"wait"}'
    )
    await world.handler.began.wait()
    writer.close()
    await asyncio.wait_for(world.handler.cancelled.wait(), 60)


async def test_what_rides_along(http):
    headers = {
        "switchgear-timeout": "60000",
        "switchgear-attempt": "3",
        "switchgear-priority": "critical",
        "switchgear-caller": "orders",
        "idempotency-key": '"k1"',
        "traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01",
    }
    seen = (await http.post("/v1/seen", headers=headers)).json()
    left = seen.pop("left")
    assert 30 < left <= 60
    assert seen == {
        "caller": "orders",
        "key": "k1",
        "attempt": 3,
        "priority": "critical",
        "traceparent": headers["traceparent"],
    }
    # a key is for keyed commands; what only hints never fails a request
    odd = {"idempotency-key": "k", "switchgear-attempt": "x", "switchgear-priority": "urgent"}
    seen = (await http.get("/v1/seen", headers=odd)).json()
    assert (seen["key"], seen["attempt"], seen["priority"]) == (None, 1, "default")


@pytest.mark.parametrize("value", ["soon", "1.5", "1s", "9" * 16, "²"])
async def test_an_unreadable_timeout_is_400(http, value):
    headers = {"switchgear-timeout": value.encode()}
    assert (await http.get("/v1/stock/tea", headers=headers)).status_code == 400


@pytest.mark.parametrize("value", ["", "x" * 1025, "schlüssel"])
async def test_an_unreadable_key_is_400(http, value):
    headers = {"idempotency-key": value.encode("latin-1")}
    assert (await http.post("/v1/seen", headers=headers)).status_code == 400


async def test_a_stream_is_one_reply_a_line(http):
    async with http.stream("GET", "/v1/watch/tea") as answer:
        assert answer.headers["content-type"] == "application/x-ndjson"
        lines = [json.loads(line) async for line in answer.aiter_lines()]
    assert lines == [{"sku": "tea", "available": number} for number in range(3)]


async def test_a_stream_that_fails_at_once_has_a_status(http):
    answer = await http.get("/v1/watch/refused")
    assert answer.status_code == 422
    assert answer.json()["refusal"] == {"sku": "refused", "available": 0}


async def test_a_stream_that_fails_later_says_so_in_its_last_line(http):
    lines = (await http.get("/v1/watch/gone")).text.splitlines()
    assert len(lines) == 3
    problem = json.loads(lines[2])["@problem"]
    assert (problem["title"], problem["status"]) == ("OutOfStock", 422)
    lines = (await http.get("/v1/watch/broken")).text.splitlines()
    assert json.loads(lines[2])["@problem"]["status"] == 500
    assert "hunter2" not in lines[2]


async def test_a_reader_that_leaves_ends_the_stream(world, http):
    async with http.stream("GET", "/v1/watch/endless") as answer:
        async for _ in answer.aiter_lines():
            break
    await asyncio.wait_for(world.handler.cancelled.wait(), 60)


async def test_live_ready_and_the_page(http):
    assert (await http.get("/livez")).json() == {"status": "ok"}
    assert (await http.get("/readyz")).status_code == 200
    document = (await http.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]["/v1/stock/{sku}"]) == {"get"}
    assert "servers" not in document
    page = (await http.get("/docs")).text
    assert "Reserve all lines, or none." in page
    assert "/v1/stock/{sku}" in page
    for outside in ("http://", "https://", "<script"):
        assert outside not in page


async def test_readiness_is_asked():
    ready = True

    async def told():
        return ready

    async with serving(rest={"ready": told, "docs": False}) as world:
        async with httpx.AsyncClient(base_url=world.http, timeout=60) as http:
            assert (await http.get("/readyz")).status_code == 200
            ready = False
            assert (await http.get("/readyz")).status_code == 503
            assert (await http.get("/docs")).status_code == 404


async def test_before_hooks_say_who_asks():
    from switchgear.model.outcome import Rejected, Status

    async def authenticate(request):
        token = request.headers.get("authorization")
        if token is None:
            raise Rejected("Say who you are.", status=Status.UNAUTHENTICATED)
        if token == "Bearer evil":
            raise Rejected("Not you.", status=Status.PERMISSION_DENIED)
        assert request.operation.name == "seen_keyed"
        assert request.peer.startswith("127.0.0.1:")
        return "alice"

    async with serving(before=[authenticate]) as world:
        async with httpx.AsyncClient(base_url=world.http, timeout=60) as http:
            answer = await http.post("/v1/seen")
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            evil = {"authorization": "Bearer evil"}
            assert (await http.post("/v1/seen", headers=evil)).status_code == 403
            good = {"authorization": "Bearer good", "idempotency-key": "k"}
            seen = (await http.post("/v1/seen", headers=good)).json()
            # two callers may choose one key: what is derived from it must differ
            assert (seen["caller"], seen["key"]) == ("alice", "alice/k")


async def test_nothing_is_read_of_who_may_not_ask():
    from switchgear.model.outcome import Rejected, Status

    async def authenticate(request):
        raise Rejected("Say who you are.", status=Status.UNAUTHENTICATED)

    head = b"POST /v1/do HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000\r\n\r\n{"
    async with serving(before=[authenticate]) as world:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", int(world.http.rpartition(":")[2])
        )
        writer.write(head)
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
        assert answer.startswith(b"HTTP/1.1 401")
        writer.close()
        async with httpx.AsyncClient(base_url=world.http, timeout=60) as http:
            assert (await http.head("/v1/watch/tea")).status_code == 401


async def test_cors_is_off_unless_asked_for(http):
    from switchgear.serve.cors import Cors

    headers = {"origin": "https://shop.example", "access-control-request-method": "POST"}
    answer = await http.get("/v1/stock/tea", headers=headers)
    assert not [name for name in answer.headers if name.startswith("access-control")]
    cors = Cors(origins=["https://shop.example"], headers=["x-own"])
    async with serving(rest={"cors": cors}) as world:
        async with httpx.AsyncClient(base_url=world.http, timeout=60) as own:
            answer = await own.options("/v1/reservations", headers=headers)
            assert answer.status_code == 204
            assert "content-length" not in answer.headers
            assert answer.headers["access-control-allow-origin"] == "https://shop.example"
            assert answer.headers["access-control-allow-methods"] == "POST"
            assert "idempotency-key" in answer.headers["access-control-allow-headers"]
            assert "x-own" in answer.headers["access-control-allow-headers"]
            answer = await own.get("/v1/stock/nothing", headers=headers)
            assert answer.status_code == 404
            assert answer.headers["access-control-allow-origin"] == "https://shop.example"
            assert answer.headers["vary"] == "origin"
            answer = await own.get("/v1/stock/tea", headers={"origin": "https://evil.example"})
            assert "access-control-allow-origin" not in answer.headers


async def test_a_mounted_application_moves_under_its_prefix():
    from fastapi import FastAPI
    from starlette.applications import Starlette
    from starlette.routing import Mount

    from switchgear.serve.dispatch import Dispatcher
    from switchgear.serve.rest import Rest

    ours = Rest(Dispatcher([Handler()]))
    api = FastAPI()

    @api.get("/own")
    async def own() -> str:
        return "own"

    api.mount("/inner%20x", ours)
    api.mount("/inventory", ours)
    outer = Starlette(routes=[Mount("/deep", app=api)])
    for app, prefix in ((api, "/inventory"), (outer, "/deep/inventory")):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as http:
            answer = await http.get(f"{prefix}/v1/stock/tea")
            assert answer.json() == {"sku": "tea", "available": 0}
            answer = await http.get(f"{prefix}/v1/stock/green%2Ftea")
            assert answer.json() == {"sku": "green/tea", "available": 0}
            assert f'href="{prefix}/openapi.json"' in (await http.get(f"{prefix}/docs")).text
            document = (await http.get(f"{prefix}/openapi.json")).json()
            assert document["servers"] == [{"url": prefix}]
            assert (await http.get(f"{prefix}/nothing")).json()["status"] == 404
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(api), base_url="http://x", timeout=60
    ) as http:
        assert (await http.get("/own")).json() == "own"


@pytest.mark.parametrize(
    ("path", "sku"),
    [
        ("100%25", "100%"),
        ("%2541", "%41"),
        ("caf%C3%A9%20:x", "café :x"),
        ("%25FF", "%FF"),
        ("%3F*%23", "?*#"),
    ],
)
async def test_a_server_that_does_not_tell_the_raw_path_has_decoded_it(path, sku):
    from switchgear.serve.dispatch import Dispatcher
    from switchgear.serve.rest import Rest

    ours = Rest(Dispatcher([Handler()]))

    async def app(scope, receive, send):
        await ours({**scope, "raw_path": None, "root_path": ""}, receive, send)

    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://x", timeout=60
    ) as http:
        assert (await http.get(f"/v1/stock/{path}")).json() == {"sku": sku, "available": 0}


@pytest.mark.parametrize("segment", ["..", ".", "%2e%2E"])
async def test_a_path_that_leads_upwards_is_refused(world, segment):
    host, port = world.http.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))  # clients tidy such paths up
    asked = f"GET /v1/stock/{segment} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    writer.write(asked.encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert head.split()[1] == b"400"
    assert json.loads(body)["pointer"] == "/sku"
    assert world.handler.ran == []


@pytest.mark.parametrize(
    ("deadline", "status"), [(b"switchgear-timeout: 100\r\n", 504), (b"", 408)]
)
async def test_a_body_that_does_not_arrive(world, monkeypatch, deadline, status):
    """A raw socket sends half a body and stays: the handler was not run, and that is said."""
    monkeypatch.setattr("switchgear.serve.rest._PATIENCE", 0.2)
    host, port = world.http.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"POST /v1/reservations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        + deadline
        + b"content-length: 500\r\n\r\n{"
    )
    async with asyncio.timeout(60):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    assert head.startswith(f"http/1.1 {status}")
    assert "switchgear-outcome: not-executed" in head
    writer.close()
    await writer.wait_closed()
