"""Fields of messages, and extensions."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from switchgear.contract.check.annotations import expected
from switchgear.contract.check.features import PROTO3, Features
from switchgear.contract.check.schema.element import Element, features_of, scoped
from switchgear.contract.check.schema.numbers import (
    LABEL_REPEATED,
    LABEL_REQUIRED,
    TYPE_GROUP,
    TYPE_MESSAGE,
    Path,
)
from switchgear.contract.check.schema.place import Place

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto

    from switchgear.contract.check.schema.files import File
    from switchgear.contract.check.schema.messages import Message

__all__ = ["KINDS", "Field"]

KINDS: Final = {
    1: "double",
    2: "float",
    3: "int64",
    4: "uint64",
    5: "int32",
    6: "fixed64",
    7: "fixed32",
    8: "bool",
    9: "string",
    10: "group",
    11: "message",
    12: "bytes",
    13: "uint32",
    14: "enum",
    15: "sfixed32",
    16: "sfixed64",
    17: "sint32",
    18: "sint64",
}
"""What protobuf calls a kind of value, by its number in descriptor.proto."""


class Field(Element):
    """One field of a message, or one extension."""

    def __init__(
        self, proto: FieldDescriptorProto, file: File, parent: Message | None, path: Path
    ) -> None:
        self.proto = proto
        self.file = file
        self.parent = parent
        self.path = path
        self.name = proto.name
        self.number = proto.number
        self.nested_name, self.full_name = scoped(proto.name, file, parent)

    @cached_property
    def features(self) -> Features:  # type: ignore[override]  # of a field, they are seldom asked for
        """The features."""
        return features_of(self.proto, self.parent or self.file)

    @override
    def around(self) -> Place:
        return self.parent.place() if self.parent else Place(self.file.name)

    @property
    def extendee(self) -> str:
        """The full name of the message that this field extends; empty for an ordinary field."""
        return self.proto.extendee.removeprefix(".")

    @property
    def type_name(self) -> str:
        """The full name of the message or enumeration that the field holds, if it holds one."""
        return self.proto.type_name.removeprefix(".")

    @property
    def in_map_entry(self) -> bool:
        """Whether this is the key or the value of a map."""
        return self.parent is not None and self.parent.is_map_entry

    @property
    def is_map(self) -> bool:
        """Whether this is a map."""
        inside = self.parent
        return inside is not None and not self.extendee and self.type_name in inside.map_entries

    @cached_property
    def kind(self) -> str:
        """The kind of value as protobuf's wire knows it; a delimited message is a `group`."""
        delimited = (
            self.proto.type == TYPE_MESSAGE
            and self.features.message_encoding == Features.DELIMITED
            and not self.in_map_entry
            and not self.is_map
        )
        return "group" if delimited else KINDS.get(self.proto.type, "unknown")

    @property
    def is_required(self) -> bool:
        """Whether a message without the field is not valid."""
        if self.proto.label == LABEL_REQUIRED:
            return True
        if self.file.edition <= PROTO3:  # only an edition says it as a feature
            return False
        stated = self.features.field_presence == Features.REQUIRED
        return stated and self.proto.label != LABEL_REPEATED and not self.proto.extendee

    @property
    def is_expected(self) -> bool:
        """Whether a service turns a request without the field away, though protobuf would not."""
        return self.full_name in (self.file.expected or ()) or self.is_expected_in_text

    @property
    def is_expected_in_text(self) -> bool:
        """Whether an option says so (`field_behavior`), which every kind of source can carry."""
        return expected(self.proto.options)

    @property
    def has_presence(self) -> bool:
        """Whether absence is told from the zero value."""
        if self.proto.label == LABEL_REPEATED:
            return False
        if self.proto.type in {TYPE_MESSAGE, TYPE_GROUP} or self.proto.extendee:
            return True
        if self.proto.proto3_optional or self.proto.HasField("oneof_index"):
            return True
        return self.features.field_presence != Features.IMPLICIT

    @cached_property
    def cardinality(self) -> str:
        """How many values there can be, and whether none is told from zero."""
        if self.proto.label == LABEL_REPEATED:
            return "map" if self.is_map else "repeated"
        if self.is_required:
            return "required"
        told = "explicit" if self.has_presence else "implicit"
        return f"optional with {told} presence"

    @property
    def oneof(self) -> str:
        """The name of the oneof that somebody put the field into; empty for none."""
        proto = self.proto
        if self.parent is None or not proto.HasField("oneof_index") or proto.proto3_optional:
            return ""
        return self.parent.proto.oneof_decl[proto.oneof_index].name

    @property
    def type_text(self) -> str:
        """The type as it is written in a `.proto` file, with its full name."""
        return self.type_name or self.kind

    @property
    def text_of_type(self) -> str:
        """The type with all that makes bytes be read otherwise: what history compares."""
        if self.is_map and self.parent is not None:
            entry = next(one for one in self.parent.nested() if one.full_name == self.type_name)
            return f"map<{entry.fields[1].type_text}, {entry.fields[2].type_text}>"
        return f"{'repeated ' * (self.cardinality == 'repeated')}{self.type_text}"

    @property
    def described(self) -> str:
        """The field in words: its number, its name, and whose it is."""
        if self.extendee:
            return f'Extension {self.number} ("{self.full_name}") of "{self.extendee}"'
        owner = self.parent.nested_name if self.parent else ""
        return f'Field {self.number} ("{self.name}") of "{owner}"'
