"""Signals as metrics.

| signal            | histogram, in seconds                                    |
| ----------------- | -------------------------------------------------------- |
| `attempt.ended`   | `rpc.client.call.duration`; of a guard `switchgear.attempt.duration` |
| `call.ended`      | `switchgear.call.duration`: pauses and all attempts in one |
| `request.ended`   | `http.server.request.duration`, `rpc.server.call.duration` |
| `event.handled`   | `messaging.process.duration`                             |
| `saga.step`       | `switchgear.saga.step.duration`                          |
| `saga.waiting`    | `switchgear.saga.item.age`: of the oldest open work item |

| signal           | gauges                                                                  |
| ---------------- | ----------------------------------------------------------------------- |
| `event.lag`      | `switchgear.events.lag`, `.oldest` (seconds), `.blocked`,               |
|                  | `.blocked_keys`, `.parked`, `.parked_keys`, `.stuck` (seconds without   |
|                  | progress), `.silent`                                                    |
| `outbox.backlog` | `switchgear.outbox.events`, `.oldest` (seconds)                         |

`event.published` counts in `messaging.client.sent.messages`. Every signal that is neither the
begin of something nor in the second table counts in `switchgear.<kind>`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from switchgear.model.signal import BEGINS, Signal, SignalKind, subscribe
from switchgear.telemetry.conventions import labels, operation_of

if TYPE_CHECKING:
    from opentelemetry.metrics import Counter, Histogram, Meter

__all__ = ["measured"]

_TIMED: Final = {
    SignalKind.CALL_ENDED: "switchgear.call.duration",
    SignalKind.EVENT_HANDLED: "messaging.process.duration",
    SignalKind.SAGA_STEP: "switchgear.saga.step.duration",
    SignalKind.SAGA_WAITING: "switchgear.saga.item.age",
}
_GAUGES: Final = {
    SignalKind.EVENT_LAG: {
        "events": ("switchgear.events.lag", "{event}"),
        "oldest": ("switchgear.events.oldest", "s"),
        "blocked": ("switchgear.events.blocked", "{event}"),
        "parked": ("switchgear.events.parked", "{event}"),
        "parked_keys": ("switchgear.events.parked_keys", "{key}"),
        "blocked_keys": ("switchgear.events.blocked_keys", "{key}"),
        "stuck": ("switchgear.events.stuck", "s"),
        "silent": ("switchgear.events.silent", "{partition}"),
    },
    SignalKind.OUTBOX_BACKLOG: {
        "events": ("switchgear.outbox.events", "{event}"),
        "oldest": ("switchgear.outbox.oldest", "s"),
    },
}
"""Signals that are told every few seconds, and what each of their details is called."""


@contextmanager
def measured(service: str) -> Iterator[None]:
    """Count and time what happens during the body of the `with`, where OpenTelemetry is set up.

    It has to be set up before. Without the package `opentelemetry-api` or without an SDK it does
    nothing, so that nobody pays for what nobody reads. `service` labels what has no resource.
    """
    meter = _meter()
    if meter is None:
        yield
        return
    with subscribe(_recorder(meter, service)):
        yield


def _meter() -> Meter | None:
    try:
        from opentelemetry import metrics  # noqa: PLC0415  an optional dependency
    except ImportError:
        return None
    provider = metrics.get_meter_provider()
    # without an SDK there is a stand-in, which forwards to nothing
    if type(provider).__module__.startswith("opentelemetry.metrics"):
        return None
    return metrics.get_meter("switchgear")


def _recorder(meter: Meter, service: str) -> Callable[[Signal], None]:
    counters: dict[str, Counter] = {}
    timers: dict[str, Histogram] = {}
    gauge = _gauges(meter)

    def count(name: str, found: dict[str, str | int]) -> None:
        counter = counters.get(name)
        if counter is None:
            counter = counters[name] = meter.create_counter(name, unit="1")
        counter.add(1, found)

    def record(signal: Signal) -> None:
        if signal.kind in BEGINS:
            return
        found = labels(signal) | {"switchgear.service": service}
        if signal.kind in _GAUGES:
            gauge(signal, found)
            return
        count(f"switchgear.{signal.kind}", found)
        if signal.kind is SignalKind.EVENT_PUBLISHED:
            count("messaging.client.sent.messages", found)
        name, seconds = _timer(signal), signal.detail.get("seconds")
        if name is None or not isinstance(seconds, int | float):
            return
        timer = timers.get(name)
        if timer is None:
            timer = timers[name] = meter.create_histogram(name, unit="s")
        timer.record(seconds, found)

    return record


def _gauges(meter: Meter) -> Callable[[Signal, dict[str, str | int]], None]:
    gauges = {
        name: meter.create_gauge(name, unit=unit)
        for details in _GAUGES.values()
        for name, unit in details.values()
    }

    def set_all(signal: Signal, found: dict[str, str | int]) -> None:
        for detail, (name, _) in _GAUGES[signal.kind].items():
            value = signal.detail.get(detail)
            if isinstance(value, int | float):
                gauges[name].set(value, found)

    return set_all


def _timer(signal: Signal) -> str | None:
    if signal.kind is SignalKind.ATTEMPT_ENDED:
        rpc = operation_of(signal.subject) is not None
        return "rpc.client.call.duration" if rpc else "switchgear.attempt.duration"
    if signal.kind is SignalKind.REQUEST_ENDED:
        http = signal.detail.get("door") == "http"
        return "http.server.request.duration" if http else "rpc.server.call.duration"
    return _TIMED.get(signal.kind)
