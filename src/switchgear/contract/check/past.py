"""What a version used and reserved: all that history needs to know of it.

It is small and readable, so that a file of it can be kept beside the contracts, a line for each
version, and only ever be added to:

    {"version": "1.0", "messages": {"shop.v1.Order": {"fields": {"1": ["id", "string"]},
     "reserved": [[4, 6]], "names": ["old"]}}, "enums": {...}}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from switchgear.contract.check.schema import Enum, Message, Schema
from switchgear.errors import UnreadableContract

__all__ = ["Past", "Used", "append", "past_of", "read_history"]

MAX_BYTES: Final = 256 << 20


class Used(msgspec.Struct, frozen=True, omit_defaults=True):
    """The numbers and names of one message or enumeration."""

    fields: dict[int, tuple[str, ...]] = {}
    """Name and type by number; of an enumeration, its names."""
    reserved: list[tuple[int, int]] = []
    """Ranges of reserved numbers, the last included."""
    names: list[str] = []
    """Reserved names."""

    def reserves(self, number: int) -> bool:
        """Whether a number is reserved."""
        return any(first <= number <= last for first, last in self.reserved)


class Past(msgspec.Struct, frozen=True, omit_defaults=True):
    """One version."""

    version: str
    messages: dict[str, Used] = {}
    enums: dict[str, Used] = {}

    def used(self, name: str) -> Used | None:
        """Return what a message or enumeration used; None if it was not there."""
        return self.messages.get(name) or self.enums.get(name)


def past_of(schema: Schema, version: str) -> Past:
    """Return what a version used and reserved."""
    return Past(
        version,
        {
            name: _used(
                one,
                {field.number: (field.name, field.text_of_type) for field in one.fields.values()},
            )
            for name, one in schema.messages.items()
            if not one.is_map_entry
        },
        {
            name: _used(one, {number: tuple(sorted(of)) for number, of in one.values.items()})
            for name, one in schema.enums.items()
        },
    )


def _used(one: Message | Enum, fields: Mapping[int, tuple[str, ...]]) -> Used:
    reserved = [(span.start, span.stop - 1) for span in one.reserved]
    return Used(dict(fields), reserved, sorted(one.reserved_names))


def read_history(path: Path) -> list[Past]:
    """Read a file of history, the newest version first; raises `UnreadableContract`."""
    if path.is_dir():
        raise UnreadableContract(
            "It is a folder, and this history is a file.",
            where=str(path),
            fix="Give the file of `contract record`; a version in the folder of `contract publish` "
            f"is compared with --against, as {path / '1.0.0'}.",
        )
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UnreadableContract(
                f"The history is larger than {MAX_BYTES >> 20} MB.", where=str(path)
            )
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise UnreadableContract(f"{error.strerror}.", where=str(path)) from None
    found = []
    for index, line in enumerate(lines, 1):
        try:
            found.append(msgspec.json.decode(line, type=Past))
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise UnreadableContract(f"{error}.", where=f"{path}:{index}") from None
    return found[::-1]


def append(path: Path, past: Past) -> None:
    """Add a version to a file of history; raises `UnreadableContract` if it is there already."""
    known = read_history(path) if path.exists() else []
    if any(one.version == past.version for one in known):
        raise UnreadableContract(
            f"The version {past.version} is in the history already.",
            where=str(path),
            fix="A line that is written is not changed. Give the new version a name of its own.",
        )
    with path.open("ab") as file:
        file.write(msgspec.json.encode(past) + b"\n")
