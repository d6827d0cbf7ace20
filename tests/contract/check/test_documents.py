"""OpenAPI and AsyncAPI: each rule is shown to speak, and to be silent the other way round."""

from __future__ import annotations

import copy
import json
from contextlib import suppress

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from switchgear.contract.check import documents
from switchgear.contract.check.check import check
from switchgear.contract.check.documents import parse, read_document
from switchgear.errors import UnreadableContract

ORDER = {
    "type": "object",
    "required": ["id"],
    "properties": {
        "id": {"type": "string", "maxLength": 10},
        "size": {"type": "integer", "minimum": 1, "default": 1},
        "state": {"type": "string", "enum": ["NEW", "PAID"]},
        "note": {"type": ["string", "null"], "format": "date"},
        "parent": {"$ref": "#/components/schemas/Order"},
        "lines": {"type": "array", "items": {"type": "object", "properties": {"sku": {}}}},
    },
}
OPENAPI = {
    "openapi": "3.1.0",
    "info": {"title": "Shop", "version": "1"},
    "security": [{"key": []}, {"oauth": ["read"]}],
    "servers": [{"url": "https://a.example"}],
    "paths": {
        "/orders/{id}": {
            "get": {
                "operationId": "show",
                "x-switchgear-pattern": "query",
                "parameters": [
                    {"in": "path", "name": "id", "required": True, "schema": {"type": "string"}},
                    {"in": "query", "name": "limit", "schema": {"type": "integer", "default": 5}},
                ],
                "responses": {
                    "200": {
                        "headers": {"ETag": {"schema": {"type": "string"}}},
                        "content": {
                            "application/json": {"schema": {"$ref": "#/components/schemas/Order"}}
                        },
                    },
                    "404": {"description": "Gone."},
                },
            },
            "put": {
                "requestBody": {
                    "content": {
                        "application/json": {"schema": {"$ref": "#/components/schemas/Order"}},
                        "text/csv": {"schema": {"type": "string"}},
                    }
                },
                "responses": {"204": {"description": "Done."}},
            },
        }
    },
    "components": {
        "schemas": {"Order": ORDER},
        "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-Key"}},
    },
}
SHOW = "paths./orders/{id}.get"
PUT = "paths./orders/{id}.put"
SCHEMA = "components.schemas.Order"
FIELDS = f"{SCHEMA}.properties"
GONE = object()


def changed(document: dict, changes: dict[str, object]) -> dict:
    made = copy.deepcopy(document)
    for path, value in changes.items():
        *way, last = path.split(".")
        at = made
        for key in way:
            at = at[int(key)] if isinstance(at, list) else at[key]
        if value is GONE:
            del at[int(last) if isinstance(at, list) else last]
        elif isinstance(at, list):
            at[int(last) :] = [value]
        else:
            at[last] = value
    return made


