"""A Python module of contracts, read in a process of its own: two versions of it cannot meet.

The process imports the module, writes its `.proto` files, in which comments carry what options
cannot (see `words`), and tells what they cannot carry: where in the Python text everything stands,
and which fields JSON cannot be without (see `declared`).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from switchgear.contract.history import Past
from switchgear.errors import UnreadableContract

if TYPE_CHECKING:  # the model needs protobuf
    from switchgear.contract.check.schema import Place

__all__ = ["FACTS", "PAST", "Told", "read_module", "unsaid"]

MAX_SECONDS: Final = 120
FACTS: Final = ".facts.json"
PAST: Final = ".past.json"
_TRACE: Final = 2000
_CHILD: Final = "switchgear.contract.check.declared"


class Told(msgspec.Struct):
    """What the process tells besides `.proto` files, by the full names of the contract."""

    file: str
    """The file of the module."""
    places: dict[str, tuple[str, int, int]]
    required: frozenset[str]
    """Fields without a default."""
    spelled: dict[str, str]
    """The statement that declares each field, member and operation."""

    def seen(self, near: Path) -> str:
        """Return the file of the module, seen from a folder."""
        return _seen(self.file, near.resolve())

    def seen_places(self, near: Path) -> Mapping[str, Place]:
        """Return where everything stands, its paths seen from a folder."""
        from switchgear.contract.check.schema import Place  # noqa: PLC0415 - as above

        here = near.resolve()
        return {
            name: Place(_seen(file, here), line, column)
            for name, (file, line, column) in self.places.items()
        }


def _seen(path: str, near: Path) -> str:
    inner = Path(path).resolve()
    return inner.relative_to(near).as_posix() if inner.is_relative_to(near) else path


def read_module(target: str, imports: Path, into: Path, past: Sequence[Past] = ()) -> Told:
    """Write the `.proto` files of a module into a folder, and return the rest.

    `target` is a file, or a dotted name that is imported from `imports`. What `past` versions had
    and it has not is reserved, as `contract export --history` does. Raises `UnreadableContract`
    with what went wrong while it was imported.
    """
    held = [Past(one.version, one.messages, one.enums) for one in past]
    (into / PAST).write_bytes(msgspec.json.encode(held))
    ours = Path(__file__).parents[3]
    path = os.pathsep.join(dict.fromkeys([str(imports.absolute()), *sys.path, str(ours)]))
    command = [sys.executable, "-m", _CHILD, target, str(into.absolute())]
    try:
        done = subprocess.run(  # noqa: S603 - ourselves, without a shell
            command,
            cwd=imports,
            env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            check=False,
            timeout=MAX_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise UnreadableContract(
            f"It has not been imported within {MAX_SECONDS} s.",
            where=target,
            fix="A module of contracts declares, and does nothing else.",
        ) from None
    if done.returncode:
        told = done.stderr.decode(errors="replace").strip()[-_TRACE:]
        raise UnreadableContract(
            told.splitlines()[-1] if told else f"It ended with {done.returncode}.",
            where=target,
            fix="Import it with Python from the same folder until it is content.",
        )
    return msgspec.json.decode((into / FACTS).read_bytes(), type=Told)


def unsaid(required: Iterable[str]) -> str:
    """Return the last line of a file, for what it cannot say.

    Files that are equal to the byte are not looked into.
    """
    return f"// Required: {' '.join(sorted(required))}\n"
