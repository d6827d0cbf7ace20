"""What a binding asks of the messages of its method, whoever tells what they are made of.

A declaration in Python and a `.proto` that is being imported keep the same rules: both are looked
at as a `View`, and `fault` says what is wrong. The rules are those of `switchgear.contract.route`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from switchgear.contract.declaration import Field, declaration_of, fields_of, full_name
from switchgear.contract.kinds import Shape
from switchgear.contract.message import Message
from switchgear.contract.template import Template
from switchgear.model.edge import Pattern

__all__ = ["Fault", "Part", "View", "fault", "view_of"]

METHODS: Final = {
    Pattern.QUERY: ("GET", "POST"),
    Pattern.COMMAND: ("POST", "PUT", "PATCH", "DELETE"),
}
MAX_PARAMETERS: Final = 4096
"""Parameters of one query, and messages that they are in: more than that nobody can read."""
MAX_DEPTH: Final = 100
"""Messages in messages; protobuf reads no more either, unless it is told to."""
_OBJECTS: Final = frozenset({"struct", "value", "any"})


class Fault(NamedTuple):
    """What is wrong, and what to do."""

    what: str
    fix: str


@dataclass(frozen=True, slots=True)
class Part:
    """One field, as a binding sees it."""

    kind: str
    """`string`, or another word for the type; of an element, where it is a list or a map."""
    is_text: bool
    """Whether one text can carry the value, or an element."""
    shape: Shape = Shape.ONE
    has_default: bool = True
    may_be_none: bool = False
    inner: Callable[[], View] | None = None
    """What a message is made of."""


@dataclass(frozen=True, slots=True)
class View:
    """A message, as a binding sees it: its fields by the name that protobuf knows."""

    name: str
    full_name: str
    parts: Mapping[str, Part]
    is_foreign: bool = False
    """Whether others own it, and have said `optional` for reasons of theirs."""


def view_of(cls: type[Message]) -> View:
    """Return the view of a declared message."""
    parts = {one.wire: _part(one) for one in fields_of(cls).values()}
    return View(cls.__name__, full_name(cls), parts, is_foreign=declaration_of(cls).file.camel)


def _part(field: Field) -> Part:
    kind = field.kind
    return Part(
        kind=kind.name,
        is_text=kind.is_text or kind.name == "field_mask",
        shape=field.type.shape,
        has_default=field.has_default,
        may_be_none=field.type.optional,
        inner=(lambda: view_of(kind.python)) if kind.name == "message" else None,
    )


class Asked(NamedTuple):
    """A binding and its method."""

    method: str
    template: Template
    body: str
    response_body: str
    pattern: Pattern
    streaming: bool


def fault(asked: Asked, request: View, reply: View, *, alone: bool) -> Fault | None:
    """Return what is wrong with a binding; None: nothing.

    `alone`: it is the only one of its method, so what it cannot carry nothing can.
    """
    return next(_faults(asked, request, reply, alone=alone), None)


def _faults(asked: Asked, request: View, reply: View, *, alone: bool) -> Iterator[Fault]:
    allowed = METHODS[asked.pattern]
    if asked.method not in allowed:
        yield Fault(
            f"{asked.method} is not a method of a {asked.pattern}.",
            f"Write one of {', '.join(allowed)}, a space, and a path.",
        )
    if asked.method == "GET" and asked.body:
        yield Fault("A GET has no body.", "Use POST, or leave out the body.")
    for variable in asked.template.variables:
        yield from _variable(variable.fields, request, strict=alone and not request.is_foreign)
        part = _found(variable.fields, request)
        if variable.is_long and part is not None and part.kind != "string":
            yield Fault(
                f"The path parameter {variable.name} takes {'/'.join(variable.inner)}, "
                "and is not a string.",
                "Let it take one segment, or make it a string.",
            )
    if asked.body not in {"", "*"}:
        if asked.body not in request.parts:
            yield Fault(f"The body {asked.body} is not a field of {request.name}.", _use(request))
        if any(one.name == asked.body for one in asked.template.variables):
            yield Fault(f"{asked.body} is in the path and in the body.", "Leave one out.")
    if asked.body != "*":
        yield from _query(asked, request)
    if asked.response_body:
        yield from _response(asked, reply)


def _variable(fields: tuple[str, ...], view: View, *, strict: bool) -> Iterator[Fault]:
    name = ".".join(fields)
    part = _found(fields, view)
    if part is None:
        yield Fault(
            f"The path parameter {name} is not a field of {view.name}.",
            _use(view),
        )
    elif part.shape is not Shape.ONE or (part.may_be_none and strict) or not part.is_text:
        yield Fault(
            f"The path parameter {name} is not one plain value.",
            "Use a scalar field that is not optional.",
        )


def _found(fields: tuple[str, ...], view: View) -> Part | None:
    *above, last = fields
    for name in above:
        part = view.parts.get(name)
        if part is None or part.inner is None or part.shape is not Shape.ONE:
            return None
        view = part.inner()
    return view.parts.get(last)


def _query(asked: Asked, request: View) -> Iterator[Fault]:
    """Yield what is left for the query and does not fit into one.

    What the path takes would fit into it too.
    """
    try:
        _Query(request.name).extent(request, "", (), leave=asked.body)
    except _Misfit as error:
        yield Fault(
            f"{error} does not fit into the query of a {asked.method}.",
            "Use scalars, lists of scalars and messages of them, or a body.",
        )


class _Misfit(ValueError):
    """Something of a request that a query cannot say; the text names it."""


class _Extent(NamedTuple):
    """What a message is in a query."""

    size: int = 1
    """How many parameters, and messages that they are in."""
    depth: int = 1
    """How many messages, one in the other."""


class _Query:
    """The extent of the messages of one request.

    Each is looked into once, wherever it is used: a few messages that use each other twice are
    more parameters than anybody could count one by one.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._known: dict[str, _Extent] = {}
        """Of the messages that fit, by their full names."""

    def extent(self, view: View, prefix: str, above: tuple[str, ...], leave: str = "") -> _Extent:
        """Return the extent of a message without the field `leave`; raises `_Misfit`."""
        above = (*above, view.full_name)
        size = depth = 1
        for name, part in view.parts.items():
            if name == leave or _is_plain(part):
                size += name != leave
            else:
                inside = self._inside(part, prefix + name, above)
                size, depth = size + inside.size, max(depth, inside.depth + 1)
            if size > MAX_PARAMETERS:
                raise _Misfit(
                    f"{self._name}, which has more than {MAX_PARAMETERS} fields with those of the "
                    "messages in it,"
                )
        return _Extent(size, depth)

    def _inside(self, part: Part, path: str, above: tuple[str, ...]) -> _Extent:
        inner = part.inner() if part.inner is not None and part.shape is Shape.ONE else None
        misfit = _Misfit(f"The field {path} of {self._name}")
        if inner is None or inner.full_name in above or len(above) >= MAX_DEPTH:
            raise misfit
        if inner.full_name not in self._known:
            self._known[inner.full_name] = self.extent(inner, f"{path}.", above)
        found = self._known[inner.full_name]
        if len(above) + found.depth > MAX_DEPTH:
            raise misfit
        return found


def _is_plain(part: Part) -> bool:
    return part.is_text and part.shape is not Shape.MAP


def _response(asked: Asked, reply: View) -> Iterator[Fault]:
    part = reply.parts.get(asked.response_body)
    if part is None:
        yield Fault(
            f"The response body {asked.response_body} is not a field of {reply.name}.", _use(reply)
        )
        return
    for name, other in reply.parts.items():
        if name != asked.response_body and not other.has_default:
            yield Fault(
                f"The response body {asked.response_body} leaves out {name} of {reply.name}, "
                "which has no default.",
                "Give it a default, or answer with the whole message.",
            )
    if asked.streaming and (part.shape is Shape.MAP or part.kind in _OBJECTS):
        yield Fault(
            f"The response body {asked.response_body} of a stream is an object of any names, "
            "which cannot be told from a failure.",
            "Answer with the whole message.",
        )


def _use(view: View) -> str:
    return f"Use one of: {', '.join(view.parts) or '(it has no fields)'}."
