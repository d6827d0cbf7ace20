"""Which operation a method and path mean. Pure: strings in, a match out.

Literal paths are found in a dictionary. Templates are tried in the order of `Template.rank`: those
with a verb first, then those with more literal segments, so that `/v1/stock/summary` wins over
`/v1/stock/{sku}` and that over `/v1/{name=**}` whatever the order of declaration. What a variable
takes is percent-decoded after the path was split, so that one segment may contain a slash.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from heapq import merge
from operator import attrgetter
from typing import Final, Generic, TypeVar

from switchgear.contract.template import Template, Unfit, normal, template_of
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


class _Addresses(Generic[E]):
    """The templates that are the same addresses."""

    __slots__ = ("methods", "rank", "template")

    def __init__(self, template: Template) -> None:
        self.template = template
        self.rank = template.rank
        self.methods: dict[str, tuple[Template, E]] = {}
        """By method: two may name the parameters otherwise."""


class Router(Generic[E]):
    """The routes of one application."""

    def __init__(self) -> None:
        self._static: dict[str, Match[E]] = {}
        self._methods: dict[str, dict[str, E]] = {}
        self._fixed: dict[int, list[_Addresses[E]]] = {}
        """Templates by their number of segments."""
        self._open: list[_Addresses[E]] = []
        """Templates of any number of them."""

    def add(self, method: str, path: str, entry: E) -> None:
        """Add a route; raises `ContractError` if the method and path are taken."""
        template = template_of(path)
        taken = ContractError(
            f"Two operations are served at {method} {path}.", fix="Give one another path."
        )
        if not template.variables:
            shape = template.shape
            methods = self._methods.setdefault(shape, {})
            if method in methods:
                raise taken
            methods[method] = entry
            self._static[shape] = Match(methods, _NONE)
            return
        known = self._open
        if not template.is_open:
            known = self._fixed.setdefault(len(template.segments), [])
        found = next((one for one in known if one.template.shape == template.shape), None)
        if found is None:
            found = _Addresses(template)
            known.append(found)
            known.sort(key=attrgetter("rank"))
        if method in found.methods:
            raise taken
        found.methods[method] = (template, entry)

    def find(self, path: str, method: str) -> Match[E] | None:
        """Return what `path` leads to, as it stands in the URL; None if it leads nowhere.

        The parameters are those of `method`. Raises `Rejected` if one is not UTF-8, or
        has a segment `.` or `..`.
        """
        if "%" in path:
            path = normal(path)
        others: dict[str, E] = {}
        static = self._static.get(path)
        if static is not None:
            if method in static.methods:
                return static
            others.update(static.methods)
        segments = path.split("/")[1:]
        for one in self._candidates(len(segments)):
            given = one.template.match(segments)
            if given is None:
                continue
            if method in one.methods:
                template, entry = one.methods[method]
                try:
                    return Match({method: entry}, template.read(given))
                except Unfit as error:
                    pointer = f"/{error.name.replace('.', '/')}"
                    raise Rejected(f"the path {error}.", pointer=pointer) from None
            # a template that is less literal may offer the method
            for other, (_, entry) in one.methods.items():
                others.setdefault(other, entry)
        return Match(others, _NONE) if others else None

    def _candidates(self, segments: int) -> Iterable[_Addresses[E]]:
        fixed = self._fixed.get(segments, [])
        if not self._open:
            return fixed
        return merge(fixed, self._open, key=attrgetter("rank"))
