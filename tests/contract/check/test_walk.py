"""What of many pairs is gone into: against a walk of every way that does not meet itself."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from switchgear.contract.check.walk import Walk

nodes = st.integers(0, 5)
graphs = st.fixed_dictionaries({one: st.lists(nodes, max_size=3) for one in range(6)})


def walked(
    graph: dict[int, list[int]], broken: set[int], walk: Walk | None
) -> set[tuple[int, ...]]:
    """Return the ways to what is broken, with the help of a walk or without it."""
    found: set[tuple[int, ...]] = set()

    def visit(way: tuple[int, ...], node: int) -> bool:
        if walk is None and node in way:
            return False
        if walk is not None and not walk.enters(node):
            return False
        told = node in broken
        if told:
            found.add((*way, node))
        for one in graph[node]:
            told |= visit((*way, node), one)
        if walk is not None:
            walk.leaves(node, told=told)
        return told

    visit((), 0)
    return found


@settings(max_examples=400, deadline=None)
@given(graphs, st.sets(nodes, max_size=2))
def test_every_way_to_what_is_broken_is_walked(
    graph: dict[int, list[int]], broken: set[int]
) -> None:
    assert walked(graph, broken, Walk()) == walked(graph, broken, None)
