"""Every binding of `google.api.http` that REST can serve: in, over the wire both ways, and out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import aiohttp
import google.api
import msgspec
import pytest
from google.api import annotations_pb2
from google.api.http_pb2 import HttpRule
from google.protobuf import text_format
from openapi_spec_validator import OpenAPIV31SpecValidator
from yarl import URL

from switchgear import (
    Empty,
    FieldMask,
    Message,
    Value,
    command,
    connect,
    field,
    query,
    route,
    service,
)
from switchgear.call.transcoding import asked
from switchgear.contract.bindings import bindings_of, fill_rule
from switchgear.contract.descriptors import file_descriptors
from switchgear.contract.export import openapi
from switchgear.contract.importer import import_proto
from switchgear.contract.protoc import Tree
from switchgear.contract.service import contract_of
from switchgear.errors import ContractError
from switchgear.model.outcome import Rejected
from switchgear.serve.dispatch import Dispatcher
from switchgear.serve.rest import Rest
from switchgear.serve.transcoding import Transcoding
from tests.contract.test_importer import agree, compiled, loaded
from tests.serve.embedded import HttpServer

PROTO = """syntax = "proto3";
package bound.v1;
import "google/api/annotations.proto";
import "google/protobuf/field_mask.proto";
import "google/protobuf/struct.proto";
message SubMessage { optional string subfield = 1; repeated int32 numbers = 2; }
message Memo { string message_id = 1; string text = 2; repeated string tags = 3; }
message GetMessageRequest {
  string message_id = 1; int64 revision = 2; SubMessage sub = 3; string user_id = 4;
  string name = 5;
}
message UpdateMessageRequest {
  string message_id = 1; Memo message = 2; google.protobuf.FieldMask update_mask = 3;
}
message Tagged { string message_id = 1; repeated string tags = 2; map<string, string> labels = 3; }
message Tree { string name = 1; Tree left = 2; }
service Messaging {
  rpc GetMessage(GetMessageRequest) returns (Memo) { option (google.api.http) = {
    get: "/v1/messages/{message_id}"
    additional_bindings { get: "/v1/users/{user_id}/messages/{message_id}" }
    additional_bindings { get: "/v1/{name=messages/*}:look" }
  }; }
  rpc Named(GetMessageRequest) returns (Memo) { option (google.api.http) = {
    get: "/v2/{name=shelves/*/books/**}" }; }
  rpc Deep(GetMessageRequest) returns (Memo) { option (google.api.http) = {
    get: "/v1/deep/{message_id}/{sub.subfield}" }; }
  rpc UpdateMessage(UpdateMessageRequest) returns (Memo) { option (google.api.http) = {
    patch: "/v1/messages/{message_id}" body: "message" }; }
  rpc Replace(Memo) returns (Memo) { option (google.api.http) = {
    put: "/v1/messages/{message_id}" body: "*" response_body: "text" }; }
  rpc Rename(UpdateMessageRequest) returns (Memo) { option (google.api.http) = {
    patch: "/v3/{message.message_id=messages/*}" body: "message" response_body: "tags" }; }
  rpc Tag(Tagged) returns (Tagged) { option (google.api.http) = {
    post: "/v1/messages/{message_id}:tag" body: "labels" response_body: "labels" }; }
  rpc Clear(GetMessageRequest) returns (Memo) { option (google.api.http) = {
    post: "/v1/messages/{message_id}:clear" }; }
  rpc Watch(GetMessageRequest) returns (stream Memo) { option (google.api.http) = {
    get: "/v1/watch/{message_id}" response_body: "text" }; }
  rpc Climb(Tree) returns (Tree) { option (google.api.http) = {
    get: "/v1/trees/{name}" additional_bindings { custom { kind: "HEAD" path: "/v1/head" } }
    additional_bindings { get: "/v1/*/x" } additional_bindings { post: "/v1/trees" body: "*" } }; }
  rpc Query(Tree) returns (Tree);
  rpc Same(Tree) returns (Tree) { option (google.api.http) = {
    post: "/v1/trees" body: "*" additional_bindings { post: "/v1/{none=a/*}" body: "*" } }; }
}
"""


@pytest.fixture(scope="module")
def bound(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The imported module, what protoc makes of the file, and the source."""
    folder = tmp_path_factory.mktemp("bound")
    (folder / "bound.proto").write_text(PROTO)
    source = import_proto(folder / "bound.proto", search=(folder,))
    library = loaded(source, "bound_contracts")
    names = {name: value for name, value in vars(library.module).items() if name[:1].isupper()}
    return SimpleNamespace(
        **names, source=source, library=library, files=compiled(Tree.of(folder)).file
    )


