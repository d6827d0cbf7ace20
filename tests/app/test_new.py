"""`switchgear new` writes what works."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from switchgear.app.new import new
from switchgear.app.up import Supervisor, isolated
from switchgear.errors import OperationError


def test_its_own_tests_pass(tmp_path: Path) -> None:
    files = new("corner-cafe", tmp_path / "cafe")
    names = {str(file.relative_to(tmp_path / "cafe")) for file in files}
    assert {"switchgear.toml", "corner_cafe/kitchen.py", ".gitignore"} <= names
    assert not any("{{" in file.read_text() for file in files)
    tomllib.loads((tmp_path / "cafe" / "pyproject.toml").read_text())
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"],
        cwd=tmp_path / "cafe",
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTEST_ADDOPTS": "", "PYTEST_CURRENT_TEST": ""},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


def test_it_is_formatted_and_clean(tmp_path: Path) -> None:
    new("cafe", tmp_path / "cafe")
    for check in (["check", "--select", "E,F,I,B,UP"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *check, "--line-length", "100", "--isolated", "."],
            cwd=tmp_path / "cafe",
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout


async def test_it_runs(tmp_path: Path) -> None:
    new("cafe", tmp_path / "cafe")
    file = tmp_path / "cafe" / "switchgear.toml"
    async with Supervisor(isolated(file, tmp_path / "data")) as system:
        assert all(process.running for process in system)


@pytest.mark.parametrize("name", ["", "Cafe", "class", "tests", "a--b", "1st", "a/b", "switchgear"])
def test_names_that_cannot_be(name: str, tmp_path: Path) -> None:
    with pytest.raises(OperationError, match="cannot be the name of a project"):
        new(name, tmp_path / "x")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("mine")
    with pytest.raises(OperationError, match="there and not empty"):
        new("cafe", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(OperationError, match="cannot be written: Not a directory"):
        new("cafe", tmp_path / "file" / "cafe")
