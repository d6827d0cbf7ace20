"""A chain of any length, from `.proto` to Python and back, and what is too deep for protoc."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from switchgear.contract.codec import from_json, from_proto, to_json, to_proto
from switchgear.contract.descriptors import message_class
from switchgear.contract.export import openapi, proto_files
from switchgear.contract.history import read_history
from switchgear.contract.importer import import_proto
from switchgear.contract.library import Library, load_library
from switchgear.contract.message import Message
from switchgear.contract.publish.publish import plan, publish
from switchgear.errors import ContractError

MANY = 1200
"""More than Python goes down by recursion."""


def imported(folder: Path, name: str, last: str) -> Library:
    """Return the contracts of a chain of messages, of which the last holds `last`."""
    links = (f"message M{at} {{ M{at + 1} next = 1; }}" for at in range(MANY))
    text = "\n".join([*links, f"message M{MANY} {{ {last} v = 1; }}"])
    route = 'option (google.api.http) = { post: "/a" body: "*" };'
    service = f"service S {{ rpc Get(M0) returns (M0) {{ {route} }} }}"
    head = f'syntax = "proto3";\npackage {name}.v1;\nimport "google/api/annotations.proto";\n'
    (folder / f"{name}.proto").write_text(f"{head}{text}\n{service}\n")
    (folder / f"{name}.py").write_text(import_proto(folder / f"{name}.proto"))
    return load_library(str(folder / f"{name}.py"))


def chained(module: ModuleType, first: int, value: Any) -> Message:
    """Return messages inside each other, as many as both wires take."""
    made = getattr(module, f"M{MANY}")(v=value)
    for at in range(MANY - 1, first - 1, -1):
        made = getattr(module, f"M{at}")(next=made)
    return made


def test_a_chain_of_messages_is_read_written_and_published(tmp_path: Path) -> None:
    library = imported(tmp_path, "chain_of_messages", "double")
    message = chained(library.module, MANY - 90, 0.5)
    outermost = library.module.M0
    assert from_json(type(message), to_json(message)) == message
    assert from_json(outermost, b'{"next":{"next":{}}}').next.next.next is None
    assert from_proto(type(message), to_proto(message)) == message
    assert to_proto(outermost(next=library.module.M1(next=None))) == b"\x0a\x00"
    assert len(proto_files(*library.roots)) == 1
    schemas = openapi(*library.services, title="a", version="1")["components"]["schemas"]
    assert f"M{MANY}" in schemas
    history = tmp_path / "history.jsonl"
    publish(library, plan(library, history), name="chain", history=history, out=tmp_path / "out")
    assert [one.version for one in read_history(history)] == ["1.0.0"]


def test_protobuf_makes_every_class_of_a_circle(tmp_path: Path) -> None:
    library = imported(tmp_path, "circle_of_messages", "M0")
    made = message_class(library.module.M0)()
    inner: Any = made
    for _ in range(90):
        inner = inner.next
    inner.SetInParent()
    assert type(made).FromString(made.SerializeToString()) == made
    refused = ""
    try:
        to_json(library.module.M0())
    except ContractError as error:
        refused = str(error)
    # how long a circle may be for msgspec is up to Python: 3.11 refuses this one, 3.13 does not
    assert not refused or f"A circle of {MANY + 1} messages" in refused


def test_a_chain_of_files(tmp_path: Path) -> None:
    for at in range(MANY):
        text = f'import "f{at + 1}.proto";\nmessage M {{ files.p{at + 1}.M next = 1; }}\n'
        head = f'syntax = "proto3";\npackage files.p{at};\n'
        (tmp_path / f"f{at}.proto").write_text(head + text)
    last = f'syntax = "proto3";\npackage files.p{MANY};\nmessage M {{ int32 v = 1; }}\n'
    (tmp_path / f"f{MANY}.proto").write_text(last)
    module = tmp_path / "chain_of_files.py"
    module.write_text(import_proto(tmp_path / "f0.proto"))
    assert to_proto(load_library(str(module)).module.M()) == b""


def test_a_chain_of_packages_of_which_the_outermost_is_declared_first(tmp_path: Path) -> None:
    lines = ["from __future__ import annotations", "from switchgear import Message, field"]
    for at in range(MANY):
        lines.append(f'class M{at}(Message, package="packages.p{at}"):')
        lines.append(f"    next: M{at + 1} | None = field(1)")
    lines += [f'class M{MANY}(Message, package="packages.p{MANY}"):', "    v: int = field(1)"]
    (tmp_path / "chain_of_packages.py").write_text("\n".join(lines))
    library = load_library(str(tmp_path / "chain_of_packages.py"))
    assert len(proto_files(*library.roots)) == MANY + 1


@pytest.mark.parametrize("levels", [31, 32])
def test_classes_inside_classes_are_as_deep_as_protoc_reads(tmp_path: Path, levels: int) -> None:
    name = f"inside_{levels}"
    head = f'class M{{0}}(Message, package="{name}.v1"):\n    v: dict[str, int] = field(1)\n'
    lines = ["from switchgear import Message, field"]
    for at in range(levels):
        lines += (" " * 4 * at + line for line in head.format(at).splitlines())
    (tmp_path / f"{name}.py").write_text("\n".join(lines))
    library = load_library(str(tmp_path / f"{name}.py"))
    inside = library.messages[0]
    assert to_proto(inside(v={"a": 1})) == b"\x0a\x05\x0a\x01a\x10\x01"
    if levels == 31:
        assert re.search("M30", *proto_files(*library.roots).values())
        return
    with pytest.raises(ContractError, match=r"M30\.M31: It stands inside more than 30 other"):
        proto_files(*library.roots)
