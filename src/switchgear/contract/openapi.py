"""The OpenAPI 3.1 document of contracts: what the REST door answers, told to people and tools."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from switchgear.contract.declaration import Field, fields_of, full_name
from switchgear.contract.kinds import Shape
from switchgear.contract.message import Message
from switchgear.contract.route import Route
from switchgear.contract.schemas import Json, Names, field_schema, object_schema, told_of
from switchgear.contract.service import Operation, ServiceContract
from switchgear.model.wire import IDEMPOTENCY_KEY, http_status

__all__ = ["openapi"]

_PROBLEM: Final = "Problem"
_PROBLEM_TYPE: Final = "application/problem+json"
_STREAM_TYPES: Final = ("application/x-ndjson", "text/event-stream")


def openapi(*contracts: ServiceContract, title: str, version: str) -> Json:
    """Return the document that describes `contracts` as they are served over REST.

    Operations without a route are not in it, nor is what only they use.
    """
    served = [
        (contract, operation, operation.route)
        for contract in contracts
        for operation in contract.operations.values()
        if operation.route is not None
    ]
    refusals = list(
        dict.fromkeys(one.__message__ for _, operation, _ in served for one in operation.refuses)
    )
    messages = [one for _, operation, _ in served for one in (operation.request, operation.reply)]
    taken = {_PROBLEM, *(f"{one.__name__}{_PROBLEM}" for one in refusals)}
    names = Names([*messages, *refusals], taken)
    paths: dict[str, Json] = {}
    for contract, operation, route in served:
        path = paths.setdefault(route.path, {})
        path[route.method.lower()] = _operation(contract, operation, route, names)
    schemas = names.schemas()
    for refusal in refusals:
        schemas[f"{names[refusal]}{_PROBLEM}"] = _refusal_problem(refusal, names)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "tags": [told_of({"name": one.name}, one.doc) for one in contracts],
        "paths": paths,
        "components": {"schemas": {**dict(sorted(schemas.items())), _PROBLEM: _problem()}},
    }


def _operation(contract: ServiceContract, operation: Operation, route: Route, names: Names) -> Json:
    cls = operation.request
    fields = {field.wire: field for field in fields_of(cls).values()}
    in_path = route.parameters
    parameters = [_parameter(cls, fields[name], "path", names) for name in in_path]
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
    if not route.has_body:
        parameters += [_parameter(cls, field, "query", names) for field in rest]
    elif rest:
        schema = names.ref(cls) if not in_path else object_schema(cls, rest, names)
        made["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        }
    if parameters:
        made["parameters"] = parameters
    made["responses"] = _responses(operation, names)
    return made


def _parameter(cls: type[Message], field: Field, place: str, names: Names) -> Json:
    made: Json = {"name": field.wire if place == "path" else field.json, "in": place}
    schema = field_schema(cls, field, names)
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


def _responses(operation: Operation, names: Names) -> Json:
    media = _STREAM_TYPES if operation.streaming else ("application/json",)
    told = "One reply a line, or an event." if operation.streaming else "The reply."
    reply = {"schema": names.ref(operation.reply)}
    responses: Json = {"200": {"description": told, "content": dict.fromkeys(media, reply)}}
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


def _refusal_problem(cls: type[Message], names: Names) -> Json:
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
