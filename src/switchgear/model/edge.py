"""The spine: one caller using one operation of one callee, with a pattern, a policy, a contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["Edge", "Pattern"]


class Pattern(StrEnum):
    """How an operation is used. It is chosen per operation, and there is no default."""

    QUERY = "query"
    COMMAND = "command"
    EVENT = "event"
    SAGA = "saga"


@dataclass(frozen=True, slots=True)
class Edge:
    """One line between two services.

    For an event, `callee` is the service that publishes and `caller` the one that reacts, named
    with its subscription: the caller is always the side that depends on the other.
    """

    caller: str
    callee: str
    operation: str
    """Full name: `shop.inventory.v1.Inventory/reserve`, an event's type, or a saga and step."""
    pattern: Pattern
    policy: Mapping[str, object] = field(default_factory=dict)
    """What `Policy.describe()` says; empty for an event."""
    keyed: bool = False
    """Whether repeating it under one key is declared safe."""

    @property
    def name(self) -> str:
        """How reports name the edge: `caller -> operation`."""
        return f"{self.caller} -> {self.operation}"
