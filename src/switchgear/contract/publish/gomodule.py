"""A Go module of contracts: the `.proto` files, and what protoc's plugins for Go make of them.

Each file is a package of its own, under its path: `shop/orders/v1.proto` is
`MODULE/shop/orders/v1`. From version 2 on, Go wants the major version at the end of the module's
path; it is put there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from switchgear.contract.protoc import includes
from switchgear.errors import OperationError

__all__ = ["write_go"]

_PLUGINS: Final = {
    "protoc-gen-go": "google.golang.org/protobuf/cmd/protoc-gen-go",
    "protoc-gen-go-grpc": "google.golang.org/grpc/cmd/protoc-gen-go-grpc",
}
_GO: Final = "1.23"
_PATIENCE: Final = 120


def write_go(folder: Path, module: str, major: int, protos: Mapping[str, str]) -> str:
    """Write the module into `folder` and return its path, with the major version where Go wants it.

    What it needs in which version, `go mod tidy` finds out. Raises `OperationError` where a plugin
    is not installed or fails.
    """
    plugins = {name: _plugin(name) for name in _PLUGINS}
    path = f"{module}/v{major}" if major > 1 else module
    source = folder / "proto"
    for name, text in protos.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    (folder / "go.mod").write_text(f"module {path}\n\ngo {_GO}\n")
    where = [f"M{name}={path}/{name.removesuffix('.proto')}" for name in protos]
    options = [f"module={path}", *where]
    arguments = [
        f"-I{source}",
        *(f"-I{one}" for one in includes()),
        *(f"--plugin={name}={program}" for name, program in plugins.items()),
        *(f"--{kind}_out={folder}" for kind in ("go", "go-grpc")),
        *(f"--{kind}_opt={one}" for kind in ("go", "go-grpc") for one in options),
        *sorted(protos),
    ]
    done = subprocess.run(  # noqa: S603 - ourselves, without a shell
        [sys.executable, "-m", "grpc_tools.protoc", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=_PATIENCE,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        raise OperationError(f"protoc's plugins for Go have failed: {lines[0]}.", where=module)
    return path


def _plugin(name: str) -> str:
    """Return the path of a plugin, which `go install` puts where the shell may not look."""
    homes = [os.environ.get("GOBIN"), str(Path.home() / "go" / "bin")]
    places = os.pathsep.join([os.environ.get("PATH", ""), *(one for one in homes if one)])
    found = shutil.which(name, path=places)
    if found is None:
        raise OperationError(
            f"{name} is not installed.", fix=f"Run: go install {_PLUGINS[name]}@latest"
        )
    return found
