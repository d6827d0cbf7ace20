"""What a service writes: readable, or one JSON object a line, and never a secret."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from switchgear import Signal, SignalKind
from switchgear.app import logs
from switchgear.model.signal import emit, listening
from switchgear.telemetry import LEVELS, logged


@pytest.fixture(autouse=True)
def root() -> Iterator[None]:
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    yield
    logging.captureWarnings(capture=False)
    logger.handlers[:] = handlers
    logger.setLevel(level)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(out: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_elsewhere_it_is_json_with_fields_and_trace() -> None:
    out = io.StringIO()
    logs.configure("info", service="orders", stream=out)
    logging.getLogger("team").info("placed %s", 3, extra={"fields": {"order": "o-1", "level": "x"}})
    logging.getLogger("team").debug("not shown")
    try:
        raise ValueError("postgresql://ann:sesame@db failed")  # noqa: TRY301  to be logged
    except ValueError:
        logging.getLogger("team").exception("lost")
    placed, lost = lines(out)
    assert placed == {
        "time": placed["time"],
        "level": "info",
        "service": "orders",
        "logger": "team",
        "message": "placed 3",
        "order": "o-1",
    }
    assert "sesame" not in str(lost["trace"])
    assert "ValueError: postgresql://ann:***@db failed" in str(lost["trace"])


def test_on_a_terminal_it_is_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    out = Terminal()
    logs.configure("debug", service="orders", stream=out)
    logging.getLogger("team").warning("slow amqp://u:sesame@h", extra={"fields": {"took": 3}})
    text = out.getvalue()
    assert "warning  orders slow amqp://u:***@h took=3" in text
    assert text.startswith("\x1b[33m")
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Terminal()
    logs.configure(stream=plain)
    logging.getLogger("team").error("plain")
    assert "\x1b" not in plain.getvalue()


def test_state_changes_are_logged_and_ends_of_calls_are_not() -> None:
    out = io.StringIO()
    logs.configure("info", stream=out)
    with logged():
        emit(Signal(SignalKind.BREAKER_OPENED, "orders -> pay", {"reason": "failures"}))
        emit(Signal(SignalKind.CALL_ENDED, "orders -> pay", {"outcome": "ok"}))
        emit(Signal(SignalKind.SAGA_QUEUED, "checkout", {"id": "o-1"}))
    assert not listening()
    opened, queued = lines(out)
    said = "breaker.opened: orders -> pay (reason=failures)"
    assert (opened["level"], opened["message"]) == ("warning", said)
    assert (opened["subject"], opened["reason"]) == ("orders -> pay", "failures")
    assert (queued["level"], queued["id"]) == ("error", "o-1")
    assert SignalKind.CALL_ENDED not in LEVELS


def test_a_message_of_a_state_change_tells_the_details_once_and_in_bounds() -> None:
    out = Terminal()
    logs.configure("info", stream=out)
    detail = {"trigger": "failures", "failures": 10, "seconds": 30.0, "none": None}
    with logged():
        emit(Signal(SignalKind.BREAKER_OPENED, "orders -> stock", detail))
        emit(Signal(SignalKind.EVENT_PARKED, "shop", {"error": "a://u:sesame@h\n" * 90}))
        emit(Signal(SignalKind.POLICY_RELOADED, "", {}))
    opened, parked, reloaded = out.getvalue().splitlines()
    said = "breaker.opened: orders -> stock (trigger=failures, failures=10, seconds=30)"
    assert said in opened
    assert opened.count("failures=10") == opened.count("orders -> stock") == 1
    assert len(parked) < 200
    assert "sesame" not in parked
    assert "policy.reloaded" in reloaded
    assert "policy.reloaded:" not in reloaded


def test_what_a_part_only_observes_is_no_warning() -> None:
    out = io.StringIO()
    logs.configure("info", stream=out)
    with logged():
        emit(Signal(SignalKind.BREAKER_OPENED, "a -> b", {"trigger": "probe", "observed": True}))
        emit(Signal(SignalKind.ADMISSION_OVERLOADED, "a", {"limit": 1, "observed": False}))
    observed, real = lines(out)
    assert (observed["level"], real["level"]) == ("info", "warning")
    assert observed["message"] == "would be breaker.opened: a -> b (trigger=probe)"
    assert observed["observed"] is True


def test_passwords_in_fields_are_masked_too() -> None:
    out = io.StringIO()
    logs.configure("info", stream=out)
    logging.getLogger("team").error("lost", extra={"fields": {"error": "a://u:sesame@h", "n": 1}})
    (line,) = lines(out)
    assert (line["error"], line["n"]) == ("a://u:***@h", 1)
