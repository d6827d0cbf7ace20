"""What says the same in another way is no change."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from switchgear.contract.check.documents import Document
from switchgear.contract.check.jsonschema import Direction, SchemaDiff
from switchgear.contract.check.refs import Node

TEXT = {"type": "string"}
WHOLE = {"type": "integer"}
NULL = {"type": "null"}
ORDER = {"type": "object", "required": ["id"], "properties": {"id": TEXT}}
ORDER_REF = {"$ref": "#/components/schemas/Order"}

SAME: dict[str, list[Any]] = {
    "type of values": [
        {"enum": ["a", "b"]},
        {"type": "string", "enum": ["a", "b"]},
        {"type": ["string", "integer"], "enum": ["b", "a"]},
        {"type": ["string", "null"], "enum": ["a", "b"]},
        {"oneOf": [{"const": "a"}, {"const": "b"}]},
        {"anyOf": [{"type": "string", "const": "a"}, {"enum": ["b"]}]},
    ],
    "one value": [
        {"const": "a"},
        {"enum": ["a"]},
        {"type": "string", "const": "a"},
        {"type": "string", "enum": ["a"]},
        {"const": "a", "enum": ["a", "b"]},
        {"oneOf": [{"const": "a"}]},
    ],
    "one number": [
        {"const": 1},
        {"enum": [1.0]},
        {"type": "integer", "enum": [1]},
        {"type": "number", "const": 1},
    ],
    "numbers": [
        {"enum": [1, 2.5]},
        {"type": "number", "enum": [1, 2.5]},
        {"type": ["number", "string"], "enum": [2.5, 1]},
    ],
    "values of several types": [
        {"enum": ["a", 1]},
        {"type": ["integer", "string"], "enum": ["a", 1]},
        {"oneOf": [{"const": "a"}, {"const": 1}]},
        {"anyOf": [{"type": "string", "enum": ["a"]}, {"type": "integer", "enum": [1]}]},
    ],
    "yes and no": [
        {"type": "boolean"},
        {"enum": [True, False]},
        {"type": "boolean", "enum": [False, True]},
    ],
    "values or null": [
        {"enum": ["a", None]},
        {"type": ["string", "null"], "enum": ["a", None]},
        {"type": "string", "nullable": True, "enum": ["a", None]},
        {"type": "string", "nullable": True, "enum": ["a"]},
        {"anyOf": [{"type": "string", "enum": ["a"]}, NULL]},
        {"oneOf": [{"const": "a"}, {"const": None}]},
    ],
    "null": [NULL, {"const": None}, {"enum": [None]}, {"type": ["null"]}],
    "text or null": [
        {"type": ["string", "null"]},
        {"type": ["null", "string"]},
        {"type": "string", "nullable": True},
        {"anyOf": [TEXT, NULL]},
        {"oneOf": [NULL, TEXT]},
        {"anyOf": [TEXT, {"enum": [None]}]},
        {"oneOf": [TEXT, {"const": None}]},
        {"allOf": [{"type": ["string", "null"]}]},
    ],
    "short text or null": [
        {"type": ["string", "null"], "maxLength": 3},
        {"type": "string", "maxLength": 3, "nullable": True},
        {"anyOf": [{"type": "string", "maxLength": 3}, NULL]},
        {"oneOf": [{"type": "string", "maxLength": 3}, NULL]},
    ],
    "an order or null": [
        {"anyOf": [ORDER_REF, NULL]},
        {"oneOf": [NULL, ORDER_REF]},
        {"allOf": [ORDER_REF], "nullable": True},
        {**ORDER, "type": ["object", "null"]},
        {**ORDER, "nullable": True},
    ],
    "an order": [
        ORDER_REF,
        ORDER,
        {"allOf": [ORDER_REF]},
        {"oneOf": [ORDER_REF]},
        {"anyOf": [{"allOf": [ORDER_REF]}]},
        {"type": "object", "allOf": [ORDER_REF]},
        {**ORDER, "additionalProperties": True},
        {**ORDER, "additionalProperties": {}},
        {**ORDER, "unevaluatedProperties": True},
        {**ORDER, "minProperties": 0},
        {**ORDER, "patternProperties": {}},
        {**ORDER, "dependentRequired": {}},
        {**ORDER, "dependentSchemas": {}},
        {**ORDER, "propertyNames": {}},
        {**ORDER, "propertyNames": True},
        {**ORDER, "required": ["id", "id"]},
        {**ORDER, "nullable": False},
        {**ORDER, "not": False},
        {**ORDER, "type": ["object"]},
    ],
    "what has to be there": [
        {"type": "object", "required": ["a", "b"]},
        {"type": "object", "required": ["b", "a"]},
        {"type": "object", "required": ["b"], "allOf": [{"required": ["a"]}]},
        {"type": "object", "required": ["a", "b"], "properties": {}},
    ],
    "a positive integer": [
        {"type": "integer", "minimum": 1},
        {"type": "integer", "exclusiveMinimum": 0},
        {"type": "integer", "minimum": 0, "exclusiveMinimum": True},
        {"type": "integer", "minimum": 1, "exclusiveMinimum": False},
        {"type": "integer", "exclusiveMinimum": 0.5},
        {"type": "integer", "minimum": 1, "multipleOf": 1},
        {"type": "integer", "minimum": 1.0},
        {"allOf": [{"type": "integer"}, {"minimum": 1}]},
    ],
    "a number below": [
        {"type": "number", "exclusiveMaximum": 5},
        {"type": "number", "maximum": 5, "exclusiveMaximum": True},
        {"type": "number", "maximum": 7, "exclusiveMaximum": 5},
        {"type": ["number", "integer"], "exclusiveMaximum": 5},
    ],
    "a list": [
        {"type": "array"},
        {"type": "array", "items": {}},
        {"type": "array", "items": True},
        {"type": "array", "minItems": 0},
        {"type": "array", "uniqueItems": False},
        {"type": "array", "prefixItems": []},
        {"type": "array", "unevaluatedItems": True},
        {"type": ["array"]},
    ],
    "text": [
        TEXT,
        {"type": ["string"]},
        {"type": "string", "minLength": 0},
        {"type": "string", "minimum": 3},
        {"allOf": [TEXT]},
        {"anyOf": [TEXT]},
        {"type": "string", "nullable": False},
        {"type": "string", "not": {"type": "integer"}},
    ],
    "text or a number": [
        {"type": ["string", "integer"]},
        {"oneOf": [TEXT, WHOLE]},
        {"anyOf": [WHOLE, TEXT]},
        {"type": ["integer", "string"], "minLength": 0},
    ],
    "anything": [{}, True, {"minLength": 0}, {"allOf": [{}]}, {"description": "a"}, {"not": False}],
}


def found(old: Any, new: Any, direction: Direction) -> list[str]:
    nodes = []
    for schema in (old, new):
        body = {"type": "object", "properties": {"it": schema}}
        schemas = {"Order": ORDER, "It": body}
        document = Document("it", {"openapi": "3.1.0", "components": {"schemas": schemas}}, "")
        nodes.append(Node.root(document)["components"]["schemas"]["It"])
    told = SchemaDiff(direction, direction.value).compare(*nodes, "it")
    return [f"{rule}: {one.message}" for rule, one in told]


@pytest.mark.parametrize("what", SAME)
def test_the_same_in_other_words_is_no_change(what: str) -> None:
    told = [
        (direction.value, old, new, told)
        for old, new in permutations(SAME[what], 2)
        for direction in Direction
        if (told := found(old, new, direction))
    ]
    assert told == []


@pytest.mark.parametrize(
    ("old", "new", "taken", "given"),
    [
        # a type that no value has is no type
        ({"enum": ["a", "b"]}, {"type": "string", "enum": ["a"]}, ["ENUM_VALUE_NO_DELETE"], []),
        ({"type": "string", "enum": ["a"]}, {"enum": ["a", "b"]}, [], ["ENUM_VALUE_ADDED"]),
        # a value of another type is
        ({"enum": ["a"]}, {"enum": ["a", 1]}, [], ["SAME_TYPE", "ENUM_VALUE_ADDED"]),
        ({"enum": ["a", 1]}, {"type": "string"}, ["SAME_TYPE"], ["ENUM_VALUE_ADDED"]),
        ({"enum": ["a"]}, {"type": "string"}, [], ["ENUM_VALUE_ADDED"]),
        ({"enum": ["a"]}, {"type": "integer"}, ["SAME_TYPE"], ["SAME_TYPE"]),
        ({"enum": ["a"]}, {}, [], ["ENUM_VALUE_ADDED"]),
        ({}, {"type": "string", "enum": ["a"]}, ["ENUM_VALUE_NO_DELETE"], []),
        ({"const": 1}, {"type": "integer", "enum": [1, 2]}, [], ["ENUM_VALUE_ADDED"]),
        # null
        ({"enum": ["a"]}, {"enum": ["a"], "type": "string", "nullable": True}, [], ["NULL_ADDED"]),
        ({"enum": ["a", None]}, {"type": "string", "enum": ["a", None]}, ["NULL_NO_DELETE"], []),
        ({"const": None}, {"type": ["null", "string"]}, [], ["SAME_TYPE"]),
        # nothing is valid for values that no type lets through
        ({"type": "string", "enum": [1]}, {"type": "string", "enum": [1]}, [], []),
        ({"not": False}, {"not": {"type": "string"}}, ["CONSTRAINT_CHANGED"], []),
    ],
)
def test_what_is_another_thing(old: Any, new: Any, taken: list[str], given: list[str]) -> None:
    for direction, expected in ((Direction.TAKEN, taken), (Direction.GIVEN, given)):
        told = found(old, new, direction)
        assert [one.partition(":")[0] for one in told] == [
            f"{direction.value}_{rule}" for rule in expected
        ]