@pytest.fixture
def compare(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def compare(old: dict, new: dict, **kwargs) -> list[tuple[str, str]]:
        (tmp_path / "old.json").write_text(json.dumps(old, indent=1))
        (tmp_path / "new.yaml").write_text(yaml.safe_dump(new, sort_keys=False))
        found = check("new.yaml", ["old.json"], **kwargs)
        assert all(one.line > 1 for one in found)
        return [(one.rule, str(one.severity)) for one in found]

    return compare


def limit(**told):
    return {f"{SHOW}.parameters.1": {"in": "query", "name": "limit", **told}}


CASES = [
    # what is changed, what it breaks, what undoing it breaks
    ({"paths./orders/{id}": GONE}, {"PATH_NO_DELETE"}, set()),
    ({PUT: GONE}, {"OPERATION_NO_DELETE"}, set()),
    ({f"{SHOW}.operationId": "get"}, {"OPERATION_SAME_ID"}, {"OPERATION_SAME_ID"}),
    ({f"{SHOW}.x-switchgear-pattern": "command"}, {"PATTERN_CHANGED"}, {"PATTERN_CHANGED"}),
    (limit(required=True, schema={"type": "integer", "default": 5}), {"PARAMETER_REQUIRED"}, set()),
    (limit(schema={"type": "number", "default": 5}), set(), {"REQUEST_SAME_TYPE"}),
    (
        limit(schema={"type": "integer", "default": 9}),
        {"REQUEST_SAME_DEFAULT"},
        {"REQUEST_SAME_DEFAULT"},
    ),
    (
        limit(schema={"type": "integer", "default": 5, "maximum": 9}),
        {"REQUEST_CONSTRAINT_CHANGED"},
        set(),
    ),
    ({f"{SHOW}.parameters.1": GONE}, {"PARAMETER_NO_DELETE"}, set()),
    (
        {f"{SHOW}.parameters.2": {"in": "header", "name": "X", "required": True, "schema": {}}},
        {"PARAMETER_REQUIRED_ADDED"},
        {"PARAMETER_NO_DELETE"},
    ),
    ({f"{SHOW}.responses.200": GONE}, {"RESPONSE_NO_DELETE"}, set()),
    ({f"{SHOW}.responses.409": {"description": ""}}, {"RESPONSE_ADDED"}, {"RESPONSE_NO_DELETE"}),
    ({f"{SHOW}.responses.200.headers.ETag": GONE}, {"RESPONSE_HEADER_NO_DELETE"}, set()),
    (
        {f"{SHOW}.responses.200.content": {"text/plain": {}}},
        {"RESPONSE_MEDIA_TYPE_NO_DELETE"},
        {"RESPONSE_MEDIA_TYPE_NO_DELETE"},
    ),
    ({f"{PUT}.requestBody.content.text/csv": GONE}, {"REQUEST_MEDIA_TYPE_NO_DELETE"}, set()),
    ({f"{PUT}.requestBody.required": True}, {"REQUEST_BODY_REQUIRED"}, set()),
    ({f"{PUT}.requestBody": GONE}, {"REQUEST_BODY_NO_DELETE"}, set()),
    ({"security": [{"key": []}]}, {"SECURITY_NO_DELETE"}, set()),
    (
        {f"{SHOW}.security": [{"oauth": ["read", "write"]}]},
        {"SECURITY_NO_DELETE"},
        set(),
    ),
    (
        {"components.securitySchemes.key.name": "X-Other"},
        {"SECURITY_SCHEME_CHANGED"},
        {"SECURITY_SCHEME_CHANGED"},
    ),
    # the schema is taken by PUT and given by GET
    (
        {f"{FIELDS}.size": GONE},
        {"REQUEST_PROPERTY_NO_DELETE", "RESPONSE_PROPERTY_NO_DELETE"},
        set(),
    ),
    (
        {"components.schemas.Order.required": ["id", "note"]},
        {"REQUEST_PROPERTY_REQUIRED"},
        {"RESPONSE_PROPERTY_OPTIONAL"},
    ),
    (
        {
            f"{FIELDS}.extra": {"type": "string"},
            "components.schemas.Order.required": ["id", "extra"],
        },
        {"REQUEST_PROPERTY_REQUIRED_ADDED"},
        {"REQUEST_PROPERTY_NO_DELETE", "RESPONSE_PROPERTY_NO_DELETE"},
    ),
    (
        {f"{FIELDS}.size.type": "string"},
        {"REQUEST_SAME_TYPE", "RESPONSE_SAME_TYPE"},
        {"REQUEST_SAME_TYPE", "RESPONSE_SAME_TYPE"},
    ),
    ({f"{FIELDS}.size.type": "number"}, {"RESPONSE_SAME_TYPE"}, {"REQUEST_SAME_TYPE"}),
    (
        {f"{FIELDS}.state.enum": ["NEW", "PAID", "SENT"]},
        {"RESPONSE_ENUM_VALUE_ADDED"},
        {"REQUEST_ENUM_VALUE_NO_DELETE"},
    ),
    ({f"{FIELDS}.note.type": "string"}, {"REQUEST_NULL_NO_DELETE"}, {"RESPONSE_NULL_ADDED"}),
    (
        {f"{FIELDS}.note.format": "time"},
        {"REQUEST_SAME_FORMAT", "RESPONSE_SAME_FORMAT"},
        {"REQUEST_SAME_FORMAT", "RESPONSE_SAME_FORMAT"},
    ),
    (
        {f"{FIELDS}.id.maxLength": 20},
        {"RESPONSE_CONSTRAINT_CHANGED"},
        {"REQUEST_CONSTRAINT_CHANGED"},
    ),
    (
        {f"{FIELDS}.id.pattern": "^a"},
        {"REQUEST_CONSTRAINT_CHANGED"},
        {"RESPONSE_CONSTRAINT_CHANGED"},
    ),
    (
        {"components.schemas.Order.additionalProperties": False},
        {"REQUEST_ADDITIONAL_PROPERTIES_REFUSED"},
        set(),
    ),
    (
        {f"{FIELDS}.lines.items.properties.sku": {"type": "string"}},
        {"REQUEST_SAME_TYPE"},
        {"RESPONSE_SAME_TYPE"},
    ),
    ({"info.version": "2", f"{FIELDS}.id.description": "Its name."}, set(), set()),
    # how an operation is reached
    ({"servers": [{"url": "https://b.example/"}]}, {"SERVER_NO_DELETE"}, {"SERVER_NO_DELETE"}),
    (
        {"servers.1": {"url": "https://{env}.example", "variables": {"env": {"default": "b"}}}},
        set(),
        {"SERVER_NO_DELETE"},
    ),
    ({f"{SHOW}.servers": [{"url": "https://a.example"}]}, set(), set()),
    (
        {"components.securitySchemes.key.flows": {"implicit": {"tokenUrl": "/t"}}},
        set(),
        {"SECURITY_SCHEME_CHANGED"},
    ),
    # what is said of a parameter where nothing is said
    (limit(style="form", explode=True, schema={"type": "integer", "default": 5}), set(), set()),
    (
        limit(explode=False, schema={"type": "integer", "default": 5}),
        {"PARAMETER_SAME_STYLE"},
        {"PARAMETER_SAME_STYLE"},
    ),
    # what is answered
    ({f"{SHOW}.responses.200.headers.ETag.required": True}, set(), {"RESPONSE_HEADER_OPTIONAL"}),
    (
        {
            f"{SHOW}.responses": {
                "2XX": OPENAPI["paths"]["/orders/{id}"]["get"]["responses"]["200"],
                "404": {},
            }
        },
        set(),
        {"RESPONSE_NO_DELETE"},
    ),
    (
        {f"{SHOW}.responses.200.links": {"next": {"operationId": "a"}}},
        set(),
        {"RESPONSE_LINK_NO_DELETE"},
    ),
    (
        {f"{PUT}.requestBody.content.text/csv.encoding": {"a": {"style": "form"}}},
        set(),
        {"REQUEST_ENCODING_CHANGED"},
    ),
    # other keywords of JSON Schema
    (
        {f"{FIELDS}.lines.uniqueItems": True},
        {"REQUEST_CONSTRAINT_CHANGED"},
        {"RESPONSE_CONSTRAINT_CHANGED"},
    ),
    (
        {f"{FIELDS}.lines.contains": {"required": ["sku"]}},
        {"REQUEST_PROPERTY_REQUIRED_ADDED"},
        {"RESPONSE_PROPERTY_OPTIONAL"},
    ),
    (
        {f"{FIELDS}.lines.prefixItems": [{"type": "string"}]},
        {"REQUEST_SAME_TYPE", "RESPONSE_SAME_TYPE"},
        {"REQUEST_SAME_TYPE", "RESPONSE_SAME_TYPE"},
    ),
    ({f"{FIELDS}.lines.items": False}, {"REQUEST_SAME_TYPE"}, {"RESPONSE_SAME_TYPE"}),
    (
        {f"{FIELDS}.id.not": {"const": "x"}},
        {"REQUEST_CONSTRAINT_CHANGED"},
        {"RESPONSE_CONSTRAINT_CHANGED"},
    ),
    (
        {f"{SCHEMA}.if": {"required": ["note"]}},
        {"REQUEST_CONSTRAINT_CHANGED"},
        {"RESPONSE_CONSTRAINT_CHANGED"},
    ),
    (
        {f"{SCHEMA}.propertyNames": {"maxLength": 9}},
        {"REQUEST_CONSTRAINT_CHANGED"},
        {"RESPONSE_CONSTRAINT_CHANGED"},
    ),
    (
        {f"{SCHEMA}.additionalProperties": {"type": "string"}},
        {"REQUEST_SAME_TYPE"},
        {"RESPONSE_SAME_TYPE"},
    ),
    ({f"{SCHEMA}.unevaluatedProperties": False}, {"REQUEST_ADDITIONAL_PROPERTIES_REFUSED"}, set()),
    (
        {f"{FIELDS}.extra": {"type": "string"}},
        set(),
        {"REQUEST_PROPERTY_NO_DELETE", "RESPONSE_PROPERTY_NO_DELETE"},
    ),
]


@pytest.mark.parametrize(("changes", "breaks", "undone"), CASES)
def test_openapi(compare, changes, breaks, undone):
    other = changed(OPENAPI, changes)
    assert {rule for rule, _ in compare(OPENAPI, other)} == breaks
    assert {rule for rule, _ in compare(other, OPENAPI)} == undone


CALLED = {
    "post": {
        "parameters": [{"in": "header", "name": "Sign", "required": True, "schema": {}}],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["id"],
                        "properties": {"id": {"type": "string"}, "state": {"enum": ["NEW"]}},
                    }
                }
            },
        },
        "responses": {
            "200": {"content": {"application/json": {"schema": {"type": ["string", "null"]}}}}
        },
    }
}
BODY = "post.requestBody.content.application/json"


