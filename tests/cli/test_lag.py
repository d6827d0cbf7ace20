"""`switchgear events lag`: the truth about a system whose services do not run."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from switchgear import Message, event, field
from switchgear.cli.main import main
from switchgear.database.sqlite import Sqlite
from switchgear.events.brokers.port import Lag, Partition, Record
from switchgear.events.brokers.sqlite import SqliteBroker
from switchgear.events.outbox import STEPS, Outbox

MODULE = """
from switchgear import Message, Service, event, field

@event("lag.trips", key="town")
class Arrived(Message):
    town: str = field(1)

app = Service("office")

@app.on(Arrived, name="greet", on_failure="park_key", fresh_within=3600)
async def greet(event: Arrived) -> None: ...

@app.on(Arrived, name="stamp", on_failure="park_key", fresh_within=0.001)
async def stamp(event: Arrived) -> None: ...
"""


@event("lag.trips", key="town")
class Arrived(Message):
    town: str = field(1)


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lag_office.py").write_text(MODULE)
    (tmp_path / "switchgear.toml").write_text('[services.office]\napp = "lag_office:app"\n')
    (tmp_path / ".switchgear").mkdir()
    return tmp_path / ".switchgear"


async def publish(data: Path) -> None:
    """Put three events on the broker, and one into the outbox."""
    broker = SqliteBroker(data / "broker.db")
    await broker.publish([Record("lag.trips", town, {}, b"") for town in ("Ulm", "Ulm", "Bonn")])
    await broker.close()
    database, outbox = Sqlite(data / "office.db"), Outbox("office")
    await outbox.migrate(database)
    async with database.transaction() as tx:
        await outbox.publish(tx, Arrived(town="Ulm"))
    await database.close()


def typed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(("events", "lag", *arguments))
    said = capsys.readouterr()
    assert not end.value.code, said.err
    return said.out


def test_what_is_behind_is_told(system: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(publish(system))
    greet, stamp, outbox = map(json.loads, typed(capsys, "--json").splitlines())
    assert (greet["subscription"], greet["stale"]) == ("office.greet", False)
    assert 0 <= stamp.pop("oldest") < 60
    assert stamp == {
        "subscription": "office.stamp",
        "events": 3,
        "blocked": 0,
        "parked": 0,
        "parked_keys": 0,
        "fresh_within": 0.001,
        "stale": True,
    }
    assert 0 <= outbox.pop("oldest") < 60
    (topic,) = outbox.pop("topics")
    assert 0 <= topic.pop("oldest") < 60
    assert topic == {"topic": "lag.trips", "events": 1}
    assert outbox == {"outbox": "office", "events": 1}
    shown = typed(capsys)
    assert "office.stamp" in shown
    assert "office (outbox)" in shown
    assert "stale: should be within 0.0 s" in shown
    watched = typed(capsys, "--watch", "0.1", "--json", "--service", "office").splitlines()
    assert [json.loads(line).get("stuck") for line in watched] == [True, True, None]


def test_what_an_outbox_holds_is_told_by_topic(
    system: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(publish(system))
    connection = sqlite3.connect(system / "office.db")
    with connection:
        for number in range(4):
            connection.execute(
                "INSERT INTO switchgear_outbox (topic, key, event, headers, data, created) "
                "SELECT ?, key, event, headers, data, created - ? FROM switchgear_outbox "
                "WHERE topic = 'lag.trips'",
                (f"lag.t{number}", 86_400 * (number + 2)),
            )
    connection.close()
    outbox = json.loads(typed(capsys, "--json").splitlines()[-1])
    assert [one["topic"] for one in outbox["topics"]] == [
        *(f"lag.t{number}" for number in (3, 2, 1, 0)),
        "lag.trips",
    ]
    assert outbox["events"] == 5
    assert outbox["oldest"] == outbox["topics"][0]["oldest"] >= 5 * 86_400
    shown = " ".join(typed(capsys).split())
    assert "lag.t3: 1, 5 d" in shown
    assert "2 topics more" in shown


def test_an_estimate_is_called_one(
    system: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a broker that counts roughly."""

    def rough(url: str, native: object) -> SqliteBroker:
        broker = SqliteBroker(system / "broker.db")
        broker.capabilities = replace(broker.capabilities, exact_lag=False)
        return broker

    monkeypatch.setattr("switchgear.cli.lag.broker_of", rough)
    asyncio.run(publish(system))
    assert json.loads(typed(capsys, "--json").splitlines()[0])["estimate"] is True
    assert "about, as the broker says" in typed(capsys)


def test_partitions_for_which_the_broker_does_not_answer_are_named(
    system: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a queue of RabbitMQ has no leader."""

    async def lag(broker: SqliteBroker, group: str, topics: Sequence[str]) -> Lag:
        parts = {Partition(topic, number) for topic in topics for number in (3, 1)}
        return Lag(0, None, frozenset(parts))

    monkeypatch.setattr(SqliteBroker, "lag", lag)
    asyncio.run(publish(system))
    found = json.loads(typed(capsys, "--json").splitlines()[0])
    assert found["silent"] == ["lag.trips[1]", "lag.trips[3]"]
    shown = " ".join(typed(capsys).split())
    assert "the broker does not answer for" in shown


def test_a_system_that_never_ran_has_no_lag(
    system: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = typed(capsys, "--json", "--service", "office").splitlines()
    assert [json.loads(line)["events"] for line in lines] == [0, 0]


def test_the_tables_are_printed_for_other_peoples_migrations(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as end:
        main(("events", "sql", "--dialect", "sqlite", "--part", "outbox"))
    assert not end.value.code
    connection = sqlite3.connect(":memory:")
    connection.executescript(capsys.readouterr().out)
    made = connection.execute("SELECT * FROM switchgear_schema").fetchall()
    assert made == [("outbox", len(STEPS))]
    connection.close()
    with pytest.raises(SystemExit) as end:
        main(("events", "sql", "--dialect", "sqlite", "--part", "outbax"))
    assert end.value.code == 2
    assert "Parts: outbox, inbox, parked, log" in capsys.readouterr().err
