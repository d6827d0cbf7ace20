"""Two OpenAPI 3 documents: what callers of the old one rely on.

Paths are paired by their shape (the names of parameters do not count; see `paths`), parameters by
place and name, bodies and responses by media type (see `traffic`). What travels in requests is
compared as taken, what travels in responses as given (see `jsonschema`); in webhooks and callbacks
it is the other way round.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from switchgear.contract.check.documents import Document
from switchgear.contract.check.finding import Found
from switchgear.contract.check.paths import VERBS, names_in, partners_of
from switchgear.contract.check.reach import compare_schemes, compare_security, compare_servers
from switchgear.contract.check.refs import Node
from switchgear.contract.check.traffic import CALLBACKS, PATHS, WEBHOOKS, found
from switchgear.errors import UnreadableContract

__all__ = ["compare_openapi"]

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
        for path, partners in partners_of(self._old["paths"], self._new["paths"]).items():
            yield from self._path(path, partners)
        yield from self._called("webhooks", self._old, self._new, "")
        yield from compare_servers(self._old, self._new, "")
        yield from compare_schemes(self._old, self._new)

    def _path(self, path: str, partners: Mapping[str, str]) -> Iterator[tuple[str, Found]]:
        old, new = self._old["paths"], self._new["paths"]
        before = old[path]
        if not partners and path not in new:
            edit = f"Serve {path} again, as deprecated, until nobody calls it."
            yield "PATH_NO_DELETE", found(new, path, f"The path {path} was deleted.", edit)
            return
        for other in dict.fromkeys(partners.values()):
            yield from compare_servers(before, new[other], path, self._new)
            yield from _moved(path, other, new[other])
        for verb in VERBS:
            if before[verb]:
                other = partners.get(verb, "")
                yield from self._operation(verb, path, other, (before, new[other]))

    def _operation(
        self, verb: str, path: str, other: str, items: tuple[Node, Node]
    ) -> Iterator[tuple[str, Found]]:
        name = f"{verb.upper()} {path}"
        before, after = items
        old, new = before[verb], after[verb]
        if not new:
            edit = f"Serve {name} again, as deprecated, until nobody calls it."
            place = after or self._new["paths"]
            yield "OPERATION_NO_DELETE", found(place, name, f"{name} was deleted.", edit)
            return
        yield from self._pattern(old, new, name)
        names = (names_in(path), names_in(other))
        yield from PATHS.compare((before, old), (after, new), name, names)
        yield from compare_security((self._old, old), (self._new, new), name)
        yield from compare_servers(old, new, name, after if after["servers"] else self._new)
        for callback in old["callbacks"]:
            yield from self._called(callback, old["callbacks"], new["callbacks"], f"{name} ")

    def _called(self, key: str, old: Node, new: Node, around: str) -> Iterator[tuple[str, Found]]:
        """Compare what we call: webhooks by name, the calls of one callback by their address."""
        traffic = CALLBACKS if around else WEBHOOKS
        kind = "callback" if around else "webhook"
        before, after = dict(old[key].items()), dict(new[key].items())
        if around and len(before) == len(after) == 1:  # the expression of its address changed
            after = dict(zip(before, after.values(), strict=True))
        for address, item in before.items():
            name = f"{around}{kind} {key if around else address}"
            now = after.get(address)
            for verb in VERBS:
                if not item[verb]:
                    continue
                if now is None or not now[verb]:
                    message = f"{name} is not called any more ({verb.upper()})."
                    edit = "Call it until nobody waits for it."
                    place = new if now is None else now
                    yield f"{traffic.prefix}NO_DELETE", found(place, name, message, edit)
                    continue
                label = f"{name} {verb.upper()}"
                yield from traffic.compare((item, item[verb]), (now, now[verb]), label)

    def _pattern(self, old: Node, new: Node, name: str) -> Iterator[tuple[str, Found]]:
        before, after = old.text(_PATTERN), new.text(_PATTERN)
        if before and after and before != after:
            message = f"{name} was a {before} and is a {after}."
            edit = (
                f"Serve both side by side: leave this one as a {before}, marked as deprecated, and "
                f"put the {after} on a path of its own until the last caller has moved."
            )
            yield "PATTERN_CHANGED", found(new, name, message, edit)
        before, after = old.text("operationId"), new.text("operationId")
        if before and before != after:
            message = f"{name}: the operationId changed from {before} to {after or 'none'}."
            edit = f"Write operationId: {before} again: generated clients are called by it."
            yield "OPERATION_SAME_ID", found(new, name, message, edit, warn=True)


def _moved(path: str, other: str, place: Node) -> Iterator[tuple[str, Found]]:
    """Yield the parameters that have changed places: `/{a}/{b}` and `/{b}/{a}`."""
    before, after = names_in(path), names_in(other)
    moved = [one for at, one in enumerate(before) if one in after and after.index(one) != at]
    if moved:
        message = f"{path} is {other} now: {' and '.join(moved)} stand in another place."
        edit = f"Write {path} again: who calls it by the old one sends each value in its old place."
        yield "PATH_PARAMETER_MOVED", found(place, path, message, edit)
