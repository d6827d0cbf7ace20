"""A method of an imported contract is reached over REST by a binding that a route can say."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import httpx
import pytest
from google.api.http_pb2 import HttpRule
from google.protobuf import text_format

from switchgear import Message, Service, field, query, service
from switchgear.contract.bindings import bindings_of
from switchgear.contract.descriptors import file_descriptors
from switchgear.contract.importer import import_proto
from switchgear.contract.protoc import Tree
from switchgear.errors import ContractError
from switchgear.testing import testing
from tests.contract.test_importer import agree, compiled, loaded

PROTO = """syntax = "proto3";
package bound.v1;
import "google/api/annotations.proto";
message Ask { string name = 1; string view = 2; }
message Book { string title = 1; }
service Shelf {
  rpc Get(Ask) returns (Book) { option (google.api.http) = {
    get: "/v1/{name=shelves/*/books/**}" additional_bindings { get: "/v2/books/{name=*}" } }; }
  rpc Plain(Ask) returns (Book) { option (google.api.http) = { get: "/v1/plain/{name}" }; }
  rpc Put(Ask) returns (Book) { option (google.api.http) = {
    patch: "/v1/{name}" body: "view" response_body: "title" }; }
}
"""


@pytest.mark.parametrize(
    ("rule", "routes"),
    [
        ('get: "/a/{b}"', ["GET /a/{b}"]),
        ('get: "/a/{b=*}" additional_bindings { get: "/c" }', ["GET /a/{b}", "GET /c"]),
        ('get: "/a/{b=c/*}" additional_bindings { post: "/c" body: "*" }', ["POST /c"]),
        ('post: "/a"', []),
        ('post: "/a" body: "b"', []),
        ('post: "/a:go" body: "*"', []),
        ('get: "/a" response_body: "b"', []),
        ('get: "/a/{b.c}"', []),
        ('custom { kind: "HEAD" path: "/a" }', []),
    ],
)
def test_what_a_route_can_say(rule: str, routes: list[str]) -> None:
    assert bindings_of(text_format.Parse(rule, HttpRule())) == routes


async def test_it_is_called_by_the_binding_and_exported_whole(tmp_path: Path) -> None:
    (tmp_path / "bound.proto").write_text(PROTO)
    source = import_proto(tmp_path / "bound.proto", search=(tmp_path,))
    library = loaded(source, "bound_contracts")
    agree(file_descriptors(*library.roots).file, compiled(Tree.of(tmp_path)).file)
    module = vars(library.module)
    operations = library.services[0].operations
    assert operations["put"].route is None
    assert "GET /v1/plain/{name}" in source
    app = Service("shelf")

    @app.serves
    class Served(module["Shelf"]):  # type: ignore[misc]  # it was imported just now
        async def get(self, request: Message) -> Message:
            return module["Book"](title=f"{request.name} {request.view}")  # type: ignore[attr-defined]

        async def plain(self, request: Message) -> Message:
            return module["Book"]()

        async def put(self, request: Message) -> Message:
            return module["Book"]()

    async with testing(app) as t:
        transport = httpx.ASGITransport(t.asgi)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            answer = await http.get("/v2/books/dune", params={"view": "full"})
    assert (answer.status_code, answer.json()["title"]) == (200, "dune full")


def test_a_route_that_is_none_of_the_bindings_is_refused() -> None:
    class Asked(Message, package="bound.v2"):
        name: str = field(1)

    @service("bound.v2")
    class Two(Protocol):
        @query("GET /v3/books/{name}", http='get: "/v2/books/{name}"')
        async def get(self, request: Asked) -> Asked: ...

    with pytest.raises(ContractError, match=r"GET /v3/books/\{name\} is not in what http= says"):
        file_descriptors(Two)
