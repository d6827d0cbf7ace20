"""Routes of one shape, and parameters that change places."""

from __future__ import annotations

import json
from typing import Any, Protocol

import pytest

from switchgear.contract.check.documents import Document
from switchgear.contract.check.openapi import compare_openapi
from switchgear.contract.export import openapi
from switchgear.contract.message import Message, field
from switchgear.contract.service import contract_of, query, service


class Named(Message, package="shelves.v1"):
    name: str = field(1)


@service("shelves.v1")
class Shelves(Protocol):
    @query("GET /v1/{name=shelves/*}")
    async def shelf(self, request: Named) -> Named: ...

    @query("GET /v1/{name=books/*}")
    async def book(self, request: Named) -> Named: ...


EXPORTED: Any = json.loads(json.dumps(openapi(contract_of(Shelves), title="t", version="1")))


def found(old: Any, new: Any) -> list[tuple[str, str]]:
    rest = {"openapi": "3.1.0", "components": EXPORTED["components"]}
    documents = [Document("it", {**rest, "paths": one}, "") for one in (old, new)]
    return [(rule, one.subject) for rule, one in compare_openapi(*documents)]


def get(name: str, pattern: str = "", **more: Any) -> Any:
    schema = {"type": "string", **({"pattern": pattern} if pattern else {})}
    parameter = {"in": "path", "name": name, "required": True, "schema": schema}
    return {"get": {"parameters": [parameter], "responses": {}, **more}}


def test_what_is_exported_is_what_it_is() -> None:
    paths = EXPORTED["paths"]
    assert list(paths) == ["/v1/{name}", "/v1/{name_1}"]
    assert found(paths, paths) == []


SHELF, BOOK, BOOK_1 = get("name", "^shelves/"), get("name", "^books/"), get("name_1", "^books/")
TWO = {"/v1/{name}": SHELF, "/v1/{name_1}": BOOK_1}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (TWO, TWO, []),
        # a route before it takes the name away, and gives it back
        ({"/v1/{name}": BOOK}, TWO, []),
        (TWO, {"/v1/{name}": BOOK}, [("OPERATION_NO_DELETE", "GET /v1/{name}")]),
        (TWO, {"/v1/{id}": get("id", "^books/")}, [("PATH_NO_DELETE", "/v1/{name}")]),
        (
            TWO,
            {"/v1/{name}": get("name", "^shelves/[a-z]"), "/v1/{name_1}": BOOK_1},
            [("REQUEST_CONSTRAINT_CHANGED", "GET /v1/{name} path")],
        ),
        # the operationId says which it is, whatever it asks for
        (
            {"/v1/{a}": get("a", operationId="a"), "/v1/{b}": get("b", operationId="b")},
            {
                "/v1/{a}": get("a", operationId="b"),
                "/v1/{b}": get("b", "^x", operationId="a"),
            },
            [("REQUEST_CONSTRAINT_CHANGED", "GET /v1/{a} path")],
        ),
        # one on each side is the same, whatever it is called
        ({"/v1/{name}": get("name")}, {"/v1/{id}": get("id")}, []),
    ],
)
def test_routes_of_one_shape(old: Any, new: Any, expected: Any) -> None:
    assert found(old, new) == expected


def two(path: str, kind: str = "string") -> Any:
    parameters = [
        {"in": "path", "name": name, "required": True, "schema": {"type": of}}
        for name, of in (("a", "string"), ("b", kind))
    ]
    return {path: {"get": {"parameters": parameters, "responses": {}}}}


def test_parameters_that_change_places() -> None:
    moved = ("PATH_PARAMETER_MOVED", "/t/{a}/{b}")
    assert found(two("/t/{a}/{b}"), two("/t/{b}/{a}")) == [moved]
    assert found(two("/t/{a}/{b}"), two("/t/{a}/{b}")) == []
    assert moved in found(two("/t/{a}/{b}", "integer"), two("/t/{b}/{a}", "integer"))
