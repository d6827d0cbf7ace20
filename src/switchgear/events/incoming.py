"""An event as it arrived: read as far as ordering and deduplication need it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from switchgear.events.brokers.port import Delivery, Partition
from switchgear.events.structured import unpacked

__all__ = ["Incoming", "without_nul"]


class Incoming(NamedTuple):
    """One delivery, before its envelope and data are decoded."""

    partition: Partition
    key: str | None
    identity: str
    """Source and id; for what is not a CloudEvent, its place in the log."""
    type: str
    """Empty for what is not a CloudEvent."""
    headers: Mapping[str, str]
    value: bytes
    lane: str
    unfit: bool = False
    """Whether key or identity had the character NUL, which PostgreSQL takes in no text. Here it is
    escaped, so that the event can be parked."""

    @classmethod
    def of(cls, delivery: Delivery) -> Incoming:
        """Read the headers of a delivery, which may be in either mode."""
        partition, offset, key, headers, value, _ = delivery
        headers, value = unpacked(headers, value)
        source, number = headers.get("ce-source"), headers.get("ce-id")
        identity = f"{source}/{number}" if source and number else f"{partition}@{offset}"
        if unfit := "\0" in identity or (key is not None and "\0" in key):
            identity, key = without_nul(identity), None if key is None else without_nul(key)
        lane = f"e:{identity}" if key is None else f"k:{key}"
        return cls(
            partition, key, identity, headers.get("ce-type", ""), headers, value, lane, unfit
        )

    @property
    def own_lane(self) -> str:
        """The name of a queue for this event alone."""
        return f"e:{self.identity}"


def without_nul(text: str) -> str:
    """Return a text with the character NUL escaped."""
    return text.replace("\0", "\\u0000")
