"""What `google.api.http` and `idempotency_level` say of a method, as arguments of its decorator.

Each binding that keeps the rules of routes is one. What does not is kept for the export, with the
whole rule, and told at the top of the module with the reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from switchgear.contract.bindings import bindings_of, fill_rule
from switchgear.contract.fitting import Asked, Part, View, fault
from switchgear.contract.importer.options import Left
from switchgear.contract.importer.types import is_map, is_plain, text
from switchgear.contract.kinds import Shape
from switchgear.contract.route import Binding
from switchgear.contract.template import template_of
from switchgear.model.edge import Pattern

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

__all__ = ["Declared"]

_NO_SIDE_EFFECTS, _IDEMPOTENT = 1, 2
_KINDS: Final = {
    "google.protobuf.Struct": "struct",
    "google.protobuf.Value": "value",
    "google.protobuf.ListValue": "list_value",
    "google.protobuf.Any": "any",
    "google.protobuf.FieldMask": "field_mask",
}
"""What is a message in protobuf, and no message in Python; see `kinds`."""


class Declared:
    """The methods of one service, one after another."""

    def __init__(self, unserved: Left) -> None:
        self._unserved = unserved
        self._taken: dict[str, str] = {}

    def pattern(self, method: MethodDescriptor, proto: Any) -> tuple[str, list[str]]:
        """Return `query` or `command`, and what is given to it; note bindings that are no routes.

        A method that says nothing of its effects is a query if it is a GET, else a command.
        """
        from google.protobuf import text_format  # noqa: PLC0415 - an extra

        rule = _rule(method)
        level = proto.options.idempotency_level
        streams = proto.client_streaming or proto.server_streaming
        verb = rule.WhichOneof("pattern") if rule is not None else None
        reads = level == _NO_SIDE_EFFECTS or (not level and verb == "get")
        pattern = Pattern.QUERY if reads else Pattern.COMMAND
        arguments: list[str] = []
        if rule is not None:
            routes: list[Binding] = []
            for one in bindings_of(rule):
                reason = _reason(one, pattern, method, proto) or self._other(one, method)
                if reason:
                    self._unserved.add(f"{one.text} of {method.full_name}: {reason}")
                else:
                    routes.append(one)
            arguments += [_source(one) for one in routes]
            said = type(rule)()
            fill_rule(said, routes)
            if said != rule:
                arguments.append(f"http={text_format.MessageToString(rule, as_one_line=True)!r}")
        if level == _IDEMPOTENT:
            arguments.append('level="idempotent"' if streams else "keyed=True")
        elif not level and reads:
            arguments.append('level="unknown"')
        return str(pattern), arguments

    def _other(self, one: Binding, method: MethodDescriptor) -> str:
        """Return that another binding of the service has the same addresses; empty: none has."""
        shape = f"{one.method} {template_of(one.path).shape}"
        if shape in self._taken:
            return f"{self._taken[shape]} has the same addresses."
        self._taken[shape] = method.name
        return ""


def _source(one: Binding) -> str:
    """Return Python that says a binding, as an argument of `query` or `command`."""
    said = [text(one.text)]
    if one.given_body != Binding(one.text).given_body:
        said.append(f"body={text(one.given_body)}")
    if one.response_body:
        said.append(f"response_body={text(one.response_body)}")
    return said[0] if len(said) == 1 else f"route({', '.join(said)})"


def _rule(method: MethodDescriptor) -> Any:
    for field, value in method.GetOptions().ListFields():
        if field.full_name == "google.api.http":
            return value
    return None


def _reason(one: Binding, pattern: Pattern, method: MethodDescriptor, proto: Any) -> str:
    """Return why a binding is no route; empty: it is one."""
    if proto.client_streaming:
        return "It takes a stream, and one HTTP request carries one message."
    try:
        template = template_of(one.path)
    except ValueError as error:
        return f"{error}."
    asked = Asked(
        one.method,
        template,
        one.given_body,
        one.response_body,
        pattern,
        streaming=proto.server_streaming,
    )
    found = fault(asked, _view(method.input_type), _view(method.output_type), alone=False)
    return found.what if found is not None else ""


def _view(message: Descriptor) -> View:
    parts = {one.name: _part(one) for one in message.fields}
    return View(message.name, message.full_name, parts, is_foreign=True)


def _part(field: FieldDescriptor) -> Part:
    message = field.message_type
    kind = "string" if field.type == field.TYPE_STRING else "scalar"
    is_text = is_plain(field)
    is_message = not is_text and message is not None and not is_map(field)
    if message is not None and message.full_name in _KINDS:
        kind = _KINDS[message.full_name]
        is_text, is_message = kind == "field_mask", False
    return Part(
        kind=kind,
        is_text=is_text and not is_map(field),
        shape=Shape.MAP if is_map(field) else Shape.LIST if field.is_repeated else Shape.ONE,
        has_default=not field.is_required,
        inner=(lambda: _view(message)) if is_message and message is not None else None,
    )
