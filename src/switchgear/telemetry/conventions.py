"""What signals are called in OpenTelemetry: its semantic conventions where they exist, else ours.

`rpc.*`, `http.*`, `messaging.*` and `error.type` are those of the conventions as of version 1.44;
they are written out here, because the package that holds them is not needed for anything else.
What is `switchgear.*` has no convention. Nothing here has many values (no keys, ids or messages),
except on spans.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

from switchgear.model.signal import Detail, Signal, SignalKind

__all__ = ["Labels", "labels", "operation_of", "span_name"]

Labels: TypeAlias = dict[str, str | int]

_FINE: Final = frozenset({"ok", "done", "degraded", "refused", "duplicate", "expired"})
"""Outcomes that are no error of this side: a refusal is an answer."""
_LABELS: Final = (
    "outcome",
    "reason",
    "state",
    "trigger",
    "door",
    "part",
    "side",
    "next",
    "priority",
    "field",
)
"""Details that have few values, and no name in the conventions."""
_MESSAGES: Final = (
    SignalKind.EVENT_BEGAN,
    SignalKind.EVENT_ENDED,
    SignalKind.EVENT_HANDLED,
    SignalKind.EVENT_PUBLISHED,
)


def operation_of(subject: str) -> str | None:
    """Return the operation that an edge is about; None for a guard, which has only a name."""
    _, arrow, operation = subject.partition(" -> ")
    return operation if arrow else None


def span_name(signal: Signal) -> str:
    """Return what a span is called: the operation, or what is done to what."""
    detail = signal.detail
    match signal.kind:
        case SignalKind.EVENT_BEGAN:
            return f"process {detail.get('topic') or signal.subject}"
        case SignalKind.SAGA_STEP_BEGAN:
            return f"{signal.subject} {detail.get('step')}"
        case SignalKind.REQUEST_BEGAN if detail.get("route"):
            return f"{detail.get('method')} {detail.get('route')}"
        case _:
            return operation_of(signal.subject) or signal.subject


def labels(signal: Signal) -> Labels:
    """Return the attributes of a signal that may label a metric."""
    kind, detail = signal.kind, signal.detail
    found: Labels = {}
    if kind in _MESSAGES:
        found["messaging.system"] = "switchgear"
        found["messaging.operation.type"] = "send" if kind is _MESSAGES[-1] else "process"
        found["messaging.operation.name"] = "publish" if kind is _MESSAGES[-1] else "process"
        _copy(detail, found, topic="messaging.destination.name", type="cloudevents.event_type")
        if kind is not _MESSAGES[-1]:
            found["messaging.consumer.group.name"] = signal.subject
    elif kind in (SignalKind.REQUEST_BEGAN, SignalKind.REQUEST_ENDED):
        found |= _request(signal)
    else:
        operation = operation_of(signal.subject)
        if operation is not None:
            found["rpc.method"] = operation
            # one contract over either wire; the conventions know none of the two for both
            found["rpc.system.name"] = "switchgear"
        found["switchgear.subject"] = signal.subject
        if kind is SignalKind.EVENT_LAG:
            found["messaging.consumer.group.name"] = signal.subject
    outcome = detail.get("outcome")
    if isinstance(outcome, str) and outcome not in _FINE:
        found["error.type"] = str(detail.get("reason") or outcome)
    for name in _LABELS:
        value = detail.get(name)
        if value is not None:
            found[f"switchgear.{name}"] = str(value)
    return found


def _request(signal: Signal) -> Labels:
    """Return how a request is called: by its route over HTTP, by its method over gRPC."""
    detail, found = signal.detail, Labels()
    if detail.get("door") == "http":
        _copy(detail, found, method="http.request.method", route="http.route", scheme="url.scheme")
        code = detail.get("code")
        if isinstance(code, int):
            found["http.response.status_code"] = code
    else:
        found["rpc.system.name"] = "grpc"
        _copy(detail, found, status="rpc.response.status_code")
    found["rpc.method"] = signal.subject
    return found


def _copy(detail: Mapping[str, Detail], into: Labels, **names: str) -> None:
    for name, convention in names.items():
        value = detail.get(name)
        if value is not None:
            into[convention] = str(value)