@pytest.mark.parametrize(
    ("changes", "breaks", "undone"),
    [
        ({"post": GONE}, {"NO_DELETE"}, set()),
        ({f"{BODY}.schema.required": []}, {"REQUEST_PROPERTY_OPTIONAL"}, set()),
        ({f"{BODY}.schema.required": ["id", "state"]}, set(), {"REQUEST_PROPERTY_OPTIONAL"}),
        (
            {f"{BODY}.schema.properties.state.enum": ["NEW", "PAID"]},
            {"REQUEST_ENUM_VALUE_ADDED"},
            set(),
        ),
        ({"post.requestBody.required": False}, {"REQUEST_BODY_OPTIONAL"}, set()),
        ({"post.requestBody": GONE}, {"REQUEST_BODY_NO_DELETE"}, set()),
        (
            {"post.requestBody.content": {"text/csv": {}}},
            {"REQUEST_MEDIA_TYPE_ADDED"},
            {"REQUEST_MEDIA_TYPE_ADDED"},
        ),
        ({"post.parameters.0": GONE}, {"PARAMETER_NO_DELETE"}, set()),
        (
            {"post.parameters.0": {"in": "header", "name": "Sign", "schema": {}}},
            {"PARAMETER_OPTIONAL"},
            set(),
        ),
        (
            {"post.responses.200.content.application/json.schema.type": "string"},
            {"RESPONSE_NULL_NO_DELETE"},
            set(),
        ),
        ({"post.responses": {"204": {}}}, {"RESPONSE_NO_DELETE"}, {"RESPONSE_NO_DELETE"}),
        (
            {"post.responses.200.headers": {"X": {"required": True, "schema": {}}}},
            {"RESPONSE_HEADER_REQUIRED"},
            set(),
        ),
    ],
)
@pytest.mark.parametrize("where", ["webhooks", f"{SHOW}.callbacks"])
def test_what_we_call_is_compared_the_other_way_round(compare, where, changes, breaks, undone):
    def document(item: dict) -> dict:
        told = {"sold": item} if where == "webhooks" else {"sold": {"{$request.body#/url}": item}}
        return changed(OPENAPI, {where: told})

    kind = "WEBHOOK_" if where == "webhooks" else "CALLBACK_"
    old, new = document(CALLED), document(changed(CALLED, changes))
    assert {rule for rule, _ in compare(old, new)} == {f"{kind}{one}" for one in breaks}
    assert {rule for rule, _ in compare(new, old)} == {f"{kind}{one}" for one in undone}


