"""The model reads descriptors in parts; each part is what a whole reader finds."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from hypothesis import given
from hypothesis import strategies as st

from switchgear.contract.check.protofiles import Protos, reading
from switchgear.contract.check.schema.place import Text
from switchgear.contract.check.schema.wire import split, varint
from switchgear.contract.protoc import Tree, compile_trees

PROTOS = Path(__file__).parents[1] / "protos"


@pytest.fixture(scope="module")
def data() -> bytes:
    (found,) = compile_trees(Tree.of(PROTOS))
    return found


def test_a_file_is_taken_apart_without_a_loss(data: bytes) -> None:
    files = FileDescriptorSet.FromString(data).file
    assert len(files) > 3
    for whole, (file, info) in zip(files, split(data), strict=True):
        assert info == whole.source_code_info.SerializeToString()
        whole.ClearField("source_code_info")
        assert type(whole).FromString(file) == whole


def test_every_place_and_comment_is_found(data: bytes) -> None:
    seen = 0
    for file in FileDescriptorSet.FromString(data).file:
        info = file.source_code_info
        text = Text(info.SerializeToString())
        known = {}
        for one in info.location:
            known.setdefault(tuple(one.path), one)
        for path, one in known.items():
            assert text.span(path) == (one.span[0] + 1, one.span[1] + 1)
            assert text.comment(path) == (one.leading_comments or one.trailing_comments)
            seen += bool(text.comment(path))
        assert text.span((4, 9999)) is None
        assert text.comment((4, 9999)) == ""
    assert seen > 10


def test_texts_that_differ_in_space_alone_say_the_same(tmp_path: Path) -> None:
    head = 'syntax = "proto3";\n'
    bodies = {
        "one": "// A.\nmessage A {\n  // B.\n  int64 b = 1;\n}",
        "two": "\n\n// A.\nmessage   A {\n\n  // B.\n  int64 cc = 1; }",
        "three": "// A.\nmessage A {\n  int64 b = 1;\n // B.\n}",
    }
    texts = {}
    for name, body in bodies.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.proto").write_text(head + body)
        ((_, info),) = split(compile_trees(Tree.of(tmp_path / name))[0])
        texts[name] = Text(info)
    assert texts["one"].says_the_same(texts["two"])
    assert not texts["one"].says_the_same(texts["three"])


@given(st.integers(0, 2**63), st.binary(max_size=3))
def test_varints(value: int, rest: bytes) -> None:
    data, left = bytearray(), value
    while left > 127:
        data.append(left & 127 | 128)
        left >>= 7
    data.append(left)
    assert varint(bytes(data) + rest, 0) == (value, len(data))


@pytest.mark.parametrize(
    ("head", "package"),
    [
        ('syntax = "proto3";\npackage a.b;\n', "a.b"),
        ('// package no;\nsyntax = "proto3"; package a.b; // package no;\n', "a.b"),
        ('/*\npackage no;\n*/ syntax = "proto3";\n  package\n a . b /* it */ ;\n', "a.b"),
        ("", ""),
    ],
)
def test_the_package_of_a_file_that_is_not_compiled(tmp_path: Path, head, package) -> None:
    for version, text in (("old", "message A {}\n"), ("new", "message A {}\nmessage B {}\n")):
        for name, of in (("equal.proto", head), ("other.proto", 'syntax = "proto3";' + text)):
            (tmp_path / version).mkdir(exist_ok=True)
            (tmp_path / version / name).write_text(of)
    sides = [Protos.of(tmp_path / version) for version in ("new", "old")]
    with reading(sides[0], sides[1:]) as schemas:
        new, (old,) = schemas()
    assert set(new.files) == set(old.files) == {"other.proto"}
    assert package in new.packages
    (compiled,) = compile_trees(Tree(tmp_path / "new", ("equal.proto",)))
    assert FileDescriptorSet.FromString(compiled).file[0].package == package
