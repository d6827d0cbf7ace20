"""What earlier versions of a contract had and this one has not: it stays reserved.

An old reader would take a new field with an old number for the old field. So an export with a
history reserves the numbers and names that are gone, whether `reserved=` says so or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from switchgear.contract.protoc import Tree, compile_trees

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

__all__ = ["Past", "past_of", "reserve"]

_AT_ONCE: Final = 4
"""Each version is compiled by a process of its own, and a history has many."""

Past = dict[str, dict[int, set[str]]]
"""The names that each number has had, by the full name of the message or enumeration."""


def past_of(versions: Iterable[Path]) -> Past:
    """Read folders of `.proto` files, one for each version. Raises `UnreadableContract`."""
    from google.protobuf.descriptor_pb2 import FileDescriptorSet  # noqa: PLC0415 - an extra

    found: Past = {}
    trees = [Tree.of(one) for one in versions]
    for first in range(0, len(trees), _AT_ONCE):
        for data in compile_trees(*trees[first : first + _AT_ONCE], source_info=False):
            for file in FileDescriptorSet.FromString(data).file:
                _add(found, file)
    return found


def _add(past: Past, file: FileDescriptorProto) -> None:
    for full_name, one in _declared(file):
        numbers = past.setdefault(full_name, {})
        for part in _parts(one):
            numbers.setdefault(part.number, set()).add(part.name)


def reserve(files: Iterable[FileDescriptorProto], past: Past) -> None:
    """Reserve in `files` what is gone since the past."""
    for file in files:
        for full_name, one in _declared(file):
            used = {part.number for part in _parts(one)}
            names = {part.name for part in _parts(one)} | set(one.reserved_name)
            last = 0 if hasattr(one, "field") else 1  # of an enumeration, the end belongs to it
            held = [range(each.start, each.end + last) for each in one.reserved_range]
            for number, had in sorted(past.get(full_name, {}).items()):
                if number in used:
                    continue
                if not any(number in each for each in held):
                    one.reserved_range.add(start=number, end=number + 1 - last)
                one.reserved_name.extend(sorted(had - names))


def _parts(one: Any) -> Any:
    return one.field if hasattr(one, "field") else one.value


def _declared(file: Any) -> Iterator[tuple[str, Any]]:
    """Yield every message and enumeration of a file with its full name."""
    prefix = f"{file.package}." if file.package else ""
    waiting = [(prefix, file.message_type, file.enum_type)]
    while waiting:
        scope, messages, enums = waiting.pop()
        yield from ((f"{scope}{one.name}", one) for one in enums)
        for one in messages:
            if not one.options.map_entry:
                yield f"{scope}{one.name}", one
                waiting.append((f"{scope}{one.name}.", one.nested_type, one.enum_type))
