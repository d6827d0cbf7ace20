"""From a request over REST to a message, and from a reply to a body, as a route has it.

| where | what                                                                                  |
| ----- | ------------------------------------------------------------------------------------- |
| path  | the fields that the template names                                                    |
| body  | the rest, one field, or nothing                                                       |
| query | all others, where the body is not the rest; `?book.title=Dune` for a field of a field |

The path wins over the body. A query parameter is called as in JSON or as in protobuf; what is not
known is ignored, as it is in a body.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl

import msgspec

from switchgear.contract.codec import from_builtins, from_json, from_parts, to_json
from switchgear.contract.declaration import Field, fields_of
from switchgear.contract.kinds import Shape
from switchgear.contract.message import Message
from switchgear.contract.route import Route, lead
from switchgear.contract.service import Operation
from switchgear.model.outcome import Rejected
from switchgear.serve.failure import encode

__all__ = ["Transcoding"]

_MAX_PARAMETERS: Final = 32 * 1024
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class _Slot(NamedTuple):
    """Where the value of a query parameter goes: the names in JSON that lead there."""

    path: tuple[str, ...]
    is_list: bool


class Transcoding:
    """One route of an operation, compiled for a server."""

    __slots__ = (
        *("_answer", "_body", "_fields", "_operation", "_paths", "_request", "_slots", "_taken"),
        *("_wanted", "route"),
    )

    def __init__(self, operation: Operation, route: Route) -> None:
        self.route = route
        self._operation = operation
        self._request = operation.request
        paths = {one.name: _path(operation.request, one.fields) for one in route.template.variables}
        self._paths = {} if all(path == (name,) for name, path in paths.items()) else paths
        """Where the value of a variable goes, unless all have the names of fields in JSON."""
        self._body = "" if route.body in {"", "*"} else _path(operation.request, (route.body,))[0]
        self._answer = ""
        if route.response_body:
            (self._answer,) = _path(operation.reply, (route.response_body,))
        self._fields: dict[type[Message], Mapping[str, Field]] = {}
        self._taken = {*route.parameters, route.body}
        self._slots: dict[str, _Slot | None] = {}
        self._wanted: list[tuple[str, ...]] = []
        """Lists, and messages with nothing else in them, that a query says nothing of if empty."""
        if route.body != "*":
            self._slots = {name: self._slot(name) for name in self._named(operation.request)}
            self._wanted += _wanted(operation.request, self._taken, (), "")

    def request(self, parameters: Mapping[str, str], query: bytes, body: bytes) -> Message:
        """Build the message; raises `InvalidMessage` or `Rejected`."""
        given = self._placed(parameters) if self._paths else parameters
        if self.route.body == "*":
            if given:
                return from_parts(self._request, body or b"{}", given)
            return from_json(self._request, body or b"{}")
        values: dict[str, Any] = self._query(query) if query else {}
        for path in self._wanted:
            _fill(values, path)
        _lay(values, given)
        if self._body and body:
            return from_parts(self._request, body, values, body=self._body)
        return from_builtins(self._request, values)

    def answer(self, reply: Message) -> bytes:
        """Return the body that answers with a reply; raises as `encode` does."""
        encoded = encode(to_json, reply, self._operation)
        if not self._answer:
            return encoded
        return bytes(_members(encoded).get(self._answer, b"null"))

    def _placed(self, parameters: Mapping[str, str]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for name, value in parameters.items():
            *above, last = self._paths[name]
            place = made
            for one in above:
                place = place.setdefault(one, {})
            place[last] = value
        return made

    def _slot(self, name: str) -> _Slot | None:
        """Return where a parameter goes, each step of whose name is as in JSON or as in protobuf.

        None for one that is not known, or is said elsewhere.
        """
        cls, path, wire, field = self._request, list[str](), "", None
        for step in name.split("."):
            if field is not None and field.kind.name != "message":
                return None
            field = self._named(cls).get(step)
            if field is None:
                return None
            wire = f"{wire}.{field.wire}" if wire else field.wire
            if wire in self._taken:
                return None
            path.append(field.json)
            cls = field.kind.python
        if field is None or field.kind.name == "message":
            return None
        return _Slot(tuple(path), field.type.shape is Shape.LIST)

    def _named(self, cls: type[Message]) -> Mapping[str, Field]:
        """Return the fields of a message by each name that a query may call them by."""
        if cls not in self._fields:
            fields = fields_of(cls).values()
            self._fields[cls] = {
                name: one for one in fields for name in (one.json, one.wire, *one.others)
            }
        return self._fields[cls]

    def _query(self, query: bytes) -> dict[str, Any]:
        try:
            pairs = parse_qsl(
                query.decode("ascii"),
                keep_blank_values=True,
                errors="strict",
                # a server bounds the URL, ours at 64 KiB
                max_num_fields=_MAX_PARAMETERS,
            )
        except ValueError:
            raise Rejected("the query is not UTF-8, or has too many parameters.") from None
        values: dict[str, Any] = {}
        for name, value in pairs:
            slot = self._slot(name) if "." in name else self._slots.get(name)
            if slot is None:
                continue
            place = values
            for one in slot.path[:-1]:
                place = place.setdefault(one, {})
            last = slot.path[-1]
            if slot.is_list:
                place.setdefault(last, []).append(value)
            elif last in place:
                raise Rejected("the parameter is given twice.", pointer=f"/{'/'.join(slot.path)}")
            else:
                place[last] = value
        return values


def _path(cls: type[Message], fields: Sequence[str]) -> tuple[str, ...]:
    return tuple(one.json for one in lead(cls, fields))


def _wanted(
    cls: type[Message], taken: set[str], path: tuple[str, ...], prefix: str
) -> Iterator[tuple[str, ...]]:
    """Yield the fields without a default that leave no trace in a query when they are empty."""
    for field in fields_of(cls).values():
        name, here = prefix + field.wire, (*path, field.json)
        if name in taken or field.has_default:
            continue
        if field.kind.name == "message":
            yield (*here, "")
            yield from _wanted(field.kind.python, taken, here, f"{name}.")
        elif field.type.shape is Shape.LIST:
            yield here


def _fill(values: dict[str, Any], path: tuple[str, ...]) -> None:
    """Put an empty list at a path, or an empty message where the path ends with no name."""
    for one in path[:-1]:
        values = values.setdefault(one, {})
    if path[-1]:
        values.setdefault(path[-1], [])


def _lay(values: dict[str, Any], given: Mapping[str, Any]) -> None:
    """Put what the path says over what the query says."""
    for name, value in given.items():
        if isinstance(value, Mapping):
            _lay(values.setdefault(name, {}), value)
        else:
            values[name] = value
