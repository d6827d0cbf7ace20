"""The model that is compared: files, messages, fields, enumerations and services of one version.

It is a thin view of protoc's descriptors. What descriptors leave to the reader is decided here:
which package and syntax a file has, what its features say (see `features`), whether a field has
presence, and where in the text an element stands.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final, TypeAlias

from typing_extensions import override

from switchgear.contract.check.annotations import expected
from switchgear.contract.check.features import PROTO2, PROTO3, Features, defaults

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import (
        DescriptorProto,
        EnumDescriptorProto,
        EnumValueDescriptorProto,
        FieldDescriptorProto,
        FileDescriptorProto,
        MethodDescriptorProto,
        OneofDescriptorProto,
        ServiceDescriptorProto,
    )

__all__ = [
    "Element",
    "Enum",
    "EnumValue",
    "Field",
    "File",
    "Message",
    "Method",
    "Place",
    "Schema",
    "Service",
]

Path: TypeAlias = tuple[int, ...]

# The numbers of descriptor.proto, of which the paths of `SourceCodeInfo` are made.
FILE_PACKAGE, FILE_MESSAGE, FILE_ENUM, FILE_SERVICE = 2, 4, 5, 6
FILE_EXTENSION, FILE_OPTIONS, FILE_SYNTAX, FILE_EDITION = 7, 8, 12, 14
MESSAGE_FIELD, MESSAGE_NESTED, MESSAGE_ENUM, MESSAGE_EXTENSION, MESSAGE_OPTIONS = 2, 3, 4, 6, 7
FIELD_NAME, FIELD_TYPE, FIELD_TYPE_NAME, FIELD_DEFAULT, FIELD_OPTIONS, FIELD_JSON = (
    1,
    5,
    6,
    7,
    8,
    10,
)
ENUM_VALUE, ENUM_OPTIONS = 2, 3
VALUE_NUMBER = 2
SERVICE_METHOD = 2
METHOD_INPUT, METHOD_OUTPUT, METHOD_OPTIONS = 2, 3, 4

LABEL_REQUIRED, LABEL_REPEATED = 2, 3
TYPE_STRING, TYPE_GROUP, TYPE_MESSAGE, TYPE_BYTES, TYPE_ENUM = 9, 10, 11, 12, 14

_KINDS: Final = {
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


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands; lines and columns begin at 1."""

    path: str
    line: int = 1
    column: int = 1


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


class File(Element):
    """One file."""

    def __init__(self, proto: FileDescriptorProto) -> None:
        self.file = self
        self._info = type(proto.source_code_info)()
        self._info.CopyFrom(proto.source_code_info)
        # Two files that say the same are then equal, wherever it stands in the text.
        proto.ClearField("source_code_info")
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
        found = self._locations.get(path)
        return None if found is None else Place(self.name, found[0] + 1, found[1] + 1)

    def comment_at(self, path: Path) -> str:
        """Return the comment of the element at `path`, without its markers."""
        found = self._locations.get(path)
        return "" if found is None else found[2]

    @cached_property
    def _locations(self) -> Mapping[Path, tuple[int, int, str]]:
        known: dict[Path, tuple[int, int, str]] = {}
        for one in self._info.location:
            line, column = one.span[0], one.span[1]
            text = one.leading_comments or one.trailing_comments
            known.setdefault(tuple(one.path), (line, column, text))
        return known


def _scoped(name: str, file: File, parent: Message | None) -> tuple[str, str]:
    """Return the name inside the package, and the full name."""
    nested = f"{parent.nested_name}.{name}" if parent else name
    return nested, f"{file.package}.{nested}" if file.package else nested


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
        self.nested_name, self.full_name = _scoped(proto.name, file, parent)
        self.features = (parent or file).features.overridden(proto.options.features)
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
        self.nested_name, self.full_name = _scoped(proto.name, file, parent)

    @cached_property
    def features(self) -> Features:  # type: ignore[override]  # of a field, they are seldom asked for
        """The features."""
        around = (self.parent or self.file).features
        return around.overridden(self.proto.options.features)

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
        return "group" if delimited else _KINDS.get(self.proto.type, "unknown")

    @property
    def is_required(self) -> bool:
        """Whether a message without the field is not valid."""
        if self.proto.label == LABEL_REQUIRED:
            return True
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
        self.nested_name, self.full_name = _scoped(proto.name, file, parent)
        self.features = (parent or file).features.overridden(proto.options.features)

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


