"""What can be named in a contract: it has a name, a place and a comment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from switchgear.contract.check.features import Features
from switchgear.contract.check.schema.numbers import Path
from switchgear.contract.check.schema.place import Place

if TYPE_CHECKING:
    from switchgear.contract.check.schema.files import File
    from switchgear.contract.check.schema.messages import Message

__all__ = ["Element", "features_of", "scoped"]


class Element:
    """What can be named: it stands in a file, at a path of `SourceCodeInfo`."""

    file: File
    path: Path
    name: str
    full_name: str
    features: Features

    def place(self, *suffixes: Path) -> Place:
        """Return where the first of `suffixes` that the text has stands; else the element."""
        if self.full_name in self.file.places:
            return self.file.places[self.full_name]
        for suffix in suffixes:
            found = self.file.span(self.path + suffix)
            if found:
                return found
        return self.file.span(self.path) or self.around()

    def around(self) -> Place:
        """Return where what is not in the text comes from: the entry of a map, its map."""
        return Place(self.file.name)

    @property
    def comment(self) -> str:
        """The comment before the element, or else the one behind it."""
        return self.file.comment_at(self.path)


def scoped(name: str, file: File, parent: Message | None) -> tuple[str, str]:
    """Return the name inside the package, and the full name."""
    nested = f"{parent.nested_name}.{name}" if parent else name
    return nested, f"{file.package}.{nested}" if file.package else nested


def features_of(proto: Any, around: Element) -> Features:
    """Return the features of what stands inside `around`: almost always the same."""
    if not proto.HasField("options"):
        return around.features
    return around.features.overridden(proto.options.features)
