"""mypy and pyright agree with `tests/typing`: what it says passes, what it marks is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent


def files() -> list[str]:
    return sorted(str(file) for file in HERE.glob("*.py") if not file.name.startswith("test_"))


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_mypy_accepts_what_should_pass_and_refuses_what_is_marked() -> None:
    done = run(sys.executable, "-m", "mypy", "--strict", "--warn-unused-ignores", *files())
    assert done.returncode == 0, done.stdout + done.stderr


def test_pyright_accepts_what_should_pass_and_refuses_what_is_marked(tmp_path: Path) -> None:
    settings = {
        "extraPaths": [str(ROOT / "src"), str(ROOT / "examples")],
        "pythonVersion": "3.11",
        "typeCheckingMode": "strict",
        "enableTypeIgnoreComments": False,
        "reportUnnecessaryTypeIgnoreComment": "error",
    }
    project = tmp_path / "pyrightconfig.json"
    project.write_text(json.dumps(settings))
    pyright = str(Path(sys.executable).parent / "pyright")
    command = (pyright, "--project", str(project), "--pythonpath", sys.executable)
    done = run(*command, "--outputjson", *files())
    told = json.loads(done.stdout)
    assert told["summary"]["filesAnalyzed"] >= len(files())
    assert done.returncode == 0, json.dumps(told["generalDiagnostics"], indent=1)
