"""One version that is compared: its `.proto` files, and what they cannot carry."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from switchgear.contract.check.protofiles import Protos
from switchgear.contract.check.pythonmodule import Told, unsaid
from switchgear.contract.history import Past
from switchgear.errors import UnreadableContract

if TYPE_CHECKING:  # the model needs protobuf
    from switchgear.contract.check.schema import Schema

__all__ = ["Version"]


@dataclass(frozen=True, slots=True)
class Version:
    """One version that was given, and what the user calls it."""

    label: str
    protos: Protos
    told: Told | None = None
    """What a Python module says besides, if it is one."""
    required: frozenset[str] | None = None
    """The fields without a default, if the contract is declared in Python."""

    @classmethod
    def of(cls, past: Past, label: str, folder: Path) -> Version:
        """Lay a version of a history out in a folder."""
        last = "" if past.required is None else unsaid(past.required)
        for name, text in past.protos.items():
            path = folder / name
            if not path.resolve().is_relative_to(folder.resolve()):
                raise UnreadableContract(
                    "A file is outside of its folder.", where=f"{label}:{name}"
                )
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes((text + last).encode())
        return cls(label, Protos.of(folder), required=past.required)

    def path(self, name: str) -> str:
        """Return where a file is, seen from where the user is."""
        if self.told is not None:
            return name if name not in self.protos.files else self.told.seen(Path.cwd())
        if self.label.endswith(".proto"):
            return self.label
        inner = Path(name)
        if name in self.protos.files:
            inner = self.protos.path(name).relative_to(self.protos.root)
        return (PurePosixPath(self.label) / inner.as_posix()).as_posix()

    def complete(self, schema: Schema, new: Version) -> None:
        """Tell the model what `.proto` files cannot carry; `new` is what edits are made in."""
        if new.told is not None:
            for file in schema.files.values():
                file.spelled = self.told.spelled if self.told is not None else {}
        if self.told is not None:
            places = self.told.seen_places(Path.cwd())
            for file in schema.files.values():
                file.places = places
        if self.required is not None:
            for file in schema.files.values():
                file.expected = self.required
