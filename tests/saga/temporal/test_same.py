"""The same definition comes to the same end on Temporal and in a database, at every failure point.

Compared are the end, what is known of each step, what waits for a person, the order of the undos,
and the lines of the journal; of what runs side by side, the order is left open.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from switchgear.database.sqlite import Sqlite
from switchgear.saga import Engine, Saga, SagaUndone, SagaUnfinished, runbook
from switchgear.saga.explain import explain
from switchgear.saga.plan import Kind
from switchgear.saga.port import DatabaseDesk, Desk, Sagas
from switchgear.saga.temporal.desk import TemporalDesk
from tests.saga.shop import Order
from tests.saga.temporal.conftest import Service, Working
from tests.saga.temporal.world import HOW, World


async def trail(engine: Sagas, desk: Desk, saga: Saga, world: World, point: str) -> dict[str, Any]:
    """Let one saga fail at `point`, and return what there is to compare."""
    run = await engine.begin(saga, Order(point), id=point)
    try:
        await run.result(within=120)
        raised = "done"
    except (SagaUndone, SagaUnfinished) as error:
        raised = f"{type(error).__name__} {error.what}"
    shown = await desk.show(point)
    lines = {
        # what follows from a success depends on whether the branch beside it failed before
        (step.name, str(each.side), str(each.what), "" if each.what == "ok" else each.follows)
        for step in shown.steps
        for each in step.attempts
        # how often those are repeated is a matter of time
        if not (each.follows == "again" and step.name in {"pivot", "r", "q"})
    }
    calls = world.calls[point]
    undos = [name for name in calls if name.startswith("un")]
    return {
        "raised": raised,
        "status": shown.status,
        "fates": {step.name: str(step.fate) for step in shown.steps},
        "items": sorted((item.id, str(item.side), item.runbook) for item in shown.items),
        "results": {step.name: step.result for step in shown.steps},
        "lines": sorted(lines),
        "called": sorted(set(calls)),
        # two that run side by side have no order
        "undone": [undo for undo in undos if undo not in {"una", "unb"}],
        "last": undos[-1:] if "unstart" in undos else [],
    }


async def test_every_failure_point(service: Service, working: Working, tmp_path: Path) -> None:
    here, there = World(), World()
    saga, other = here.saga(), there.saga()
    plan = saga.plan
    steps = [each.name for each in plan.steps if each.kind is not Kind.START]
    points = [f"{step}:{how}" for step in steps for how in HOW]
    points += [f"{each.undo}:{how}" for each in plan.steps if each.undo for how in HOW]
    points += ["none:done"]
    database = Sqlite(tmp_path / "embedded.db", busy=1.0)
    # nobody is given up here, however long the machine stands still: that would be a line more
    async with Engine(database, [saga], lease=600.0) as engine:
        desk = DatabaseDesk(database)
        embedded = await asyncio.gather(
            *(trail(engine, desk, saga, here, point) for point in points)
        )
        assert len(await runbook.list_items(database)) > 10
    await database.close()
    async with working(other, lease=600.0) as engine:
        cluster = TemporalDesk(service.cluster)
        found = []
        for begin in range(0, len(points), 12):
            part = points[begin : begin + 12]
            found += await asyncio.gather(
                *(trail(engine, cluster, other, there, point) for point in part)
            )
    for point, expected, got in zip(points, embedded, found, strict=True):
        assert (point, got) == (point, expected)
    # and both are what was explained before
    for point, got in zip(points, found, strict=True):
        name, _, how = point.partition(":")
        if name in steps and how in {"refused", "unavailable", "unknown"}:
            told = explain(plan, name, how)  # type: ignore[arg-type]
            assert (point, told.ends) == (point, got["status"])
            asked = sorted((f"{point}/{each.name}", str(each.side)) for each in told.asked)
            assert asked == [item[:2] for item in got["items"]]
