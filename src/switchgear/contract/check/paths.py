"""Which operation of one OpenAPI document is which of another.

Names of parameters do not count: `/v1/{name}` and `/v1/{id}` have one shape. A document may serve
several routes of one shape, which differ in the patterns of their parameters (`shelves/*` and
`books/*`) and then, so that their paths differ, in the names too; which name a route gets may
depend on the others. So where a shape is there more than once, the operations of one method are
paired by the first of these that tells them apart:

1. the operationId;
2. the path as it is written, with the patterns of its parameters;
3. the patterns;
4. the path.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias

from switchgear.contract.check.refs import Node

__all__ = ["VERBS", "names_in", "partners_of"]

VERBS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
"""The methods that a path may have."""
_VARIABLE: Final = re.compile(r"\{([^}]*)\}")
_Routes: TypeAlias = dict[str, Node]
"""The paths of one shape that have one method, each with what is said of it."""


def names_in(path: str) -> list[str]:
    """Return the names of the parameters of a path, in their order."""
    return _VARIABLE.findall(path)


def partners_of(old: Node, new: Node) -> Mapping[str, Mapping[str, str]]:
    """Return for each path of `old` which path of `new` has which of its methods.

    A path that is the only one of its shape on both sides has the other for every method, whether
    that is still there or not.
    """
    before, after = _by_shape(old), _by_shape(new)
    found: dict[str, dict[str, str]] = {path: {} for path in old}
    for shape, olds in before.items():
        news = after.get(shape, {})
        for verb in VERBS:
            if len(olds) == len(news) == 1:
                pairs = dict(zip(olds, news, strict=True))
            else:
                pairs = _paired(verb, _having(verb, olds), _having(verb, news))
            for path, other in pairs.items():
                found[path][verb] = other
    return found


def _by_shape(paths: Node) -> dict[str, _Routes]:
    found: dict[str, _Routes] = {}
    for path, item in paths.items():
        found.setdefault(_VARIABLE.sub("{}", path), {})[path] = item
    return found


def _having(verb: str, routes: _Routes) -> _Routes:
    return {path: item for path, item in routes.items() if item[verb]}


def _paired(verb: str, olds: _Routes, news: _Routes) -> dict[str, str]:
    """Return which path is which, where several have one shape."""

    def called(_: str, item: Node) -> object:
        return item[verb].text("operationId") or None

    def patterns(path: str, item: Node) -> object:
        told = {one.text("name"): one["schema"].text("pattern") for one in _parameters(item, verb)}
        return tuple(told.get(name, "") for name in names_in(path))

    def whole(path: str, item: Node) -> object:
        return path, patterns(path, item)

    found: dict[str, str] = {}
    for key in (called, whole, patterns, lambda path, _: path):
        left = {path: one for path, one in olds.items() if path not in found}
        free = {path: one for path, one in news.items() if path not in found.values()}
        found |= _matched(key, left, free)
    return found


def _parameters(item: Node, verb: str) -> Iterable[Node]:
    several = (*item["parameters"].elements(), *item[verb]["parameters"].elements())
    return (one for one in several if one.text("in") == "path")


def _matched(key: Callable[[str, Node], object], olds: _Routes, news: _Routes) -> dict[str, str]:
    """Return the paths of which a key says that they are one, and of no other."""
    before, after = ({path: key(path, one) for path, one in of.items()} for of in (olds, news))
    counts = [Counter(before.values()), Counter(after.values())]
    known = {value: path for path, value in after.items()}
    return {
        path: known[value]
        for path, value in before.items()
        if value is not None and value in known and all(one[value] == 1 for one in counts)
    }
