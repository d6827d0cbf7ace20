"""The way that a failure has come: one hop for each edge that it passed, the first cause first.

A door puts the trail on the answer to a request that failed, the client reads it into the failure,
and adds its own edge when its call has failed. So whoever stands at the end of a chain can name the
edge where it began, which policy decided there, and how long each edge took.

An answer that was slow has a trail too, of where its time went: each hop is the longest call of the
request above it, as far down as one call took most of the time (`Spent`).

On the wire it is a list of strings with parameters (RFC 9651, Structured Fields):

    "orders -> shop.inventory.v1.Inventory/stock";o=unknown;r=timeout;n=3;ms=300, "gateway -> ..."

o is the outcome, r the reason (a policy of the caller's, what the callee did, or `slow`), n how
many attempts were made (0: it was turned away before the first), ms how long it took. Names of
edges are all that it tells. It has at most 8 hops and 1024 bytes: of a longer one the hops in the
middle are left out, never the first and the last. What cannot be read is left out too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, TypeAlias

__all__ = ["FLOOR", "SLOW", "Hop", "Spent", "Trail", "extended", "read", "told", "write"]

SLOW: Final = "slow"
"""The reason of a hop that went well and took its time."""
FLOOR: Final = 0.025
"""Seconds; nobody asks where less than that went."""
_HOPS: Final = 8
_BYTES: Final = 1024
_NAME: Final = 120
_CALLS: Final = 100
"""Calls in progress at the same time, of one request, of which it is kept what they were told."""
_UNSAFE: Final = re.compile(r"[^ !#-\[\]-~]")
_ITEM: Final = re.compile(
    r'"([ !#-\[\]-~]{1,120})";o=([a-z-]{1,20});r=([a-z-]{1,20});n=(\d{1,6});ms=(\d{1,9})'
    r"(?=\s*(?:,|$))"
)


@dataclass(frozen=True, slots=True)
class Hop:
    """One edge that a failure has passed."""

    edge: str
    """`caller -> operation`, the name of a guard, or an operation that took too long by itself."""
    outcome: str
    """`unavailable` or `unknown`; `ok` for what was slow and went well."""
    reason: str
    """Why: a `Reason`, which names the policy, where one decided; or `SLOW`."""
    attempts: int = 1
    """How many attempts were made; 0: it was turned away before the first."""
    seconds: float = 0.0
    """How long it took, pauses included."""

    def __str__(self) -> str:
        tries = "" if self.attempts == 1 else f" after {self.attempts} attempts"
        return f"{self.edge}: {self.outcome} ({self.reason}){tries}, {self.seconds * 1000:.0f} ms"


Trail: TypeAlias = tuple[Hop, ...]
"""The hops of a failure, the first cause first."""


class Spent:
    """The longest call that one request has made, and what it says of where its own time went.

    Shared by all tasks and threads of the request.
    """

    __slots__ = ("below", "seconds", "trail")

    def __init__(self) -> None:
        self.seconds = FLOOR
        """How long the longest took; what takes less is not kept."""
        self.trail: Trail = ()
        """Its trail, its own edge last."""
        self.below: dict[object, Trail] = {}
        """What calls in progress were told by their callees, by the call."""

    def answered(self, call: object, told: str | None) -> None:
        """Keep what the answer to `call` says of where its time went."""
        if told and len(self.below) < _CALLS:
            self.below[call] = read(told)

    def took(self, call: object, hop: Hop) -> None:
        """Note a call that went well, after `hop.seconds`."""
        below = self.below.pop(call, ())
        if hop.seconds > self.seconds:
            self.seconds, self.trail = hop.seconds, extended(below, hop)

    def failed(self, call: object, trail: Trail) -> None:
        """Note a call that failed, which whoever made it may put up with."""
        self.below.pop(call, None)
        if trail and trail[-1].seconds > self.seconds:
            self.seconds, self.trail = trail[-1].seconds, trail

    def mostly(self, took: float, otherwise: Hop) -> Trail:
        """Return where most of `took` seconds went: to the longest call, or not to one call."""
        return self.trail if self.seconds * 2 >= took and self.trail else (otherwise,)


def extended(trail: Trail, hop: Hop) -> Trail:
    """Return a trail with one more hop, within its bound."""
    longer = (*trail, hop)
    return longer if len(longer) <= _HOPS else (longer[0], *longer[1 - _HOPS :])


def write(trail: Trail) -> str:
    """Return a trail as the wire carries it; empty for none."""
    items = [
        f'"{_UNSAFE.sub("?", hop.edge)[:_NAME]}";o={hop.outcome};r={hop.reason}'
        f";n={min(hop.attempts, 999_999)};ms={min(round(hop.seconds * 1000), 999_999_999)}"
        for hop in trail
    ]
    while len(items) > _HOPS or sum(len(item) + 2 for item in items) > _BYTES:
        del items[1 if len(items) > 1 else 0]
    return ", ".join(items)


def read(text: str | None) -> Trail:
    """Return the trail that an answer carries, as far as it can be read."""
    if not text:
        return ()
    found = tuple(
        Hop(edge, outcome, reason, int(attempts), int(took) / 1000)
        for edge, outcome, reason, attempts, took in _ITEM.findall(text[: 2 * _BYTES])
    )
    return found if len(found) <= _HOPS else (found[0], *found[1 - _HOPS :])


def told(trail: Trail) -> str:
    """Return a trail as a person reads it: the first cause, and what followed from it."""
    if not trail:
        return ""
    first, *rest = trail
    return "; then ".join([f"first cause: {first}", *map(str, rest)])
