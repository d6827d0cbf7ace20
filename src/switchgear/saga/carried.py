"""What goes along with a saga of the context in which it was started."""

from __future__ import annotations

import msgspec

from switchgear.model.context import Priority

__all__ = ["Carried"]


class Carried(msgspec.Struct, frozen=True, omit_defaults=True):
    """The part of the starter's context that goes along with a saga."""

    correlation: str | None = None
    priority: Priority = Priority.DEFAULT
    traceparent: str | None = None
    tracestate: str | None = None
