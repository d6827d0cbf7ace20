"""The order of steps: `a >> b` is one after the other, `a | b` is side by side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Branches", "Path", "Place", "Sequence", "ends", "places"]


class Path:
    """A step, or steps in an order. `>>` binds tighter than `|`: write `(a | b) >> c`."""

    def __rshift__(self, other: Path) -> Sequence:
        if not isinstance(other, Path):
            return NotImplemented
        return Sequence((*_parts(self, Sequence), *_parts(other, Sequence)))

    def __or__(self, other: Path) -> Branches:
        if not isinstance(other, Path):
            return NotImplemented
        return Branches((*_parts(self, Branches), *_parts(other, Branches)))


@dataclass(frozen=True)
class Sequence(Path):
    """Parts that follow one another."""

    parts: tuple[Path, ...]


@dataclass(frozen=True)
class Branches(Path):
    """Parts that run side by side."""

    parts: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a leaf stands in a path: after which leaves, and in how many parallel branches."""

    leaf: Path
    after: tuple[Path, ...]
    parallel: bool


def places(path: Path, after: tuple[Path, ...] = (), *, parallel: bool = False) -> Iterator[Place]:
    """Yield every leaf of `path` with the leaves directly before it, each after those."""
    if isinstance(path, Sequence):
        for part in path.parts:
            yield from places(part, after, parallel=parallel)
            after = ends(part)
    elif isinstance(path, Branches):
        for part in path.parts:
            yield from places(part, after, parallel=True)
    else:
        yield Place(path, after, parallel)


def ends(path: Path) -> tuple[Path, ...]:
    """Return the leaves with which `path` ends."""
    if isinstance(path, Sequence):
        return ends(path.parts[-1])
    if isinstance(path, Branches):
        return tuple(leaf for part in path.parts for leaf in ends(part))
    return (path,)


def _parts(path: Path, kind: type[Sequence | Branches]) -> tuple[Path, ...]:
    return path.parts if isinstance(path, kind) else (path,)
