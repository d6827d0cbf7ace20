"""Which operation a method and path mean; how an alarm rings."""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchgear.errors import ConfigError, ContractError
from switchgear.model.outcome import Rejected
from switchgear.serve.alarm import Alarms, alarms
from switchgear.serve.cors import Cors
from switchgear.serve.routing import Router
from switchgear.serve.tls import Certificate


@pytest.fixture
def router():
    router = Router()
    for method, path in (
        ("GET", "/a/{x}/c/{y}"),
        ("GET", "/a/b/c/{y}"),
        ("GET", "/a/b/c/d"),
        ("POST", "/a/{other}/c/{y}"),
        ("DELETE", "/a/b"),
    ):
        router.add(method, path, f"{method} {path}")
    return router


def found(router, method, path):
    match = router.find(path, method)
    return None if match is None else (match.methods.get(method), dict(match.parameters))


def test_the_more_literal_route_wins(router):
    assert found(router, "GET", "/a/b/c/d") == ("GET /a/b/c/d", {})
    assert found(router, "GET", "/a/b/c/e") == ("GET /a/b/c/{y}", {"y": "e"})
    assert found(router, "GET", "/a/x/c/d") == ("GET /a/{x}/c/{y}", {"x": "x", "y": "d"})


def test_each_method_names_its_parameters(router):
    assert found(router, "POST", "/a/b/c/e") == (
        "POST /a/{other}/c/{y}",
        {"other": "b", "y": "e"},
    )


def test_a_path_without_the_method_tells_the_others(router):
    match = router.find("/a/b/c/e", "PUT")
    assert sorted(match.methods) == ["GET", "POST"]
    assert sorted(router.find("/a/b", "GET").methods) == ["DELETE"]


@pytest.mark.parametrize("path", ["", "/", "/a", "/a//c/d", "/a/b/", "/a/b/c/d/e", "a/b"])
def test_a_path_that_leads_nowhere(router, path):
    assert router.find(path, "GET") is None


def test_a_parameter_is_decoded_after_the_path_was_split(router):
    assert found(router, "GET", "/a/%2F%C3%A9/c/%25")[1] == {"x": "/é", "y": "%"}
    with pytest.raises(Rejected) as caught:
        router.find("/a/x/c/%FF", "GET")
    assert caught.value.pointer == "/y"


@pytest.mark.parametrize(
    "path",
    [
        *("/a/../c/x", "/a/%2E%2e/c/x", "/a/b/c/.", "/a/b/c/%2e"),
        *("/v1/../../etc/passwd", "/v1/shelves/..", "/v1/shelves/..:go", "/v1/shelves/1/books/."),
    ],
)
def test_no_variable_is_a_way_up(router, deep, path):
    with pytest.raises(Rejected, match=r"has the segment \. or \.\."):
        (deep if path.startswith("/v1") else router).find(path, "GET")


def test_dots_in_a_name_are_dots(router):
    assert found(router, "GET", "/a/.../c/..x")[1] == {"x": "...", "y": "..x"}


@pytest.fixture
def deep():
    router = Router()
    for path in (
        *("/v1/{name=**}", "/v1/{name=shelves/*}", "/v1/{name=shelves/*}:go", "/v1/shelves/all"),
        *("/v1/{name=shelves/*/books/**}", "/v1/shelves/{id}/books/{book}", "/v1/now:go"),
    ):
        router.add("GET", path, path)
    router.add("POST", "/v1/{all=**}", "post")
    return router


@pytest.mark.parametrize(
    ("path", "entry", "values"),
    [
        ("/v1/shelves/all", "/v1/shelves/all", {}),
        ("/v1/shelves/1", "/v1/{name=shelves/*}", {"name": "shelves/1"}),
        ("/v1/shelves/1:go", "/v1/{name=shelves/*}:go", {"name": "shelves/1"}),
        ("/v1/shelves/1:no", "/v1/{name=shelves/*}", {"name": "shelves/1:no"}),
        ("/v1/shelves/1%3Ago", "/v1/{name=shelves/*}", {"name": "shelves/1:go"}),
        ("/v1/shelves/1/books/2", "/v1/shelves/{id}/books/{book}", {"id": "1", "book": "2"}),
        ("/v1/shelves/1/books", "/v1/{name=shelves/*/books/**}", {"name": "shelves/1/books"}),
        ("/v1/shelves/1/books/2/3", "/v1/{name=shelves/*/books/**}", {"name": ...}),
        ("/v1/shelves/1/x", "/v1/{name=**}", {"name": "shelves/1/x"}),
        ("/v1", "/v1/{name=**}", {"name": ""}),
        ("/v1/now:go", "/v1/now:go", {}),
        ("/v1/a%2fb%2F/c%20d", "/v1/{name=**}", {"name": "a%2Fb%2F/c d"}),
    ],
)
def test_several_segments_and_verbs(deep, path, entry, values):
    told = path.removeprefix("/v1/")
    expected = {name: told if one is ... else one for name, one in values.items()}
    assert found(deep, "GET", path) == (entry, expected)


def test_what_is_less_literal_may_offer_the_method(deep):
    assert found(deep, "POST", "/v1/shelves/all") == ("post", {"all": "shelves/all"})
    assert sorted(deep.find("/v1/shelves/1", "PUT").methods) == ["GET", "POST"]
    assert deep.find("/v1/", "GET") is None


@given(st.text())
def test_no_path_breaks_the_router(path):
    router = Router()
    router.add("GET", "/{x}", 1)
    match = router.find("/" + path, "GET")
    assert match is None or "x" in match.parameters


def test_a_route_is_taken_once(router):
    for method, path in (("GET", "/a/b/c/d"), ("GET", "/a/{z}/c/{w}")):
        with pytest.raises(ContractError, match="Two operations"):
            router.add(method, path, "again")


async def test_alarms_ring_late_never_early_and_not_when_taken_out():
    rung = []
    own = Alarms(asyncio.get_running_loop())
    begin = monotonic()

    def bell(name):
        return lambda: rung.append((name, monotonic() - begin))

    first, second, third = bell("first"), bell("second"), bell("third")
    own.set(begin + 0.05, second)
    own.set(begin + 0.02, first)
    own.set(begin + 0.03, third).pop(third)
    own.set(begin - 1, bell("past"))
    async with asyncio.timeout(60):
        while len(rung) < 3:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    assert [name for name, _ in rung] == ["past", "first", "second"]
    for (_, when), due in zip(rung[1:], (0.02, 0.05), strict=True):
        assert due <= when
    assert alarms() is alarms()


@pytest.mark.parametrize(
    "wrong", [{"origins": []}, {"origins": "*"}, {"origins": ["*"], "credentials": True}]
)
def test_cors_is_checked(wrong):
    with pytest.raises(ConfigError):
        Cors(**wrong)


def test_cors_for_anybody_and_with_credentials():
    anybody = dict(Cors(origins=["*"]).answer(b"https://x"))
    assert anybody[b"access-control-allow-origin"] == b"*"
    assert b"vary" not in anybody
    own = dict(Cors(origins=["https://x"], credentials=True).answer(b"https://x"))
    assert own[b"access-control-allow-credentials"] == b"true"
    assert dict(Cors(origins=["https://x"]).answer(None)) == {b"vary": b"origin"}


def test_a_certificate_that_is_not_there_is_said_so(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        Certificate(tmp_path / "no.pem", tmp_path / "no.key")
