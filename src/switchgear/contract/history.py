"""The history of a contract: a file with a line for each version, which only ever grows.

    {"version": "1.0.0", "messages": {"shop.v1.Order": {"fields": {"1": ["id", "string"]},
     "reserved": [[4, 6]], "names": ["old"]}}, "enums": {...},
     "files": {"shop/v1.proto": "5f0c..."}, "texts": {"5f0c...": "syntax = ..."}, "required": [...]}

A line has two halves. `messages` and `enums` are the numbers and names that the version used and
reserved: enough to see that one of them is used again, for a thousand versions at once. `files` are
its `.proto` files, by the digest of their text, so that the version can also be compared rule by
rule. A text is written once, in the first line that has it: what a line adds is what changed. Lines
do not build on each other, so two branches that both added one are merged by keeping both.

| read by | for |
| --- | --- |
| `contract check --history FILE` | the numbers and names of all versions |
| `contract check --against FILE[:VERSION]` | all versions rule by rule, or one |
| `contract publish --history FILE` | both; it adds the version that it publishes |
| `contract export --history FILE` | what has to stay reserved |
| `contract record --history FILE` | adding a version that is published in another way |
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from switchgear.contract.files import writing
from switchgear.errors import UnreadableContract

__all__ = ["Past", "Used", "append", "read_history"]

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
    protos: dict[str, str] = {}
    """The text of each `.proto` file by its name; empty where only numbers and names are known."""
    required: frozenset[str] | None = None
    """The fields without a default of a contract in Python; None for `.proto` files."""

    def used(self, name: str) -> Used | None:
        """Return what a message or enumeration used; None if it was not there."""
        return self.messages.get(name) or self.enums.get(name)

    def names_by_number(self, name: str) -> Mapping[int, Sequence[str]]:
        """Return the names that each number of a message or enumeration had."""
        if name in self.enums:
            return self.enums[name].fields
        used = self.messages.get(name, Used())
        return {number: told[:1] for number, told in used.fields.items()}


class _Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """A version as it is written down."""

    version: str
    messages: dict[str, Used] = {}
    enums: dict[str, Used] = {}
    files: dict[str, str] = {}
    texts: dict[str, str] = {}
    required: list[str] | None = None


def read_history(path: Path) -> list[Past]:
    """Read a file of history, the newest version first; raises `UnreadableContract`."""
    texts: dict[str, str] = {}
    found = []
    for index, line in enumerate(_lines(path), 1):
        where = f"{path}:{index}"
        for digest, text in line.texts.items():
            if _digest(text) != digest:
                raise UnreadableContract(
                    "A text is not the one that was recorded.",
                    where=where,
                    fix="A line that is written is not changed: take it from version control.",
                )
            texts[digest] = text
        missing = next((name for name, one in line.files.items() if one not in texts), None)
        if missing is not None:
            raise UnreadableContract(
                f"The text of {missing} is in no line above.",
                where=where,
                fix="A history only grows: take the lines that are gone from version control.",
            )
        protos = {name: texts[digest] for name, digest in line.files.items()}
        required = None if line.required is None else frozenset(line.required)
        found.append(Past(line.version, line.messages, line.enums, protos, required))
    return found[::-1]


def append(path: Path, past: Past) -> None:
    """Add a version to a file of history; raises `UnreadableContract` if it is there already.

    The line is on the disk when this returns. Raises `OperationError` where it cannot be written.
    """
    lines = _lines(path) if path.exists() else []
    if any(one.version == past.version for one in lines):
        raise UnreadableContract(
            f"The version {past.version} is in the history already.",
            where=str(path),
            fix="A line that is written is not changed. Give the new version a name of its own.",
        )
    known = {digest for one in lines for digest in one.texts}
    files = {name: _digest(text) for name, text in past.protos.items()}
    texts = {files[name]: text for name, text in past.protos.items() if files[name] not in known}
    required = None if past.required is None else sorted(past.required)
    line = _Line(past.version, past.messages, past.enums, files, texts, required)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(msgspec.json.encode(line) + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _lines(path: Path) -> list[_Line]:
    if path.is_dir():
        raise UnreadableContract(
            "It is a folder, and a history is a file.",
            where=str(path),
            fix="Give the file of `contract publish` or `contract record`, as "
            "contract-history.jsonl; a folder of .proto files is compared with --against.",
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
            found.append(msgspec.json.decode(line, type=_Line))
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            last = index == len(lines)
            raise UnreadableContract(
                f"{error}.",
                where=f"{path}:{index}",
                fix="If it was cut short while it was written, delete the line." if last else "",
            ) from None
    return found


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
