"""What earlier versions of a contract had and this one has not: it stays reserved.

An old reader would take a new field with an old number for the old field. So an export with a
history reserves the numbers and names that are gone, whether `reserved=` says so or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from switchgear.contract.history import Past

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

__all__ = ["reserve"]


def reserve(files: Iterable[FileDescriptorProto], past: Sequence[Past]) -> None:
    """Reserve in `files` what is gone since any version of the past."""
    for file in files:
        for full_name, one in _declared(file):
            used = {part.number for part in _parts(one)}
            names = {part.name for part in _parts(one)} | set(one.reserved_name)
            last = 0 if hasattr(one, "field") else 1  # of an enumeration, the end belongs to it
            held = [range(each.start, each.end + last) for each in one.reserved_range]
            for number, had in sorted(_had(past, full_name).items()):
                if number in used:
                    continue
                if not any(number in each for each in held):
                    one.reserved_range.add(start=number, end=number + 1 - last)
                one.reserved_name.extend(sorted(had - names))
                names |= had


def _had(past: Sequence[Past], full_name: str) -> dict[int, set[str]]:
    """Return the names that each number has had."""
    found: dict[int, set[str]] = {}
    for one in past:
        for number, names in one.names_by_number(full_name).items():
            found.setdefault(number, set()).update(names)
    return found


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
