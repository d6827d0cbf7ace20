"""`oneOf` and `anyOf`, `$ref` and what stands beside it, lists of values; what many share."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest

from switchgear.contract.check.documents import Document
from switchgear.contract.check.jsonschema import Direction, Effort, Pair, SchemaDiff
from switchgear.contract.check.refs import Node
from switchgear.errors import UnreadableContract

ORDER = {"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}}}
DRAFT = {"type": "object", "required": ["draft"], "properties": {"draft": {"type": "boolean"}}}
STRING, INTEGER, NULL = {"type": "string"}, {"type": "integer"}, {"type": "null"}
TEXT = {"$ref": "#/components/schemas/Text"}


def found(old: Any, new: Any, direction: Direction, version: str = "3.1.0") -> list[str]:
    """Compare two schemas, each in a document with some others to refer to."""
    nodes = []
    for schema in (old, new):
        shared = {"Text": {"type": "string", "maxLength": 5}, "Order": ORDER, "Draft": DRAFT}
        shared["Open"] = {"type": "object", "properties": {"id": STRING}}
        document = Document(
            "it", {"openapi": version, "components": {"schemas": {**shared, "It": schema}}}, ""
        )
        nodes.append(Node.root(document)["components"]["schemas"]["It"])
    told = SchemaDiff(direction, direction.value).compare(*nodes, "it")
    return [f"{rule}{' (warning)' if one.severity == 'warning' else ''}" for rule, one in told]


def ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


@pytest.mark.parametrize(
    ("one", "other", "taken", "given"),
    [
        # one schema becomes one of several, and back
        (ORDER, {"oneOf": [ref("Order"), ref("Draft")]}, [], ["RESPONSE_ALTERNATIVE_ADDED"]),
        ({"oneOf": [ORDER, DRAFT]}, ORDER, ["REQUEST_ALTERNATIVE_NO_DELETE"], []),
        (ORDER, {"anyOf": [DRAFT, STRING]}, ["REQUEST_ALTERNATIVE_REQUIRED"], 2),
        (ORDER, {"oneOf": [ref("Order")]}, [], []),
        (ORDER, {"oneOf": [{**ORDER, "required": []}]}, [], ["RESPONSE_PROPERTY_OPTIONAL"]),
        ({}, {"oneOf": [STRING, INTEGER]}, ["REQUEST_ALTERNATIVE_REQUIRED"], []),
        # null, as 3.1 has it
        (ref("Order"), {"anyOf": [ref("Order"), NULL]}, [], ["RESPONSE_NULL_ADDED"]),
        ({"anyOf": [ref("Order"), NULL]}, ref("Order"), ["REQUEST_NULL_NO_DELETE"], []),
        ({"type": ["string", "null"]}, {"anyOf": [STRING, NULL]}, [], []),
        # types and values are alternatives too
        ({"type": ["string", "integer"]}, {"oneOf": [STRING, INTEGER]}, [], []),
        ({"oneOf": [INTEGER, STRING]}, {"type": ["integer", "string"]}, [], []),
        (
            {"type": ["string", "integer"]},
            {"oneOf": [STRING]},
            ["REQUEST_ALTERNATIVE_REQUIRED"],
            [],
        ),
        ({"enum": ["a", "b"]}, {"oneOf": [{"const": "a"}, {"const": "b"}]}, [], []),
        (
            {"enum": ["a", "b"]},
            {"oneOf": [{"const": "a"}, {"const": "c"}]},
            ["REQUEST_ALTERNATIVE_REQUIRED"],
            ["RESPONSE_ALTERNATIVE_ADDED (warning)"],
        ),
        # alternatives of one key and of the other
        ({"anyOf": [STRING, INTEGER]}, {"oneOf": [STRING, INTEGER]}, [], []),
        (
            {"anyOf": [STRING, {"maxLength": 5}]},
            {"oneOf": [STRING, {"maxLength": 5}]},
            ["REQUEST_ALTERNATIVE_REQUIRED"],  # "a" fits both
            [],
        ),
        # another name for the same, and two without names
        ({"oneOf": [ref("Order"), STRING]}, {"oneOf": [ORDER, STRING]}, [], []),
        (
            {"oneOf": [ORDER, DRAFT]},
            {"oneOf": [ORDER, {**DRAFT, "required": ["draft", "by"]}]},
            ["REQUEST_PROPERTY_REQUIRED_ADDED"],
            [],
        ),
        # an open object would take anything, and is no reason to pass over what is new
        (
            {"oneOf": [ref("Open")]},
            {"oneOf": [ref("Open"), ref("Draft")]},
            [],
            ["RESPONSE_ALTERNATIVE_ADDED"],
        ),
        # what stands beside the alternatives counts in each
        (
            {**ORDER, "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
            ORDER,
            [],
            ["RESPONSE_ALTERNATIVE_ADDED"],
        ),
        # what stands beside a $ref counts in 3.1
        (TEXT, {**TEXT, "maxLength": 3}, ["REQUEST_CONSTRAINT_CHANGED"], []),
        (TEXT, {**TEXT, "maxLength": 9}, [], []),  # both limits hold
        (TEXT, {**TEXT, "description": "A text."}, [], []),
        ({**TEXT, "enum": ["a"]}, TEXT, [], ["RESPONSE_ENUM_VALUE_ADDED"]),
        # what is declared was one of the other properties, or is
        (
            {"type": "object", "additionalProperties": INTEGER},
            {"type": "object", "additionalProperties": INTEGER, "properties": {"a": STRING}},
            ["REQUEST_SAME_TYPE"],
            ["RESPONSE_SAME_TYPE"],
        ),
        # lists of values
        ({"enum": ["a"]}, {"enum": ["a", "b"]}, [], ["RESPONSE_ENUM_VALUE_ADDED (warning)"]),
        ({"enum": ["a", "b"]}, {"enum": ["a"]}, ["REQUEST_ENUM_VALUE_NO_DELETE"], []),
        ({"x-extensible-enum": ["a"]}, {"x-extensible-enum": ["a", "b"]}, [], []),
        (
            {"x-extensible-enum": ["a", "b"]},
            {"x-extensible-enum": ["a"]},
            ["REQUEST_ENUM_VALUE_NO_DELETE"],
            [],
        ),
        ({"x-extensible-enum": ["a"]}, {"enum": ["a", "b"]}, [], []),
        ({"enum": ["a"]}, {"x-extensible-enum": ["a"]}, [], ["RESPONSE_ENUM_VALUE_ADDED"]),
        (STRING, {**STRING, "x-extensible-enum": ["a"]}, 1, []),
        ({**STRING, "x-extensible-enum": ["a"]}, STRING, [], []),
    ],
)
def test_pieces(one: Any, other: Any, taken: Any, given: Any) -> None:
    for direction, expected in ((Direction.TAKEN, taken), (Direction.GIVEN, given)):
        told = found(one, other, direction)
        if isinstance(expected, int):
            assert len(told) == expected
        else:
            assert told == expected, direction
    assert found(other, other, Direction.TAKEN) == found(one, one, Direction.GIVEN) == []


A, B = {"type": "string", "pattern": "^a"}, {"pattern": "b$"}
MANY = [{"required": [f"p{one}"]} for one in range(12)]
FEW = [{"required": [f"q{one}"]} for one in range(10)]
CHANGED = ["REQUEST_CONSTRAINT_CHANGED"]


@pytest.mark.parametrize(
    ("one", "other", "taken", "given"),
    [
        # what has no combined form is compared part by part
        (A, {**A, "allOf": [B]}, CHANGED, []),
        ({"allOf": [A]}, {"type": "string", "allOf": [B, {"pattern": "^a"}]}, CHANGED, []),
        ({"allOf": [A, B]}, {"allOf": [B, A]}, [], []),
        ({"allOf": [A, B], "pattern": "^a"}, {"allOf": [A, B]}, [], []),
        (
            {"type": "string", "allOf": [{"format": "date"}, {"format": "x"}]},
            {"type": "string", "format": "date"},
            [],
            ["RESPONSE_SAME_FORMAT"],
        ),
        (
            {"allOf": [{"contains": INTEGER}]},
            {"allOf": [{"contains": INTEGER}, {"contains": A}]},
            1,
            0,
        ),
        (
            {"allOf": [{"contains": INTEGER}, {"contains": STRING}]},
            {"allOf": [{"contains": STRING}, {"contains": INTEGER}]},
            [],
            [],
        ),
        # what has
        ({"multipleOf": 2}, {"multipleOf": 2, "allOf": [{"multipleOf": 3}]}, CHANGED, []),
        ({"multipleOf": 6}, {"multipleOf": 2, "allOf": [{"multipleOf": 3}]}, [], []),
        (
            {"exclusiveMinimum": 3},
            {"exclusiveMinimum": 3, "allOf": [{"exclusiveMinimum": 5}]},
            1,
            0,
        ),
        ({"items": A}, {"items": A, "allOf": [{"items": {"maxLength": 3}}]}, CHANGED, []),
        (
            {"additionalProperties": A},
            {"additionalProperties": A, "allOf": [{"additionalProperties": {"maxLength": 3}}]},
            CHANGED,
            [],
        ),
        ({"uniqueItems": False}, {"uniqueItems": False, "allOf": [{"uniqueItems": True}]}, 1, 0),
        ({"not": INTEGER}, {"not": INTEGER, "allOf": [{"not": STRING}]}, CHANGED, []),
        ({"const": "a"}, {"const": "a", "allOf": [{"const": "b"}]}, ["REQUEST_SAME_TYPE"], []),
        ({"patternProperties": {"^x": A}}, {"allOf": [{"patternProperties": {"^x": A}}]}, [], []),
        # very many alternatives
        ({"anyOf": MANY}, {"anyOf": MANY, "allOf": [{"anyOf": FEW}]}, CHANGED, []),
        (
            {"anyOf": MANY, "allOf": [{"anyOf": FEW}]},
            {"anyOf": MANY, "allOf": [{"anyOf": FEW[:-1]}]},
            1,
            0,
        ),
        # one type says nothing of the others
        (
            {**ORDER, "type": ["object", "null"]},
            {"anyOf": [ORDER, {"type": "null"}]},
            [],
            [],
        ),
        (
            {"type": ["string", "integer"], "pattern": "^a", "minimum": 3},
            {"anyOf": [A, {"type": "integer", "minimum": 3}]},
            [],
            [],
        ),
        (
            {"type": ["string", "null"], "enum": ["a", None]},
            {"anyOf": [{"type": "string", "enum": ["a"]}, {"type": "null"}]},
            [],
            [],
        ),
    ],
)
def test_what_is_said_twice(one: Any, other: Any, taken: Any, given: Any) -> None:
    test_pieces(one, other, taken, given)
    # what breaks those who send is safe for those who read, and the other way round
    assert bool(found(other, one, Direction.GIVEN)) is bool(taken)
    assert bool(found(other, one, Direction.TAKEN)) is bool(given)


@pytest.mark.parametrize(
    ("one", "other", "taken", "given"),
    [
        ({"enum": ["a", None]}, {"enum": ["a"]}, ["REQUEST_NULL_NO_DELETE"], []),
        ({"enum": ["a"]}, {"enum": ["a", None]}, [], ["RESPONSE_NULL_ADDED"]),
        ({"type": ["string", "null"], "enum": ["a", None]}, {**STRING, "enum": ["a"]}, 1, []),
        ({**STRING, "nullable": True, "enum": ["a", None]}, {**STRING, "nullable": True}, [], 1),
        ({"const": 1}, {"const": True}, 1, 1),
        ({"const": 1}, {"const": 1.0}, [], []),
        ({"enum": [1, 2]}, {"enum": [True, 2]}, 1, 2),  # given, it is of another type as well
        ({"type": "object"}, {"patternProperties": {"^x": INTEGER}, "type": "object"}, 1, []),
        (
            {"patternProperties": {"^x": INTEGER}, "additionalProperties": False},
            {"additionalProperties": False},
            1,
            [],
        ),
        (
            {"additionalProperties": False},
            {"patternProperties": {"^x": INTEGER}, "additionalProperties": False},
            [],
            [],
        ),
    ],
)
def test_what_python_takes_for_the_same(one: Any, other: Any, taken: Any, given: Any) -> None:
    test_pieces(one, other, taken, given)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (STRING, {**STRING, "minLength": 0}),
        ({"type": "array"}, {"type": "array", "minItems": 0, "uniqueItems": False}),
        (INTEGER, {**INTEGER, "multipleOf": 1}),
        (INTEGER, {**INTEGER, "minLength": 3, "pattern": "^a"}),
        ({**INTEGER, "maximum": 5}, {**INTEGER, "exclusiveMaximum": 6}),
        ({**INTEGER, "minimum": 5}, {**INTEGER, "exclusiveMinimum": 4.5}),
        ({"type": "boolean"}, {"type": "boolean", "enum": [True, False]}),
    ],
)
def test_what_says_nothing_new(one: Any, other: Any) -> None:
    for direction in Direction:
        assert found(one, other, direction) == found(other, one, direction) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (STRING, {**STRING, "minLength": 1}),
        ({"type": "number"}, {"type": "number", "multipleOf": 1}),
        ({"type": "number", "maximum": 5}, {"type": "number", "exclusiveMaximum": 5}),
        ({**INTEGER, "maximum": 5}, {**INTEGER, "exclusiveMaximum": 5}),
        ({**INTEGER, "maximum": 5}, {**INTEGER, "maximum": 5, "exclusiveMaximum": 3}),
        ({"type": ["integer", "string"]}, {"type": ["integer", "string"], "minLength": 3}),
    ],
)
def test_what_says_more(one: Any, other: Any) -> None:
    assert found(one, other, Direction.TAKEN) == ["REQUEST_CONSTRAINT_CHANGED"]
    assert found(one, other, Direction.GIVEN) == []


def test_a_constant_that_the_type_does_not_let_through_is_told() -> None:
    slip = {**STRING, "const": 1.0}  # YAML without quotes
    for before in (STRING, {**STRING, "const": "1.0"}, {"enum": ["b"]}):
        assert found(before, slip, Direction.TAKEN), before


def test_alternatives_without_names_are_known_by_what_they_say() -> None:
    def kind(name: str, **more: Any) -> Any:
        said = {name: {"type": "string", **more}}
        return {"type": "object", "required": [name], "properties": said}

    one, two, other = kind("a"), kind("b"), kind("c")
    for direction in Direction:
        assert found({"oneOf": [one, two]}, {"oneOf": [two, one]}, direction) == []
        mild = {**one, "required": ["a", "a"]}  # the same, said otherwise
        assert found({"oneOf": [one, two]}, {"oneOf": [two, mild]}, direction) == []
    assert found({"oneOf": [one, two]}, {"oneOf": [other, one, two]}, Direction.TAKEN) == []
    shorter = kind("b", maxLength=3)
    told = found({"oneOf": [one, two]}, {"oneOf": [shorter, one]}, Direction.TAKEN)
    assert told == ["REQUEST_CONSTRAINT_CHANGED"]


def test_more_alternatives_than_can_be_compared_are_refused(monkeypatch) -> None:
    def many(name: str, kind: str) -> Any:
        each = {"type": "object", "required": ["x"]}
        return {
            "oneOf": [
                {
                    **each,
                    "title": f"{name} {at}",
                    "properties": {"x": {"type": kind, "minimum": at}},
                }
                for at in range(20)
            ]
        }

    monkeypatch.setattr(Effort, "__init__", partialmethod(Effort.__init__, pairs=100))
    assert found(many("A", "integer"), many("B", "integer"), Direction.TAKEN) == []
    with pytest.raises(UnreadableContract, match="Too many pairs"):
        found(many("A", "integer"), many("B", "number"), Direction.GIVEN)


@pytest.mark.parametrize("direction", Direction)
def test_many_renamed_alternatives_are_told_apart_at_a_look(direction: Direction) -> None:
    def many(name: str) -> Node:
        alternatives = [
            {
                "type": "object",
                "title": f"{name}{number}",
                "required": ["kind"],
                "properties": {"kind": {"const": f"{name}{number}"}, "size": INTEGER},
            }
            for number in range(300)
        ]
        return Node.root(Document("it", {"oneOf": alternatives}, ""))

    diff = SchemaDiff(direction, "X")
    assert len(list(diff.compare(many("a"), many("b"), "it"))) == 300
    assert Effort().pairs - diff.effort.pairs < 1_000  # and not 90,000


def test_of_two_alternatives_the_first_difference_is_enough() -> None:
    def many(name: str, least: int) -> Node:
        alternatives = [
            {
                "title": f"{name}{number}",
                "properties": {
                    f"p{at}": {**INTEGER, "minimum": least + number} for at in range(50)
                },
            }
            for number in range(10)
        ]
        return Node.root(Document("it", {"oneOf": alternatives}, ""))

    diff = SchemaDiff(Direction.TAKEN, "X")
    assert len(list(diff.compare(many("a", 0), many("b", 100), "it"))) == 10
    assert Effort().pairs - diff.effort.pairs < 1_000  # and not 5,000


@pytest.mark.parametrize("key", ["readOnly", "writeOnly"])
def test_what_travels_one_way_tells_no_alternatives_apart(key: str) -> None:
    def body(name: str, value: str) -> Any:
        kind = {"const": value, key: True}
        shared = {"type": "object", "title": name, "properties": {"kind": kind, "size": INTEGER}}
        return {"oneOf": [shared, {**STRING, "title": f"{name} text"}]}

    hidden = Direction.TAKEN if key == "readOnly" else Direction.GIVEN
    told = [found(body("a", "a"), body("b", "b"), one) for one in (hidden, hidden.other)]
    # what is not seen in the one direction is in the other, in which it has to be the same as well
    assert [len(one) for one in told] == [1, 1]


def test_what_stands_beside_a_reference_is_compared() -> None:
    def body(pattern: str) -> Any:
        base = {"type": "string", "pattern": pattern}
        return {
            "$defs": {"Base": base},
            "$ref": "#/components/schemas/It/$defs/Base",
            "pattern": "^A",
        }

    assert found(body("^.A"), body("^.B"), Direction.TAKEN) == CHANGED
    assert found(body("^.A"), body("^.A"), Direction.TAKEN) == []


def test_what_stands_beside_a_reference_is_passed_over_in_3_0() -> None:
    told = (TEXT, {**TEXT, "maxLength": 3}, Direction.TAKEN)
    assert found(*told, version="3.0.3") == []
    assert found(*told, version="3.1.0") == ["REQUEST_CONSTRAINT_CHANGED"]


@pytest.mark.parametrize(("version", "findings"), [("3.0.3", 0), ("3.1.0", 1)])
def test_a_file_is_read_as_the_document_that_refers_to_it(write, run, version, findings) -> None:
    media = {"application/json": {"schema": {"$ref": "common.yaml#/It"}}}
    paths = {"/a": {"put": {"requestBody": {"content": media}, "responses": {}}}}
    for name, most in (("old", 5), ("new", 3)):
        common = {"It": {"$ref": "#/Text", "maxLength": most}, "Text": STRING}
        document = {"openapi": version, "info": {"title": "t", "version": "1"}, "paths": paths}
        files = {"api.yaml": json.dumps(document), "common.yaml": json.dumps(common)}
        write(name, **files)
    _, told, _ = run("new/api.yaml", "--against", "old/api.yaml")
    rules = [one["rule"] for one in told]
    assert rules == ["REQUEST_CONSTRAINT_CHANGED"] * findings


def test_schemas_that_contain_themselves_in_alternatives() -> None:
    one = {"oneOf": [STRING, {"type": "array", "items": ref("It")}]}
    two = {"oneOf": [STRING, INTEGER, {"type": "array", "items": ref("It")}]}
    assert found(one, two, Direction.TAKEN) == []
    assert found(one, two, Direction.GIVEN) == ["RESPONSE_ALTERNATIVE_ADDED"]
    loop = {"allOf": [ref("It"), ref("It")]}
    assert found(loop, {**loop, "type": "string"}, Direction.GIVEN) == []


@pytest.mark.parametrize(
    ("version", "again"),
    [
        ("3.0.3", {"allOf": [ref("It")], "nullable": True}),
        ("3.1.0", {**ref("It"), "default": {}}),
        ("3.1.0", {"type": "array", "items": {**ref("It"), "minProperties": 1}}),
    ],
)
def test_a_schema_that_contains_itself_with_something_beside(version: str, again: Any) -> None:
    one = {"type": "object", "properties": {"parent": again, "name": STRING}}
    other = {"type": "object", "properties": {"parent": again, "name": INTEGER}}
    assert found(one, {**one, "title": "a"}, Direction.TAKEN, version) == []
    rules = set(found(one, other, Direction.TAKEN, version))
    assert rules == {"REQUEST_SAME_TYPE"}


@pytest.fixture
def versions(write: Callable[..., str]) -> Callable[..., None]:
    """Write two documents in which three answers and one request share a schema."""

    def versions(**changes: Any) -> None:
        money = {"type": "object", "required": ["amount"], "properties": {"amount": INTEGER}}
        for name, said in (("old", {}), ("new", changes)):
            media = {"application/json": {"schema": ref("Order")}}
            answer = {"responses": {"200": {"description": "", "content": media}}}
            paths: Any = {f"/{one}": {"get": answer} for one in ("a", "b", "c")}
            paths["/a"]["put"] = {"requestBody": {"content": media}, "responses": {}}
            order = {"type": "object", "properties": {"price": ref("Money")}}
            document = {
                "openapi": "3.1.0",
                "info": {"title": "t", "version": "1"},
                "paths": paths,
                "components": {"schemas": {"Order": order, "Money": money | said}},
            }
            write("docs", **{f"{name}.yaml": json.dumps(document, indent=1)})

    return versions


def test_what_many_share_is_told_once(versions, run) -> None:
    versions(properties={"amount": STRING})
    _, told, _ = run("docs/new.yaml", "--against", "docs/old.yaml")
    assert [(one["rule"], one["subject"]) for one in told] == [
        ("REQUEST_SAME_TYPE", "PUT /a request body.price.amount"),
        ("RESPONSE_SAME_TYPE", "Money.amount"),
    ]
    assert told[1]["message"] == (
        "Money.amount was integer and is string. It reaches GET /a response 200.price, "
        "GET /b response 200.price, GET /c response 200.price."
    )
    assert told[1]["reaches"] == [f"GET /{one} response 200.price" for one in "abc"]
    assert told[1]["witness"].startswith('{"price": {"amount": "a"}} was not valid')


def test_each_place_that_shares_has_consumers_and_waivers_of_its_own(versions, run, write) -> None:
    versions(properties={"amount": STRING})
    text = '[[consumer]]\nname = "web"\nversion = "2"\nconsumes = ["GET /b response 200"]\n'
    write(
        "docs",
        **{
            "consumers.toml": text,
            "waivers.toml": '[[waiver]]\nrule = "RESPONSE_SAME_TYPE"\n'
            'subject = "GET /a response 200.price.amount"\nreason = "x"\nexpires = 2999-01-01\n',
            "all.toml": '[[waiver]]\nrule = "RESPONSE_SAME_TYPE"\n'
            'subject = "Money.amount"\nreason = "x"\nexpires = 2999-01-01\n',
        },
    )
    asked = ("docs/new.yaml", "--against", "docs/old.yaml", "--rules", "RESPONSE_SAME_TYPE")
    _, (one,), _ = run(*asked, "--consumers", "docs/consumers.toml")
    assert (one["severity"], len(one["reaches"])) == ("error", 3)
    assert one["breaks"] == "web 2 reads GET /b response 200"
    write("docs", **{"shared.toml": text.replace("GET /b response 200", "Money")})
    _, (one,), _ = run(*asked, "--consumers", "docs/shared.toml")
    assert (one["severity"], one["breaks"]) == ("error", "web 2 reads Money")
    _, (one,), _ = run(*asked, "--waivers", "docs/waivers.toml")
    assert one["reaches"] == [f"GET /{one} response 200.price" for one in "bc"]
    assert run(*asked, "--waivers", "docs/all.toml")[:2] == (0, [])


@pytest.fixture
def referring(write: Callable[..., str]) -> Callable[..., None]:
    """Write two documents in which requests and answers hold schemas that refer to `Money`."""

    def referring(money: Any, *schemas: Any, **old: Any) -> None:
        amount = {"type": "object", "required": ["amount"], "properties": {"amount": INTEGER}}
        for name, shared in (("old", amount | old), ("new", amount | money)):
            paths: Any = {}
            for index, schema in enumerate(schemas):
                media = {"application/json": {"schema": schema}}
                answer = {"responses": {"200": {"description": "", "content": media}}}
                paths[f"/{index}"] = {"get": answer}
            document = {
                "openapi": "3.1.0",
                "info": {"title": "t", "version": "1"},
                "paths": paths,
                "components": {"schemas": {"Money": shared, "Order": {"allOf": [ref("Money")]}}},
            }
            write("docs", **{f"{name}.yaml": json.dumps(document, indent=1)})

    return referring


ASKED = ("docs/new.yaml", "--against", "docs/old.yaml")


@pytest.mark.parametrize(
    "beside",
    [
        {**ref("Money"), "minProperties": 1},
        {**ref("Money"), "allOf": [{"title": "a"}]},
        {"allOf": [ref("Money")], "minProperties": 1},
        {"allOf": [{"type": "object"}, ref("Money")]},
        {"type": "array", "items": {**ref("Money"), "type": "object"}},
    ],
)
def test_what_stands_beside_a_reference_does_not_hide_what_is_shared(
    referring, run, beside: Any
) -> None:
    change = {"properties": {"amount": STRING}}
    referring(change, ref("Money"), beside, {"properties": {"price": beside}})
    _, told, _ = run(*ASKED)
    (one,) = told
    end = "[]" if "items" in beside else ""
    assert (one["rule"], one["subject"]) == ("RESPONSE_SAME_TYPE", "Money.amount")
    assert one["reaches"] == [
        "GET /0 response 200",
        f"GET /1 response 200{end}",
        f"GET /2 response 200.price{end}",
    ]
    assert one["message"].startswith("Money.amount was integer and is string. It reaches GET /0")
    line = next(
        number
        for number, text in enumerate(Path("docs/new.yaml").read_text().splitlines(), 1)
        if '"amount": {' in text
    )
    assert one["line"] == line
    assert "was not valid" in one["witness"]


def test_a_change_at_the_top_of_what_is_shared_too(referring, run) -> None:
    for_each = [{**ref("Money"), "title": str(n), "minProperties": n} for n in range(3)]
    referring({"required": []}, *for_each)
    _, (one,), _ = run(*ASKED)
    assert (one["rule"], one["subject"]) == ("RESPONSE_PROPERTY_OPTIONAL", "Money.amount")
    assert len(one["reaches"]) == 3
    referring({"type": ["object", "string"]}, *for_each)
    _, (one,), _ = run(*ASKED)
    assert (one["rule"], one["subject"]) == ("RESPONSE_SAME_TYPE", "Money")
    assert one["message"].startswith("Money was object and is object or string. It reaches GET /0")


def test_what_stands_beside_a_reference_still_counts(referring, run) -> None:
    # what is beside refuses what the shared schema has begun to allow
    schema = {**ref("Money"), "type": "object"}
    referring({"type": ["object", "string"]}, schema, ref("Money"))
    _, (one,), _ = run(*ASKED)
    assert one["subject"] == "GET /1 response 200"
    # and what changes because of what is beside, is told of that place
    schema = {**ref("Money"), "properties": {"amount": {"minimum": 3}}}
    referring({"properties": {"amount": {"type": "integer", "minimum": 1}}}, schema)
    assert run(*ASKED)[1] == []


def test_a_part_is_compared_without_what_it_refers_to() -> None:
    def body(kind: Any) -> Node:
        inner = {"type": "object", "properties": {"amount": kind, "of": ref("Money")}}
        text = {"type": "object", "properties": {"text": kind, "money": ref("Money")}}
        money = {**inner, "properties": {**inner["properties"], "tax": ref("Tax"), "in": inner}}
        schemas = {"Money": money, "Tax": text, "It": {**ref("Money"), "minProperties": 1}}
        document = Document("it", {"openapi": "3.1.0", "components": {"schemas": schemas}}, "")
        return Node.root(document)["components"]["schemas"]["It"]["allOf"]

    nodes = [next(body(kind).elements()) for kind in (STRING, INTEGER)]
    diff = SchemaDiff(Direction.TAKEN, "X")
    subjects = [one.subject for _, one in diff.alone(Pair(*nodes, "it"))]
    assert subjects == ["it.amount", "it.in.amount"]


def test_a_schema_that_refers_to_itself_with_something_beside(referring, run) -> None:
    amount = {"amount": INTEGER, "of": {**ref("Money"), "minProperties": 1}}
    change = {"properties": {**amount, "amount": STRING}}
    schemas = [{**ref("Money"), "minProperties": 2}] * 3
    referring(change, *schemas, properties=amount)
    _, told, _ = run(*ASKED)
    assert {one["subject"] for one in told} == {"Money.amount"}
    reaches = [name for one in told for name in one["reaches"]]
    assert {f"GET /{n} response 200" for n in range(3)} <= set(reaches)


def test_every_place_in_one_body_is_told() -> None:
    def bodies(amount: Any, **more: Any) -> Any:
        money = {"type": "object", "properties": {"amount": amount}}
        body = {
            "type": "object",
            "properties": {"total": ref("Money"), "tax": ref("Money"), **more},
        }
        return {"components": {"schemas": {"Money": money, "It": body}}}

    def subjects(old: Any, new: Any) -> list[str]:
        nodes = [
            Node.root(Document("it", {"openapi": "3.1.0", **one}, ""))["components"]["schemas"][
                "It"
            ]
            for one in (old, new)
        ]
        told = SchemaDiff(Direction.GIVEN, "RESPONSE").compare(*nodes, "it")
        return [one.subject for _, one in told]

    assert subjects(bodies(INTEGER), bodies(STRING)) == ["it.total.amount", "it.tax.amount"]
    assert subjects(bodies(INTEGER), bodies(INTEGER)) == []
    # what contains itself is told where it is met first on the way
    more = {"of": ref("It")}
    old, new = bodies(INTEGER, **more), bodies(STRING, **more)
    assert subjects(old, new) == ["it.total.amount", "it.tax.amount"]


@pytest.mark.parametrize("last", [INTEGER, STRING])
def test_places_that_double_at_each_level_are_not_all_walked(last: Any) -> None:
    def deep(end: Any) -> Node:
        schemas: Any = {
            f"S{one}": {"properties": {"a": ref(f"S{one + 1}"), "b": ref(f"S{one + 1}")}}
            for one in range(20)
        }
        schemas["S20"] = end
        document = Document("it", {"openapi": "3.1.0", "components": {"schemas": schemas}}, "")
        return Node.root(document)["components"]["schemas"]["S0"]

    told = list(SchemaDiff(Direction.TAKEN, "X").compare(deep(INTEGER), deep(last), "it"))
    assert bool(told) is (last is STRING)
    assert len(told) < 10_000