def test_it_is_exported_as_it_came(bound: SimpleNamespace) -> None:
    agree(file_descriptors(*bound.library.roots).file, bound.files)


def test_the_module_says_what_cannot_be_a_route_and_why(bound: SimpleNamespace) -> None:
    head = " ".join(bound.source.partition('"""\n\nfrom')[0].split())
    assert head.partition("not by these routes: ")[2] == (
        "- GET /v1/trees/{name} of bound.v1.Messaging.Climb: The field left of Tree does not "
        "fit into the query of a GET. "
        "- HEAD /v1/head of bound.v1.Messaging.Climb: HEAD is not a method of a query. "
        "- GET /v1/*/x of bound.v1.Messaging.Climb: * stands outside of a {parameter}, so nobody "
        "gets its value. "
        "- POST /v1/trees of bound.v1.Messaging.Same: Climb has the same addresses. "
        "- POST /v1/{none=a/*} of bound.v1.Messaging.Same: The path parameter none is not a field "
        "of Tree."
    )
    operations = contract_of(bound.Messaging).operations
    assert [one.path for one in operations["climb"].routes] == ["/v1/trees"]
    assert operations["same"].routes == ()
    assert operations["query_"].rpc_name == "Query"  # decorators below still mean `query`


class Server:
    """A server whose handler answers with what it was asked, and all ways to ask it."""

    def __init__(self, bound: SimpleNamespace) -> None:
        self.bound = bound
        self.asked: list[Any] = []

    def handler(self) -> Any:
        bound, asked = self.bound, self.asked

        def answered(name: str) -> Any:
            async def answer(_: Any, request: Any) -> Any:
                asked.append(request)
                if name == "tag":
                    return request
                if name in {"climb", "query_", "same"}:
                    return bound.Tree()
                return bound.Memo(message_id="m", text="Hi!", tags=["a", "b"])

            async def stream(_: Any, request: Any) -> AsyncIterator[Any]:
                asked.append(request)
                for text in ("one", "two"):
                    yield bound.Memo(text=text)

            return stream if name == "watch" else answer

        operations = contract_of(bound.Messaging).operations
        made = type("Handler", (bound.Messaging,), {one: answered(one) for one in operations})
        return made()


@pytest.fixture
async def server(bound: SimpleNamespace) -> AsyncIterator[Any]:
    made = Server(bound)
    http = HttpServer(Rest(Dispatcher([made.handler()])))
    url = f"http://127.0.0.1:{await http.start()}"
    try:
        async with aiohttp.ClientSession() as session, connect(bound.Messaging, url) as client:

            async def send(method: str, path: str, body: Any = ...) -> tuple[int, Any]:
                data = None if body is ... else msgspec.json.encode(body)
                headers = {"content-type": "application/json"} if data else {}
                target = URL(url + path, encoded=True)
                async with session.request(method, target, data=data, headers=headers) as answer:
                    read = await answer.read()
                    return answer.status, msgspec.json.decode(read)

            yield SimpleNamespace(send=send, client=client, asked=made.asked, bound=bound)
    finally:
        await http.stop()


