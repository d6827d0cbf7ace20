"""What a declaration is in protobuf: descriptors filled from messages, enumerations and methods."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any, Final

from switchgear.contract.bindings import bindings_of, fill_rule
from switchgear.contract.declaration import (
    Declaration,
    Field,
    declaration_of,
    field_name,
    fields_of,
    file_of_type,
    full_name,
    oneofs_of,
)
from switchgear.contract.enums import Enum, labels_of
from switchgear.contract.file import ProtoFile
from switchgear.contract.jsonnames import stated_name
from switchgear.contract.kinds import SHARED, Kind, Shape
from switchgear.contract.message import Message
from switchgear.contract.options import Texts
from switchgear.contract.service import Operation
from switchgear.errors import ContractError, MissingExtra

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import (
        DescriptorProto,
        EnumDescriptorProto,
        FieldDescriptorProto,
        MethodDescriptorProto,
    )

__all__ = ["fill_enum", "fill_field", "fill_message", "fill_method"]

_WITHOUT_VISIBILITY: Final = ("proto2", "proto3", "2023")
_EXACT: Final = 1e16


def fill_message(made: DescriptorProto, cls: type[Message], options: Texts) -> set[str]:
    """Describe `cls` in `made`; return the files that its fields need."""
    declaration = declaration_of(cls)
    made.name = declaration.wire_name
    needed: set[str] = set()
    file, name = declaration.file.path, full_name(cls)
    oneofs = list(oneofs_of(declaration.specs))
    for oneof in oneofs:
        stated = declaration.oneof_options.get(oneof, "")
        options.fill(made.oneof_decl.add(name=oneof), stated, f"{name}.{oneof}", file)
    for field in fields_of(cls).values():
        one = made.field.add()
        needed |= fill_field(one, field, cls, options)
        if field.type.key is not None:
            needed |= _fill_map(made, one, field, f".{name}")
        if field.spec.oneof is not None:
            one.oneof_index = oneofs.index(field.spec.oneof)
    if declaration.file.syntax == "proto3":
        _fill_optional(made, cls)
    options.fill(made, declaration.options, name, file)
    if declaration.visibility:
        made.visibility = _visibility(declaration.visibility, declaration.file, name)
    _fill_ranges(made, declaration, options)
    return needed


def fill_field(
    one: FieldDescriptorProto, field: Field, cls: type[Message], options: Texts
) -> set[str]:
    """Describe a field, less the oneof that it is in; return the files that its type needs."""
    needed: set[str] = set()
    one.name, one.number = field.wire, field.number
    one.label = one.LABEL_OPTIONAL
    # other languages then write the names that we read
    one.json_name = stated_name(field.spec, field.wire, camel=file_of_type(cls).camel)
    if field.spec.deprecated:
        one.options.deprecated = True
    options.fill(one, field.spec.options, field_name(cls, field), file_of_type(cls).path)
    if field.type.key is None:
        needed = _fill_type(one, field.kind)
    if field.type.shape is not Shape.ONE:
        one.label = one.LABEL_REPEATED
    _fill_syntax(one, field, cls)
    return needed


def _visibility(stated: str, file: ProtoFile, where: str) -> Any:
    from google.protobuf.descriptor_pb2 import SymbolVisibility  # noqa: PLC0415 - an extra

    if stated not in {"export", "local"}:
        raise ContractError(
            f"{stated!r} does not say who may see it.", where=where, fix='Say "export" or "local".'
        )
    if file.syntax in _WITHOUT_VISIBILITY:
        raise ContractError(
            f"A {file.syntax} file does not say who may see it.",
            where=where,
            fix='Remove visibility=, or use a ProtoFile with syntax="2024".',
        )
    return SymbolVisibility.Value(f"VISIBILITY_{stated.upper()}")


def _fill_optional(made: DescriptorProto, cls: type[Message]) -> None:
    """Put each optional scalar into a oneof of its own, as proto3 tells presence.

    Its name is what protoc would choose.
    """
    taken = {one.name for one in made.field} | {one.name for one in made.oneof_decl}
    for one, field in zip(made.field, fields_of(cls).values(), strict=True):
        scalar = not field.kind.is_submessage
        if field.has_presence and (scalar or field.spec.presence) and field.spec.oneof is None:
            one.proto3_optional = True
            one.oneof_index = len(made.oneof_decl)
            name = one.name if one.name.startswith("_") else f"_{one.name}"
            while name in taken:
                name = f"X{name}"
            taken.add(name)
            made.oneof_decl.add(name=name)


def _fill_syntax(one: FieldDescriptorProto, field: Field, cls: type[Message]) -> None:
    """Say what only proto2 and the editions can say."""
    spec, file = field.spec, declaration_of(cls).file
    if file.syntax == "proto3":
        if spec.required or spec.delimited:
            raise ContractError(
                "A proto3 file knows neither required nor delimited fields.",
                where=f"{full_name(cls)}.{field.wire}",
                fix="Use presence=True, or a ProtoFile with another syntax.",
            )
        return
    if spec.required:
        if file.is_edition:
            one.options.features.field_presence = one.options.features.LEGACY_REQUIRED
        else:
            one.label = one.LABEL_REQUIRED
    if spec.delimited:
        if file.is_edition:
            one.options.features.message_encoding = one.options.features.DELIMITED
        else:
            inner, declared = declaration_of(field.kind.python), declaration_of(cls)
            scope = cls if declared.extends is None else declared.owner
            if inner.owner is not scope or inner.wire_name.lower() != field.wire:
                raise ContractError(
                    "In proto2 a group declares a message of its own.",
                    where=f"{full_name(cls)}.{field.wire}",
                    fix="Declare the message inside this one, and call it as the field.",
                )
            one.type = one.TYPE_GROUP
    scalar = field.type.shape is Shape.ONE and not field.kind.is_submessage
    if spec.wire_default is not None:
        one.default_value = spec.wire_default
    elif (spec.presence or spec.required) and scalar and field.has_default:
        one.default_value = _default(field.absent())


def _default(value: Any) -> str:
    """Return a default as a descriptor holds it."""
    if isinstance(value, Enum):
        return str(value._value_)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, bytes):
        from google.protobuf.text_encoding import CEscape  # noqa: PLC0415 - an extra

        return CEscape(value, as_utf8=False)
    if isinstance(value, float):
        if isfinite(value):
            return str(int(value)) if value == int(value) and abs(value) < _EXACT else repr(value)
        return "nan" if value != value else "inf" if value > 0 else "-inf"  # noqa: PLR0124
    return str(value)


def _fill_type(one: FieldDescriptorProto, kind: Kind) -> set[str]:
    if kind.name in {"message", "enum"}:
        one.type = one.TYPE_MESSAGE if kind.name == "message" else one.TYPE_ENUM
        one.type_name = f".{full_name(kind.python)}"
        return {file_of_type(kind.python).path}
    if kind.name in SHARED:
        file, one.type_name = SHARED[kind.name]
        one.type = one.TYPE_MESSAGE
        return {file}
    name = "STRING" if kind.name == "decimal" else kind.name.upper()
    one.type = one.Type.Value(f"TYPE_{name}")
    return set()


def _fill_map(
    made: DescriptorProto, one: FieldDescriptorProto, field: Field, prefix: str
) -> set[str]:
    entry = made.nested_type.add(name=f"{_camel(field.wire)}Entry")
    entry.options.map_entry = True
    key = entry.field.add(name="key", number=1, json_name="key")
    value = entry.field.add(name="value", number=2, json_name="value")
    key.label = value.label = one.LABEL_OPTIONAL
    if field.type.key is not None:
        _fill_type(key, field.type.key)
    one.type, one.type_name = one.TYPE_MESSAGE, f"{prefix}.{entry.name}"
    return _fill_type(value, field.kind)


def _fill_ranges(made: DescriptorProto, declaration: Declaration, options: Texts) -> None:
    for one, stated in declaration.extensions.items():
        added = made.extension_range.add(start=one.start, end=one.stop)
        where = f"{declaration.full_name}, {one}"
        options.fill(added, stated, where, declaration.file.path)
    names, ranges = _split(declaration.reserved)
    made.reserved_name.extend(names)
    for start, end in ranges:
        made.reserved_range.add(start=start, end=end)


def _split(reserved: tuple[int | str | range, ...]) -> tuple[list[str], list[tuple[int, int]]]:
    """Return the names and the ranges among what is reserved; ranges end before their end."""
    names = dict.fromkeys(item for item in reserved if isinstance(item, str))
    numbers = [
        (item.start, item.stop) if isinstance(item, range) else (item, item + 1)
        for item in reserved
        if not isinstance(item, str)
    ]
    return list(names), _joined(numbers)


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the ranges as they are, or joined where some overlap, which protobuf refuses."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if joined and start < joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return ranges if len(joined) == len(ranges) else joined


def fill_enum(made: EnumDescriptorProto, cls: type[Enum], options: Texts) -> None:
    """Describe an enumeration."""
    made.name = cls.__wire_name__
    stated, file = full_name(cls), file_of_type(cls)
    if cls.__visibility__:
        made.visibility = _visibility(cls.__visibility__, file, stated)
    labels = labels_of(cls).items()
    # an open enumeration begins with what protobuf means by absence
    for name, label in labels if cls.__closed__ else sorted(labels, key=lambda item: item[1] != 0):
        one = made.value.add(name=name, number=int(label))
        if label.deprecated:
            one.options.deprecated = True
        options.fill(one, label.options, f"{stated}.{name}", file.path)
    if cls.__aliases__:
        made.options.allow_alias = True
    options.fill(made, cls.__options__, stated, file.path)
    names, ranges = _split(cls.__reserved__)
    made.reserved_name.extend(names)
    for start, end in ranges:
        made.reserved_range.add(start=start, end=end - 1)  # inclusive here, unlike in messages


def fill_method(
    made: MethodDescriptorProto, operation: Operation, options: Texts, file: str
) -> None:
    """Describe a method of a service that stands in `file`."""
    made.name = operation.rpc_name
    made.input_type = f".{full_name(operation.request)}"
    made.output_type = f".{full_name(operation.reply)}"
    if operation.takes_stream:
        made.client_streaming = True
    if operation.streaming:
        made.server_streaming = True
    if operation.level:
        made.options.idempotency_level = made.options.IdempotencyLevel.Value(operation.level)
    options.fill(made, operation.options, operation.full_name, file)
    if operation.http:
        try:
            from google.api import annotations_pb2  # type: ignore[import-untyped]  # noqa: PLC0415
        except ImportError:
            raise MissingExtra("googleapis-common-protos", "grpc") from None
        rule = made.options.Extensions[annotations_pb2.http]
        _fill_http(rule, operation)


def _fill_http(rule: Any, operation: Operation) -> None:
    if operation.http == "route":
        fill_rule(rule, [one.binding for one in operation.routes])
        return
    from google.protobuf import text_format  # noqa: PLC0415 - an extra

    text_format.Parse(operation.http, rule)
    said = [one.key for one in bindings_of(rule)]
    missing = next((one for one in operation.routes if one.binding.key not in said), None)
    if missing is not None:
        raise ContractError(
            f"The route {missing.method} {missing.path} is not in what http= says.",
            where=operation.full_name,
            fix="Write one of its bindings, or leave out http=.",
        )


def _camel(name: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))
