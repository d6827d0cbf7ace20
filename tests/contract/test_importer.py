"""`switchgear contract import`: what comes out again is what went in, for files of every syntax."""

from __future__ import annotations

import ast
import subprocess
import sys
import types
from collections.abc import Iterable
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from switchgear.cli.main import _main
from switchgear.contract.codec import from_json, from_proto, to_json, to_proto
from switchgear.contract.descriptors import descriptor_pool, file_descriptors
from switchgear.contract.export import proto_files
from switchgear.contract.importer import import_proto, module_of
from switchgear.contract.library import Library, library_of
from switchgear.contract.options import register
from switchgear.contract.protoc import Tree, compile_trees, language_file
from switchgear.errors import SwitchgearError, UnreadableContract
from tests.contract.normal import normal
from tests.contract.schemas import schemas, shared

ROOT = Path(__file__).parent / "protos"
IMPORTED = Path(__file__).parents[1] / "typing" / "imported.py"
FILES = sorted(ROOT.rglob("*.proto"))


def loaded(source: str, name: str = "imported_contracts") -> Library:
    """Return what a module with this source declares."""
    module = types.ModuleType(name)
    sys.modules[name] = module
    exec(compile(source, f"{name}.py", "exec"), vars(module))  # noqa: S102 - we wrote it
    return library_of(module)


def compiled(tree: Tree) -> FileDescriptorSet:
    register()
    return FileDescriptorSet.FromString(compile_trees(tree, retain_options=True)[0])


def _declares(file: FileDescriptorProto) -> bool:
    return bool(file.message_type or file.enum_type or file.extension)


def agree(ours: Iterable[FileDescriptorProto], theirs: Iterable[FileDescriptorProto]) -> None:
    first, second = normal(ours), normal(theirs)
    empty = [name for name, one in second.items() if not _declares(one)]
    assert first == {
        name: one for name, one in second.items() if name in first or name not in empty
    }


def is_valid(files: FileDescriptorSet) -> bool:
    pool = DescriptorPool()
    try:
        for file in files.file:
            pool.AddSerializedFile(file.SerializeToString())
    except TypeError:
        return False
    return True


@pytest.fixture(scope="module")
def theirs() -> FileDescriptorSet:
    return compiled(Tree.of(ROOT))


@pytest.fixture(scope="module")
def library(theirs: FileDescriptorSet) -> Library:
    return loaded(module_of(theirs))


def test_export_after_import_gives_the_same_descriptors(
    theirs: FileDescriptorSet, library: Library
) -> None:
    agree(file_descriptors(*library.roots, languages=language_file).file, theirs.file)
    descriptor_pool(*library.roots)  # and protobuf reads them as the Python types say


def test_protoc_compiles_the_exported_text_to_the_same_descriptors(
    theirs: FileDescriptorSet, library: Library, tmp_path: Path
) -> None:
    for name, text in proto_files(*library.roots).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    again = compiled(Tree.of(tmp_path))
    agree(again.file, theirs.file)
    # comments and all: importing the export changes nothing
    assert loaded(module_of(again), "again").messages


def test_the_module_is_what_people_read() -> None:
    """The module is checked in, so that type checkers and reviewers see it."""
    source = import_proto(*FILES, search=(ROOT,))
    assert source == IMPORTED.read_text(), f"run: python {__file__}"


def test_the_module_is_formatted_as_formatters_do(tmp_path: Path) -> None:
    module = tmp_path / "imported.py"
    module.write_text(IMPORTED.read_text())
    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F,I,E7,E9", "-q"]
    done = subprocess.run([*ruff, module], capture_output=True, text=True, check=False)
    assert done.stdout == ""


