"""What `google.api.http` and `idempotency_level` say of a method, as arguments of its decorator."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from switchgear.contract.bindings import bindings_of
from switchgear.contract.importer.types import is_map, is_plain

if TYPE_CHECKING:
    from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor

__all__ = ["declared_pattern"]

_VERBS: Final = {
    "query": ("GET", "POST"),
    "command": ("POST", "PUT", "PATCH", "DELETE"),
}
_BODILESS: Final = ("GET", "DELETE")
_NO_SIDE_EFFECTS, _IDEMPOTENT = 1, 2


def declared_pattern(method: MethodDescriptor, proto: Any) -> tuple[str, list[str]]:
    """Return `query` or `command`, and what is given to it.

    A method that says nothing of its effects is a query if it is a GET, and a command otherwise.
    """
    from google.protobuf import text_format  # noqa: PLC0415 - an extra

    rule = _rule(method)
    level = proto.options.idempotency_level
    streams = proto.client_streaming or proto.server_streaming
    verb = rule.WhichOneof("pattern") if rule is not None else None
    pattern = "query" if level == _NO_SIDE_EFFECTS or (not level and verb == "get") else "command"
    arguments: list[str] = []
    if rule is not None:
        fitting = (one for one in bindings_of(rule) if _fits(one, pattern, method, proto))
        route = next(fitting, None)
        if route is not None:
            arguments.append(f'"{route}"')
        if route is None or not _says_all(route, rule):
            arguments.append(f"http={text_format.MessageToString(rule, as_one_line=True)!r}")
    if level == _IDEMPOTENT:
        arguments.append('level="idempotent"' if streams else "keyed=True")
    elif not level and pattern == "query":
        arguments.append('level="unknown"')
    return pattern, arguments


def _rule(method: MethodDescriptor) -> Any:
    for field, value in method.GetOptions().ListFields():
        if field.full_name == "google.api.http":
            return value
    return None


def _says_all(route: str, rule: Any) -> bool:
    """Whether a route says all that the rule says."""
    verb, _, path = route.partition(" ")
    said = {field.name for field, _ in rule.ListFields()}
    return said <= {verb.lower(), "body"} and getattr(rule, verb.lower()) == path


def _fits(route: str, pattern: str, method: MethodDescriptor, proto: Any) -> bool:
    """Whether a method keeps the rules of routes (see `route`)."""
    verb, _, path = route.partition(" ")
    if verb not in _VERBS[pattern] or proto.client_streaming:
        return False
    fields = method.input_type.fields_by_name
    parameters = re.findall(r"\{(\w+)\}", path)
    if len(set(parameters)) != len(parameters):
        return False
    if not all(name in fields and _is_parameter(fields[name]) for name in parameters):
        return False
    return verb not in _BODILESS or all(is_plain(field) for field in fields.values())


def _is_parameter(field: FieldDescriptor) -> bool:
    absent_is_none = field.has_presence and not (field.is_required or field.has_default_value)
    return is_plain(field) and not is_map(field) and not field.is_repeated and not absent_is_none
