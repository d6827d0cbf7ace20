"""From a message to an HTTP request, and from an answer to a reply, as a route has it. Pure.

Of several routes a client takes the first whose path can carry the request: `shelves/1` fits into
`/v1/{name=shelves/*}`, and `books/1` does not. What no route can carry is `Rejected` before
anything is sent, as is a message that a query leaves no trace of and whose absence means something
else. `switchgear.serve.transcoding` is the other end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

import msgspec

from switchgear.contract.codec import codec_of
from switchgear.contract.declaration import Field, fields_of
from switchgear.contract.message import Message
from switchgear.contract.route import Route, lead
from switchgear.contract.service import Operation
from switchgear.contract.template import Unfit
from switchgear.model.outcome import Rejected

__all__ = ["Request", "asked", "whole"]

_tree: Final = msgspec.json.decode
_raw: Final = msgspec.json.Decoder(msgspec.Raw).decode


class Request(NamedTuple):
    """What is sent."""

    route: Route
    target: str
    """Path and query, percent-encoded."""
    body: bytes | None


def asked(operation: Operation, request: Any) -> Request:
    """Return the HTTP request for a message; raises `Rejected` if no route can carry it.

    The message is one of `operation.request`: what takes a stream has no route.
    """
    plans = _plans(operation)
    encoded = codec_of(operation.request).to_json(request)
    if not plans[0].paths and plans[0].route.body == "*":
        return Request(plans[0].route, plans[0].route.path, encoded)
    values: dict[str, Any] = _tree(encoded)
    first: Unfit | None = None
    for plan in plans:
        try:
            path = plan.route.template.write({k: _at(k, values, v) for k, v in plan.paths.items()})
        except Unfit as error:
            first = first or error
            continue
        return plan.filled(path, values)
    route, name = plans[0].route, "" if first is None else first.name
    more = f" nor of the {len(plans) - 1} other routes" if len(plans) > 1 else ""
    raise Rejected(
        f"{name} {first}: it is no part of the path {route.path}{more}.",
        pointer=f"/{name.replace('.', '/')}",
    )


def whole(operation: Operation, route: Route, body: bytes) -> bytes:
    """Return a reply as JSON, of which `body` is what the route answers with.

    Raises `msgspec.DecodeError` if it is not JSON.
    """
    if not route.response_body:
        return body or b"{}"
    (name,) = _path(operation.reply, (route.response_body,))
    # read first: what is not one value must not become two members
    value = bytes(_raw(body)) if body else b"null"
    return b"{%b:%b}" % (msgspec.json.encode(name), value)


class _Plan:
    """A route of an operation, compiled for a client."""

    __slots__ = ("body", "emptied", "paths", "request", "route")

    def __init__(self, operation: Operation, route: Route) -> None:
        self.route = route
        self.request = operation.request
        self.paths = {one.name: _path(self.request, one.fields) for one in route.template.variables}
        self.body = "" if route.body in {"", "*"} else _path(self.request, (route.body,))[0]
        inside = any(one[0] == self.body for one in self.paths.values())
        self.emptied: dict[str, Any] | None = {} if inside else None
        """What the body is where the message has it not any more: the path has carried all of it.

        Where no variable lies in it, it was never there.
        """

    def filled(self, path: str, values: dict[str, Any]) -> Request:
        for names in self.paths.values():
            _drop(values, names)
        if self.route.body == "*":
            return Request(self.route, path, msgspec.json.encode(values))
        body = None
        if self.body:
            given = values.pop(self.body, self.emptied)
            body = None if given is None else msgspec.json.encode(given)
        query = urlencode(list(_query(self.request, values, "")))
        return Request(self.route, f"{path}?{query}" if query else path, body)


@lru_cache(maxsize=4096)
def _plans(operation: Operation) -> tuple[_Plan, ...]:
    return tuple(_Plan(operation, route) for route in operation.routes)


def _path(cls: type[Message], fields: Sequence[str]) -> tuple[str, ...]:
    return tuple(one.json for one in lead(cls, fields))


def _at(name: str, values: Mapping[str, Any], path: tuple[str, ...]) -> str:
    """Return the text of a value; raises `Unfit` if it is not there."""
    found: Any = values
    for one in path:
        found = None if found is None else found.get(one)
    if found is None:
        raise Unfit(name, "is not said")
    return _text(found)


def _drop(values: dict[str, Any], path: tuple[str, ...]) -> None:
    """Take away a value that the path carries, and the messages that held nothing else."""
    first, *rest = path
    if rest:
        _drop(values[first], tuple(rest))
    if not rest or not values[first]:
        del values[first]


def _query(cls: type[Message], values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    """Yield the parameters of a query; raises `Rejected` for a message that leaves no trace."""
    fields: dict[str, Field] = {one.json: one for one in fields_of(cls).values()}
    for name, value in values.items():
        if isinstance(value, list):
            yield from ((prefix + name, _text(one)) for one in value)
        elif isinstance(value, Mapping):
            field = fields[name]
            inner = list(_query(field.kind.python, value, f"{prefix}{name}."))
            if not inner and field.has_default:
                raise Rejected(
                    f"{prefix}{name} says nothing, which a query cannot tell from its absence.",
                    pointer=f"/{(prefix + name).replace('.', '/')}",
                )
            yield from inner
        elif value is not None:
            yield prefix + name, _text(value)


def _text(value: Any) -> str:
    """Return a JSON value as a path or a query carries it."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
