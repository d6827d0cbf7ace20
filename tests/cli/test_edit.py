"""`switchgear events edit`: a corrected event in the place of a parked one."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from switchgear.app.service import Service
from switchgear.app.target import load_target
from switchgear.cli.main import main
from switchgear.config import load
from switchgear.testing import testing

MODULE = """
from switchgear import Message, Service, Transaction, event, field

@event("scale.weights", key="lorry")
class Weighed(Message):
    lorry: str = field(1)
    tons: int = field(2)

app = Service("scale")
booked = []

@app.on(Weighed, name="book", on_failure="park_key", attempts=1, runbook="scale_house.py")
async def book(event: Weighed, tx: Transaction) -> None:
    if event.tons < 0:
        raise ValueError("it floats")
    booked.append(event.tons)
"""


@pytest.fixture
def parked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a parked event of a system."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "scale_house.py").write_text(MODULE)
    (tmp_path / "switchgear.toml").write_text('[services.scale]\napp = "scale_house:app"\n')
    return f"scale/{asyncio.run(weigh())}"


def app() -> Service:
    found = load_target("scale_house:app")
    assert isinstance(found, Service)
    return found


async def weigh() -> int:
    weighed = load_target("scale_house:Weighed")
    assert callable(weighed)
    async with testing(app(), config=load()) as t:
        await t.deliver(weighed(lorry="A", tons=-4), weighed(lorry="A", tons=5))
        first, _ = await t.runtime.bus.parked.list()
        return first.id


async def booked() -> object:
    async with testing(app(), config=load()) as t:
        async with asyncio.timeout(60):
            while await t.runtime.bus.parked.list():
                await asyncio.sleep(0)
        return load_target("scale_house:booked")


def typed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, object]:
    with pytest.raises(SystemExit) as end:
        main(("events", *arguments))
    said = capsys.readouterr()
    return said.out + said.err, end.value.code


def test_corrected_and_released(
    parked: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, _ = typed(capsys, "show", parked, "--raw")
    payload = tmp_path / "payload.json"
    payload.write_text(json.dumps(json.loads(raw) | {"tons": 4}))
    said, code = typed(
        capsys, "edit", parked, "--payload", str(payload), "--reason", "sign", "--actor", "ann"
    )
    assert not code, said
    assert said.startswith(f"{parked} is now test/")
    assert f"Then: switchgear events redrive {parked}" in said
    shown, _ = typed(capsys, "show", parked, "--json")
    assert json.loads(shown)["headers"]["ce-replaces"].startswith("test/")
    assert json.loads(shown)["runbook"] == "scale_house.py"
    typed(capsys, "redrive", parked)
    assert asyncio.run(booked()) == [4, 5]


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        ("{", "the payload is no scale.weights.Weighed"),
        ('{"lorry": "A", "tons": "many"}', "the payload is no scale.weights.Weighed"),
        ('{"lorry": "B", "tons": 4}', "is of the key B, and the event of A"),
    ],
)
def test_what_the_handler_could_not_take_is_refused(
    parked: str, tmp_path: Path, payload: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "payload.json").write_text(payload)
    given = ("edit", parked, "--payload", "payload.json", "--reason", "sign")
    said, code = typed(capsys, *given)
    assert (says in said, code) == (True, 2), said
    if "B" not in payload:
        assert "is now" in typed(capsys, *given, "--unchecked")[0]


def test_bad_input(parked: str, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, says in (
        (("--payload", "none.json", "--reason", "x"), "none.json: it cannot be read"),
        (("--payload", "scale_house.py", "--reason", " "), "without a reason"),
    ):
        said, code = typed(capsys, "edit", parked, *arguments)
        assert says in said
        assert code