# What the comments of google/api/http.proto say a request over HTTP means, and more of the kind.
TABLE: list[tuple[str, str, Any, str, dict[str, Any]]] = [
    ("GET", "/v1/messages/123456", ..., "get_message", {"message_id": "123456"}),
    (
        "GET",
        "/v1/messages/123456?revision=2&sub.subfield=foo",
        ...,
        "get_message",
        {"message_id": "123456", "revision": 2, "sub": {"subfield": "foo"}},
    ),
    (
        "GET",
        "/v1/users/me/messages/123456",
        ...,
        "get_message",
        {"user_id": "me", "message_id": "123456"},
    ),
    (
        "GET",
        "/v1/messages/a%2Fb?sub.numbers=1&sub.numbers=2&userId=x",
        ...,
        "get_message",
        {"message_id": "a/b", "sub": {"numbers": [1, 2]}, "user_id": "x"},
    ),
    ("GET", "/v1/messages/1%3Alook", ..., "get_message", {"message_id": "1:look"}),
    ("GET", "/v1/messages/1:look", ..., "get_message", {"name": "messages/1"}),
    ("GET", "/v1/messages/1:other", ..., "get_message", {"message_id": "1:other"}),
    ("GET", "/v1/%6Dessages/1", ..., "get_message", {"message_id": "1"}),
    ("GET", "/v2/shelves/1/books", ..., "named", {"name": "shelves/1/books"}),
    (
        "GET",
        "/v2/shelves/a%20b/books/x/y%2fz%3F",
        ...,
        "named",
        {"name": "shelves/a b/books/x/y%2Fz?"},
    ),
    (
        "GET",
        "/v1/deep/1/foo?sub.numbers=3",
        ...,
        "deep",
        {"message_id": "1", "sub": {"subfield": "foo", "numbers": [3]}},
    ),
    (
        "PATCH",
        "/v1/messages/123456?updateMask=text,tags",
        {"text": "Hi!"},
        "update_message",
        {"message_id": "123456", "message": {"text": "Hi!"}, "update_mask": ["text", "tags"]},
    ),
    ("PATCH", "/v1/messages/1", ..., "update_message", {"message_id": "1"}),
    ("PUT", "/v1/messages/1", {"text": "Hi!"}, "replace", {"message_id": "1", "text": "Hi!"}),
    (
        "PATCH",
        "/v3/messages/1",
        {"messageId": "2", "text": "Hi!"},
        "rename",
        {"message": {"message_id": "messages/1", "text": "Hi!"}},
    ),
    (
        "POST",
        "/v1/messages/1:tag?tags=a",
        {"k": "v"},
        "tag",
        {"message_id": "1", "labels": {"k": "v"}, "tags": ["a"]},
    ),
    ("POST", "/v1/messages/1:clear?revision=3", ..., "clear", {"message_id": "1", "revision": 3}),
]


def made(bound: SimpleNamespace, name: str, values: dict[str, Any]) -> Any:
    """Return the request of an operation."""
    known = {"sub": bound.SubMessage, "message": bound.Memo}
    given = {
        key: known[key](**one) if key in known else FieldMask(tuple(one)) if "mask" in key else one
        for key, one in values.items()
    }
    return contract_of(bound.Messaging).operations[name].request(**given)


@pytest.mark.parametrize(("method", "path", "body", "name", "values"), TABLE)
async def test_a_request_means_what_google_says(
    server: Any, method: str, path: str, body: Any, name: str, values: dict[str, Any]
) -> None:
    status, _ = await server.send(method, path, body)
    assert status == 200
    assert server.asked == [made(server.bound, name, values)]


# told by `test_a_client_takes_the_first_route_that_can_carry_the_request`
_LOOK = {"name": "messages/1"}


@pytest.mark.parametrize(("name", "values"), [(one[3], one[4]) for one in TABLE if one[4] != _LOOK])
async def test_a_client_says_it_so_that_the_server_hears_it(
    server: Any, name: str, values: dict[str, Any]
) -> None:
    asking = made(server.bound, name, values)
    reply = await getattr(server.client, name)(asking)
    assert server.asked == [asking]
    message = server.bound.Memo
    if name == "tag":
        assert reply == server.bound.Tagged(labels={"k": "v"})
    elif name == "replace":
        assert reply == message(text="Hi!")
    elif name == "rename":
        assert reply == message(tags=["a", "b"])
    else:
        assert reply == message(message_id="m", text="Hi!", tags=["a", "b"])


