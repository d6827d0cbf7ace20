"""`switchgear events hold` and `release` on a system whose services do not run."""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from pathlib import Path

import pytest
from tests.servers import address
from typer.main import get_command

from switchgear.cli.event_commands import events
from switchgear.cli.main import main
from switchgear.database.sqlite import Sqlite
from switchgear.events.brokers.port import Record
from switchgear.events.brokers.sqlite import SqliteBroker
from switchgear.events.holding import WITHIN
from switchgear.events.outbox import Outbox
from switchgear.events.shares import Shares

MODULE = """
from switchgear import Message, Service, event, field

@event("arrange.trips", key="{key}")
class Arrived(Message):
    town: str = field(1)
    bus: str = field(2)

app = Service("depot")
app.publishes(Arrived)
"""


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "arrange_depot.py").write_text(MODULE.format(key="bus"))
    (tmp_path / "switchgear.toml").write_text('[services.depot]\napp = "arrange_depot:app"\n')
    (tmp_path / ".switchgear").mkdir()
    asyncio.run(publish(tmp_path / ".switchgear"))
    return tmp_path / ".switchgear"


async def publish(data: Path) -> None:
    """Put one event on the broker, and one of the old key into the outbox."""
    broker = SqliteBroker(data / "broker.db", partitions=2)
    await broker.publish([Record("arrange.trips", "Ulm", {}, b"")])
    await broker.close()
    scope: dict[str, object] = {"__name__": "old_depot"}
    exec(MODULE.format(key="town"), scope)  # noqa: S102  our own text, of an older version
    arrived = scope["Arrived"]
    assert callable(arrived)
    database, outbox = Sqlite(data / "depot.db"), Outbox("depot")
    await outbox.migrate(database)
    async with database.transaction() as tx:
        await outbox.publish(tx, arrived(town="Ulm", bus="7"))
    await database.close()


async def key(data: Path) -> object:
    database = Sqlite(data / "depot.db")
    async with database.transaction() as tx:
        rows = await tx.run("SELECT key FROM switchgear_outbox")
    await database.close()
    return rows[0][0]


def typed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(("events", *arguments))
    said = capsys.readouterr()
    return said.err if end.value.code else said.out


def test_held_rearranged_and_released(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is held back for 60 seconds" in typed(capsys, "hold", "arrange.trips", "--for", "60")
    assert "is published to again" in typed(capsys, "release", "arrange.trips")
    said = typed(capsys, "release", "arrange.trips", "--partitions", "5", "--rekey")
    assert "again: has 5 partitions, 1 waiting events have another key." in said
    assert asyncio.run(key(data)) == "7"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("hold", "no.topic"), "there is no topic no.topic"),
        (("release", "arrange.trips", "--partitions", "1"), "fewer were asked for"),
    ],
)
def test_bad_input(
    data: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str
) -> None:
    said = typed(capsys, *arguments)
    assert says in said
    assert said.count("\n") == 1


@pytest.fixture
def nats(data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    url = f"{address('nats')}?partitions=2&prefix=t{secrets.token_hex(6)}."
    monkeypatch.setenv("SWITCHGEAR_SYSTEM_BROKER", url)
    return data


async def held(data: Path) -> list[str]:
    database = Sqlite(data / "depot.db")
    async with database.transaction() as tx:
        rows = await tx.run("SELECT topic FROM switchgear_outbox_hold")
    await database.close()
    return [topic for (topic,) in rows]


def test_where_the_outboxes_hold_back(nats: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is held back for 60 seconds" in typed(capsys, "hold", "arrange.trips", "--for", "60")
    assert asyncio.run(held(nats)) == ["arrange.trips"]
    said = typed(capsys, "release", "arrange.trips", "--rekey")
    assert "again: 1 waiting events have another key." in said
    assert asyncio.run(key(nats)) == "7"
    assert asyncio.run(held(nats)) == []
    typed(capsys, "hold", "arrange.trips")
    assert "is published to again" in typed(capsys, "release", "arrange.trips")
    assert asyncio.run(held(nats)) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("hold", "no.topic"), "there is no topic no.topic"),
        (("release", "arrange.trips", "--partitions", "5"), "own tool changes the number"),
    ],
)
def test_bad_input_where_the_outboxes_hold_back(
    nats: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str
) -> None:
    said = typed(capsys, *arguments)
    assert says in said
    assert said.count("\n") == 1


async def busy(data: Path) -> None:
    """Leave a relay in the outbox that never beats again, as if the clock had been set back."""
    database = Sqlite(data / "depot.db")
    await Shares(database, "h-1", 1e6).beat()
    await database.close()


def test_relays_are_waited_for_as_long_as_was_said(
    nats: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(busy(nats))
    said = typed(capsys, "hold", "arrange.trips", "--within", "0")
    assert "the relay h-1 of depot may still be publishing to arrange.trips" in said
    assert asyncio.run(held(nats)) == []


def test_without_a_word_relays_are_waited_for_as_the_library_does() -> None:
    (within,) = (one for one in get_command(events).commands["hold"].params if one.name == "within")
    assert within.default == WITHIN


def test_an_outbox_of_an_earlier_release_is_refused(
    nats: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with sqlite3.connect(nats / "depot.db") as connection:
        connection.execute("DROP TABLE switchgear_outbox_hold")
    connection.close()
    said = typed(capsys, "hold", "arrange.trips")
    assert "the outbox of depot is of an earlier release" in said
