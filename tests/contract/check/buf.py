"""buf, the peer that the check is compared with."""

from __future__ import annotations

import json
import subprocess
import sysconfig
from pathlib import Path

__all__ = ["BUF", "buf"]

BUF = str(Path(sysconfig.get_path("scripts")) / "buf")


def buf(new: Path, old: Path, config: str | None = None) -> set[tuple[str, str, int]]:
    """Return what buf finds: path in `new`, rule, line."""
    command = [BUF, "breaking", ".", "--against", str(old), "--error-format", "json"]
    extra = [] if config is None else ["--config", config]
    done = subprocess.run([*command, *extra], cwd=new, capture_output=True, check=False)
    assert done.returncode in {0, 100}, done.stderr.decode()
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {(one.get("path", ""), one["type"], one["start_line"]) for one in found}
