"""The edges that a reference system declares, as its services would with the same environment.

A policy may depend on the environment when a module is imported, so each question is answered by a
process of its own:

    python -m switchgear.drills.declared chain.chain:link1 shop.gateway:inventory

prints a JSON object a line for each edge of these services and clients.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from switchgear.app.service import Service
from switchgear.app.target import load_target
from switchgear.call.client import edges_of
from switchgear.errors import OperationError
from switchgear.model.edge import Edge, Pattern

__all__ = ["declared"]


async def declared(folder: Path, *targets: str, env: Mapping[str, str]) -> list[Edge]:
    """Return the edges of services and clients (`module:name`), imported from a folder.

    Raises `OperationError` where they cannot be imported.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        __name__,
        *targets,
        cwd=folder,
        env={**os.environ, **env, "PYTHONPATH": str(folder)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await process.communicate()
    if process.returncode:
        raise OperationError(
            f"the edges of {', '.join(targets)} cannot be read: {errors.decode()[-500:].strip()}",
            where=str(folder),
        )
    return [
        Edge(**{**told, "pattern": Pattern(told["pattern"])})
        for told in map(json.loads, out.splitlines())
    ]


def _print(targets: list[str]) -> None:
    for target in targets:
        found = load_target(target)
        for edge in found.edges() if isinstance(found, Service) else edges_of(found):
            told = {name: getattr(edge, name) for name in Edge.__dataclass_fields__}
            print(json.dumps(told, default=str))  # noqa: T201  the answer to who asked


if __name__ == "__main__":
    _print(sys.argv[1:])
