"""What a person does with sagas and events that wait: the commands, on real databases."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import pytest

from switchgear import (
    Backoff,
    Message,
    Rejected,
    Saga,
    Service,
    StepContext,
    Transaction,
    Unknown,
    event,
    field,
)
from switchgear.cli.main import main
from switchgear.config import Config, load
from switchgear.testing import testing


class Trip(Message):
    town: str = field(1)


@event("travel.trips", key="town")
class Arrived(Message):
    town: str = field(1)


class Office:
    """A service whose undo and whose handler fail while it is closed."""

    def __init__(self, runbooks: Path) -> None:
        self.closed = True
        self.undone: list[str] = []
        self.stamped: list[str] = []
        (runbooks / "refund.md").write_text("# Refund by hand\n\n1. Ring the office.\n")
        self.app = Service("office")
        self.trip = Saga("trip", version=1, deadline=timedelta(minutes=5))

        @self.trip.undo(runbook=str(runbooks / "refund.md"), retry=Backoff(first=0.001, attempts=2))
        async def refund(order: Trip, done: Unknown | None, ctx: StepContext) -> None:
            if self.closed:
                raise OSError("nobody answers at db://u:sesame@h")
            self.undone.append(order.town)

        @refund.undoes
        async def pay(order: Trip, ctx: StepContext) -> None: ...

        @self.trip.read
        async def look(order: Trip, ctx: StepContext) -> None:
            raise Rejected("no such town")

        self.trip.path(pay >> look)
        self.app.runs(self.trip)

        @self.app.on(Arrived, name="stamp", on_failure="park_key", attempts=1)
        async def stamp(event: Arrived, tx: Transaction) -> None:
            if self.closed:
                raise ValueError("no ink at db://u:sesame@h")
            self.stamped.append(event.town)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "switchgear.toml").write_text(
        '[services.office]\napp = "office:app"\n[services.other]\napp = "other:app"\n'
    )
    return load()


def typed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    said = capsys.readouterr()
    assert not end.value.code, said.err
    return said.out


def refused(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 1) -> str:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == code
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


async def troubled(office: Office, config: Config) -> None:
    """Let a saga stop at its undo and an event at its handler."""
    async with testing(office.app, config=config) as t:
        async with t.transaction() as tx:
            await tx.start(office.trip, Trip(town="Ulm"), id="t-1")
        await t.deliver(Arrived(town="Ulm"), Arrived(town="Ulm"), Arrived(town="Bonn"))


def test_a_saga_waits_and_is_retried(
    tmp_path: Path, config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    office = Office(tmp_path)
    asyncio.run(troubled(office, config))

    (line,) = typed(capsys, "saga", "list", "--json").splitlines()
    item = json.loads(line)
    assert (item["service"], item["saga_id"], item["side"]) == ("office", "t-1", "undo")
    titles, row = typed(capsys, "saga", "list").splitlines()[:2]
    assert (titles.split()[0], row.split()[0]) == ("item", item["item"])
    assert item["item"] == item["id"]

    shown = typed(capsys, "saga", "show", "t-1")
    assert "queued" in shown
    assert "OSError: nobody answers" in shown
    assert "# Refund by hand\n\n1. Ring the office.\n" in shown, "in a pipe as it was written"
    assert f"switchgear saga retry {item['id']}" in shown
    told = typed(capsys, "saga", "show", "t-1", "--json")
    assert "db://u:***@h" in told
    assert "sesame" not in shown + told
    evidence = json.loads(told)
    assert [step["fate"] for step in evidence["steps"]] == ["done", "not done"]

    office.closed = False
    said = typed(capsys, "saga", "retry", item["id"], "--actor", "ann")
    assert f"{item['id']}: retry by ann (tried again by hand)" in said
    assert "No saga waits" in typed(capsys, "saga", "list")
    assert "retry by ann" in typed(capsys, "saga", "list", "--closed")

    async def carried_on() -> str:
        async with testing(office.app, config=config) as t:
            await t.settle()
            return (await office.app.sagas.get("t-1").state()).status

    assert "office goes on with it" in said
    assert asyncio.run(carried_on()) == "undone"
    said = typed(capsys, "saga", "retry", item["id"], "--actor", "ann")
    assert "The saga is undone." in said
    said = refused(capsys, "saga", "refute", "t-1", "visit", "--evidence", "x")
    assert "does not stand as done" in said or "no step" in said
    assert office.undone == ["Ulm"]
    assert "is closed: retry" in refused(capsys, "saga", "skip", item["id"], "--reason", "x")
    assert "no service knows a saga" in refused(capsys, "saga", "show", "t-9")


def test_a_saga_whose_definition_is_not_declared_any_more_is_left_as_it_is(
    tmp_path: Path,
    config: Config,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    office = Office(tmp_path)
    asyncio.run(troubled(office, config))
    module = ModuleType("office")
    monkeypatch.setitem(sys.modules, "office", module)
    without, changed = Service("office"), Service("office")
    trip = Saga("trip", version=1)

    @trip.read
    async def look(order: Trip, ctx: StepContext) -> None: ...

    trip.path(look)
    changed.runs(trip)

    module.app = without  # type: ignore[attr-defined]
    said = refused(capsys, "saga", "retry", "t-1")
    assert "began under version 1 of trip, which is not declared any more" in said
    module.app = changed  # type: ignore[attr-defined]
    said = refused(capsys, "saga", "retry", "t-1")
    assert "and it was changed since: nobody would go on with it" in said
    assert "as version 2" in said
    assert "--elsewhere" in said
    assert len(typed(capsys, "saga", "list", "--json").splitlines()) == 1
    # what needs no worker any more is a person's to do
    assert "The saga is undone." in typed(capsys, "saga", "skip", "t-1", "--reason", "by hand")


def test_without_the_systems_file_an_action_is_not_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    office = Office(tmp_path)
    asyncio.run(troubled(office, load()))
    said = typed(capsys, "saga", "retry", "t-1", "--service", "office")
    assert "office goes on with it" in said


def test_an_event_waits_and_is_redriven(
    tmp_path: Path, config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    office = Office(tmp_path)
    asyncio.run(troubled(office, config))

    told = typed(capsys, "events", "parked", "--json")
    assert "db://u:***@h" in told
    assert "sesame" not in told + typed(capsys, "events", "parked")
    lines = [json.loads(line) for line in told.splitlines()]
    assert sorted((one["key"], one["cause"]) for one in lines) == [
        ("Bonn", "failed"),
        ("Ulm", "behind"),
        ("Ulm", "failed"),
    ]
    names = {one["key"]: f"office/{one['id']}" for one in reversed(lines)}
    listed = typed(capsys, "events", "parked", "--key", "Ulm")
    assert names["Ulm"] in listed
    assert names["Bonn"] not in listed
    assert "ValueError: no ink" in typed(capsys, "events", "show", names["Ulm"])
    assert json.loads(typed(capsys, "events", "show", names["Bonn"], "--json"))["key"] == "Bonn"

    assert "would be released" in typed(capsys, "events", "redrive", names["Ulm"], "--dry-run")
    office.closed = False
    released = typed(capsys, "events", "redrive", names["Ulm"], "--reason", "bought ink")
    assert (
        released
        == "released: "
        + ", ".join(
            f"office/{one['id']}" for one in lines if one["key"] == "Ulm" and one["state"] == "held"
        )
        + "\n"
    )
    assert "discarded: travel.trips.Arrived of Bonn" in typed(
        capsys, "events", "discard", names["Bonn"], "--reason", "too late"
    )

    async def carried_on() -> None:
        async with testing(office.app, config=config) as t:
            async with asyncio.timeout(60):
                while len(office.stamped) < 2:
                    await asyncio.sleep(0.01)
            await t.settle()

    asyncio.run(carried_on())
    assert office.stamped == ["Ulm", "Ulm"]
    assert "No event waits" in typed(capsys, "events", "parked")
    assert "no parked event has the number" in refused(capsys, "events", "show", names["Bonn"])


def test_what_cannot_be_found_is_said(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    assert "No saga waits" in typed(capsys, "saga", "list")
    assert "No event waits" in typed(capsys, "events", "parked")
    assert "office has no database yet" in refused(capsys, "saga", "list", "-s", "office")
    assert "has no service 'nobody'" in refused(capsys, "events", "parked", "-s", "nobody", code=2)
    assert "'12' is not an event" in refused(capsys, "events", "show", "12")
    assert "does not say which events" in refused(capsys, "events", "redrive")
