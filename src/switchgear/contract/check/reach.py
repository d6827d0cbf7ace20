"""How a caller reaches an operation: the servers that it is on, and the ways in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from switchgear.contract.check.finding import Found
from switchgear.contract.check.jsonvalues import told
from switchgear.contract.check.refs import Node
from switchgear.contract.check.traffic import found

__all__ = ["compare_schemes", "compare_security", "compare_servers"]


def compare_servers(
    old: Node, new: Node, name: str, around: Node | None = None
) -> Iterator[tuple[str, Found]]:
    """Compare the servers that a document, a path or an operation states itself.

    `around` is what holds where the new one states none.
    """
    if not old["servers"]:
        return
    servers = new["servers"] or (new if around is None else around)["servers"]
    after = {one.text("url").rstrip("/"): one for one in servers.elements()}
    place = servers or new
    for before in old["servers"].elements():
        url = before.text("url")
        subject, now = f"{name} server {url}".strip(), after.get(url.rstrip("/"))
        if now is None:
            message = f"{subject} is not there any more."
            edit = "Serve it there too, or leave an answer that leads on, until nobody calls it."
            yield "SERVER_NO_DELETE", found(place, subject, message, edit)
            continue
        for key, variable in before["variables"].items():
            yield from _variable(variable, now["variables"][key], f"{subject} {key}", now)


def _variable(old: Node, new: Node, name: str, around: Node) -> Iterator[tuple[str, Found]]:
    place, edit = new or around, "Put it back, and add what is new beside it."
    was, is_ = old["default"].value, new["default"].value
    if was != is_:
        message = f"{name}: the default changed from {told(was)} to {told(is_)}."
        yield "SERVER_VARIABLE_CHANGED", found(place, name, message, edit)
    values = _listed_in(new["enum"])
    gone = [one for one in _listed_in(old["enum"]) if values and one not in values]
    if gone:
        message = f"{name} may not be {', '.join(map(told, gone))} any more."
        yield "SERVER_VARIABLE_CHANGED", found(place, name, message, edit)


def _listed_in(node: Node) -> list[Any]:
    return node.value if isinstance(node.value, list) else []


def compare_security(
    old: tuple[Node, Node], new: tuple[Node, Node], name: str
) -> Iterator[tuple[str, Found]]:
    """Compare the ways into an operation, each given with its document before it."""
    before, after = (
        _requirements(operation["security"] or document["security"])
        for document, operation in (old, new)
    )
    for one in before:
        if not any(_satisfies(one, other) for other in after):
            message = f"{name} does not let callers in by {_listed(one)} any more."
            edit = f"Let `security` list {_listed(one)} again, beside what is new."
            yield "SECURITY_NO_DELETE", found(new[1], name, message, edit)


def compare_schemes(old: Node, new: Node) -> Iterator[tuple[str, Found]]:
    """Compare what each way in asks for."""
    before, after = (one["components"]["securitySchemes"] for one in (old, new))
    for name, scheme in before.items():
        other = after[name]
        keys = ("type", "in", "name", "scheme", "openIdConnectUrl")
        changed = [key for key in keys if scheme.text(key) != other.text(key)]
        for flow, told_of in scheme["flows"].items():
            now = other["flows"][flow]
            urls = ("authorizationUrl", "tokenUrl")
            changed += [f"{flow} {key}" for key in urls if told_of.text(key) != now.text(key)]
        if other and changed:
            message = f"The security scheme {name} changed its {' and '.join(changed)}."
            edit = "Leave it, and add a scheme of another name beside it."
            yield "SECURITY_SCHEME_CHANGED", found(other, name, message, edit)


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
