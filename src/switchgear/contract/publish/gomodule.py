"""A Go module of contracts: the `.proto` files, and what protoc's plugins for Go make of them.

Each file is a package of its own, under its path: `shop/orders/v1.proto` is
`MODULE/shop/orders/v1`. From version 2 on, Go wants the major version at the end of the module's
path; it is put there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from switchgear.contract.publish.generators import found, generate, write_protos

__all__ = ["write_go"]

_PLUGINS: Final = {
    "protoc-gen-go": "google.golang.org/protobuf/cmd/protoc-gen-go",
    "protoc-gen-go-grpc": "google.golang.org/grpc/cmd/protoc-gen-go-grpc",
}
_GO: Final = "1.23"


def write_go(folder: Path, module: str, major: int, protos: Mapping[str, str]) -> str:
    """Write the module into `folder` and return its path, with the major version where Go wants it.

    What it needs in which version, `go mod tidy` finds out. Raises `OperationError` where a plugin
    is not installed or fails.
    """
    plugins = {name: _plugin(name) for name in _PLUGINS}
    path = f"{module}/v{major}" if major > 1 else module
    source = folder / "proto"
    _clear(folder, source)
    write_protos(source, protos)
    (folder / "go.mod").write_text(f"module {path}\n\ngo {_GO}\n")
    where = [f"M{name}={path}/{name.removesuffix('.proto')}" for name in protos]
    arguments = [f"--{kind}_out={folder.absolute()}" for kind in ("go", "go-grpc")]
    options = [f"module={path}", *where]
    arguments += [f"--{kind}_opt={one}" for kind in ("go", "go-grpc") for one in options]
    generate(source.absolute(), protos, plugins, arguments)
    return path


def _clear(folder: Path, source: Path) -> None:
    """Remove what an earlier version of the module had generated, and nothing else."""
    for one in folder.rglob("*.pb.go"):
        one.unlink()
    if source.exists():
        shutil.rmtree(source)


def _plugin(name: str) -> str:
    """Return the path of a plugin, which `go install` puts where the shell may not look."""
    own = os.environ.get("GOBIN")
    homes = [Path(own)] if own else []
    return found(
        name,
        homes=[*homes, Path.home() / "go" / "bin"],
        fix=f"Run: go install {_PLUGINS[name]}@latest",
    )
