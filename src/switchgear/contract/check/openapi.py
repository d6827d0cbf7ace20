"""Two OpenAPI 3 documents: what callers of the old one rely on.

Paths are paired by their shape (the names of parameters do not count), parameters by place and
name, bodies and responses by media type. What travels in requests is compared as taken, what
travels in responses as given (see `jsonschema`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from switchgear.contract.check.documents import Document
from switchgear.contract.check.finding import Found, Severity
from switchgear.contract.check.jsonschema import Direction, SchemaDiff, told
from switchgear.contract.check.refs import Node
from switchgear.errors import UnreadableContract

__all__ = ["compare_openapi"]

_VERBS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_PATTERN: Final = "x-switchgear-pattern"


def compare_openapi(old: Document, new: Document) -> Iterator[tuple[str, Found]]:
    """Yield rule and finding for each change that breaks callers of `old`.

    Raises `UnreadableContract` for a document of another version, and for a `$ref` that leads
    nowhere, out of the document, or back to itself.
    """
    for one in (old, new):
        version = Node.root(one).text("openapi")
        if not version.startswith("3."):
            raise UnreadableContract(
                f"The version of OpenAPI is {version or 'not stated'}.",
                where=one.name,
                fix="3.0 and 3.1 are read; convert older documents.",
            )
    yield from _Documents(Node.root(old), Node.root(new)).compare()


class _Documents:
    def __init__(self, old: Node, new: Node) -> None:
        self._old = old
        self._new = new

    def compare(self) -> Iterator[tuple[str, Found]]:
        after = {_shape(path): (path, node) for path, node in self._new["paths"].items()}
        for path, before in self._old["paths"].items():
            found = after.get(_shape(path))
            if found is None:
                edit = f"Serve {path} again, as deprecated, until nobody calls it."
                message = f"The path {path} was deleted."
                yield "PATH_NO_DELETE", _found(self._new["paths"], path, message, edit)
                continue
            for verb in _VERBS:
                if before[verb]:
                    yield from self._operation(verb, path, before, found[1])
        yield from self._schemes()

    def _operation(
        self, verb: str, path: str, before: Node, after: Node
    ) -> Iterator[tuple[str, Found]]:
        name = f"{verb.upper()} {path}"
        old, new = before[verb], after[verb]
        if not new:
            edit = f"Serve {name} again, as deprecated, until nobody calls it."
            yield "OPERATION_NO_DELETE", _found(after, name, f"{name} was deleted.", edit)
            return
        yield from self._pattern(old, new, name)
        yield from _parameters((before, old), (after, new), name)
        yield from _body(old["requestBody"], new["requestBody"], name, new)
        yield from _responses(old["responses"], new["responses"], name)
        yield from self._security(old, new, name)

    def _pattern(self, old: Node, new: Node, name: str) -> Iterator[tuple[str, Found]]:
        before, after = old.text(_PATTERN), new.text(_PATTERN)
        if before and after and before != after:
            message = f"{name} was a {before} and is a {after}."
            edit = (
                f"Serve both side by side: leave this one as a {before}, marked as deprecated, and "
                f"put the {after} on a path of its own until the last caller has moved."
            )
            yield "PATTERN_CHANGED", _found(new, name, message, edit)
        before, after = old.text("operationId"), new.text("operationId")
        if before and before != after:
            message = f"{name}: the operationId changed from {before} to {after or 'none'}."
            edit = f"Write operationId: {before} again: generated clients are called by it."
            yield "OPERATION_SAME_ID", _found(new, name, message, edit, warn=True)

    def _security(self, old: Node, new: Node, name: str) -> Iterator[tuple[str, Found]]:
        before = _requirements(old["security"] or self._old["security"])
        after = _requirements(new["security"] or self._new["security"])
        for one in before:
            if not any(_satisfies(one, other) for other in after):
                message = f"{name} does not let callers in by {_listed(one)} any more."
                edit = f"Let `security` list {_listed(one)} again, beside what is new."
                yield "SECURITY_NO_DELETE", _found(new, name, message, edit)

    def _schemes(self) -> Iterator[tuple[str, Found]]:
        before, after = (one["components"]["securitySchemes"] for one in (self._old, self._new))
        for name, scheme in before.items():
            other = after[name]
            keys = ("type", "in", "name", "scheme", "openIdConnectUrl")
            changed = [key for key in keys if scheme.text(key) != other.text(key)]
            if other and changed:
                message = f"The security scheme {name} changed its {' and '.join(changed)}."
                edit = "Leave it, and add a scheme of another name beside it."
                yield "SECURITY_SCHEME_CHANGED", _found(other, name, message, edit)


def _shape(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", path)


def _found(node: Node, subject: str, message: str, edit: str, *, warn: bool = False) -> Found:
    severity = Severity.WARNING if warn else Severity.ERROR
    return Found(message, edit, node.place, subject, severity=severity)


def _parameters(
    old: tuple[Node, Node], new: tuple[Node, Node], name: str
) -> Iterator[tuple[str, Found]]:
    before, after = _parameters_of(old), _parameters_of(new)
    for key, parameter in before.items():
        label = f"{name} {key[0]}.{key[1]}" if key[0] != "path" else f"{name} path"
        now = after.get(key)
        if now is None:
            message = f"{label} was deleted: what callers send there is passed over."
            edit = "Take it again, and mark it as deprecated."
            yield "PARAMETER_NO_DELETE", _found(new[1], label, message, edit, warn=True)
            continue
        if now["required"].value is True and parameter["required"].value is not True:
            message = f"{label} was optional and is required."
            edit = "Let it be optional, with a default."
            yield "PARAMETER_REQUIRED", _found(now, label, message, edit)
        for style in ("style", "explode"):
            if parameter[style].value != now[style].value:
                message = (
                    f"{label}: {style} changed from {told(parameter[style].value)} to "
                    f"{told(now[style].value)}."
                )
                yield "PARAMETER_SAME_STYLE", _found(now, label, message, "Put it back.")
        diff = SchemaDiff(Direction.TAKEN, "REQUEST")
        yield from diff.compare(parameter["schema"], now["schema"], label)
    for key, parameter in after.items():
        if key not in before and parameter["required"].value is True and key[0] != "path":
            label = f"{name} {key[0]}.{key[1]}"
            message = f"{label} is new and required."
            edit = "Let it be optional, with a default."
            yield "PARAMETER_REQUIRED_ADDED", _found(parameter, label, message, edit)


def _parameters_of(nodes: tuple[Node, Node]) -> Mapping[tuple[str, str], Node]:
    """Return the parameters of a path and an operation; those in the path by their order."""
    found: dict[tuple[str, str], Node] = {}
    for one in (*nodes[0]["parameters"].elements(), *nodes[1]["parameters"].elements()):
        found[one.text("in"), one.text("name")] = one
    in_path = [key for key in found if key[0] == "path"]
    numbered = {key: ("path", str(index)) for index, key in enumerate(in_path)}
    return {numbered.get(key, key): one for key, one in found.items()}


def _body(old: Node, new: Node, name: str, around: Node) -> Iterator[tuple[str, Found]]:
    label = f"{name} request body"
    if new and new["required"].value is True and old["required"].value is not True:
        message = f"{label} was not required and is." if old else f"{label} is new and required."
        yield "REQUEST_BODY_REQUIRED", _found(new, label, message, "Let it be optional.")
    if old and not new:
        message = f"{label} was deleted: what callers send is passed over."
        edit = "Take it again."
        yield "REQUEST_BODY_NO_DELETE", _found(around, label, message, edit, warn=True)
    if not (old and new):
        return
    for media, before in old["content"].items():
        after = new["content"][media]
        if not after:
            message = f"{label} is not taken as {media} any more."
            edit = f"Take {media} too."
            yield "REQUEST_MEDIA_TYPE_NO_DELETE", _found(new, label, message, edit)
            continue
        diff = SchemaDiff(Direction.TAKEN, "REQUEST")
        yield from diff.compare(before["schema"], after["schema"], label)


def _responses(old: Node, new: Node, name: str) -> Iterator[tuple[str, Found]]:
    for status, before in old.items():
        label = f"{name} response {status}"
        after = new[status]
        if not after:
            good = status.startswith("2")
            message = f"{name} does not answer with {status} any more."
            edit = f"Answer with {status} again." if good else "Check that no caller waits for it."
            yield "RESPONSE_NO_DELETE", _found(new, label, message, edit, warn=not good)
            continue
        for header, value in before["headers"].items():
            now = after["headers"][header]
            if not now:
                message = f"{label}: the header {header} was deleted."
                edit = "Send it again."
                yield "RESPONSE_HEADER_NO_DELETE", _found(after, label, message, edit)
                continue
            diff = SchemaDiff(Direction.GIVEN, "RESPONSE")
            yield from diff.compare(value["schema"], now["schema"], f"{label} {header}")
        for media, content in before["content"].items():
            now = after["content"][media]
            if not now:
                message = f"{label} is not given as {media} any more."
                edit = f"Give {media} too."
                yield "RESPONSE_MEDIA_TYPE_NO_DELETE", _found(after, label, message, edit)
                continue
            diff = SchemaDiff(Direction.GIVEN, "RESPONSE")
            yield from diff.compare(content["schema"], now["schema"], label)
    for status, node in new.items():
        if not old[status] and not status.startswith("2") and not old["default"]:
            message = f"{name} may answer with {status} now, which callers do not know."
            edit = "Answer with a status that is declared, or declare `default` first."
            yield (
                "RESPONSE_ADDED",
                _found(node, f"{name} response {status}", message, edit, warn=True),
            )


def _requirements(node: Node) -> list[Mapping[str, frozenset[str]]]:
    """Return the ways in: each is a set of schemes with scopes. None stated: anybody may."""
    if not isinstance(node.value, list) or not node.value:
        return [{}]
    return [
        {
            scheme: frozenset(map(str, scopes if isinstance(scopes, list) else ()))
            for scheme, scopes in one.items()
        }
        for one in node.value
        if isinstance(one, dict)
    ]


def _satisfies(held: Mapping[str, frozenset[str]], asked: Mapping[str, frozenset[str]]) -> bool:
    """Whether a caller who holds one way in may enter by another."""
    return all(scheme in held and scopes <= held[scheme] for scheme, scopes in asked.items())


def _listed(one: Mapping[str, frozenset[str]]) -> str:
    parts = [
        f"{scheme} ({', '.join(sorted(scopes))})" if scopes else scheme
        for scheme, scopes in one.items()
    ]
    return " and ".join(parts) or "nothing"
