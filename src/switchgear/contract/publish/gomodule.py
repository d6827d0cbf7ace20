"""A Go module of contracts: the `.proto` files, and what protoc's plugins for Go make of them.

Each file is a package of its own, under its path: `shop/orders/v1.proto` is
`MODULE/shop/orders/v1`. From version 2 on, Go wants the major version at the end of the module's
path; it is put there. A comment in `go.mod` is how the folder is known as ours to write anew.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from switchgear.contract.publish.generators import found, generate, write_protos
from switchgear.contract.publish.replace import replaced

__all__ = ["write_go"]

_PLUGINS: Final = {
    "protoc-gen-go": "google.golang.org/protobuf/cmd/protoc-gen-go",
    "protoc-gen-go-grpc": "google.golang.org/grpc/cmd/protoc-gen-go-grpc",
}
_GO: Final = "1.23"
_MARK: Final = "// Written by switchgear contract publish --go."


def write_go(folder: Path, module: str, major: int, protos: Mapping[str, str]) -> str:
    """Write the module into `folder`, in place of an earlier version of it, and return its path.

    The path has the major version where Go wants it. What the module needs in which version,
    `go mod tidy` finds out. Raises `OperationError` where a plugin is not installed or fails, or
    where the folder holds something else; then it is left as it was.
    """
    plugins = {name: _plugin(name) for name in _PLUGINS}
    path = f"{module}/v{major}" if major > 1 else module
    where = [f"M{name}={path}/{name.removesuffix('.proto')}" for name in protos]
    options = [f"module={path}", *where]
    with replaced(folder, _ours) as made:
        source = made / "proto"
        write_protos(source, protos)
        (made / "go.mod").write_text(f"{_MARK}\n\nmodule {path}\n\ngo {_GO}\n")
        arguments = [f"--{kind}_out={made}" for kind in ("go", "go-grpc")]
        arguments += [f"--{kind}_opt={one}" for kind in ("go", "go-grpc") for one in options]
        generate(source, protos, plugins, arguments)
    return path


def _ours(folder: Path) -> bool:
    try:
        return _MARK in (folder / "go.mod").read_text().splitlines()
    except (OSError, ValueError):
        return False


def _plugin(name: str) -> str:
    """Return the path of a plugin, which `go install` puts where the shell may not look."""
    own = os.environ.get("GOBIN")
    homes = [Path(own)] if own else []
    return found(
        name,
        homes=[*homes, Path.home() / "go" / "bin"],
        fix=f"Run: go install {_PLUGINS[name]}@latest",
    )
