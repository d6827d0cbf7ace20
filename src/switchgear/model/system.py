"""A system: services and the edges between them, as data that tools load, merge and compare."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from switchgear.model.edge import Edge

__all__ = ["Difference", "System"]


@dataclass(frozen=True, slots=True)
class Difference:
    """What changed between two systems."""

    added: frozenset[str]
    removed: frozenset[str]
    changed: frozenset[str]
    """Names of edges that both have, with another pattern, key or policy."""


@dataclass(frozen=True, slots=True)
class System:
    """Services by name and the edges that they declare."""

    services: frozenset[str] = frozenset()
    edges: tuple[Edge, ...] = field(default=())

    @classmethod
    def of(cls, edges: Iterable[Edge], services: Iterable[str] = ()) -> System:
        """Build a system; the ends of every edge are services even if they are not listed."""
        kept = tuple(edges)
        ends = {end for edge in kept for end in (edge.caller, edge.callee)}
        return cls(frozenset(ends | set(services)), kept)

    def merge(self, other: System) -> System:
        """Return both systems as one; where both declare an edge, `other` wins."""
        edges = {edge.name: edge for edge in (*self.edges, *other.edges)}
        return System(self.services | other.services, tuple(edges.values()))

    def diff(self, newer: System) -> Difference:
        """Tell what `newer` adds, removes and changes, by the names of the edges."""
        before = {edge.name: edge for edge in self.edges}
        after = {edge.name: edge for edge in newer.edges}
        both = before.keys() & after.keys()
        return Difference(
            added=frozenset(after.keys() - before.keys()),
            removed=frozenset(before.keys() - after.keys()),
            changed=frozenset(name for name in both if before[name] != after[name]),
        )
