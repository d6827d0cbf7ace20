"""The envelope of an event: CloudEvents 1.0 attributes, in binary mode (see also `structured.py`).

Binary mode puts the attributes into headers and leaves the event's own bytes alone, so a consumer
that is not ours reads the JSON or protobuf it expects. Besides the required attributes we carry the
documented extensions `partitionkey`, `traceparent`, `tracestate`, `correlationid`, `causationid`
and `expirytime`. Header names are `ce-<attribute>`, and `content-type`.

The sources of the names: CloudEvents 1.0.2 and its documented extensions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from msgspec import Struct

from switchgear.errors import InvalidMessage

__all__ = ["JSON", "PROTOBUF", "Envelope", "Ids"]

JSON: Final = "application/json"
PROTOBUF: Final = "application/protobuf"

_EXTENSIONS: Final = (
    ("subject", "ce-subject"),
    ("partition_key", "ce-partitionkey"),
    ("traceparent", "ce-traceparent"),
    ("tracestate", "ce-tracestate"),
    ("correlation", "ce-correlationid"),
    ("causation", "ce-causationid"),
)
_REQUIRED: Final = ("ce-id", "ce-type", "ce-source")


class Envelope(Struct, frozen=True, kw_only=True):
    """One event with everything that travels with it.

    `id` is unique within `source`, and the same in every copy of the event. `deadline` is in Unix
    seconds: after it, handling the event is pointless, and it is not handled.
    """

    id: str
    type: str
    source: str
    topic: str
    data: bytes
    time: float
    """When it happened, in Unix seconds."""
    subject: str | None = None
    partition_key: str | None = None
    """What orders it; None for an event declared as unordered."""
    datacontenttype: str = JSON
    traceparent: str | None = None
    tracestate: str | None = None
    correlation: str | None = None
    causation: str | None = None
    deadline: float | None = None

    def headers(self) -> dict[str, str]:
        """Return the headers of the binary mode."""
        found = {
            "ce-specversion": "1.0",
            "ce-id": self.id,
            "ce-type": self.type,
            "ce-source": self.source,
            "ce-time": _timestamp(self.time),
            "content-type": self.datacontenttype,
        }
        for attribute, header in _EXTENSIONS:
            value = getattr(self, attribute)
            if value is not None:
                found[header] = value
        if self.deadline is not None:
            found["ce-expirytime"] = _timestamp(self.deadline)
        return found

    @classmethod
    def from_headers(cls, headers: Mapping[str, str], data: bytes, *, topic: str) -> Envelope:
        """Read an event back; `ce-time` may be missing, as CloudEvents allows.

        Raises `InvalidMessage` if a required attribute is missing or malformed.
        """
        get = headers.get
        if not (get("ce-id") and get("ce-type") and get("ce-source")):
            missing = next(name for name in _REQUIRED if not get(name))
            raise InvalidMessage(f"the header {missing} is missing.", where=topic)
        version = get("ce-specversion", "1.0")
        if not version.startswith("1."):
            raise InvalidMessage(f"CloudEvents version {version} is not supported.", where=topic)
        time, deadline = get("ce-time"), get("ce-expirytime")
        return cls(
            id=headers["ce-id"],
            type=headers["ce-type"],
            source=headers["ce-source"],
            topic=topic,
            data=data,
            time=_seconds(time, "ce-time", topic) if time else 0.0,
            subject=get("ce-subject"),
            partition_key=get("ce-partitionkey"),
            datacontenttype=get("content-type", JSON),
            traceparent=get("ce-traceparent"),
            tracestate=get("ce-tracestate"),
            correlation=get("ce-correlationid"),
            causation=get("ce-causationid"),
            deadline=_seconds(deadline, "ce-expirytime", topic) if deadline else None,
        )


class Ids:
    """Time-ordered ids in the layout of UUID version 7 (RFC 9562), unique also within one process.

    `clock` gives Unix nanoseconds and `random` that many random bits. Ids of one generator grow
    strictly, also within a millisecond and when the clock steps back: the 12 bits after the
    timestamp count up, and borrow the next millisecond when they run out.
    """

    def __init__(self, clock: Callable[[], int], random: Callable[[int], int]) -> None:
        self._clock = clock
        self._random = random
        self._last = 0

    def __call__(self) -> str:
        """Return the next id."""
        now = (self._clock() // 1_000_000) << 12
        drawn = self._random(70)
        # start each millisecond low enough to leave room to count
        self._last = now + (drawn >> 62) if now > self._last else self._last + 1
        milliseconds, counter = self._last >> 12, self._last & 0xFFF
        tail = drawn & 0x3FFFFFFFFFFFFFFF
        head = f"{milliseconds:012x}"
        low = f"{(2 << 62) | tail:016x}"
        return f"{head[:8]}-{head[8:]}-7{counter:03x}-{low[:4]}-{low[4:]}"


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _seconds(text: str, header: str, topic: str) -> float:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidMessage(f"the header {header} is not a time: {error}.", where=topic) from None
    if found.tzinfo is None:
        raise InvalidMessage(f"the header {header} has no time zone.", where=topic)
    return found.timestamp()
