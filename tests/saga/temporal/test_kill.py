"""A worker of sagas on Temporal, killed for real while it attempts a pivot and an undo."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from switchgear.saga import Fate, SagaUndone
from switchgear.saga.temporal import Place
from switchgear.saga.temporal.desk import TemporalDesk
from tests.saga.shop import Order, eventually
from tests.saga.temporal.conftest import Service
from tests.saga.temporal.programs import LEASE, transfer


async def test_a_killed_worker(service: Service, place: Place, tmp_path: Path) -> None:
    async def nothing(name: str, ctx: object) -> None: ...

    def calls(saga_id: str) -> list[str]:
        file = tmp_path / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        return [line.removeprefix(f"{saga_id} ") for line in lines if line.startswith(saga_id)]

    def worker(*stuck: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.saga.temporal.programs"]
        return subprocess.Popen([*command, str(place), service.name, str(tmp_path), *stuck])

    saga = transfer(nothing)
    asking = service.make(saga, lease=LEASE)
    await asking.prepare()
    for saga_id in ("on", "back"):
        await asking.begin(saga, Order(saga_id), id=saga_id)
    first = worker("on send", "back unpay")
    try:
        await eventually(lambda: "send 1" in calls("on") and "unpay 1" in calls("back"))
        first.send_signal(signal.SIGKILL)
    finally:
        first.kill()
        first.wait()
    second = worker()
    try:
        await asking.get("on").result(within=120)
        with pytest.raises(SagaUndone):
            await asking.get("back").result(within=120)
    finally:
        second.kill()
        second.wait()
    assert calls("on") == ["hold 1", "pay 1", "send 1", "send 2"]
    assert calls("back") == ["hold 1", "pay 1", "send 1", "unpay 1", "unpay 2", "unhold 1"]
    for saga_id in ("on", "back"):
        shown = await TemporalDesk(service.cluster).show(saga_id)
        assert len(shown.interruptions) == 1
        assert {step.fate for step in shown.steps} <= {Fate.DONE, Fate.UNDONE, Fate.ABSENT}