def test_a_discriminator_keeps_what_its_values_mean(compare):
    told = {"propertyName": "by", "mapping": {"card": "#/components/schemas/Card"}}
    one = changed(OPENAPI, {f"{FIELDS}.by": {"type": "object", "discriminator": told}})
    for change in ({"propertyName": "kind"}, {"mapping": {"card": "#/components/schemas/Cash"}}):
        two = changed(OPENAPI, {f"{FIELDS}.by": {"type": "object", "discriminator": told | change}})
        assert {rule for rule, _ in compare(one, two)} == {
            "REQUEST_DISCRIMINATOR_CHANGED",
            "RESPONSE_DISCRIMINATOR_CHANGED",
        }


def test_a_callback_whose_address_is_found_elsewhere_is_still_the_same(compare):
    one = changed(OPENAPI, {f"{SHOW}.callbacks": {"sold": {"{$request.body#/url}": CALLED}}})
    two = changed(OPENAPI, {f"{SHOW}.callbacks": {"sold": {"{$request.query.url}": CALLED}}})
    assert compare(one, two) == []


def test_exclusive_limits_of_openapi_30_are_said_of_the_limit(compare):
    one = changed(OPENAPI, {f"{FIELDS}.size": {"type": "integer", "minimum": 1}})
    two = changed(one, {f"{FIELDS}.size.exclusiveMinimum": True})
    assert {rule for rule, _ in compare(one, two)} == {"REQUEST_CONSTRAINT_CHANGED"}
    assert {rule for rule, _ in compare(two, one)} == {"RESPONSE_CONSTRAINT_CHANGED"}
    assert compare(two, two) == []