async def test_a_client_takes_the_first_route_that_can_carry_the_request(server: Any) -> None:
    # `message_id` is empty, which is no segment of the first two
    look = server.bound.GetMessageRequest(message_id="", name="messages/1", revision=2)
    await server.client.get_message(look)
    assert server.asked == [look]
    with pytest.raises(Rejected, match=r"message_id is '', .* nor of the 2 other routes") as raised:
        await server.client.get_message(server.bound.GetMessageRequest(name="books/1"))
    assert raised.value.pointer == "/message_id"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("shelves/1", "is not shelves/\\*/books/\\*\\*"),
        ("books/1/books/2", "is not shelves"),
        ("shelves//books/2", "cannot be part of a path"),
        ("shelves/1/books/../x", "cannot be part of a path"),
        ("", "is not shelves"),
    ],
)
async def test_a_name_that_does_not_fit_is_not_sent(server: Any, name: str, why: str) -> None:
    with pytest.raises(Rejected, match=why):
        await server.client.named(server.bound.GetMessageRequest(name=name))
    assert server.asked == []


async def test_what_a_query_leaves_no_trace_of_is_not_sent(server: Any) -> None:
    bound = server.bound
    said = bound.GetMessageRequest(message_id="1", sub=bound.SubMessage())
    with pytest.raises(Rejected, match="sub says nothing, which a query cannot tell") as raised:
        await server.client.get_message(said)
    assert (raised.value.pointer, server.asked) == ("/sub", [])
    said = bound.GetMessageRequest(message_id="1", sub=bound.SubMessage(subfield=""))
    await server.client.get_message(said)
    assert server.asked == [said]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "pointer"),
    [
        ("PATCH", "/v1/messages/1", 5, 400, "/message"),
        ("PATCH", "/v3/messages/1", 5, 400, "/message"),
        ("PATCH", "/v1/messages/1", {"text": 5}, 400, "/message/text"),
        ("GET", "/v1/messages/1?revision=x", ..., 400, "/revision"),
        ("GET", "/v1/messages/1?sub.subfield=a&sub.subfield=b", ..., 400, "/sub/subfield"),
        ("GET", "/v2/shelves/%FF/books/1", ..., 400, "/name"),
        ("GET", "/v2/shelves/1/", ..., 404, None),
        ("GET", "/v2/shelves/1/books/", ..., 404, None),
        ("POST", "/v1/messages/1:look", ..., 405, None),
    ],
)
async def test_what_is_wrong_is_told(
    server: Any, method: str, path: str, body: Any, status: int, pointer: str | None
) -> None:
    code, problem = await server.send(method, path, body)
    assert (code, problem.get("pointer")) == (status, pointer)
    assert server.asked == []


async def test_the_answer_is_the_field_that_the_rule_names(server: Any) -> None:
    assert await server.send("PUT", "/v1/messages/1", {}) == (200, "Hi!")
    assert await server.send("PATCH", "/v3/messages/1", {}) == (200, ["a", "b"])
    assert await server.send("POST", "/v1/messages/1:tag", {"k": "v"}) == (200, {"k": "v"})
    replies = server.client.watch(server.bound.GetMessageRequest(message_id="1"))
    assert [one.text async for one in replies] == ["one", "two"]


def test_the_document_is_valid_and_says_what_openapi_can(bound: SimpleNamespace) -> None:
    document: Any = openapi(contract_of(bound.Messaging), title="t", version="1")
    OpenAPIV31SpecValidator(msgspec.json.decode(msgspec.json.encode(document))).validate()
    paths = document["paths"]
    named = paths["/v2/{name}"]["get"]
    assert named["parameters"][0]["schema"] == {
        "type": "string",
        "pattern": r"^shelves/[^/]+/books(/[^/]+)*$",
    }
    look = paths["/v1/{name}:look"]["get"]
    assert look["operationId"] == "Messaging.get_message.3"
    deep = paths["/v1/deep/{message_id}/{sub.subfield}"]["get"]
    assert [one["name"] for one in deep["parameters"]] == [
        *("message_id", "sub.subfield", "revision", "sub.numbers", "userId", "name"),
    ]
    patch = paths["/v1/messages/{message_id}"]["patch"]
    assert [one["name"] for one in patch["parameters"]] == ["message_id", "updateMask"]
    schema = patch["requestBody"]["content"]["application/json"]["schema"]
    assert {"$ref": "#/components/schemas/Memo"} in schema["anyOf"]
    put = paths["/v1/messages/{message_id}"]["put"]
    answer = put["responses"]["200"]["content"]["application/json"]["schema"]
    assert answer == {"type": "string", "default": ""}


