"""Signals as metrics, under the names that OpenTelemetry's conventions give them."""

from __future__ import annotations

import json

import pytest
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from switchgear.model.signal import BEGINS, Signal, SignalKind, emit, listening
from switchgear.telemetry import measured


@pytest.fixture
def found(monkeypatch):
    """Take signals, and return what was measured: attributes and value by name."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    monkeypatch.setattr(metrics, "get_meter_provider", lambda: provider)
    monkeypatch.setattr(metrics, "get_meter", provider.get_meter)

    def take(*signals):
        with measured("orders"):
            for one in signals:
                emit(one)
        data = json.loads(reader.get_metrics_data().to_json())
        (scope,) = data["resource_metrics"][0]["scope_metrics"]
        return {one["name"]: one["data"]["data_points"][0] for one in scope["metrics"]}

    yield take
    provider.shutdown()


def test_an_attempt_is_a_client_call(found):
    detail = {"outcome": "unknown", "reason": "timeout", "seconds": 0.25, "attempts": 2}
    seen = found(*[Signal(SignalKind.ATTEMPT_ENDED, "orders -> shop.Pay/debit", detail)] * 3)
    assert seen["switchgear.attempt.ended"]["value"] == 3
    duration = seen["rpc.client.call.duration"]
    assert (duration["sum"], duration["count"]) == (0.75, 3)
    assert duration["attributes"] == {
        "rpc.method": "shop.Pay/debit",
        "rpc.system.name": "switchgear",
        "error.type": "timeout",
        "switchgear.subject": "orders -> shop.Pay/debit",
        "switchgear.outcome": "unknown",
        "switchgear.reason": "timeout",
        "switchgear.service": "orders",
    }


def test_a_guard_has_a_name_and_no_method(found):
    seen = found(
        Signal(SignalKind.ATTEMPT_ENDED, "stock", {"outcome": "ok", "seconds": 0.5}),
        Signal(SignalKind.CALL_ENDED, "stock", {"outcome": "degraded", "seconds": 0.5}),
    )
    assert seen["switchgear.attempt.duration"]["attributes"] == {
        "switchgear.subject": "stock",
        "switchgear.outcome": "ok",
        "switchgear.service": "orders",
    }
    assert seen["switchgear.call.duration"]["attributes"]["switchgear.outcome"] == "degraded"


def test_a_request_is_measured_as_its_door_does(found):
    shared = {"outcome": "unavailable", "status": "UNAVAILABLE", "seconds": 0.1, "caller": "many"}
    http = {"door": "http", "method": "POST", "route": "/v1/do", "code": 503}
    seen = found(
        Signal(SignalKind.REQUEST_ENDED, "shop.Pay/debit", shared | http),
        Signal(SignalKind.REQUEST_ENDED, "shop.Pay/debit", shared | {"door": "grpc"}),
    )
    attributes = seen["http.server.request.duration"]["attributes"]
    assert attributes["http.request.method"] == "POST"
    assert attributes["http.route"] == "/v1/do"
    assert attributes["http.response.status_code"] == 503
    assert attributes["error.type"] == "unavailable"
    assert "many" not in attributes.values()
    attributes = seen["rpc.server.call.duration"]["attributes"]
    assert attributes["rpc.system.name"] == "grpc"
    assert attributes["rpc.method"] == "shop.Pay/debit"
    assert attributes["rpc.response.status_code"] == "UNAVAILABLE"


def test_events_and_steps(found):
    event = {"topic": "shop.orders", "type": "OrderPlaced", "event": "many", "key": "many"}
    seen = found(
        Signal(SignalKind.EVENT_PUBLISHED, "OrderPlaced", event),
        Signal(SignalKind.EVENT_HANDLED, "mail", event | {"outcome": "done", "seconds": 0.1}),
        Signal(SignalKind.SAGA_STEP, "checkout", {"step": "pay", "next": "go-on", "seconds": 1.0}),
        Signal(SignalKind.BREAKER_OPENED, "orders -> pay", {"trigger": "failures"}),
    )
    assert seen["messaging.client.sent.messages"]["attributes"] == {
        "messaging.system": "switchgear",
        "messaging.operation.type": "send",
        "messaging.operation.name": "publish",
        "messaging.destination.name": "shop.orders",
        "cloudevents.event_type": "OrderPlaced",
        "switchgear.service": "orders",
    }
    attributes = seen["messaging.process.duration"]["attributes"]
    assert attributes["messaging.consumer.group.name"] == "mail"
    assert "error.type" not in attributes
    assert seen["switchgear.saga.step.duration"]["sum"] == 1.0
    assert seen["switchgear.breaker.opened"]["attributes"]["switchgear.trigger"] == "failures"


def test_a_begin_is_no_figure_of_its_own(found):
    ended = Signal(SignalKind.CALL_ENDED, "stock", {"outcome": "ok"})
    seen = found(*(Signal(kind, "stock", {}, 1) for kind in BEGINS), ended)
    assert list(seen) == ["switchgear.call.ended"]


def test_without_an_sdk_nobody_listens(monkeypatch):
    stand_in = metrics.NoOpMeterProvider()
    monkeypatch.setattr(metrics, "get_meter_provider", lambda: stand_in)
    with measured("orders"):
        assert not listening()


def test_what_is_told_every_few_seconds_is_a_gauge(found):
    lag = {"events": 3, "oldest": 1.5, "blocked": 2, "blocked_keys": 0}
    lag |= {"parked": 1, "parked_keys": 1}
    seen = found(
        Signal(SignalKind.EVENT_LAG, "orders.x", {**lag, "events": 9, "stuck": 0.0}),
        Signal(SignalKind.EVENT_LAG, "orders.x", {**lag, "stuck": 70.0, "silent": 2}),
        Signal(SignalKind.OUTBOX_BACKLOG, "orders", {"events": 2, "oldest": 0.5}),
    )
    assert {name: one["value"] for name, one in seen.items()} == {
        "switchgear.events.lag": 3,
        "switchgear.events.oldest": 1.5,
        "switchgear.events.parked": 1,
        "switchgear.events.parked_keys": 1,
        "switchgear.events.blocked": 2,
        "switchgear.events.blocked_keys": 0,
        "switchgear.events.stuck": 70.0,
        "switchgear.events.silent": 2,
        "switchgear.outbox.events": 2,
        "switchgear.outbox.oldest": 0.5,
    }
    group = seen["switchgear.events.lag"]["attributes"]["messaging.consumer.group.name"]
    assert group == "orders.x"
