"""From what a system declares to a scenario: the edges that run are the edges that are simulated.

An edge says what its policy is as plain data (`Policy.describe()`), and its policy is made of that
again, so that what is predicted has the settings of what runs, defaults of the organisation
included. What an edge does not know (how long work takes, how many workers there are, which
operation calls which) is measured, or said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from switchgear.model.edge import Edge
from switchgear.policy.defaults import policy_of
from switchgear.topology.simulate.scenario import Wire

__all__ = ["wires"]


def wires(edges: Iterable[Edge], served: Mapping[str, str]) -> dict[str, Wire]:
    """Return the wires of a scenario for the edges that `served` names.

    It says by the name of an edge which simulated operation (`service.operation`) stands for it.
    """
    return {
        f"{edge.caller} -> {served[edge.name]}": Wire(policy=policy_of(edge.policy))
        for edge in edges
        if edge.name in served
    }
