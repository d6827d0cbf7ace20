"""Enumerations and their values."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from switchgear.contract.check.features import Features
from switchgear.contract.check.schema.element import Element, features_of, scoped
from switchgear.contract.check.schema.numbers import ENUM_VALUE, Path

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import EnumDescriptorProto, EnumValueDescriptorProto

    from switchgear.contract.check.schema.files import File
    from switchgear.contract.check.schema.messages import Message

__all__ = ["Enum", "EnumValue"]


class Enum(Element):
    """One enumeration."""

    def __init__(
        self, proto: EnumDescriptorProto, file: File, parent: Message | None, path: Path
    ) -> None:
        self.proto = proto
        self.file = file
        self.parent = parent
        self.path = path
        self.name = proto.name
        self.nested_name, self.full_name = scoped(proto.name, file, parent)
        self.features = features_of(proto, parent or file)

    @cached_property
    def values(self) -> Mapping[int, Mapping[str, EnumValue]]:
        """The values by number and name: aliases share a number."""
        found: dict[int, dict[str, EnumValue]] = {}
        for index, one in enumerate(self.proto.value):
            value = EnumValue(one, self, (*self.path, ENUM_VALUE, index))
            found.setdefault(one.number, {})[one.name] = value
        return found

    @property
    def first(self) -> int:
        """The number of the first value: what absence means, unless told otherwise."""
        return self.proto.value[0].number if self.proto.value else 0

    @property
    def is_closed(self) -> bool:
        """Whether a number that is not declared is kept apart as an unknown field."""
        return self.features.enum_type == Features.CLOSED

    @property
    def reserved(self) -> list[range]:
        """The reserved numbers."""
        return [range(one.start, one.end + 1) for one in self.proto.reserved_range]

    @property
    def reserved_names(self) -> Collection[str]:
        """The reserved names."""
        return self.proto.reserved_name


class EnumValue(Element):
    """One value of an enumeration; in protobuf its name lives beside the enumeration."""

    def __init__(self, proto: EnumValueDescriptorProto, enum: Enum, path: Path) -> None:
        self.proto = proto
        self.enum = enum
        self.file = enum.file
        self.path = path
        self.name = proto.name
        self.number = proto.number
        self.full_name = f"{enum.full_name}.{proto.name}"
        self.features = enum.features