def test_messages_of_an_imported_module_cross_both_wires(library: Library) -> None:
    module = vars(library.module)
    status = module["SharedStatus"](text="ok")
    old = module["Old"](
        name="n", status=status, kept=module["Old"].Kept(text="k"), never=0.5, third=0.25
    )
    for message in (
        old,
        module["Book"](name="b", pages=3, cents=7, value={"a": [None]}),
        module["New"](needed="x", kept=module["New"](needed="y"), b=module["New"](needed="z")),
        module["E24New"](explicit_name=""),
    ):
        cls = type(message)
        assert from_proto(cls, to_proto(message)) == message
        assert from_json(cls, to_json(message)) == message
    assert from_json(module["Book"], b"{}") == module["Book"]()  # printers leave out zeros


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(schemas())
def test_export_after_import_gives_the_same_descriptors_of_any_file(
    own: FileDescriptorSet,
) -> None:
    files = FileDescriptorSet(file=[*shared(), *own.file])
    assume(is_valid(files))  # now and then two names meet
    made = loaded(module_of(files), "made_up")
    agree(file_descriptors(*made.roots).file, files.file)
    descriptor_pool(*made.roots)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "theirs.py"
    arguments = ["-I", str(ROOT), "--out", str(out)]
    assert _main(["contract", "import", str(ROOT / "acme/api.proto"), *arguments]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert "class Library(Protocol):" in out.read_text()
    assert _main(["contract", "import", str(ROOT / "bare.proto")]) == 0
    assert "class Plain(Protocol):" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("syntax = 'proto3'; message {", "broken.proto:1:"),
        ("syntax = 'proto3'; import 'no/such.proto';", "no/such.proto:1:1: File not found."),
        ("\x00\xff", "broken.proto:1:"),
        ("", None),
    ],
)
def test_what_protoc_refuses_is_told_with_file_and_line(
    text: str, says: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.proto").write_text(text, encoding="latin-1")
    status = _main(["contract", "import", str(tmp_path / "broken.proto")])
    told = capsys.readouterr()
    if says is None:
        assert status == 0
        return
    assert status == 2
    assert says in told.err
    assert told.out == ""


def test_what_is_not_unicode_is_read_in_comments_and_refused_elsewhere(tmp_path: Path) -> None:
    file = tmp_path / "a.proto"
    text = 'syntax = "proto2";\n// Caf\xe9.\nmessage A { optional string a = 1 [default = "%s"]; }'
    file.write_bytes((text % "x").encode("latin-1"))
    assert '"""Caf\N{REPLACEMENT CHARACTER}."""' in import_proto(file)
    file.write_text(text % "\\xe9")
    with pytest.raises(UnreadableContract, match="default_value is not UTF-8"):
        import_proto(file)


STRANGE = """p\"\"\" ; raise SystemExit("run") ; ''' \\N.proto"""


def test_what_files_are_called_is_text_and_never_code(tmp_path: Path) -> None:
    named = STRANGE.replace("'", "\\'").replace("\\N", "\\\\N")
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    (before / STRANGE).write_text('syntax = "proto3"; package p; message P { string a = 1; }')
    (before / "g.proto").write_text(
        f"syntax = 'proto3'; package g; import '{named}';\n"
        "message G {\n"
        '  reserved "a\\"b";\n'
        "  p.P a = 1; // ''' #\n"
        "}\n"
    )
    for file in (STRANGE, "g.proto"):
        source = import_proto(before / file)
        made = loaded(source, "strange")
        assert STRANGE in (ast.get_docstring(ast.parse(source)) or "")
    after.mkdir()
    for name, text in proto_files(*made.roots).items():
        (after / name).write_text(text)
    agree(compiled(Tree.of(after)).file, compiled(Tree.of(before)).file)


def test_the_imports_are_of_what_the_module_reads(tmp_path: Path) -> None:
    (tmp_path / "a.proto").write_text(
        'syntax = "proto2"; message A {\n'
        '  optional string text = 1 [default = "\\"\\"\\""];\n'
        "  optional uint32 number = 2; // A note of UInt64.\n"
        "}"
    )
    source = import_proto(tmp_path / "a.proto")
    assert "import Message, ProtoFile, UInt32, field" in source
    made = vars(loaded(source, "quotes").module)
    assert made["A"]().text == '"""'


def test_a_method_and_a_message_of_one_name(tmp_path: Path) -> None:
    (tmp_path / "a.proto").write_text(
        'syntax = "proto3"; message ping {}'
        "service S { rpc Ping(ping) returns (ping); rpc Other(ping) returns (ping); }"
    )
    made = loaded(import_proto(tmp_path / "a.proto"), "one_name")
    agree(file_descriptors(*made.roots).file, compiled(Tree.of(tmp_path)).file)


def test_a_name_in_json_that_no_message_can_have_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.proto").write_text(
        'syntax = "proto2"; message A { optional string a = 1 [json_name = "fi\\"eld\\\\"]; }'
    )
    with pytest.raises(UnreadableContract, match="is called .* in JSON"):
        import_proto(tmp_path / "a.proto")


def test_a_file_outside_of_the_search_path(tmp_path: Path) -> None:
    (tmp_path / "a.proto").write_text('syntax = "proto3";')
    with pytest.raises(UnreadableContract, match="none of the folders"):
        import_proto(tmp_path / "a.proto", search=(ROOT,))


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_damaged_files_are_compiled_or_refused_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    text = (ROOT / "acme/e2023.proto").read_text()
    at = data.draw(st.integers(0, len(text) - 1))
    piece = data.draw(st.sampled_from(["", "{", "}", ";", "=", "1", "-1", '"', "message", "oneof"]))
    (folder / "damaged.proto").write_text(text[:at] + piece + text[at + 1 :])
    try:
        source = import_proto(folder / "damaged.proto")
    except UnreadableContract:
        return
    try:
        loaded(source, "damaged")
    except SwitchgearError as error:
        pytest.fail(f"protoc takes it, and we do not: {error}")


if __name__ == "__main__":
    IMPORTED.write_text(import_proto(*FILES, search=(ROOT,)))
