"""JSON Schemas of messages and enumerations, as OpenAPI and AsyncAPI both hold them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, Final

import msgspec
from msgspec import NODEFAULT

from switchgear.contract.as_json import duration_text
from switchgear.contract.declaration import (
    Field,
    declaration_of,
    fields_of,
    full_name,
    oneofs_of,
    reach,
)
from switchgear.contract.docs import field_doc, member_docs, type_doc
from switchgear.contract.enums import Enum, labels_of
from switchgear.contract.kinds import Kind, Shape
from switchgear.contract.message import Message

__all__ = ["Json", "Names", "field_schema", "object_schema", "told_of", "type_schema"]

Json = dict[str, Any]

_DURATION: Final = r"^-?[0-9]{1,12}(\.[0-9]{1,9})?s$"
_FORMATS: Final[Mapping[str, Json]] = {
    "string": {"type": "string"},
    "bool": {"type": "boolean"},
    "bytes": {"type": "string", "contentEncoding": "base64"},
    "double": {"type": "number", "format": "double"},
    "float": {"type": "number", "format": "float"},
    "decimal": {"type": "string", "format": "decimal"},
    "timestamp": {"type": "string", "format": "date-time"},
    "duration": {"type": "string", "pattern": _DURATION},
    "field_mask": {"type": "string"},
    "any": {"type": "object", "properties": {"@type": {"type": "string"}}, "required": ["@type"]},
    "struct": {"type": "object"},
    "list_value": {"type": "array"},
    "value": {},
}


class Names:
    """What the schemas are called: the class's name, or the full name where two would clash.

    `taken` are names that belong to others.
    """

    def __init__(self, roots: Iterable[type[Message]], taken: Iterable[str] = ()) -> None:
        self.classes = reach(*roots)
        count = Counter(_own_name(cls) for cls in self.classes)
        others = set(taken)
        self._names = {
            cls: full_name(cls)
            if count[_own_name(cls)] > 1 or _own_name(cls) in others
            else _own_name(cls)
            for cls in self.classes
        }

    def __getitem__(self, cls: type[Message | Enum]) -> str:
        return self._names[cls]

    def ref(self, cls: type[Message | Enum]) -> Json:
        """Return the reference to the schema of a class."""
        return {"$ref": f"#/components/schemas/{self._names[cls]}"}

    def schemas(self) -> dict[str, Json]:
        """Return all schemas by name, in the order of their names."""
        return dict(sorted((self[cls], type_schema(cls, self)) for cls in self.classes))


def _own_name(cls: type[Message | Enum]) -> str:
    return cls.__wire_name__ if issubclass(cls, Enum) else declaration_of(cls).wire_name


def type_schema(cls: type[Message | Enum], names: Names) -> Json:
    """Return the schema of a message or an enumeration."""
    if issubclass(cls, Enum):
        told = "" if cls.__closed__ else "Newer versions may add names."
        members = [f"{name}: {doc}" for name, doc in member_docs(cls).items() if doc]
        made: Json = {"type": "string", "enum": list(labels_of(cls))}
        return told_of(made, "\n".join(filter(None, (type_doc(cls), *members, told))))
    fields = fields_of(cls)
    choices = [
        f"At most one of {', '.join(fields[name].json for name in members)} is there."
        for members in oneofs_of(declaration_of(cls).specs).values()
    ]
    made = object_schema(cls, fields.values(), names)
    return told_of(made, "\n".join(filter(None, (type_doc(cls), *choices))))


def object_schema(cls: type[Message], fields: Iterable[Field], names: Names) -> Json:
    """Return the schema of an object with some of the fields of `cls`."""
    fields = list(fields)
    made: Json = {
        "type": "object",
        "properties": {field.json: field_schema(cls, field, names) for field in fields},
    }
    required = [field.json for field in fields if not field.has_default]
    return {**made, "required": required} if required else made


def field_schema(cls: type[Message], field: Field, names: Names) -> Json:
    """Return the schema of one field of `cls`."""
    schema = _kind_schema(field.kind.value, names, strings=field.spec.strings)
    if field.type.key is not None:
        schema = {"type": "object", "additionalProperties": schema}
    elif field.type.shape is Shape.LIST:
        schema = {"type": "array", "items": schema}
    elif field.type.optional and schema:
        simple = isinstance(schema.get("type"), str)
        schema = (
            {**schema, "type": [schema["type"], "null"]}
            if simple
            else {"anyOf": [schema, {"type": "null"}]}
        )
    if field.spec.default is not NODEFAULT and field.spec.default is not None:
        schema["default"] = _plain(field.spec.default)
    if field.spec.deprecated:
        schema["deprecated"] = True
    return told_of(schema, field_doc(cls, field))


def _kind_schema(kind: Kind, names: Names, *, strings: bool) -> Json:
    if kind.name in {"message", "enum"}:
        return names.ref(kind.python)
    if not kind.is_int:
        return dict(_FORMATS[kind.name])
    bits = f"{'' if kind.low else 'u'}int{64 if kind.is_wide else 32}"
    if strings:
        return {"type": "string", "format": bits}
    made: Json = {"type": "integer", "format": bits}
    return made if kind.low else {**made, "minimum": 0}


def _plain(value: Any) -> Any:
    return duration_text(value) if isinstance(value, timedelta) else msgspec.to_builtins(value)


def told_of(schema: Json, doc: str) -> Json:
    """Return a schema with its description, if there is one."""
    return {**schema, "description": doc} if doc else schema