def test_a_parameter_of_the_path_may_be_renamed(compare):
    text = (
        json.dumps(OPENAPI)
        .replace("{id}", "{key}")
        .replace('"in": "path", "name": "id"', '"in": "path", "name": "key"')
    )
    assert compare(OPENAPI, json.loads(text)) == []


def test_alternatives_are_known_by_what_they_refer_to(compare):
    one = changed(
        OPENAPI,
        {
            "components.schemas.Card": {"type": "object", "required": ["number"]},
            "components.schemas.Cash": {"type": "object", "required": ["till"]},
            f"{FIELDS}.by": {"oneOf": [{"$ref": "#/components/schemas/Card"}]},
        },
    )
    two = changed(
        one,
        {
            f"{FIELDS}.by.oneOf": [
                {"$ref": "#/components/schemas/Cash"},
                {"$ref": "#/components/schemas/Card"},
            ]
        },
    )
    assert [rule for rule, _ in compare(one, two)] == ["RESPONSE_ALTERNATIVE_ADDED"]
    assert [rule for rule, _ in compare(two, one)] == ["REQUEST_ALTERNATIVE_NO_DELETE"]


def test_what_allof_says_counts(compare):
    one = changed(OPENAPI, {"components.schemas.Order": {"allOf": [ORDER, {"required": ["note"]}]}})
    assert {rule for rule, _ in compare(OPENAPI, one)} == {"REQUEST_PROPERTY_REQUIRED"}


