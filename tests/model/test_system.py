"""Systems: built from edges, merged and compared."""

from switchgear.model.edge import Edge, Pattern
from switchgear.model.system import System


def edge(caller, operation, **changes):
    return Edge(caller, "inventory", operation, Pattern.QUERY, **changes)


def test_the_ends_of_edges_are_services():
    assert System.of([edge("orders", "stock")], ["alone"]).services == {
        "orders",
        "inventory",
        "alone",
    }


def test_merge_keeps_both_and_the_newer_wins():
    old = System.of([edge("orders", "stock"), edge("orders", "reserve")])
    new = System.of([edge("orders", "stock", keyed=True)])
    merged = old.merge(new)
    assert {(e.operation, e.keyed) for e in merged.edges} == {("stock", True), ("reserve", False)}


def test_diff_names_what_was_added_removed_and_changed():
    old = System.of([edge("a", "x"), edge("b", "x"), edge("c", "x")])
    new = System.of([edge("b", "x", policy={"deadline": 2}), edge("c", "x"), edge("d", "x")])
    difference = old.diff(new)
    assert difference.added == {"d -> x"}
    assert difference.removed == {"a -> x"}
    assert difference.changed == {"b -> x"}
