"""`switchgear events declare`: who starts later than the publisher misses nothing."""

from __future__ import annotations

import asyncio
import json
import secrets
from pathlib import Path

import pytest
from tests.servers import address

from switchgear.cli.main import main
from switchgear.events.brokers.port import Record
from switchgear.events.brokers.url import broker_of

MODULE = """
from switchgear import Message, Service, event, field

@event("declared.trips", key="town")
class Arrived(Message):
    town: str = field(1)

@event("declared.news", unordered=True)
class News(Message):
    town: str = field(1)

app = Service("office")

@app.on(Arrived, name="greet", on_failure="park_key")
async def greet(event: Arrived) -> None: ...

@app.on(News, name="greet", on_failure="park_key")
async def tell(event: News) -> None: ...

@app.on(Arrived, name="stamp", on_failure="park_key")
async def stamp(event: Arrived) -> None: ...
"""


def typed(
    folder: Path, capsys: pytest.CaptureFixture[str], broker: str, *arguments: str
) -> list[str]:
    (folder / "declared_office.py").write_text(MODULE)
    system = f'[system]\nbroker = "{broker}"\n' if broker else ""
    service = '[services.office]\napp = "declared_office:app"\n'
    if "declare" in arguments:  # it opens no database, so it asks for nothing that one needs
        service += 'database = "postgresql://u:${env:NOT_SET_ANYWHERE}@h/db"\n'
    (folder / "switchgear.toml").write_text(system + service)
    with pytest.raises(SystemExit) as end:
        main(("events", *arguments))
    said = capsys.readouterr()
    assert not end.value.code, said.err
    return said.out.splitlines()


def test_groups_get_what_is_published_before_anybody_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    url = f"{address('rabbitmq')}?partitions=2&prefix=t{secrets.token_hex(6)}."
    for _ in range(2):
        assert typed(tmp_path, capsys, url, "declare") == [
            "office.greet gets declared.trips, declared.news.",
            "office.stamp gets declared.trips.",
        ]

    async def publish() -> None:
        broker = broker_of(url)
        await broker.publish([Record("declared.trips", town, {}, b"") for town in ("Ulm", "Bonn")])
        await broker.close()

    asyncio.run(publish())
    greet, stamp = map(json.loads, typed(tmp_path, capsys, url, "lag", "--json"))
    assert (greet["subscription"], greet["events"]) == ("office.greet", 2)
    assert (stamp["subscription"], stamp["events"]) == ("office.stamp", 2)
    assert 0 <= stamp["oldest"] < 60


def test_where_a_new_group_reads_from_the_start_there_is_nothing_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".switchgear").mkdir()
    (line,) = typed(tmp_path, capsys, "", "declare")
    assert line.startswith("Nothing to declare")