@pytest.mark.parametrize(
    "file", ["google/longrunning/operations_proto.proto", "google/cloud/location/locations.proto"]
)
def test_files_of_google_are_served_as_a_whole(file: str) -> None:
    (folder,) = {Path(one) for one in google.api.__path__}
    search = folder.parent.parent
    source = import_proto(search / file, search=(search,))
    assert "not by these routes" not in source
    library = loaded(source, "google_contracts")
    (told,) = [one for one in file_descriptors(*library.roots).file if one.name == file]
    served = {
        one.rpc_name: [f"{route.method} {route.path}" for route in one.routes]
        for contract in library.services
        for one in contract.operations.values()
    }
    for method in told.service[0].method:
        rule = method.options.Extensions[annotations_pb2.http]
        assert served[method.name] == [one.text for one in bindings_of(rule)]


def test_two_routes_of_one_path_in_openapi() -> None:
    class Named(Message):
        name: str = field(1)

    @service("twice.v1")
    class Twice(Protocol):
        @query("GET /v1/{name=a/*}")
        async def a(self, request: Named) -> Named: ...

        @query("GET /v1/{name=b/*}")
        async def b(self, request: Named) -> Named: ...

    @service("twice.v2")
    class Thrice(Protocol):
        @query("GET /v1/a")
        async def a(self, request: Empty) -> Named: ...

    with pytest.raises(ContractError, match="Two operations are served at GET /v1/a"):
        openapi(contract_of(Thrice), contract_of(Thrice), title="t", version="1")
    paths: Any = openapi(contract_of(Twice), title="t", version="1")["paths"]
    assert list(paths) == ["/v1/{name}", "/v1/{name_1}"]
    assert paths["/v1/{name_1}"]["get"]["parameters"][0]["name"] == "name_1"


@pytest.mark.parametrize(
    ("rule", "routes"),
    [
        ('get: "/a/{b=c/*}"', ["GET /a/{b=c/*}"]),
        ('get: "/a/{b=*}" additional_bindings { get: "/c" }', ["GET /a/{b=*}", "GET /c"]),
        ('post: "/a"', ["POST /a"]),
        ('post: "/a:go" body: "b" response_body: "c"', ["POST /a:go"]),
        ('custom { kind: "HEAD" path: "/a" }', ["HEAD /a"]),
    ],
)
def test_a_rule_is_bindings_and_bindings_are_a_rule(rule: str, routes: list[str]) -> None:
    given = text_format.Parse(rule, HttpRule())
    found = bindings_of(given)
    assert [one.text for one in found] == routes
    if "custom" not in rule:
        made = HttpRule()
        fill_rule(made, found)
        assert made == given


def test_a_route_that_is_none_of_the_bindings_is_refused() -> None:
    class Asked(Message, package="bound.v2"):
        name: str = field(1)

    @service("bound.v2")
    class Two(Protocol):
        @query("GET /v3/books/{name}", http='get: "/v2/books/{name}"')
        async def get(self, request: Asked) -> Asked: ...

    with pytest.raises(ContractError, match=r"GET /v3/books/\{name\} is not in what http= says"):
        file_descriptors(Two)

    @service("bound.v3")
    class Three(Protocol):
        @query("GET /v2/books/{name}", http='get: "/v2/books/{name=*}"')  # as older imports wrote
        async def get(self, request: Asked) -> Asked: ...

    (told,) = [one for one in file_descriptors(Three).file if one.name == "bound/v3.proto"]
    assert told.service[0].method[0].options.ByteSize()


