"""Routes: how an operation is reached over REST.

- `METHOD /path/{parameter}`; a path is a template (`switchgear.contract.template`). A method may
  have several routes, each a way to it: what the first cannot say of a request, the next may.
- A parameter names a scalar field of the request, or of a message in it: `{book.name}`.
- GET carries no body, and DELETE none unless it says so. With POST, PUT and PATCH the body is the
  rest of the request. `route(..., body="book")` is one field as the body, `body=""` is none.
- What is neither in the path nor in the body is in the query: scalars, lists of scalars, and
  messages of those, as `?book.title=Dune`.
- `route(..., response_body="title")` answers with one field of the reply.
- A query is GET, or POST where it does not fit into a URL. A command is POST, PUT, PATCH or DELETE.

They are what `google.api.http` calls bindings, and are exported as those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from switchgear.contract.declaration import Field, fields_of
from switchgear.contract.fitting import Asked, fault, view_of
from switchgear.contract.message import Message
from switchgear.contract.template import Template, template_of
from switchgear.errors import ContractError
from switchgear.model.edge import Pattern

__all__ = ["Binding", "Route", "lead", "parse_routes", "route"]

_WITH_BODY: Final = ("POST", "PUT", "PATCH")


@dataclass(frozen=True, slots=True)
class Binding:
    """A route as it is written; see `route`."""

    text: str
    body: str | None = None
    response_body: str = ""

    @property
    def method(self) -> str:
        """What stands before the first space."""
        return self.text.partition(" ")[0]

    @property
    def path(self) -> str:
        """What stands after it."""
        return self.text.partition(" ")[2]

    @property
    def given_body(self) -> str:
        """The field that is the body; `*`: the rest of the request; empty: there is none."""
        if self.body is not None:
            return self.body
        return "*" if self.method in _WITH_BODY else ""

    @property
    def key(self) -> tuple[object, ...]:
        """What two bindings that say the same have in common, however their paths are written."""
        try:
            path: object = template_of(self.path)
        except ValueError:
            path = self.path
        return self.method, path, self.given_body, self.response_body


def route(text: str, *, body: str | None = None, response_body: str = "") -> Binding:
    """Say more of a route than its method and path: `route("PATCH /v1/{book.name}", body="book")`.

    `body` is the field whose value the body is; `"*"`, what is not in the path; `""`, none. Not
    said: as the method has it. `response_body` is the field of the reply that the answer is.
    """
    return Binding(text, body, response_body)


@dataclass(frozen=True, slots=True)
class Route:
    """One method and path, and where the rest of the request and the reply are."""

    method: str
    template: Template
    body: str = ""
    """The field that is the body; `*`: the rest of the request; empty: there is none."""
    response_body: str = ""
    """The field that the answer is; empty: the whole reply."""

    @property
    def path(self) -> str:
        """The path as it is written."""
        return self.template.text

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the parameters in the path."""
        return tuple(one.name for one in self.template.variables)

    @property
    def has_body(self) -> bool:
        """Whether a part of the request travels in a body."""
        return bool(self.body)

    @property
    def binding(self) -> Binding:
        """The route as it is written."""
        return Binding(f"{self.method} {self.path}", self.body, self.response_body)

    @property
    def shape(self) -> str:
        """Method and path with the parameters' names left out: equal where routes collide."""
        return f"{self.method} {self.template.shape}"


def lead(cls: type[Message], fields: Sequence[str]) -> list[Field]:
    """Return the fields of `cls` and of messages in it that lead to a value, by their names."""
    found: list[Field] = []
    for name in fields:
        found.append(next(one for one in fields_of(cls).values() if one.wire == name))
        cls = found[-1].kind.python
    return found


def parse_routes(
    given: Sequence[str | Binding],
    pattern: Pattern,
    request: type[Message],
    reply: type[Message],
    where: str,
    *,
    streaming: bool,
) -> tuple[Route, ...]:
    """Read the routes of a method and check them; raises `ContractError`."""
    bindings = [Binding(one) if isinstance(one, str) else one for one in given]
    routes: list[Route] = []
    for one in bindings:
        try:
            template = template_of(one.path)
        except ValueError as error:
            raise ContractError(
                f"{one.text!r} is no route: {error}.",
                where=where,
                fix="Begin with '/'; each segment is plain text or one {parameter}.",
            ) from None
        found = Route(one.method, template, one.given_body, one.response_body)
        asked = Asked(
            one.method, template, found.body, found.response_body, pattern, streaming=streaming
        )
        wrong = fault(asked, view_of(request), view_of(reply), alone=len(bindings) == 1)
        if wrong is not None:
            raise ContractError(f"{one.text!r}: {wrong.what}", where=where, fix=wrong.fix)
        routes.append(found)
    return tuple(routes)
