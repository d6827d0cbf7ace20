"""However deep something is nested, and however long a chain: checked, or refused with a bound."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

MANY = 1200
"""More than Python goes down by recursion."""
CONTRACT = """
from switchgear import Message, field


class A(Message, package="shop.v1"):
    size: int = field(1, default={default})
    {what}: str = field(2)
"""


def test_a_chain_of_messages(shop, found):
    links = [f"message M{at} {{ M{at + 1} next = 1; }}" for at in range(MANY)]
    first, last = links[0], f"message M{MANY} {{ int32 v = 1; }}"
    shop(
        "\n".join([first, *links[1:], last]),
        "\n".join([first.replace("M1 ", "M2 "), *links[1:], last.replace("int32", "string")]),
    )
    assert found() == [
        ("FIELD_WIRE_JSON_COMPATIBLE_TYPE", "M0.next"),
        ("FIELD_WIRE_JSON_COMPATIBLE_TYPE", f"M{MANY}.v"),
    ]


def test_a_chain_of_files(write, run):
    for version, kind in (("old", "int32"), ("new", "string")):
        for at in range(MANY):
            text = f'import "f{at + 1}.proto";\nmessage M {{ p{at + 1}.M next = 1; {kind} v = 2; }}'
            own = text if at == 0 else text.replace("string", "int32")
            write(version, **{f"f{at}": f'syntax = "proto3";\npackage p{at};\n{own}\n'})
        write(version, **{f"f{MANY}": f'syntax = "proto3";\npackage p{MANY};\nmessage M {{}}\n'})
    _, (one,), _ = run("new", "--against", "old")
    assert one["subject"] == "p0.M.v"
    assert one["witness"]  # for which every file of the chain is described


def test_messages_inside_messages_are_as_deep_as_protoc_reads(shop, run):
    for levels in (31, 32):
        both = [
            f"{'message M { ' * levels}{kind} v = 1;{' }' * levels}" for kind in ("int32", "string")
        ]
        shop(*both)
        code, _, err = run("new", "--against", "old")
        assert (code, "recursion limit for nested messages" in err) == (levels - 30, levels > 31)


def test_options_that_protoc_fails_on_are_no_diagnostics_of_a_file(shop, run):
    declared = (
        'import "google/protobuf/descriptor.proto";\nmessage O { O n = 1; }\n'
        "extend google.protobuf.MessageOptions { O o = 50001; }\n"
    )
    nested = f"{declared}message A {{ option (o) = {{ {'n { ' * 200}{' }' * 200} }}; }}"
    shop(nested, f"{nested}\nmessage B {{}}")
    code, _, err = run("new", "--against", "old")
    assert code == 2
    assert err.startswith("error[SG160]: new: protoc was ended by signal")
    assert "nest options less deeply" in err


REFS = "#/components/schemas/S"
Step = Callable[[dict[str, object]], dict[str, object]]
STEPS: dict[str, Step] = {
    "properties": lambda ref: {"type": "object", "properties": {"n": ref}},
    "items": lambda ref: {"type": "array", "items": ref},
    "prefixItems": lambda ref: {"prefixItems": [ref]},
    "contains": lambda ref: {"contains": ref},
    "propertyNames": lambda ref: {"propertyNames": ref},
    "patternProperties": lambda ref: {"patternProperties": {"^a": ref}},
    "additionalProperties": lambda ref: {"additionalProperties": ref},
    "allOf": lambda ref: {"allOf": [ref]},
    "beside": lambda ref: {**ref, "minLength": 1},
    "oneOf": lambda ref: {"oneOf": [ref, {"type": "null"}]},
    "anyOf": lambda ref: {"anyOf": [{"properties": {"n": ref}}, {"type": "null"}]},
    "not": lambda ref: {"not": ref},
}


def document(step: Step, kind: str, levels: int, version: str) -> str:
    links = {f"S{at}": step({"$ref": f"{REFS}{at + 1}"}) for at in range(levels)}
    schemas = {**links, f"S{levels}": {"type": kind}}
    schema = {"$ref": f"{REFS}0"}
    if version == "openapi":
        body = {"content": {"application/json": {"schema": schema}}}
        told: dict[str, object] = {"paths": {"/a": {"put": {"requestBody": body, "responses": {}}}}}
    else:
        told = {"channels": {"a": {"messages": {"A": {"payload": schema}}}}}
    numbered = {"openapi": "3.1.0", "asyncapi": "3.0.0"}[version]
    return json.dumps({version: numbered, **told, "components": {"schemas": schemas}})


@pytest.mark.parametrize(
    ("step", "version"), [*((step, "openapi") for step in STEPS), ("properties", "asyncapi")]
)
def test_a_chain_of_schemas(write, run, step, version):
    for levels, code in ((40, 1), (MANY, 2)):
        for name, kind in (("old", "string"), ("new", "integer")):
            write(".", **{f"{name}.json": document(STEPS[step], kind, levels, version)})
        told, findings, err = run("new.json", "--against", "old.json")
        assert (told, bool(findings)) == (code, code == 1), err
        assert ("levels deep" in err) is (code == 2)


def test_a_chain_of_references_is_no_circle(write, run):
    for name, kind in (("old", "string"), ("new", "integer")):
        write(".", **{f"{name}.json": document(lambda ref: ref, kind, MANY, "openapi")})
    code, _, err = run("new.json", "--against", "old.json")
    assert (code, err) == (1, "")


@pytest.mark.parametrize("deep", ["[" * 100_000, "{a: " * 10_000, '{"a":' * 100_000])
def test_buf_yaml(shop, write, run, deep):
    shop("message A {}", "message A {}")
    write("new", **{"buf.yaml": deep})
    code, _, err = run("new", "--against", "old")
    assert code == 2
    assert err.startswith("error[SG160]: new/buf.yaml")


@pytest.mark.parametrize("deep", ['{"messages":' * 100_000, '{"version":"1","x":' + "[" * 100_000])
def test_history(shop, write, run, deep):
    shop("message A {}", "message A {}")
    write(".", **{"history.jsonl": deep})
    for arguments in (
        ("--against", "old", "--history", "history.jsonl"),
        ("--against", "history.jsonl"),
    ):
        code, _, err = run("new", *arguments)
        assert code == 2
        assert err.startswith("error[SG160]: history.jsonl:1")


@pytest.mark.parametrize("option", ["--waivers", "--consumers"])
@pytest.mark.parametrize(
    "deep", ["a = " + "[" * 100_000, "a = " + "{a = " * 100_000, "a." * 50_000 + "a = 1"]
)
def test_tables(shop, write, run, option, deep):
    shop("message A {}", "message A {}")
    write(".", **{"tables.toml": deep})
    code, _, err = run("new", "--against", "old", option, "tables.toml")
    assert code == 2
    assert err.startswith("error[SG160]: tables.toml")


@pytest.mark.parametrize(
    ("default", "code"),
    [("+".join("1" * 900), 1), ("+".join("1" * 10_000), 2), ("(" * 500 + "1" + ")" * 500, 2)],
)
def test_a_module_in_python(write, run, default, code):
    for name, what in (("old", "name"), ("new", "title")):
        write(".", **{f"{name}.py": CONTRACT.format(default=default, what=what)})
    told, findings, err = run("new.py", "--against", "old.py")
    assert (told, [one["rule"] for one in findings]) == (code, ["FIELD_RENAMED"] * (code == 1))
    assert "Traceback" not in err


def test_a_module_that_calls_itself_for_ever(write, run, tmp_path: Path):
    write(".", **{"old.py": CONTRACT.format(default="1", what="name")})
    write(".", **{"new.py": "def f():\n    f()\n\n\nf()\n"})
    code, _, err = run("new.py", "--against", "old.py")
    assert code == 2
    assert "it cannot be imported: RecursionError" in err
