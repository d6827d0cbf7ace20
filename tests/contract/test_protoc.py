"""protoc itself compiles what we export, agrees on the schema, and reads what we write."""

from __future__ import annotations

import pytest
from google.protobuf import text_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from switchgear.contract.codec import from_proto, to_proto
from switchgear.contract.descriptors import file_descriptors, message_class
from switchgear.contract.message import Message
from tests.contract.catalogue import (
    Batch,
    Composite,
    Painter,
    Present,
    a_composite,
    messages,
)
from tests.contract.protoc import Protoc


@pytest.fixture(scope="module")
def protoc(tmp_path_factory: pytest.TempPathFactory) -> Protoc:
    return Protoc(tmp_path_factory.mktemp("proto"), Painter, Batch)


def test_the_compiled_schema_is_the_run_time_descriptors(protoc: Protoc) -> None:
    ours = {file.name: file for file in file_descriptors(Painter, Batch).file}
    assert protoc.compiled() == {"paint/v1.proto": ours["paint/v1.proto"]}


def understood(protoc: Protoc, message: Message) -> bool:
    """Whether protoc's text of a message's bytes, read back, is the same bytes."""
    data = to_proto(message)
    text = protoc(f"--decode=paint.v1.{type(message).__name__}", given=data).decode()
    # A field that protoc does not know is printed by its number, which is not read back.
    again = text_format.Parse(text, message_class(type(message))())
    return again.SerializeToString(deterministic=True) == data


def test_protoc_understands_every_byte(protoc: Protoc) -> None:
    assert understood(protoc, a_composite())


many = st.builds(
    Batch,
    present=st.lists(messages(Present), max_size=20),
    composite=st.lists(messages(Composite), max_size=20),
)


@settings(
    max_examples=4,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(many)
def test_protoc_understands_every_byte_of_many(protoc: Protoc, batch: Batch) -> None:
    assert understood(protoc, batch)


def test_we_understand_what_protoc_encodes(protoc: Protoc) -> None:
    message = a_composite()
    text = protoc("--decode=paint.v1.Composite", given=to_proto(message))
    encoded = protoc("--encode=paint.v1.Composite", given=text)
    assert from_proto(Composite, encoded) == message


def test_the_text_tells_what_people_need(protoc: Protoc) -> None:
    text = protoc.files["paint/v1.proto"]
    assert "// Paints leaves.\nservice Painter {" in text
    assert (
        "  // Find a leaf.\n  //\n  // By its name.\n  // Refuses with: paint.v1.NoSuchLeaf.\n"
        in text
    )
    assert '    option (google.api.http) = { get: "/v1/leaves/{name}" };' in text
    assert '    option (google.api.http) = { post: "/v1/leaves/{name}/paint" body: "*" };' in text
    assert "    option idempotency_level = IDEMPOTENT;" in text
    assert "  rpc Watch(Node) returns (stream Scalars) {" in text
    assert '  reserved 40, 50 to 59;\n  reserved "removed";' in text
    assert "  // The first leaf.\n  Leaf leaf = 1;" in text
    assert "  // Unit: seconds.\n  google.protobuf.Duration pause = 7;" in text
    assert "  repeated int64 numbers = 12 [deprecated = true];" in text
    assert '  map<string, Leaf> leaves_by_name = 24 [json_name = "leaves_by_name"];' in text
    assert "  optional string text = 1;" in text
    assert "  google.type.Money cost = 8;" in text
    assert "message Empty {}" in text
    assert "enum Colour {\n  COLOUR_UNKNOWN = 0;" in text
