"""Messages, and the entries of maps, which are messages too."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from typing_extensions import override

from switchgear.contract.check.schema.element import Element, features_of, scoped
from switchgear.contract.check.schema.enums import Enum
from switchgear.contract.check.schema.fields import Field
from switchgear.contract.check.schema.numbers import (
    MESSAGE_ENUM,
    MESSAGE_EXTENSION,
    MESSAGE_FIELD,
    MESSAGE_NESTED,
    Path,
)
from switchgear.contract.check.schema.place import Place

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import DescriptorProto, OneofDescriptorProto

    from switchgear.contract.check.schema.files import File

__all__ = ["Message"]


class Message(Element):
    """One message; the entry of a map is one too, as in protobuf itself."""

    def __init__(
        self, proto: DescriptorProto, file: File, parent: Message | None, path: Path
    ) -> None:
        self.proto = proto
        self.file = file
        self.parent = parent
        self.path = path
        self.name = proto.name
        self.nested_name, self.full_name = scoped(proto.name, file, parent)
        self.features = features_of(proto, parent or file)
        self.is_map_entry = proto.options.map_entry

    @override
    def around(self) -> Place:
        maps = self.parent.fields.values() if self.parent else ()
        return next(
            (one.place() for one in maps if one.type_name == self.full_name),
            Place(self.file.name),
        )

    def nested(self) -> list[Message]:
        """Return the messages inside this one."""
        return [
            Message(one, self.file, self, (*self.path, MESSAGE_NESTED, index))
            for index, one in enumerate(self.proto.nested_type)
        ]

    def enums(self) -> list[Enum]:
        """Return the enumerations inside this message."""
        return [
            Enum(one, self.file, self, (*self.path, MESSAGE_ENUM, index))
            for index, one in enumerate(self.proto.enum_type)
        ]

    def extensions(self) -> list[Field]:
        """Return the extensions that are declared inside this message."""
        return [
            Field(one, self.file, self, (*self.path, MESSAGE_EXTENSION, index))
            for index, one in enumerate(self.proto.extension)
        ]

    @cached_property
    def fields(self) -> Mapping[int, Field]:
        """The fields by number."""
        return {
            one.number: Field(one, self.file, self, (*self.path, MESSAGE_FIELD, index))
            for index, one in enumerate(self.proto.field)
        }

    @cached_property
    def oneofs(self) -> Mapping[str, OneofDescriptorProto]:
        """The oneofs that somebody wrote: not those that stand for an `optional` of proto3."""
        synthetic = {one.oneof_index for one in self.proto.field if one.proto3_optional}
        return {
            one.name: one
            for index, one in enumerate(self.proto.oneof_decl)
            if index not in synthetic
        }

    @cached_property
    def map_entries(self) -> Collection[str]:
        """The full names of the entries of maps inside this message."""
        return {
            f"{self.full_name}.{one.name}"
            for one in self.proto.nested_type
            if one.options.map_entry
        }

    @property
    def reserved(self) -> list[range]:
        """The reserved numbers."""
        return [range(one.start, one.end) for one in self.proto.reserved_range]

    @property
    def reserved_names(self) -> Collection[str]:
        """The reserved names."""
        return self.proto.reserved_name
