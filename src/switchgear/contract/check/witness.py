"""Bytes that show a finding: written with the old contract, read with the new.

A message with one value is encoded by the old descriptors and decoded by the new ones, by
protobuf itself. What comes out is told in a line: `price=500 is 18 f4 03 and now reads
discount=500`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToJson, Parse, ParseError
from google.protobuf.message import DecodeError, EncodeError

from switchgear.contract.check.finding import Was
from switchgear.contract.check.schema import LABEL_REPEATED, Field, File, Message, Schema
from switchgear.contract.check.schema.fields import KINDS
from switchgear.contract.classes import class_of

if TYPE_CHECKING:
    from google.protobuf.message import Message as ProtoMessage

__all__ = ["Witness"]

LABEL_OPTIONAL: Final = 1
_HOLDS: Final = frozenset({"group", "message", "enum"})
_DEPTH: Final = 3
_MOST_BYTES: Final = 24
_SAMPLES: Final[Mapping[int, Any]] = {
    FieldDescriptor.CPPTYPE_INT32: 500,
    FieldDescriptor.CPPTYPE_INT64: 500,
    FieldDescriptor.CPPTYPE_UINT32: 500,
    FieldDescriptor.CPPTYPE_UINT64: 500,
    FieldDescriptor.CPPTYPE_DOUBLE: 2.5,
    FieldDescriptor.CPPTYPE_FLOAT: 2.5,
    FieldDescriptor.CPPTYPE_BOOL: True,
    FieldDescriptor.CPPTYPE_STRING: "abc",
}


class Witness:
    """The descriptors of a new version and of old ones, ready to encode and decode."""

    def __init__(self, new: Schema) -> None:
        self._new = new
        self._pools: dict[int, tuple[DescriptorPool, set[str]]] = {}
        self._shown_before: dict[object, str] = {}

    def of(self, old: Field, schema: Schema) -> str:
        """Show what becomes of a field of an old version; empty where it cannot be shown."""
        if old.parent is None or old.extendee or old.in_map_entry:
            return ""
        new = self._new.messages.get(old.parent.full_name)
        if new is None:
            return ""
        key = _shape(old, new) or (id(schema), old.parent.full_name, old.number)
        if key not in self._shown_before:  # several rules speak of one field
            try:
                self._shown_before[key] = self._shown(old, old.parent, new, schema)
            except (DecodeError, EncodeError, TypeError, KeyError, ValueError):
                self._shown_before[key] = ""  # protobuf for Python cannot build the schema
        return self._shown_before[key]

    def of_past(self, was: Was) -> str:
        """Show what becomes of a field that a history remembers; empty where it cannot be shown.

        One of another number is read by its name alone, in JSON.
        """
        new, kind = was.now, was.kind
        plain = kind.removeprefix("repeated ")
        if new.parent is None or plain not in KINDS.values() or plain in _HOLDS:
            return ""
        number = next(one for one, of in KINDS.items() if of == plain)
        file = FileDescriptorProto(name="was.proto", syntax="proto3")
        label = LABEL_REPEATED if plain != kind else LABEL_OPTIONAL
        one = file.message_type.add(name="Was").field.add(name=was.name, number=was.number)
        one.type, one.label = number, label  # type: ignore[assignment]  # they are its numbers
        pool = DescriptorPool()
        pool.AddSerializedFile(file.SerializeToString())
        message = class_of(pool.FindMessageTypeByName("Was"))()
        try:
            if was.number == new.number:
                return self._told_by(message, message.DESCRIPTOR.fields[0], new.parent)
            return self._by_name(message, was)
        except (DecodeError, EncodeError, TypeError, KeyError, ValueError):
            return ""

    def _by_name(self, message: ProtoMessage, was: Was) -> str:
        if was.now.parent is None or not _fill(message, message.DESCRIPTOR.fields[0], 0):
            return ""
        text, reader, error = self._in_json(message, was.now.parent)
        if error:
            return f"{text} is refused now"
        (field, _) = next(iter(reader.ListFields()), (None, None))
        if field is None:
            return f"{text} now reads nothing"
        told = _told(reader, field)
        return f"{text} of number {was.number} now reads {told}, which is number {field.number}"

    def _shown(self, old: Field, before: Message, after: Message, schema: Schema) -> str:
        message = self._class(schema, before)()
        return self._told_by(message, message.DESCRIPTOR.fields_by_number[old.number], after)

    def _told_by(self, message: ProtoMessage, field: Any, after: Message) -> str:
        """Write a message with one field, and tell what a reader of `after` makes of it."""
        if not _fill(message, field, 0):
            return ""
        data = message.SerializePartialToString()
        told = f"{_told(message, field)} is {data[:_MOST_BYTES].hex(' ')}"
        told += " …" if len(data) > _MOST_BYTES else ""
        reader = self._class(self._new, after)()
        try:
            reader.MergeFromString(data)
        except DecodeError:
            return f"{told} and is refused now"
        if message.IsInitialized() and not reader.IsInitialized():
            return f"{told} and is refused now: a required field is missing"
        known = reader.ListFields()
        if known:
            reads = ", ".join(_told(reader, one) for one, _ in known)
            same = reads == _told(message, field)
            return self._json(message, after) if same else f"{told} and now reads {reads}"
        lost = "reads nothing" if reader.ByteSize() == 0 else "is kept as unknown bytes"
        return f"{told} and now {lost}"

    def _json(self, message: ProtoMessage, after: Message) -> str:
        """Show a difference in JSON where the bytes show none."""
        text, reader, error = self._in_json(message, after)
        if error:
            return f"{text} is refused now"
        again = " ".join(MessageToJson(reader, indent=None).split())
        return f"{text} now reads {again}" if again != text else ""

    def _in_json(self, message: ProtoMessage, after: Message) -> tuple[str, ProtoMessage, bool]:
        """Return a message as JSON, what a reader of `after` makes of it, and if it refuses it."""
        text = " ".join(MessageToJson(message, indent=None).split())
        reader = self._class(self._new, after)()
        try:
            Parse(text, reader)
        except ParseError:
            return text, reader, True
        return text, reader, False

    def _class(self, schema: Schema, message: Message) -> type[ProtoMessage]:
        pool, added = self._pools.setdefault(id(schema), (DescriptorPool(), set()))
        _add(pool, message.file, schema.everything, added)
        return class_of(pool.FindMessageTypeByName(message.full_name))


def _shape(old: Field, new: Message) -> object:
    """Return all that the witness of a plain value depends on: many findings share it."""
    fields = new.proto.field
    required = old.parent is None or any(
        one.is_required for of in (old.parent, new) for one in of.fields.values()
    )
    if old.type_name or required or old.oneof:
        return None
    now = new.fields.get(old.number)
    told = tuple((one.number, one.name, one.json_name, one.type, one.label) for one in fields)
    return (
        *(old.proto.SerializeToString(), old.features, old.file.syntax, told),
        *(now and now.proto.SerializeToString(), now and now.features, new.file.syntax),
    )


def _add(pool: DescriptorPool, file: File, every: Mapping[str, File], added: set[str]) -> None:
    """Add a file behind all that it imports, which may be a chain of any length."""
    above = {file.name: file} if file.name not in added else {}
    while above:
        name, last = next(reversed(above.items()))
        imports = (one for one in last.proto.dependency if one in every and one not in added)
        needed = next(imports, None)
        if needed is not None:
            above[needed] = every[needed]
            continue
        added.add(name)
        del above[name]
        pool.AddSerializedFile(last.proto.SerializeToString())


def _fill(message: Any, field: Any, depth: int) -> bool:
    """Put a value into a field; return whether there is one to put."""
    if field.message_type is None:
        value = _sample(field)
        if field.is_repeated:
            getattr(message, field.name).append(value)
        else:
            setattr(message, field.name, value)
        return True
    if field.message_type.GetOptions().map_entry:
        return _fill_map(message, field, depth)
    inner = (
        getattr(message, field.name).add() if field.is_repeated else getattr(message, field.name)
    )
    inner.SetInParent()
    scalars = [one for one in field.message_type.fields if one.message_type is None]
    if scalars:
        _fill(inner, scalars[0], depth + 1)
    return True


def _fill_map(message: Any, field: Any, depth: int) -> bool:
    if depth > _DEPTH:
        return False
    entry = field.message_type
    key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
    target = getattr(message, field.name)
    if value.message_type is None:
        target[_sample(key)] = _sample(value)
    else:
        target[_sample(key)].SetInParent()
    return True


def _sample(field: Any) -> Any:
    if field.enum_type is not None:
        values = field.enum_type.values
        return values[min(1, len(values) - 1)].number
    if field.type == FieldDescriptor.TYPE_BYTES:
        return b"abc"
    return _SAMPLES[field.cpp_type]


def _told(message: Any, field: Any) -> str:
    value = getattr(message, field.name)
    if field.enum_type is not None and not field.is_repeated:
        known = field.enum_type.values_by_number.get(value)
        return f"{field.name}={known.name if known else value}"
    if field.message_type is not None or field.is_repeated:
        text = " ".join(str(message).split())
        return text if len(text) < 2 * _MOST_BYTES else f"{text[: 2 * _MOST_BYTES]}…"
    return f"{field.name}={value!r}"
