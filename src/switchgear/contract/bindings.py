"""The bindings of a `google.api.http` rule that a route can say.

A rule has one binding and perhaps additional ones, each a way to the method. Of those a route is
`METHOD /path/{parameter}`, with the rest of the request in the body or in the query. `{name=*}` is
one segment, as `{name}` is. What a route cannot say: segments in a parameter (`{name=shelves/*}`),
a field as the body, a field as the response, verbs of one's own.
(github.com/googleapis/googleapis/blob/master/google/api/http.proto)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

__all__ = ["bindings_of"]

_BODIES: Final = {"get": "", "delete": "", "post": "*", "put": "*", "patch": "*"}
_PATH: Final = re.compile(r"(/([A-Za-z0-9._~-]+|\{[a-z][a-z0-9_]*\}))+")
_ONE: Final = re.compile(r"\{([a-z][a-z0-9_]*)=\*\}")


def bindings_of(rule: Any) -> list[str]:
    """Return the bindings that are routes, as `GET /v1/books/{name}`, the rule's own first."""
    return [told for one in (rule, *rule.additional_bindings) for told in _route(one)]


def _route(rule: Any) -> Iterator[str]:
    verb = rule.WhichOneof("pattern")
    if verb not in _BODIES or rule.body != _BODIES[verb] or rule.response_body:
        return
    path = _ONE.sub(r"{\1}", getattr(rule, verb))
    if _PATH.fullmatch(path):
        yield f"{verb.upper()} {path}"
