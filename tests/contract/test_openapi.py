from __future__ import annotations

from typing import Any, Protocol

import msgspec
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from switchgear.contract.export import openapi
from switchgear.contract.message import Message, field
from switchgear.contract.service import contract_of, query, service
from tests.contract.catalogue import Painter

DOCUMENT: dict[str, Any] = msgspec.json.decode(
    msgspec.json.encode(openapi(contract_of(Painter), title="Paint", version="1.2"))
)


def test_it_is_a_valid_document() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()
    assert DOCUMENT["openapi"] == "3.1.0"
    assert DOCUMENT["info"] == {"title": "Paint", "version": "1.2"}


def test_a_query_has_parameters() -> None:
    operation = DOCUMENT["paths"]["/v1/leaves/{name}"]["get"]
    assert operation["summary"] == "Find a leaf."
    assert "requestBody" not in operation
    name, colours, limit = operation["parameters"]
    assert (name["in"], name["required"]) == ("path", True)
    assert colours == {
        "name": "colours",
        "in": "query",
        "schema": {"type": "array", "items": {"$ref": "#/components/schemas/Colour"}},
    }
    assert limit == {
        "name": "limit",
        "in": "query",
        "description": "How many at most.",
        "schema": {"type": "integer", "format": "int32", "default": 10},
    }
    assert operation["responses"]["200"]["content"] == {
        "application/json": {"schema": {"$ref": "#/components/schemas/Leaf"}}
    }


def test_a_command_has_a_body_without_what_is_in_the_path() -> None:
    operation = DOCUMENT["paths"]["/v1/leaves/{name}/paint"]["post"]
    body = operation["requestBody"]["content"]["application/json"]["schema"]
    assert list(body["properties"]) == ["colour", "wait"]
    assert body["required"] == ["colour"]
    key = operation["parameters"][1]
    assert (key["name"], key["in"]) == ("Idempotency-Key", "header")
    assert "24 hours" in key["description"]


def test_refusals_are_told_by_status() -> None:
    responses = DOCUMENT["paths"]["/v1/leaves/{name}/paint"]["post"]["responses"]
    assert set(responses) == {"200", "400", "404", "422", "default"}
    refused = responses["422"]["content"]["application/problem+json"]["schema"]["anyOf"]
    assert {"$ref": "#/components/schemas/OutOfPaintProblem"} in refused
    problem = DOCUMENT["components"]["schemas"]["OutOfPaintProblem"]["allOf"][1]
    assert problem["properties"] == {
        "type": {"const": "urn:switchgear:refusal:paint.v1.OutOfPaint"},
        "refusal": {"$ref": "#/components/schemas/OutOfPaint"},
    }


def test_a_stream_is_told() -> None:
    answer = DOCUMENT["paths"]["/v1/watch"]["post"]["responses"]["200"]
    assert list(answer["content"]) == ["application/x-ndjson", "text/event-stream"]


@pytest.mark.parametrize(
    ("message", "name", "schema"),
    [
        ("Scalars", "number", {"type": "integer", "format": "int64"}),
        ("Scalars", "natural", {"type": "integer", "format": "uint32", "minimum": 0}),
        ("Scalars", "quoted", {"type": "string", "format": "int64"}),
        ("Scalars", "blob", {"type": "string", "contentEncoding": "base64"}),
        ("Scalars", "price", {"type": "string", "format": "decimal"}),
        ("Scalars", "small_ratio", {"type": "number", "format": "float"}),
        ("Composite", "since", {"type": "string", "format": "date-time"}),
        ("Composite", "until", {"type": ["string", "null"], "format": "date-time"}),
        (
            "Composite",
            "maybe",
            {"anyOf": [{"$ref": "#/components/schemas/Leaf"}, {"type": "null"}]},
        ),
        (
            "Composite",
            "leaf",
            {"$ref": "#/components/schemas/Leaf", "description": "The first leaf."},
        ),
        (
            "Composite",
            "counts",
            {"type": "object", "additionalProperties": {"type": "integer", "format": "int64"}},
        ),
        (
            "Composite",
            "numbers",
            {"type": "array", "items": {"type": "integer", "format": "int64"}, "deprecated": True},
        ),
    ],
)
def test_fields_have_schemas(message: str, name: str, schema: object) -> None:
    assert DOCUMENT["components"]["schemas"][message]["properties"][name] == schema


def test_messages_of_one_name_are_told_apart() -> None:
    class Problem(Message, package="one.v1"):
        text: str = field(1)

    @service("two.v1")
    class Other(Protocol):
        @query("GET /other")
        async def other(self, request: Problem) -> Problem: ...

    schemas = openapi(contract_of(Other), title="t", version="1")["components"]["schemas"]
    assert set(schemas) == {"Problem", "one.v1.Problem"}