def test_warnings_and_errors(compare):
    found = dict(
        compare(
            OPENAPI,
            changed(OPENAPI, {f"{FIELDS}.id": GONE, "components.schemas.Order.required": []}),
        )
    )
    assert found["RESPONSE_PROPERTY_NO_DELETE"] == "error"
    assert found["REQUEST_PROPERTY_NO_DELETE"] == "warning"


def test_only_the_rules_that_were_asked_for(compare):
    new = changed(OPENAPI, {PUT: GONE, f"{SHOW}.operationId": "get"})
    assert compare(OPENAPI, new, rules=["OPERATION_SAME_ID"]) == [("OPERATION_SAME_ID", "warning")]
    assert len(compare(OPENAPI, new, rules=["switchgear"])) == 2


ASYNCAPI = {
    "asyncapi": "3.0.0",
    "info": {"title": "Shop", "version": "1"},
    "channels": {
        "orders": {
            "address": "shop.orders",
            "messages": {"Placed": {"$ref": "#/components/messages/Placed"}},
        }
    },
    "components": {
        "messages": {
            "Placed": {
                "name": "Placed",
                "x-switchgear-key": "id",
                "payload": {"$ref": "#/components/schemas/Placed"},
            }
        },
        "schemas": {
            "Placed": {
                "type": "object",
                "required": ["id"],
                "properties": {"id": {"type": "string"}, "size": {"type": "integer"}},
            }
        },
    },
}
PLACED = "components.schemas.Placed"
MESSAGE = "components.messages.Placed"


@pytest.mark.parametrize(
    ("changes", "mode", "breaks"),
    [
        ({f"{PLACED}.required": ["id", "size"]}, "BACKWARD", {"EVENT_BACKWARD_PROPERTY_REQUIRED"}),
        ({f"{PLACED}.required": ["id", "size"]}, "FORWARD", set()),
        ({f"{PLACED}.required": []}, "FORWARD", {"EVENT_FORWARD_PROPERTY_OPTIONAL"}),
        ({f"{PLACED}.required": []}, "BACKWARD", set()),
        ({f"{PLACED}.required": []}, "FULL", {"EVENT_FORWARD_PROPERTY_OPTIONAL"}),
        ({f"{PLACED}.properties.size.type": "number"}, "FORWARD", {"EVENT_FORWARD_SAME_TYPE"}),
        ({f"{PLACED}.properties.size.type": "number"}, "BACKWARD", set()),
        ({f"{PLACED}.properties.note": {"type": "string"}}, "FULL", set()),
        (
            {"components.messages.Placed.x-switchgear-key": "size"},
            "BACKWARD",
            {"EVENT_KEY_CHANGED"},
        ),
        ({"channels.orders.address": "shop.sales"}, "BACKWARD", {"EVENT_TOPIC_CHANGED"}),
        ({"channels.orders.messages": {}}, "BACKWARD", {"EVENT_NO_DELETE"}),
        ({"defaultContentType": "text/csv"}, "BACKWARD", {"EVENT_SAME_CONTENT_TYPE"}),
    ],
)
def test_asyncapi(compare, changes, mode, breaks):
    found = compare(ASYNCAPI, changed(ASYNCAPI, changes), compatibility=mode)
    assert {rule for rule, _ in found} == breaks


