from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from switchgear.cli.main import main

HEAD = 'syntax = "proto3";\npackage shop.v1;\n'


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Write files into a folder of the current folder; a name's `__` is a `/`."""
    monkeypatch.chdir(tmp_path)

    def write(folder: str, **files: str) -> str:
        for name, text in files.items():
            path = tmp_path / folder / name.replace("__", "/")
            path = path if path.suffix else path.with_suffix(".proto")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return folder

    return write


@pytest.fixture
def shop(write):
    """Return a function that writes two versions of one file, less its head."""

    def shop(old: str, new: str, head: str = HEAD) -> None:
        write("old", shop=head + old)
        write("new", shop=head + new)

    return shop


@pytest.fixture
def run(capsys):
    """Return a function that runs the check as typed, and returns code, findings and errors."""

    def run(*arguments: str) -> tuple[int, list[dict], str]:
        with pytest.raises(SystemExit) as ended:
            main(["contract", "check", *arguments, "--format", "json"])
        told = capsys.readouterr()
        return ended.value.code, [json.loads(line) for line in told.out.splitlines()], told.err

    return run


@pytest.fixture
def found(run):
    """Return a function that compares new with old, and returns rule and subject of findings."""

    def found(*arguments: str) -> list[tuple[str, str]]:
        _, findings, err = run("new", "--against", "old", *arguments)
        assert err == ""
        return [(one["rule"], one["subject"].removeprefix("shop.v1.")) for one in findings]

    return found