class Service(Element):
    """One service."""

    def __init__(self, proto: ServiceDescriptorProto, file: File, path: Path) -> None:
        self.proto = proto
        self.file = file
        self.path = path
        self.name = proto.name
        self.nested_name, self.full_name = _scoped(proto.name, file, None)
        self.features = file.features

    @cached_property
    def methods(self) -> Mapping[str, Method]:
        """The methods by name."""
        return {
            one.name: Method(one, self, (*self.path, SERVICE_METHOD, index))
            for index, one in enumerate(self.proto.method)
        }


class Method(Element):
    """One method of a service."""

    def __init__(self, proto: MethodDescriptorProto, service: Service, path: Path) -> None:
        self.proto = proto
        self.service = service
        self.file = service.file
        self.path = path
        self.name = proto.name
        self.full_name = f"{service.full_name}.{proto.name}"
        self.features = service.features

    @property
    def request(self) -> str:
        """The full name of the request."""
        return self.proto.input_type.removeprefix(".")

    @property
    def reply(self) -> str:
        """The full name of the reply, or of each of them."""
        return self.proto.output_type.removeprefix(".")


class Schema:
    """All files of one version of a contract."""

    def __init__(
        self,
        files: Iterable[File],
        imported: Iterable[File] = (),
        elsewhere: Collection[str] = (),
    ) -> None:
        """Take the files that are compared, and those that are only there to be referred to.

        `elsewhere` are packages that also have files which were not read.
        """
        self.files: Mapping[str, File] = {file.name: file for file in files}
        self._imported = tuple(imported)
        self._elsewhere = elsewhere

    @classmethod
    def of(cls, data: bytes, own: Collection[str], elsewhere: Collection[str] = ()) -> Schema:
        """Read a serialized `FileDescriptorSet`, of which the files named `own` are compared."""
        from google.protobuf.descriptor_pb2 import FileDescriptorSet  # noqa: PLC0415 - an extra

        files = [File(proto) for proto in FileDescriptorSet.FromString(data).file]
        return cls(
            (file for file in files if file.name in own),
            (file for file in files if file.name not in own),
            elsewhere,
        )

    def only(self, names: Collection[str]) -> Schema:
        """Return the version of which only some files are compared."""
        rest = [file for name, file in self.files.items() if name not in names]
        own = (file for name, file in self.files.items() if name in names)
        return Schema(own, (*self._imported, *rest), self._elsewhere)

    @cached_property
    def everything(self) -> Mapping[str, File]:
        """Every file by name, also those that are only referred to."""
        return {file.name: file for file in (*self._imported, *self.files.values())}

    @cached_property
    def enums_everywhere(self) -> Mapping[str, Enum]:
        """Every enumeration by its full name, also those of imported files."""
        return {
            enum.full_name: enum
            for file in self.everything.values()
            for enum in file.enums.values()
        }

    @cached_property
    def messages_everywhere(self) -> Mapping[str, Message]:
        """Every message by its full name, also those of imported files."""
        return {
            one.full_name: one
            for file in self.everything.values()
            for one in file.messages.values()
        }

    @cached_property
    def messages(self) -> Mapping[str, Message]:
        """The messages by their full name."""
        return {
            one.full_name: one for file in self.files.values() for one in file.messages.values()
        }

    @cached_property
    def enums(self) -> Mapping[str, Enum]:
        """The enumerations by their full name."""
        return {one.full_name: one for file in self.files.values() for one in file.enums.values()}

    @cached_property
    def services(self) -> Mapping[str, Service]:
        """The services by their full name."""
        return {
            one.full_name: one for file in self.files.values() for one in file.services.values()
        }

    @cached_property
    def extensions(self) -> Mapping[tuple[str, int], Field]:
        """The extensions by the message that they extend and their number."""
        return {
            (one.extendee, one.number): one
            for file in self.files.values()
            for one in file.extensions.values()
        }

    @cached_property
    def packages(self) -> Mapping[str, list[File]]:
        """The files of each package."""
        found: dict[str, list[File]] = {name: [] for name in self._elsewhere}
        for file in self.files.values():
            found.setdefault(file.package, []).append(file)
        return found