def test_transitive_looks_at_every_version(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = changed(ASYNCAPI, {f"{PLACED}.properties.size.type": "string"})
    for name, document in (("v1", first), ("v2", ASYNCAPI), ("v3", ASYNCAPI)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(document))
    assert check("v3.yaml", ["v2.yaml", "v1.yaml"], compatibility="BACKWARD") == []
    found = check("v3.yaml", ["v2.yaml", "v1.yaml"], compatibility="BACKWARD_TRANSITIVE")
    assert [(one.rule, one.against) for one in found] == [("EVENT_BACKWARD_SAME_TYPE", "v1.yaml")]
    assert "producers upgrade first" in found[0].breaks


class TestBadInput:
    @pytest.fixture
    def told(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "old.yaml").write_text(yaml.safe_dump(OPENAPI))

        def told(text: str | bytes) -> str:
            data = text if isinstance(text, bytes) else text.encode()
            (tmp_path / "new.yaml").write_bytes(data)
            with pytest.raises(UnreadableContract) as caught:
                check("new.yaml", ["old.yaml"])
            return str(caught.value)

        return told

    def test_broken_yaml_is_told_with_its_line(self, told):
        assert "new.yaml:3:1" in told("openapi: 3.1.0\npaths: {[\n")

    def test_another_version(self, told):
        assert "version of OpenAPI is 2.0" in told("openapi: '2.0'\n")
        assert "not stated" in told("swagger: '2.0'\n")

    @pytest.mark.parametrize(
        ("ref", "what"),
        [
            ("https://example.org/a.yaml", "leads out of the document"),
            ("other.yaml#/A", "cannot be read: No such file"),
            ("../other.yaml#/A", "leads out of the document"),
            ("#/components/schemas/Nothing", "leads to nothing"),
            ("#/components/schemas/Loop", "leads back to itself"),
        ],
    )
    def test_references(self, told, ref, what):
        new = changed(
            OPENAPI,
            {
                "components.schemas.Loop": {"$ref": "#/components/schemas/Loop"},
                f"{FIELDS}.parent": {"$ref": ref},
            },
        )
        assert what in told(yaml.safe_dump(new))

    def test_a_billion_laughs(self, told):
        lines = ["a0: &a0 [x, x]"]
        lines += [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 64)]
        assert "With its aliases followed" in told("\n".join(lines))

    def test_a_document_that_is_too_large(self, told, monkeypatch):
        monkeypatch.setattr(documents, "MAX_BYTES", 100)
        assert "larger than" in told("x" * 200)

    @pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 5_000, "- " * 50_000 + "a"])
    def test_depth(self, told, text):
        told(text)

    def test_what_is_not_utf8(self, told):
        assert "not UTF-8" in told(b"\xff\xfe")

    def test_schemas_that_contain_each_other_for_ever(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        ref = "#/components/schemas/S"
        chain = {f"S{n}": {"properties": {"a": {"$ref": f"{ref}{n + 1}"}}} for n in range(500)}
        for name, kind in (("old", "string"), ("new", "integer")):
            schemas = {**chain, "S500": {"type": kind}, "Order": {"$ref": f"{ref}0"}}
            document = changed(OPENAPI, {"components.schemas": schemas})
            (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(document))
        with pytest.raises(UnreadableContract, match="levels deep"):
            check("new.yaml", ["old.yaml"])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text() | st.text(alphabet="{}[]:,-&*!|>'\"# \n\tab0.~?%@`"))
def test_the_reader_reads_or_refuses(text):
    with suppress(UnreadableContract):
        parse(text, "it")


finite = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(), json_values))
def test_json_and_yaml_give_the_same_values(value):
    assert parse(json.dumps(value), "it") == value


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_any_value_anywhere_is_compared_or_refused(tmp_path_factory, data):
    base = data.draw(st.sampled_from([OPENAPI, ASYNCAPI]))
    new = copy.deepcopy(base)
    at = new
    for _ in range(data.draw(st.integers(1, 9))):
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        if not keys:
            break
        key = data.draw(st.sampled_from(keys))
        if not isinstance(at[key], dict | list) or data.draw(st.booleans()):
            at[key] = data.draw(json_values)
            break
        at = at[key]
    root = tmp_path_factory.mktemp("documents")
    for name, document in (("old", base), ("new", new)):
        (root / f"{name}.json").write_text(json.dumps(document))
    for pair in (("new", "old"), ("old", "new")):
        with suppress(UnreadableContract):
            check(str(root / f"{pair[0]}.json"), [str(root / f"{pair[1]}.json")])


def test_a_document_that_is_missing(tmp_path):
    with pytest.raises(UnreadableContract, match="No such file"):
        read_document(tmp_path / "none.yaml")
