"""From what a system declares to a scenario: the edges that run are the edges that are simulated.

An edge says what its policy is as plain data (`Policy.describe()`); `policy_of` makes the policy of
it again, so that what is predicted has the settings of what runs, defaults of the organisation
included. What an edge does not know (how long work takes, how many workers there are, which
operation calls which) is measured, or said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from switchgear.errors import PolicyError
from switchgear.model.edge import Edge
from switchgear.policy.breaker import Evidence
from switchgear.policy.defaults import PARTS
from switchgear.policy.policy import Policy
from switchgear.topology.simulate.scenario import Wire

__all__ = ["policy_of", "wires"]

_TOLD = frozenset({"kind", "sources"})
"""What a description says besides the settings."""


def policy_of(description: Mapping[str, Any]) -> Policy:
    """Return the policy that `Policy.describe()` has described.

    Raises PolicyError for a fallback to a value or a function: those are code, and cannot be
    described.
    """
    return Policy(**_settings(description, ""))


def wires(edges: Iterable[Edge], served: Mapping[str, str]) -> dict[str, Wire]:
    """Return the wires of a scenario for the edges that `served` names.

    It says by the name of an edge which simulated operation (`service.operation`) stands for it.
    """
    return {
        f"{edge.caller} -> {served[edge.name]}": Wire(policy=policy_of(edge.policy))
        for edge in edges
        if edge.name in served
    }


# `Any`: the settings of every part, as plain data
def _settings(description: Mapping[str, Any], path: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in description.items():
        inner = f"{path}.{name}".lstrip(".")
        if name in _TOLD:
            continue
        if inner == "fallback" and isinstance(value, Mapping):
            found[name] = _fallback(value)
        elif inner in PARTS and isinstance(value, Mapping):
            kinds = {cls.kind: cls for cls in PARTS[inner]}
            found[name] = kinds[value.get("kind")](**_settings(value, inner))
        elif inner == "breaker.evidence":
            found[name] = _evidence(value)
        else:
            found[name] = value
    return found


def _fallback(value: Mapping[str, Any]) -> Any:
    if value.get("value") is not None or value.get("function") is not None:
        raise PolicyError(
            "a fallback to a value or a function is code, and cannot be read from a description.",
            where="Fallback",
        )
    (cls,) = PARTS["fallback"]
    return cls(**_settings({"stale": value.get("stale")}, "fallback"))


def _evidence(windows: Sequence[Mapping[str, Any]]) -> tuple[Evidence, ...]:
    return tuple(Evidence(one["seconds"], one["calls"]) for one in windows)
