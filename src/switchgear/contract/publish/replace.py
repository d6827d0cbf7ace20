"""The folder of a package, which is replaced as a whole once everything in it is made.

The new folder is made beside the one that is there. Then that one is moved aside and the new one
takes its place: a process that dies leaves the one or the other, never a half. What is not known
as ours is not touched. A `.git` in the folder, by which a module is published, stays.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from switchgear.contract.files import writing
from switchgear.errors import OperationError

__all__ = ["replaced"]

_REPOSITORY: Final = ".git"


@contextmanager
def replaced(folder: Path, ours: Callable[[Path], bool]) -> Iterator[Path]:
    """Give an empty folder, which takes the place of `folder` at the end of the block.

    `ours` says whether a folder holds a package of ours; where the one that is there does not,
    `OperationError` is raised at once, as it is where something cannot be written. Then, and after
    any other error in the block, `folder` is as it was. A link is followed.
    """
    with writing(folder):
        place = Path(os.path.realpath(folder))
        if not _free(place) and not ours(place):
            raise OperationError(
                "it holds something else than a package of contracts.",
                where=str(folder),
                fix="Move it away, or choose another folder with --out.",
            )
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}-") as beside:
            made = Path(beside) / "package"
            made.mkdir()
            yield made
            _swap(made, place, Path(beside) / "before")


def _free(place: Path) -> bool:
    """Whether nothing is there but perhaps an empty folder, or a repository without files."""
    if not place.exists():
        return True
    return place.is_dir() and all(one.name == _REPOSITORY for one in place.iterdir())


def _swap(made: Path, place: Path, aside: Path) -> None:
    """Put `made` in the place of what is there; where that fails, everything is put back."""
    if not place.exists():
        made.rename(place)
        return
    moves = [(place, aside), (made, place)]
    if (place / _REPOSITORY).exists():
        moves.insert(0, (place / _REPOSITORY, made / _REPOSITORY))
    try:
        for old, new in moves:
            old.rename(new)
    except BaseException:
        for old, new in reversed(moves):
            if new.exists() and not old.exists():
                new.rename(old)
        raise
