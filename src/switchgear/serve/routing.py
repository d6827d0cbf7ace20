"""Which operation a method and path mean. Pure: strings in, a match out.

Literal paths are found in a dictionary. Templates are tried by their number of segments, those with
more literal segments first, so that `/v1/stock/summary` wins over `/v1/stock/{sku}` whatever the
order of declaration. A parameter is percent-decoded after the path was split, so that it may
contain a slash; a trailing slash is part of the path.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Generic, TypeVar
from urllib.parse import unquote

from switchgear.errors import ContractError
from switchgear.model.outcome import Rejected

__all__ = ["Match", "Router"]

E = TypeVar("E")

_NONE: Final[Mapping[str, str]] = {}


@dataclass(frozen=True, slots=True)
class Match(Generic[E]):
    """What a path leads to: an entry for each method, and the parameters in the path."""

    methods: Mapping[str, E]
    parameters: Mapping[str, str]


@dataclass(slots=True)
class _Template(Generic[E]):
    segments: tuple[str | None, ...]
    """None stands for a parameter."""
    methods: dict[str, tuple[tuple[str, ...], E]]
    """By method, the names of the parameters and the entry: two methods may name them otherwise."""


class Router(Generic[E]):
    """The routes of one application."""

    def __init__(self) -> None:
        self._static: dict[str, Match[E]] = {}
        self._methods: dict[str, dict[str, E]] = {}
        self._templates: dict[int, list[_Template[E]]] = {}

    def add(self, method: str, path: str, entry: E) -> None:
        """Add a route; raises `ContractError` if the method and path are taken."""
        segments = path.split("/")[1:]
        names = tuple(one[1:-1] for one in segments if one.startswith("{"))
        taken = ContractError(
            f"Two operations are served at {method} {path}.", fix="Give one another path."
        )
        if not names:
            methods = self._methods.setdefault(path, {})
            if method in methods:
                raise taken
            methods[method] = entry
            self._static[path] = Match(methods, _NONE)
            return
        shape = tuple(None if one.startswith("{") else one for one in segments)
        known = self._templates.setdefault(len(shape), [])
        template = next((one for one in known if one.segments == shape), None)
        if template is None:
            template = _Template(shape, {})
            known.append(template)
            known.sort(key=lambda one: [segment is None for segment in one.segments])
        if method in template.methods:
            raise taken
        template.methods[method] = (names, entry)

    def find(self, path: str, method: str) -> Match[E] | None:
        """Return what `path` leads to, as it stands in the URL; None if it leads nowhere.

        The parameters are those of `method`. Raises `Rejected` if one is not UTF-8.
        """
        found = self._static.get(path)
        if found is not None:
            return found
        segments = path.split("/")[1:]
        others: dict[str, E] = {}
        for template in self._templates.get(len(segments), ()):
            given: list[str] = []
            for wanted, segment in zip(template.segments, segments, strict=True):
                if wanted is None and segment:
                    given.append(segment)
                elif wanted != segment:
                    break
            else:
                if method in template.methods:
                    names, entry = template.methods[method]
                    values = {
                        name: _decoded(name, value)
                        for name, value in zip(names, given, strict=True)
                    }
                    return Match({method: entry}, values)
                # a template that is less literal may offer the method
                for other, (_, entry) in template.methods.items():
                    others.setdefault(other, entry)
        return Match(others, _NONE) if others else None


def _decoded(name: str, value: str) -> str:
    if "%" not in value:
        return value
    try:
        return unquote(value, errors="strict")
    except UnicodeDecodeError:
        raise Rejected("the path is not UTF-8.", pointer=f"/{name}") from None
