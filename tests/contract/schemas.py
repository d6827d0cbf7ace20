"""Makes up `.proto` files: descriptors as protoc would compile them, of every syntax."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from hypothesis import strategies as st

from switchgear.contract.jsonnames import json_name

F = FieldDescriptorProto
SCALARS = [
    *(F.TYPE_DOUBLE, F.TYPE_FLOAT, F.TYPE_INT64, F.TYPE_UINT64, F.TYPE_INT32, F.TYPE_FIXED64),
    *(F.TYPE_FIXED32, F.TYPE_BOOL, F.TYPE_STRING, F.TYPE_BYTES, F.TYPE_UINT32, F.TYPE_SFIXED32),
    *(F.TYPE_SFIXED64, F.TYPE_SINT32, F.TYPE_SINT64),
]
KEYS = [F.TYPE_INT64, F.TYPE_UINT32, F.TYPE_BOOL, F.TYPE_STRING, F.TYPE_SINT32]
DEFAULTS = {
    F.TYPE_STRING: 'a"\n',
    F.TYPE_BYTES: "\\001x",
    F.TYPE_BOOL: "true",
    F.TYPE_DOUBLE: "inf",
}
FIELDS = [
    *("name", "from", "class", "field", "list", "str", "orderId", "ID", "_hidden", "value", "self"),
    *("request", "type", "None", "a1", "b__c", "datetime", "items", "keys", "message", "import"),
]
TYPES = ["Message", "Enum", "Order", "Line", "Status", "None", "order", "Value", "List", "Type"]
MEMBERS = ["UNKNOWN", "RED", "None", "mro", "name", "_X", "green", "A1"]
OPTIONS_FILE = "acme/options.proto"
MARK = 51_234
MARKED = [
    *("FileOptions", "MessageOptions", "FieldOptions", "EnumOptions", "EnumValueOptions"),
    *("OneofOptions", "ExtensionRangeOptions"),
]
"""The options that `OPTIONS_FILE` extends, each with a string."""
WELL_KNOWN = [
    ("google/protobuf/timestamp.proto", ".google.protobuf.Timestamp"),
    ("google/protobuf/struct.proto", ".google.protobuf.Value"),
    ("google/protobuf/wrappers.proto", ".google.protobuf.Int64Value"),
    ("google/type/money.proto", ".google.type.Money"),
]


class _Maker:
    """Fills one file. Each draw is about something small, so that failures shrink."""

    def __init__(
        self,
        draw: st.DrawFn,
        file: FileDescriptorProto,
        others: list[str],
        extendable: list[str],
    ) -> None:
        self.draw = draw
        self.file = file
        self.edition = bool(file.edition)
        self.old = not self.edition and file.syntax != "proto3"
        self.messages = others
        self.enums: list[tuple[str, EnumDescriptorProto]] = []
        self.scalars: dict[str, str] = {}
        self.extendable = extendable
        self.numbers = iter(range(30_001 + 50 * (file.edition or 0), 40_000_000))

    def some(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def chance(self) -> bool:
        return self.draw(st.booleans())

    def unique(self, choices: list[str], most: int) -> list[str]:
        return self.draw(st.lists(st.sampled_from(choices), max_size=most, unique=True))

    def enum(self, made: EnumDescriptorProto, name: str, scope: str, taken: set[str]) -> None:
        made.name = name
        prefix = f"{name.upper()}_" if self.chance() else ""
        names = [prefix + one for one in self.unique(MEMBERS, 4) if prefix + one not in taken]
        taken.update(names)
        for number, one in enumerate(names or [f"{name.upper()}_ONLY"]):
            value = made.value.add(name=one, number=number + 3 * (self.old and number > 0))
            if self.chance():
                value.options.deprecated = True
            self.mark(value)
        self.mark(made)
        if self.chance():
            made.reserved_range.add(start=70, end=79)
            made.reserved_name.append(f"{name}_GONE")
        self.enums.append((f"{scope}.{name}", made))

    def message(self, made: DescriptorProto, name: str, scope: str, depth: int) -> None:
        made.name = name
        full = f"{scope}.{name}"
        self.messages.append(full)
        fields = self.unique(FIELDS, 5)
        taken = {*fields, *(f"_{one}" for one in fields)}
        for one in self.unique([one for one in TYPES if one not in taken], 2) if depth else []:
            taken.add(one)
            if self.chance():
                self.enum(made.enum_type.add(), one, full, taken)
            else:
                self.message(made.nested_type.add(), one, full, depth - 1)
        for number, one in enumerate(fields, self.draw(st.integers(1, 18_000))):
            self.field(made, one, number, full, taken)
        self.oneof(made)
        self.mark(made)
        if self.chance():
            made.reserved_range.add(start=20_000, end=20_001)
            made.reserved_range.add(start=20_005, end=20_010)
            made.reserved_name.append("gone")
        if (self.old or self.edition) and self.chance():
            made.extension_range.add(start=30_000, end=536_870_912)
            self.mark(made.extension_range[0])
            self.extendable.append(full)
        self.extend(made, taken)

    def extend(self, holder: FileDescriptorProto | DescriptorProto, taken: set[str]) -> None:
        """Add extensions of what can be extended by now."""
        names = [f"more_{one}" for one in self.unique(FIELDS[:4], 3)]
        for name in names if self.extendable and (self.old or self.edition) else []:
            one = holder.extension.add(name=name, number=next(self.numbers))
            one.json_name = json_name(name)
            one.label, one.extendee = F.LABEL_OPTIONAL, f".{self.some(*self.extendable)}"
            if name not in taken and self.chance():
                one.type, one.type_name = F.TYPE_MESSAGE, f".{self.some(*self.messages)}"
            else:
                one.type = self.some(*SCALARS)
            self.shape(one, extends=True)
            taken.add(name)

    def mark(self, holder: Any) -> None:
        """Put an option of somebody's own on anything."""
        kind = holder.options.DESCRIPTOR.name
        if kind in MARKED and self.draw(st.integers(0, 5)) == 0:
            text = self.some("", "a", 'b"')
            told = bytes([*_varint(MARK << 3 | 2), len(text), *text.encode()])
            holder.options.MergeFromString(told)
            if OPTIONS_FILE not in self.file.dependency:
                self.file.dependency.append(OPTIONS_FILE)

    def field(
        self, made: DescriptorProto, name: str, number: int, full: str, taken: set[str]
    ) -> None:
        one = made.field.add(name=name, number=number, label=F.LABEL_OPTIONAL)
        one.json_name = self.some(json_name(name), json_name(name), f"{name}-json")
        kind = self.some("scalar", "scalar", "message", "enum", "map", "group", "known")
        camel = "".join(part[:1].upper() + part[1:] for part in name.split("_"))
        if kind == "map" and f"{camel}Entry" not in taken:
            taken.add(f"{camel}Entry")
            one.label, one.type = F.LABEL_REPEATED, F.TYPE_MESSAGE
            one.type_name = f".{full}.{camel}Entry"
            entry = made.nested_type.add(name=f"{camel}Entry")
            entry.options.map_entry = True
            for index, part in enumerate(("key", "value"), 1):
                inner = entry.field.add(name=part, number=index, json_name=part)
                inner.label, inner.type = F.LABEL_OPTIONAL, self.some(*KEYS)
            return
        if kind == "group" and self.old and name.islower() and name.capitalize() not in taken:
            taken.add(name.capitalize())
            made.nested_type.add(name=name.capitalize())
            one.type, one.type_name = F.TYPE_GROUP, f".{full}.{name.capitalize()}"
        elif kind == "known":
            file, one.type_name = self.some(*WELL_KNOWN)
            one.type = F.TYPE_MESSAGE
            if file not in self.file.dependency:
                self.file.dependency.append(file)
        elif kind == "enum" and self.enums:
            one.type, one.type_name = F.TYPE_ENUM, f".{self.some(*self.enums)[0]}"
        elif kind == "message":
            one.type, one.type_name = F.TYPE_MESSAGE, f".{self.some(*self.messages)}"
        else:
            one.type = self.some(*SCALARS)
        self.shape(one)

    def shape(self, one: FieldDescriptorProto, *, extends: bool = False) -> None:
        if self.chance():
            one.options.deprecated = True
        self.mark(one)
        shape = self.some("one", "one", "repeated", "required", "default", "optional")
        message = one.type in (F.TYPE_MESSAGE, F.TYPE_GROUP)
        if shape == "repeated":
            one.label = F.LABEL_REPEATED
            if not message and one.type not in (F.TYPE_STRING, F.TYPE_BYTES) and not self.edition:
                one.options.packed = self.chance()
        elif extends and shape in {"required", "optional"}:
            pass
        elif shape == "required" and self.old:
            one.label = F.LABEL_REQUIRED
        elif shape == "required" and self.edition:
            one.options.features.field_presence = one.options.features.LEGACY_REQUIRED
        elif shape == "default" and (self.old or self.edition) and not message:
            if one.type != F.TYPE_ENUM:
                one.default_value = DEFAULTS.get(one.type, "7")
        elif shape == "optional" and self.edition and not message:
            one.options.features.field_presence = one.options.features.IMPLICIT
            if one.type == F.TYPE_ENUM:
                one.ClearField("options")
        elif shape == "optional" and not self.edition and not self.old and not message:
            one.proto3_optional = True
        if self.edition and message and self.chance():
            one.options.features.message_encoding = one.options.features.DELIMITED

    def oneof(self, made: DescriptorProto) -> None:
        able = [
            one
            for one in made.field
            if one.label == F.LABEL_OPTIONAL
            and not one.proto3_optional
            and not one.options.features.field_presence
        ]
        if len(able) > 1 and self.chance():
            members = able[: self.draw(st.integers(1, len(able)))]
            # the members stand side by side, as protoc reads them
            rest = [one for one in made.field if one not in members]
            self.mark(made.oneof_decl.add(name="one_of_them"))
            for one in members:
                one.oneof_index = 0
            ordered = [*members, *rest]
            copies = [FieldDescriptorProto.FromString(one.SerializeToString()) for one in ordered]
            made.ClearField("field")
            made.field.extend(copies)
        for one in made.field:
            if one.proto3_optional:
                one.oneof_index = len(made.oneof_decl)
                # as protoc does
                made.oneof_decl.add(name=f"X{one.name}" if one.name[0] == "_" else f"_{one.name}")


