"""What both languages of others need: their plugin of protoc, and protoc at work with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from switchgear.contract.files import write
from switchgear.contract.protoc import includes
from switchgear.errors import OperationError

__all__ = ["found", "generate", "run", "write_protos"]

_PATIENCE: Final = 120


def found(program: str, *, homes: Iterable[Path] = (), fix: str) -> str:
    """Return the path of a program: on the PATH, or in one of `homes`, which comes first.

    Raises `OperationError`, with `fix`, where it is not installed.
    """
    places = os.pathsep.join([*map(str, homes), os.environ.get("PATH", "")])
    path = shutil.which(program, path=places)
    if path is None:
        raise OperationError(f"{program} is not installed.", fix=fix)
    return path


def write_protos(folder: Path, protos: Mapping[str, str]) -> None:
    """Write `.proto` files by their names."""
    for name, text in protos.items():
        write(folder / name, text.encode())


def generate(
    source: Path, names: Iterable[str], plugins: Mapping[str, str], arguments: Sequence[str]
) -> None:
    """Let protoc read `names` in `source`, with plugins by name and path.

    Raises `OperationError` with the first line of what it says where it fails.
    """
    run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"-I{source}",
            *(f"-I{one}" for one in includes()),
            *(f"--plugin={name}={path}" for name, path in plugins.items()),
            *arguments,
            *sorted(names),
        ],
        cwd=source,
        what=", ".join(plugins),
    )


def run(command: Sequence[str], *, cwd: Path, what: str) -> str:
    """Return what a program prints; raises `OperationError` where it fails or takes too long."""
    try:
        done = subprocess.run(  # noqa: S603 - found above, without a shell
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE,
        )
    except subprocess.TimeoutExpired as error:
        raise OperationError(f"{what} has not finished within {_PATIENCE} s.") from error
    except OSError as error:
        raise OperationError(
            f"{what} cannot be run: {error.strerror}.", where=command[0]
        ) from error
    if done.returncode:
        told = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise OperationError(f"{what} failed: {told[0].rstrip('.') if told else 'without a word'}.")
    return done.stdout
