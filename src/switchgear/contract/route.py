"""Routes: how an operation is reached over REST.

- `METHOD /path/{parameter}`; a segment is literal or one parameter.
- A parameter names a scalar field of the request.
- GET and DELETE carry no body: the other fields are query parameters, so they are scalars or lists
  of scalars. With POST, PUT and PATCH the body is the rest of the request.
- A query is GET, or POST where it does not fit into a URL. A command is POST, PUT, PATCH or DELETE.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from switchgear.contract.declaration import fields_of
from switchgear.contract.kinds import Shape
from switchgear.contract.message import Message
from switchgear.errors import ContractError
from switchgear.model.edge import Pattern

__all__ = ["Route", "parse_route"]

_METHODS: Final = {
    Pattern.QUERY: ("GET", "POST"),
    Pattern.COMMAND: ("POST", "PUT", "PATCH", "DELETE"),
}
_BODILESS: Final = ("GET", "DELETE")
_SEGMENT: Final = re.compile(r"[A-Za-z0-9._~-]+|\{(?P<name>[a-z][a-z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class Route:
    """One method and path, with the names of the parameters in the path."""

    method: str
    path: str
    parameters: tuple[str, ...] = ()

    @property
    def has_body(self) -> bool:
        """Whether the rest of the request travels in the body rather than in the query."""
        return self.method not in _BODILESS

    @property
    def shape(self) -> str:
        """Method and path with the parameters' names left out: equal where routes collide."""
        return f"{self.method} {re.sub(r'{[a-z0-9_]+}', '{}', self.path)}"


def parse_route(text: str, pattern: Pattern, request: type[Message], where: str) -> Route:
    """Read `text` and check it against the request; raises `ContractError`."""
    method, _, path = text.partition(" ")
    allowed = _METHODS[pattern]
    if method not in allowed:
        raise ContractError(
            f"{text!r} does not begin with a method of a {pattern}.",
            where=where,
            fix=f"Write one of {', '.join(allowed)}, a space, and a path.",
        )
    parameters = _parameters(path, text, where)
    fields = fields_of(request)
    for name in parameters:
        if name not in fields:
            raise ContractError(
                f"The path parameter {name} is not a field of {request.__name__}.",
                where=where,
                fix=f"Use one of: {', '.join(fields) or '(it has no fields)'}.",
            )
        field = fields[name]
        if field.type.shape is not Shape.ONE or field.type.optional or not field.kind.is_text:
            raise ContractError(
                f"The path parameter {name} is not one plain value.",
                where=where,
                fix="Use a scalar field that is not optional.",
            )
    route = Route(method, path, parameters)
    if not route.has_body:
        for field in fields.values():
            if field.type.shape is Shape.MAP or not field.kind.is_text:
                raise ContractError(
                    f"The field {field.name} of {request.__name__} does not fit into the query "
                    f"of a {method}.",
                    where=where,
                    fix="Use scalars and lists of scalars, or POST.",
                )
    return route


def _parameters(path: str, text: str, where: str) -> tuple[str, ...]:
    segments = path.split("/")
    found = [_SEGMENT.fullmatch(segment) for segment in segments[1:]]
    if segments[0] or path == "/" or len(segments) == 1 or None in found:
        raise ContractError(
            f"{text!r} does not contain a path such as /v1/stock/{{sku}}.",
            where=where,
            fix="Begin with '/'; each segment is plain text or one {parameter}.",
        )
    names = tuple(match["name"] for match in found if match and match["name"])
    if len(set(names)) != len(names):
        raise ContractError(
            f"{text!r} names a parameter twice.", where=where, fix="Name each once."
        )
    return names
