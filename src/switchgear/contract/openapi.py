"""The OpenAPI 3.1 document of contracts: what the REST door answers, told to people and tools."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, Final

import msgspec
from msgspec import NODEFAULT

from switchgear.contract.as_json import duration_text
from switchgear.contract.declaration import Field, fields_of, full_name, reach
from switchgear.contract.enums import Enum
from switchgear.contract.kinds import Kind, Shape
from switchgear.contract.message import Message
from switchgear.contract.prototext import field_doc, type_doc
from switchgear.contract.service import Operation, ServiceContract
from switchgear.model.wire import IDEMPOTENCY_KEY, http_status

__all__ = ["openapi"]

Json = dict[str, Any]

_PROBLEM: Final = "Problem"
_PROBLEM_TYPE: Final = "application/problem+json"
_STREAM_TYPE: Final = "application/x-ndjson"
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
}


def openapi(*contracts: ServiceContract, title: str, version: str) -> Json:
    """Return the document that describes `contracts` as they are served over REST."""
    names = _Names(contracts)
    paths: dict[str, Json] = {}
    for contract in contracts:
        for operation in contract.operations.values():
            path = paths.setdefault(operation.route.path, {})
            path[operation.route.method.lower()] = _operation(contract, operation, names)
    schemas = {names[cls]: _schema(cls, names) for cls in names.classes}
    for refusal in names.refusals:
        schemas[f"{names[refusal]}{_PROBLEM}"] = _refusal_problem(refusal, names)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "tags": [_told({"name": one.name}, one.doc) for one in contracts],
        "paths": paths,
        "components": {"schemas": {**dict(sorted(schemas.items())), _PROBLEM: _problem()}},
    }


class _Names:
    """What the schemas are called: the class's name, or the full name where two would clash."""

    def __init__(self, contracts: Iterable[ServiceContract]) -> None:
        operations = [one for contract in contracts for one in contract.operations.values()]
        self.refusals = list(
            dict.fromkeys(refusal.__message__ for one in operations for refusal in one.refuses)
        )
        messages = [message for one in operations for message in (one.request, one.reply)]
        self.classes = reach(*messages, *self.refusals)
        count = Counter(cls.__name__ for cls in self.classes)
        taken = {_PROBLEM, *(f"{one.__name__}{_PROBLEM}" for one in self.refusals)}
        self._names = {
            cls: full_name(cls)
            if count[cls.__name__] > 1 or cls.__name__ in taken
            else cls.__name__
            for cls in self.classes
        }

    def __getitem__(self, cls: type[Message | Enum]) -> str:
        return self._names[cls]

    def ref(self, cls: type[Message | Enum]) -> Json:
        return {"$ref": f"#/components/schemas/{self._names[cls]}"}