def test_a_query_is_read_off_once_for_each_message(tmp_path: Path) -> None:
    """Messages that use each other twice are a tree of 2**60 leaves; a chain is as deep as long."""
    file = tmp_path / "a.proto"

    def routed(*lines: str) -> str:
        file.write_text(
            'syntax = "proto3"; package a; import "google/api/annotations.proto";\n'
            + "\n".join(lines)
            + "service S { rpc Get(M0) returns (M0) { option (google.api.http) = "
            '{ get: "/v1/m" }; } }'
        )
        return " ".join(import_proto(file).split())

    twice = [f"message M{i} {{ M{i + 1} a = 1; M{i + 1} b = 2; }}" for i in range(60)]
    told = routed(*twice, "message M60 { string x = 1; }")
    assert "M0, which has more than 4096 fields with those of the messages in it, does not" in told
    assert "more than 4096" in routed(*twice, "message M60 {}")
    assert "The field a.a.a.b of M0 does not fit" in routed(*twice[:3], "message M3 { M0 b = 1; }")
    chain = [f"message M{i} {{ M{i + 1} a = 1; }}" for i in range(1500)]
    for first, path in (
        ("M1 a = 1;", f"{'a.' * 99}a"),
        ("M1440 b = 2; M1390 c = 3;", f"c{'.a' * 50}"),  # M1440 is known by then
    ):
        told = routed(f"message M0 {{ {first} }}", *chain[1:], "message M1500 {}")
        assert f"Thefield{path}ofM0doesnotfit" in told.replace(" ", "")

    routed(*twice[:10], "message M10 { string x = 1; }")  # 1,024 parameters, and no more
    document = openapi(*loaded(import_proto(file), "wide").services, title="", version="")
    assert len(document["paths"]["/v1/m"]["get"]["parameters"]) == 1024


def test_a_body_that_is_absent_is_not_sent() -> None:
    class Inner(Message):
        name: str = field(1)

    class Loose(Message):
        id: str = field(1)
        payload: Value | None = field(2, default=None)

    class Fixed(Message):
        id: str = field(1)
        payload: Inner | None = field(2, default=None)

    @service("absent.v1")
    class Absent(Protocol):
        @command(route("POST /a/{id}", body="payload"))
        async def loose(self, request: Loose) -> Empty: ...

        @command(route("POST /b/{id}", body="payload"))
        async def fixed(self, request: Fixed) -> Empty: ...

        @command(route("POST /c/{id}/{payload.name}", body="payload"))
        async def carried(self, request: Fixed) -> Empty: ...

    for name, asking, body in (
        ("loose", Loose(id="1"), None),
        ("loose", Loose(id="1", payload={}), b"{}"),
        ("fixed", Fixed(id="1"), None),
        ("carried", Fixed(id="1", payload=Inner(name="x")), b"{}"),
    ):
        operation = contract_of(Absent).operations[name]
        sent = asked(operation, asking)
        assert sent.body == body
        (route_,) = operation.routes
        given = route_.template.read(sent.target.split("/")[1:])
        assert Transcoding(operation, route_).request(given, b"", sent.body or b"") == asking


def test_what_a_binding_may_not_say() -> None:
    class Asked(Message):
        name: str = field(1)
        number: int = field(2)
        labels: dict[str, str] = field(3)

    class Told(Message):
        name: str = field(1)
        other: int = field(2)
        struct: dict[str, int] = field(3, default_factory=dict)

    for one, why in {
        route("POST /{number=a/*}"): "takes a/*, and is not a string",
        route("POST /a", body="none"): "The body none is not a field of Asked",
        route("POST /{name}", body="name"): "name is in the path and in the body",
        route("GET /a", body="*"): "A GET has no body",
        route("POST /a", body="name"): "The field labels of Asked does not fit into the query",
        route("POST /a", response_body="none"): "response body none is not a field of Told",
        route("POST /a", response_body="name"): "leaves out other of Told, which has no default",
        route("POST /{name=**}/x"): "** is not the last segment",
        route("POST /a:b/c"): "'a:b' is neither plain text",
    }.items():
        with pytest.raises(ContractError) as raised:

            @service("bad.v1")
            class Bad(Protocol):
                @query(one)
                async def get(self, request: Asked) -> Told: ...

        assert why in str(raised.value)
