"""What travels in one operation: parameters, bodies, answers, headers, links.

On a path of ours, callers write requests and read responses. In a webhook or a callback it is the
other way round: we write the request, and the receiver answers. So each is compared as `Traffic`
says, and the rules have the same names with WEBHOOK_ or CALLBACK_ before them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from switchgear.contract.check.finding import Found, Severity
from switchgear.contract.check.jsonschema import Direction, SchemaDiff
from switchgear.contract.check.jsonvalues import told
from switchgear.contract.check.refs import Node

__all__ = ["CALLBACKS", "PATHS", "WEBHOOKS", "Traffic", "found"]

_Parameters: TypeAlias = Mapping[tuple[str, str], Node]
"""Each by where it stands and its name; in the path, by its number."""
_FORM: Final = frozenset({"query", "cookie"})
_ENCODING: Final = ("contentType", "style", "explode", "allowReserved")


def found(node: Node, subject: str, message: str, edit: str, *, warn: bool = False) -> Found:
    """Return a finding where a node stands."""
    severity = Severity.WARNING if warn else Severity.ERROR
    return Found(message, edit, node.place, subject, severity=severity)


@dataclass(frozen=True, slots=True)
class Traffic:
    """Who writes what."""

    prefix: str
    request: Direction

    @property
    def _asked(self) -> bool:
        """Whether others write the requests."""
        return self.request is Direction.TAKEN

    def compare(
        self,
        old: tuple[Node, Node],
        new: tuple[Node, Node],
        name: str,
        in_path: tuple[Sequence[str], Sequence[str]] = ((), ()),
    ) -> Iterator[tuple[str, Found]]:
        """Yield rule and finding for two versions of an operation, each with its path before it.

        `in_path` are the names of the parameters in the two paths, in their order there.
        """
        for rule, one in self._compare(old, new, name, in_path):
            yield f"{self.prefix}{rule}", one

    def _compare(
        self,
        old: tuple[Node, Node],
        new: tuple[Node, Node],
        name: str,
        in_path: tuple[Sequence[str], Sequence[str]],
    ) -> Iterator[tuple[str, Found]]:
        before, after = _parameters_of(old, in_path[0]), _parameters_of(new, in_path[1])
        yield from self._parameters(before, after, name, new[1])
        yield from self._body(old[1]["requestBody"], new[1]["requestBody"], name, new[1])
        yield from self._responses(old[1]["responses"], new[1]["responses"], name)

    def _requests(self) -> SchemaDiff:
        return SchemaDiff(self.request, "REQUEST")

    def _answers(self) -> SchemaDiff:
        return SchemaDiff(self.request.other, "RESPONSE")

    def _parameters(
        self, before: _Parameters, after: _Parameters, name: str, around: Node
    ) -> Iterator[tuple[str, Found]]:
        for key, parameter in before.items():
            label = f"{name} {key[0]}.{key[1]}" if key[0] != "path" else f"{name} path"
            now = after.get(key)
            needed = parameter["required"].value is True
            if now is None:
                what = "what callers send there is passed over" if self._asked else "it is not sent"
                message = f"{label} was deleted: {what}."
                edit = (
                    "Take it again, and mark it as deprecated." if self._asked else "Send it again."
                )
                warn = self._asked or not needed
                yield "PARAMETER_NO_DELETE", found(around, label, message, edit, warn=warn)
                continue
            needs = now["required"].value is True
            if self._asked and needs and not needed:
                message = f"{label} was optional and is required."
                edit = "Let it be optional, with a default."
                yield "PARAMETER_REQUIRED", found(now, label, message, edit)
            if not self._asked and needed and not needs:
                message = f"{label} was always sent and may be absent now."
                yield "PARAMETER_OPTIONAL", found(now, label, message, "Send it always.")
            for key_, was, is_ in _styles(parameter, now):
                message = f"{label}: {key_} changed from {told(was)} to {told(is_)}."
                yield "PARAMETER_SAME_STYLE", found(now, label, message, "Put it back.")
            yield from self._requests().compare(_schema(parameter), _schema(now), label)
        for key, parameter in after.items():
            needs = parameter["required"].value is True and key[0] != "path"
            if self._asked and needs and key not in before:
                label = f"{name} {key[0]}.{key[1]}"
                message = f"{label} is new and required."
                edit = "Let it be optional, with a default."
                yield "PARAMETER_REQUIRED_ADDED", found(parameter, label, message, edit)

    def _body(self, old: Node, new: Node, name: str, around: Node) -> Iterator[tuple[str, Found]]:
        label = f"{name} request body"
        needed, needs = (one["required"].value is True for one in (old, new))
        if self._asked and needs and not needed:
            message = (
                f"{label} was not required and is." if old else f"{label} is new and required."
            )
            yield "REQUEST_BODY_REQUIRED", found(new, label, message, "Let it be optional.")
        if not self._asked and new and needed and not needs:
            message = f"{label} was always sent and may be absent now."
            yield "REQUEST_BODY_OPTIONAL", found(new, label, message, "Send it always.")
        if old and not new:
            what = "what callers send is passed over" if self._asked else "it is not sent"
            message = f"{label} was deleted: {what}."
            edit = "Take it again." if self._asked else "Send it again."
            warn = self._asked
            yield "REQUEST_BODY_NO_DELETE", found(around, label, message, edit, warn=warn)
        if old and new:
            yield from self._request_media(old["content"], new, label)

    def _request_media(self, old: Node, new: Node, label: str) -> Iterator[tuple[str, Found]]:
        for media, before in old.items():
            after = new["content"][media]
            if after:
                yield from self._requests().compare(before["schema"], after["schema"], label)
                yield from self._encodings(before["encoding"], after["encoding"], label)
            elif self._asked:
                message = f"{label} is not taken as {media} any more."
                edit = f"Take {media} too."
                yield "REQUEST_MEDIA_TYPE_NO_DELETE", found(new, label, message, edit)
        for media, _ in new["content"].items() if not self._asked else ():
            if not old[media]:
                message = f"{label} may be sent as {media} now, which receivers do not know."
                edit = "Send what was declared before."
                yield "REQUEST_MEDIA_TYPE_ADDED", found(new, label, message, edit)

    def _encodings(self, old: Node, new: Node, label: str) -> Iterator[tuple[str, Found]]:
        """Compare how each part of a form is written."""
        for part, before in old.items():
            for key in _ENCODING:
                was, now = before[key].value, new[part][key].value
                if was is not None and was != now:
                    message = f"{label}: {key} of {part} changed from {told(was)} to {told(now)}."
                    edit = f"Write {key}: {told(was)} again."
                    node = new[part] or new
                    yield "REQUEST_ENCODING_CHANGED", found(node, label, message, edit)

    def _responses(self, old: Node, new: Node, name: str) -> Iterator[tuple[str, Found]]:
        for status, before in old.items():
            label = f"{name} response {status}"
            after = _answer(new, status)
            if not after:
                good = status.startswith("2")
                verb = "does not answer with" if self._asked else "does not take the answer"
                message = f"{name} {verb} {status} any more."
                edit = f"Put {status} back." if good else "Check that nobody relies on it."
                yield "RESPONSE_NO_DELETE", found(new, label, message, edit, warn=not good)
                continue
            yield from self._headers(before, after, label)
            yield from self._response_media(before["content"], after, label)
            yield from _links(before["links"], after, label)
        for status, node in new.items() if self._asked else ():
            if not _answer(old, status) and not status.startswith("2"):
                message = f"{name} may answer with {status} now, which callers do not know."
                edit = "Answer with a status that is declared, or declare `default` first."
                label = f"{name} response {status}"
                yield "RESPONSE_ADDED", found(node, label, message, edit, warn=True)

    def _headers(self, old: Node, new: Node, label: str) -> Iterator[tuple[str, Found]]:
        for header, before in old["headers"].items():
            name, now = f"{label} {header}", new["headers"][header]
            if not now:
                if self._asked:
                    message = f"{label}: the header {header} was deleted."
                    yield "RESPONSE_HEADER_NO_DELETE", found(new, label, message, "Send it again.")
                continue
            needed, needs = (one["required"].value is True for one in (before, now))
            if self._asked and needed and not needs:
                message = f"{name} was always there and may be absent now."
                yield "RESPONSE_HEADER_OPTIONAL", found(now, name, message, "Send it always.")
            if not self._asked and needs and not needed:
                message = f"{name} was optional and is required."
                yield "RESPONSE_HEADER_REQUIRED", found(now, name, message, "Let it be optional.")
            yield from self._answers().compare(_schema(before), _schema(now), name)
        for header, now in new["headers"].items() if not self._asked else ():
            if now["required"].value is True and not old["headers"][header]:
                name = f"{label} {header}"
                message = f"{name} is new and required."
                yield "RESPONSE_HEADER_REQUIRED", found(now, name, message, "Let it be optional.")

    def _response_media(self, old: Node, new: Node, label: str) -> Iterator[tuple[str, Found]]:
        for media, before in old.items():
            after = new["content"][media]
            if after:
                yield from self._answers().compare(before["schema"], after["schema"], label)
                continue
            verb = "given" if self._asked else "taken"
            message = f"{label} is not {verb} as {media} any more."
            yield "RESPONSE_MEDIA_TYPE_NO_DELETE", found(new, label, message, f"Add {media} again.")


PATHS: Final = Traffic("", Direction.TAKEN)
CALLBACKS: Final = Traffic("CALLBACK_", Direction.GIVEN)
WEBHOOKS: Final = Traffic("WEBHOOK_", Direction.GIVEN)


def _parameters_of(nodes: tuple[Node, Node], in_path: Sequence[str]) -> _Parameters:
    """Return the parameters of a path and an operation; those in the path by their order there."""
    seen: dict[tuple[str, str], Node] = {}
    for one in (*nodes[0]["parameters"].elements(), *nodes[1]["parameters"].elements()):
        seen[one.text("in"), one.text("name")] = one
    order = list(dict.fromkeys([*in_path, *(name for kind, name in seen if kind == "path")]))
    return {
        (kind, str(order.index(name)) if kind == "path" else name): one
        for (kind, name), one in seen.items()
    }


def _styles(old: Node, new: Node) -> Iterator[tuple[str, Any, Any]]:
    """Yield what differs in how a value is spelled, with what is meant where nothing is said."""
    for key in ("style", "explode", "allowReserved"):
        was, now = (_style(one, key) for one in (old, new))
        if was != now:
            yield key, was, now


def _style(parameter: Node, key: str) -> Any:
    stated = parameter[key].value
    if stated is not None:
        return stated
    if key == "style":
        return "form" if parameter.text("in") in _FORM else "simple"
    return key == "explode" and _style(parameter, "style") == "form"


def _schema(node: Node) -> Node:
    """Return the schema of a parameter or header, which may be said of its one media type."""
    media = [one for _, one in node["content"].items()]
    return media[0]["schema"] if media and not node["schema"] else node["schema"]


def _answer(responses: Node, status: str) -> Node:
    """Return what is said of a status: by itself, by its class (`4XX`), or of all failures."""
    classed = responses[f"{status[:1]}XX"]
    other = classed if classed or status.startswith("2") else responses["default"]
    return responses[status] or other


def _links(old: Node, new: Node, label: str) -> Iterator[tuple[str, Found]]:
    """Compare what a response says of where to go on."""
    for link, before in old.items():
        name, now = f"{label} link {link}", new["links"][link]
        if not now:
            message = f"{name} was deleted."
            yield "RESPONSE_LINK_NO_DELETE", found(new, name, message, "Put it back.")
            continue
        for key in ("operationId", "operationRef", "parameters", "requestBody"):
            was, is_ = before[key].value, now[key].value
            if was != is_:
                message = f"{name}: {key} changed from {told(was)} to {told(is_)}."
                edit = "Put it back, and add a link of another name."
                yield "RESPONSE_LINK_CHANGED", found(now, name, message, edit)
