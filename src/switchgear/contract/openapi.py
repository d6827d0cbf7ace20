"""The OpenAPI 3.1 document of contracts: what the REST door answers, told to people and tools."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from switchgear.contract.declaration import Field, fields_of, full_name
from switchgear.contract.kinds import Shape
from switchgear.contract.message import Message
from switchgear.contract.route import Route, lead
from switchgear.contract.schemas import Json, Names, field_schema, object_schema, told_of
from switchgear.contract.service import Operation, ServiceContract
from switchgear.contract.template import Template, Variable
from switchgear.errors import ContractError
from switchgear.model.wire import IDEMPOTENCY_KEY, http_status

__all__ = ["openapi", "told_path"]

_PROBLEM: Final = "Problem"
_PROBLEM_TYPE: Final = "application/problem+json"
_STREAM_TYPES: Final = ("application/x-ndjson", "text/event-stream")


def openapi(*contracts: ServiceContract, title: str, version: str) -> Json:
    """Return the document that describes `contracts` as they are served over REST.

    Operations without a route are not in it, nor is what only they use. Raises `ContractError`
    where two services have the same method and path.
    """
    served = [
        (contract, operation)
        for contract in contracts
        for operation in contract.operations.values()
        if operation.routes
    ]
    refusals = list(
        dict.fromkeys(one.__message__ for _, operation in served for one in operation.refuses)
    )
    messages = [one for _, operation in served for one in (operation.request, operation.reply)]
    taken = {_PROBLEM, *(f"{one.__name__}{_PROBLEM}" for one in refusals)}
    names = Names([*messages, *refusals], taken)
    paths: dict[str, Json] = {}
    for contract, operation in served:
        for number, route in enumerate(operation.routes):
            made = _operation(contract, operation, route, names)
            if number:
                made["operationId"] += f".{number + 1}"
            _place(paths, route, made)
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


def _place(paths: dict[str, Json], route: Route, made: Json) -> None:
    """Put an operation under its path.

    A variable of several segments is a parameter with a pattern, as grpc-gateway has it, so two
    routes may have one path: the parameters of the second then have other names.
    """
    method, number, path = route.method.lower(), 0, told_path(route.template)
    while method in paths.get(path, ()):
        if not route.template.variables:
            raise ContractError(
                f"Two operations are served at {route.method} {route.path}.",
                where=str(made["operationId"]),
                fix="Give one another path, or export each service on its own.",
            )
        number += 1
        path = told_path(route.template, f"_{number}")
    if number:
        for one in made["parameters"]:
            one["name"] += f"_{number}" if one["in"] == "path" else ""
    paths.setdefault(path, {})[method] = made


def told_path(template: Template, suffix: str = "") -> str:
    """Return a path as OpenAPI has it: a variable is one parameter, whatever it takes."""
    made: list[str] = []
    at = 0
    for one in template.variables:
        made += [*template.segments[at : one.start], f"{{{one.name}{suffix}}}"]
        at = one.start + len(one.inner)
    verb = f":{template.verb}" if template.verb else ""
    return f"/{'/'.join([*made, *template.segments[at:]])}{verb}"


def _operation(contract: ServiceContract, operation: Operation, route: Route, names: Names) -> Json:
    cls = operation.request
    in_path = {one.name for one in route.template.variables}
    parameters = [_in_path(cls, one, names) for one in route.template.variables]
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
    if route.body != "*":
        leaves = _leaves(cls, {*in_path, route.body}, "", "", needed=True)
        parameters += [_parameter(*leaf, names) for leaf in leaves]
    body = _body(operation, route, in_path, names)
    if body is not None:
        made["requestBody"] = body
    if parameters:
        made["parameters"] = parameters
    made["responses"] = _responses(operation, route, names)
    return made


def _body(operation: Operation, route: Route, in_path: set[str], names: Names) -> Json | None:
    cls = operation.request
    fields = fields_of(cls).values()
    if route.body not in {"", "*"}:
        (field,) = lead(cls, (route.body,))
        content = {"application/json": {"schema": field_schema(cls, field, names)}}
        return {"required": not field.has_default, "content": content}
    rest = [one for one in fields if one.wire not in in_path]
    if not route.body or not rest:
        return None
    whole = len(rest) == len(fields)
    schema = names.ref(cls) if whole else object_schema(cls, rest, names)
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _leaves(
    cls: type[Message], taken: set[str], above: str, prefix: str, *, needed: bool
) -> Iterator[tuple[type[Message], Field, str, bool]]:
    """Yield what a query says: the message, its field, its name there, whether it has to be."""
    for field in fields_of(cls).values():
        path, name = above + field.wire, prefix + field.json
        required = needed and not field.has_default
        if path in taken:
            continue
        if field.kind.name == "message":
            inner = field.kind.python
            yield from _leaves(inner, taken, f"{path}.", f"{name}.", needed=required)
        else:
            # an empty list leaves no trace in a query
            yield cls, field, name, required and field.type.shape is not Shape.LIST


def _in_path(cls: type[Message], variable: Variable, names: Names) -> Json:
    *above, field = lead(cls, variable.fields)
    cls = above[-1].kind.python if above else cls
    made = _parameter(cls, field, variable.name, True, names, place="path")
    schema = made["schema"]
    schema.pop("default", None)
    if isinstance(schema.get("type"), list):
        schema["type"] = next(one for one in schema["type"] if one != "null")
    if variable.is_long:
        schema["pattern"] = variable.pattern
        told = f"{'/'.join(variable.inner)}: its slashes stand in the path as they are."
        made["description"] = "\n".join(filter(None, (made.get("description"), told)))
    return made


def _parameter(  # noqa: PLR0917  what `_leaves` yields, and how to tell it
    cls: type[Message],
    field: Field,
    name: str,
    required: bool,  # noqa: FBT001
    names: Names,
    place: str = "query",
) -> Json:
    made: Json = {"name": name, "in": place}
    schema = field_schema(cls, field, names)
    description = schema.pop("description", None)
    if description:
        made["description"] = description
    if required:
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


def _responses(operation: Operation, route: Route, names: Names) -> Json:
    media = _STREAM_TYPES if operation.streaming else ("application/json",)
    told = "One reply a line, or an event." if operation.streaming else "The reply."
    reply = {"schema": names.ref(operation.reply)}
    if route.response_body:
        (field,) = lead(operation.reply, (route.response_body,))
        reply = {"schema": field_schema(operation.reply, field, names)}
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
