"""Histories that were recorded before: the interpreter must come to the same decisions for ever.

If a change breaks one, sagas that run somewhere would stand still after an upgrade: make the change
behind `workflow.patched`, and record a further history with `record.py`.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory

from tests.saga.temporal.replay import replay

HISTORIES = sorted((Path(__file__).parent / "histories").glob("*.json"))
KINDS = {
    "branches",
    "cancelled",
    "continued",
    "done",
    "expired",
    "listed",
    "refuted",
    "retried",
    "undone",
}


def test_there_is_one_of_each_kind() -> None:
    assert {path.stem for path in HISTORIES} >= KINDS


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
def test_it_is_replayed(path: Path) -> None:
    asyncio.run(replay(WorkflowHistory.from_json(path.stem, path.read_text())))


def test_a_history_that_was_decided_otherwise_is_told_apart() -> None:
    path = Path(__file__).parent / "histories" / "undone.json"
    history = json.loads(path.read_text())
    undone = "checkout/refund/undo", "checkout/debit/undo"
    (scheduled,) = (
        event["activityTaskScheduledEventAttributes"]
        for event in history["events"]
        if event.get("activityTaskScheduledEventAttributes", {}).get("activityType", {}).get("name")
        in undone
    )
    scheduled["activityType"]["name"] = "checkout/reserve/undo"  # the wrong order of undoing
    with pytest.raises(Exception, match="[Nn]ondeterminism"):
        asyncio.run(replay(WorkflowHistory.from_json("undone", json.dumps(history))))
