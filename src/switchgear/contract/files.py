"""Files that a user has asked for: what cannot be written is an error that names the place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from switchgear.errors import OperationError

__all__ = ["write", "writing"]


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise `OperationError` in place of every `OSError` of what is done to write `path`."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        if error.filename not in (None, str(path)):
            why += f": {error.filename}"
        raise OperationError(
            f"it cannot be written: {why}.",
            where=str(path),
            fix="Name another place, in a folder that this user can write to.",
        ) from error


def write(path: Path, data: bytes) -> None:
    """Write a file, with the folders above it; raises `OperationError` where it cannot be."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
