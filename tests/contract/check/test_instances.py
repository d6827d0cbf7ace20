"""JSON that is shown beside a finding does what is said of it: a complete validator is asked."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from switchgear.contract.check.documents import Document
from switchgear.contract.check.instances import NOTHING, holds, sample
from switchgear.contract.check.jsonschema import Direction, SchemaDiff
from switchgear.contract.check.refs import Node

small = st.integers(0, 4)
scalars = st.one_of(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["integer", "number", ["integer", "null"]])},
        optional={
            "minimum": small,
            "maximum": small,
            "exclusiveMinimum": small,
            "multipleOf": st.just(2),
        },
    ),
    st.fixed_dictionaries(
        {"type": st.just("string")},
        optional={"minLength": small, "maxLength": small, "enum": st.just(["a", "aa", "b"])},
    ),
    st.sampled_from(
        [{}, {"type": "boolean"}, {"const": "x"}, {"enum": ["x", 1, None]}, True, False]
    ),
    st.sampled_from([{"type": "string", "format": "date"}, {"type": "string", "pattern": "^a"}]),
)
schemas = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.fixed_dictionaries(
            {
                "type": st.just("object"),
                "properties": st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
                "required": st.lists(st.sampled_from("abc"), unique=True, max_size=2),
            },
            optional={"additionalProperties": st.booleans() | inner, "maxProperties": small},
        ),
        st.fixed_dictionaries(
            {"type": st.just("array")},
            optional={
                "items": inner,
                "prefixItems": st.lists(inner, min_size=1, max_size=2),
                "minItems": small,
                "maxItems": small,
                "uniqueItems": st.booleans(),
            },
        ),
        st.fixed_dictionaries({"oneOf": st.lists(inner, min_size=1, max_size=2)}),
        st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=2)}),
        st.fixed_dictionaries({"allOf": st.lists(inner, min_size=1, max_size=2)}),
    ),
    max_leaves=6,
)


def node(schema: object) -> Node:
    return Node.root(Document("it", schema, ""))


@settings(max_examples=300, deadline=None)
@given(schemas, schemas, st.sampled_from(Direction))
def test_what_is_shown_is_so(old, new, direction):
    for _, found in SchemaDiff(direction, "X").compare(node(old), node(new), "it"):
        if not found.witness:
            continue
        value, end = json.JSONDecoder().raw_decode(found.witness)
        writer, reader = (old, new) if direction is Direction.TAKEN else (new, old)
        assert Draft202012Validator(writer).is_valid(value), found
        assert not Draft202012Validator(reader).is_valid(value), found
        assert found.witness[end:].strip()


values = st.recursive(
    st.sampled_from([None, True, 0, 1, 2, 3, 1.5, "", "a", "aa", "b", "x", "aaaaa", "2024-02-29"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3)
    ),
    max_leaves=4,
)


def closed(schema):
    """The schema of those who send nothing that they have not declared."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(one) for key, one in schema.items()}
    if schema.get("type") == "object" and made.get("additionalProperties") in (None, True):
        made["additionalProperties"] = False
    return made


def loose(schema):
    """The schema in which what fits more than one alternative is taken: that is told by example."""
    if isinstance(schema, list):
        return [loose(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {"anyOf" if key == "oneOf" else key: loose(one) for key, one in schema.items()}


@settings(max_examples=300, deadline=None)
@given(schemas, schemas, st.sampled_from(Direction), st.lists(values, min_size=5, max_size=10))
def test_nothing_that_breaks_is_passed_over(old, new, direction, given):
    writer, reader = (old, new) if direction is Direction.TAKEN else (new, old)
    one, other = Draft202012Validator(closed(writer)), Draft202012Validator(loose(reader))
    made = [sample(node(one)) for one in (old, new)]
    broken = [
        value
        for value in (*given, *(one for one in made if one is not NOTHING))
        if one.is_valid(value) and not other.is_valid(value)
    ]
    if broken:
        assert list(SchemaDiff(direction, "X").compare(node(old), node(new), "it")), broken


@settings(max_examples=300, deadline=None)
@given(schemas, schemas)
def test_what_is_known_of_a_value_is_so(schema, other):
    for value in (sample(node(schema)), sample(node(other)), None, 1, 1.0, True, [], {}, "a"):
        told = None if value is NOTHING else holds(node(schema), value)
        assert told is None or told is Draft202012Validator(schema).is_valid(value)


@pytest.mark.parametrize(
    ("old", "new", "shown"),
    [
        ({"enum": ["NEW", "PAID"]}, {"enum": ["NEW"]}, "PAID"),
        ({"type": "string"}, {"type": "integer"}, "a"),
        ({"type": ["string", "null"]}, {"type": "string"}, None),
        ({"type": "integer"}, {"type": "integer", "maximum": 9}, 10),
        ({"type": "string"}, {"type": "string", "minLength": 3}, "aa"),
        (
            {"type": "array", "items": {"type": "string"}},
            {"type": "array", "maxItems": 1},
            ["a", "a"],
        ),
        (
            {
                "type": "object",
                "required": ["id"],
                "properties": {
                    "id": {"type": "string"},
                    "lines": {
                        "type": "array",
                        "items": {"type": "object", "properties": {"n": {"type": "integer"}}},
                    },
                },
            },
            {
                "type": "object",
                "required": ["id"],
                "properties": {
                    "id": {"type": "string"},
                    "lines": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {"n": {"type": "integer", "minimum": 0}},
                        },
                    },
                },
            },
            {"id": "a", "lines": [{"n": -1}]},
        ),
        (
            {"type": "object", "properties": {"a": {"type": "string"}}},
            {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
            {},
        ),
        (
            {"type": "object", "properties": {"a": {}, "b": {}}},
            {"type": "object", "properties": {"a": {}}, "additionalProperties": False},
            {"b": "a"},
        ),
        (
            {"oneOf": [{"type": "string"}, {"type": "integer"}]},
            {"oneOf": [{"type": "integer"}]},
            "a",
        ),
        ({"properties": {"a": True}}, {"properties": {"a": False}}, {"a": 1}),
    ],
)
def test_most_changes_are_shown(old, new, shown):
    (found, *_) = [
        one for _, one in SchemaDiff(Direction.TAKEN, "X").compare(node(old), node(new), "it")
    ]
    assert json.JSONDecoder().raw_decode(found.witness)[0] == shown
    assert found.witness.endswith("was valid and is refused now")


def test_a_schema_that_contains_itself_has_a_sample_or_none():
    told = {"$ref": "#/a"}
    document = {
        "a": {"type": "object", "required": ["a", "b"], "properties": {"a": told, "b": told}}
    }
    assert sample(Node(Document("it", document, ""), ("a",), document["a"])) is NOTHING
    for key in ("allOf", "anyOf", "oneOf"):
        loop = {"a": {key: [told, told]}}
        assert holds(Node(Document("it", loop, ""), ("a",), loop["a"]), 1) is None


def test_it_is_printed(write, run):
    head = "openapi: 3.1.0\ninfo: {title: a, version: '1'}\npaths:\n  /a:\n    put:\n"
    body = "      requestBody:\n        content:\n          application/json:\n"
    schema = "            schema: {type: object, properties: {n: {type: KIND}}}\n"
    rest = "      responses: {'200': {description: a}}\n"
    for name, kind in (("old", "integer"), ("new", "string")):
        text = f"{head}{body}{schema}{rest}".replace("KIND", kind)
        write("docs", **{f"{name}.yaml": text})
    _, (one,), _ = run("docs/new.yaml", "--against", "docs/old.yaml")
    assert one["witness"] == '{"n": 1} was valid and is refused now'
