"""One `.proto` file, or what was exported as one."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from switchgear.contract.check.features import PROTO2, PROTO3, defaults
from switchgear.contract.check.schema.element import Element
from switchgear.contract.check.schema.enums import Enum
from switchgear.contract.check.schema.fields import Field
from switchgear.contract.check.schema.messages import Message
from switchgear.contract.check.schema.numbers import (
    FILE_ENUM,
    FILE_EXTENSION,
    FILE_MESSAGE,
    FILE_SERVICE,
    Path,
)
from switchgear.contract.check.schema.place import Place, Text
from switchgear.contract.check.schema.services import Service

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

__all__ = ["File"]


class File(Element):
    """One file."""

    def __init__(self, proto: FileDescriptorProto, info: bytes = b"") -> None:
        """Take the descriptor without its `SourceCodeInfo`, and that as bytes.

        Two files that say the same are then equal, wherever it stands in the text.
        """
        self.file = self
        self.text = Text(info)
        self.proto = proto
        self.expected: Collection[str] | None = None
        """Fields without which a service turns a request away, by full name; None if nobody says.

        The `.proto` file of a Python contract does not say it: only its options, if it has any.
        """
        self.spelled: Mapping[str, str] | None = None
        """The statements that declare fields in Python, by full name.

        It is None where the new version is no Python module: edits are then told in protobuf.
        """
        self.places: Mapping[str, Place] = {}
        """Where elements stand, if not in a `.proto` file."""
        self.path = ()
        self.name = self.full_name = proto.name
        self.package = proto.package
        self.syntax = proto.syntax or "proto2"
        self.edition = {"proto2": PROTO2, "proto3": PROTO3}.get(self.syntax, proto.edition)
        self.features = defaults(self.edition).overridden(proto.options.features)

    @cached_property
    def messages(self) -> Mapping[str, Message]:
        """All messages by their name inside the package, entries of maps and nested ones too."""
        found: dict[str, Message] = {}
        waiting = [
            Message(one, self, None, (FILE_MESSAGE, index))
            for index, one in enumerate(self.proto.message_type)
        ]
        while waiting:
            message = waiting.pop()
            found[message.nested_name] = message
            waiting += message.nested()
        return found

    @cached_property
    def enums(self) -> Mapping[str, Enum]:
        """All enumerations by their name inside the package."""
        top = [
            Enum(one, self, None, (FILE_ENUM, index))
            for index, one in enumerate(self.proto.enum_type)
        ]
        inner = (enum for message in self.messages.values() for enum in message.enums())
        return {one.nested_name: one for one in (*top, *inner)}

    @cached_property
    def extensions(self) -> Mapping[str, Field]:
        """All extensions that the file declares, by their name inside the package."""
        top = [
            Field(one, self, None, (FILE_EXTENSION, index))
            for index, one in enumerate(self.proto.extension)
        ]
        inner = (one for message in self.messages.values() for one in message.extensions())
        return {one.nested_name: one for one in (*top, *inner)}

    @cached_property
    def services(self) -> Mapping[str, Service]:
        """The services by name."""
        return {
            one.name: Service(one, self, (FILE_SERVICE, index))
            for index, one in enumerate(self.proto.service)
        }

    def span(self, path: Path) -> Place | None:
        """Return where the element at `path` begins, if the text is known."""
        found = self.text.span(path)
        return None if found is None else Place(self.name, *found)

    def comment_at(self, path: Path) -> str:
        """Return the comment of the element at `path`, without its markers."""
        return self.text.comment(path)
