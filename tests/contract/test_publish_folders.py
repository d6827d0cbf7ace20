"""The folders that `contract publish` writes: replaced as a whole, and only if they are ours.

The generators are scripts that write nothing, or fail: protoc itself is the real one.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from switchgear.cli.main import _main
from switchgear.contract.publish.replace import replaced
from switchgear.errors import OperationError

GO = ("--go", "acme.com/contracts/shop")
NPM = ("--npm", "@acme/shop")
WORKS = r"cat > /dev/null; printf '\020\001'"
"""A plugin's answer without a file: that it knows optional fields of proto3."""


class Tools:
    """A folder of programs, where the generators are looked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for name in ("protoc-gen-go", "protoc-gen-go-grpc", "node"):
            self.program(name, WORKS)
        self.program("protoc-gen-es", f'[ "$1" = --version ] && echo v2.13.0 && exit; {WORKS}')
        self.program("openapi-typescript", "touch openapi.d.ts")

    def program(self, name: str, script: str) -> None:
        (self.folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.folder / name).chmod(0o755)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    tools = Tools(tmp_path / "tools")
    monkeypatch.setenv("GOBIN", str(tools.folder))
    monkeypatch.setenv("PATH", str(tools.folder), prepend=":")
    return tools


def publish(out: Path, *arguments: str) -> int:
    history = out.parent / "history.jsonl"
    folders = ["--history", str(history), "--out", str(out)]
    return _main(["contract", "publish", "examples.shop.contracts", *folders, *arguments])


def contents(folder: Path) -> dict[str, bytes]:
    files = (one for one in folder.rglob("*") if one.is_file())
    return {one.relative_to(folder).as_posix(): one.read_bytes() for one in files}


def ours(folder: Path) -> bool:
    return (folder / "mark").exists()


@pytest.mark.parametrize(("kind", "given"), [("go", GO), ("npm", NPM)])
def test_what_is_not_ours_is_left_as_it_is(
    tools: Tools,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    given: tuple[str, str],
) -> None:
    program = tmp_path / "dist" / kind
    for name in ("go.mod", "package.json", "main.go", "api/api.pb.go", "proto/api.proto"):
        (program / name).parent.mkdir(parents=True, exist_ok=True)
        (program / name).write_text("{}")
    before = contents(tmp_path / "dist")
    assert publish(tmp_path / "dist", *given) == 1
    told = capsys.readouterr().err
    assert f"{program}: it holds something else than a package of contracts" in told
    assert contents(tmp_path / "dist") == before
    assert not (tmp_path / "history.jsonl").exists()


@pytest.mark.parametrize(
    ("kind", "given", "generator"),
    [("go", GO, "protoc-gen-go-grpc"), ("npm", NPM, "protoc-gen-es")],
)
def test_a_later_version_comes_whole_or_not_at_all(
    tools: Tools,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    given: tuple[str, str],
    generator: str,
) -> None:
    folder, history = tmp_path / "dist" / kind, tmp_path / "history.jsonl"
    assert publish(tmp_path / "dist", *given) == 0
    (folder / "proto" / "gone.proto").touch()
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text("main")
    history.unlink()  # so that there is a version to write
    before = contents(folder)
    told = "[ $1 = --version ] && echo v2.13.0 && exit; " if kind == "npm" else ""
    works = (tools.folder / generator).read_text()
    tools.program(generator, f"{told}{WORKS}; exit 3")
    assert publish(tmp_path / "dist", *given) == 1
    assert generator in capsys.readouterr().err
    assert contents(folder) == before
    tools.program(generator, works)
    assert publish(tmp_path / "dist", *given) == 0
    del before["proto/gone.proto"]
    assert contents(folder) == before
    assert [one.name for one in (tmp_path / "dist").iterdir() if one.is_dir()] == [kind]


def test_a_generator_that_is_no_program(
    tools: Tools, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tools.folder / "protoc-gen-es").write_bytes(b"\x7fELF of another machine")
    assert publish(tmp_path / "dist", *NPM) == 1
    assert "protoc-gen-es cannot be run: Exec format error" in capsys.readouterr().err


@pytest.mark.parametrize("given", [(), GO, NPM])
def test_what_cannot_be_written_is_named(
    tools: Tools, tmp_path: Path, capsys: pytest.CaptureFixture[str], given: tuple[str, ...]
) -> None:
    file = tmp_path / "README.md"
    file.write_text("# Read me")
    for out in (file, tmp_path / ("x" * 300)):
        assert publish(out, *given) == 1
        told = capsys.readouterr().err
        assert told.startswith(f"error[SG220]: {out}/")
        assert "it cannot be written: " in told
        assert "Name another place" in told
        assert told.count("\n") == 1
    assert file.read_text() == "# Read me"
    assert not (tmp_path / "history.jsonl").exists()


def test_a_history_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    history = tmp_path / "file" / "history.jsonl"
    given = ["--out", str(tmp_path / "dist"), "--history", str(history)]
    assert _main(["contract", "publish", "examples.shop.contracts", *given]) == 1
    assert f"{history}: it cannot be written: " in capsys.readouterr().err


def test_a_link_is_followed(tools: Tools, tmp_path: Path) -> None:
    (tmp_path / "packages").mkdir()
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "npm").symlink_to(Path("..") / "packages" / "shop")
    for _ in range(2):
        assert publish(tmp_path / "dist", *NPM) == 0
        (tmp_path / "history.jsonl").unlink()
    assert (tmp_path / "dist" / "npm").is_symlink()
    about = json.loads((tmp_path / "packages" / "shop" / "package.json").read_text())
    assert about["name"] == "@acme/shop"
    assert [one.name for one in (tmp_path / "packages").iterdir()] == ["shop"]


@pytest.mark.parametrize("fails_at", [1, 2, 3])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_swap_that_fails_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int, error: BaseException
) -> None:
    folder = tmp_path / "package"
    for name in ("mark", ".git/HEAD"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("before")
    rename, calls = Path.rename, 0

    def failing(self: Path, target: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls == fails_at:
            # whatever happens from here on, one of the two is whole
            assert any(one.read_text() == "before" for one in tmp_path.rglob("mark"))
            raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    expected = OperationError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected), replaced(folder, ours) as made:
        (made / "mark").write_text("after")
    assert contents(tmp_path) == {"package/mark": b"before", "package/.git/HEAD": b"before"}
    with replaced(folder, ours) as made:
        (made / "mark").write_text("after")
    assert contents(tmp_path) == {"package/mark": b"after", "package/.git/HEAD": b"before"}


def test_a_repository_without_files_is_begun(tmp_path: Path) -> None:
    (tmp_path / "package" / ".git").mkdir(parents=True)
    with replaced(tmp_path / "package", ours) as made:
        (made / "mark").touch()
    assert sorted(one.name for one in (tmp_path / "package").iterdir()) == [".git", "mark"]
