"""What the command prints, how it ends, and what it makes of input that it cannot use."""

from __future__ import annotations

import subprocess
import sys

import pytest

from switchgear.cli.main import main
from tests.contract.check.conftest import HEAD

CHECK = ["contract", "check", "new", "--against", "old"]


def test_nothing_found_ends_with_0(shop, run):
    shop("message A { string a = 1; }", "message A { string a = 1; string b = 2; }")
    assert run("new", "--against", "old") == (0, [], "")


def test_a_finding_says_where_what_and_what_to_do(shop, run):
    shop(
        "message A {\n  string a = 1;\n  string b = 2;\n}",
        "message A {\n  string a = 1;\n  int64 b = 2;\n}",
    )
    code, findings, _ = run("new", "--against", "old", "--rules", "wire")
    assert code == 1
    assert findings == [
        {
            "path": "new/shop.proto",
            "line": 5,
            "column": 3,
            "rule": "FIELD_WIRE_COMPATIBLE_TYPE",
            "message": 'Field 2 ("b") of "A" changed its type from string to int64.',
            "edit": "Put back `string b = 2 [deprecated = true];`, add `int64 b_3 = 3;`, "
            "and move callers over before you delete the old one.",
            "severity": "error",
            "breaks": "whoever reads or writes the bytes with the other version",
            "subject": "shop.v1.A.b",
            "against": "old",
            "witness": findings[0]["witness"],
            "also": [],
            "shared": "",
            "reaches": [],
        }
    ]


@pytest.mark.parametrize(
    ("form", "line"),
    [
        ("text", "new/shop.proto:3:1: error FIELD_NO_DELETE: Field 1"),
        ("github", "::error file=new/shop.proto,line=3,col=1,title=FIELD_NO_DELETE::Field 1"),
    ],
)
def test_formats(shop, capsys, form, line):
    shop("message A { string a = 1; }", "message A {}")
    with pytest.raises(SystemExit, match="1"):
        main([*CHECK, "--rules", "FIELD_NO_DELETE", "--format", form])
    assert capsys.readouterr().out.startswith(line)


def test_annotations_of_github_cannot_be_broken_out_of(shop, capsys):
    shop("message A { string a = 1; }", "message A {}")
    with pytest.raises(SystemExit):
        main(
            [
                "contract",
                "check",
                "new",
                "--against",
                "old",
                "--rules",
                "file",
                "--format",
                "github",
            ]
        )
    assert all(line.startswith("::error ") for line in capsys.readouterr().out.splitlines())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["new", "--against", "nowhere/else"], "no such folder"),
        (["new", "--against", "old", "--rules", "wired"], "neither a set of rules nor a rule"),
        (["new", "--against", "old", "--rules", "FIELD_SAME_NAM"], "Did you mean FIELD_SAME_NAME"),
        (["new", "--against", "old", "--format", "xml"], "not a format"),
        (["new", "--against", "git:main"], "not inside a git repository"),
        (["new", "--against", "empty"], "no .proto files"),
        (["new", "--against", "openapi.yaml"], "Compare two versions of one thing"),
    ],
)
def test_unusable_input_ends_with_2(shop, tmp_path, capsys, arguments, told):
    shop("message A {}", "message A {}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match="2"):
        main(["contract", "check", *arguments])
    err = capsys.readouterr().err
    assert told in err
    assert "Traceback" not in err


def test_what_does_not_compile_ends_with_2_and_protocs_diagnostics(shop, run):
    shop("message A {}", "message A { strin a = 1; }")
    code, findings, err = run("new", "--against", "old")
    assert (code, findings) == (2, [])
    assert "shop.proto:3:13: " in err


class TestGit:
    @pytest.fixture
    def repository(self, write, tmp_path):
        def git(*arguments):
            command = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments]
            subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)

        def commit(tag, text):
            write("protos/api", shop=HEAD + text)
            git("add", "-A")
            git("commit", "-m", tag)
            git("tag", tag)

        git("init", "-b", "main")
        (tmp_path / ".gitattributes").write_text("*.proto export-ignore\n")
        commit("v1.0", "message A { string a = 1; string b = 2; }")
        commit("v1.1", "message A { string a = 1; }")
        write("protos/api", shop=HEAD + "message A {}")

    def test_a_ref_is_compared_with_the_same_folder(self, repository, run):
        code, findings, err = run("protos", "--against", "git:v1.0", "--rules", "FIELD_NO_DELETE")
        assert (code, err) == (1, "")
        assert [(one["path"], one["subject"]) for one in findings] == [
            ("protos/api/shop.proto", "shop.v1.A.a"),
            ("protos/api/shop.proto", "shop.v1.A.b"),
        ]

    def test_a_path_may_be_named(self, repository, run):
        _, findings, _ = run("protos", "--against", "git:v1.1:protos", "--rules", "FIELD_NO_DELETE")
        assert [one["subject"] for one in findings] == ["shop.v1.A.a"]

    def test_new_may_be_a_ref_too(self, repository, run):
        _, findings, _ = run(
            "git:v1.1:protos", "--against", "git:v1.0:protos", "--rules", "FIELD_NO_DELETE"
        )
        assert [one["subject"] for one in findings] == ["shop.v1.A.b"]

    def test_a_pattern_stands_for_tags_the_newest_first(self, repository, run):
        _, findings, _ = run("protos", "--against", "git:v*", "--rules", "FIELD_NO_DELETE")
        assert {one["against"] for one in findings} == {"git:v1.1:protos"}

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("git:v9", "There is no git ref 'v9'"),
            ("git:--help", "There is no git ref"),
            ("git:w*", "No tag is like"),
            ("git:v1.0:elsewhere", "nothing to read in elsewhere"),
            ("git:", "names no ref"),
        ],
    )
    def test_what_is_not_there_is_told(self, repository, run, text, told):
        code, _, err = run("protos", "--against", text)
        assert code == 2
        assert told in err


def test_a_folder_is_not_a_file_of_history(shop, run):
    shop("message A {}", "message A {}")
    code, _, err = run("new", "--against", "old", "--history", "old")
    assert code == 2
    assert "It is a folder" in err
    assert "`contract record`" in err
    assert "compared with --against" in err


def test_comments_in_an_older_encoding_are_compared(tmp_path, write, run):
    text = HEAD + "message A {\n  // Caf\xe9. Unit: %s.\n  int64 a = 1;\n}\n"
    for version, unit in (("old", "cents"), ("new", "euros")):
        write(version)
        (tmp_path / version).mkdir()
        (tmp_path / version / "shop.proto").write_bytes((text % unit).encode("latin-1"))
    code, findings, _ = run("new", "--against", "old")
    assert code == 1
    assert [one["rule"] for one in findings] == ["UNIT_CHANGED"]


def test_declarations_are_not_imported_to_compare_files(shop):
    shop("message A { string a = 1; }", "message A { string b = 1; }")
    code = (
        "import sys\nfrom switchgear.cli.main import _main\n"
        "assert _main(['contract', 'check', 'new', '--against', 'old']) == 1\n"
        "assert 'switchgear.contract.declaration' not in sys.modules, 'it starts faster without'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