def _operation(contract: ServiceContract, operation: Operation, names: _Names) -> Json:
    fields = fields_of(operation.request)
    in_path = operation.route.parameters
    parameters = [_parameter(fields[name], "path", names) for name in in_path]
    rest = [field for name, field in fields.items() if name not in in_path]
    made: Json = {
        "operationId": f"{contract.name}.{operation.name}",
        "tags": [contract.name],
        "x-switchgear-pattern": operation.pattern.value,
    }
    if operation.doc:
        made["summary"] = operation.doc.splitlines()[0]
        made["description"] = operation.doc
    if operation.keyed:
        parameters.append(_key_parameter(operation))
    if not operation.route.has_body:
        parameters += [_parameter(field, "query", names) for field in rest]
    elif rest:
        schema = names.ref(operation.request) if not in_path else _object(rest, names)
        made["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        }
    if parameters:
        made["parameters"] = parameters
    made["responses"] = _responses(operation, names)
    return made


def _parameter(field: Field, place: str, names: _Names) -> Json:
    made: Json = {"name": field.name, "in": place}
    schema = _field_schema(field, names)
    description = schema.pop("description", None)
    if description:
        made["description"] = description
    # an empty list leaves no trace in a query
    if place == "path" or not (field.has_default or field.type.shape is Shape.LIST):
        made["required"] = True
    if field.spec.deprecated:
        made["deprecated"] = schema.pop("deprecated")
    return {**made, "schema": schema}


def _key_parameter(operation: Operation) -> Json:
    hours = (operation.retention or timedelta(0)) / timedelta(hours=1)
    return {
        "name": IDEMPOTENCY_KEY.title(),
        "in": "header",
        "description": "A request that is repeated with the same key gets the reply of the first, "
        f"which is kept for {hours:g} hours.",
        "schema": {"type": "string"},
    }


def _responses(operation: Operation, names: _Names) -> Json:
    media = _STREAM_TYPE if operation.streaming else "application/json"
    told = "One reply a line." if operation.streaming else "The reply."
    responses: Json = {
        "200": {"description": told, "content": {media: {"schema": names.ref(operation.reply)}}}
    }
    by_status: dict[str, list[type[Message]]] = {}
    for refusal in operation.refuses:
        by_status.setdefault(str(http_status(refusal.status)), []).append(refusal.__message__)
    for status, refused in sorted(by_status.items()):
        several = [{"$ref": f"#/components/schemas/{names[one]}{_PROBLEM}"} for one in refused]
        # 422 also answers a key that was used for another message, and so on: a plain problem.
        schema = {"anyOf": [*several, {"$ref": f"#/components/schemas/{_PROBLEM}"}]}
        listed = " or ".join(one.__name__ for one in refused)
        responses[status] = _answer(f"Refused: {listed}.", schema)
    problem = {"$ref": f"#/components/schemas/{_PROBLEM}"}
    responses.setdefault("400", _answer("The request is not valid.", problem))
    responses["default"] = _answer("Anything else that went wrong.", problem)
    return responses


def _answer(description: str, schema: Json) -> Json:
    return {"description": description, "content": {_PROBLEM_TYPE: {"schema": schema}}}


def _schema(cls: type[Message | Enum], names: _Names) -> Json:
    if issubclass(cls, Enum):
        told = "Newer versions may add names."
        made: Json = {"type": "string", "enum": list(cls.__members__)}
        return _told(made, "\n".join(filter(None, (type_doc(cls), told))))
    return _told(_object(fields_of(cls).values(), names), type_doc(cls))


def _object(fields: Iterable[Field], names: _Names) -> Json:
    fields = list(fields)
    made: Json = {
        "type": "object",
        "properties": {field.name: _field_schema(field, names) for field in fields},
    }
    required = [field.name for field in fields if not field.has_default]
    return {**made, "required": required} if required else made


def _field_schema(field: Field, names: _Names) -> Json:
    schema = _kind_schema(field.kind, names, strings=field.spec.strings)
    if field.type.key is not None:
        schema = {"type": "object", "additionalProperties": schema}
    elif field.type.shape is Shape.LIST:
        schema = {"type": "array", "items": schema}
    elif field.type.optional:
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
    return _told(schema, field_doc(field))


def _kind_schema(kind: Kind, names: _Names, *, strings: bool) -> Json:
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


def _told(schema: Json, doc: str) -> Json:
    return {**schema, "description": doc} if doc else schema


def _problem() -> Json:
    text: Json = {"type": "string"}
    return {
        "type": "object",
        "description": "A failure, as RFC 9457 tells it.",
        "properties": {
            "type": {"type": "string", "format": "uri-reference"},
            "title": text,
            "status": {"type": "integer"},
            "detail": text,
            "instance": {"type": "string", "format": "uri-reference"},
            "pointer": {**text, "description": "The offending field, as an RFC 6901 pointer."},
        },
        "required": ["type", "title", "status"],
    }


def _refusal_problem(cls: type[Message], names: _Names) -> Json:
    named: Json = {"type": {"const": f"urn:switchgear:refusal:{full_name(cls)}"}}
    return {
        "allOf": [
            {"$ref": f"#/components/schemas/{_PROBLEM}"},
            {
                "type": "object",
                "properties": {**named, "refusal": names.ref(cls)},
                "required": ["type", "refusal"],
            },
        ]
    }
