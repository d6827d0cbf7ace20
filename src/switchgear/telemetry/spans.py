"""Signals as spans: what has a beginning and an end is a span between them.

| signals                             | kind     | parent                                     |
| ----------------------------------- | -------- | ------------------------------------------ |
| `request.began`, `request.ended`    | server   | the span in progress, else the caller's    |
| `call.began`, `call.ended`          | internal | the span in progress, else the caller's    |
| `attempt.began`, `attempt.ended`    | client   | the call                                   |
| `event.began`, `event.ended`        | consumer | what published it                          |
| `saga.step-began`, `saga.step-ended` | internal | what started the saga                     |

A span is the one in progress from its beginning to its end, in the same task or thread: what other
instrumentation makes meanwhile is its child, and what is sent names it in `traceparent`. An attempt
is a span of its own, so the callee's request is the child of the attempt that it answers.

Any other signal that comes while a span is in progress (a breaker that opens, a fallback) is an
event of that span.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from switchgear.model.context import TraceParent, tracing
from switchgear.model.signal import BEGINS, Detail, Signal, SignalKind, subscribe
from switchgear.telemetry.conventions import labels, span_name

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

__all__ = ["traced"]

_ENDS: Final = frozenset(BEGINS.values())
_KINDS: Final = {
    SignalKind.REQUEST_BEGAN: "SERVER",
    SignalKind.ATTEMPT_BEGAN: "CLIENT",
    SignalKind.EVENT_BEGAN: "CONSUMER",
}
_MORE: Final = ("attempts", "attempt", "caller", "event", "key", "step", "id", "error", "trail")
"""Details that have many values: on spans alone."""
_MOST: Final = 100_000
"""Spans in progress that are kept; beyond, whatever began is not made a span."""


@contextmanager
def traced(service: str) -> Iterator[None]:
    """Make spans of what happens during the body of the `with`, where OpenTelemetry is set up.

    It has to be set up before. Without the package `opentelemetry-api` or without an SDK it does
    nothing. `service` is on every span, beside whatever the resource says.
    """
    tracer = _tracer()
    if tracer is None:
        yield
        return
    with tracing(_in_progress), subscribe(_Spans(tracer, service).hear):
        yield


def _tracer() -> Tracer | None:
    try:
        from opentelemetry import trace  # noqa: PLC0415  an optional dependency
    except ImportError:
        return None
    provider = trace.get_tracer_provider()
    # without an SDK there is a stand-in, which forwards to nothing
    if type(provider).__module__.startswith("opentelemetry.trace"):
        return None
    return trace.get_tracer("switchgear")


def _in_progress() -> TraceParent | None:
    """Return how the span in progress is named on a wire; None: there is none."""
    from opentelemetry import trace  # noqa: PLC0415  an optional dependency

    found = trace.get_current_span().get_span_context()
    if not found.is_valid:
        return None
    name = f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags:02x}"
    return name, found.trace_state.to_header() or None


class _Spans:
    """The spans in progress, by the id of the signal that began them."""

    def __init__(self, tracer: Tracer, service: str) -> None:
        from opentelemetry import context, trace  # noqa: PLC0415  an optional dependency
        from opentelemetry.propagate import get_global_textmap  # noqa: PLC0415

        self._context, self._trace, self._textmap = context, trace, get_global_textmap()
        self._tracer = tracer
        self._service = service
        self._open: dict[int, tuple[Span, Context]] = {}
        """With what was in progress before."""

    def hear(self, signal: Signal) -> None:
        """Take a signal."""
        if signal.kind in BEGINS:
            self._begin(signal)
        elif signal.kind in _ENDS:
            self._end(signal)
        else:
            span = self._trace.get_current_span()
            if span.is_recording():
                span.add_event(str(signal.kind), _attributes(signal))

    def _begin(self, signal: Signal) -> None:
        if len(self._open) >= _MOST:
            return
        trace = self._trace
        parent = before = self._context.get_current()
        if not trace.get_current_span(before).get_span_context().is_valid:
            parent = self._textmap.extract(_carrier(signal.detail), before)
        span = self._tracer.start_span(
            span_name(signal),
            parent,
            trace.SpanKind[_KINDS.get(signal.kind, "INTERNAL")],
            {**_attributes(signal), "switchgear.service": self._service},
        )
        self._open[signal.id] = span, before
        self._context.attach(trace.set_span_in_context(span, parent))

    def _end(self, signal: Signal) -> None:
        found = self._open.pop(signal.id, None)
        if found is None:
            return
        span, before = found
        attributes = _attributes(signal)
        span.set_attributes(attributes)
        if "error.type" in attributes:
            span.set_status(self._trace.StatusCode.ERROR, str(attributes["error.type"]))
        # set again, not reset by a token: it may end in another context than it began in, where it
        # is not in progress
        if self._trace.get_current_span() is span:
            self._context.attach(before)
        span.end()


def _carrier(detail: Mapping[str, Detail]) -> dict[str, str]:
    """Return what came in, as headers."""
    names = ("traceparent", "tracestate")
    return {name: str(detail[name]) for name in names if detail.get(name) is not None}


def _attributes(signal: Signal) -> dict[str, str | int | float | bool]:
    found: dict[str, str | int | float | bool] = dict(labels(signal))
    for name in _MORE:
        value = signal.detail.get(name)
        if value is not None:
            found[f"switchgear.{name}"] = value
    return found
