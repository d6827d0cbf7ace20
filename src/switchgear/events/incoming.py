"""An event as it arrived: read as far as ordering and deduplication need it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from switchgear.events.brokers.port import Delivery, Partition

__all__ = ["Incoming"]


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

    @classmethod
    def of(cls, delivery: Delivery) -> Incoming:
        """Read the headers of a delivery."""
        headers = delivery.headers
        source, number = headers.get("ce-source"), headers.get("ce-id")
        if source and number:
            identity = f"{source}/{number}"
        else:
            identity = f"{delivery.partition}@{delivery.offset}"
        key = delivery.key
        lane = f"e:{identity}" if key is None else f"k:{key}"
        kind = headers.get("ce-type", "")
        return cls(delivery.partition, key, identity, kind, headers, delivery.value, lane)

    @property
    def alone(self) -> bool:
        """Whether no other event shares its lane."""
        return self.key is None

    @property
    def own_lane(self) -> str:
        """The name of a queue for this event alone."""
        return f"e:{self.identity}"
