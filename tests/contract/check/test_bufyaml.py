"""buf.yaml decides as it does for buf; buf itself is asked for each case."""

from __future__ import annotations

from pathlib import Path

import pytest

from switchgear.contract.check.bufyaml import read_modules
from switchgear.contract.check.catalogue import BUF_RULES
from switchgear.contract.check.check import check
from switchgear.errors import UnreadableContract
from tests.contract.check.buf import buf

OLD = """syntax = "proto3";
package {package};
message A {{ string a = 1; int32 b = 2; }}
message B {{ }}
"""
NEW = """syntax = "proto3";
package {package};
message A {{ int64 a = 1; int32 c = 2; }}
"""
NAMES = ["x/one.proto", "x/y/two.proto", "z/three.proto"]


def lay(root: Path, files: dict[str, str], text: str, prefix: str = "") -> None:
    for index, name in enumerate(NAMES):
        path = root / prefix / name
        path.parent.mkdir(parents=True, exist_ok=True)
        package = ["one.v1", "two.v1beta1", "three.v1"][index]
        path.write_text(text.format(package=package))
    for name, told in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(told)


def both(tmp_path, monkeypatch, files, prefix=""):
    lay(tmp_path / "old", files, OLD, prefix)
    lay(tmp_path / "new", files, NEW, prefix)
    monkeypatch.chdir(tmp_path / "new")
    ours = {
        (one.path, rule, one.line)
        for one in check(".", ["../old"])
        for rule in (one.rule, *one.also)
        if rule in BUF_RULES["v2"]
    }
    assert ours == buf(tmp_path / "new", Path("../old"))
    return ours


V1 = [
    "version: v1\n",
    "version: v1\nbreaking:\n  use: [WIRE]\n",
    "version: v1\nbreaking:\n  use: [FILE]\n  except: [FIELD_SAME_NAME, MESSAGE_NO_DELETE]\n",
    "version: v1\nbreaking:\n  use: [FIELD_SAME_LABEL, FIELD_SAME_TYPE]\n",
    "version: v1\nbreaking:\n  ignore: [x/y]\n",
    "version: v1\nbreaking:\n  ignore: [x/one.proto, z]\n",
    "version: v1\nbreaking:\n  ignore_only:\n    FIELD_SAME_TYPE: [x]\n    WIRE: [z/three.proto]\n",
    "version: v1\nbreaking:\n  ignore_unstable_packages: true\n",
    "version: v1\nbuild:\n  excludes: [x/y]\n",
    "version: v1beta1\n",
    "version: v1beta1\nbreaking:\n  use: [WIRE_JSON]\n  ignore: [x/y/two.proto]\n",
]


@pytest.mark.parametrize("text", V1)
def test_v1_and_v1beta1(tmp_path, monkeypatch, text):
    both(tmp_path, monkeypatch, {"buf.yaml": text})


def test_v1beta1_has_roots(tmp_path, monkeypatch):
    text = "version: v1beta1\nbuild:\n  roots: [protos]\n  excludes: [protos/z]\n"
    found = both(tmp_path, monkeypatch, {"buf.yaml": text}, "protos")
    assert {path for path, _, _ in found} == {"protos/x/one.proto", "protos/x/y/two.proto"}


V2 = [
    "version: v2\n",
    "version: v2\nbreaking:\n  use: [PACKAGE]\n",
    "version: v2\nbreaking:\n  ignore: [x]\n",
    "version: v2\nmodules:\n  - path: .\n    excludes: [z]\n",
    "version: v2\nmodules:\n  - path: .\n    includes: [x]\n    excludes: [x/y]\n",
    (
        "version: v2\nbreaking:\n  use: [WIRE]\n"
        "modules:\n  - path: .\n    breaking:\n      use: [FILE]\n"
    ),
]


@pytest.mark.parametrize("text", V2)
def test_v2(tmp_path, monkeypatch, text):
    both(tmp_path, monkeypatch, {"buf.yaml": text})


def test_v2_has_modules_whose_paths_are_ignored_from_the_workspace(tmp_path, monkeypatch):
    text = (
        "version: v2\nmodules:\n  - path: protos/x\n  - path: protos/z\n"
        "breaking:\n  ignore: [protos/x/y]\n"
    )
    lay(tmp_path / "old", {"buf.yaml": text}, OLD, "protos")
    lay(tmp_path / "new", {"buf.yaml": text}, NEW, "protos")
    monkeypatch.chdir(tmp_path / "new")
    ours = {
        one.path for one in check(".", ["../old"]) if {one.rule, *one.also} & BUF_RULES["v2"].keys()
    }
    theirs = {path for path, _, _ in buf(tmp_path / "new", Path("../old"))}
    assert ours == theirs == {"protos/x/one.proto", "protos/z/three.proto"}


def test_rules_on_the_command_line_win_and_except_still_holds(tmp_path, monkeypatch):
    files = {"buf.yaml": "version: v2\nbreaking:\n  use: [FILE]\n  except: [FIELD_SAME_NAME]\n"}
    lay(tmp_path / "old", files, OLD)
    lay(tmp_path / "new", files, NEW)
    monkeypatch.chdir(tmp_path)
    rules = {one.rule for one in check("new", ["old"], rules=["wire_json"])}
    assert "FIELD_SAME_NAME" not in rules
    assert "FIELD_SAME_JSON_NAME" in rules
    assert "FIELD_SAME_TYPE" not in rules


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("version: v7\n", "'v7' is not known"),
        ("version: v2\nbreaking:\n  use: [NOPE]\n", "'NOPE' is neither"),
        ("version: v2\nbreaking:\n  use: FILE\n", "not a list"),
        ("version: v2\nbreaking: 3\n", "not a mapping"),
        ("version: v2\nmodules: 3\n", "not a list"),
        ("version: [v2\n", "buf.yaml:2:1"),
        ("- a\n", "not a mapping"),
    ],
)
def test_what_buf_would_not_understand_is_told(tmp_path, text, told):
    (tmp_path / "buf.yaml").write_text(text)
    with pytest.raises(UnreadableContract, match=told):
        read_modules(tmp_path)


def test_rules_of_plugins_are_passed_over(tmp_path):
    (tmp_path / "buf.yaml").write_text(
        "version: v2\nplugins:\n  - plugin: x\nbreaking:\n  use: [WIRE, X_RULE]\n"
    )
    assert "FIELD_SAME_ONEOF" in read_modules(tmp_path)[0].breaking.rules