@st.composite
def schemas(draw: st.DrawFn) -> FileDescriptorSet:
    """Make up two files, the second of which uses the first; what is `shared` comes before."""
    own: list[FileDescriptorProto] = [_options()]
    messages: list[str] = []
    extendable: list[str] = []
    for index in range(2):
        file = FileDescriptorProto(name=f"acme/v{index}/some.proto", package=f"acme.v{index}")
        syntax = draw(st.sampled_from(["proto2", "proto3", "2023", "2024"]))
        if syntax in {"2023", "2024"}:
            file.syntax, file.edition = "editions", 1000 + (syntax == "2024")
        elif syntax == "proto3":
            file.syntax = "proto3"
        if index:
            file.dependency.append(own[1].name)
        maker = _Maker(draw, file, list(messages), extendable)
        taken: set[str] = set()
        for name in maker.unique(TYPES, 3) or ["Order"]:
            if name in taken:
                continue
            taken.add(name)
            if maker.chance() and messages:
                maker.enum(file.enum_type.add(), name, file.package, taken)
            else:
                maker.message(file.message_type.add(), name, file.package, 2)
                messages.append(f"{file.package}.{name}")
        maker.extend(file, taken)
        maker.mark(file)
        if syntax == "2024":
            for one in (*file.message_type, *file.enum_type):
                if maker.chance():
                    one.visibility = draw(st.sampled_from([1, 2]))
        own.append(file)
    return FileDescriptorSet(file=own)


def _options() -> FileDescriptorProto:
    """Return a file that declares options of somebody's own."""
    file = FileDescriptorProto(name=OPTIONS_FILE, package="acme.options", syntax="proto3")
    file.dependency.append("google/protobuf/descriptor.proto")
    for kind in MARKED:
        one = file.extension.add(name=kind.lower(), json_name=kind.lower(), number=MARK)
        one.extendee, one.type = f".google.protobuf.{kind}", F.TYPE_STRING
        one.label = F.LABEL_OPTIONAL
    return file


def _varint(value: int) -> bytes:
    made = []
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    return bytes([*made, value])


def shared() -> list[FileDescriptorProto]:
    """Return the files that come with protobuf and googleapis, as far as they are used."""
    from google.protobuf import descriptor_pb2, struct_pb2, timestamp_pb2, wrappers_pb2
    from google.type import money_pb2

    modules = (descriptor_pb2, timestamp_pb2, struct_pb2, wrappers_pb2, money_pb2)
    return [FileDescriptorProto.FromString(one.DESCRIPTOR.serialized_pb) for one in modules]
