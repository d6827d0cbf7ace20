"""protoc is run with limits, and what it complains about is told with file and line."""

from __future__ import annotations

import os

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from switchgear.contract import protoc
from switchgear.contract.protoc import Tree, compile_trees
from switchgear.errors import UnreadableContract

HEAD = 'syntax = "proto3";\npackage shop.v1;\n'


@pytest.fixture
def write(tmp_path):
    def write(root="tree", **files):
        for name, text in files.items():
            path = tmp_path / root / f"{name.replace('__', '/')}.proto"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path / root

    return write


def compiled(tree):
    return FileDescriptorSet.FromString(*compile_trees(tree))


def test_a_tree_is_compiled_with_its_imports_and_comments(write):
    root = write(
        shop__order=HEAD
        + 'import "shop/line.proto";\nimport "google/api/annotations.proto";\n'
        + "// An order.\nmessage Order { Line line = 1; }\n",
        shop__line=HEAD + "message Line {}\n",
    )
    files = {file.name: file for file in compiled(Tree.of(root)).file}
    assert {"shop/order.proto", "shop/line.proto", "google/api/annotations.proto"} <= set(files)
    comments = [one.leading_comments for one in files["shop/order.proto"].source_code_info.location]
    assert " An order.\n" in comments


def test_two_trees_are_compiled_at_the_same_time(write):
    old = Tree.of(write("old", a=HEAD + "message A {}\n"))
    new = Tree.of(write("new", a=HEAD + "message B {}\n"))
    names = [
        FileDescriptorSet.FromString(one).file[0].message_type[0].name
        for one in compile_trees(old, new)
    ]
    assert names == ["A", "B"]


def test_what_protoc_complains_about_is_told_with_file_and_line(write):
    root = write(a=HEAD + "message A { strin name = 1; }\nmessage A {}\n")
    with pytest.raises(UnreadableContract) as caught:
        compile_trees(Tree.of(root))
    told = [(one.path, one.line) for one in caught.value.diagnostics]
    assert ("a.proto", 3) in told
    assert ("a.proto", 4) in told
    assert str(caught.value).startswith("[SG160] a.proto:")


def test_an_import_that_is_not_found_names_where_it_was_looked_for(write):
    root = write(a='syntax = "proto3";\nimport "nowhere.proto";\n')
    with pytest.raises(UnreadableContract, match=r"nowhere\.proto") as caught:
        compile_trees(Tree.of(root))
    assert str(root) in str(caught.value)
    assert ("a.proto", 2) in [(one.path, one.line) for one in caught.value.diagnostics]


def test_warnings_are_no_errors(write):
    root = write(
        a='syntax = "proto3";\nimport "b.proto";\nmessage A {}\n', b='syntax = "proto3";\n'
    )
    assert len(compiled(Tree.of(root)).file) == 2


@pytest.mark.parametrize("name", ["a:b", "a=b", "a b", "ä"])
def test_any_folder_will_do(write, name):
    root = write(name, a=HEAD + "message A {}\n")
    assert compiled(Tree.of(root)).file[0].name == "a.proto"


def test_hidden_folders_are_left_out(write):
    root = write(a=HEAD, **{".cache__b": "nonsense"})
    assert Tree.of(root).names == ("a.proto",)


def test_links_to_folders_are_not_followed_and_links_to_files_are(write):
    root = write(a=HEAD + "message A {}\n")
    (root / "ring").symlink_to(root, target_is_directory=True)
    (root / "b.proto").symlink_to(root / "a.proto")
    (root / "nowhere.proto").symlink_to(root / "gone")
    (root / "folder.proto").mkdir()
    assert Tree.of(root).names == ("a.proto", "b.proto")


def test_a_folder_that_is_gone_is_refused(tmp_path):
    with pytest.raises(UnreadableContract, match="No such file"):
        Tree.of(tmp_path / "gone")


def test_names_that_are_not_unicode_are_refused(write):
    root = write(a=HEAD + "message A {}\n")
    (root / "a.proto").rename(root / os.fsdecode(b"\xff.proto"))
    with pytest.raises(UnreadableContract, match="�.proto: The name"):
        compile_trees(Tree.of(root))


def test_names_that_protoc_would_take_for_options_are_refused(write):
    root = write(**{"-o": HEAD})
    with pytest.raises(UnreadableContract, match="for an option"):
        compile_trees(Tree.of(root))


def test_a_tree_without_files_is_refused(tmp_path):
    with pytest.raises(UnreadableContract, match="no .proto files"):
        compile_trees(Tree.of(tmp_path))


def test_a_file_that_is_gone_is_refused(tmp_path):
    with pytest.raises(UnreadableContract, match="No such file"):
        compile_trees(Tree(tmp_path, ("a.proto",)))


def test_a_file_that_is_too_long_is_refused(write, monkeypatch):
    monkeypatch.setattr(protoc, "MAX_FILE", 10)
    with pytest.raises(UnreadableContract, match="at most"):
        compile_trees(Tree.of(write(a=HEAD)))


def test_nesting_without_end_ends(write):
    root = write(a=HEAD + "message A {" * 50_000)
    with pytest.raises(UnreadableContract):
        compile_trees(Tree.of(root))


def test_a_protoc_that_takes_too_much_is_ended(write, monkeypatch):
    monkeypatch.setattr(protoc, "MAX_OUTPUT", 64)
    root = write(a=HEAD + "message A { string name = 1; }\n")
    with pytest.raises(UnreadableContract):
        compile_trees(Tree.of(root))


def test_a_protoc_that_hangs_is_ended(write, monkeypatch):
    root = write(a=HEAD)
    monkeypatch.setattr(protoc, "_CHILD", "import time\ntime.sleep(3600)\n")
    monkeypatch.setattr(protoc, "MAX_SECONDS", 0)
    with pytest.raises(UnreadableContract, match="not finished"):
        compile_trees(Tree.of(root))
